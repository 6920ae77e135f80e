//! Versions on disk: `<state>/models/<digest>/`, one folder of flat files each.
//!
//! A folder is there whole or not at all: files → fsync → rename of the folder → fsync of its parent.
//! Its name is the digest of its content, which is checked whenever it is read.

use crate::admission::AdmissionReport;
use crate::core::event::VersionInfo;
use crate::file::{FileError, write_atomic};
use shoal_proto::id::Digest;
use shoal_proto::package::{MAX_PACKAGE_BYTES, MODEL, Package, PackageError};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of all versions below the state folder.
const FOLDER: &str = "models";
/// Begins the name of a folder that is being written or removed; a crash leaves it behind.
const UNFINISHED: &str = ".part-";
/// Ends the name of a folder whose content was not what its name says: kept for a person to look at.
const DAMAGED: &str = "damaged";
/// Ends the name of the file beside a version's folder that holds what its admission found out: it is of
/// this device and engine, and no part of the version.
const ADMISSION: &str = "admission.json";

/// The versions on disk.
#[derive(Debug, Clone)]
pub struct Vault {
    root: PathBuf,
}

/// A version that could not be written or had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file system refused.
    #[error("failed to {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No such version here.
    #[error("version {version} is not on disk")]
    Unknown { version: Digest },
    /// The content is not what was written; the folder was set aside.
    #[error("version {version} is damaged ({reason}); set aside as `{aside}`")]
    Damaged { version: Digest, reason: String, aside: PathBuf },
    /// A package that contradicts itself.
    #[error("the package cannot be kept")]
    Package(#[from] PackageError),
    /// What an admission found out could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl VaultError {
    /// Whether fetching the version again would help.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Damaged { .. })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VaultError {
    move |source| VaultError::Io { action, path: path.to_owned(), source }
}

impl Vault {
    /// Opens the versions below a state folder, and removes what crashes left half done. For the agent
    /// itself: it is the only one that cleans.
    pub fn open(state: &Path) -> Result<Self, VaultError> {
        let vault = Self::join(state);
        fs::create_dir_all(&vault.root).map_err(failed("create", &vault.root))?;
        for name in vault.names()? {
            if name.starts_with(UNFINISHED) {
                let path = vault.root.join(name);
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            } else if let Some(version) = name.strip_suffix(ADMISSION)
                && !vault.root.join(version.trim_end_matches('.')).exists()
            {
                let path = vault.root.join(name);
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(vault)
    }

    /// The versions below a state folder that another process opened: for its children.
    #[must_use]
    pub fn join(state: &Path) -> Self {
        Self { root: state.join(FOLDER) }
    }

    /// Writes a version; one that is here and whole already is left as it is.
    pub fn put(&self, package: &Package) -> Result<VersionInfo, VaultError> {
        let version = package.version()?;
        let info = version_info(version, package)?;
        match self.get(version) {
            Ok(_) => return Ok(info),
            Err(cause) if cause.is_missing() => {}
            Err(cause) => return Err(cause),
        }
        let part = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.root)
            .map_err(failed("create a folder in", &self.root))?;
        for (name, content) in package.to_files() {
            let path = part.path().join(name);
            let mut file = File::create_new(&path).map_err(failed("create", &path))?;
            file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
        }
        sync_folder(part.path())?;
        let path = self.path(version);
        match fs::rename(part.path(), &path) {
            Ok(()) => drop(part.keep()), // it has its final name now
            // Another process of this device wrote it in the meantime: the same bytes, by its digest.
            Err(cause) if matches!(cause.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                self.get(version)?;
            }
            Err(cause) => return Err(failed("rename to", &path)(cause)),
        }
        sync_folder(&self.root)?;
        Ok(info)
    }

    /// Reads a version, and checks that it is the one that its name says. A damaged one is set aside.
    pub fn get(&self, version: Digest) -> Result<Package, VaultError> {
        let path = self.path(version);
        let files = match read_folder(&path) {
            Ok(files) => files,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Err(VaultError::Unknown { version }),
            Err(cause) if cause.kind() == ErrorKind::InvalidData => {
                return Err(self.set_aside(version, cause.to_string())?);
            }
            Err(cause) => return Err(failed("read", &path)(cause)),
        };
        let package = match Package::from_files(files) {
            Ok(package) => package,
            Err(cause) => return Err(self.set_aside(version, cause.to_string())?),
        };
        let found = package.version()?;
        if found == version {
            return Ok(package);
        }
        Err(self.set_aside(version, format!("its files have the digest {}", found.short()))?)
    }

    /// What the core must know of a version.
    pub fn info(&self, version: Digest) -> Result<VersionInfo, VaultError> {
        Ok(version_info(version, &self.get(version)?)?)
    }

    /// The versions that are here, in order of their digests.
    pub fn list(&self) -> Result<Vec<Digest>, VaultError> {
        let mut versions: Vec<Digest> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Size of a version's model on disk; zero when there is none.
    #[must_use]
    pub fn model_bytes(&self, version: Digest) -> u64 {
        fs::metadata(self.path(version).join(MODEL)).map_or(0, |file| file.len())
    }

    /// Keeps what an admission found out about a version, in the place of what an earlier one did.
    pub fn keep_admission(&self, version: Digest, report: &AdmissionReport) -> Result<(), VaultError> {
        let path = self.path(version).with_extension(ADMISSION);
        let bytes = serde_json::to_vec(report).map_err(|cause| failed("write", &path)(cause.into()))?;
        Ok(write_atomic(&path, &bytes)?)
    }

    /// What the last admission of a version found out; `None` where there was none, or where another
    /// build wrote it.
    pub fn admission(&self, version: Digest) -> Result<Option<AdmissionReport>, VaultError> {
        let path = self.path(version).with_extension(ADMISSION);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed("read", &path)(cause)),
        }
    }

