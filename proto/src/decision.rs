//! Verdicts and their evidence: the same value is logged, reported to the hub, shown and asserted on.

mod rows;
mod search;
mod shadow;

pub use rows::{
    MAX_SOURCE_RULES, MAX_TOLD_SOURCES, RowsRecord, SetApart, SourceRows, SourceRule, SourceRules,
};
pub use search::{OUT_OF_BOUNDS, Searched, Tried};
pub use shadow::ShadowSeen;

use crate::id::{DeviceId, Digest, ModelName, RolloutId};
use crate::manifest::Recipe;
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What started a training run, the weakest first: of several that come while none may start, the strongest
/// is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The last run was so long ago, in time that the agent was running.
    Schedule,
    /// So many labels since the last run.
    Labels,
    /// A drift finding and enough labels.
    Drift,
    /// Labelled accuracy below the goal.
    Performance,
    /// A base of the hub's took the place of a version born here: what was learned is learned again on it.
    Base,
    /// A person or a program asked.
    Command,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "schedule",
            Self::Labels => "labels",
            Self::Drift => "drift",
            Self::Performance => "performance",
            Self::Base => "new base",
            Self::Command => "command",
        })
    }
}

/// What a run may use only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Time of the run by the clock, without pauses.
    WallSeconds,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WallSeconds => "seconds of time",
        })
    }
}

/// What a gate measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Rows trained on.
    pub trained_rows: u64,
    /// Holdout rows, later in time than those trained on, never trained on.
    pub holdout_rows: u64,
    /// The champion's right answers on the holdout.
    pub champion_correct: u64,
    /// The candidate's right answers on the holdout.
    pub candidate_correct: u64,
    /// Rows that only the champion got right.
    pub only_champion: u64,
    /// Rows that only the candidate got right.
    pub only_candidate: u64,
    /// Guard rows.
    pub guard_rows: u64,
    /// The champion's right answers on the guard set.
    pub guard_champion_correct: u64,
    /// The candidate's right answers on the guard set.
    pub guard_candidate_correct: u64,
    /// For each class: holdout rows, right by the champion, right by the candidate.
    pub classes: Vec<(u64, u64, u64)>,
    /// Digest over the ids and bytes of the training rows.
    pub training_set: Digest,
    /// What was measured beside right and wrong; absent in records of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Box<Measured>>,
}

/// What a gate measured beside right and wrong, of champion and candidate on the same rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// For each class: holdout rows that only the champion, and that only the candidate got right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_pairs: Vec<(u64, u64)>,
    /// The parts of named groups that a row's features tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartEvidence>,
    /// Of a classifier: how well its probabilities foretold the holdout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<LogLoss>,
    /// Of a regression: how far off its answers to the holdout were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorEvidence>,
    /// Median time of one row in microseconds, the champion's and the candidate's, taken by turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_us: Option<(f64, f64)>,
    /// Bytes of both models.
    #[serde(default)]
    pub model_bytes: (u64, u64),
    /// How far the trained weights went, as a multiple of the length of those of the same layers in the parent;
    /// absent where no weights were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Of a classifier: held-out rows to which the two name different classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing: Option<u64>,
}

/// Right answers to the held-out rows of one class or one part of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartEvidence {
    /// For people: `site = north`.
    pub name: String,
    /// Holdout rows.
    pub rows: u64,
    /// Right by the champion.
    pub champion: u64,
    /// Right by the champion only.
    pub only_champion: u64,
    /// Right by the candidate only.
    pub only_candidate: u64,
}

/// Mean log-loss on the holdout, in nats, of probabilities that are no less than one in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogLoss {
    /// The champion's.
    pub champion: f64,
    /// The candidate's.
    pub candidate: f64,
    /// Standard deviation of the difference of a row.
    pub deviation: f64,
}

/// Errors of a regression on the holdout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorEvidence {
    /// The champion's root mean squared error.
    pub champion_rmse: f64,
    /// The candidate's.
    pub candidate_rmse: f64,
    /// Wilcoxon's signed-rank statistic of the absolute errors in standard errors; above nought where the candidate
    /// is nearer to the truth.
    pub z: f64,
}

