//! What passes between a parent and its children, as JSON.

use super::chain;
use super::limits::Limits;
use super::resume::Pace;
use super::train::TrainError;
use crate::core::effect::TrainJob;
use crate::core::event::{How, Untrained};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{Evidence, MadeBy, RowsRecord, Searched, SourceRules};
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::manifest::Recipe;
use std::path::PathBuf;

/// Whether a version may be parsed by the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmitJob {
    /// The state folder, with the version in its vault.
    pub state: PathBuf,
    /// Which version.
    pub version: Digest,
    /// The child's limits.
    pub limits: Limits,
}

/// A training run: [`TrainJob`] of the core, and where things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingJob {
    /// The state folder, with vault, samples and key.
    pub state: PathBuf,
    /// The run's number on this device.
    pub run: u64,
    /// Which model.
    pub model: ModelName,
    /// The version to train from, which is also the champion.
    pub parent: Digest,
    /// Who trains.
    pub device: DeviceId,
    /// The candidate's number among those born here.
    pub number: u32,
    /// Seed of the run.
    pub seed: u64,
    /// How.
    pub recipe: Recipe,
    /// Share of the newest rows that are never trained on.
    pub holdout_share: f64,
    /// What labels count for, by their source.
    #[serde(default)]
    pub sources: SourceRules,
    /// The child's limits.
    pub limits: Limits,
    /// When it writes checkpoints.
    #[serde(default)]
    pub pace: Pace,
    /// The version that the job made before, where it is to be made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Digest>,
}

impl TrainingJob {
    /// The core's job, for a child.
    #[must_use]
    pub fn new(job: TrainJob, state: PathBuf, limits: Limits) -> Self {
        let TrainJob { run, model, parent, device, number, seed, recipe, holdout_share, sources } = job;
        let (pace, replay) = (Pace::USUAL, None);
        Self {
            state,
            run,
            model,
            parent,
            device,
            number,
            seed,
            recipe,
            holdout_share,
            sources,
            limits,
            pace,
            replay,
        }
    }
}

/// What a training run brought: the candidate is in the vault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Born {
    /// The candidate.
    pub version: Digest,
    /// What was measured.
    pub evidence: Evidence,
    /// What the run took.
    #[serde(default)]
    pub memory: Memory,
    /// What its last child took.
    #[serde(default)]
    pub spent: Spent,
    /// Who that was.
    #[serde(default)]
    pub by: Option<MadeBy>,
    /// Which rows it was given.
    #[serde(default)]
    pub rows: RowsRecord,
    /// Which recipes were tried, and the one that was chosen.
    #[serde(default)]
    pub search: Option<(Searched, Recipe)>,
}

impl Born {
    /// How the run went about it.
    pub(crate) fn how(self) -> How {
        let (search, recipe) = self.search.unzip();
        How { by: self.by, rows: Some(Box::new(self.rows)), search: search.map(Box::new), recipe }
    }
}

/// What became of a version that was made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// What came out.
    pub version: Digest,
    /// Whether all bytes are the same.
    pub is_equal: bool,
    /// Files of the package that are not.
    pub differ: Vec<String>,
    /// Who made it this time.
    pub by: MadeBy,
}

/// What a training child has taken so far; zero where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Bytes that went to the disk: checkpoints, rows that were pinned, the candidate.
    pub written_bytes: u64,
}

/// Memory of a training run, in bytes; zero where `/proc` is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident before training began: the program, the parent, rows that are replayed.
    pub base_bytes: u64,
    /// What training said that it would take.
    pub planned_bytes: u64,
    /// Most that was resident until training ended.
    pub peak_bytes: u64,
}

/// How far a training run is: a line of its output, before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Steps made.
    pub step: u64,
    /// Steps to make, unless it stops early.
    pub steps: u64,
    /// Loss of the step's rows before it; none where nothing is done by gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// What it took.
    #[serde(default)]
    pub spent: Spent,
}

impl Said {
    /// So far; what it took is added where it is said.
    pub(super) fn at(step: u64, steps: u64, loss: Option<f64>) -> Self {
        Self { step, steps, loss, spent: Spent::default() }
    }
}

/// A child's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// Done.
    Yes(T),
    /// Not done, and why.
    No(Why),
}

/// Why a child did not do its job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// A word for programs.
    pub kind: String,
    /// An error with its causes.
    pub reason: String,
    /// Most memory of the child, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Of a training run: which rows it was given, and which recipes were tried, of which none was better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Box<(RowsRecord, Searched)>>,
}

impl Why {
    /// For the core, with a reason that may say more.
    pub(crate) fn untrained(self, reason: String) -> Untrained {
        let (rows, search) = self.search.map(|both| *both).unzip();
        let how = How { rows: rows.map(Box::new), search: search.map(Box::new), ..How::default() };
        Untrained { reason, how: Box::new(how) }
    }
}

impl From<TrainError> for Why {
    fn from(cause: TrainError) -> Self {
        let reason = chain(&cause);
        let search = match cause {
            TrainError::NothingBetter { rows, search, .. } => Some(Box::new((*rows, *search))),
            _ => None,
        };
        Self { kind: String::new(), reason, peak_bytes: None, search }
    }
}

impl<T> Answer<T> {
    pub(super) fn of(outcome: Result<T, TrainError>) -> Self {
        match outcome {
            Ok(done) => Self::Yes(done),
            Err(cause) => Self::No(cause.into()),
        }
    }
}
