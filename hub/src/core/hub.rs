//! The hub's state and its one entry.

use super::device::{Device, Memory};
use super::effect::{Effect, Note, Record};
use super::event::Event;
use super::policy::{MAX_DEVICES, Policy};
use super::registered::Registered;
use super::rollout::Rollout;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_proto::document::Document;
use shoal_proto::fact::{ASSIGNMENT, Assignment, COMMAND, Fact, Facts, GLOBALLY_CONDEMNED, REPORT, SLOT};
use shoal_proto::id::{DeviceId, Digest, Incarnation, RolloutId};
use shoal_proto::message::{Beat, Exchange, Hello, Payload, Status};
use shoal_proto::sync::{self, Peer, SyncAlarm};
use shoal_proto::time::{Mono, Now};
use shoal_proto::topic::{Down, Topic, Up};
use shoal_proto::transfer::{Need, Needed, Refusal};
use shoal_proto::wire;
use std::collections::{BTreeMap, BTreeSet};

/// Highest generation that is believed when a device names it: beyond it a device is broken or lies.
const MAX_GENERATION: u64 = 1 << 48;
/// Characters of a foreign topic that an alarm shows.
const SHOWN_CHARS: usize = 120;

/// What the database held.
#[derive(Debug, Default)]
pub struct Saved {
    /// The last generation given.
    pub generation: u64,
    /// Devices.
    pub devices: BTreeMap<DeviceId, (Peer, Document, Memory)>,
    /// Registry rows.
    pub models: BTreeMap<Digest, Registered>,
    /// Rollouts.
    pub rollouts: BTreeMap<RolloutId, Rollout>,
}

/// The hub's decisions.
#[derive(Debug)]
pub struct Hub {
    pub(super) policy: Policy,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    pub(super) models: BTreeMap<Digest, Registered>,
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    pub(super) generation: u64,
    pub(super) broker: bool,
    /// Messages that could not be read, and other things from outside that should not be.
    pub(super) alarms: u64,
    /// Messages of devices that said too much.
    pub(super) unheard: u64,
    /// MQTT payload from and to devices since the start.
    pub(super) bytes: (u64, u64),
    /// When each running rollout is planned next.
    pub(super) plans: BTreeMap<RolloutId, Mono>,
    /// When commands that nobody took up are withdrawn.
    pub(super) expiries: BTreeMap<(Mono, u64), DeviceId>,
    /// When it was planned last.
    pub(super) planned: BTreeMap<RolloutId, Mono>,
    rng: StdRng,
    due: BTreeSet<(Mono, DeviceId)>,
}

/// One turn's records and effects: the records go first, whatever came in which order.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Now,
    pub(super) records: Vec<Record>,
    pub(super) effects: Vec<Effect>,
}

impl Turn {
    pub(super) fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }
}

impl Hub {
    /// The hub as the database held it. `seed`: of jitter and of fresh incarnations.
    #[must_use]
    pub fn restore(policy: Policy, saved: Saved, seed: u64) -> Self {
        let devices = saved
            .devices
            .into_iter()
            .map(|(id, (peer, document, memory))| (id, Device::restore(peer, document, memory)))
            .collect();
        let running = saved.rollouts.values().filter(|it| it.is_running());
        let devices: BTreeMap<DeviceId, Device> = devices;
        let documents = devices.iter().map(|(id, device)| (id, &device.document));
        let expiries = super::command::expiries(documents);
        let plans = running.map(|it| (it.id.clone(), Mono::default())).collect();
        Self {
            policy,
            devices,
            models: saved.models,
            rollouts: saved.rollouts,
            generation: saved.generation,
            broker: false,
            alarms: 0,
            unheard: 0,
            bytes: (0, 0),
            plans,
            expiries,
            planned: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            due: BTreeSet::new(),
        }
    }

