//! When to train: what starts a run, how much must be there for it, and what is remembered meanwhile.

use super::super::policy::Rebase;
use super::super::slot::Candidate;
use super::run::{Run, Wanted, run_key, wanted_key};
use super::{Agent, Model, Turn, Waiting};
use shoal_proto::decision::{Source, Trigger};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::{Mono, Now};
use shoal_watch::answer::wilson;
use std::time::Duration;

/// Refused runs in a row double the labels that are waited for, up to 64 times.
const MAX_DOUBLINGS: u32 = 6;
/// Evidence in labels that answers have suffered, from which on drift of the inputs starts a run: once in a
/// hundred labels by chance, since the drift is certain.
const SUFFERS: f64 = 4.605_170_185_988_091;
/// Evidence from which on errors alone start a run: once in ten thousand labels by chance. A run costs some
/// power and a gate stands behind it, so that this may be bolder than a finding.
const ERRS: f64 = 9.210_340_371_976_182;
/// What starts runs by itself, the strongest first.
const BY_ITSELF: [Trigger; 4] = [Trigger::Performance, Trigger::Drift, Trigger::Labels, Trigger::Schedule];

impl Model {
    /// Running time of the agent since the last run.
    fn since_run(&self, now: Mono) -> Duration {
        self.slot.since_run + now.since(self.noted)
    }

    /// Evidence that errors alone start a run.
    fn errs(&self) -> bool {
        self.watch.worse().is_some_and(|log_e| log_e >= ERRS)
    }

    fn drifts(&self) -> bool {
        self.watch.level() >= DriftLevel::Drift || self.errs()
    }

    /// Refused runs in a row: a refused run says that there is nothing to learn yet, and trying again on nearly
    /// the same rows would in the end pass by chance. Where labels show that answers are wrong, waiting is the
    /// dearer mistake.
    fn doublings(&self) -> u32 {
        self.slot.refused_in_a_row.min(if self.errs() { 1 } else { MAX_DOUBLINGS })
    }
}

