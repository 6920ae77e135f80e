//! What the API and the page show: plain values made from the hub's state.

use super::command::CommandView;
use super::device::Device;
use super::drift::{self, DriftView, newest_windows};
use super::hub::Hub;
use super::refusal::Refusal;
use super::rollout::{AbortMode, DeviceState, Phase, Rollout, Strategy, Tally, Waiting};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::RunRecord;
use shoal_proto::fact::{COUNTS, Facts, Health, Inventory, SlotReport, VersionRecord};
use shoal_proto::finding::Finding;
use shoal_proto::id::{DeviceId, Digest, ModelName, RolloutId};
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::{Mono, WallMs};
use std::collections::BTreeMap;

/// Newest findings and runs of a device that are shown.
const SHOWN: usize = 50;

/// A typed value and what it says to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said<T> {
    /// The value.
    pub what: T,
    /// In words.
    pub text: String,
}

impl<T: std::fmt::Display> From<T> for Said<T> {
    fn from(what: T) -> Self {
        Self { text: what.to_string(), what }
    }
}

/// Whether all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// The hub's version.
    pub version: String,
    /// Whether the broker has us.
    pub broker_connected: bool,
    /// Devices known.
    pub devices: u64,
    /// Devices there.
    pub online: u64,
    /// Rollouts that move.
    pub running_rollouts: u64,
    /// Messages that could not be read and other alarms since the start.
    pub alarms: u64,
    /// Messages of devices that said more than they may, since the start.
    pub unheard: u64,
    /// The last generation given.
    pub generation: u64,
    /// MQTT payload of devices since the start.
    pub bytes_in: u64,
    /// MQTT payload to devices since the start, archives not counted.
    pub bytes_out: u64,
    /// Archives that devices fetched since the start.
    #[serde(default)]
    pub archives: Carried,
}

/// What went out of archives since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Carried {
    /// Questions over MQTT.
    pub needs: u64,
    /// Those that found no room.
    pub needs_dropped: u64,
    /// Chunks sent over MQTT.
    pub chunks: u64,
    /// Bytes sent over MQTT: chunks, lists and refusals.
    pub mqtt_bytes: u64,
    /// Questions that were refused.
    pub refusals: u64,
    /// Bytes asked for over HTTP.
    pub http_bytes: u64,
}

/// A device in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Which.
    pub device: DeviceId,
    /// Whether it is there, as far as we know.
    pub online: bool,
    /// When it was last heard, by the hub's clock.
    pub last_seen: WallMs,
    /// The agent's version.
    pub agent_version: String,
    /// Its own tags under the hub's.
    pub tags: BTreeMap<String, String>,
    /// Its models.
    pub models: Vec<ModelRow>,
    /// Operations of ours that it has not acknowledged.
    pub unacknowledged: u64,
}

/// A model on a device in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// Which.
    pub model: ModelName,
    /// What serves.
    pub champion: Digest,
    /// Its name, for people.
    pub name: String,
    /// What wants to serve, and where it stands.
    pub candidate: Option<String>,
    /// The level of the newest window; absent before the first.
    pub level: Option<DriftLevel>,
    /// Labels for predictions of the newest windows.
    pub labelled: u64,
    /// Right answers among them.
    pub correct: u64,
    /// The hub's intent that was last taken up.
    pub applied_generation: u64,
}

/// A device in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// In short.
    #[serde(flatten)]
    pub row: DeviceRow,
    /// Tags that operators gave.
    pub hub_tags: BTreeMap<String, String>,
    /// What it is.
    pub inventory: Option<Inventory>,
    /// How it is.
    pub health: Option<Health>,
    /// Its slots as it reports them.
    pub slots: BTreeMap<ModelName, SlotReport>,
    /// Its counters.
    pub counters: BTreeMap<String, u64>,
    /// The newest findings.
    pub findings: Vec<Finding>,
    /// The newest training runs.
    pub runs: Vec<RunRecord>,
    /// What operators asked of it last, the oldest first.
    #[serde(default)]
    pub commands: Vec<CommandView>,
    /// Versions its document knows.
    pub versions: BTreeMap<Digest, VersionRecord>,
    /// Versions that must not serve there, and why.
    pub condemned: BTreeMap<Digest, String>,
}

