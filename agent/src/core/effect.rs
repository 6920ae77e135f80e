//! What a device can do.

use super::budget::Hold;
use shoal_proto::decision::{RollbackReason, RunRecord, ShadowSeen, SourceRules, Trigger};
use shoal_proto::fact::Artifact;
use shoal_proto::finding::Finding;
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::infer::{HealthOut, ModelOut};
use shoal_proto::manifest::Recipe;
use shoal_proto::topic::Up;

/// Everything a device can do. The shell runs them in order, and none before the `Persist` ahead of
/// it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to `state.db`, in one transaction.
    Persist(Vec<Record>),
    /// Send a frame to the hub on one of our `up` topics.
    Publish { topic: Up, frame: Vec<u8> },
    /// Tell applications which version serves (local topic, retained).
    Announce(ModelOut),
    /// Tell applications and metrics what a monitor found.
    TellFinding(Finding),
    /// Tell applications and metrics how well a model does (local topic, retained).
    TellHealth(HealthOut),
    /// Fetch an assigned package, verify it and put it on disk; comes back as `Fetched`.
    Fetch { model: ModelName, generation: u64, version: Digest, artifact: Artifact },
    /// Leave off fetching what was asked for under this generation; nothing comes back, or a late `Fetched`.
    StopFetch { model: ModelName, generation: u64 },
    /// Parse, optimise and run a version in a child; comes back as `Admitted`.
    Admit { version: Digest },
    /// Swap the server to a version; comes back as `Serving`.
    Serve { model: ModelName, version: Digest },
    /// Load a version beside the one that serves and give it the rows that come; comes back as `Shadowing`, then
    /// as `Shadowed` until it is ended.
    Shadow { model: ModelName, version: Digest },
    /// Give it no more rows, and let its memory go.
    EndShadow { model: ModelName, version: Digest },
    /// Train in a child; comes back as `TrainingEnded`.
    Train(TrainJob),
    /// Look at the sensors; comes back as `Conditions`.
    Sense,
    /// Let the child of a run rest where it is, until it is resumed or stopped.
    PauseTraining { run: u64 },
    /// Let it go on.
    ResumeTraining { run: u64 },
    /// Stop a run within a step, paused or not; comes back as its `TrainingEnded`.
    StopTraining { run: u64 },
    /// Do what a command of the hub's asks; comes back as `Remote`.
    Remote { place: u8, id: u64, task: RemoteTask },
    /// Delete a version that nothing refers to any more.
    Remove { version: Digest },
    /// Answer a command: what happens now, or why not.
    Reply { number: u64, outcome: Result<String, String> },
    /// For the log: a transition, said once.
    Note(Note),
}

/// What a command of the hub's asks of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteTask {
    /// Ask applications for labels of the rows that would teach most.
    Labels { model: ModelName, rows: u32 },
    /// The newest lines of the log.
    Log { lines: u32 },
}

/// What is written to `state.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Log, document and cursors of the link.
    Link(shoal_proto::sync::Record),
    /// A named piece of the core's own memory, CBOR.
    Memory { key: String, value: Vec<u8> },
}

/// A training run for the child.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainJob {
    /// The run's number on this device.
    pub run: u64,
    /// Which model.
    pub model: ModelName,
    /// The version to train from, which is also the champion that is compared with.
    pub parent: Digest,
    /// Who trains, for the lineage.
    pub device: DeviceId,
    /// The candidate's number among those born here.
    pub number: u32,
    /// Seed of the run.
    pub seed: u64,
    /// How.
    pub recipe: Recipe,
    /// Share of the newest labelled rows that are never trained on.
    pub holdout_share: f64,
    /// What labels count for, by their source.
    pub sources: SourceRules,
}

/// A transition, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A window closed with findings of this level or above `Stable`.
    Found(Finding),
    /// A run began.
    RunStarted { run: u64, model: ModelName, trigger: Trigger },
    /// A run is wanted, and waits.
    RunWaits { model: ModelName, trigger: Trigger, hold: Hold },
    /// A run rests.
    RunPaused { run: u64, model: ModelName, hold: Hold },
    /// It goes on.
    RunResumed { run: u64, model: ModelName },
    /// It rested for so long that its child was stopped; it goes on from its last checkpoint.
    RunParked { run: u64, model: ModelName },
    /// A run ended.
    RunEnded(RunRecord),
    /// A candidate is being fetched and admitted.
    Staged { model: ModelName, version: Digest },
    /// A candidate answers live rows unheard.
    InShadow { model: ModelName, version: Digest },
    /// It has shown enough there, or its time is over.
    ShadowOver { model: ModelName, version: Digest, seen: ShadowSeen },
    /// A candidate serves and is judged.
    OnTrial { model: ModelName, version: Digest },
    /// A candidate is the champion.
    Confirmed { model: ModelName, version: Digest },
    /// A candidate served and was taken back.
    RolledBack { model: ModelName, version: Digest, reason: RollbackReason },
    /// A candidate never served.
    Rejected { model: ModelName, version: Digest, reason: String },
    /// A version that should serve cannot be loaded: a person must look.
    CannotServe { model: ModelName, version: Digest, reason: String },
    /// Something from outside that should not be.
    Alarm { reason: String },
}