impl Agent {
    /// What would start a run now, were the device free for it; or why nothing does.
    pub(super) fn wish(&self, now: Now, name: &ModelName) -> Result<Trigger, Waiting> {
        let Some(model) = self.models.get(name) else { return Err(Waiting::Stable) };
        if let Some(run) = model.run {
            return Err(Waiting::Running { run: run.number });
        }
        if let Some(candidate) = &model.slot.candidate {
            return Err(Waiting::Candidate { version: candidate.version });
        }
        let remembered = model.wanted.map(|wanted| wanted.trigger);
        if let Some(asked @ (Trigger::Command | Trigger::Base)) = remembered {
            return Ok(asked);
        }
        if !self.policy.retrain {
            return Err(Waiting::Disabled);
        }
        let mut why = Waiting::Stable;
        for trigger in BY_ITSELF {
            let holds =
                if remembered == Some(trigger) { Ok(()) } else { self.condition(now, model, trigger) };
            match holds.and_then(|()| self.is_ripe(now, model, trigger)) {
                Ok(()) => return Ok(trigger),
                Err(waiting) if why == Waiting::Stable => why = waiting,
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// What would start a run now, or why none starts.
    pub(super) fn decide_training(&self, now: Now, name: &ModelName) -> Result<Trigger, Waiting> {
        let trigger = self.wish(now, name)?;
        self.held(now).map_or(Ok(trigger), |hold| Err(Waiting::Budget(hold)))
    }

    /// Whether what a trigger stands for is the case.
    fn condition(&self, now: Now, model: &Model, trigger: Trigger) -> Result<(), Waiting> {
        match trigger {
            Trigger::Performance if self.is_below_goal(model) => Ok(()),
            Trigger::Drift if model.drifts() => {
                // Inputs have moved, and labels say that answers have not suffered: a candidate has nothing to
                // be better at yet, and its refusal would only put the next one off.
                if model.watch.worse().is_some_and(|log_e| log_e < SUFFERS) {
                    let (labels, right) = model.watch.recent_accuracy();
                    return Err(Waiting::StillRight { labels, right });
                }
                Ok(())
            }
            Trigger::Labels => {
                let Some(labels) = self.policy.triggers.labels else { return Err(Waiting::Stable) };
                enough(model.slot.labels_since_run, labels << model.doublings())
            }
            Trigger::Schedule => {
                let Some(every) = self.policy.triggers.every else { return Err(Waiting::Stable) };
                let left = every.saturating_sub(model.since_run(now.mono));
                if !left.is_zero() {
                    return Err(Waiting::Schedule { left });
                }
                // The same rows again would bring the same version again.
                enough(model.slot.labels_since_run, 1)
            }
            Trigger::Performance | Trigger::Drift | Trigger::Base | Trigger::Command => Err(Waiting::Stable),
        }
    }

    /// Whether labelled answers are surely below the goal: the upper end of the interval is, so that a few
    /// labels say nothing.
    fn is_below_goal(&self, model: &Model) -> bool {
        let info = self.versions.get(&model.slot.serving());
        let of_package = || info.and_then(|info| info.manifest.goal).map(|goal| goal.accuracy);
        let Some(goal) = self.policy.triggers.goal.or_else(of_package) else { return false };
        let (labels, right) = model.watch.recent_accuracy();
        wilson(right, labels).1 < goal
    }

    /// Whether there is enough for a run, and enough time has passed since the last.
    fn is_ripe(&self, now: Now, model: &Model, trigger: Trigger) -> Result<(), Waiting> {
        if matches!(trigger, Trigger::Drift | Trigger::Performance) {
            enough(model.slot.labels_since_run, self.labels_for_a_run(model) << model.doublings())?;
        }
        let left = self.policy.cooldown.saturating_sub(model.since_run(now.mono));
        if model.slot.runs > 0 && !left.is_zero() {
            return Err(Waiting::Cooldown { left });
        }
        Ok(())
    }

    /// Labels that make a run worth its while: a holdout of rows that no earlier run has seen must be large
    /// enough for the gate.
    fn labels_for_a_run(&self, model: &Model) -> u64 {
        let info = self.versions.get(&model.slot.champion);
        let holdout = info.map_or(0, |info| info.manifest.gate.min_holdout);
        let share = self.policy.holdout_share.max(0.01);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 2^32 / 0.01")]
        let for_the_gate = (f64::from(holdout) / share).ceil() as u64;
        self.policy.min_labels.max(for_the_gate)
    }

    /// What a run knows of when it begins: drift, and answers below the goal.
    pub(super) fn known(&self, model: &Model) -> (bool, bool) {
        (model.drifts(), self.is_below_goal(model))
    }

    pub(super) fn consider_training(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        match self.wish(now, name) {
            Ok(trigger) => drop(self.start_or_wait(now, name, trigger, turn)),
            Err(Waiting::Running { .. }) => self.overhear(name, turn),
            Err(_) => {}
        }
    }

    /// What is found while a run is under way, and was not when it began, is remembered for the next.
    fn overhear(&mut self, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name) else { return };
        let (Some(run), knows) = (model.run, self.known(model)) else { return };
        let fresh = (knows.0 && !run.knows.0, knows.1 && !run.knows.1);
        if fresh == (false, false) || !self.policy.retrain {
            return;
        }
        let run = Run { knows: (run.knows.0 || knows.0, run.knows.1 || knows.1), ..run };
        if let Some(model) = self.models.get_mut(name) {
            model.run = Some(run);
            turn.remember(&run_key(name), &Some(run));
        }
        self.want(name, if fresh.1 { Trigger::Performance } else { Trigger::Drift }, turn);
    }

    /// Remembers what wants a run: once, and the strongest.
    pub(super) fn want(&mut self, name: &ModelName, trigger: Trigger, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        if model.wanted.is_some_and(|wanted| wanted.trigger >= trigger) {
            return;
        }
        let told = model.wanted.and_then(|wanted| wanted.told);
        model.wanted = Some(Wanted { trigger, told });
        turn.remember(&wanted_key(name), &model.wanted);
    }

    pub(super) fn want_no_more(&mut self, name: &ModelName, turn: &mut Turn) -> Option<Wanted> {
        let wanted = self.models.get_mut(name)?.wanted.take()?;
        turn.remember(&wanted_key(name), &None::<Wanted>);
        Some(wanted)
    }

    /// Another version is the champion: what was found of the one before is no more, and what was learned here
    /// on an older base is learned again, where that is wished.
    pub(super) fn on_confirmed(
        &mut self,
        name: &ModelName,
        candidate: &Candidate,
        before: Digest,
        turn: &mut Turn,
    ) {
        let wanted = self.models.get(name).and_then(|model| model.wanted);
        if wanted.is_some_and(|it| matches!(it.trigger, Trigger::Drift | Trigger::Performance)) {
            self.want_no_more(name, turn);
        }
        let born_here = |version| {
            let lineage = self.versions.get(&version).and_then(|info| info.manifest.lineage.as_ref());
            lineage.is_some_and(|lineage| lineage.device.as_ref() == Some(&self.policy.device))
        };
        let of_hub = matches!(candidate.source, Source::Hub { .. }) && !candidate.revert;
        let is_rebase = of_hub && born_here(before) && !born_here(candidate.version);
        if is_rebase && self.policy.retrain && self.policy.triggers.rebase == Rebase::Retrain {
            self.want(name, Trigger::Base, turn);
        }
    }
}

fn enough(have: u64, need: u64) -> Result<(), Waiting> {
    if have < need { Err(Waiting::Labels { have, need }) } else { Ok(()) }
}
