//! `train.db`: what a training run is resumed from; written by the training children only.
//!
//! For each model the last run: which rows it was given, and how far it is. It may be lost without harm: a
//! run whose checkpoint is gone starts over. Nothing of it is ever copied or kept aside.

use super::{StoreError, schema};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use shoal_proto::id::{Digest, ModelName};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a piece of a checkpoint: SQLite copies what it is given, so that pieces bound that copy.
const PIECE_BYTES: usize = 256 * 1024;
const SIDE_FILES: [&str; 3] = ["", "-wal", "-shm"];

/// Every step from an empty file; append only.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE run (
        model      TEXT PRIMARY KEY CHECK (length(model) BETWEEN 1 AND 40),
        job        TEXT NOT NULL CHECK (length(job) = 64),
        rows       BLOB NOT NULL,
        checkpoint TEXT CHECK (length(checkpoint) = 64)
    ) STRICT;
    CREATE TABLE piece (
        model  TEXT NOT NULL REFERENCES run (model) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        bytes  BLOB NOT NULL,
        PRIMARY KEY (model, number)
    ) STRICT;
",
    "
    CREATE TABLE version (
        version TEXT PRIMARY KEY CHECK (length(version) = 64),
        rows    BLOB NOT NULL
    ) STRICT;
",
    // The scores of a search so far.
    "ALTER TABLE run ADD COLUMN search BLOB;",
];

/// The runs' own memory.
#[derive(Debug)]
pub struct TrainDb {
    connection: Connection,
}

