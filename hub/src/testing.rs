//! What tests of several modules need: a device made of the protocol's other side, and a package.

use crate::core::{Answer, Effect, Event, Hub, Policy, Record, Refusal, Request, Saved};
use shoal_proto::baseline::{Baseline, FeatureBaseline};
use shoal_proto::decision::{SlotEnd, Source};
use shoal_proto::document::Document;
use shoal_proto::fact::{Assignment, EndReport, Fact, Facts, SlotReport};
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName, Replica, Side};
use shoal_proto::message::{Beat, Exchange, Hello, Payload, Status, lower_half};
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};
use shoal_proto::sync::{Log, Peer};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::transfer::{self, Need};
use shoal_proto::wire::{decode, encode};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn at(seconds: u64) -> Now {
    Now { mono: Mono::from_millis(seconds * 1000), wall: WallMs(1_800_000_000_000 + seconds * 1000) }
}

pub(crate) fn model() -> ModelName {
    ModelName::new("gas").unwrap()
}

/// A package of two features whose graph is not one; `version` is its only difference.
pub(crate) fn package(version: u32) -> Package {
    let manifest = format!(
        "format = 1\n[model]\nname = \"gas\"\nversion = {version}\ntask = \"classification\"\n\
         [input]\ntensor = \"x\"\n[output]\ntensor = \"y\"\nkind = \"logits\"\nclasses = [\"a\", \"b\"]\n\
         [[feature]]\nname = \"s1\"\nmin = 0.0\nmax = 99.0\n[[feature]]\nname = \"s2\"\nmin = 0.0\nmax = 99.0\n"
    );
    let column = || FeatureBaseline::of((0..100).map(f64::from));
    let baseline =
        Baseline { rows: 100, features: vec![column(), column()], predictions: None, ..Baseline::default() };
    let files =
        [(MODEL, b"graph".to_vec()), (MANIFEST, manifest.into_bytes()), (BASELINE, baseline.to_bytes())];
    Package::new(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()).unwrap()
}

/// A device: the protocol's other side and nothing else.
pub(crate) struct FakeDevice {
    pub(crate) id: DeviceId,
    pub(crate) peer: Peer,
    pub(crate) document: Document,
    pub(crate) boot: u64,
}

impl FakeDevice {
    pub(crate) fn new(id: &str, incarnation: u64) -> Self {
        let replica = Replica { side: Side::Device, incarnation: Incarnation(incarnation) };
        let peer = Peer::new(Log::new(replica), None, BTreeSet::new());
        Self { id: DeviceId::new(id).unwrap(), peer, document: Document::default(), boot: 1 }
    }

    pub(crate) fn write(&mut self, fact: Fact) {
        let (kind, key, value) = fact.into_parts();
        self.peer.write(&mut self.document, WallMs(1), kind, key, value, &mut Vec::new());
    }

    pub(crate) fn slot(&mut self, champion: Digest, applied_generation: u64, last_end: Option<EndReport>) {
        let slot = SlotReport { applied_generation, champion, previous: None, candidate: None, last_end };
        self.write(Fact::Slot(model(), slot));
    }

    /// The newest assignment, and what the device says when it ended like this.
    pub(crate) fn end(&mut self, champion: Digest, end: SlotEnd) {
        let (generation, wish) = self.assignment().expect("an assignment");
        let source = Source::Hub { generation, rollout: wish.rollout };
        let end = EndReport {
            version: wish.version,
            source,
            end,
            at: WallMs(2),
            trial_labels: (20, 18),
            shadow: None,
        };
        self.slot(champion, generation, Some(end));
    }

    pub(crate) fn assignment(&self) -> Option<(u64, Assignment)> {
        Facts(&self.document).assignments().pop().map(|(_, generation, wish)| (generation, wish))
    }

    fn up(&self, what: Up, bytes: Vec<u8>) -> Event {
        Event::DeviceFrame { topic: Topic::Up(self.id.clone(), what).to_string(), retained: false, bytes }
    }

    pub(crate) fn hello(&self) -> Event {
        let hello = Hello {
            device: self.id.clone(),
            incarnation: self.peer.log.replica.incarnation,
            boot: self.boot,
            last_seq: self.peer.log.last().0,
            cursor: self.peer.cursor(),
            agent_version: "0.1.0".into(),
            wire_max: 1,
            wall: WallMs(1),
        };
        self.up(Up::Hello, encode(&hello).unwrap())
    }

    pub(crate) fn status(&self, online: bool, boot: u64) -> Event {
        let incarnation = self.peer.log.replica.incarnation;
        self.up(Up::Status, encode(&Status { online, boot, incarnation }).unwrap())
    }

