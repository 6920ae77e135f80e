//! `samples.db`: features, predictions and labels, under a quota.
//!
//! It may be lost without harm to serving: capture never waits and is counted when dropped. A label
//! is different: it is acknowledged when it is on disk.

use super::ballast::Ballast;
use super::samples_quota as quota;
use super::samples_rows::{self as rows, Joined, LabelOutcome, LabelRow, MIGRATIONS, SampleRow};
use super::{StoreError, recover, schema};
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Rows and labels that wait for the writer: four full groups.
const QUEUE: usize = 1_024;
/// Rows and labels in one transaction.
const GROUP: usize = 256;
/// How long rows gather before they are written: one fsync's worth of time on a slow card.
const GATHER: Duration = Duration::from_millis(20);
/// Late joins that wait for their reader; when full the writer waits, and capture drops.
const LATE_QUEUE: usize = 256;
/// Attempts to make room before rows are dropped.
const MAKE_ROOM: u32 = 3;

/// What became of a row that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// It waits for the writer.
    Queued,
    /// The queue was full; it is counted.
    Dropped,
}

/// A label on its way to the disk; it goes there whether it is awaited or not.
#[derive(Debug)]
pub struct PendingLabel(oneshot::Receiver<Result<LabelOutcome, StoreError>>);

impl PendingLabel {
    /// Waits until it is on disk.
    pub async fn on_disk(self) -> Result<LabelOutcome, StoreError> {
        self.0.await.map_err(|_closed| StoreError::Closed)?
    }
}

/// Labels that came before their row, joined when the row came.
pub type LateJoins = mpsc::Receiver<Joined>;

/// Counts since the database was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleStats {
    /// Rows on disk.
    pub captured: u64,
    /// Rows dropped: the queue or the disk was full, or the id was taken.
    pub dropped: u64,
    /// Old rows deleted for the quota.
    pub evicted: u64,
    /// Labels joined with their row, at once or late.
    pub joined: u64,
    /// Labels that came before their row.
    pub parked: u64,
    /// Labels that took the place of an earlier one.
    pub relabelled: u64,
    /// Parked labels given up, too many or too old.
    pub expired: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    captured: AtomicU64,
    dropped: AtomicU64,
    evicted: AtomicU64,
    joined: AtomicU64,
    parked: AtomicU64,
    relabelled: AtomicU64,
    expired: AtomicU64,
}

impl Counters {
    fn add(&self, done: &SampleStats) {
        for (counter, more) in [
            (&self.captured, done.captured),
            (&self.dropped, done.dropped),
            (&self.evicted, done.evicted),
            (&self.joined, done.joined),
            (&self.parked, done.parked),
            (&self.relabelled, done.relabelled),
            (&self.expired, done.expired),
        ] {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn read(&self) -> SampleStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SampleStats {
            captured: of(&self.captured),
            dropped: of(&self.dropped),
            evicted: of(&self.evicted),
            joined: of(&self.joined),
            parked: of(&self.parked),
            relabelled: of(&self.relabelled),
            expired: of(&self.expired),
        }
    }
}

type Answer = oneshot::Sender<Result<LabelOutcome, StoreError>>;
type Written = oneshot::Sender<Result<Vec<LabelOutcome>, StoreError>>;

enum Job {
    Sample(SampleRow),
    Label(LabelRow, Answer),
    /// Rows and labels in one transaction, as far as they fit.
    Together(Vec<SampleRow>, Vec<LabelRow>, Written),
    /// Answers when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// The device's samples. Dropping it writes what waits and closes the file.
#[derive(Debug)]
pub struct SamplesDb {
    jobs: Option<mpsc::Sender<Job>>,
    counters: Arc<Counters>,
    recovered: Option<String>,
    thread: Option<JoinHandle<()>>,
}

impl SamplesDb {
    /// Opens `samples.db` in a folder, to grow to `quota_bytes` at most; ballast and log beside it take
    /// up to a quarter more, 3 MiB at most.
    ///
    /// A damaged file is set aside and an empty one begun.
    pub fn open(dir: &Path, quota_bytes: u64) -> Result<(Self, LateJoins), StoreError> {
        let path = dir.join("samples.db");
        let (connection, recovered) = recover::open_or_recover(
            &path,
            |_snapshot| Ok(()),
            || {
                let connection = schema::open(&path, false, MIGRATIONS)?;
                schema::quick_check(&connection)?;
                Ok(connection)
            },
        )?;
        let quota = quota::Quota::set(&connection, quota_bytes)
            .map_err(StoreError::sqlite("set the quota of samples.db"))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (late, late_joins) = mpsc::channel(LATE_QUEUE);
        let counters = Arc::new(Counters::default());
        let mut writer = Writer {
            connection,
            quota,
            ballast: Ballast::new(&path, quota::ballast_bytes(quota_bytes)),
            late,
            counters: Arc::clone(&counters),
            full_sync: true,
        };
        let thread = std::thread::Builder::new()
            .name("samples-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(|cause| StoreError::Thread(Arc::new(cause)))?;
        Ok((Self { jobs: Some(jobs), counters, recovered, thread: Some(thread) }, late_joins))
    }

    /// Offers a row. Never waits.
    pub fn capture(&self, row: SampleRow) -> Captured {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(Job::Sample(row)).is_ok());
        if sent {
            return Captured::Queued;
        }
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        Captured::Dropped
    }

