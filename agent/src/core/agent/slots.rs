//! The slots: who serves, who is judged, who goes.

use super::super::effect::{Effect, Note};
use super::super::event::VersionInfo;
use super::super::slot::{Candidate, Slot};
use super::super::trial::{Errors, Trial, TrialVerdict};
use super::run::{Run, Wanted, run_key, wanted_key};
use super::{Agent, Model, Turn};
use shoal_proto::decision::{Rejection, RollbackReason, SlotEnd, SlotState, Source};
use shoal_proto::fact::{Condemnation, Fact, TrialPolicy};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::infer::ModelOut;
use shoal_proto::time::{Mono, Now};
use shoal_proto::wire::{from_cbor, to_cbor};
use shoal_watch::Watch;
use std::collections::BTreeMap;
use std::time::Duration;

impl Model {
    /// When the trial is over at the latest.
    pub(super) fn trial_ends(&self) -> Option<Mono> {
        let candidate = self.slot.on_trial().filter(|_| self.serving)?;
        let all = Duration::from_secs(candidate.policy.max_s);
        Some(self.trial_since.after(all.saturating_sub(candidate.trial.served_before)))
    }

    /// Moves the serving time of a trial into what survives a restart.
    pub(super) fn note_serving_time(&mut self, now: Mono) {
        let served = now.since(self.trial_since);
        if let Some(candidate) = self.slot.on_trial_mut().filter(|_| self.serving) {
            candidate.trial.served_before += served;
            self.trial_since = now;
        }
    }
}

impl Agent {
    /// Models as memory held them, then those that the configuration names for the first time.
    pub(super) fn restore_models(
        &mut self,
        memory: &BTreeMap<String, Vec<u8>>,
        configured: &[VersionInfo],
        now: Now,
        turn: &mut Turn,
    ) {
        for (key, bytes) in memory {
            let name = key.strip_prefix("slot/").and_then(|name| ModelName::new(name).ok());
            let Some((name, mut slot)) = name.zip(from_cbor::<Slot>(bytes).ok()) else { continue };
            forget_interrupted(&mut slot, &self.versions);
            let watch = memory.get(&format!("watch/{name}")).and_then(|bytes| from_cbor::<Watch>(bytes).ok());
            self.open_model(now, name.clone(), slot, watch, turn);
            let wanted =
                memory.get(&wanted_key(&name)).and_then(|bytes| from_cbor::<Option<Wanted>>(bytes).ok());
            if let Some(model) = self.models.get_mut(&name) {
                model.wanted = wanted.flatten();
            }
            let run = memory.get(&run_key(&name)).and_then(|bytes| from_cbor::<Option<Run>>(bytes).ok());
            if let Some(run) = run.flatten() {
                self.resume_run(now, &name, run, turn);
            }
        }
        for info in configured {
            self.versions.entry(info.version).or_insert_with(|| info.clone());
            let name = info.record.model.clone();
            let known = self.facts().versions().contains_key(&info.version);
            self.take_version(now, info.clone(), turn);
            if !self.models.contains_key(&name) {
                self.open_model(now, name.clone(), Slot::new(info.version), None, turn);
            } else if !known {
                let policy = self.policy.trial;
                self.stage(now, &name, info.version, Source::Local, policy, false, turn);
            }
        }
    }