/// Why a candidate may not serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// A "no" for want of labels.
    #[error("too little evidence: {holdout} labelled holdout rows, {needed} needed{}", decided_by(*.more_labels))]
    TooLittleEvidence {
        holdout: u64,
        needed: u64,
        /// Labels beyond those there are with which a gain such as the one seen would be shown four times in five;
        /// absent where there is none, or no number of labels is of use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        more_labels: Option<u64>,
    },
    /// The paired test does not show it to be better.
    #[error(
        "not better than the champion on the holdout: {candidate:.3} against {champion:.3} (p = {p:.3}, needed < {significance}){}",
        decided_by(*.more_labels)
    )]
    NotBetter {
        champion: f64,
        candidate: f64,
        p: f64,
        significance: f64,
        /// As in [`Rejection::TooLittleEvidence`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        more_labels: Option<u64>,
    },
    /// The paired test does not show a regression's answers to be nearer to the truth, or its large errors grew.
    #[error(
        "not nearer to the truth than the champion on the holdout: root mean squared error {candidate:.4} against \
         {champion:.4} (p = {p:.3}, needed < {significance}){}",
        decided_by(*.more_labels)
    )]
    NotNearer {
        champion: f64,
        candidate: f64,
        p: f64,
        significance: f64,
        /// As in [`Rejection::TooLittleEvidence`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        more_labels: Option<u64>,
    },
    /// Labels that no version can follow.
    #[error("right on {candidate:.3} of the holdout, {floor:.3} is the least: are the labels true?")]
    BelowFloor { candidate: f64, floor: f64 },
    /// It forgot what must not be forgotten.
    #[error("guard set accuracy falls from {champion:.3} to {candidate:.3}, {allowed:.3} may be lost")]
    GuardRegressed { champion: f64, candidate: f64, allowed: f64 },
    /// One class pays for the others.
    #[error("recall of class `{class}` falls from {champion:.3} to {candidate:.3}, {allowed:.3} may be lost")]
    ClassCollapsed { class: String, champion: f64, candidate: f64, allowed: f64 },
    /// One group pays for the others.
    #[error("accuracy where {group} falls from {champion:.3} to {candidate:.3}, {allowed:.3} may be lost")]
    GroupCollapsed { group: String, champion: f64, candidate: f64, allowed: f64 },
    /// Its confidence promises more than it keeps.
    #[error("log-loss on the holdout rises from {champion:.3} to {candidate:.3}, by {allowed:.3} it may")]
    WorseCalibrated { champion: f64, candidate: f64, allowed: f64 },
    /// A row takes too long.
    #[error("a row takes {candidate_us:.0} µs, the champion's {champion_us:.0}, {allowed_us:.0} are allowed")]
    TooSlow { champion_us: f64, candidate_us: f64, allowed_us: f64 },
    /// Training made a much larger model.
    #[error("the model has {candidate_bytes} bytes, the champion's {champion_bytes}")]
    TooLarge { champion_bytes: u64, candidate_bytes: u64 },
    /// The run went out of bounds.
    #[error("weights went {distance:.2} times their own length from the parent's, {allowed} are allowed")]
    TooFar { distance: f64, allowed: f64 },
    /// It failed on live input, where nobody heard it.
    #[error("in the shadow of the served version {failures} of {rows} rows failed")]
    FailsInShadow { failures: u64, rows: u64 },
    /// A call of it did not end.
    #[error("in the shadow of the served version a call of it did not end")]
    StallsInShadow,
    /// Its answers to live input are others than a policy allows.
    #[error("in the shadow of the served version {share:.3} of {rows} answers differed, {allowed} may")]
    DiffersInShadow { share: f64, rows: u64, allowed: f64 },
    /// Labels of live rows speak for the version that serves.
    #[error(
        "in the shadow of the served version {only_served} labels were for the served answer alone and \
         {only_shadow} for its own (e-value {e:.0}, limit {limit:.0})"
    )]
    WorseInShadow { only_served: u64, only_shadow: u64, e: f64, limit: f64 },
    /// None of the recipes that were tried is worth a whole run.
    #[error(
        "none of {tried} recipes learned anything: on the {rows} newest training rows the best has a loss of {best:.4}, the parent {parent:.4}"
    )]
    NothingBetter { tried: u64, rows: u64, parent: f64, best: f64 },
    /// Training did not end with a model.
    #[error("training failed: {reason}")]
    TrainingFailed { reason: String },
    /// The model is not one that may be served.
    #[error("not admitted: {reason}")]
    NotAdmitted { reason: String },
    /// The package could not be had or was not what was promised.
    #[error("package refused: {reason}")]
    PackageRefused { reason: String },
    /// It was rolled back before, here or by the hub's word.
    #[error("version is condemned: {reason}")]
    Condemned { reason: String },
    /// Its input schema is not the one the applications speak.
    #[error("schema differs from the served model's: {reason}")]
    SchemaMismatch { reason: String },
    /// The run took more than it may.
    #[error("out of budget: the run took {used} {what}, {limit} are allowed")]
    OutOfBudget { what: Resource, limit: u64, used: u64 },
    /// A person or a program stopped the run: nothing is said about what would have come out.
    #[error("cancelled by command")]
    Cancelled,
}

