//! Files that are whole or not there: temp → fsync → rename → fsync of the folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write `{path}`")]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Writes a file so that a power cut leaves the old content or the new, never a part.
///
/// The folder must exist. Only the owner may read the file. Two writers of the same path do not mix: the later rename wins.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let fail = |source| FileError { path: path.to_owned(), source };
    let mut temp = tempfile::Builder::new().prefix(".new-").tempfile_in(folder(path)).map_err(fail)?;
    temp.write_all(bytes).and_then(|()| temp.as_file().sync_all()).map_err(fail)?;
    temp.persist(path).map_err(|cause| fail(cause.error))?;
    sync_folder(path).map_err(fail)
}

/// Puts a finished file in the place of another, and makes both content and name durable.
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), FileError> {
    let fail = |source| FileError { path: to.to_owned(), source };
    File::open(from).and_then(|file| file.sync_all()).map_err(fail)?;
    fs::rename(from, to).map_err(fail)?;
    sync_folder(to).map_err(fail)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes the names in the folder of a file durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_file() {
        let error = write_atomic(Path::new("/no/such/folder/file"), b"x").unwrap_err();
        assert_eq!(error.to_string(), "failed to write `/no/such/folder/file`");
    }
}
