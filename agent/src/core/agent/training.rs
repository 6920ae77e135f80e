//! How a run starts, and what becomes of it.

use super::super::budget::Hold;
use super::super::effect::{Effect, Note, TrainJob};
use super::super::event::{How, Trained, Untrained};
use super::super::gate;
use super::run::{Phase, Run, Stop, run_key};
use super::{Agent, Turn, Waiting};
use shoal_proto::decision::{
    Evidence, Made, Rejection, Resource, RunRecord, Searched, Source, Trigger, Verdict,
};
use shoal_proto::fact::{Count, Fact};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::Now;
use std::time::Duration;

/// Starts of the process that a run may live through: one that takes the device down with it would do so for ever.
const MAX_RESUMES: u32 = 5;

impl Agent {
    pub(super) fn on_train_command(
        &mut self,
        now: Now,
        name: &ModelName,
        turn: &mut Turn,
    ) -> Result<String, String> {
        let model = self.models.get(name).ok_or_else(|| format!("no model `{name}` is served here"))?;
        if let Some(run) = model.run {
            self.want(name, Trigger::Command, turn);
            return Ok(format!("run {} is under way, another follows it", run.number));
        }
        if let Some(candidate) = &model.slot.candidate {
            return Err(Waiting::Candidate { version: candidate.version }.to_string());
        }
        match self.start_or_wait(now, name, Trigger::Command, turn) {
            Ok(run) => Ok(format!("run {run} started")),
            Err(Hold::Sensors) => Ok("a run starts if the sensors say nothing against it".into()),
            Err(hold) => Ok(format!("a run starts as soon as it may; {}", Waiting::Budget(hold))),
        }
    }

    /// Starts a run where nothing holds it, and remembers it where something does.
    pub(super) fn start_or_wait(
        &mut self,
        now: Now,
        name: &ModelName,
        trigger: Trigger,
        turn: &mut Turn,
    ) -> Result<u64, Hold> {
        if let Some(hold) = self.held(now) {
            self.want(name, trigger, turn);
            return Err(hold);
        }
        self.want_no_more(name, turn);
        Ok(self.start_run(now, name, trigger, turn))
    }

    fn start_run(&mut self, now: Now, name: &ModelName, trigger: Trigger, turn: &mut Turn) -> u64 {
        let number = self.next_run;
        let Some(model) = self.models.get(name) else { return number };
        let parent = model.slot.champion;
        if !self.versions.contains_key(&parent) {
            return number;
        }
        let run = Run {
            number,
            trigger,
            parent,
            resumes: 0,
            phase: Phase::Going,
            stop: None,
            used: Duration::ZERO,
            labels: model.slot.labels_since_run,
            knows: self.known(model),
            started: Some(now.wall),
        };
        self.next_run += 1;
        turn.remember("next_run", &self.next_run);
        turn.effects.push(Effect::Note(Note::RunStarted { run: number, model: name.clone(), trigger }));
        self.train(now, name, run, turn);
        self.on_run_began(now, name, number, turn);
        number
    }

    /// A run that the end of the process interrupted goes on as the same job, unless the slot has moved on.
    pub(super) fn resume_run(&mut self, now: Now, name: &ModelName, run: Run, turn: &mut Turn) {
        let is_held = self.policy.budget.looks();
        let Some(model) = self.models.get_mut(name) else { return };
        if model.slot.candidate.is_some() || model.slot.champion != run.parent {
            turn.remember(&run_key(name), &None::<Run>);
            return;
        }
        model.run = Some(run);
        model.run_since = now.mono;
        let over = match run.stop {
            Some(Stop::Cancelled | Stop::OutOfTime) => Some("stopped before a restart".to_owned()),
            // Its child ended with the process, as it was asked to.
            Some(Stop::Parked) => None,
            None if run.resumes >= MAX_RESUMES => Some(format!("interrupted {} times", run.resumes + 1)),
            None => None,
        };
        if let Some(reason) = over {
            return self.on_training_ended(now, run.number, Err(reason.into()), turn);
        }
        let went = run.stop.is_none() && run.phase != Phase::Parked;
        let run = Run { resumes: run.resumes + u32::from(went), stop: None, ..run };
        if !is_held && run.phase != Phase::Parked {
            return self.train(now, name, run, turn);
        }
        // The sensors come first; nothing is lost by it, its child is gone anyway.
        model.run = Some(Run { phase: Phase::Parked, ..run });
        turn.remember(&run_key(name), &model.run);
    }

