//! Rollouts: moving one version of one model through the fleet as desired state.
//!
//! The only act of a rollout is an [`Assignment`](shoal_proto::fact::Assignment) in a device's document;
//! what becomes of it is read out of the device's own slot report. What is decided is in [`plan`], the
//! state of one device in [`state`].

pub mod plan;
pub mod state;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Digest, ModelName, RolloutId};
use shoal_proto::time::{Mono, WallMs};
use std::collections::BTreeMap;
use std::time::Duration;

pub use plan::{Plan, Sight, Step, Tally, Waiting, plan};
pub use state::{DeviceState, Seen};

/// What an operator asks for; thresholds carry the names of AWS IoT Jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutWish {
    /// Which model.
    pub model: ModelName,
    /// Digest, a prefix of it, or a name such as `gas@4`.
    pub version: String,
    /// How.
    #[serde(default)]
    pub strategy: Strategy,
    /// Tags that a device must have; empty takes every device with a slot for the model.
    #[serde(default, rename = "where")]
    pub selector: BTreeMap<String, String>,
}

/// How a rollout moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// Devices of the first wave.
    pub canary: u32,
    /// How long a wave that did well is watched before the next starts, in seconds.
    pub soak_s: u64,
    /// After which a wave's reachable devices have given too little evidence, in seconds.
    pub deadline_s: u64,
    /// Share of a wave's judged devices that must succeed, in per cent.
    pub success_percentage: f64,
    /// When to stop.
    pub abort: AbortThreshold,
    /// How each device judges the version.
    pub trial: TrialPolicy,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            canary: 1,
            soak_s: 600,
            deadline_s: 86_400,
            success_percentage: 90.0,
            abort: AbortThreshold::default(),
            trial: TrialPolicy::default(),
        }
    }
}

/// When failures stop a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AbortThreshold {
    /// Failed and rejected devices among those with a verdict, in per cent.
    pub threshold_percentage: f64,
    /// Devices with a verdict below which nothing is stopped.
    pub min_number_of_executed_things: u32,
}

impl Default for AbortThreshold {
    fn default() -> Self {
        Self { threshold_percentage: 20.0, min_number_of_executed_things: 1 }
    }
}

/// What becomes of the devices when a rollout is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortMode {
    /// They keep what they were assigned; nobody else gets it.
    Keep,
    /// They get back what they had.
    Revert,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It moves, or waits for something.
    Running,
    /// Every wave did well.
    Succeeded,
    /// It stopped itself.
    Stopped(StopReason),
    /// A person ended it.
    Aborted(AbortMode),
}

impl Phase {
    /// One word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Stopped(_) => "stopped",
            Self::Aborted(_) => "aborted",
        }
    }

    /// Whether devices go back when this phase begins.
    #[must_use]
    pub const fn reverts(&self) -> bool {
        match self {
            Self::Running | Self::Succeeded | Self::Stopped(StopReason::TooLittleEvidence { .. }) => false,
            Self::Stopped(_) => true,
            Self::Aborted(mode) => matches!(mode, AbortMode::Revert),
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::Aborted(AbortMode::Keep) => f.write_str("aborted, devices keep the version"),
            Self::Aborted(AbortMode::Revert) => f.write_str("aborted, devices go back"),
            Self::Running | Self::Succeeded => f.write_str(self.word()),
        }
    }
}

/// Why a rollout stopped itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Too many failed.
    #[error("{failed} of {executed} devices failed or rejected it, the limit is {threshold_percentage} %")]
    TooManyFailures { failed: u64, executed: u64, threshold_percentage: f64 },
    /// A wave ended below what it had to reach.
    #[error("wave {wave}: {succeeded} of {judged} devices succeeded, {success_percentage} % were to")]
    TooFewSuccesses { wave: u32, succeeded: u64, judged: u64, success_percentage: f64 },
    /// The last wave's deadline passed without enough verdicts; devices keep what they have.
    #[error("deadline passed with {succeeded} of {judged} devices confirmed: not enough evidence")]
    TooLittleEvidence { succeeded: u64, judged: u64 },
    /// The version was condemned meanwhile.
    #[error("version was condemned: {reason}")]
    Condemned { reason: String },
}

/// Time that passes only while the hub runs, so that an outage of ours burns no device's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopwatch {
    before: Duration,
    #[serde(skip)]
    since: Mono,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub const fn start(now: Mono) -> Self {
        Self { before: Duration::ZERO, since: now }
    }

    /// What has passed.
    #[must_use]
    pub fn elapsed(&self, now: Mono) -> Duration {
        self.before.saturating_add(now.since(self.since))
    }

    /// What is written to disk of it.
    #[must_use]
    pub const fn written(&self) -> Duration {
        self.before
    }

    /// Puts what has passed into the part that is written to disk.
    pub fn settle(&mut self, now: Mono) {
        *self = Self { before: self.elapsed(now), since: now };
    }
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// From 0, the canary.
    pub wave: u32,
    /// What was written into its document.
    pub assigned: Option<Assigned>,
    /// The generation that sent it back.
    pub reverted: Option<u64>,
    /// Its verdict, once it came: the device may go on to other things.
    pub verdict: Option<Seen>,
}

/// What a rollout wrote into a device's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Under which generation.
    pub generation: u64,
    /// What served there before.
    pub before: Option<Digest>,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Which.
    pub id: RolloutId,
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Digest,
    /// Its name, for people.
    pub name: String,
    /// How.
    pub strategy: Strategy,
    /// For whom.
    pub selector: BTreeMap<String, String>,
    /// When it was asked for.
    pub created: WallMs,
    /// When it ended.
    pub ended: Option<WallMs>,
    /// Where it stands.
    pub phase: Phase,
    /// The wave that is under way.
    pub wave: u32,
    /// Since that wave began.
    pub running: Stopwatch,
    /// Since that wave did well.
    pub soaking: Option<Stopwatch>,
    /// The devices, fixed when it was created.
    pub members: BTreeMap<DeviceId, Member>,
}

impl Rollout {
    /// Whether it still moves.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }
}
