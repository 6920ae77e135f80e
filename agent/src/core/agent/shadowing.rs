//! Candidates in the shadow: admitted, loaded beside the version that serves, and heard by nobody yet.

use super::super::effect::{Effect, Note};
use super::super::shadow::{ShadowVerdict, too_slow};
use super::{Agent, Model, Turn};
use shoal_proto::decision::{Rejection, ShadowSeen, SlotState, Source};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::{Mono, Now};
use std::time::Duration;

impl Model {
    /// When the shadow is over at the latest.
    pub(super) fn shadow_ends(&self) -> Option<Mono> {
        let (candidate, since) = self.slot.in_shadow().zip(self.shadow_since)?;
        let all = Duration::from_secs(candidate.policy.shadow_max_s);
        Some(since.after(all.saturating_sub(candidate.shadow.stood_before)))
    }

    /// Moves the time in the shadow into what survives a restart.
    pub(super) fn note_shadow_time(&mut self, now: Mono) {
        let Some(since) = self.shadow_since else { return };
        if let Some(candidate) = self.slot.in_shadow_mut() {
            candidate.shadow.stood_before += now.since(since);
            self.shadow_since = Some(now);
        }
    }

    /// How long the candidate has stood in the shadow, where it does.
    pub(super) fn stood(&self, now: Mono) -> Option<Duration> {
        let (candidate, since) = self.slot.in_shadow().zip(self.shadow_since)?;
        Some(candidate.shadow.stood_before + now.since(since))
    }
}

impl Agent {
    /// What an admitted candidate does next: what comes from training or from the hub stands in the shadow first;
    /// what a person gave, what served here before and what nothing serves beside goes on trial at once.
    pub(super) fn put_forward(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name) else { return };
        let Some(candidate) = &model.slot.candidate else { return };
        // The hub may have spoken since it was staged.
        if let Some(rejection) = self.reason_against(name, candidate.version) {
            return self.reject(now, name, rejection, turn);
        }
        let is_asked_for = candidate.policy.shadow_requests > 0 && candidate.source != Source::Local;
        if !is_asked_for || candidate.revert || model.is_broken {
            return self.put_on_trial(now, name, turn);
        }
        let version = candidate.version;
        if let Some(model) = self.models.get_mut(name) {
            model.shadow_since = None;
            if let Some(candidate) = &mut model.slot.candidate {
                candidate.state = SlotState::Shadow;
            }
        }
        self.remember_slot(now, name, turn);
        turn.effects.push(Effect::Shadow { model: name.clone(), version });
    }

    /// Ends the shadow of a candidate, where it stands in one: whatever becomes of it.
    pub(super) fn leave_shadow(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.note_shadow_time(now.mono);
        model.shadow_since = None;
        let Some(candidate) = model.slot.in_shadow() else { return };
        let (model, version, seen) = (name.clone(), candidate.version, candidate.shadow.seen);
        turn.effects.push(Effect::EndShadow { model: model.clone(), version });
        turn.effects.push(Effect::Note(Note::ShadowOver { model, version, seen }));
    }

    pub(super) fn on_shadowing(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        outcome: Result<Option<(f64, f64)>, String>,
        turn: &mut Turn,
    ) {
        if !self.stands(name, version) {
            return;
        }
        let gate = self.versions.get(&version).map(|info| info.manifest.gate.clone()).unwrap_or_default();
        let refused = match outcome {
            Ok(row_us) => row_us.and_then(|row_us| too_slow(row_us, &gate)),
            Err(reason) => Some(Rejection::NotAdmitted { reason }),
        };
        if let Some(rejection) = refused {
            return self.reject(now, name, rejection, turn);
        }
        if let Some(model) = self.models.get_mut(name) {
            model.shadow_since = Some(now.mono);
        }
        turn.effects.push(Effect::Note(Note::InShadow { model: name.clone(), version }));
    }

    pub(super) fn on_shadowed(&mut self, name: &ModelName, version: Digest, seen: &ShadowSeen) {
        let Some(model) = self.models.get_mut(name) else { return };
        if let Some(candidate) = model.slot.in_shadow_mut().filter(|candidate| candidate.version == version) {
            candidate.shadow.seen.add(seen); // judged with the time
        }
    }

    pub(super) fn on_shadow_stalled(&mut self, now: Now, name: &ModelName, version: Digest, turn: &mut Turn) {
        if self.stands(name, version) {
            self.reject(now, name, Rejection::StallsInShadow, turn);
        }
    }

    /// The version that should serve cannot: a candidate need not stand in its shadow.
    pub(super) fn on_broken(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.is_broken = true;
        if model.slot.in_shadow().is_some() {
            self.put_on_trial(now, name, turn);
        }
    }

    fn stands(&self, name: &ModelName, version: Digest) -> bool {
        let candidate = self.models.get(name).and_then(|model| model.slot.in_shadow());
        candidate.is_some_and(|candidate| candidate.version == version)
    }

    pub(super) fn judge_shadow(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name) else { return };
        let Some((candidate, stood)) = model.slot.in_shadow().zip(model.stood(now.mono)) else { return };
        match candidate.shadow.judge(&candidate.policy, stood) {
            ShadowVerdict::Waiting(_) => {}
            ShadowVerdict::Pass => self.put_on_trial(now, name, turn),
            ShadowVerdict::Reject(rejection) => self.reject(now, name, rejection, turn),
        }
    }
}
