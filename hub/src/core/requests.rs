//! What operators ask, and what they are told.

use super::effect::{Answer, Note, Record};
use super::event::Request;
use super::hub::{Hub, Turn, condemnation};
use super::policy::{MAX_ROLLOUTS, MAX_TAG_BYTES, MAX_TAGS, MAX_VERSIONS};
use super::refusal::Refusal;
use super::registered::{Condemned, Registered};
use super::rollout::{AbortMode, Member, Phase, Rollout, RolloutWish, StopReason, Stopwatch, Strategy};
use shoal_proto::id::{DeviceId, Digest, RolloutId};
use std::collections::BTreeMap;

/// Fewest hex digits that stand for a version.
const MIN_PREFIX: usize = 6;

impl Hub {
    pub(super) fn on_request(&mut self, turn: &mut Turn, request: Request) -> Result<Answer, Refusal> {
        let now = turn.now.mono;
        Ok(match request {
            Request::PushModel(model) => self.push_model(turn, *model)?,
            Request::CondemnVersion { version, reason, holds } => {
                self.condemn(turn, &version, reason, holds)?
            }
            Request::CreateRollout(wish) => self.create_rollout(turn, *wish)?,
            Request::AbortRollout { rollout, mode } => self.abort_rollout(turn, &rollout, mode)?,
            Request::TagDevice { device, tags } => self.tag_device(turn, device, tags)?,
            Request::RemoveDevice { device } => self.remove_device(turn, device)?,
            Request::GiveCommand { device, wish } => self.give_command(turn, &device, *wish)?,
            Request::WithdrawCommand { device, id } => {
                self.withdraw_command(turn, &device, id, "withdrawn by command")?
            }
            Request::Command { device, id } => self.answer_command(&device, id)?,
            Request::Health => Answer::Health(Box::new(self.health_view())),
            Request::Devices => Answer::Devices(self.device_rows(now)),
            Request::Device(device) => Answer::Device(Box::new(self.device_view(&device, now)?)),
            Request::Versions(model) => Answer::Versions(self.version_views(model.as_ref())?),
            Request::Drift(model) => Answer::Drift(self.drift_views(model.as_ref())),
            Request::Rollouts => {
                Answer::Rollouts(self.rollouts.values().rev().map(|it| self.rollout_view(it, now)).collect())
            }
            Request::Rollout(id) => self.answer_rollout(&id, now)?,
        })
    }

    fn answer_rollout(&self, id: &RolloutId, now: shoal_proto::time::Mono) -> Result<Answer, Refusal> {
        let rollout = self.rollouts.get(id).ok_or_else(|| Refusal::UnknownRollout { rollout: id.clone() })?;
        Ok(Answer::Rollout(Box::new(self.rollout_view(rollout, now))))
    }

    fn push_model(&mut self, turn: &mut Turn, model: Registered) -> Result<Answer, Refusal> {
        let version = model.version;
        let created = !self.models.contains_key(&version);
        if created {
            if self.models.len() >= MAX_VERSIONS {
                return Err(Refusal::Full { what: "versions in the registry", limit: MAX_VERSIONS });
            }
            turn.note(Note::ModelPushed { name: model.record.name.clone() });
            turn.records.push(Record::Model(Box::new(model.clone())));
            self.models.insert(version, model);
        } else if let Some(known) = self.models.get_mut(&version)
            && known.artifact.chunks.is_none()
            && known.artifact.archive == model.artifact.archive
            && model.artifact.chunks.is_some()
        {
            // Pushed to an earlier build, which made no list.
            known.artifact.chunks = model.artifact.chunks;
            turn.records.push(Record::Model(Box::new(known.clone())));
        }
        self.answer_version(version, created)
    }

    fn answer_version(&self, version: Digest, created: bool) -> Result<Answer, Refusal> {
        let views = self.version_views(None)?;
        let view = views.into_iter().find(|view| view.version == version);
        let view = view.ok_or_else(|| Refusal::UnknownVersion { version: version.to_string() })?;
        Ok(Answer::Version { created, version: Box::new(view) })
    }

