//! What the hub wishes to serve, and how its packages come.

use super::super::effect::{Effect, Note};
use super::super::event::VersionInfo;
use super::super::slot::Candidate;
use super::{Agent, Turn};
use shoal_proto::decision::{Rejection, RollbackReason, SlotEnd, SlotState, Source};
use shoal_proto::fact::Assignment;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::Now;
use std::collections::BTreeSet;

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
                if let Some((generation, _)) = self.fetching.insert(model.clone(), (generation, version)) {
                    turn.effects.push(Effect::StopFetch { model: model.clone(), generation });
                }
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
        let fetched = self.fetching.get(name).filter(|(asked, _)| *asked == generation);
        let fetched = fetched.map(|(_, version)| *version);
        if fetched.is_some() {
            self.fetching.remove(name);
        }
        // By the version and not by the generation: the hub may have said the same wish again meanwhile.
        let wanted = fetched.and_then(|version| self.waits_for(name, version)).cloned();
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

    /// The candidate that waits for this version's package.
    fn waits_for(&self, name: &ModelName, version: Digest) -> Option<&Candidate> {
        let candidate = self.models.get(name)?.slot.candidate.as_ref();
        candidate.filter(|candidate| candidate.version == version && candidate.state == SlotState::Staged)
    }

    /// Leaves off what no candidate waits for any more.
    pub(super) fn stop_fetches(&mut self, turn: &mut Turn) {
        let fetching = std::mem::take(&mut self.fetching);
        for (model, (generation, version)) in fetching {
            if self.waits_for(&model, version).is_some() {
                self.fetching.insert(model, (generation, version));
            } else {
                turn.effects.push(Effect::StopFetch { model, generation });
            }
        }
    }

    /// Archives that assignments ask for and that are not on disk as versions: what is left of others from an earlier
    /// start may go.
    #[must_use]
    pub fn wanted_archives(&self) -> BTreeSet<Digest> {
        let assignments = self.facts().assignments().into_iter();
        assignments
            .filter(|(name, generation, wish)| {
                let model = self.models.get(name);
                model.is_some_and(|model| *generation > model.slot.applied_generation)
                    && !self.versions.contains_key(&wish.version)
            })
            .filter_map(|(.., wish)| wish.artifact.map(|artifact| artifact.archive))
            .collect()
    }
}