    pub(super) fn open_model(
        &mut self,
        now: Now,
        name: ModelName,
        slot: Slot,
        watch: Option<Watch>,
        turn: &mut Turn,
    ) {
        let serving = slot.serving();
        let Some(info) = self.versions.get(&serving).cloned() else {
            let reason = "the version is not on disk".to_owned();
            turn.effects.push(Effect::Note(Note::CannotServe { model: name, version: serving, reason }));
            return;
        };
        let attached = watch.and_then(|mut watch| watch.attach(&info.watched()).then_some(watch));
        let watch = match attached {
            Some(watch) => watch,
            None => Watch::new(&info.watched(), self.next_window_id(turn), now.wall),
        };
        let waiting = slot.candidate.as_ref().filter(|c| c.state != SlotState::OnTrial).map(|c| c.version);
        let model = Model {
            slot,
            watch,
            run: None,
            run_since: now.mono,
            wanted: None,
            noted: now.mono,
            window_opened: now.mono,
            failures: 0,
            trial_since: now.mono,
            shadow_since: None,
            errors: Errors::default(),
            serving: false,
            is_broken: false,
            told: None,
            answering: false,
        };
        self.models.insert(name.clone(), model);
        self.move_window(now, &name, turn);
        self.remember_slot(now, &name, turn);
        if self.admitted.contains(&serving) {
            turn.effects.push(Effect::Serve { model: name, version: serving });
        } else {
            turn.effects.push(Effect::Admit { version: serving });
        }
        if let Some(version) = waiting {
            turn.effects.push(Effect::Admit { version });
        }
    }

    /// A version is on disk: the document and the core know of it.
    pub(super) fn take_version(&mut self, now: Now, info: VersionInfo, turn: &mut Turn) {
        if !self.facts().versions().contains_key(&info.version) {
            self.fact(now, Fact::Version(info.version, info.record.clone()), turn);
        }
        self.versions.insert(info.version, info);
    }

    /// A version wants the slot. It must be on disk.
    #[expect(clippy::too_many_arguments, reason = "a candidate is what these say, and only here is one made")]
    pub(super) fn stage(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        source: Source,
        policy: TrialPolicy,
        revert: bool,
        turn: &mut Turn,
    ) {
        self.leave_shadow(now, name, turn);
        let Some(model) = self.models.get_mut(name) else { return };
        model.slot.candidate = Some(Candidate::staged(version, source, policy, revert));
        turn.effects.push(Effect::Note(Note::Staged { model: name.clone(), version }));
        self.remember_slot(now, name, turn);
        if let Some(rejection) = self.reason_against(name, version) {
            self.reject(now, name, rejection, turn);
        } else if self.admitted.contains(&version) {
            self.put_forward(now, name, turn);
        } else {
            turn.effects.push(Effect::Admit { version });
        }
    }

    /// Why a version may not have the slot. A way back is no word for a version that was condemned.
    pub(super) fn reason_against(&self, name: &ModelName, version: Digest) -> Option<Rejection> {
        let condemned = self.facts().condemned();
        if let Some(reason) = condemned.get(&version) {
            return Some(Rejection::Condemned { reason: reason.clone() });
        }
        let info = self.versions.get(&version)?;
        let champion = self.versions.get(&self.models.get(name)?.slot.champion)?;
        if info.record.model != *name {
            let reason = format!("it is of model `{}`, not `{name}`", info.record.model);
            return Some(Rejection::PackageRefused { reason });
        }
        if info.record.schema != champion.record.schema {
            let (new, old) = (&info.manifest, &champion.manifest);
            let reason = format!(
                "{} features and {} classes, expected the served {} and {}, with the same names, units and order",
                new.features.len(),
                new.output.classes.len(),
                old.features.len(),
                old.output.classes.len()
            );
            return Some(Rejection::SchemaMismatch { reason });
        }
        None
    }

    pub(super) fn put_on_trial(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        self.leave_shadow(now, name, turn);
        let Some(model) = self.models.get_mut(name) else { return };
        let (before, of_errors) = (model.watch.recent_accuracy(), model.errors.trial());
        let Some(candidate) = model.slot.candidate.as_mut() else { return };
        candidate.state = SlotState::OnTrial;
        candidate.trial = of_errors.unwrap_or(Trial { before, ..Trial::default() });
        let version = candidate.version;
        model.trial_since = now.mono;
        model.serving = false;
        self.remember_slot(now, name, turn);
        turn.effects.push(Effect::Serve { model: name.clone(), version });
    }