    /// Writes a label and joins it with its row; on disk when it returns.
    ///
    /// The same label again changes nothing; another one takes its place. What another source said before is
    /// kept beside it, for those who train.
    pub async fn label(&self, row: LabelRow) -> Result<LabelOutcome, StoreError> {
        self.hand_in_label(row).await?.on_disk().await
    }

    /// Hands a label to the writer. Labels handed in one after the other are written in that order,
    /// and share an fsync.
    pub async fn hand_in_label(&self, row: LabelRow) -> Result<PendingLabel, StoreError> {
        row.check()?; // here, since a refused row would take its whole group down
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Label(row, answer)).await?;
        Ok(PendingLabel(outcome))
    }

    /// Writes rows, and labels after them, and waits until they are on disk: what goes into one transaction, and
    /// so what a full quota evicts, follows from the calls alone. For tools that own their thread; it must not be
    /// called from a task.
    pub fn write(
        &self,
        rows: Vec<SampleRow>,
        labels: Vec<LabelRow>,
    ) -> Result<Vec<LabelOutcome>, StoreError> {
        labels.iter().try_for_each(LabelRow::check)?;
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        let (answer, done) = oneshot::channel();
        jobs.blocking_send(Job::Together(rows, labels, answer)).map_err(|_closed| StoreError::Closed)?;
        if let Some(thread) = &self.thread {
            thread.thread().unpark(); // somebody waits: no more gathering
        }
        done.blocking_recv().map_err(|_closed| StoreError::Closed)?
    }

    /// Waits until every row that was offered before is written or dropped.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.send(Job::Flush(answer)).await?;
        done.await.map_err(|_closed| StoreError::Closed)
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_closed| StoreError::Closed)?;
        if let Some(thread) = &self.thread {
            thread.thread().unpark(); // somebody waits: no more gathering
        }
        Ok(())
    }

    /// Counts since the database was opened.
    #[must_use]
    pub fn stats(&self) -> SampleStats {
        self.counters.read()
    }

    /// What was wrong with the file that was found, and what took its place.
    #[must_use]
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }
}

impl Drop for SamplesDb {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the writer was reported by its own hook, and each caller saw `Closed`.
            thread.join().ok();
        }
    }
}

struct Writer {
    connection: Connection,
    quota: quota::Quota,
    ballast: Ballast,
    late: mpsc::Sender<Joined>,
    counters: Arc<Counters>,
    full_sync: bool,
}

/// What one transaction did, told after its commit only.
#[derive(Default)]
struct Done {
    counts: SampleStats,
    late: Vec<Joined>,
    labels: Vec<LabelOutcome>,
}