    pub(crate) fn beat(&self, uptime_s: u64, counts: &[(u8, u64)]) -> Event {
        let life = lower_half(self.peer.log.replica.incarnation);
        let beat = Beat { life, boot: self.boot, uptime_s, counts: counts.iter().copied().collect() };
        self.up(Up::Beat, encode(&beat).unwrap())
    }

    /// Its registers, said ahead of its log.
    pub(crate) fn ahead(&self) -> Event {
        let entries = self.document.entries().filter(|entry| entry.marker.is_some()).collect();
        let message = Exchange {
            incarnation: self.peer.log.replica.incarnation,
            wall: WallMs(1),
            ack: None,
            wire_max: 2,
            payload: Payload::Ahead { entries },
        };
        self.up(Up::Sync, encode(&message).unwrap())
    }

    pub(crate) fn say(&mut self, now: Now) -> Vec<Event> {
        let messages = self.peer.poll(now.mono, now.wall, 0, &self.document);
        messages.iter().map(|message| self.up(Up::Sync, encode(message).unwrap())).collect()
    }

    pub(crate) fn hear(&mut self, now: Now, frame: &[u8]) {
        let message: Exchange = decode(frame).unwrap();
        let fresh = Incarnation(0xdead);
        let Self { peer, document, .. } = self;
        // An alarm is the hub's restart or a forged frame: the device goes on.
        if peer.on_exchange(now.mono, now.wall, message, fresh, document, &mut Vec::new()).is_err() {
            assert!(peer.is_connected());
        }
    }
}

/// A hub with devices and no network between them.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) devices: BTreeMap<DeviceId, FakeDevice>,
    /// Everything the hub wanted on disk, turn by turn.
    pub(crate) persisted: Vec<Vec<Record>>,
    pub(crate) notes: Vec<crate::core::Note>,
    /// What devices needed, and why not.
    pub(crate) carried: Vec<(DeviceId, Need, Option<transfer::Refusal>)>,
    number: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let hub = Hub::restore(Policy::default(), Saved::default(), 7);
        let mut world = Self {
            hub,
            devices: BTreeMap::new(),
            persisted: Vec::new(),
            notes: Vec::new(),
            carried: Vec::new(),
            number: 0,
        };
        world.turn(at(0), Event::BrokerUp);
        world
    }

    /// With `count` devices that serve `champion` and have said so.
    pub(crate) fn with_devices(count: u64, champion: Digest) -> Self {
        let mut world = Self::new();
        for index in 0..count {
            let mut device = FakeDevice::new(&format!("press-{index:02}"), 100 + index);
            device.slot(champion, 0, None);
            world.join(device);
        }
        world.settle(at(1));
        world
    }

    pub(crate) fn join(&mut self, device: FakeDevice) {
        let hello = device.hello();
        self.devices.insert(device.id.clone(), device);
        self.turn(at(1), hello);
    }

    pub(crate) fn device(&mut self, id: &str) -> &mut FakeDevice {
        self.devices.get_mut(&DeviceId::new(id).unwrap()).unwrap()
    }

    /// One event; frames reach their device at once. Checks that what is persisted comes first.
    pub(crate) fn turn(&mut self, now: Now, event: Event) -> Option<Result<Answer, Refusal>> {
        let mut effects = Vec::new();
        self.hub.handle(now, event, &mut effects);
        let late = effects.iter().skip(1).any(|effect| matches!(effect, Effect::Persist(_)));
        assert!(!late, "a Persist comes after something that the world can see");
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Persist(records) => self.persisted.push(records),
                Effect::Publish { topic: Topic::Down(id, _), frame } => {
                    if let Some(device) = self.devices.get_mut(&id) {
                        device.hear(now, &frame);
                    }
                }
                Effect::Publish { topic, .. } => panic!("the hub published to {topic}"),
                Effect::Reply { outcome, .. } => reply = Some(outcome),
                Effect::Carry { device, need, refused } => self.carried.push((device, need, refused)),
                Effect::Note(note) => self.notes.push(note),
            }
        }
        reply
    }

    /// Lets everybody talk until nobody has anything to say.
    pub(crate) fn settle(&mut self, now: Now) {
        for _ in 0..50 {
            let said: Vec<Event> = self.devices.values_mut().flat_map(|device| device.say(now)).collect();
            let quiet = said.is_empty();
            for event in said {
                self.turn(now, event);
            }
            self.turn(now, Event::Tick);
            if quiet {
                return;
            }
        }
        panic!("the conversation does not end");
    }

    pub(crate) fn ask(&mut self, now: Now, request: Request) -> Result<Answer, Refusal> {
        self.number += 1;
        let event = Event::Request { number: self.number, request };
        self.turn(now, event).expect("every request is answered in its turn")
    }
}
