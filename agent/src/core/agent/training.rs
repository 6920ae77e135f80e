//! When to train, and what becomes of a run.

use super::super::effect::{Effect, Note, TrainJob};
use super::super::event::Trained;
use super::super::gate;
use super::{Agent, Model, Turn};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{Rejection, RunRecord, Source, Trigger, Verdict};
use shoal_proto::fact::{Count, Fact};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::Now;
use std::fmt;
use std::time::Duration;

/// Refused runs in a row double the labels that are waited for, up to 64 times.
const MAX_DOUBLINGS: u32 = 6;

/// Starts of the process that a run may live through: one that takes the device down with it would do so for ever.
const MAX_RESUMES: u32 = 5;

/// A run that is under way: on disk too, so that it goes on when the process starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) trigger: Trigger,
    pub(super) parent: Digest,
    /// How often it was interrupted.
    pub(super) resumes: u32,
}

/// Why no run starts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The operator switched it off.
    Disabled,
    /// The monitors see nothing.
    Stable,
    /// Inputs drift, and labels say that answers are as right as ever.
    StillRight { labels: u64, right: u64 },
    /// Too few labels have come since the last run.
    Labels { have: u64, need: u64 },
    /// The last run was a short while ago.
    Cooldown { left: Duration },
    /// One run at a time.
    Running { run: u64 },
    /// A candidate is staged or on trial.
    Candidate { version: Digest },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("retraining is switched off"),
            Self::Stable => f.write_str("no drift"),
            Self::StillRight { labels, right } => {
                write!(f, "inputs drift, and answers do not suffer: {right} of the last {labels} labels")
            }
            Self::Labels { have, need } => write!(f, "{have} of {need} labels since the last run"),
            Self::Cooldown { left } => write!(f, "cool-down, {} s left", left.as_secs()),
            Self::Running { run } => write!(f, "run {run} is under way"),
            Self::Candidate { version } => write!(f, "candidate {} is in the slot", version.short()),
        }
    }
}

/// Evidence in labels that answers have suffered, from which on drift of the inputs starts a run: once in a
/// hundred labels by chance, since the drift is certain.
const SUFFERS: f64 = 4.605_170_185_988_091;
/// Evidence from which on errors alone start a run: once in ten thousand labels by chance. A run costs some
/// power and a gate stands behind it, so that this may be bolder than a finding.
const ERRS: f64 = 9.210_340_371_976_182;

/// Where a run that is under way is kept.
pub(super) fn run_key(name: &ModelName) -> String {
    format!("run/{name}")
}