/// A version of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    /// Which.
    pub version: Digest,
    /// For people.
    pub name: String,
    /// Which model.
    pub model: ModelName,
    /// What it was made from.
    pub parent: Option<Digest>,
    /// The reference of its summaries.
    pub baseline: Digest,
    /// Whether the registry has its package.
    pub registered: bool,
    /// The archive's size, where the registry has it.
    pub size_bytes: Option<u64>,
    /// The archive's digest, where the registry has it.
    pub archive: Option<Digest>,
    /// Who signed it, where the registry has it.
    pub signer: Option<String>,
    /// When it was pushed.
    pub pushed: Option<WallMs>,
    /// Why it must not serve anywhere.
    pub condemned: Option<String>,
    /// Devices on which it serves.
    pub serving: u64,
    /// Devices on which it wants to.
    pub candidate_on: u64,
    /// Devices on which it was condemned locally.
    pub condemned_on: Vec<DeviceId>,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Which.
    pub id: RolloutId,
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Digest,
    /// Its name, for people.
    pub name: String,
    /// One word.
    pub state: String,
    /// The phase with its reason.
    pub phase: Said<Phase>,
    /// What it waits for.
    pub waiting: Option<Said<Waiting>>,
    /// How.
    pub strategy: Strategy,
    /// For whom.
    #[serde(rename = "where")]
    pub selector: BTreeMap<String, String>,
    /// When it was asked for.
    pub created: WallMs,
    /// When it ended.
    pub ended: Option<WallMs>,
    /// The wave that is or was under way.
    pub wave: u32,
    /// Devices by state.
    pub tally: Tally,
    /// Every device, by wave.
    pub devices: Vec<MemberView>,
}

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Which.
    pub device: DeviceId,
    /// From 0, the canary.
    pub wave: u32,
    /// One word.
    pub state: String,
    /// The state with its reason.
    pub what: Said<DeviceState>,
    /// Labels while it was on trial there.
    pub trial_labelled: u64,
    /// Right answers among them.
    pub trial_correct: u64,
    /// The generation of the assignment.
    pub generation: Option<u64>,
    /// What served there before.
    pub before: Option<Digest>,
    /// Whether it was sent back, and whether it has gone.
    pub revert: Option<Revert>,
}

/// How far a way back has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revert {
    /// Assigned, not yet taken up.
    Assigned,
    /// What it had before serves again.
    Done,
}