impl Writer {
    fn run(&mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
            if jobs.len() < GROUP && jobs.iter().all(|job| matches!(job, Job::Sample(_))) {
                std::thread::park_timeout(GATHER);
                while jobs.len() < GROUP
                    && let Ok(job) = queue.try_recv()
                {
                    jobs.push(job);
                }
            }
            self.write(&mut jobs);
        }
    }

    fn write(&mut self, jobs: &mut Vec<Job>) {
        let (mut samples, mut labels, mut answers, mut flushes) = (vec![], vec![], vec![], vec![]);
        let mut together = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Sample(row) => samples.push(row),
                Job::Label(row, answer) => {
                    labels.push(row);
                    answers.push(answer);
                }
                Job::Together(rows, labels, answer) => together.push((rows, labels, answer)),
                Job::Flush(answer) => flushes.push(answer),
            }
        }
        let mut rest = samples.as_slice();
        loop {
            let (now, later) = rest.split_at(rows::fitting(rest));
            rest = later;
            if rest.is_empty() {
                self.write_part(now, &labels, answers);
                break;
            }
            self.write_part(now, &[], Vec::new());
        }
        for (rows, labels, answer) in together {
            answer.send(self.write_together(&rows, &labels)).ok();
        }
        for flush in flushes {
            flush.send(()).ok();
        }
    }

    fn write_together(
        &mut self,
        samples: &[SampleRow],
        labels: &[LabelRow],
    ) -> Result<Vec<LabelOutcome>, StoreError> {
        let mut rest = samples;
        loop {
            let (now, later) = rest.split_at(rows::fitting(rest));
            rest = later;
            if rest.is_empty() {
                let done = self.transaction(now, labels)?;
                return Ok(self.tell(done));
            }
            let done = self.transaction(now, &[])?;
            self.tell(done);
        }
    }

    /// Says what is on disk now.
    fn tell(&mut self, done: Done) -> Vec<LabelOutcome> {
        if let Err(cause) = self.ballast.on_written() {
            tracing::debug!(%cause, "no room for ballast"); // tried again later
        }
        self.counters.add(&done.counts);
        for joined in done.late {
            // A reader that is gone needs no news.
            self.late.blocking_send(joined).ok();
        }
        done.labels
    }

    fn write_part(&mut self, samples: &[SampleRow], labels: &[LabelRow], answers: Vec<Answer>) {
        match self.transaction(samples, labels) {
            Ok(done) => {
                for (answer, outcome) in answers.into_iter().zip(self.tell(done)) {
                    answer.send(Ok(outcome)).ok();
                }
            }
            Err(error) => {
                let (rows, labels) = (samples.len(), labels.len());
                tracing::warn!(error = %error, rows, labels, "samples were not written");
                self.counters.dropped.fetch_add(rows as u64, Ordering::Relaxed);
                for answer in answers {
                    answer.send(Err(error.clone())).ok();
                }
            }
        }
    }

    /// Writes all, making room where there is none; without room the labels alone.
    fn transaction(&mut self, samples: &[SampleRow], labels: &[LabelRow]) -> Result<Done, StoreError> {
        for _ in 0..MAKE_ROOM {
            match self.attempt(samples, labels) {
                Err(error) if error.is_full() => self.make_room(),
                outcome => return outcome,
            }
        }
        let mut done = self.attempt(&[], labels)?;
        done.counts.dropped += samples.len() as u64;
        Ok(done)
    }

    fn attempt(&mut self, samples: &[SampleRow], labels: &[LabelRow]) -> Result<Done, StoreError> {
        if samples.is_empty() && labels.is_empty() {
            return Ok(Done::default());
        }
        let fail = || StoreError::sqlite("write to samples.db");
        self.sync_fully(!labels.is_empty()).map_err(fail())?;
        let mut done = Done::default();
        let evicted = self.quota.evict(&mut self.connection).map_err(fail())?;
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
        let may_be_parked = !samples.is_empty() && rows::any_parked(&tx).map_err(fail())?;
        let mut known: Option<(&SampleRow, i64)> = None;
        for row in samples {
            let version = match known {
                Some((of, version)) if of.version == row.version && of.model == row.model => version,
                _ => rows::version(&tx, row).map_err(fail())?,
            };
            known = Some((row, version));
            match rows::insert(&tx, row, version, may_be_parked).map_err(fail())? {
                None => done.counts.dropped += 1,
                Some(late) => {
                    done.counts.captured += 1;
                    done.counts.joined += u64::from(late.is_some());
                    done.late.extend(late);
                }
            }
        }
        for row in labels {
            let outcome = rows::label(&tx, row).map_err(fail())?;
            match &outcome {
                LabelOutcome::Joined(joined) if joined.relabelled => done.counts.relabelled += 1,
                LabelOutcome::Joined(joined) if joined.repeated => {}
                LabelOutcome::Joined(_) => done.counts.joined += 1,
                LabelOutcome::Parked => done.counts.parked += 1,
            }
            done.labels.push(outcome);
        }
        if let Some(now) = labels.iter().map(|row| row.at).max() {
            done.counts.expired = rows::expire(&tx, now).map_err(fail())?;
        }
        tx.commit().map_err(fail())?;
        Ok(done)
    }

    /// Rows alone need no fsync, which spares the card; the fsync of a label covers the rows before.
    fn sync_fully(&mut self, fully: bool) -> rusqlite::Result<()> {
        if self.full_sync != fully {
            self.connection.pragma_update(None, "synchronous", if fully { "FULL" } else { "NORMAL" })?;
            self.full_sync = fully;
        }
        Ok(())
    }

    /// The disk is full. Deleting needs room in the log, so the ballast goes first, and then rows in
    /// small steps; what fails here too is seen by the next attempt.
    fn make_room(&mut self) {
        self.ballast.throw();
        let made = quota::fold_log(&self.connection)
            .and_then(|()| self.quota.settle(&self.connection))
            .and_then(|()| self.quota.evict_small(&mut self.connection));
        match made {
            Ok(rows) => {
                self.counters.evicted.fetch_add(rows, Ordering::Relaxed);
            }
            Err(cause) => tracing::debug!(%cause, "no room was made in samples.db"),
        }
    }
}