impl Agent {
    /// Whether a run may start now; a command overrides drift, labels and cool-down.
    pub(super) fn decide_training(
        &self,
        now: Now,
        name: &ModelName,
        trigger: Trigger,
    ) -> Result<(), Waiting> {
        let Some(model) = self.models.get(name) else { return Err(Waiting::Stable) };
        if let Some(run) = model.run {
            return Err(Waiting::Running { run: run.number });
        }
        if let Some(candidate) = &model.slot.candidate {
            return Err(Waiting::Candidate { version: candidate.version });
        }
        if trigger == Trigger::Command {
            return Ok(());
        }
        if !self.policy.retrain {
            return Err(Waiting::Disabled);
        }
        let worse = model.watch.worse();
        let errs = worse.is_some_and(|log_e| log_e >= ERRS);
        if model.watch.level() < DriftLevel::Drift && !errs {
            return Err(Waiting::Stable);
        }
        // Inputs have moved, and labels say that answers have not suffered: a candidate has nothing to be
        // better at yet, and its refusal would only put the next one off.
        if worse.is_some_and(|log_e| log_e < SUFFERS) {
            let (labels, right) = model.watch.recent_accuracy();
            return Err(Waiting::StillRight { labels, right });
        }
        // A refused run says that there is nothing to learn yet: trying again on nearly the same rows
        // would in the end pass by chance.
        // Where labels show that answers are wrong, waiting is the dearer mistake.
        let most = if errs { 1 } else { MAX_DOUBLINGS };
        let doublings = model.slot.refused_in_a_row.min(most);
        let (have, need) = (model.slot.labels_since_run, self.labels_for_a_run(model) << doublings);
        if have < need {
            return Err(Waiting::Labels { have, need });
        }
        let rested = model.last_run_ended.map_or(self.policy.cooldown, |ended| now.mono.since(ended));
        if rested < self.policy.cooldown {
            return Err(Waiting::Cooldown { left: self.policy.cooldown - rested });
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

    pub(super) fn consider_training(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        if self.decide_training(now, name, Trigger::Drift).is_ok() {
            self.start_run(name, Trigger::Drift, turn);
        }
    }

    pub(super) fn on_train_command(
        &mut self,
        now: Now,
        name: &ModelName,
        turn: &mut Turn,
    ) -> Result<String, String> {
        if !self.models.contains_key(name) {
            return Err(format!("no model `{name}` is served here"));
        }
        self.decide_training(now, name, Trigger::Command).map_err(|waiting| waiting.to_string())?;
        Ok(format!("run {} started", self.start_run(name, Trigger::Command, turn)))
    }

    fn start_run(&mut self, name: &ModelName, trigger: Trigger, turn: &mut Turn) -> u64 {
        let run = self.next_run;
        let Some(parent) = self.models.get(name).map(|model| model.slot.champion) else { return run };
        if !self.versions.contains_key(&parent) {
            return run;
        }
        self.next_run += 1;
        turn.remember("next_run", &self.next_run);
        self.train(name, Run { number: run, trigger, parent, resumes: 0 }, turn);
        run
    }

    /// A run that the end of the process interrupted goes on as the same job, unless the slot has moved on.
    pub(super) fn resume_run(&mut self, now: Now, name: &ModelName, run: Run, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        if model.slot.candidate.is_some() || model.slot.champion != run.parent {
            turn.remember(&run_key(name), &None::<Run>);
            return;
        }
        if run.resumes >= MAX_RESUMES {
            model.run = Some(run);
            let reason = format!("interrupted {} times", run.resumes + 1);
            self.on_training_ended(now, run.number, Err(reason), turn);
            return;
        }
        self.train(name, Run { resumes: run.resumes + 1, ..run }, turn);
    }

    /// Asks the child to stop; its answer ends the run.
    pub(super) fn on_cancel_command(&mut self, name: &ModelName, turn: &mut Turn) -> Result<String, String> {
        let model = self.models.get(name).ok_or_else(|| format!("no model `{name}` is served here"))?;
        let run = model.run.ok_or_else(|| format!("no run of `{name}` is under way"))?.number;
        turn.effects.push(Effect::StopTraining { run });
        Ok(format!("run {run} stops"))
    }

    fn train(&mut self, name: &ModelName, run: Run, turn: &mut Turn) {
        let Run { number, parent, .. } = run;
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(info) = self.versions.get(&parent) else { return };
        model.run = Some(run);
        turn.remember(&run_key(name), &Some(run));
        // The seed follows from run and parent, so that a run can be repeated from its record.
        let mut seed = [0; 8];
        let digest = Digest::of(format!("{}/{number}/{parent}", self.policy.device).as_bytes()).0;
        seed.copy_from_slice(&digest[..8]);
        turn.effects.push(Effect::Note(Note::RunStarted { run: number, model: name.clone() }));
        turn.effects.push(Effect::Train(TrainJob {
            run: number,
            model: name.clone(),
            parent,
            device: self.policy.device.clone(),
            number: model.slot.born + 1,
            seed: u64::from_be_bytes(seed),
            recipe: info.manifest.recipe.clone(),
            holdout_share: self.policy.holdout_share,
        }));
    }

    pub(super) fn on_training_ended(
        &mut self,
        now: Now,
        number: u64,
        outcome: Result<Trained, String>,
        turn: &mut Turn,
    ) {
        let owner = self.models.iter().find(|(_, model)| model.run.is_some_and(|run| run.number == number));
        let Some(name) = owner.map(|(name, _)| name.clone()) else {
            if let Ok(trained) = outcome {
                turn.effects.push(Effect::Remove { version: trained.candidate.version });
            }
            return; // a late answer of a run that is over
        };
        let Some(model) = self.models.get_mut(&name) else { return };
        let Some(run) = model.run.take() else { return };
        turn.remember(&run_key(&name), &None::<Run>);
        model.last_run_ended = Some(now.mono);
        model.slot.labels_since_run = 0;
        let superseded = model.slot.candidate.is_some() || model.slot.champion != run.parent;
        let mut candidate = None;
        let mut evidence = None;
        let verdict = match outcome {
            Err(reason) => Verdict::Reject(Rejection::TrainingFailed { reason }),
            Ok(trained) => {
                let manifest = trained.candidate.manifest.clone();
                let verdict = if superseded {
                    let reason = "another version took the slot while the run was under way".into();
                    Verdict::Reject(Rejection::TrainingFailed { reason })
                } else {
                    gate::decide(&trained.evidence, &manifest.gate, &manifest.output.classes)
                };
                evidence = Some(trained.evidence);
                candidate = Some(trained.candidate);
                verdict
            }
        };
        let record = RunRecord {
            run: number,
            model: name.clone(),
            trigger: run.trigger,
            parent: run.parent,
            candidate: candidate.as_ref().map(|info| info.version),
            evidence,
            verdict: verdict.clone(),
            at: now.wall,
        };
        let incarnation = self.peer.log.replica.incarnation;
        self.fact(now, Fact::Run(incarnation, record.clone()), turn);
        turn.effects.push(Effect::Note(Note::RunEnded(record)));
        match (verdict, candidate) {
            (Verdict::Accept, Some(info)) => {
                self.count(Count::RetrainsAccepted, 1);
                if let Some(model) = self.models.get_mut(&name) {
                    model.slot.born += 1;
                }
                let policy = self.policy.trial;
                self.take_version(now, info.clone(), turn);
                self.stage(now, &name, info.version, Source::Born { run: number }, policy, false, turn);
            }
            (_, candidate) => {
                self.count(Count::RetrainsRejected, 1);
                if let Some(model) = self.models.get_mut(&name) {
                    model.slot.refused_in_a_row = model.slot.refused_in_a_row.saturating_add(1);
                }
                let known = candidate.as_ref().is_some_and(|info| self.versions.contains_key(&info.version));
                if let Some(info) = candidate.filter(|_| !known) {
                    turn.effects.push(Effect::Remove { version: info.version });
                }
            }
        }
        self.write_counts(now, turn);
        self.remember_model(&name, turn);
        self.on_assignments(now, turn);
    }
}
