//! A model package: a few flat files, shipped as a deterministic tar in zstd (`NAME.shoal`).

use crate::baseline::{Baseline, BaselineError};
use crate::fact::VersionRecord;
use crate::id::Digest;
use crate::manifest::{Manifest, ManifestError};
use crate::statement::{Envelope, SignatureError, sign, statement_bytes, verify};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::collections::BTreeMap;
use std::io::Read as _;

/// The graph.
pub const MODEL: &str = "model.onnx";
/// The manifest.
pub const MANIFEST: &str = "model.toml";
/// The reference profile.
pub const BASELINE: &str = "baseline.json";
/// Samples that no version may get wrong more than its parent.
pub const GUARD: &str = "guard.npz";
/// A coreset of the original training data.
pub const REPLAY: &str = "replay.npz";
/// The signature, outside the digest.
pub const SIGNATURE: &str = "signature.json";
/// The profile of the rows that a version born on a device was trained on: its own triggers are held
/// against it, or alarms would never clear. The fleet's summaries stay on the inherited baseline.
pub const REFERENCE: &str = "reference.json";
/// Inputs and the outputs that the model must give for them, as arrays `input:NAME` and `output:NAME`.
pub const GOLDEN: &str = "golden.npz";
/// Every file a package may hold.
const KNOWN: [&str; 7] = [MODEL, MANIFEST, BASELINE, REFERENCE, GUARD, REPLAY, GOLDEN];

/// Largest archive, and largest sum of the files in it: they are unpacked in memory. The largest model
/// has 128 MiB.
pub const MAX_PACKAGE_BYTES: u64 = 192 * 1024 * 1024;
/// zstd level of an archive: made once, read by many.
const ZSTD_LEVEL: i32 = 12;

/// A package in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    files: BTreeMap<String, Vec<u8>>,
    /// The signature, where there is one.
    pub signature: Option<Envelope>,
}

