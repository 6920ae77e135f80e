//! What was seen of one device so far.

use crate::sim::disk::DeviceDisk;
use shoal_agent::core::slot::Slot;
use shoal_proto::command::Report;
use shoal_proto::id::{Digest, Incarnation};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of one device so far.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Seen {
    /// Versions that an admission child took.
    pub(in crate::sim) admitted: BTreeSet<Digest>,
    /// Versions that the hub assigned.
    pub(super) assigned: BTreeSet<Digest>,
    /// Versions born here that passed the gate.
    pub(super) passed: BTreeSet<Digest>,
    /// Versions that an operator promoted or installed.
    pub(in crate::sim) promoted: BTreeSet<Digest>,
    /// Versions that may not serve, by the device's own word and by the hub's.
    pub(super) condemned: BTreeSet<Digest>,
    pub(super) banned: BTreeSet<Digest>,
    /// Sealed windows as they were first written.
    pub(super) windows: BTreeMap<String, Digest>,
    /// Runs that were started, and those that have a record.
    pub(super) runs: BTreeSet<(Option<Incarnation>, u64)>,
    pub(super) records: BTreeSet<String>,
    /// The last word about the command in each place.
    pub(super) reports: BTreeMap<String, Report>,
    /// The highest of the hub's wishes that was taken up, and that of a candidate.
    pub(super) generation: u64,
    pub(super) candidate_generation: u64,
    /// What was ever champion.
    pub(super) champions: BTreeSet<Digest>,
    /// A candidate that serves: which, how long it did in earlier lives, and since when in this one.
    pub(super) trial: Option<(Digest, u64, Option<u64>)>,
    /// No event has come since the process began.
    pub(super) is_booting: bool,
    /// A second board has a copy of its card.
    pub(in crate::sim) cloned: bool,
}

impl Seen {
    pub(in crate::sim) fn on_boot(&mut self, disk: &DeviceDisk) {
        self.is_booting = true;
        if let Some(slot) = disk.slot() {
            self.champions.insert(slot.champion);
        }
    }

    /// The process ended: nothing serves.
    pub(in crate::sim) fn on_end(&mut self, now: u64) {
        if let Some((_, served, since)) = &mut self.trial {
            *served += since.take().map_or(0, |since| now - since);
        }
    }

    pub(in crate::sim) fn on_swap(&mut self, version: Digest, now: u64) {
        match &mut self.trial {
            Some((trial, _, since)) if *trial == version => *since = Some(now),
            Some((_, served, since)) => *served += since.take().map_or(0, |since| now - since),
            None => {}
        }
    }

    /// How long the version on trial has served.
    pub(super) fn served(&self, now: u64) -> u64 {
        self.trial.map_or(0, |(_, served, since)| served + since.map_or(0, |since| now - since))
    }

    pub(super) fn begin_trial(&mut self, slot: &Slot) {
        let trial = slot.on_trial().map(|candidate| candidate.version);
        if self.trial.map(|(version, ..)| version) != trial {
            self.trial = trial.map(|version| (version, 0, None));
        }
    }

    /// A new database knows nothing, and windows and runs of the old are still numbered once.
    pub(in crate::sim) fn after_flash(before: &Self) -> Self {
        Self {
            windows: before.windows.clone(),
            records: before.records.clone(),
            runs: before.runs.clone(),
            champions: before.champions.clone(),
            cloned: before.cloned,
            ..Self::default()
        }
    }

    /// A snapshot of an earlier day: what was taken up since may be taken up again.
    pub(in crate::sim) fn after_restore(&mut self) {
        self.condemned.clear();
        self.banned.clear();
        self.reports.clear();
        (self.generation, self.candidate_generation) = (0, 0);
        self.trial = None;
    }

    /// The number after that of every run.
    pub(in crate::sim) fn next_run(&self) -> u64 {
        self.runs.iter().map(|(_, run)| run + 1).max().unwrap_or(0)
    }
}
