//! Runs and the device: none goes while it is too hot, too empty, too full, too slow or too early.
//!
//! While a run is wanted or under way, the sensors are looked at every few seconds. What they say holds all
//! runs of the device or none. A run that is held rests where it is; its child keeps its memory for an hour,
//! and is then stopped: the run goes on later, as the same job, from its last checkpoint.

use super::super::budget::{Conditions, Hold, Written};
use super::super::effect::{Effect, Note};
use super::run::{Phase, Run, Stop, run_key};
use super::{Agent, Model, Turn};
use shoal_proto::id::ModelName;
use shoal_proto::time::{Mono, Now};
use std::time::Duration;

/// From one look at the sensors to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What the sensors said longer ago says nothing.
const FRESH: Duration = Duration::from_secs(30);
/// A run rests at least so long: what holds it may be its own doing, and come back with it.
const LEAST_REST: Duration = Duration::from_secs(30);
/// A run that rests for longer gives its memory back.
const MOST_REST: Duration = Duration::from_secs(3_600);

/// What is known of the device, and what runs have cost it.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// What held runs when the sensors were last looked at.
    hold: Option<Hold>,
    /// When that was.
    looked: Option<Mono>,
    /// When they are asked next.
    look_at: Mono,
    /// Whether they are of interest.
    looks: bool,
    written: Written,
    /// As it is on disk.
    stored: Written,
    /// Up to when the day's allowance is taken off.
    worn_at: Mono,
    /// What the children of this life were said to have written.
    children_wrote: u64,
}

impl Pacing {
    pub(super) fn new(written: Option<Written>) -> Self {
        let written = written.unwrap_or_default();
        Self { written, stored: written, ..Self::default() }
    }
}

impl Model {
    /// How long its run has gone, without pauses.
    pub(super) fn run_took(&self, run: &Run, now: Mono) -> Duration {
        let more = if run.phase == Phase::Going { now.since(self.run_since) } else { Duration::ZERO };
        run.used + more
    }
}

impl Agent {
    pub(super) fn on_conditions(&mut self, now: Now, seen: &Conditions) {
        let (pacing, budget) = (&mut self.pacing, &self.policy.budget);
        let added = seen.written_bytes.saturating_sub(pacing.children_wrote);
        pacing.children_wrote = seen.written_bytes;
        pacing.written.pass(added, now.mono.since(pacing.worn_at), budget.written_a_day);
        pacing.worn_at = now.mono;
        pacing.hold = budget.hold(now, seen, pacing.written.bytes, pacing.hold);
        pacing.looked = Some(now.mono);
    }

    /// What holds runs now.
    pub(super) fn held(&self, now: Now) -> Option<Hold> {
        if !self.policy.budget.looks() {
            return None;
        }
        match self.pacing.looked {
            Some(looked) if now.mono.since(looked) <= FRESH => self.pacing.hold,
            _ => Some(Hold::Sensors),
        }
    }

    /// Lets runs begin, rest, go on or end, as the device allows.
    pub(super) fn pace(&mut self, now: Now, names: &[ModelName], turn: &mut Turn) {
        let mut looks = false;
        for name in names {
            self.pace_run(now, name, turn);
            self.pace_wanted(now, name, turn);
            let model = self.models.get(name);
            looks |= model.is_some_and(|model| match model.run {
                Some(run) => run.stop.is_none(),
                None => model.wanted.is_some() && self.wish(now, name).is_ok(),
            });
        }
        self.pacing.looks = looks && self.policy.budget.looks();
        if self.pacing.looks && now.mono >= self.pacing.look_at {
            self.pacing.look_at = now.mono.after(LOOK_EVERY);
            turn.effects.push(Effect::Sense);
        }
    }