/// What would turn a "no" for want of evidence into a word, for people.
fn decided_by(more_labels: Option<u64>) -> String {
    more_labels.map_or_else(String::new, |labels| format!(": about {labels} more labels would decide"))
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may go on trial.
    Accept,
    /// It may not.
    Reject(Rejection),
}

/// Why a version on trial was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RollbackReason {
    /// Its answers were wrong too often.
    #[error(
        "labelled accuracy {trial:.3} over {labels} labels, {before:.3} before (z = {z:.2}, limit {limit}{})",
        .e.map_or_else(String::new, |e| format!(", e-value {e:.0}"))
    )]
    WorseOnLabels {
        before: f64,
        trial: f64,
        labels: u64,
        /// One-sided normal quantile of the evidence: of `1 / e` where an e-value is told.
        z: f64,
        limit: f64,
        /// The e-value of the sequential test; absent in records of older builds, which took `z` of two shares.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        e: Option<f64>,
    },
    /// It failed to answer.
    #[error("{failures} of {requests} requests failed")]
    Failures { failures: u64, requests: u64 },
    /// A person said so.
    #[error("rolled back by command")]
    Command,
    /// The hub said so.
    #[error("rolled back by the hub")]
    Hub,
}

/// One training run, as the device's experiment record and as the hub sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Numbered on the device.
    pub run: u64,
    /// Which model.
    pub model: ModelName,
    /// What started it.
    pub trigger: Trigger,
    /// The version trained from.
    pub parent: Digest,
    /// The version that came out, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Digest>,
    /// What was measured, where it came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The gate's answer.
    pub verdict: Verdict,
    /// When it ended, by the device's clock.
    pub at: WallMs,
    /// What it was made with; absent in records of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Box<Made>>,
}

/// What a run was made with: enough to make its version again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The ancestor that no device made.
    pub base: Digest,
    /// Who trained.
    pub device: DeviceId,
    /// The candidate's number among those born there.
    pub number: u32,
    /// Seed of the run.
    pub seed: u64,
    /// How it was trained.
    pub recipe: Recipe,
    /// Share of the newest rows that were held out.
    pub holdout_share: f64,
    /// What labels counted for, by their source.
    #[serde(default, skip_serializing_if = "SourceRules::are_usual")]
    pub sources: SourceRules,
    /// Which rows it was given, where it came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Box<RowsRecord>>,
    /// Which recipes were tried before; then `recipe` is the one that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Box<Searched>>,
    /// When it began, by the device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<WallMs>,
    /// What the child that ended it had, where it came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<MadeBy>,
}

/// The process that trained a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The agent's version.
    pub agent: String,
    /// What it was compiled for: processor, system, and how far optimised.
    pub target: String,
    /// What the linker signed the program with; empty where it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// What of the processor changes the order in which numbers are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<String>,
    /// Memory that it was allowed, which decides how a session is laid out.
    pub memory_bytes: u64,
    /// Processor time of the last child of the run, in milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
}

/// Who wants a candidate to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The hub.
    Hub {
        /// Its intent.
        generation: u64,
        /// The rollout it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<RolloutId>,
    },
    /// It was trained here.
    Born {
        /// The run.
        run: u64,
    },
    /// The operator of the device.
    Local,
}

/// Where a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Being fetched, verified and admitted.
    Staged,
    /// It answers live rows beside the version that serves, and nobody hears it.
    Shadow,
    /// Serving, and judged.
    OnTrial,
}

/// How a candidate ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotEnd {
    /// It is the champion.
    Confirmed,
    /// It served and was taken back.
    RolledBack(RollbackReason),
    /// It never served.
    Rejected(Rejection),
}