    /// Asks the child to stop; its answer ends the run, which counts as cancelled unless it was done already. A
    /// run that has no child ends at once, and one that is only wanted is wanted no more.
    pub(super) fn on_cancel_command(
        &mut self,
        now: Now,
        name: &ModelName,
        turn: &mut Turn,
    ) -> Result<String, String> {
        if !self.models.contains_key(name) {
            return Err(format!("no model `{name}` is served here"));
        }
        let waited = self.want_no_more(name, turn);
        let run = self.models.get(name).and_then(|model| model.run);
        match (run, waited) {
            (None, None) => Err(format!("no run of `{name}` is under way")),
            (None, Some(_)) => {
                self.on_asked_run_dropped(now, name, None, turn);
                Ok("the run that waited does not start".into())
            }
            (Some(run), waited) => {
                if waited.is_some() {
                    self.on_asked_run_dropped(now, name, Some(run.number), turn);
                }
                let is_there = run.phase != Phase::Parked;
                self.stop_run(now, name, Stop::Cancelled, turn);
                if !is_there {
                    self.on_training_ended(now, run.number, Err("parked".into()), turn);
                }
                Ok(format!("run {} stops", run.number))
            }
        }
    }

    /// Starts the child of a run, for the first time or again.
    pub(super) fn train(&mut self, now: Now, name: &ModelName, run: Run, turn: &mut Turn) {
        let run = Run { phase: Phase::Going, ..run };
        let Run { number, parent, .. } = run;
        let seed = self.seed(&run);
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(info) = self.versions.get(&parent) else { return };
        model.run = Some(run);
        model.run_since = now.mono;
        turn.remember(&run_key(name), &Some(run));
        turn.effects.push(Effect::Train(TrainJob {
            run: number,
            model: name.clone(),
            parent,
            device: self.policy.device.clone(),
            number: model.slot.born + 1,
            seed,
            recipe: info.manifest.recipe.clone(),
            holdout_share: self.policy.holdout_share,
            sources: self.policy.sources.clone(),
        }));
    }

    /// The seed follows from device, run and parent.
    fn seed(&self, run: &Run) -> u64 {
        let mut seed = [0; 8];
        let text = format!("{}/{}/{}", self.policy.device, run.number, run.parent);
        seed.copy_from_slice(&Digest::of(text.as_bytes()).0[..8]);
        u64::from_be_bytes(seed)
    }

    /// What is needed to repeat a run.
    fn made(&self, name: &ModelName, run: &Run, how: How) -> Option<Made> {
        let How { by, rows, search, recipe } = how;
        let own = &self.versions.get(&run.parent)?.manifest.recipe;
        Some(Made {
            base: self.base_of(run.parent),
            device: self.policy.device.clone(),
            number: self.models.get(name)?.slot.born + 1,
            seed: self.seed(run),
            recipe: recipe.unwrap_or_else(|| own.clone()),
            holdout_share: self.policy.holdout_share,
            sources: self.policy.sources.clone(),
            rows,
            search,
            started: run.started,
            by,
        })
    }

