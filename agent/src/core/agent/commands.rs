//! What the operator of the device asks.

use super::super::event::VersionInfo;
use super::super::slot::Slot;
use super::{Agent, Turn};
use shoal_proto::decision::{Rejection, RollbackReason, Source};
use shoal_proto::fact::{Condemnation, Fact};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::Now;

impl Agent {
    pub(super) fn go_back(
        &mut self,
        now: Now,
        name: &ModelName,
        source: Source,
        turn: &mut Turn,
    ) -> Option<Digest> {
        let previous = self.models.get(name)?.slot.previous?;
        let policy = self.policy.trial;
        self.stage(now, name, previous, source, policy, true, turn);
        Some(previous)
    }

    pub(super) fn on_rollback_command(
        &mut self,
        now: Now,
        name: &ModelName,
        turn: &mut Turn,
    ) -> Result<String, String> {
        let model = self.models.get(name).ok_or_else(|| format!("no model `{name}` is served here"))?;
        let champion = model.slot.champion;
        if let Some(candidate) = model.slot.on_trial() {
            let version = candidate.version;
            self.roll_back(now, name, RollbackReason::Command, true, turn);
            return Ok(format!("{} is taken back, {} serves", version.short(), champion.short()));
        }
        if model.slot.previous.is_none() {
            return Err(format!("model `{name}` has no previous version"));
        }
        let condemned = self.facts().condemned();
        if let Some((previous, reason)) = model.slot.previous.and_then(|it| condemned.get_key_value(&it)) {
            let short = previous.short();
            return Err(format!(
                "the version before, {short}, is condemned here: {reason}; promote another one"
            ));
        }
        // A candidate that does not serve yet gives way: who goes back does not wait for it.
        self.reject(now, name, Rejection::Cancelled, turn);
        let previous = self
            .go_back(now, name, Source::Local, turn)
            .ok_or_else(|| format!("model `{name}` has no previous version"))?;
        let word = Condemnation { holds: true, reason: RollbackReason::Command.to_string() };
        self.fact(now, Fact::Condemned(champion, word), turn);
        Ok(format!("{} is taken back, {} serves", champion.short(), previous.short()))
    }

    pub(super) fn on_promote_command(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        turn: &mut Turn,
    ) -> Result<String, String> {
        let model = self.models.get(name).ok_or_else(|| format!("no model `{name}` is served here"))?;
        if !self.versions.contains_key(&version) {
            return Err(format!("version {} is not on this device", version.short()));
        }
        if model.slot.candidate.is_some() || model.slot.champion == version {
            return Err("the version serves already, or a candidate is in the slot".into());
        }
        let policy = self.policy.trial;
        self.stage(now, name, version, Source::Local, policy, false, turn);
        Ok(format!("{} goes on trial", version.short()))
    }

    /// Takes this device's own word against a version back; the hub's stays.
    pub(super) fn on_lift_command(
        &mut self,
        now: Now,
        version: Digest,
        turn: &mut Turn,
    ) -> Result<String, String> {
        if !self.facts().condemned().contains_key(&version) {
            return Err(format!("version {} is not condemned here", version.short()));
        }
        let word = Condemnation { holds: false, reason: "lifted by command".into() };
        self.fact(now, Fact::Condemned(version, word), turn);
        match self.facts().condemned().get(&version) {
            None => Ok(format!("{} may serve here again", version.short())),
            Some(reason) => Err(format!("version {} is condemned by the hub: {reason}", version.short())),
        }
    }

    pub(super) fn on_installed(
        &mut self,
        now: Now,
        info: VersionInfo,
        turn: &mut Turn,
    ) -> Result<String, String> {
        let (name, version) = (info.record.model.clone(), info.version);
        self.take_version(now, info, turn);
        if self.models.contains_key(&name) {
            return self.on_promote_command(now, &name, version, turn);
        }
        self.open_model(now, name.clone(), Slot::new(version), None, turn);
        Ok(format!("{} is admitted and will serve as `{name}`", version.short()))
    }
}