    pub(super) fn on_admitted(
        &mut self,
        now: Now,
        version: Digest,
        outcome: Result<(), String>,
        turn: &mut Turn,
    ) {
        if outcome.is_ok() && self.admitted.insert(version) {
            self.admitted.retain(|digest| self.versions.contains_key(digest));
            turn.remember("admitted", &self.admitted);
        }
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            let Some(model) = self.models.get(&name) else { continue };
            // After a restart one that stood in the shadow comes by here again.
            let staged = model.slot.candidate.as_ref().is_some_and(|candidate| {
                candidate.version == version && candidate.state != SlotState::OnTrial
            });
            let serving = model.slot.serving() == version && !model.serving;
            match &outcome {
                Ok(()) if staged => self.put_forward(now, &name, turn),
                Ok(()) if serving => turn.effects.push(Effect::Serve { model: name, version }),
                Err(reason) if staged => {
                    self.reject(now, &name, Rejection::NotAdmitted { reason: reason.clone() }, turn);
                }
                Err(reason) if serving => {
                    let (model, reason) = (name.clone(), reason.clone());
                    turn.effects.push(Effect::Note(Note::CannotServe { model, version, reason }));
                    self.on_broken(now, &name, turn);
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    pub(super) fn on_serving(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        outcome: Result<(), String>,
        turn: &mut Turn,
    ) {
        let Some(info) = self.versions.get(&version).cloned() else { return };
        let Some(model) = self.models.get(name).filter(|model| model.slot.serving() == version) else {
            return; // another swap overtook this one
        };
        let on_trial = model.slot.on_trial().map(|candidate| candidate.revert);
        if let Err(reason) = outcome {
            if on_trial.is_some() {
                let failures = RollbackReason::Failures { failures: 1, requests: 1 };
                self.roll_back(now, name, failures, true, turn);
            } else {
                let model = name.clone();
                turn.effects.push(Effect::Note(Note::CannotServe { model, version, reason }));
                self.on_broken(now, name, turn);
            }
            return;
        }
        let watched = model.watch.version() == version;
        if !watched {
            if model.watch.rows() > 0 {
                self.close_window(now, name, turn);
            }
            let id = self.next_window_id(turn);
            if let Some(model) = self.models.get_mut(name) {
                model.watch = Watch::new(&info.watched(), id, now.wall);
                model.window_opened = now.mono;
            }
        }
        if let Some(model) = self.models.get_mut(name) {
            model.serving = true;
            model.is_broken = false;
            model.answering = true;
            model.trial_since = now.mono;
        }
        let (model, display) = (name.clone(), info.record.name.clone());
        turn.effects.push(Effect::Announce(ModelOut { model, version, name: display, since: now.wall }));
        self.tell_health(now, name, turn);
        match on_trial {
            Some(true) => self.confirm(now, name, turn),
            Some(false) => {
                turn.effects.push(Effect::Note(Note::OnTrial { model: name.clone(), version }));
            }
            None => {}
        }
        self.remember_model(name, turn);
    }

    pub(super) fn judge_trial(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name).filter(|model| model.serving) else { return };
        let Some(candidate) = model.slot.on_trial() else { return };
        let served = candidate.trial.served_before + now.mono.since(model.trial_since);
        match candidate.trial.judge(&candidate.policy, served) {
            TrialVerdict::Waiting(_) => {}
            TrialVerdict::Confirm => self.confirm(now, name, turn),
            TrialVerdict::RollBack(reason) => self.roll_back(now, name, reason, true, turn),
        }
    }

    fn confirm(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        let before = model.slot.champion;
        model.errors = Errors::default(); // another's from here on
        let Some(candidate) = model.slot.end(SlotEnd::Confirmed, now.wall) else { return };
        let version = candidate.version;
        turn.effects.push(Effect::Note(Note::Confirmed { model: name.clone(), version }));
        self.remember_slot(now, name, turn);
        self.on_confirmed(name, &candidate, before, turn);
        self.forget_versions(turn);
        self.on_assignments(now, turn);
    }

    /// Takes a candidate on trial back; the champion serves again.
    pub(super) fn roll_back(
        &mut self,
        now: Now,
        name: &ModelName,
        reason: RollbackReason,
        condemn: bool,
        turn: &mut Turn,
    ) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.serving = false;
        let Some(candidate) = model.slot.end(SlotEnd::RolledBack(reason.clone()), now.wall) else { return };
        let (version, champion) = (candidate.version, model.slot.champion);
        if condemn {
            let word = Condemnation { holds: true, reason: reason.to_string() };
            self.fact(now, Fact::Condemned(version, word), turn);
        }
        turn.effects.push(Effect::Note(Note::RolledBack { model: name.clone(), version, reason }));
        self.remember_slot(now, name, turn);
        turn.effects.push(Effect::Serve { model: name.clone(), version: champion });
        self.forget_versions(turn);
    }

    /// A candidate never serves.
    pub(super) fn reject(&mut self, now: Now, name: &ModelName, rejection: Rejection, turn: &mut Turn) {
        self.leave_shadow(now, name, turn);
        let Some(model) = self.models.get_mut(name) else { return };
        let reason = rejection.to_string();
        let Some(candidate) = model.slot.end(SlotEnd::Rejected(rejection), now.wall) else { return };
        let version = candidate.version;
        turn.effects.push(Effect::Note(Note::Rejected { model: name.clone(), version, reason }));
        self.remember_slot(now, name, turn);
        self.forget_versions(turn);
    }

    /// The hub's word on versions that serve or want to: a condemned candidate goes at once, a condemned champion
    /// gives way to the previous version.
    pub(super) fn on_condemnations(&mut self, now: Now, turn: &mut Turn) {
        let condemned = self.facts().condemned();
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            let Some(slot) = self.models.get(&name).map(|model| &model.slot) else { continue };
            match &slot.candidate {
                Some(candidate) => match condemned.get(&candidate.version) {
                    Some(_) if candidate.state == SlotState::OnTrial => {
                        self.roll_back(now, &name, RollbackReason::Hub, false, turn);
                    }
                    Some(reason) => {
                        self.reject(now, &name, Rejection::Condemned { reason: reason.clone() }, turn);
                    }
                    None => {}
                },
                None => {
                    let way_back = slot.previous.is_some_and(|version| !condemned.contains_key(&version));
                    if condemned.contains_key(&slot.champion) && way_back {
                        self.go_back(now, &name, Source::Local, turn);
                    }
                }
            }
        }
    }