impl Hub {
    pub(super) fn health_view(&self) -> HealthView {
        HealthView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            broker_connected: self.broker,
            devices: self.devices.len() as u64,
            online: self.devices.values().filter(|it| it.online.is_some()).count() as u64,
            running_rollouts: self.plans.len() as u64,
            alarms: self.alarms,
            unheard: self.unheard,
            bytes_in: self.bytes.0,
            bytes_out: self.bytes.1,
            generation: self.generation,
            archives: Carried::default(), // the shell's: it carries them
        }
    }

    pub(super) fn device_rows(&self, now: Mono) -> Vec<DeviceRow> {
        self.devices.iter().map(|(id, device)| self.device_row(id, device, now)).collect()
    }

    fn device_row(&self, id: &DeviceId, device: &Device, now: Mono) -> DeviceRow {
        let windows = newest_windows(&device.document, device.memory.incarnation, self.policy.drift_windows);
        let models = device.slots.iter().map(|(model, slot)| {
            let windows = windows.get(model).map(Vec::as_slice).unwrap_or_default();
            let labels = drift::counts_of(windows);
            ModelRow {
                model: model.clone(),
                champion: slot.champion,
                name: self.name_of(slot.champion, device),
                candidate: slot.candidate.as_ref().map(|it| {
                    let state = DeviceState::InProgress(Some(it.state)).to_string();
                    format!("{}: {state}", self.name_of(it.version, device))
                }),
                level: windows.last().map(|it| it.window.level),
                labelled: labels.labelled,
                correct: labels.correct,
                applied_generation: slot.applied_generation,
            }
        });
        DeviceRow {
            device: id.clone(),
            online: device.online.is_some() && device.silent(now) <= self.policy.unreachable_after,
            last_seen: device.memory.last_seen,
            agent_version: device.memory.agent_version.clone(),
            tags: device.tags(),
            models: models.collect(),
            unacknowledged: device.peer.log.waiting() as u64,
        }
    }

    fn name_of(&self, version: Digest, device: &Device) -> String {
        if let Some(model) = self.models.get(&version) {
            return model.record.name.clone();
        }
        let born = Facts(&device.document).versions().remove(&version);
        born.map_or_else(|| version.short(), |record| record.name)
    }

    pub(super) fn device_view(&self, id: &DeviceId, now: Mono) -> Result<DeviceView, Refusal> {
        let device = self.devices.get(id).ok_or_else(|| Refusal::UnknownDevice { device: id.clone() })?;
        let facts = Facts(&device.document);
        let (mut findings, mut runs) = (facts.findings(), facts.runs());
        findings.drain(..findings.len().saturating_sub(SHOWN));
        runs.drain(..runs.len().saturating_sub(SHOWN));
        Ok(DeviceView {
            row: self.device_row(id, device, now),
            hub_tags: device.memory.tags.clone(),
            inventory: facts.inventory(),
            health: device.health(),
            slots: device.slots.clone(),
            counters: COUNTS.iter().map(|(count, key)| ((*key).to_owned(), device.count(*count))).collect(),
            findings,
            runs,
            commands: super::command::views(id, &device.document),
            versions: facts.versions(),
            condemned: facts.condemned(),
        })
    }

    pub(super) fn version_views(&self, model: Option<&ModelName>) -> Result<Vec<VersionView>, Refusal> {
        let mut views: BTreeMap<Digest, VersionView> = BTreeMap::new();
        for known in self.models.values() {
            let mut view = version_view(known.version, &known.record);
            view.registered = true;
            view.size_bytes = Some(known.artifact.size_bytes);
            view.archive = Some(known.artifact.archive);
            view.signer = Some(known.signer.clone());
            view.pushed = Some(known.pushed);
            view.condemned = known.condemned_for().map(str::to_owned);
            views.insert(known.version, view);
        }
        for (id, device) in &self.devices {
            let facts = Facts(&device.document);
            for (version, record) in facts.versions() {
                views.entry(version).or_insert_with(|| version_view(version, &record));
            }
            for slot in device.slots.values() {
                if let Some(view) = views.get_mut(&slot.champion) {
                    view.serving += 1;
                }
                if let Some(view) = slot.candidate.as_ref().and_then(|it| views.get_mut(&it.version)) {
                    view.candidate_on += 1;
                }
            }
            for version in facts.condemned().into_keys() {
                let view = views.get_mut(&version).filter(|view| view.condemned.is_none());
                view.into_iter().for_each(|view| view.condemned_on.push(id.clone()));
            }
        }
        let mut found: Vec<VersionView> =
            views.into_values().filter(|view| model.is_none_or(|model| view.model == *model)).collect();
        found.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        match model {
            Some(model) if found.is_empty() => Err(Refusal::UnknownModel { model: model.clone() }),
            _ => Ok(found),
        }
    }

    pub(super) fn drift_views(&self, model: Option<&ModelName>) -> Vec<DriftView> {
        let fleet = self.devices.iter().map(|(id, device)| {
            let limit = self.policy.drift_windows;
            (id.clone(), newest_windows(&device.document, device.memory.incarnation, limit))
        });
        let mut views = drift::fold(fleet, &self.models);
        views.retain(|view| model.is_none_or(|model| view.model == *model));
        views
    }

    pub(super) fn rollout_view(&self, rollout: &Rollout, now: Mono) -> RolloutView {
        let plan = self.look(rollout, now);
        let mut devices: Vec<MemberView> = rollout
            .members
            .iter()
            .filter_map(|(id, member)| {
                let seen = plan.seen.get(id)?.clone();
                let slot = self.devices.get(id).and_then(|device| device.slots.get(&rollout.model));
                let revert = member.reverted.map(|generation| {
                    let before = member.assigned.and_then(|it| it.before);
                    let done = slot
                        .is_some_and(|it| it.applied_generation >= generation && Some(it.champion) == before);
                    if done { Revert::Done } else { Revert::Assigned }
                });
                Some(MemberView {
                    device: id.clone(),
                    wave: member.wave,
                    state: seen.state.word().to_owned(),
                    what: match member.assigned {
                        Some(_) => seen.state.into(),
                        None => Said { what: seen.state, text: "not assigned".to_owned() },
                    },
                    trial_labelled: seen.trial_labels.0,
                    trial_correct: seen.trial_labels.1,
                    generation: member.assigned.map(|it| it.generation),
                    before: member.assigned.and_then(|it| it.before),
                    revert,
                })
            })
            .collect();
        devices.sort_by(|a, b| (a.wave, &a.device).cmp(&(b.wave, &b.device)));
        RolloutView {
            id: rollout.id.clone(),
            model: rollout.model.clone(),
            version: rollout.version,
            name: rollout.name.clone(),
            state: rollout.phase.word().to_owned(),
            phase: rollout.phase.clone().into(),
            waiting: plan.waiting.map(Into::into),
            strategy: rollout.strategy.clone(),
            selector: rollout.selector.clone(),
            created: rollout.created,
            ended: rollout.ended,
            wave: rollout.wave,
            tally: plan.tally,
            devices,
        }
    }
}

fn version_view(version: Digest, record: &VersionRecord) -> VersionView {
    VersionView {
        version,
        name: record.name.clone(),
        model: record.model.clone(),
        parent: record.parent,
        baseline: record.baseline,
        registered: false,
        size_bytes: None,
        archive: None,
        signer: None,
        pushed: None,
        condemned: None,
        serving: 0,
        candidate_on: 0,
        condemned_on: Vec::new(),
    }
}

/// What a person asks for who ends a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortBody {
    /// Whether devices keep what they have.
    pub mode: AbortMode,
}
