//! The workers that run models: threads of their own, a bounded queue, requests joined into batches
//! where that pays, and a watch over calls that do not end.

use super::models::ServedModel;
use super::refused::Refused;
use crate::clock::Clock;
use shoal_infer::{InferError, Tensor, can_join, join, part};
use shoal_proto::time::Mono;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that may wait for a worker before more are refused.
const WAITING: usize = 256;
/// A call is no stall before it took this many times what its rows should take: a caller must not cost a
/// version its place by asking for much.
const PATIENCE: u32 = 20;
/// Workers that may hang at once: beyond it only a new process helps.
const MAX_HANGING: usize = 4;

/// Inputs, given back for the monitors, and outputs.
pub(super) type Done = (Vec<Tensor>, Vec<Tensor>);

struct Job {
    served: Arc<ServedModel>,
    inputs: Vec<Tensor>,
    rows: usize,
    since: Mono,
    answer: oneshot::Sender<Result<Done, Refused>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Running {
    since: Mono,
    served: Arc<ServedModel>,
    rows: usize,
}

struct Worker {
    running: Mutex<Option<Running>>,
    hangs: AtomicBool,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    workers: Mutex<Vec<Arc<Worker>>>,
    hanging: AtomicUsize,
    clock: Clock,
    batch_wait: Duration,
}

/// A bounded number of threads that run models. Dropping it lets them end.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// What became of a look at the workers.
pub(super) struct Stalls {
    /// Versions whose calls do not end.
    pub(super) versions: Vec<Arc<ServedModel>>,
    /// Whether so many threads hang that the process should be started anew.
    pub(super) too_many: bool,
}

impl Pool {
    /// Starts the workers. A request waits at most `batch_wait` for others to join it.
    pub(super) fn start(workers: usize, batch_wait: Duration, clock: Clock) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            more: Condvar::new(),
            workers: Mutex::default(),
            hanging: AtomicUsize::new(0),
            clock,
            batch_wait,
        });
        for _ in 0..workers.max(1) {
            spawn(&shared)?;
        }
        Ok(Self { shared })
    }

    /// Requests that wait for a worker.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.shared.queue).jobs.len()
    }

    /// Has a worker run the model; waits at most `patience` for the answer.
    pub(super) async fn run(
        &self,
        served: Arc<ServedModel>,
        inputs: Vec<Tensor>,
        rows: usize,
        patience: Duration,
    ) -> Result<Done, Refused> {
        let (answer, answered) = oneshot::channel();
        let job = Job { served, inputs, rows, since: self.shared.clock.mono(), answer };
        {
            let mut queue = lock(&self.shared.queue);
            if queue.jobs.len() >= WAITING {
                return Err(Refused::Overloaded);
            }
            queue.jobs.push_back(job);
        }
        self.shared.more.notify_one();
        match tokio::time::timeout(patience, answered).await {
            Ok(outcome) => outcome.map_err(|_worker_gone| Refused::Interrupted)?,
            Err(_late) => Err(Refused::Timeout { after: patience }),
        }
    }

    /// Gives workers up that run longer than `limit` and than their rows could explain, and starts others
    /// in their place.
    pub(super) fn find_stalls(&self, limit: Duration) -> Stalls {
        let now = self.shared.clock.mono();
        let mut versions = Vec::new();
        lock(&self.shared.workers).retain(|worker| {
            let running = lock(&worker.running);
            match running.as_ref() {
                Some(call)
                    if now.since(call.since) > limit.max(call.should_take().saturating_mul(PATIENCE)) =>
                {
                    worker.hangs.store(true, Ordering::Release);
                    versions.push(Arc::clone(&call.served));
                    false
                }
                _ => true,
            }
        });
        let hanging = self.shared.hanging.fetch_add(versions.len(), Ordering::AcqRel) + versions.len();
        for _ in &versions {
            if let Err(cause) = spawn(&self.shared) {
                tracing::error!(%cause, "no thread in the place of one that hangs");
            }
        }
        Stalls { versions, too_many: hanging > MAX_HANGING }
    }
}

