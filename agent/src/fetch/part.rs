//! An archive that is not yet whole, on disk.
//!
//! The file is its own bitmap: which chunks are here is found out by hashing them against the chunk list when a fetch
//! begins. A bitmap beside it could be older or newer than the data after a power cut and would cost two more syncs
//! each time; hashing costs a second for 100 MB, and what it finds is true.

use crate::file::write_atomic;
use shoal_proto::chunks::ChunkList;
use shoal_proto::id::Digest;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Chunks are here and there in it.
const PART: &str = "part";
/// The archive's chunk list.
const LIST: &str = "list";
/// What a power cut may take: a megabyte is seconds on the slowest link that carries packages.
const SYNC_EVERY_BYTES: u64 = 1 << 20;

/// The unfinished file of an archive.
pub(super) fn path(folder: &Path, archive: Digest) -> PathBuf {
    folder.join(format!("{archive}.{PART}"))
}

fn list_path(folder: &Path, archive: Digest) -> PathBuf {
    folder.join(format!("{archive}.{LIST}"))
}

/// Removes what there is of an archive.
pub(super) fn remove(folder: &Path, archive: Digest) {
    for path in [path(folder, archive), list_path(folder, archive)] {
        if let Err(cause) = std::fs::remove_file(&path)
            && cause.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), error = %cause, "what is left of a fetch was not removed");
        }
    }
}

/// Removes everything but what is of these archives.
pub(super) fn clean(folder: &Path, wanted: &BTreeSet<Digest>) {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in names {
        let path = entry.path();
        let of = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Digest>().ok());
        if of.is_some_and(|archive| wanted.contains(&archive)) {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "what was left of a fetch is removed"),
            Err(cause) => {
                tracing::warn!(path = %path.display(), error = %cause, "what is left of a fetch was not removed");
            }
        }
    }
}

/// An archive on its way. Its calls go to a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct PartFile {
    folder: PathBuf,
    archive: Digest,
    file: Arc<File>,
    unsynced: u64,
}

impl PartFile {
    pub(super) fn open(folder: &Path, archive: Digest, size: u64) -> io::Result<Self> {
        let path = path(folder, archive);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        if file.metadata()?.len() > size {
            file.set_len(size)?;
        }
        Ok(Self { folder: folder.to_owned(), archive, file: Arc::new(file), unsynced: 0 })
    }

    /// The chunk list that was kept beside it.
    pub(super) fn list(&self) -> Option<Vec<u8>> {
        std::fs::read(list_path(&self.folder, self.archive)).ok()
    }

    /// Keeps the chunk list. Without it the next start asks for it again, and no chunk is lost.
    pub(super) fn keep_list(&self, bytes: &[u8]) {
        if let Err(cause) = write_atomic(&list_path(&self.folder, self.archive), bytes) {
            tracing::warn!(error = %crate::report::chain(&cause), "the chunk list is not kept");
        }
    }

    /// The chunks that are here.
    pub(super) async fn held(&self, list: &ChunkList) -> io::Result<Vec<u32>> {
        let (file, list) = (Arc::clone(&self.file), list.clone());
        blocking(move || {
            let (length, mut held) = (file.metadata()?.len(), Vec::new());
            let mut bytes = Vec::new();
            for index in 0..list.count() {
                let Some((at, size)) = list.range(index) else { break };
                if at + u64::from(size) > length {
                    break;
                }
                bytes.resize(usize::try_from(size).unwrap_or(0), 0);
                file.read_exact_at(&mut bytes, at)?;
                if list.is_chunk(index, &bytes) {
                    held.push(index);
                }
            }
            Ok(held)
        })
        .await
    }

    pub(super) async fn write(&mut self, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.unsynced += bytes.len() as u64;
        let is_due = self.unsynced >= SYNC_EVERY_BYTES;
        let file = Arc::clone(&self.file);
        blocking(move || {
            file.write_all_at(&bytes, at)?;
            if is_due { file.sync_data() } else { Ok(()) }
        })
        .await?;
        if is_due {
            self.unsynced = 0;
        }
        Ok(())
    }

    /// All of it.
    pub(super) async fn read(&self) -> io::Result<Vec<u8>> {
        let path = path(&self.folder, self.archive);
        blocking(move || std::fs::read(path)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
