//! A file that is there to be deleted: on a full disk SQLite cannot even delete rows, since that too
//! needs room in the log.

use crate::file::{FileError, write_atomic};
use std::fs;
use std::path::{Path, PathBuf};

/// Groups written after which a thrown ballast is tried to be taken in again.
const REST: u32 = 256;

/// A file of random-looking bytes, which no file system can store for nothing.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: usize,
    rest: u32,
}

impl Ballast {
    /// Ballast beside a database; there already, or taken in with the next group.
    pub(super) fn new(database: &Path, bytes: u64) -> Self {
        let path = database.with_extension("ballast");
        let is_there = fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        Self { path, bytes, rest: if is_there { u32::MAX } else { 0 } }
    }

    /// Throws the ballast; whether there was any.
    pub(super) fn throw(&mut self) -> bool {
        self.rest = REST;
        fs::remove_file(&self.path).is_ok()
    }

    /// Counts a written group, and takes ballast in again when it is time.
    pub(super) fn on_written(&mut self) -> Result<(), FileError> {
        match self.rest {
            u32::MAX => Ok(()),
            0 => {
                self.rest = REST;
                write_atomic(&self.path, &noise(self.bytes))?;
                self.rest = u32::MAX;
                Ok(())
            }
            _ => {
                self.rest -= 1;
                Ok(())
            }
        }
    }
}

/// Bytes of a xorshift generator.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_taken_in_thrown_and_taken_in_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("samples.db");
        let file = dir.path().join("samples.ballast");
        let mut ballast = Ballast::new(&database, 65_536);
        ballast.on_written().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 65_536);
        assert!(ballast.throw() && !file.exists() && !ballast.throw());
        for _ in 0..REST {
            ballast.on_written().unwrap();
            assert!(!file.exists());
        }
        ballast.on_written().unwrap();
        assert!(file.exists());
        let mut later = Ballast::new(&database, 65_536);
        later.on_written().unwrap();
        assert!(later.throw());
    }
}
