//! `hub.db`: what the hub must not forget.
//!
//! One thread writes, and takes what has queued up in one transaction (group commit, up to
//! [`GROUP_ROWS`] rows); an answer means that it is on disk. All SQL of the hub is here and in the
//! modules below.

mod last;
mod load;
mod migrate;
mod save;
#[cfg(test)]
mod tests;

use crate::core::{Record, Saved};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Rows after which a group is committed, however many more wait.
const GROUP_ROWS: usize = 256;
/// Groups that may queue up: the hub's loop waits for each, so there are few.
const QUEUE: usize = 64;

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not open.
    #[error("failed to open database `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A later build wrote it.
    #[error("database `{}` has schema {found}, this build knows up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// A migration failed.
    #[error("failed to bring the database to schema {to}")]
    Migrate {
        /// Which.
        to: i64,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// It cannot be read.
    #[error("failed to read {what}")]
    Read {
        /// Of what.
        what: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A row that this build cannot read.
    #[error("row `{key}` of {what} is damaged: {reason}")]
    Row { what: &'static str, key: String, reason: String },
    /// It cannot be written.
    #[error("failed to write {what}")]
    Write {
        /// Of what.
        what: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer ended.
    #[error("the writer of the database has ended")]
    Ended,
    /// No thread for the writer.
    #[error("failed to start the writer's thread")]
    Thread {
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

struct Job {
    records: Vec<Record>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or makes the database, brings it to the latest schema, and reads all of it.
    pub fn open(path: &Path) -> Result<(Self, Saved), StoreError> {
        let mut connection = connect(path)?;
        migrate::migrate(&mut connection, path)?;
        let saved = load::load(&connection)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(connection, queue))
            .map_err(|source| StoreError::Thread { source })?;
        Ok((Self { jobs: Some(jobs), writer: Some(writer) }, saved))
    }

    /// Writes records in one transaction; when it returns they are on disk.
    pub async fn persist(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Ended)?;
        jobs.send(Job { records, done }).await.map_err(|_closed| StoreError::Ended)?;
        answer.await.map_err(|_closed| StoreError::Ended)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None; // the writer ends with its queue
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the database's writer panicked");
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    };
    open().map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

fn write_all(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut rows = first.records.len();
        let mut group = vec![first];
        while rows < GROUP_ROWS
            && let Ok(job) = queue.try_recv()
        {
            rows += job.records.len();
            group.push(job);
        }
        // A group that fails is tried again job by job, so that each hears of its own error.
        if commit(&mut connection, &group).is_ok() {
            for job in group {
                answer(job.done, Ok(()));
            }
            continue;
        }
        for job in group {
            let outcome = commit(&mut connection, std::slice::from_ref(&job));
            answer(job.done, outcome);
        }
    }
}

fn answer(done: oneshot::Sender<Result<(), StoreError>>, outcome: Result<(), StoreError>) {
    if done.send(outcome).is_err() {
        tracing::debug!("nobody waits for this commit any more");
    }
}

fn commit(connection: &mut Connection, group: &[Job]) -> Result<(), StoreError> {
    let what = "a transaction";
    let transaction = connection.transaction().map_err(|source| StoreError::Write { what, source })?;
    for record in last::last_words(group.iter().flat_map(|job| &job.records)) {
        save::save(&transaction, record)?;
    }
    transaction.commit().map_err(|source| StoreError::Write { what, source })
}