    fn pace_run(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let held = self.held(now);
        let Some(model) = self.models.get(name) else { return };
        let Some(run) = model.run.filter(|run| run.stop.is_none()) else { return };
        let passed = now.mono.since(model.run_since);
        let (number, to) = (run.number, name.clone());
        match (run.phase, held) {
            (Phase::Going, _) if model.run_took(&run, now.mono) >= self.policy.budget.max_run => {
                self.stop_run(now, name, Stop::OutOfTime, turn);
            }
            // What is not known stops no run that goes.
            (Phase::Going, Some(hold)) if hold != Hold::Sensors => {
                self.move_run(now, name, Phase::Resting, turn);
                turn.effects.push(Effect::PauseTraining { run: number });
                turn.effects.push(Effect::Note(Note::RunPaused { run: number, model: to, hold }));
            }
            (Phase::Resting, None) if passed >= LEAST_REST => {
                self.move_run(now, name, Phase::Going, turn);
                turn.effects.push(Effect::ResumeTraining { run: number });
                turn.effects.push(Effect::Note(Note::RunResumed { run: number, model: to }));
            }
            (Phase::Resting, _) if passed >= MOST_REST => {
                self.stop_run(now, name, Stop::Parked, turn);
                turn.effects.push(Effect::Note(Note::RunParked { run: number, model: to }));
            }
            (Phase::Parked, _) if model.slot.champion != run.parent => {
                let reason = "another version took the slot while the run was parked".to_owned();
                self.on_training_ended(now, number, Err(reason.into()), turn);
            }
            (Phase::Parked, None) if model.slot.candidate.is_none() => self.train(now, name, run, turn),
            (Phase::Going | Phase::Resting | Phase::Parked, _) => {}
        }
    }

    fn pace_wanted(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        if self.models.get(name).is_none_or(|model| model.wanted.is_none()) {
            return;
        }
        let Ok(trigger) = self.wish(now, name) else { return };
        let Err(hold) = self.start_or_wait(now, name, trigger, turn) else { return };
        let wanted = self.models.get_mut(name).and_then(|model| model.wanted.as_mut());
        if let Some(wanted) = wanted.filter(|wanted| hold != Hold::Sensors && !is_told(wanted.told, hold)) {
            wanted.told = Some(hold);
            turn.effects.push(Effect::Note(Note::RunWaits { model: name.clone(), trigger, hold }));
        }
    }

    /// Asks the child of a run to stop; its answer says what became of it.
    pub(super) fn stop_run(&mut self, now: Now, name: &ModelName, why: Stop, turn: &mut Turn) {
        self.note_run_time(now, name, turn);
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(run) = model.run.as_mut() else { return };
        run.stop = Some(why);
        turn.effects.push(Effect::StopTraining { run: run.number });
        turn.remember(&run_key(name), &model.run);
    }

    pub(super) fn move_run(&mut self, now: Now, name: &ModelName, phase: Phase, turn: &mut Turn) {
        self.note_run_time(now, name, turn);
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(run) = model.run.as_mut() else { return };
        run.phase = phase;
        model.run_since = now.mono;
        turn.remember(&run_key(name), &model.run);
    }

    /// Moves time into what survives a restart: since the last run, and of the run that goes.
    pub(super) fn note_run_time(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.slot.since_run += now.mono.since(model.noted);
        model.noted = now.mono;
        let went = now.mono.since(model.run_since);
        if let Some(run) = model.run.as_mut().filter(|run| run.phase == Phase::Going) {
            run.used += went;
            model.run_since = now.mono;
            turn.remember(&run_key(name), &model.run);
        }
    }

    /// What runs have written, where that has changed: a day's allowance survives a restart.
    pub(super) fn write_written(&mut self, now: Now, turn: &mut Turn) {
        let (pacing, a_day) = (&mut self.pacing, self.policy.budget.written_a_day);
        pacing.written.pass(0, now.mono.since(pacing.worn_at), a_day);
        pacing.worn_at = now.mono;
        if a_day.is_some() && pacing.written != pacing.stored {
            pacing.stored = pacing.written;
            turn.remember("written", &pacing.written);
        }
    }

    /// When runs end or are parked at the latest, and when the sensors are looked at next.
    pub(super) fn run_deadlines(&self) -> impl Iterator<Item = Mono> {
        let most = self.policy.budget.max_run;
        let ends = self.models.values().filter_map(move |model| {
            let run = model.run.filter(|run| run.stop.is_none())?;
            match run.phase {
                Phase::Going => Some(model.run_since.after(most.saturating_sub(run.used))),
                Phase::Resting => Some(model.run_since.after(MOST_REST)),
                Phase::Parked => None,
            }
        });
        ends.chain(self.pacing.looks.then_some(self.pacing.look_at))
    }
}

/// Whether what holds is of the kind that was told of.
fn is_told(told: Option<Hold>, hold: Hold) -> bool {
    told.is_some_and(|told| std::mem::discriminant(&told) == std::mem::discriminant(&hold))
}