    /// Takes one event and says what shall happen.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let mut turn = Turn { now, records: Vec::new(), effects: Vec::new() };
        match event {
            Event::Tick => {}
            Event::BrokerUp => self.broker = true,
            Event::BrokerDown => self.on_broker_down(),
            Event::DeviceFrame { topic, retained, bytes } => {
                self.bytes.0 = self.bytes.0.saturating_add(bytes.len() as u64);
                self.on_frame(&mut turn, &topic, retained, &bytes);
            }
            Event::Request { number, request } => {
                let outcome = self.on_request(&mut turn, request);
                turn.effects.push(Effect::Reply { number, outcome });
            }
        }
        self.expire_commands(&mut turn);
        self.plan_due(&mut turn);
        self.poll_due(&mut turn);
        if !turn.records.is_empty() {
            effects.push(Effect::Persist(turn.records));
        }
        effects.append(&mut turn.effects);
    }

    /// When [`Event::Tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let device = self.due.first().map(|(at, _)| *at);
        let command = self.expiries.first_key_value().map(|((at, _), _)| *at);
        device.into_iter().chain(command).chain(self.plans.values().copied()).min()
    }

    /// Counts and tells of something from outside that should not be.
    pub(super) fn alarm(&mut self, turn: &mut Turn, device: Option<DeviceId>, reason: String) {
        self.alarms = self.alarms.saturating_add(1);
        turn.note(Note::Alarm { device, reason });
    }

    fn on_broker_down(&mut self) {
        self.broker = false;
        self.due.clear();
        for device in self.devices.values_mut() {
            device.peer.on_disconnected();
            device.online = None;
            device.due = None;
        }
    }

    fn on_frame(&mut self, turn: &mut Turn, topic: &str, retained: bool, bytes: &[u8]) {
        let Some(Topic::Up(id, what)) = Topic::parse(topic) else {
            let shown: String = topic.chars().take(SHOWN_CHARS).collect();
            return self.alarm(turn, None, format!("message on topic `{shown}`, which no device has"));
        };
        if let Some(device) = self.devices.get_mut(&id) {
            let rate = self.policy.device_bytes_per_s;
            let (may, is_first) = device.may_say(turn.now.mono, bytes.len(), rate);
            if !may {
                self.unheard = self.unheard.saturating_add(1);
                if is_first {
                    let reason = format!("says more than {rate} bytes a second; the rest is not heard");
                    self.alarm(turn, Some(id), reason);
                }
                return;
            }
        }
        let read = match what {
            Up::Hello if !retained => wire::decode(bytes).map(|hello| self.on_hello(turn, &id, &hello)),
            Up::Sync if !retained => wire::decode(bytes).map(|message| self.on_sync(turn, &id, message)),
            Up::Status => wire::decode(bytes).map(|status| self.on_status(turn, &id, retained, &status)),
            Up::Beat if !retained => wire::decode(bytes).map(|beat| self.on_beat(turn, &id, beat)),
            Up::Need if !retained => wire::decode(bytes).map(|need| self.on_need(turn, &id, need)),
            // A retained hello, sync, beat or need is a broker's echo.
            Up::Hello | Up::Sync | Up::Beat | Up::Need => Ok(()),
        };
        if let Err(error) = read {
            self.alarm(turn, Some(id), format!("{what:?} cannot be read: {error}"));
        }
    }

    fn on_hello(&mut self, turn: &mut Turn, id: &DeviceId, hello: &Hello) {
        if hello.device != *id {
            let reason = format!("says hello as `{}`", hello.device);
            return self.alarm(turn, Some(id.clone()), reason);
        }
        let mono = turn.now.mono;
        self.converse(turn, id, |device, fresh, records| {
            device.online = Some(hello.boot);
            device.memory.boot = hello.boot;
            device.memory.incarnation = Some(hello.incarnation);
            device.memory.agent_version = hello.agent_version.chars().take(SHOWN_CHARS).collect();
            device.peer.on_hello(mono, hello, fresh, records)
        });
        turn.note(Note::DeviceOnline { device: id.clone(), boot: hello.boot });
    }

    fn on_sync(&mut self, turn: &mut Turn, id: &DeviceId, message: Exchange) {
        let Now { mono, wall } = turn.now;
        self.converse(turn, id, |device, fresh, records| {
            device.online = device.online.or(Some(device.memory.boot));
            device.memory.incarnation = Some(message.incarnation);
            let ahead = match &message.payload {
                Payload::Ahead { entries } => entries.clone(),
                _ => Vec::new(),
            };
            let Device { peer, document, .. } = device;
            peer.on_exchange(mono, wall, message, fresh, document, records)?;
            device.foresee(&ahead);
            Ok(())
        });
    }

    /// A device's word about its document. One that was not known is known from now on.
    fn converse(
        &mut self,
        turn: &mut Turn,
        id: &DeviceId,
        act: impl FnOnce(&mut Device, Incarnation, &mut Vec<sync::Record>) -> Result<(), SyncAlarm>,
    ) {
        if !self.join(turn, id) {
            return self.alarm(turn, Some(id.clone()), format!("refused: the hub has {MAX_DEVICES} devices"));
        }
        let fresh = self.fresh();
        let limit = self.policy.unreachable_after;
        let Some(device) = self.devices.get_mut(id) else { return };
        let was_silent = device.silent(turn.now.mono) > limit;
        let mut records = Vec::new();
        let outcome = act(device, fresh, &mut records);
        let memory = device.hear(turn.now);
        let changed = device.refresh(&records);
        let seen = highest_generation(device, &records);
        turn.records.extend(memory.map(|memory| Record::Memory(id.clone(), memory)));
        turn.records.extend(records.into_iter().map(|record| Record::Link(id.clone(), record)));
        if let Some(generation) = seen.filter(|seen| *seen > self.generation) {
            // Our own database was lost: a generation given before must never be given again.
            self.generation = generation;
            turn.records.push(Record::Generation(generation));
        }
        if was_silent || !changed.is_empty() {
            self.plan_soon(id, turn.now.mono);
        }
        if let Err(alarm) = outcome {
            self.alarm(turn, Some(id.clone()), alarm.to_string());
        }
        self.touch(id);
    }

    fn on_status(&mut self, turn: &mut Turn, id: &DeviceId, retained: bool, status: &Status) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let same = device.memory.incarnation.is_none_or(|known| known == status.incarnation);
        if !same || status.boot < device.memory.boot {
            return; // an earlier life's last will
        }
        if !status.online {
            device.peer.on_disconnected();
            if device.online.take().is_some() {
                turn.note(Note::DeviceOffline { device: id.clone() });
            }
            return self.touch(id);
        }
        if !retained {
            let memory = device.hear(turn.now);
            turn.records.extend(memory.map(|memory| Record::Memory(id.clone(), memory)));
        }
        self.resume(turn, id, status.boot);
    }

    /// A sign of life. One that came late or twice says nothing new.
    fn on_beat(&mut self, turn: &mut Turn, id: &DeviceId, beat: Beat) {
        if !self.join(turn, id) {
            return self.alarm(turn, Some(id.clone()), format!("refused: the hub has {MAX_DEVICES} devices"));
        }
        let limit = self.policy.unreachable_after;
        let Some(device) = self.devices.get_mut(id) else { return };
        if !device.takes(&beat) {
            return;
        }
        let was_silent = device.silent(turn.now.mono) > limit;
        let (memory, boot) = (device.hear(turn.now), beat.boot);
        device.beat = Some(beat);
        turn.records.extend(memory.map(|memory| Record::Memory(id.clone(), memory)));
        if was_silent {
            self.plan_soon(id, turn.now.mono);
        }
        self.resume(turn, id, boot);
    }

    /// The device is there. Where the hub came back and the device did not notice, the conversation goes on.
    fn resume(&mut self, turn: &mut Turn, id: &DeviceId, boot: u64) {
        let fresh = self.fresh();
        let Some(device) = self.devices.get_mut(id) else { return };
        device.online = Some(boot);
        let mut records = Vec::new();
        let outcome = device.peer.resume(turn.now.mono, fresh, &mut records);
        turn.records.extend(records.into_iter().map(|record| Record::Link(id.clone(), record)));
        if let Err(alarm) = outcome {
            self.alarm(turn, Some(id.clone()), alarm.to_string());
        }
        self.touch(id);
    }

    /// A device gets what is assigned to it, and nothing else.
    fn on_need(&mut self, turn: &mut Turn, id: &DeviceId, need: Need) {
        if matches!(need.what, Needed::Chunks { bits: 0, .. }) {
            return self.alarm(turn, Some(id.clone()), "needs no chunk of an archive".into());
        }
        let Some(device) = self.devices.get(id) else {
            return self.alarm(turn, Some(id.clone()), "needs an archive before it has said hello".into());
        };
        let names = |wish: &Assignment| wish.artifact.as_ref().is_some_and(|it| it.archive == need.archive);
        let is_assigned = Facts(&device.document).assignments().iter().any(|(.., wish)| names(wish));
        let refused = (!is_assigned).then_some(Refusal::NotAssigned);
        turn.effects.push(Effect::Carry { device: id.clone(), need, refused });
    }

    /// Makes sure that a device is known; false when the hub is full.
    fn join(&mut self, turn: &mut Turn, id: &DeviceId) -> bool {
        if self.devices.contains_key(id) {
            return true;
        }
        if self.devices.len() >= MAX_DEVICES {
            return false;
        }
        let ours = self.fresh();
        self.devices.insert(id.clone(), Device::new(ours));
        turn.records.push(Record::Born(id.clone(), ours));
        turn.note(Note::DeviceJoined { device: id.clone() });
        let words: Vec<Fact> = self.models.values().filter_map(condemnation).collect();
        for word in words {
            self.write(turn, id, word);
        }
        true
    }

    /// Writes a fact into a device's document.
    pub(super) fn write(&mut self, turn: &mut Turn, id: &DeviceId, fact: Fact) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let (kind, key, value) = fact.into_parts();
        let mut records = Vec::new();
        device.peer.write(&mut device.document, turn.now.wall, kind, key, value, &mut records);
        turn.records.extend(records.into_iter().map(|record| Record::Link(id.clone(), record)));
        self.touch(id);
    }

    /// The next generation.
    pub(super) fn next_generation(&mut self, turn: &mut Turn) -> u64 {
        self.generation += 1;
        turn.records.push(Record::Generation(self.generation));
        self.generation
    }

    fn fresh(&mut self) -> Incarnation {
        Incarnation(self.rng.random_range(1..=u64::MAX))
    }

    /// Puts a device where its conversation's next deadline belongs.
    fn touch(&mut self, id: &DeviceId) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let next = if self.broker { device.peer.next_deadline() } else { None };
        if next == device.due {
            return;
        }
        if let Some(at) = std::mem::replace(&mut device.due, next) {
            self.due.remove(&(at, id.clone()));
        }
        self.due.extend(next.map(|at| (at, id.clone())));
    }

    /// Forgets a device.
    pub(super) fn forget(&mut self, id: &DeviceId) -> Option<Device> {
        let device = self.devices.remove(id)?;
        if let Some(at) = device.due {
            self.due.remove(&(at, id.clone()));
        }
        Some(device)
    }

    fn poll_due(&mut self, turn: &mut Turn) {
        let Now { mono, wall } = turn.now;
        let due: Vec<DeviceId> =
            self.due.iter().take_while(|(at, _)| *at <= mono).map(|(_, id)| id.clone()).collect();
        for id in due {
            let jitter = self.rng.random();
            let Some(device) = self.devices.get_mut(&id) else { continue };
            let messages = device.peer.poll(mono, wall, jitter, &device.document);
            let reads = device.peer.wire();
            for message in messages {
                match wire::encode_for(reads, &message) {
                    Ok(frame) => {
                        let topic = Topic::Down(id.clone(), Down::Sync);
                        self.bytes.1 = self.bytes.1.saturating_add(frame.len() as u64);
                        turn.effects.push(Effect::Publish { topic, frame });
                    }
                    Err(error) => self.alarm(turn, Some(id.clone()), error.to_string()),
                }
            }
            self.touch(&id);
        }
    }
}

/// The word of condemnation that every document carries.
pub(super) fn condemnation(model: &Registered) -> Option<Fact> {
    let word = model.condemned.as_ref()?;
    let value = shoal_proto::fact::Condemnation { holds: word.holds, reason: word.reason.clone() };
    Some(Fact::GloballyCondemned(word.generation, model.version, value))
}

fn highest_generation(device: &Device, records: &[sync::Record]) -> Option<u64> {
    let generations = records.iter().filter_map(|record| match record {
        sync::Record::Put(entry) if entry.kind == SLOT => {
            Some(Facts(&device.document).slot(&entry.key.parse().ok()?)?.applied_generation)
        }
        sync::Record::Put(entry) if entry.kind == REPORT => {
            Some(Facts(&device.document).reports().get(&entry.key.parse().ok()?)?.id)
        }
        sync::Record::Put(entry) if [ASSIGNMENT, GLOBALLY_CONDEMNED, COMMAND].contains(&entry.kind) => {
            entry.marker.map(|marker| marker.stamp)
        }
        _ => None,
    });
    generations.filter(|generation| *generation <= MAX_GENERATION).max()
}
