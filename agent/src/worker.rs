//! The children that parse and train models, and their parent's side.
//!
//! A model from elsewhere may panic, hang or eat all memory in the engine, and training may do so on any
//! model: both happen in a child with limits, and whatever becomes of it, the parent gets a sentence.
//! A job goes in as a file, the answer comes out as one line of JSON; versions stay in the vault.

mod admit;
mod answer;
mod build;
mod choice;
mod compare;
mod conduct;
mod confine;
mod golden;
mod inputs;
mod job;
mod leaves;
mod limits;
mod outside;
mod parent;
mod recipe;
mod replay;
mod resume;
mod samples;
mod search;
mod train;

pub use admit::AdmitError;
pub use golden::{Golden, GoldenError};
pub use job::{AdmitJob, Answer, Born, Memory, Replayed, Said, Spent, TrainingJob, Why};
pub use limits::Limits;
pub use parent::{Attempt, ChildError, Workers, WorkersError};
pub use recipe::By;
pub use resume::Pace;
pub use samples::RowGone;
pub use train::TrainError;

pub(crate) use confine::resident_bytes;

use crate::admission::AdmissionReport;
use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_proto::manifest::Recipe;
use shoal_proto::package::Package;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A job file larger than this is none.
const MAX_JOB_BYTES: u64 = 1024 * 1024;

/// What a child is started for.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkerArgs {
    /// Parse, optimise and run a version before it may be served.
    Admit {
        /// The job.
        job: PathBuf,
    },
    /// Train a version on this device's labelled rows.
    Train {
        /// The job.
        job: PathBuf,
    },
}

/// A child that could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The job file.
    #[error("failed to read job `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not a job.
    #[error("`{path}` is no job")]
    Job {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The limits.
    #[error("failed to limit {what}")]
    Limit {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// The answer could not be given.
    #[error("failed to write the answer")]
    Answer(#[source] io::Error),
}

/// Runs in the child: does the job and writes the answer to standard output. "No" is an answer, and no
/// error.
pub fn run(args: &WorkerArgs) -> Result<(), WorkerError> {
    match args {
        WorkerArgs::Admit { job } => {
            confine::bind_to_parent()?;
            let job: AdmitJob = read(job)?;
            job.limits.apply_but_memory()?;
            say(&admit::answer(&job)?)
        }
        WorkerArgs::Train { job } => {
            let path = job;
            let job: TrainingJob = read(path)?;
            let meter = outside::Meter::open();
            confine::bind_to_parent()?;
            job.limits.apply()?;
            limits::step_back()?;
            let mut parent = outside::Parent::new(path, job.pace, meter);
            match job.replay {
                None => say(&Answer::of(train::run(&job, &mut parent))),
                Some(version) => say(&Answer::of(replay::run(&job, version, &mut parent))),
            }
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, WorkerError> {
    let fail = |source| WorkerError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > MAX_JOB_BYTES {
        let reason = format!("it has {size} bytes, {MAX_JOB_BYTES} are the most");
        return Err(fail(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    let bytes = fs::read(path).map_err(fail)?;
    serde_json::from_slice(&bytes).map_err(|source| WorkerError::Job { path: path.to_owned(), source })
}

fn say<T: Serialize>(answer: &Answer<T>) -> Result<(), WorkerError> {
    let mut line = serde_json::to_vec(answer).map_err(|cause| WorkerError::Answer(cause.into()))?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(WorkerError::Answer)
}

/// Trains in this process, as a child would, with nobody who could stop it: for tools. Limits of memory are
/// planned with and not enforced.
///
/// # Errors
/// The reason why there is no candidate.
pub(crate) fn train_here(job: &TrainingJob) -> Result<Born, TrainError> {
    train::run(job, &mut outside::Nobody)
}

/// Admits in this process, as a child would, without its walls: for tools.
///
/// # Errors
/// The reason why the version may not be served.
pub(crate) fn admit_here(package: &Package) -> Result<AdmissionReport, AdmitError> {
    admit::admit_package(package, 0)
}

/// Says by which way a file is retrained with a recipe, as far as it can be told without rows.
///
/// # Errors
/// The [`TrainError`] that a run would end in; what stands against gradients is told by an inspection.
pub fn check_recipe(recipe: &Recipe, onnx: &[u8]) -> Result<By, TrainError> {
    recipe::check(recipe, onnx)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod input_tests;
#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree_tests;