    /// A registered version by digest, by a prefix of it, or by name.
    fn resolve(&self, text: &str) -> Result<Digest, Refusal> {
        let fits = |model: &Registered| {
            model.record.name == text
                || (text.len() >= MIN_PREFIX && model.version.to_string().starts_with(text))
        };
        let found: Vec<Digest> =
            self.models.values().filter(|model| fits(model)).map(|model| model.version).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(Refusal::UnknownVersion { version: text.chars().take(80).collect() }),
            many => Err(Refusal::AmbiguousVersion { version: text.to_owned(), count: many.len() }),
        }
    }

    fn condemn(
        &mut self,
        turn: &mut Turn,
        version: &str,
        reason: String,
        holds: bool,
    ) -> Result<Answer, Refusal> {
        let version = self.resolve(version)?;
        let reason: String = reason.chars().take(400).collect();
        let generation = self.next_generation(turn);
        let Some(model) = self.models.get_mut(&version) else { return self.answer_version(version, false) };
        model.condemned = Some(Condemned { generation, holds, reason: reason.clone() });
        turn.records.push(Record::Model(Box::new(model.clone())));
        let name = model.record.name.clone();
        let word = condemnation(model);
        turn.note(Note::Condemned { name, holds, reason: reason.clone() });
        let devices: Vec<DeviceId> = self.devices.keys().cloned().collect();
        for device in devices {
            if let Some(word) = word.clone() {
                self.write(turn, &device, word);
            }
        }
        if holds {
            let running: Vec<RolloutId> = self
                .rollouts
                .values()
                .filter(|it| it.is_running() && it.version == version)
                .map(|it| it.id.clone())
                .collect();
            for id in running {
                let reason = reason.clone();
                self.end(turn, &id, Phase::Stopped(StopReason::Condemned { reason }));
            }
        }
        self.answer_version(version, false)
    }

    fn create_rollout(&mut self, turn: &mut Turn, wish: RolloutWish) -> Result<Answer, Refusal> {
        check(&wish.strategy)?;
        let version = self.resolve(&wish.version)?;
        if let Some(model) = self.models.get(&version) {
            let name = model.record.name.clone();
            if model.record.model != wish.model {
                let (found, expected) = (model.record.model.clone(), wish.model);
                return Err(Refusal::OtherModel { version: name, found, expected });
            }
            if let Some(reason) = model.condemned_for() {
                return Err(Refusal::Condemned { version: name, reason: reason.to_owned() });
            }
        }
        if self.rollouts.len() >= MAX_ROLLOUTS {
            return Err(Refusal::Full { what: "rollouts", limit: MAX_ROLLOUTS });
        }
        let members = self.choose(&wish)?;
        let text = format!("r-{:05}", self.rollouts.len() + 1);
        let id = RolloutId::new(text).expect("`r-` and digits are a name");
        let name = self.models.get(&version).map(|it| it.record.name.clone()).unwrap_or_default();
        let mut rollout = Rollout {
            id: id.clone(),
            model: wish.model,
            version,
            name,
            strategy: wish.strategy,
            selector: wish.selector,
            created: turn.now.wall,
            ended: None,
            phase: Phase::Running,
            wave: 0,
            running: Stopwatch::start(turn.now.mono),
            soaking: None,
            members,
        };
        self.save(turn, &mut rollout);
        self.rollouts.insert(id.clone(), rollout);
        self.plans.insert(id.clone(), turn.now.mono);
        self.plan_due(turn);
        self.answer_rollout(&id, turn.now.mono)
    }

    /// The devices of a rollout by wave: those heard last go first, so that the canary is alive.
    fn choose(&self, wish: &RolloutWish) -> Result<BTreeMap<DeviceId, Member>, Refusal> {
        let mut chosen: Vec<_> = self
            .devices
            .iter()
            .filter(|(_, device)| device.slots.contains_key(&wish.model))
            .filter(|(_, device)| {
                let tags = device.tags();
                wish.selector.iter().all(|(key, value)| tags.get(key) == Some(value))
            })
            .map(|(id, device)| (device.online.is_none(), id))
            .collect();
        chosen.sort();
        if chosen.is_empty() {
            return Err(Refusal::NoDevices { model: wish.model.clone() });
        }
        for running in self.rollouts.values().filter(|it| it.is_running() && it.model == wish.model) {
            if let Some((_, device)) = chosen.iter().find(|(_, id)| running.members.contains_key(*id)) {
                let (rollout, model) = (running.id.clone(), wish.model.clone());
                return Err(Refusal::Overlap { rollout, model, device: (*device).clone() });
            }
        }
        let canary = usize::try_from(wish.strategy.canary).unwrap_or(usize::MAX);
        let member = |wave| Member { wave, assigned: None, reverted: None, verdict: None };
        Ok(chosen
            .into_iter()
            .enumerate()
            .map(|(index, (_, id))| (id.clone(), member(u32::from(index >= canary))))
            .collect())
    }

    fn abort_rollout(&mut self, turn: &mut Turn, id: &RolloutId, mode: AbortMode) -> Result<Answer, Refusal> {
        let rollout = self.rollouts.get(id).ok_or_else(|| Refusal::UnknownRollout { rollout: id.clone() })?;
        if !rollout.is_running() && rollout.phase != Phase::Aborted(mode) {
            return Err(Refusal::Ended { rollout: id.clone(), phase: rollout.phase.to_string() });
        }
        if rollout.is_running() {
            self.end(turn, id, Phase::Aborted(mode));
        }
        self.answer_rollout(id, turn.now.mono)
    }

    fn end(&mut self, turn: &mut Turn, id: &RolloutId, phase: Phase) {
        let Some(mut rollout) = self.rollouts.remove(id) else { return };
        self.finish(turn, &mut rollout, phase);
        self.save(turn, &mut rollout);
        self.plans.remove(id);
        self.planned.remove(id);
        self.rollouts.insert(id.clone(), rollout);
    }

    fn tag_device(
        &mut self,
        turn: &mut Turn,
        id: DeviceId,
        tags: BTreeMap<String, String>,
    ) -> Result<Answer, Refusal> {
        if tags.len() > MAX_TAGS {
            return Err(Refusal::Full { what: "tags of a device", limit: MAX_TAGS });
        }
        let long = |text: &String| text.is_empty() || text.len() > MAX_TAG_BYTES;
        if let Some((key, value)) = tags.iter().find(|(key, value)| long(key) || long(value)) {
            let found = format!("{key}={value}").chars().take(200).collect();
            return Err(Refusal::Field {
                field: "tags",
                found,
                expected: "keys and values of 1 to 80 bytes",
            });
        }
        let device =
            self.devices.get_mut(&id).ok_or_else(|| Refusal::UnknownDevice { device: id.clone() })?;
        device.memory.tags = tags;
        turn.records.push(Record::Memory(id.clone(), device.remember()));
        Ok(Answer::Device(Box::new(self.device_view(&id, turn.now.mono)?)))
    }

    fn remove_device(&mut self, turn: &mut Turn, id: DeviceId) -> Result<Answer, Refusal> {
        self.forget(&id).ok_or_else(|| Refusal::UnknownDevice { device: id.clone() })?;
        turn.records.push(Record::Gone(id.clone()));
        turn.note(Note::DeviceRemoved { device: id.clone() });
        let touched: Vec<RolloutId> = self
            .rollouts
            .values()
            .filter(|it| it.is_running() && it.members.contains_key(&id))
            .map(|it| it.id.clone())
            .collect();
        for rollout in touched {
            let Some(mut rollout) = self.rollouts.remove(&rollout) else { continue };
            rollout.members.remove(&id);
            self.save(turn, &mut rollout);
            self.plans.insert(rollout.id.clone(), turn.now.mono);
            self.rollouts.insert(rollout.id.clone(), rollout);
        }
        Ok(Answer::Removed { device: id })
    }
}