    /// The slot to disk and to the hub.
    pub(super) fn remember_slot(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name) else { return };
        turn.remember(&format!("slot/{name}"), &model.slot);
        let report = model.slot.report();
        if self.facts().slot(name).as_ref() != Some(&report) {
            self.fact(now, Fact::Slot(name.clone(), report), turn);
        }
    }

    /// The slot to disk; nothing to the hub.
    pub(super) fn remember_only_slot(&self, name: &ModelName, turn: &mut Turn) {
        if let Some(model) = self.models.get(name) {
            turn.remember(&format!("slot/{name}"), &model.slot);
        }
    }

    /// Slot and monitors to disk; nothing to the hub.
    pub(super) fn remember_model(&self, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get(name) else { return };
        turn.remember(&format!("slot/{name}"), &model.slot);
        turn.records
            .push(super::Record::Memory { key: format!("watch/{name}"), value: to_cbor(&model.watch) });
    }
}

/// What a restart interrupted: a fetch is asked for again, a candidate that is gone is dropped.
fn forget_interrupted(slot: &mut Slot, versions: &BTreeMap<Digest, VersionInfo>) {
    if let Some(previous) = slot.previous.filter(|version| versions.contains_key(version))
        && !versions.contains_key(&slot.champion)
    {
        slot.champion = previous; // the champion's files were damaged: better the one before than none
    }
    // A snapshot of an earlier day may name one that was deleted since: there is no way back to it.
    slot.previous = slot.previous.filter(|version| versions.contains_key(version));
    let Some(candidate) = &slot.candidate else { return };
    if versions.contains_key(&candidate.version) {
        return;
    }
    if let Source::Hub { generation, .. } = candidate.source {
        slot.applied_generation = slot.applied_generation.min(generation.saturating_sub(1));
    }
    slot.candidate = None;
}