    /// Removes a version; one that is not here is no error.
    pub fn remove(&self, version: Digest) -> Result<(), VaultError> {
        let admission = self.path(version).with_extension(ADMISSION);
        match fs::remove_file(&admission) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(failed("remove", &admission)(cause));
            }
            _ => {}
        }
        let path = self.path(version);
        let gone = self.root.join(format!("{UNFINISHED}{version}"));
        match fs::rename(&path, &gone) {
            Ok(()) => {}
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(failed("remove", &path)(cause)),
        }
        sync_folder(&self.root)?;
        fs::remove_dir_all(&gone).map_err(failed("remove", &gone))
    }

    fn path(&self, version: Digest) -> PathBuf {
        self.root.join(version.to_string())
    }

    fn names(&self) -> Result<Vec<String>, VaultError> {
        let entries = fs::read_dir(&self.root).map_err(failed("list", &self.root))?;
        entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
            .map_err(failed("list", &self.root))
    }

    fn set_aside(&self, version: Digest, reason: String) -> Result<VaultError, VaultError> {
        let path = self.path(version);
        let aside = path.with_extension(DAMAGED);
        match fs::remove_dir_all(&aside) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed("remove", &aside)(cause)),
            _ => fs::rename(&path, &aside).map_err(failed("set aside", &path))?,
        }
        sync_folder(&self.root)?;
        Ok(VaultError::Damaged { version, reason, aside })
    }
}

/// What the core must know of a version, from its package.
pub fn version_info(version: Digest, package: &Package) -> Result<VersionInfo, PackageError> {
    let baseline = Arc::new(package.baseline()?);
    let reference = Arc::new(package.reference()?);
    let reference = if reference == baseline { Arc::clone(&baseline) } else { reference };
    let (_, record) = package.record()?;
    let size_bytes = package.to_files().values().map(|content| content.len() as u64).sum();
    let manifest = Arc::new(package.manifest()?);
    Ok(VersionInfo { version, record, manifest, baseline, reference, size_bytes })
}

fn read_folder(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut left = MAX_PACKAGE_BYTES;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            let reason = format!("`{}` is no file", entry.file_name().to_string_lossy());
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        }
        let mut content = Vec::new();
        File::open(entry.path())?.take(left + 1).read_to_end(&mut content)?;
        left = left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it is larger than any package"))?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), content);
    }
    Ok(files)
}

