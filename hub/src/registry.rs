//! The registry's folder: verified, signed archives by digest, and the hub's development key.
//!
//! A package is read, checked and its signature verified here. The ONNX graph inside is *not* parsed:
//! devices admit it in a child process behind limits, and the hub has no such wall yet.

use crate::core::registered::Registered;
use crate::file::{PUBLIC, SECRET, write_atomic};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::TryRngCore as _;
use shoal_proto::chunks::ChunkList;
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use shoal_proto::package::{Package, PackageError};
use shoal_proto::statement::verify;
use shoal_proto::time::WallMs;
use std::io;
use std::path::{Path, PathBuf};

/// Folder of the archives in the data folder.
const FOLDER: &str = "artifacts";
/// Folder of their chunk lists, by the digest of the archive.
const LISTS: &str = "chunks";
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
    /// An archive that is not what its name says.
    #[error("`{}` is damaged", path.display())]
    Damaged { path: PathBuf },
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
    lists: PathBuf,
    key: SigningKey,
    trusted: Vec<VerifyingKey>,
}

impl Registry {
    /// Opens the registry; makes folder and key on the first run. `trusted`: keys besides our own.
    pub fn open(data: &Path, trusted: &[VerifyingKey]) -> Result<Self, RegistryError> {
        let (folder, lists) = (data.join(FOLDER), data.join(LISTS));
        for path in [&folder, &lists] {
            let made = std::fs::create_dir_all(path);
            made.map_err(|source| RegistryError::Io { path: path.clone(), source })?;
        }
        let key = load_key(&data.join(KEY))?;
        let mut all = vec![key.verifying_key()];
        all.extend(trusted);
        Ok(Self { folder, lists, key, trusted: all })
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
        let (list, _) = self.chunk_list(digest)?;
        let (version, record) = package.record()?;
        let manifest = package.manifest()?;
        Ok(Registered {
            version,
            record,
            artifact: Artifact {
                archive: digest,
                size_bytes: archive.len() as u64,
                sources: vec![format!("/artifacts/{digest}")],
                chunks: Some(Digest::of(&list)),
            },
            features: manifest.features.into_iter().map(|feature| feature.name).collect(),
            classes: manifest.output.classes,
            baseline: package.baseline()?,
            signer: hex::encode(signer.as_bytes()),
            pushed: now,
            condemned: None,
        })
    }

    /// The chunk list of an archive as it is sent, and read; made anew where it is not there or not readable.
    pub fn chunk_list(&self, archive: Digest) -> Result<(Vec<u8>, ChunkList), RegistryError> {
        let path = self.lists.join(archive.to_string());
        if let Ok(bytes) = std::fs::read(&path)
            && let Ok(list) = ChunkList::from_bytes(&bytes)
            && list.archive == archive
        {
            return Ok((bytes, list));
        }
        let file = self.path(archive);
        let content =
            std::fs::read(&file).map_err(|source| RegistryError::Io { path: file.clone(), source })?;
        let made = ChunkList::of(&content).filter(|list| list.archive == archive);
        let list = made.ok_or(RegistryError::Damaged { path: file })?;
        let bytes = list.to_bytes();
        write_atomic(&path, &bytes, PUBLIC).map_err(|source| RegistryError::Io { path, source })?;
        Ok((bytes, list))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::package;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_unsigned_package_is_signed_and_stored_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), &[]).unwrap();
        let archive = package(1).to_archive().unwrap();
        let taken = registry.take(&archive, WallMs(3)).unwrap();
        assert_eq!(taken.version, package(1).version().unwrap(), "the signature is outside the identity");
        let stored = std::fs::read(registry.path(taken.artifact.archive)).unwrap();
        assert_eq!(
            (Digest::of(&stored), stored.len() as u64),
            (taken.artifact.archive, taken.artifact.size_bytes)
        );
        let trusted = [shoal_proto::statement::parse_key(&registry.public_key()).unwrap()];
        Package::from_archive(&stored).unwrap().verify(&trusted).unwrap();
        assert_eq!(registry.take(&stored, WallMs(3)).unwrap(), taken, "pushed again");
        assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 1, "no temporary is left");
    }

    #[test]
    fn the_chunk_list_is_made_with_the_package_and_again_where_it_is_lost_or_broken() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), &[]).unwrap();
        let taken = registry.take(&package(1).to_archive().unwrap(), WallMs(3)).unwrap();
        let archive = taken.artifact.archive;
        let path = folder.path().join(LISTS).join(archive.to_string());
        let whole = std::fs::read(&path).unwrap();
        let promised = taken.artifact.chunks.unwrap();
        assert!(ChunkList::parse(&whole, promised, &taken.artifact).is_ok());
        for broken in [None, Some(b"".as_slice()), Some(&whole[1..])] {
            match broken {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => write_atomic(&path, bytes, PUBLIC).unwrap(),
            }
            assert_eq!(registry.chunk_list(archive).unwrap().0, whole);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        std::fs::remove_file(&path).unwrap();
        write_atomic(&registry.path(archive), b"another", PUBLIC).unwrap();
        assert!(matches!(registry.chunk_list(archive), Err(RegistryError::Damaged { .. })));
        assert!(matches!(registry.chunk_list(promised), Err(RegistryError::Io { .. })));
    }

    #[test]
    fn the_key_stays_and_is_secret() {
        let folder = tempfile::tempdir().unwrap();
        let key = Registry::open(folder.path(), &[]).unwrap().public_key();
        assert_eq!(Registry::open(folder.path(), &[]).unwrap().public_key(), key);
        let mode = std::fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write_atomic(&folder.path().join(KEY), b"nonsense", SECRET).unwrap();
        assert!(matches!(Registry::open(folder.path(), &[]), Err(RegistryError::Key { .. })));
    }

    #[test]
    fn a_foreign_signature_is_refused_unless_its_key_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = SigningKey::from_bytes(&[9; 32]);
        let mut package = package(1);
        package.sign(&foreign).unwrap();
        let archive = package.to_archive().unwrap();
        let registry = Registry::open(folder.path(), &[]).unwrap();
        assert!(matches!(registry.take(&archive, WallMs(0)), Err(RegistryError::Untrusted { .. })));
        let registry = Registry::open(folder.path(), &[foreign.verifying_key()]).unwrap();
        let signer = registry.take(&archive, WallMs(0)).unwrap().signer;
        assert_eq!(signer, hex::encode(foreign.verifying_key().as_bytes()));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), &[]).unwrap();
        for bytes in [&b""[..], b"not an archive", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]] {
            assert!(matches!(registry.take(bytes, WallMs(0)), Err(RegistryError::Package(_))));
        }
        assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn a_crash_between_file_and_row_leaves_a_file_and_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), &[]).unwrap();
        let archive = package(1).to_archive().unwrap();
        let taken = registry.take(&archive, WallMs(0)).unwrap();
        // The crash comes here: the next start finds no row, and the next push takes the file as it is.
        let (_store, saved) = crate::store::Store::open(&folder.path().join("hub.db")).unwrap();
        assert!(saved.models.is_empty());
        assert_eq!(registry.take(&archive, WallMs(0)).unwrap(), taken);
        assert!(registry.missing([&taken]).is_empty());
        std::fs::remove_file(registry.path(taken.artifact.archive)).unwrap();
        assert_eq!(registry.missing([&taken]), ["gas@1"], "a row without its file is told at the start");
    }
}