impl Running {
    fn should_take(&self) -> Duration {
        self.served.one_row().saturating_mul(u32::try_from(self.rows).unwrap_or(u32::MAX))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.more.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let worker = Arc::new(Worker { running: Mutex::default(), hangs: AtomicBool::new(false) });
    lock(&shared.workers).push(Arc::clone(&worker));
    let shared = Arc::clone(shared);
    thread::Builder::new().name("infer".into()).spawn(move || shared.work(&worker)).map(drop)
}

impl Shared {
    fn work(&self, worker: &Worker) {
        while let Some(batch) = self.next() {
            let Some(first) = batch.first() else { continue };
            let now = self.clock.mono();
            let (served, rows) = (Arc::clone(&first.served), batch.iter().map(|job| job.rows).sum());
            *lock(&worker.running) = Some(Running { since: now, served, rows });
            for job in &batch {
                job.served.metrics().waited(now.since(job.since));
            }
            run(batch);
            *lock(&worker.running) = None;
            if worker.hangs.load(Ordering::Acquire) {
                self.hanging.fetch_sub(1, Ordering::AcqRel);
                return; // another took this place
            }
        }
    }

    /// The next request and those that may join it; `None` when the pool is closed.
    fn next(&self) -> Option<Vec<Job>> {
        let mut queue = lock(&self.queue);
        let first = loop {
            match queue.jobs.pop_front() {
                Some(job) if job.answer.is_closed() => {} // nobody waits any more
                Some(job) => break job,
                None if queue.closed => return None,
                None => queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let most = first.served.batch_rows();
        let mut rows = first.rows;
        let mut batch = vec![first];
        loop {
            gather(&mut queue.jobs, &mut batch, &mut rows, most);
            let waited = self.clock.mono().since(batch[0].since);
            let left = self.batch_wait.saturating_sub(waited);
            if rows >= most || left.is_zero() || queue.closed {
                return Some(batch);
            }
            queue = self.more.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Moves what may join the batch out of the queue, in order.
fn gather(jobs: &mut VecDeque<Job>, batch: &mut Vec<Job>, rows: &mut usize, most: usize) {
    let mut at = 0;
    while at < jobs.len() && *rows < most {
        let job = &jobs[at];
        let fits = Arc::ptr_eq(&job.served, &batch[0].served)
            && *rows + job.rows <= most
            && can_join(&job.inputs, &batch[0].inputs);
        if !fits {
            at += 1;
        } else if let Some(job) = jobs.remove(at) {
            *rows += job.rows;
            batch.push(job);
        }
    }
}

fn run(batch: Vec<Job>) {
    if let [_, _, ..] = batch.as_slice()
        && let Some(answers) = run_joined(&batch)
    {
        for (job, outputs) in batch.into_iter().zip(answers) {
            reply(job.answer, Ok((job.inputs, outputs)));
        }
        return;
    }
    // One by one also where the whole failed: only the request that is at fault gets the error.
    for job in batch {
        job.served.metrics().called(job.rows);
        let outcome = job.served.predictor().infer(&job.inputs);
        reply(job.answer, outcome.map(|outputs| (job.inputs, outputs)).map_err(Refused::from));
    }
}

fn run_joined(batch: &[Job]) -> Option<Vec<Vec<Tensor>>> {
    let served = &batch.first()?.served;
    let rows: Vec<usize> = batch.iter().map(|job| job.rows).collect();
    served.metrics().called(rows.iter().sum());
    let outputs: Result<_, InferError> =
        served.predictor().infer(&join(batch.iter().map(|job| job.inputs.as_slice())));
    part(&outputs.ok()?, &rows)
}

fn reply(answer: oneshot::Sender<Result<Done, Refused>>, outcome: Result<Done, Refused>) {
    drop(answer.send(outcome)); // who asked may have left
}
