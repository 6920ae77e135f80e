//! The good files that are changed.

use std::path::{Path, PathBuf};

/// Folders below the workspace's root, or beside it, that hold models.
const FOLDERS: [&str; 4] =
    ["agent/onnx/testdata", "agent/infer/testdata", "agent/ml/testdata", "../shared/models"];

/// Good files with their names.
#[derive(Debug, Clone, Default)]
pub struct Seeds {
    files: Vec<(String, Vec<u8>)>,
    skipped: Vec<PathBuf>,
}

impl Seeds {
    /// Finds them. `SHOAL_SHARED` names another place for the last folder.
    ///
    /// # Panics
    /// When not a single one is found: the tree itself has some.
    #[must_use]
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut seeds = Self::default();
        for folder in FOLDERS {
            let shared = std::env::var_os("SHOAL_SHARED").filter(|_| folder.starts_with(".."));
            let folder =
                shared.map_or_else(|| root.join(folder), |named| PathBuf::from(named).join("models"));
            let Ok(entries) = std::fs::read_dir(&folder) else {
                seeds.skipped.push(folder);
                continue;
            };
            let paths = entries.flatten().map(|entry| entry.path());
            for path in paths.filter(|path| path.extension().is_some_and(|end| end == "onnx")) {
                if let Ok(bytes) = std::fs::read(&path) {
                    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    seeds.files.push((name, bytes));
                }
            }
        }
        seeds.files.sort();
        seeds.files.dedup_by(|one, other| one.1 == other.1);
        assert!(!seeds.files.is_empty(), "no models below {}", root.display());
        seeds
    }

    /// Names and bytes, sorted.
    #[must_use]
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// Folders that are not here.
    #[must_use]
    pub fn skipped(&self) -> &[PathBuf] {
        &self.skipped
    }
}
