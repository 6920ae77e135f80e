//! The registry's folder: verified, signed archives by digest, and the hub's development key.
//!
//! A package is read, checked and its signature verified here. The ONNX graph inside is *not* parsed:
//! devices admit it in a child process behind limits, and the hub has no such wall yet.

use crate::core::registered::Registered;
use crate::file::{PUBLIC, SECRET, write_atomic};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::TryRngCore as _;
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use shoal_proto::package::{Package, PackageError};
use shoal_proto::statement::verify;
use shoal_proto::time::WallMs;
use std::io;
use std::path::{Path, PathBuf};

/// Folder of the archives in the data folder.
const FOLDER: &str = "artifacts";
/// The development key in the data folder: 64 hexadecimal digits.
const KEY: &str = "hub.key";

/// A package that is not taken, or a registry that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The folder or a file of it.
    #[error("failed to use `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("`{}` is not a key: expected 64 hexadecimal digits", path.display())]
    Key { path: PathBuf },
    /// The system gave no randomness for a key.
    #[error("failed to draw a key")]
    Random {
        /// The system's answer.
        #[source]
        source: rand::rand_core::OsError,
    },
    /// Not a package, or one that contradicts itself.
    #[error("package is refused")]
    Package(#[from] PackageError),
    /// Signed by somebody unknown.
    #[error("package is not signed by a key of this hub")]
    Untrusted {
        /// Who signed.
        #[source]
        source: PackageError,
    },
}

/// The registry's folder and keys.
#[derive(Debug)]
pub struct Registry {
    folder: PathBuf,
    key: SigningKey,
    trusted: Vec<VerifyingKey>,
}

impl Registry {
    /// Opens the registry; makes folder and key on the first run. `trusted`: keys besides our own.
    pub fn open(data: &Path, trusted: &[VerifyingKey]) -> Result<Self, RegistryError> {
        let folder = data.join(FOLDER);
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|source| RegistryError::Io { path: folder.clone(), source })?;
        let key = load_key(&data.join(KEY))?;
        let mut all = vec![key.verifying_key()];
        all.extend(trusted);
        Ok(Self { folder, key, trusted: all })
    }

    /// The public half of the development key, in hex.
    #[must_use]
    pub fn public_key(&self) -> String {
        hex::encode(self.key.verifying_key().as_bytes())
    }

    /// Where an archive is, or would be.
    #[must_use]
    pub fn path(&self, archive: Digest) -> PathBuf {
        self.folder.join(archive.to_string())
    }

    /// Checks an archive, signs it where nobody has, and puts it on disk. The row that names the file
    /// comes after this returned: a crash between leaves a file that nothing refers to.
    pub fn take(&self, bytes: &[u8], now: WallMs) -> Result<Registered, RegistryError> {
        let mut package = Package::from_archive(bytes)?;
        if package.signature.is_none() {
            package.sign(&self.key)?;
        }
        let signer = self.signer(&package)?;
        let archive = package.to_archive()?;
        let digest = Digest::of(&archive);
        let path = self.path(digest);
        if !path.exists() {
            write_atomic(&path, &archive, PUBLIC).map_err(|source| RegistryError::Io { path, source })?;
        }
        let (version, record) = package.record()?;
        let manifest = package.manifest()?;
        Ok(Registered {
            version,
            record,
            artifact: Artifact {
                archive: digest,
                size_bytes: archive.len() as u64,
                sources: vec![format!("/artifacts/{digest}")],
            },
            features: manifest.features.into_iter().map(|feature| feature.name).collect(),
            classes: manifest.output.classes,
            baseline: package.baseline()?,
            signer: hex::encode(signer.as_bytes()),
            pushed: now,
            condemned: None,
        })
    }

    fn signer(&self, package: &Package) -> Result<&VerifyingKey, RegistryError> {
        let statement = package.statement()?;
        let envelope = package.signature.as_ref().ok_or(PackageError::Unsigned)?;
        verify(envelope, &statement, &self.trusted)
            .map_err(|source| RegistryError::Untrusted { source: source.into() })
    }

    /// Archives that the rows name and the folder does not have.
    pub fn missing<'a>(&self, models: impl IntoIterator<Item = &'a Registered>) -> Vec<String> {
        models
            .into_iter()
            .filter(|model| !self.path(model.artifact.archive).exists())
            .map(|model| model.record.name.clone())
            .collect()
    }
}

fn load_key(path: &Path) -> Result<SigningKey, RegistryError> {
    let io = |source| RegistryError::Io { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text.trim(), &mut bytes)
                .map_err(|_cause| RegistryError::Key { path: path.to_owned() })?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            let drawn = rand::rngs::OsRng.try_fill_bytes(&mut bytes);
            drawn.map_err(|source| RegistryError::Random { source })?;
            write_atomic(path, format!("{}\n", hex::encode(bytes)).as_bytes(), SECRET).map_err(io)?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(error) => Err(io(error)),
    }
}
