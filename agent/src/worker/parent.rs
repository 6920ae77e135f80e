//! The parent's side: starts children, waits with patience, and says what became of them.

use super::chain;
use super::job::{AdmitJob, Answer, Born, Said, TrainingJob, Why};
use super::limits::Limits;
use crate::admission::AdmissionReport;
use crate::core::effect::TrainJob;
use crate::core::event::Trained;
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    admissions: Arc<Semaphore>,
    runs: Runs,
}

/// Training runs under way, by number.
type Runs = Arc<Mutex<BTreeMap<u64, Running>>>;

#[derive(Debug)]
struct Running {
    /// While it is there, the run goes on.
    job: PathBuf,
    said: Option<Said>,
}

fn locked(runs: &Runs) -> MutexGuard<'_, BTreeMap<u64, Running>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner) // whatever is there is whole
}

/// Takes a run off the list, also when its future is dropped.
#[derive(Debug)]
struct Listed(Runs, u64);

impl Drop for Listed {
    fn drop(&mut self) {
        locked(&self.0).remove(&self.1);
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
        Ok(Self { program, prefix, state, admit, train, admissions, runs: Runs::default() })
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

    /// Trains a candidate into the vault. The error is why there is none, for people.
    ///
    /// Dropping the future ends the child.
    pub async fn train(&self, job: TrainJob) -> Result<Trained, String> {
        let job = TrainingJob::new(job, self.state.clone(), self.train);
        let (born, _) = self.child::<Born>("train", &job, self.train, Some(job.run)).await;
        let born = born.map_err(|cause| cause.to_string())?;
        let vault = Vault::join(&self.state);
        let read = tokio::task::spawn_blocking(move || vault.info(born.version));
        let candidate = read.await.map_err(|cause| chain(&cause))?.map_err(|cause| chain(&cause))?;
        Ok(Trained { candidate, evidence: born.evidence })
    }

    /// How far a training run is, as its child last said.
    #[must_use]
    pub fn progress(&self, run: u64) -> Option<Said> {
        locked(&self.runs).get(&run)?.said
    }

    /// Asks a training run to stop: it does so within a step, with a checkpoint written, and says where.
    pub fn stop(&self, run: u64) {
        let Some(job) = locked(&self.runs).get(&run).map(|running| running.job.clone()) else { return };
        if let Err(cause) = fs::remove_file(&job) {
            tracing::debug!(run, %cause, "the run was told to stop before");
        }
    }

    /// Runs a child to its end, listed where it is a training `run`; the text is the last of what it said on its error output.
    async fn child<T: DeserializeOwned>(
        &self,
        what: &'static str,
        job: &impl Serialize,
        limits: Limits,
        run: Option<u64>,
    ) -> (Result<T, ChildError>, String) {
        let ended = match self.start(what, job) {
            Ok((child, job)) => {
                let listed = run.map(|run| {
                    let running = Running { job: job.path().to_owned(), said: None };
                    locked(&self.runs).insert(run, running);
                    Listed(Arc::clone(&self.runs), run)
                });
                let on_said = |said| {
                    let mut runs = locked(&self.runs);
                    if let Some(running) = run.and_then(|run| runs.get_mut(&run)) {
                        running.said = Some(said);
                    }
                };
                let ended = tokio::time::timeout(limits.wall(), end(child, on_said)).await;
                drop(listed);
                drop(job);
                ended
            }
            Err(cause) => return (Err(cause), String::new()),
        };
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
async fn end(mut child: Child, on_said: impl FnMut(Said)) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
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
    let (status, answer, errors) = tokio::join!(child.wait(), answer, errors);
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
mod tests {
    use super::*;

    const SOON: Limits = Limits { wall_s: 20, ..Limits::ADMIT };

    /// A shell in the place of the agent: its arguments are those of a child, after the prefix.
    async fn shell(script: &str, admit: Limits) -> Result<AdmissionReport, String> {
        let state = tempfile::tempdir().unwrap();
        let program = (PathBuf::from("/bin/sh"), vec!["-c".into(), script.into(), "agent".into()]);
        let workers = Workers::new(program, state.path().to_owned(), admit, SOON).unwrap();
        let outcome = workers.attempt(Digest([1; 32])).await.outcome.map_err(|cause| cause.to_string());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "the job is gone");
        outcome
    }

    #[tokio::test]
    async fn a_childs_fate_is_named() {
        for (script, words) in [
            ("echo one >&2; echo two >&2; exit 3", vec!["exit code 3", "one | two"]),
            ("kill -9 $$", vec!["killed by signal 9 (out of memory?)"]),
            ("kill -XCPU $$", vec!["processor time"]),
            ("echo hello", vec!["gave no answer"]),
            (r#"echo '{"no":{"kind":"x","reason":"not today"}}'"#, vec!["not today"]),
            (
                r#"i=0; while [ $i -lt 3000 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 1"#,
                vec!["line 2999"],
            ),
        ] {
            let error = shell(script, SOON).await.unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)) && error.len() < 300, "{error}");
        }
    }

    #[tokio::test]
    async fn a_run_is_heard_of_and_told_to_stop() {
        let state = tempfile::tempdir().unwrap();
        // Says one step, and waits until its job is gone.
        let script = r#"echo '{"step":3,"steps":9,"loss":0.5}'; while [ -e "$3" ]; do sleep 0.01; done; echo '{"no":{"kind":"","reason":"paused at step 4 of 9"}}'"#;
        let program = (PathBuf::from("/bin/sh"), vec!["-c".into(), script.into(), "agent".into()]);
        let workers = Workers::new(program, state.path().to_owned(), SOON, SOON).unwrap();
        let job = TrainJob {
            run: 7,
            model: shoal_proto::id::ModelName::new("gas").unwrap(),
            parent: Digest([1; 32]),
            device: shoal_proto::id::DeviceId::new("press-07").unwrap(),
            number: 1,
            seed: 1,
            recipe: shoal_proto::manifest::Recipe::default(),
            holdout_share: 0.3,
        };
        let asked = async {
            while workers.progress(7).is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(workers.progress(7).unwrap(), Said { step: 3, steps: 9, loss: Some(0.5) });
            workers.stop(6); // nobody
            workers.stop(7);
        };
        let (ended, ()) = tokio::join!(workers.train(job), asked);
        assert_eq!(ended.unwrap_err(), "paused at step 4 of 9");
        assert_eq!(workers.progress(7), None, "over");
    }

    #[tokio::test]
    async fn a_child_gets_prefix_command_and_job() {
        let script = r#"[ "$1 $2" = "worker admit" ] && grep -q '"version":"0101' "$3" && [ "$RAYON_NUM_THREADS" = 1 ] && [ "$RUST_BACKTRACE" = 0 ] && echo '{"no":{"kind":"x","reason":"as expected"}}'"#;
        assert_eq!(shell(script, SOON).await.unwrap_err(), "as expected");
    }

    #[tokio::test]
    async fn a_child_that_hangs_is_ended() {
        let error = shell("exec sleep 600", Limits { wall_s: 1, ..SOON }).await.unwrap_err();
        assert!(error.contains("longer than 1 s"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named_and_old_jobs_are_cleaned() {
        let state = tempfile::tempdir().unwrap();
        fs::File::create(state.path().join(".job-old.json")).unwrap();
        let program = (PathBuf::from("/no/such/agent"), Vec::new());
        let workers = Workers::new(program, state.path().to_owned(), SOON, SOON).unwrap();
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        let error = workers.admit(Digest([1; 32])).await.unwrap_err();
        assert!(error.contains("/no/such/agent"), "{error}");
    }
}
