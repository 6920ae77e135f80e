//! The parent's side: starts children, waits with patience, and says what became of them.

use super::chain;
use super::conduct::{Handle, Wish, conduct};
use super::job::{AdmitJob, Answer, Born, Replayed, Said, TrainingJob, Why};
use super::limits::Limits;
use crate::admission::AdmissionReport;
use crate::core::effect::TrainJob;
use crate::core::event::{Trained, Untrained};
use crate::vault::Vault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_proto::id::Digest;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, watch};

/// Begins the name of a job file in the state folder; a crash leaves it behind.
const JOB: &str = ".job-";
/// Admissions at once, however many versions come: each may use a quarter of a small board's memory.
const ADMISSIONS_AT_ONCE: usize = 1;
/// Bytes of an answer at most: evidence of a model with 10,000 classes has a fifth of that.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a line of progress at most.
const MAX_SAID_BYTES: usize = 256;
/// Bytes of a child's error output that are kept, the last ones.
const MAX_STDERR_BYTES: usize = 4 * 1024;
/// Lines of them that stand in the error.
const STDERR_LINES: usize = 5;

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to clean old jobs from `{path}`")]
pub struct WorkersError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A child that did not do its job.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChildError {
    /// The job's file could not be written.
    #[error("failed to write a job: {reason}")]
    Job { reason: String },
    /// It could not be started.
    #[error("failed to start `{program}`: {reason}")]
    Start { program: String, reason: String },
    /// It took too long, and was killed.
    #[error("the {what} child took longer than {wall_s} s")]
    Late { what: &'static str, wall_s: u64 },
    /// A limit or a bug ended it.
    #[error("the {what} child was killed by signal {signal}{}{words}", guess(*.signal))]
    Killed { what: &'static str, signal: i32, words: String },
    /// It gave up.
    #[error("the {what} child ended with exit code {code}{words}")]
    Failed { what: &'static str, code: i32, words: String },
    /// It ended well and said nothing that can be read.
    #[error("the {what} child gave no answer: {reason}{words}")]
    Silent { what: &'static str, reason: String, words: String },
    /// Its output broke.
    #[error("lost the {what} child: {reason}")]
    Lost { what: &'static str, reason: String },
    /// It says no.
    #[error("{}", .0.reason)]
    No(Why),
}

/// One admission.
#[derive(Debug)]
pub struct Attempt {
    /// What was found out, or why the version may not be served.
    pub outcome: Result<AdmissionReport, ChildError>,
    /// The last of the child's error output: where the engine panicked.
    pub said: String,
    /// What the child was limited to.
    pub limits: Limits,
}

/// Starts children of this agent.
#[derive(Debug, Clone)]
pub struct Workers {
    program: PathBuf,
    prefix: Vec<String>,
    state: PathBuf,
    admit: Limits,
    train: Limits,
    cpu_share: f64,
    admissions: Arc<Semaphore>,
    runs: Runs,
}

/// Training runs under way.
#[derive(Debug, Clone, Default)]
struct Runs(Arc<Mutex<Listing>>);

#[derive(Debug, Default)]
struct Listing {
    /// By number.
    runs: BTreeMap<u64, Running>,
    /// What the children that ended have written.
    written_bytes: u64,
}

#[derive(Debug)]
struct Running {
    wish: watch::Sender<Wish>,
    said: Option<Said>,
}

impl Runs {
    fn locked(&self) -> MutexGuard<'_, Listing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // whatever is there is whole
    }

    fn list(&self, run: u64) -> Listed {
        let (wish, wishes) = watch::channel(Wish::Go);
        self.locked().runs.insert(run, Running { wish, said: None });
        Listed { runs: self.clone(), run, wishes }
    }

    fn wish(&self, run: u64, wish: Wish) {
        if let Some(running) = self.locked().runs.get(&run) {
            running.wish.send_replace(wish);
        }
    }
}

/// A run on the list; off it also when its future is dropped.
#[derive(Debug)]
struct Listed {
    runs: Runs,
    run: u64,
    wishes: watch::Receiver<Wish>,
}

impl Listed {
    fn said(&self, said: Said) {
        if let Some(running) = self.runs.locked().runs.get_mut(&self.run) {
            running.said = Some(said);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut list = self.runs.locked();
        let said = list.runs.remove(&self.run).and_then(|running| running.said);
        list.written_bytes += said.map_or(0, |said| said.spent.written_bytes);
    }
}

impl Workers {
    /// Children are `program prefix… worker admit|train JOB`, with their jobs and the vault below the state
    /// folder. Removes jobs that a crash left there.
    pub fn new(
        (program, prefix): (PathBuf, Vec<String>),
        state: PathBuf,
        admit: Limits,
        train: Limits,
    ) -> Result<Self, WorkersError> {
        let clean = || {
            for entry in fs::read_dir(&state)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(JOB) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        clean().map_err(|source| WorkersError { path: state.clone(), source })?;
        let admissions = Arc::new(Semaphore::new(ADMISSIONS_AT_ONCE));
        let (cpu_share, runs) = (1.0, Runs::default());
        Ok(Self { program, prefix, state, admit, train, cpu_share, admissions, runs })
    }

    /// Training children get this share of one core, and no more.
    #[must_use]
    pub fn with_cpu_share(self, cpu_share: f64) -> Self {
        Self { cpu_share, ..self }
    }

    /// Whether the server may parse a version that is in the vault. The error is why not, for people; what
    /// was found out is logged and kept beside the version.
    ///
    /// Dropping the future ends the child.
    pub async fn admit(&self, version: Digest) -> Result<(), String> {
        let slot = self.admissions.acquire().await.map_err(|closed| closed.to_string())?;
        let attempt = self.attempt(version).await;
        drop(slot);
        let report = attempt.outcome.map_err(|cause| cause.to_string())?;
        tracing::info!(
            version = %version.short(),
            parameters = report.model.parameters.count,
            batching = ?report.model.batching,
            load_ms = report.load_ms,
            row_us = report.row_us,
            peak_bytes = report.peak_bytes,
            model_bytes = report.model_bytes(),
            golden_difference = report.model.golden_difference,
            "version admitted"
        );
        let vault = Vault::join(&self.state);
        let kept = tokio::task::spawn_blocking(move || vault.keep_admission(version, &report)).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => tracing::warn!(%version, error = %chain(&cause), "admission was not kept"),
            Err(cause) => tracing::warn!(%version, error = %cause, "admission was not kept"),
        }
        Ok(())
    }

    /// One admission of a version that is in the vault, whatever others are under way, with all that is known of its end. Its limits are
    /// those for the model's size.
    ///
    /// Dropping the future ends the child.
    pub async fn attempt(&self, version: Digest) -> Attempt {
        let onnx_bytes = Vault::join(&self.state).model_bytes(version);
        let limits = self.admit.for_model(onnx_bytes);
        let job = AdmitJob { state: self.state.clone(), version, limits };
        let (outcome, said) = self.child("admit", &job, limits, None).await;
        Attempt { outcome, said, limits }
    }

    /// Trains a candidate into the vault. The error is why there is none, for people. The run can be paused and
    /// stopped from now on.
    ///
    /// Dropping the future ends the child.
    pub fn train(&self, job: TrainJob) -> impl Future<Output = Result<Trained, Untrained>> + Send + use<> {
        let (workers, listed) = (self.clone(), self.runs.list(job.run));
        async move {
            let job = TrainingJob::new(job, workers.state.clone(), workers.train);
            let (born, _) = workers.child::<Born>("train", &job, workers.train, Some(&listed)).await;
            let born = born.map_err(|cause| {
                let reason = cause.to_string();
                match cause {
                    ChildError::No(why) => why.untrained(reason),
                    _ => reason.into(),
                }
            })?;
            if let Some(said) = workers.progress(job.run) {
                listed.said(Said { spent: born.spent, ..said });
            }
            let vault = Vault::join(&workers.state);
            let read = tokio::task::spawn_blocking(move || vault.info(born.version));
            let candidate = read.await.map_err(|cause| chain(&cause))?.map_err(|cause| chain(&cause))?;
            Ok(Trained { candidate, evidence: born.evidence.clone(), how: Box::new(born.how()) })
        }
    }

    /// Makes a version again by the job that made it, with the memory that it had then, and compares.
    ///
    /// # Errors
    /// Why it could not be made, for people.
    pub async fn replay(
        &self,
        job: TrainJob,
        version: Digest,
        memory_bytes: Option<u64>,
    ) -> Result<Replayed, String> {
        let limits = Limits { memory_bytes: memory_bytes.unwrap_or(self.train.memory_bytes), ..self.train };
        let job = TrainingJob { replay: Some(version), ..TrainingJob::new(job, self.state.clone(), limits) };
        let (outcome, _) = self.child::<Replayed>("train", &job, limits, None).await;
        outcome.map_err(|cause| cause.to_string())
    }

    /// How far a training run is, as its child last said.
    #[must_use]
    pub fn progress(&self, run: u64) -> Option<Said> {
        self.runs.locked().runs.get(&run)?.said
    }

    /// What all training children of this process have written to the disk, as far as they said.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let list = self.runs.locked();
        let said = list.runs.values().filter_map(|running| running.said);
        said.fold(list.written_bytes, |sum, said| sum.saturating_add(said.spent.written_bytes))
    }

    /// Lets a training run rest where it is.
    pub fn pause(&self, run: u64) {
        self.runs.wish(run, Wish::Rest);
    }

    /// Lets it go on.
    pub fn resume(&self, run: u64) {
        self.runs.wish(run, Wish::Go);
    }

    /// Asks a training run to stop: it does so within a step, with a checkpoint written, and says where.
    pub fn stop(&self, run: u64) {
        self.runs.wish(run, Wish::Stop);
    }

    /// Runs a child to its end; the text is the last of what it said on its error output. One that is listed
    /// is conducted, and has the time that its limits of processor time leave; others have that of the wall.
    async fn child<T: DeserializeOwned>(
        &self,
        what: &'static str,
        job: &impl Serialize,
        limits: Limits,
        listed: Option<&Listed>,
    ) -> (Result<T, ChildError>, String) {
        let (child, job) = match self.start(what, job) {
            Ok(started) => started,
            Err(cause) => return (Err(cause), String::new()),
        };
        let handle = Handle::new(child.id());
        let ended = match listed {
            None => tokio::time::timeout(limits.wall(), end(child, &handle, |_| {})).await,
            Some(listed) => {
                let wishes = listed.wishes.clone();
                tokio::select! {
                    biased;
                    ended = end(child, &handle, |said| listed.said(said)) => Ok(ended),
                    never = conduct(&handle, job.path(), wishes, self.cpu_share) => match never {},
                }
            }
        };
        drop(job);
        let (status, stdout, stderr) = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(cause)) => {
                return (Err(ChildError::Lost { what, reason: cause.to_string() }), String::new());
            }
            Err(_late) => return (Err(ChildError::Late { what, wall_s: limits.wall_s }), String::new()),
        };
        let words = last_lines(&stderr);
        let said = String::from_utf8_lossy(&stderr).into_owned();
        let outcome = if let Some(signal) = status.signal() {
            Err(ChildError::Killed { what, signal, words })
        } else if !status.success() {
            Err(ChildError::Failed { what, code: status.code().unwrap_or_default(), words })
        } else {
            match serde_json::from_slice(&stdout) {
                Ok(Answer::Yes(done)) => Ok(done),
                Ok(Answer::No(why)) => Err(ChildError::No(why)),
                Err(cause) => Err(ChildError::Silent { what, reason: cause.to_string(), words }),
            }
        };
        (outcome, said)
    }

    /// The job's file is to be kept until the child has ended.
    fn start(
        &self,
        what: &'static str,
        job: &impl Serialize,
    ) -> Result<(Child, tempfile::NamedTempFile), ChildError> {
        let file = self.write(job).map_err(|cause| ChildError::Job { reason: cause.to_string() })?;
        let mut command = Command::new(&self.program);
        command.args(&self.prefix).args(["worker", what]).arg(file.path());
        command.env("RAYON_NUM_THREADS", "1"); // a trainer leaves the other cores to the server
        command.env("RUST_BACKTRACE", "0"); // a backtrace reads the whole program, once a panic
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let program = || self.program.display().to_string();
        let child = command
            .spawn()
            .map_err(|cause| ChildError::Start { program: program(), reason: cause.to_string() })?;
        Ok((child, file))
    }

    fn write(&self, job: &impl Serialize) -> io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix(JOB).suffix(".json").tempfile_in(&self.state)?;
        file.write_all(&serde_json::to_vec(job)?)?;
        file.flush()?;
        Ok(file)
    }
}

/// Waits for a child's end and both of its outputs.
async fn end(
    mut child: Child,
    handle: &Handle,
    on_said: impl FnMut(Said),
) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = async {
        match stdout {
            Some(stdout) => listen(stdout, on_said).await,
            None => Ok(Vec::new()),
        }
    };
    let errors = async {
        match stderr {
            Some(stderr) => tail(stderr).await,
            None => Ok(Vec::new()),
        }
    };
    let status = async {
        let status = child.wait().await;
        handle.is_over.store(true, Ordering::Relaxed);
        status
    };
    let (status, answer, errors) = tokio::join!(status, answer, errors);
    Ok((status?, answer?, errors?))
}

