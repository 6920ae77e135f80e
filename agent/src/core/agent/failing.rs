//! Versions that fail inside: a candidate goes back at once, a champion gives way to the one before it.

use super::super::effect::{Effect, Note};
use super::super::trial::fails;
use super::{Agent, Turn};
use shoal_proto::decision::{RollbackReason, Source};
use shoal_proto::fact::{Condemnation, Count, Fact};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::Now;

impl Agent {
    pub(super) fn on_failed(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        requests: u64,
        turn: &mut Turn,
    ) {
        self.count(Count::Failures, requests);
        let limit = self.policy.trial.max_failure_share;
        let Some(model) = self.models.get_mut(name).filter(|model| model.slot.serving() == version) else {
            return;
        };
        if let Some(candidate) = model.slot.on_trial_mut() {
            candidate.trial.failures += requests; // judged with the trial
            return;
        }
        model.failures += requests;
        let (failures, all) = (model.failures, model.failures + model.watch.rows());
        if fails(failures, all, limit) {
            let reason = RollbackReason::Failures { failures, requests: all };
            self.give_way(now, name, version, &reason.to_string(), turn);
        }
    }

    /// A call of a version did not end; the server calls it no more.
    pub(super) fn on_stalled(&mut self, now: Now, name: &ModelName, version: Digest, turn: &mut Turn) {
        self.count(Count::Failures, 1);
        let Some(model) = self.models.get_mut(name).filter(|model| model.slot.serving() == version) else {
            return;
        };
        if model.slot.on_trial().is_some() {
            let reason = RollbackReason::Failures { failures: 1, requests: 1 };
            self.roll_back(now, name, reason, true, turn);
        } else if !self.give_way(now, name, version, "a call of it did not end", turn) {
            // Loaded anew: better a version that stalled once than none.
            turn.effects.push(Effect::Serve { model: name.clone(), version });
        }
    }

    /// Lets the previous version serve again and condemns this one here; false when there is none.
    fn give_way(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        reason: &str,
        turn: &mut Turn,
    ) -> bool {
        let Some(model) = self.models.get_mut(name) else { return false };
        model.failures = 0;
        let previous = model.slot.previous.filter(|_| model.slot.candidate.is_none());
        let condemned = self.facts().condemned();
        if previous.is_none_or(|previous| condemned.contains_key(&previous)) {
            let reason = format!("{reason}, and no previous version can take its place");
            turn.effects.push(Effect::Note(Note::CannotServe { model: name.clone(), version, reason }));
            return false;
        }
        let word = Condemnation { holds: true, reason: reason.to_owned() };
        self.fact(now, Fact::Condemned(version, word), turn);
        self.go_back(now, name, Source::Local, turn).is_some()
    }
}