fn check(strategy: &Strategy) -> Result<(), Refusal> {
    let field = |field, found: String, expected| Err(Refusal::Field { field, found, expected });
    let per_cent = |value: f64| (0.0..=100.0).contains(&value);
    if strategy.canary == 0 {
        return field("canary", "0".into(), "at least 1 device");
    }
    if strategy.deadline_s == 0 {
        return field("deadline_s", "0".into(), "at least 1 second");
    }
    if !per_cent(strategy.success_percentage) {
        return field("success_percentage", strategy.success_percentage.to_string(), "0 to 100");
    }
    if !per_cent(strategy.abort.threshold_percentage) {
        let found = strategy.abort.threshold_percentage.to_string();
        return field("abort.threshold_percentage", found, "0 to 100");
    }
    let trial = strategy.trial;
    if !(0.0..=1.0).contains(&trial.max_failure_share) {
        return field("trial.max_failure_share", trial.max_failure_share.to_string(), "0 to 1");
    }
    if !(0.0..=1.0).contains(&trial.shadow_max_differing) {
        return field("trial.shadow_max_differing", trial.shadow_max_differing.to_string(), "0 to 1");
    }
    if !(trial.max_z.is_finite() && trial.max_z > 0.0) {
        return field("trial.max_z", trial.max_z.to_string(), "a number above 0");
    }
    Ok(())
}