impl TrainDb {
    /// Opens `train.db` in a folder. A damaged file is removed and an empty one begun.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("train.db");
        let open = || -> Result<Self, StoreError> {
            let connection = schema::open(&path, false, MIGRATIONS)?;
            schema::quick_check(&connection)?;
            Ok(Self { connection })
        };
        match open() {
            Err(error) if error.is_damage() => {
                remove(&path)?;
                open()
            }
            other => other,
        }
    }

    /// The rows that a job was given when it first began; `None` when the model's last run was another.
    pub fn rows(&self, model: &ModelName, job: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection
            .query_row(
                "SELECT rows FROM run WHERE model = ?1 AND job = ?2",
                (model.as_str(), job.to_string()),
                |row| row.get(0),
            )
            .optional()
            .map_err(StoreError::sqlite("read a training run"))
    }

    /// Begins a run: it takes the place of the model's last one.
    pub fn begin(&mut self, model: &ModelName, job: Digest, rows: &[u8]) -> Result<(), StoreError> {
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute("DELETE FROM run WHERE model = ?1", [model.as_str()])?;
            tx.execute(
                "INSERT INTO run (model, job, rows) VALUES (?1, ?2, ?3)",
                params![model.as_str(), job.to_string(), rows],
            )?;
            tx.commit()
        };
        write().map_err(StoreError::sqlite("write a training run"))
    }

    /// How far a model's last run was; `None` also when the bytes are not those that were written.
    pub fn checkpoint(&self, model: &ModelName) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> rusqlite::Result<Option<(String, Vec<u8>)>> {
            let digest = self
                .connection
                .query_row("SELECT checkpoint FROM run WHERE model = ?1", [model.as_str()], |row| row.get(0))
                .optional()?;
            let Some(Some(digest)) = digest else { return Ok(None) };
            let sql = "SELECT sum(length(bytes)) FROM piece WHERE model = ?1";
            let size: Option<i64> = self.connection.query_row(sql, [model.as_str()], |row| row.get(0))?;
            let mut bytes = Vec::with_capacity(usize::try_from(size.unwrap_or(0)).unwrap_or(0));
            let mut query =
                self.connection.prepare("SELECT bytes FROM piece WHERE model = ?1 ORDER BY number")?;
            let mut pieces = query.query([model.as_str()])?;
            while let Some(piece) = pieces.next()? {
                bytes.extend_from_slice(piece.get_ref(0)?.as_blob()?);
            }
            Ok(Some((digest, bytes)))
        };
        let found = read().map_err(StoreError::sqlite("read a checkpoint"))?;
        Ok(found.and_then(|(digest, bytes)| (Digest::of(&bytes).to_string() == digest).then_some(bytes)))
    }

    /// Puts a checkpoint in the place of the one before, in one transaction; on disk when it returns.
    pub fn keep(&mut self, model: &ModelName, checkpoint: &[u8]) -> Result<(), StoreError> {
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute("DELETE FROM piece WHERE model = ?1", [model.as_str()])?;
            for (number, bytes) in (0_i64..).zip(checkpoint.chunks(PIECE_BYTES)) {
                tx.prepare_cached("INSERT INTO piece (model, number, bytes) VALUES (?1, ?2, ?3)")?
                    .execute(params![model.as_str(), number, bytes])?;
            }
            tx.execute(
                "UPDATE run SET checkpoint = ?2 WHERE model = ?1",
                (model.as_str(), Digest::of(checkpoint).to_string()),
            )?;
            tx.commit()
        };
        write().map_err(StoreError::sqlite("write a checkpoint"))
    }

    /// How far the search of a model's last run was.
    pub fn search(&self, model: &ModelName) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT search FROM run WHERE model = ?1";
        let row = self.connection.query_row(sql, [model.as_str()], |row| row.get(0)).optional();
        Ok(row.map_err(StoreError::sqlite("read a search"))?.flatten())
    }

    /// Puts scores in the place of those before, and drops the checkpoint, in one transaction; on disk when it
    /// returns.
    pub fn keep_search(&mut self, model: &ModelName, search: &[u8]) -> Result<(), StoreError> {
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute("DELETE FROM piece WHERE model = ?1", [model.as_str()])?;
            tx.execute(
                "UPDATE run SET search = ?2, checkpoint = NULL WHERE model = ?1",
                params![model.as_str(), search],
            )?;
            tx.commit()
        };
        write().map_err(StoreError::sqlite("write a search"))
    }

    /// Keeps which rows a version came of, the model's run being over, and drops those of versions that are no
    /// longer `there`.
    pub fn pin(
        &mut self,
        model: &ModelName,
        job: Digest,
        version: Digest,
        there: &[Digest],
    ) -> Result<(), StoreError> {
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute(
                "INSERT OR REPLACE INTO version (version, rows) SELECT ?1, rows FROM run WHERE model = ?2 AND job = ?3",
                (version.to_string(), model.as_str(), job.to_string()),
            )?;
            let kept: Vec<String> = tx
                .prepare("SELECT version FROM version")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for gone in kept.iter().filter(|text| !there.iter().any(|version| version.to_string() == **text))
            {
                tx.execute("DELETE FROM version WHERE version = ?1", [gone])?;
            }
            tx.commit()
        };
        write().map_err(StoreError::sqlite("pin the rows of a version"))
    }

    /// Which rows a version came of; `None` where it was not made here, or is gone.
    pub fn pinned(&self, version: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT rows FROM version WHERE version = ?1";
        let row = self.connection.query_row(sql, [version.to_string()], |row| row.get(0));
        row.optional().map_err(StoreError::sqlite("read the rows of a version"))
    }

    /// Drops the checkpoint of a run that is over, or that cannot be resumed; which rows it was given stays
    /// until the next run, so that it would start over with the same.
    pub fn forget(&mut self, model: &ModelName) -> Result<(), StoreError> {
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute("DELETE FROM piece WHERE model = ?1", [model.as_str()])?;
            tx.execute("UPDATE run SET checkpoint = NULL WHERE model = ?1", [model.as_str()])?;
            tx.commit()?;
            self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        };
        write().map_err(StoreError::sqlite("drop a checkpoint"))
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    for tail in SIDE_FILES {
        let mut name = path.as_os_str().to_owned();
        name.push(tail);
        match fs::remove_file(&name) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::SetAside { path: name.into(), source: Arc::new(cause) });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gas() -> ModelName {
        ModelName::new("gas").unwrap()
    }

    #[test]
    fn a_run_is_found_by_its_job_and_the_next_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = TrainDb::open(dir.path()).unwrap();
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        assert_eq!(runs.rows(&gas(), first).unwrap(), None);
        runs.begin(&gas(), first, b"rows").unwrap();
        assert_eq!(runs.checkpoint(&gas()).unwrap(), None);
        for size in [0, 3, PIECE_BYTES, 3 * PIECE_BYTES + 1, 5] {
            let bytes: Vec<u8> = (0..=250u8).cycle().take(size).collect();
            runs.keep(&gas(), &bytes).unwrap();
            assert_eq!(TrainDb::open(dir.path()).unwrap().checkpoint(&gas()).unwrap().unwrap(), bytes);
        }
        assert_eq!(runs.rows(&gas(), first).unwrap().unwrap(), b"rows");
        assert_eq!(runs.rows(&gas(), second).unwrap(), None);
        runs.begin(&gas(), second, b"others").unwrap();
        assert_eq!((runs.rows(&gas(), first).unwrap(), runs.checkpoint(&gas()).unwrap()), (None, None));
        runs.keep(&gas(), b"far").unwrap();
        runs.forget(&gas()).unwrap();
        assert_eq!(runs.checkpoint(&gas()).unwrap(), None);
        assert_eq!(runs.rows(&gas(), second).unwrap().unwrap(), b"others");
    }

    #[test]
    fn rows_of_a_version_stay_as_long_as_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = TrainDb::open(dir.path()).unwrap();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        runs.begin(&gas(), Digest::of(b"1"), b"rows").unwrap();
        runs.pin(&gas(), Digest::of(b"1"), one, &[one]).unwrap();
        runs.begin(&gas(), Digest::of(b"2"), b"others").unwrap();
        runs.pin(&gas(), Digest::of(b"2"), two, &[one, two]).unwrap();
        assert_eq!(runs.pinned(one).unwrap().unwrap(), b"rows");
        assert_eq!(runs.pinned(two).unwrap().unwrap(), b"others");
        runs.pin(&gas(), Digest::of(b"2"), two, &[two]).unwrap();
        assert_eq!(runs.pinned(one).unwrap(), None);
    }

    #[test]
    fn what_is_broken_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = TrainDb::open(dir.path()).unwrap();
        runs.begin(&gas(), Digest::of(b"1"), b"rows").unwrap();
        runs.keep(&gas(), b"far").unwrap();
        runs.connection.execute("UPDATE piece SET bytes = x'00'", []).unwrap();
        assert_eq!(runs.checkpoint(&gas()).unwrap(), None);
        drop(runs);
        fs::File::create(dir.path().join("train.db")).unwrap();
        fs::copy(std::env::current_exe().unwrap(), dir.path().join("train.db")).unwrap();
        let runs = TrainDb::open(dir.path()).unwrap();
        assert_eq!(runs.rows(&gas(), Digest::of(b"1")).unwrap(), None);
    }
}