/// A package that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Larger than any package.
    #[error("package has more than {MAX_PACKAGE_BYTES} bytes")]
    TooLarge,
    /// Not a tar in zstd.
    #[error("archive cannot be read")]
    Archive(#[source] std::io::Error),
    /// A file that no package has: a path, a link, an unknown name.
    #[error("archive holds `{name}`, which is not a file of a package")]
    Foreign { name: String },
    /// A file that every package has.
    #[error("package lacks `{name}`")]
    Lacks { name: &'static str },
    /// `model.toml`.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// `baseline.json`.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// Files that contradict each other.
    #[error("package is not consistent: {reason}")]
    Inconsistent { reason: String },
    /// `signature.json` cannot be read.
    #[error("signature.json cannot be read: {reason}")]
    SignatureFile { reason: String },
    /// Nobody signed it.
    #[error("package is not signed")]
    Unsigned,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Package {
    /// A package of these files; checks that manifest and baseline are there, valid and consistent.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, PackageError> {
        if let Some(name) = files.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(PackageError::Foreign { name: name.clone() });
        }
        if let Some(name) = [MODEL, MANIFEST, BASELINE].into_iter().find(|name| !files.contains_key(*name)) {
            return Err(PackageError::Lacks { name });
        }
        let package = Self { files, signature: None };
        let (manifest, baseline) = (package.manifest()?, package.baseline()?);
        let (features, profiled) = (manifest.features.len(), baseline.features.len());
        if features != profiled {
            let reason = format!("model.toml has {features} features, baseline.json {profiled}");
            return Err(PackageError::Inconsistent { reason });
        }
        Ok(package)
    }

    /// Reads an archive.
    pub fn from_archive(bytes: &[u8]) -> Result<Self, PackageError> {
        if bytes.len() as u64 > MAX_PACKAGE_BYTES {
            return Err(PackageError::TooLarge);
        }
        let plain = zstd::stream::Decoder::new(bytes).map_err(PackageError::Archive)?;
        let mut archive = tar::Archive::new(plain.take(MAX_PACKAGE_BYTES));
        let (mut files, mut total) = (BTreeMap::new(), 0u64);
        for entry in archive.entries().map_err(PackageError::Archive)? {
            let mut entry = entry.map_err(PackageError::Archive)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let known = KNOWN.contains(&name.as_str()) || name == SIGNATURE;
            if !known || !entry.header().entry_type().is_file() || files.contains_key(&name) {
                return Err(PackageError::Foreign { name: name.chars().take(80).collect() });
            }
            total = total.saturating_add(entry.size());
            if total > MAX_PACKAGE_BYTES {
                return Err(PackageError::TooLarge);
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(PackageError::Archive)?;
            files.insert(name, content);
        }
        Self::from_files(files)
    }

    /// A package of the files of a folder or archive, `signature.json` among them.
    pub fn from_files(mut files: BTreeMap<String, Vec<u8>>) -> Result<Self, PackageError> {
        let signature = files.remove(SIGNATURE);
        let mut package = Self::new(files)?;
        package.signature = signature
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|cause| PackageError::SignatureFile { reason: cause.to_string() })?;
        Ok(package)
    }

    /// The archive: equal packages have equal bytes.
    pub fn to_archive(&self) -> Result<Vec<u8>, PackageError> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in self.to_files() {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            builder.append_data(&mut header, &name, content.as_slice()).map_err(PackageError::Archive)?;
        }
        let plain = builder.into_inner().map_err(PackageError::Archive)?;
        zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(PackageError::Archive)
    }

    /// All files, the signature among them.
    #[must_use]
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        if let Some(bytes) = self.signature.as_ref().and_then(|one| serde_json::to_vec(one).ok()) {
            files.insert(SIGNATURE.into(), bytes);
        }
        files
    }

    /// One file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The manifest.
    pub fn manifest(&self) -> Result<Manifest, PackageError> {
        let bytes = self.file(MANIFEST).ok_or(PackageError::Lacks { name: MANIFEST })?;
        Ok(Manifest::parse(&String::from_utf8_lossy(bytes))?)
    }

    /// The reference profile.
    pub fn baseline(&self) -> Result<Baseline, PackageError> {
        Ok(Baseline::parse(self.file(BASELINE).ok_or(PackageError::Lacks { name: BASELINE })?)?)
    }

    /// What this version's own drift is held against: the profile of what it was trained on, or the
    /// baseline.
    pub fn reference(&self) -> Result<Baseline, PackageError> {
        match self.file(REFERENCE) {
            Some(bytes) => Ok(Baseline::parse(bytes)?),
            None => self.baseline(),
        }
    }

    /// The statement over all files but the signature.
    pub fn statement(&self) -> Result<Vec<u8>, PackageError> {
        let digests = self.files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect();
        Ok(statement_bytes(self.manifest()?.model.name.as_str(), &digests))
    }

    /// The version's identity: the digest of the statement.
    pub fn version(&self) -> Result<Digest, PackageError> {
        Ok(Digest::of(&self.statement()?))
    }

    /// The version as the fleet's DAG knows it.
    pub fn record(&self) -> Result<(Digest, VersionRecord), PackageError> {
        let manifest = self.manifest()?;
        let record = VersionRecord {
            name: manifest.display_name(),
            parent: manifest.lineage.as_ref().map(|lineage| lineage.parent),
            baseline: self.baseline()?.digest(),
            schema: manifest.schema_digest(),
            model: manifest.model.name,
        };
        Ok((self.version()?, record))
    }

    /// Signs the package.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), PackageError> {
        self.signature = Some(sign(&self.statement()?, key));
        Ok(())
    }

    /// Checks that a trusted key signed exactly these files.
    pub fn verify(&self, trusted: &[VerifyingKey]) -> Result<(), PackageError> {
        let envelope = self.signature.as_ref().ok_or(PackageError::Unsigned)?;
        verify(envelope, &self.statement()?, trusted)?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