    pub(super) fn on_training_ended(
        &mut self,
        now: Now,
        number: u64,
        outcome: Result<Trained, Untrained>,
        turn: &mut Turn,
    ) {
        let owner = self.models.iter().find(|(_, model)| model.run.is_some_and(|run| run.number == number));
        let Some(name) = owner.map(|(name, _)| name.clone()) else {
            if let Ok(trained) = outcome
                && !self.needs(trained.candidate.version)
            {
                turn.effects.push(Effect::Remove { version: trained.candidate.version });
            }
            return; // a late answer of a run that is over
        };
        self.note_run_time(now, &name, turn);
        let Some(model) = self.models.get_mut(&name) else { return };
        let Some(run) = model.run.take() else { return };
        if run.stop == Some(Stop::Parked) && outcome.is_err() {
            model.run = Some(Run { stop: None, phase: Phase::Parked, ..run });
            turn.remember(&run_key(&name), &model.run);
            return;
        }
        turn.remember(&run_key(&name), &None::<Run>);
        model.slot.since_run = Duration::ZERO;
        model.slot.runs += 1;
        let is_cancelled = run.stop == Some(Stop::Cancelled) && outcome.is_err();
        if !is_cancelled {
            model.slot.labels_since_run = model.slot.labels_since_run.saturating_sub(run.labels);
        }
        let superseded = model.slot.candidate.is_some() || model.slot.champion != run.parent;
        let mut candidate = None;
        let mut evidence = None;
        let mut how = How::default();
        let verdict = match outcome {
            Err(_) if is_cancelled => Verdict::Reject(Rejection::Cancelled),
            Err(_) if run.stop == Some(Stop::OutOfTime) => {
                let (limit, used) = (self.policy.budget.max_run.as_secs(), run.used.as_secs());
                Verdict::Reject(Rejection::OutOfBudget { what: Resource::WallSeconds, limit, used })
            }
            Err(untrained) => {
                how = *untrained.how;
                Verdict::Reject(untrained_reason(untrained.reason, how.search.as_deref()))
            }
            Ok(trained) => {
                let manifest = trained.candidate.manifest.clone();
                let verdict = if superseded {
                    let reason = "another version took the slot while the run was under way".into();
                    Verdict::Reject(Rejection::TrainingFailed { reason })
                } else {
                    let held_out = self.policy.holdout_share;
                    gate::decide(&trained.evidence, &manifest.gate, &manifest.output.classes, held_out)
                };
                how = *trained.how;
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
            made: self.made(&name, &run, how).map(Box::new),
        };
        let held_out = record.evidence.as_ref().and_then(alike);
        let incarnation = self.peer.log.replica.incarnation;
        self.fact(now, Fact::Run(incarnation, record.clone()), turn);
        self.on_asked_run_ended(now, &name, (number, &verdict), turn);
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
                let candidate = self.models.get_mut(&name).and_then(|model| model.slot.candidate.as_mut());
                if let Some((candidate, held_out)) = candidate.zip(held_out) {
                    candidate.shadow.held_out = held_out;
                }
            }
            (_, candidate) => {
                // A cancelled run says nothing about the rows: the next one waits no longer for it.
                if !is_cancelled {
                    self.count(Count::RetrainsRejected, 1);
                }
                if let Some(model) = self.models.get_mut(&name).filter(|_| !is_cancelled) {
                    model.slot.refused_in_a_row = model.slot.refused_in_a_row.saturating_add(1);
                }
                if let Some(info) = candidate.filter(|info| !self.needs(info.version)) {
                    turn.effects.push(Effect::Remove { version: info.version });
                }
            }
        }
        self.write_counts(now, turn);
        self.remember_model(&name, turn);
        self.on_assignments(now, turn);
    }
}

/// Held-out rows, and those among them to which champion and candidate name the same class.
fn alike(evidence: &Evidence) -> Option<(u64, u64)> {
    let differing = evidence.measured.as_ref()?.differing?;
    Some((evidence.holdout_rows, evidence.holdout_rows.saturating_sub(differing)))
}

/// Why a run brought no candidate: where recipes were tried, none was better than the parent.
fn untrained_reason(reason: String, search: Option<&Searched>) -> Rejection {
    match search.and_then(|search| search.best().map(|(_, best)| (search, best))) {
        None => Rejection::TrainingFailed { reason },
        Some((search, best)) => Rejection::NothingBetter {
            tried: search.tried.len() as u64,
            rows: search.rows,
            parent: search.parent,
            best,
        },
    }
}
