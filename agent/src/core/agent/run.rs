//! A training run that is under way, and one that is wanted: both on disk, so that they survive the process.

use super::super::budget::Hold;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::Trigger;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use std::time::Duration;

/// A run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) trigger: Trigger,
    pub(super) parent: Digest,
    /// How often the end of the process interrupted it.
    pub(super) resumes: u32,
    /// Whether it goes.
    #[serde(default)]
    pub(super) phase: Phase,
    /// Why its child was asked to stop; no answer yet.
    #[serde(default)]
    pub(super) stop: Option<Stop>,
    /// How long it went, without pauses, up to the last note.
    #[serde(default)]
    pub(super) used: Duration,
    /// Labels since the last run when it began: those that came later are for the next.
    #[serde(default)]
    pub(super) labels: u64,
    /// Whether drift and answers below the goal are known to it: what comes later is remembered.
    #[serde(default)]
    pub(super) knows: (bool, bool),
    /// When it began, by the device's clock.
    #[serde(default)]
    pub(super) started: Option<WallMs>,
}

/// Whether a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Its child trains.
    #[default]
    Going,
    /// Its child is there and rests.
    Resting,
    /// It has no child: it goes on from its last checkpoint.
    Parked,
}

/// Why a child was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stop {
    /// Somebody said so.
    Cancelled,
    /// It took longer than it may.
    OutOfTime,
    /// It rested for too long; the run is not over.
    Parked,
}

/// A run that waits until it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// The strongest of what wants it.
    pub(super) trigger: Trigger,
    /// What it was said to wait for; of this life.
    #[serde(skip)]
    pub(super) told: Option<Hold>,
}

/// Where a run that is under way is kept.
pub(super) fn run_key(name: &ModelName) -> String {
    format!("run/{name}")
}

/// Where a run that is wanted is kept.
pub(super) fn wanted_key(name: &ModelName) -> String {
    format!("wanted/{name}")
}
