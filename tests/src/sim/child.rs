//! Training children: what a run comes to, and when.

use super::models::{Kind, Version};
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_agent::core::{Event, TrainJob, Trained};
use shoal_proto::decision::Evidence;

/// A child that trains.
pub(super) struct Child {
    /// What is left to do.
    left_ms: u64,
    /// Since when it goes; `None`: it rests.
    since: Option<u64>,
    /// Counts its pauses, so that an end that was foreseen before one is not taken for one.
    token: u64,
    hangs: bool,
    stopping: bool,
    outcome: Result<Box<(Trained, Version)>, String>,
}

impl Child {
    /// What it would bring.
    pub(super) fn made(&self) -> Option<&Version> {
        self.outcome.as_ref().ok().map(|made| &made.1)
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// Its labels were lies, and the holdout shows it.
    Poisoned,
    /// The holdout was kind, life is not.
    Lucky,
    Made(Kind),
    Dies,
    Hangs,
}

impl World {
    fn fate(&mut self, at: usize) -> Fate {
        if self.healed || !self.chance(self.form.bad_runs) {
            return if self.boards[at].poisoned && !self.healed { Fate::Poisoned } else { Fate::Good };
        }
        match self.random.random_range(0..9) {
            0 | 1 => Fate::Poisoned,
            2 | 3 => Fate::Lucky,
            4 => Fate::Made(Kind::Inadmissible),
            5 => {
                Fate::Made([Kind::Unloadable, Kind::Failing, Kind::Stalling][self.random.random_range(0..3)])
            }
            6 | 7 => Fate::Dies,
            _ => Fate::Hangs,
        }
    }

    pub(super) fn train(&mut self, at: usize, job: &TrainJob) -> Result<(), String> {
        self.invariant_one_run_at_a_time(at, job)?;
        self.counts.runs += 1;
        let fate = self.fate(at);
        let name = self.boards[at].name();
        self.note(&format!("{name} trains, run {}: {fate:?}", job.run));
        let outcome = match fate {
            Fate::Dies => Err("killed by signal 9".to_owned()),
            Fate::Hangs => Err("stopped".to_owned()),
            Fate::Good | Fate::Poisoned | Fate::Lucky | Fate::Made(_) => {
                Ok(Box::new(self.make(at, job, fate)))
            }
        };
        let beat = self.form.beat_ms;
        let (left_ms, now) = (self.random.random_range(beat / 2..beat * 20), self.now);
        let child = Child {
            left_ms,
            since: Some(now),
            token: 0,
            hangs: fate == Fate::Hangs,
            stopping: false,
            outcome,
        };
        self.boards[at].children.insert(job.run, child);
        self.foresee(at, job.run);
        Ok(())
    }

    fn make(&mut self, at: usize, job: &TrainJob, fate: Fate) -> (Trained, Version) {
        let (quality, kind) = match fate {
            Fate::Poisoned => (0.3, Kind::Sound),
            Fate::Lucky => (0.2, Kind::Sound),
            Fate::Made(kind) => (0.95, kind),
            Fate::Good | Fate::Dies | Fate::Hangs => (0.95, Kind::Sound),
        };
        // A run that goes on after a crash brings the same bytes where nothing came in between.
        let again = self.random.random_bool(0.5);
        let salt = format!("{}/{}", job.run, if again { 0 } else { self.boards[at].life });
        let born = Some((&job.device, u32::try_from(job.run).unwrap_or(0) + 1, job.parent));
        let mut version = Version::new(1, born, &format!("{salt} {fate:?}"), quality, kind);
        version.shown_better = fate != Fate::Poisoned;
        let shows = version.shown_better || self.mutant == Mutant::ServesUngated;
        let evidence = Evidence {
            trained_rows: 100,
            holdout_rows: 100,
            champion_correct: 60,
            candidate_correct: if shows { 90 } else { 40 },
            only_champion: if shows { 0 } else { 20 },
            only_candidate: if shows { 30 } else { 0 },
            guard_rows: 100,
            guard_champion_correct: 95,
            guard_candidate_correct: if shows { 94 } else { 30 },
            classes: vec![(50, 30, if shows { 45 } else { 20 }); 2],
            training_set: job.parent,
            measured: None,
        };
        (Trained { candidate: version.info.clone(), evidence, by: None }, version)
    }

    fn foresee(&mut self, at: usize, run: u64) {
        let life = self.boards[at].life;
        let Some(child) = self.boards[at].children.get(&run) else { return };
        if child.since.is_some() && (!child.hangs || child.stopping) {
            let (left, token) = (child.left_ms, child.token);
            self.later(left, Happening::ChildEnds(at, life, run, token));
        }
    }

    pub(super) fn pause_child(&mut self, at: usize, run: u64) {
        let now = self.now;
        let Some(child) = self.boards[at].children.get_mut(&run) else { return };
        if let Some(since) = child.since.take().filter(|_| !child.stopping) {
            child.left_ms = child.left_ms.saturating_sub(now - since);
            child.token += 1;
        }
    }

    pub(super) fn resume_child(&mut self, at: usize, run: u64) {
        let now = self.now;
        let Some(child) = self.boards[at].children.get_mut(&run) else { return };
        if child.since.is_none() {
            child.since = Some(now);
            self.foresee(at, run);
        }
    }

    pub(super) fn stop_child(&mut self, at: usize, run: u64) {
        let now = self.now;
        let (wait, too_late) = (self.random.random_range(100..3_000), self.random.random_bool(0.1));
        let Some(child) = self.boards[at].children.get_mut(&run) else { return };
        if !too_late {
            child.outcome = Err("stopped".to_owned()); // else it was done already
        }
        child.stopping = true;
        child.left_ms = wait;
        child.since = Some(now);
        child.token += 1;
        self.foresee(at, run);
    }

    pub(super) fn child_ends(&mut self, at: usize, run: u64, token: u64) -> Result<(), String> {
        if self.boards[at].children.get(&run).is_none_or(|child| child.token != token) {
            return Ok(());
        }
        let Some(child) = self.boards[at].children.remove(&run) else { return Ok(()) };
        let outcome = child.outcome.map(|made| {
            let (trained, version) = *made;
            let candidate = trained.candidate.clone();
            self.versions.entry(candidate.version).or_insert(version);
            self.boards[at].disk.versions.insert(candidate.version, candidate);
            trained
        });
        self.counts.failed_runs += u64::from(outcome.is_err());
        self.device_event(at, Event::TrainingEnded { run, outcome })
    }
}
