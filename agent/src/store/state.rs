//! `state.db`: the link's log and document, and the core's own memory.

use super::recover;
use super::schema;
use super::state_rows::{self, Loaded, MIGRATIONS};
use super::{StoreError, recover::open_or_recover};
use crate::core::Record;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Commits that wait for the writer; a caller that finds it full waits.
const QUEUE: usize = 256;
/// Commits in one transaction. Nothing is waited for to fill it: while one transaction syncs, the
/// next one gathers, so that a lone commit takes one fsync and a crowd shares one.
const GROUP: usize = 256;

type Answer = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    Commit(Vec<Record>, Answer),
    Snapshot(Answer),
}

/// The device's state. Dropping it writes what waits and closes the file.
#[derive(Debug)]
pub struct StateDb {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl StateDb {
    /// Opens `state.db` in a folder, counts the boot and reads everything.
    ///
    /// A damaged file is set aside and the newest good snapshot takes its place; its log is of a past
    /// life then, and [`Loaded::incarnation`] is empty.
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = dir.join("state.db");
        let ((connection, mut loaded), recovered) =
            open_or_recover(&path, state_rows::end_life, || open_file(&path))?;
        loaded.recovered = recovered;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("state-writer".into())
            .spawn(move || write(connection, &path, queue))
            .map_err(|cause| StoreError::Thread(Arc::new(cause)))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, loaded))
    }

    /// Writes records in one transaction, all or none; on disk when it returns.
    ///
    /// Commits of one caller, each awaited, keep their order.
    pub async fn commit(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.ask(|answer| Job::Commit(records, answer)).await
    }

    /// Writes a snapshot beside the database; two are kept.
    pub async fn snapshot(&self) -> Result<(), StoreError> {
        self.ask(Job::Snapshot).await
    }

    async fn ask(&self, job: impl FnOnce(Answer) -> Job) -> Result<(), StoreError> {
        let (answer, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job(answer)).await.map_err(|_closed| StoreError::Closed)?;
        outcome.await.map_err(|_closed| StoreError::Closed)?
    }
}

impl Drop for StateDb {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported by its own hook, and each caller saw `Closed`.
            thread.join().ok();
        }
    }
}

fn open_file(path: &Path) -> Result<(Connection, Loaded), StoreError> {
    let mut connection = schema::open(path, true, MIGRATIONS)?;
    schema::quick_check(&connection)?;
    let loaded = state_rows::load(&mut connection)?;
    Ok((connection, loaded))
}

fn write(mut connection: Connection, path: &Path, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
        let mut group = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Commit(records, answer) => group.push((records, answer)),
                Job::Snapshot(answer) => {
                    write_group(&mut connection, std::mem::take(&mut group));
                    // Nobody listens any more: then nobody needs to know.
                    answer.send(recover::snapshot(&connection, path)).ok();
                }
            }
        }
        write_group(&mut connection, group);
    }
}

fn write_group(connection: &mut Connection, group: Vec<(Vec<Record>, Answer)>) {
    if group.is_empty() {
        return;
    }
    let outcome = transaction(connection, group.iter().map(|(records, _)| records.as_slice()));
    match outcome {
        Ok(outcomes) => {
            for ((_, answer), outcome) in group.into_iter().zip(outcomes) {
                answer.send(outcome).ok();
            }
        }
        Err(error) => {
            for (_, answer) in group {
                answer.send(Err(error.clone())).ok();
            }
        }
    }
}

/// One transaction, one savepoint a commit: one that is refused takes no other down.
fn transaction<'a>(
    connection: &mut Connection,
    group: impl Iterator<Item = &'a [Record]>,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let fail = || StoreError::sqlite("write to state.db");
    let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
    let mut outcomes = Vec::new();
    for records in group {
        outcomes.push(apply(&mut tx, records).map_err(fail()));
    }
    tx.commit().map_err(fail())?;
    Ok(outcomes)
}

fn apply(tx: &mut Transaction<'_>, records: &[Record]) -> rusqlite::Result<()> {
    let savepoint = tx.savepoint()?;
    state_rows::apply(&savepoint, records)?;
    savepoint.commit()
}