/// The answer, and before it lines of progress.
async fn listen(mut stream: impl AsyncRead + Unpin, mut on_said: impl FnMut(Said)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        bytes.extend_from_slice(&buffer[..read]);
        if read == 0 || bytes.len() > MAX_ANSWER_BYTES {
            return Ok(bytes);
        }
        while let Some(end) = bytes.iter().take(MAX_SAID_BYTES).position(|byte| *byte == b'\n')
            && let Ok(said) = serde_json::from_slice::<Said>(&bytes[..end])
        {
            on_said(said);
            bytes.drain(..=end);
        }
    }
}

/// The last bytes of a stream, read to its end.
async fn tail(mut stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut kept: VecDeque<u8> = VecDeque::with_capacity(2 * MAX_STDERR_BYTES);
    let mut buffer = [0; 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept.into());
        }
        kept.extend(&buffer[..read]);
        let surplus = kept.len().saturating_sub(MAX_STDERR_BYTES);
        kept.drain(..surplus);
    }
}

/// What a signal means for a child with limits, for people.
fn guess(signal: i32) -> &'static str {
    match signal {
        6 => " (out of memory within its limit?)",
        9 => " (out of memory?)",
        11 => " (stack used up, or a bug)",
        24 => " (processor time used up)",
        25 => " (file too large)",
        31 => " (a system call that the service forbids)",
        _ => "",
    }
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(STDERR_LINES)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) }
}

#[cfg(test)]
#[path = "parent_tests.rs"]
mod tests;