fn sync_folder(path: &Path) -> Result<(), VaultError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::manifest::Manifest;
    use shoal_proto::package::{BASELINE, MANIFEST, MODEL};

    fn package(model: &[u8]) -> Package {
        let text = include_str!("../../proto/testdata/v1/model.toml");
        let width = Manifest::parse(text).unwrap().features.len();
        let baseline =
            crate::profile::baseline(width, &vec![0.5; width * 4], crate::profile::Order::None, None);
        let files = [(MODEL, model.to_vec()), (MANIFEST, text.into()), (BASELINE, baseline.to_bytes())];
        Package::new(files.map(|(name, bytes)| (name.to_owned(), bytes)).into()).unwrap()
    }

    #[test]
    fn a_version_is_kept_listed_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::open(state.path()).unwrap();
        let info = vault.put(&package(b"one")).unwrap();
        assert_eq!(vault.put(&package(b"one")).unwrap().version, info.version);
        let other = vault.put(&package(b"two")).unwrap();
        let mut both = vec![info.version, other.version];
        both.sort_unstable();
        assert_eq!(vault.list().unwrap(), both);
        assert_eq!(vault.get(info.version).unwrap(), package(b"one"));
        assert_eq!(vault.info(info.version).unwrap().record, info.record);
        vault.remove(info.version).unwrap();
        vault.remove(info.version).unwrap();
        assert!(matches!(vault.get(info.version), Err(VaultError::Unknown { .. })));
        assert_eq!(Vault::join(state.path()).list().unwrap(), [other.version]);
    }

    #[test]
    fn a_damaged_version_is_set_aside_and_can_be_written_again() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::open(state.path()).unwrap();
        let version = vault.put(&package(b"one")).unwrap().version;
        for (name, content) in [(MODEL, "onf"), (MANIFEST, "format = 7"), ("stray.txt", "x")] {
            let path = state.path().join(FOLDER).join(version.to_string()).join(name);
            File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
            let error = vault.get(version).unwrap_err();
            assert!(error.is_missing() && error.to_string().contains("damaged"), "{error}");
            assert_eq!(vault.list().unwrap(), []);
            vault.put(&package(b"one")).unwrap();
            assert_eq!(vault.get(version).unwrap(), package(b"one"));
        }
    }

    #[test]
    fn what_an_admission_found_out_is_kept_beside_the_version() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::open(state.path()).unwrap();
        let version = vault.put(&package(b"one")).unwrap().version;
        assert_eq!(vault.model_bytes(version), 3);
        assert_eq!(vault.admission(version).unwrap(), None);
        let report = AdmissionReport {
            model: shoal_infer::Admission {
                inputs: Vec::new(),
                outputs: Vec::new(),
                parameters: shoal_onnx::ParameterCount { count: 7, size_bytes: 28 },
                batching: shoal_infer::Batching::Open,
                row_width: Some(2),
                golden_difference: None,
            },
            load_ms: 1.5,
            row_us: Some(20.0),
            start_bytes: 20 << 20,
            peak_bytes: 30 << 20,
        };
        vault.keep_admission(version, &report).unwrap();
        assert_eq!(vault.admission(version).unwrap(), Some(report.clone()));
        assert_eq!(report.model_bytes(), 10 << 20);
        assert_eq!(vault.get(version).unwrap(), package(b"one"), "it is no part of the version");
        assert_eq!(vault.list().unwrap(), [version]);
        vault.remove(version).unwrap();
        assert_eq!(vault.admission(version).unwrap(), None);
        vault.keep_admission(version, &report).unwrap();
        Vault::open(state.path()).unwrap();
        assert_eq!(vault.admission(version).unwrap(), None, "one without its version is cleaned");
    }

    #[test]
    fn what_a_crash_left_is_cleaned_by_the_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::open(state.path()).unwrap();
        let left = state.path().join(FOLDER).join(".part-x");
        fs::create_dir(&left).unwrap();
        assert_eq!(Vault::join(state.path()).list().unwrap(), []);
        assert!(left.exists());
        Vault::open(state.path()).unwrap();
        assert!(!left.exists());
        assert_eq!(vault.list().unwrap(), []);
    }
}
