//! What the hub wishes to serve, and how its packages come.

use super::super::effect::{Effect, Note};
use super::super::event::VersionInfo;
use super::super::slot::Candidate;
use super::{Agent, Turn};
use shoal_proto::decision::{Rejection, RollbackReason, SlotEnd, SlotState, Source};
use shoal_proto::fact::Assignment;
use shoal_proto::id::ModelName;
use shoal_proto::time::Now;

impl Agent {
    /// Takes up what the hub wishes, newest generation only.
    pub(super) fn on_assignments(&mut self, now: Now, turn: &mut Turn) {
        for (name, generation, assignment) in self.facts().assignments() {
            let Some(model) = self.models.get(&name) else { continue };
            if generation > model.slot.applied_generation {
                self.apply_assignment(now, &name, generation, &assignment, turn);
            }
        }
    }

    fn apply_assignment(
        &mut self,
        now: Now,
        name: &ModelName,
        generation: u64,
        assignment: &Assignment,
        turn: &mut Turn,
    ) {
        let version = assignment.version;
        let source = Source::Hub { generation, rollout: assignment.rollout.clone() };
        let Some(model) = self.models.get_mut(name) else { return };
        model.slot.applied_generation = generation;
        match model.slot.candidate.as_mut() {
            Some(candidate) if candidate.version == version && !assignment.revert => {
                candidate.source = source;
                candidate.policy = assignment.trial;
                return self.remember_slot(now, name, turn);
            }
            Some(candidate) if candidate.state == SlotState::OnTrial => {
                self.roll_back(now, name, RollbackReason::Hub, false, turn);
            }
            Some(_) | None => {
                self.leave_shadow(now, name, turn);
                self.models.get_mut(name).into_iter().for_each(|model| model.slot.candidate = None);
            }
        }
        let Some(model) = self.models.get_mut(name) else { return };
        if model.slot.champion == version {
            let candidate = Candidate::staged(version, source, assignment.trial, assignment.revert);
            model.slot.candidate = Some(candidate);
            model.slot.end(SlotEnd::Confirmed, now.wall);
            return self.remember_slot(now, name, turn);
        }
        if self.versions.contains_key(&version) {
            return self.stage(now, name, version, source, assignment.trial, assignment.revert, turn);
        }
        let revert = assignment.revert;
        model.slot.candidate = Some(Candidate::staged(version, source, assignment.trial, revert));
        self.remember_slot(now, name, turn);
        if let Some(rejection) = self.reason_against(name, version) {
            return self.reject(now, name, rejection, turn);
        }
        match assignment.artifact.clone() {
            Some(artifact) => {
                let model = name.clone();
                turn.effects.push(Effect::Note(Note::Staged { model: model.clone(), version }));
                turn.effects.push(Effect::Fetch { model, generation, version, artifact });
            }
            None => {
                let reason = "the version is not on this device and the hub names no source".into();
                self.reject(now, name, Rejection::PackageRefused { reason }, turn);
            }
        }
    }

    pub(super) fn on_fetched(
        &mut self,
        now: Now,
        name: &ModelName,
        generation: u64,
        outcome: Result<VersionInfo, Rejection>,
        turn: &mut Turn,
    ) {
        let candidate = self.models.get(name).and_then(|model| model.slot.candidate.clone());
        let wanted = candidate.filter(|candidate| {
            matches!(candidate.source, Source::Hub { generation: wanted, .. } if wanted == generation)
                && candidate.state == SlotState::Staged
        });
        match (wanted, outcome) {
            (Some(candidate), Ok(info)) => {
                let (version, source) = (info.version, candidate.source);
                self.take_version(now, info, turn);
                self.stage(now, name, version, source, candidate.policy, candidate.revert, turn);
            }
            (Some(_), Err(rejection)) => self.reject(now, name, rejection, turn),
            (None, Ok(info)) if !self.needs(info.version) => {
                turn.effects.push(Effect::Remove { version: info.version });
            }
            (None, Ok(_) | Err(_)) => {}
        }
    }
}
