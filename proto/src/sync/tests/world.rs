//! One history: a device and the hub, their disks, the network between them, and what goes wrong.

use super::disk::Disk;
use super::hazard::{Faults, Random, Wall, difference};
use crate::document::{Document, window_key};
use crate::id::{DeviceId, Incarnation, Side};
use crate::message::{Exchange, Hello};
use crate::op::{Class, Kind, split_stamped, stamped};
use crate::sync::{Peer, Record, SyncAlarm};
use crate::time::{Mono, WallMs};
use crate::wire;
use std::collections::{BTreeMap, VecDeque};

/// Steps of a history in which things go wrong.
const HOSTILE_STEPS: u64 = 160;
/// Steps after which a healed world must be quiet: a round trip and a half for each of a few turns of
/// incarnation, and the longest wait for a repetition.
const QUIET_STEPS: u64 = 400;
/// A new incarnation costs a snapshot: so many may follow from one restored, cloned or lost database.
const LIVES_PER_DISASTER: u64 = 4;

enum Message {
    Hello(Vec<u8>),
    Exchange(Vec<u8>),
}

/// One side's machine.
struct Node {
    disk: Disk,
    peer: Peer,
    document: Document,
    backup: Option<Disk>,
    /// What its wall clock shows beyond the true time, or instead of it.
    wall: Wall,
}

impl Node {
    fn new(disk: Disk) -> Self {
        Self { peer: disk.peer(), document: disk.document(), disk, backup: None, wall: Wall::True }
    }

    fn boot(&mut self) {
        self.peer = self.disk.peer();
        self.document = self.disk.document();
    }
}

pub(super) struct World {
    random: Random,
    faults: Faults,
    now_ms: u64,
    nodes: [Node; 2],
    /// The card that is not in the device, where it was cloned.
    clone: Option<Disk>,
    up: bool,
    /// (when, the side it goes to, what)
    air: Vec<(u64, usize, Message)>,
    next_hello: u64,
    /// The join of all writes that no disaster has taken from every disk.
    expected: Document,
    /// What the living writer last said of its own registers.
    truth: BTreeMap<(usize, Kind, String), Vec<u8>>,
    /// Largest generation of the hub's by key.
    serial: u64,
    disasters: u64,
    pub(super) reborn: u64,
    pub(super) frames: u64,
    pub(super) steps_to_quiet: u64,
    lines: VecDeque<String>,
}

const SIDES: [Side; 2] = [Side::Device, Side::Hub];
const DEVICE: usize = 0;
const HUB: usize = 1;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let faults = Faults::drawn(&mut random);
        let nodes = SIDES.map(|side| Node::new(Disk::new(side, random.next().max(1))));
        let mut world = Self {
            random,
            faults,
            now_ms: 0,
            nodes,
            clone: None,
            up: false,
            air: Vec::new(),
            next_hello: 0,
            expected: Document::default(),
            truth: BTreeMap::new(),
            serial: 0,
            disasters: 0,
            reborn: 0,
            frames: 0,
            steps_to_quiet: 0,
            lines: VecDeque::new(),
        };
        world.say(|world| format!("seed {seed}: {:?}", world.faults));
        world
    }

    pub(super) fn trace(&self) -> String {
        self.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    fn say(&mut self, line: impl Fn(&Self) -> String) {
        if self.lines.len() >= 400 {
            self.lines.pop_front();
        }
        let line = format!("{:>8} {}", self.now_ms, line(self));
        self.lines.push_back(line);
    }

    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..HOSTILE_STEPS {
            self.now_ms += 1 + self.random.below(2_000);
            self.misfortune();
            for side in [DEVICE, HUB] {
                if self.random.percent(35) {
                    self.write(side);
                }
            }
            self.deliver();
            self.speak();
            self.check()?;
        }
        self.heal();
        for step in 0..QUIET_STEPS {
            self.now_ms += 1_000;
            if step == 120 {
                // Without a reconnect the next heartbeat must be enough.
                self.write(DEVICE);
                self.write(HUB);
            }
            self.deliver();
            self.speak();
            self.check()?;
            if step > 125 && self.is_quiet() {
                self.steps_to_quiet = step;
                return self.check_end();
            }
        }
        let waiting = [DEVICE, HUB].map(|side| self.nodes[side].peer.log.waiting());
        Err(format!("not quiet after {QUIET_STEPS} healed steps: {waiting:?} wait"))
    }

    fn is_quiet(&self) -> bool {
        self.air.is_empty() && self.nodes.iter().all(|node| node.peer.is_quiet())
    }

    fn wall(&self, side: usize) -> WallMs {
        self.nodes[side].wall.read(self.now_ms)
    }

    fn fresh(&mut self) -> Incarnation {
        Incarnation(self.random.next().max(1))
    }

    /// Writes the records of a turn. A crash may come before, and then the turn never was.
    fn commit(&mut self, side: usize, records: Vec<Record>) -> bool {
        if self.random.percent(self.faults.crash / 3) {
            self.say(|_| format!("{:?} crashes before its records are on disk", SIDES[side]));
            self.restart(side);
            return false;
        }
        for record in &records {
            if let Record::Reborn(fresh) = record {
                self.reborn += 1;
                self.say(|_| format!("{:?} goes on as {fresh}", SIDES[side]));
            }
        }
        for (replica, op) in self.nodes[side].disk.commit(records) {
            self.expected.apply(replica, &op);
            if matches!(op.kind.class(), Some(Class::Register) | None) {
                self.truth.insert((side, op.kind, op.key), op.value);
            }
        }
        if self.random.percent(self.faults.crash / 3) {
            self.say(|_| format!("{:?} crashes after its records are on disk", SIDES[side]));
            self.restart(side);
            return false;
        }
        true
    }

    fn restart(&mut self, side: usize) {
        self.nodes[side].boot();
        if side == DEVICE {
            self.link(false);
        }
    }

    fn link(&mut self, up: bool) {
        self.up = up;
        if !up {
            // Clean sessions: most of what was under way is gone.
            let random = &mut self.random;
            self.air.retain(|_| random.percent(20));
        }
        self.nodes[DEVICE].peer.on_disconnected();
        self.next_hello = self.now_ms;
    }

    fn write(&mut self, side: usize) {
        self.serial += 1;
        let (serial, place) = (self.serial, self.random.below(4));
        let own = if side == DEVICE { 0x01 } else { 0x11 };
        let incarnation = self.nodes[side].disk.replica.incarnation;
        let mut value = format!("{serial} by {:?}", SIDES[side]).into_bytes();
        if self.random.percent(4) {
            value.extend((0..30_000u64).map(|i| ((i * i * serial) >> 7).to_le_bytes()[0]));
        }
        let document = &self.nodes[side].document;
        let (kind, key, value) = match self.random.below(if side == DEVICE { 8 } else { 6 }) {
            0 | 1 => (0x0100 + own, format!("k{place}"), value),
            2 => (0x0800 + own, format!("u{place}"), value),
            3 | 4 => (0x0300 + own, format!("once/{serial}"), value),
            5 if side == HUB => {
                // The hub draws a generation past every one it has seen, as its core must.
                let kind = Kind(0x0200 + own);
                let key = format!("m{place}");
                let last = document.get(kind, &key).map_or(0, |value| split_stamped(value).0);
                (0x0200 + own, key, stamped(last + 1, &value))
            }
            5 => {
                let (kind, key) = (Kind(0x0500 + own), format!("c{place}"));
                let totals = document.entries().find(|entry| entry.kind == kind && entry.key == key);
                let replica = self.nodes[side].disk.replica;
                let mine = totals.and_then(|entry| entry.totals.into_iter().find(|(who, _)| *who == replica));
                (0x0500 + own, key, stamped(mine.map_or(0, |(_, total)| total) + place + 1, &[]))
            }
            6 => (0x0400 + own, window_key(incarnation, serial, "gas"), value),
            _ => (0x0600 + own, incarnation.to_string(), stamped(serial.saturating_sub(30), &[])),
        };
        let wall = self.wall(side);
        let node = &mut self.nodes[side];
        let mut records = Vec::new();
        node.peer.write(&mut node.document, wall, Kind(kind), key.clone(), value, &mut records);
        self.say(|_| format!("{:?} writes {kind:#06x} {key} ({serial})", SIDES[side]));
        self.commit(side, records);
    }

    fn deliver(&mut self) {
        let mut due: Vec<(u64, usize, Message)> = Vec::new();
        let (now, mut later) = (self.now_ms, Vec::new());
        for item in self.air.drain(..) {
            if item.0 <= now { due.push(item) } else { later.push(item) }
        }
        self.air = later;
        due.sort_by_key(|(at, _, _)| *at);
        for (_, side, message) in due {
            if side == DEVICE && !self.up {
                continue;
            }
            let (mono, wall, fresh) = (Mono::from_millis(self.now_ms), self.wall(side), self.fresh());
            let node = &mut self.nodes[side];
            let mut records = Vec::new();
            let outcome = match &message {
                Message::Hello(frame) => {
                    let hello: Hello = wire::decode(frame).unwrap();
                    node.peer.on_hello(mono, &hello, fresh, &mut records)
                }
                Message::Exchange(frame) => {
                    let exchange: Exchange = wire::decode(frame).unwrap();
                    let document = &mut node.document;
                    node.peer.on_exchange(mono, wall, exchange, fresh, document, &mut records)
                }
            };
            self.say(|world| {
                let peer = &world.nodes[side].peer;
                let cursor = peer.cursor().map(|cursor| (cursor.seq, cursor.is_lost()));
                let (base, last) = (peer.log.base().0, peer.log.last().0);
                format!(
                    "{:?} takes a message: {outcome:?}, stands at {cursor:?}, log {base}..{last}",
                    SIDES[side]
                )
            });
            self.note(side, outcome);
            self.commit(side, records);
        }
    }

    fn note(&mut self, side: usize, outcome: Result<(), SyncAlarm>) {
        if let Err(alarm) = outcome {
            assert!(!matches!(alarm, SyncAlarm::Oversized { .. }), "nobody wrote that");
            assert!(self.disasters > 0, "{:?} raises `{alarm}` though no disk was touched", SIDES[side]);
        }
    }

    fn speak(&mut self) {
        let mono = Mono::from_millis(self.now_ms);
        if self.up && !self.nodes[DEVICE].peer.is_connected() && self.next_hello <= self.now_ms {
            self.next_hello = self.now_ms + 5_000;
            let peer = &self.nodes[DEVICE].peer;
            let hello = Hello {
                device: DeviceId::new("press-07").unwrap(),
                incarnation: peer.log.replica.incarnation,
                boot: 1,
                last_seq: peer.log.last().0,
                cursor: peer.cursor(),
                agent_version: "0.1.0".into(),
                wire_max: wire::VERSION,
                wall: self.wall(DEVICE),
            };
            self.send(HUB, &Message::Hello(wire::encode(&hello).unwrap()));
        }
        for side in [DEVICE, HUB] {
            if self.nodes[side].peer.next_deadline().is_none_or(|due| due > mono) {
                continue;
            }
            let (wall, jitter) = (self.wall(side), u32::try_from(self.random.below(1 << 32)).unwrap());
            let node = &mut self.nodes[side];
            for exchange in node.peer.poll(mono, wall, jitter, &node.document) {
                self.send(1 - side, &Message::Exchange(wire::encode(&exchange).unwrap()));
            }
        }
    }

    fn send(&mut self, to: usize, message: &Message) {
        self.frames += 1;
        let copies = if self.random.percent(self.faults.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.up || self.random.percent(self.faults.loss) {
                continue;
            }
            let slow = self.random.percent(self.faults.slow);
            let delay = 10 + self.random.below(if slow { 60_000 } else { 300 });
            let copy = match message {
                Message::Hello(frame) => Message::Hello(frame.clone()),
                Message::Exchange(frame) => Message::Exchange(frame.clone()),
            };
            self.air.push((self.now_ms + delay, to, copy));
        }
    }

    fn misfortune(&mut self) {
        if self.random.percent(self.faults.link) || (!self.up && self.random.percent(20)) {
            self.link(!self.up);
        }
        for side in [DEVICE, HUB] {
            if self.random.percent(self.faults.crash) {
                self.say(|_| format!("{:?} crashes", SIDES[side]));
                self.restart(side);
            }
            if self.random.percent(self.faults.clock) {
                self.nodes[side].wall = match self.random.below(if side == DEVICE { 3 } else { 1 }) {
                    0 => Wall::True,
                    1 => Wall::SinceBoot(self.now_ms),
                    _ => Wall::Future,
                };
            }
            if self.random.percent(10) {
                self.nodes[side].backup = Some(self.nodes[side].disk.clone());
            }
            if self.random.percent(self.faults.restore)
                && let Some(backup) = self.nodes[side].backup.clone()
            {
                self.say(|_| format!("{:?} is restored from its backup", SIDES[side]));
                self.replace(side, backup);
                self.air.clear(); // it takes longer than any message is under way
            }
            if self.random.percent(self.faults.lost) {
                self.say(|_| format!("{:?} loses its database", SIDES[side]));
                let incarnation = self.fresh().0;
                self.replace(side, Disk::new(SIDES[side], incarnation));
            }
        }
        if self.random.percent(self.faults.swap) {
            let other = self.clone.take().unwrap_or_else(|| self.nodes[DEVICE].disk.clone());
            self.say(|_| "the device's card is swapped with its clone".into());
            self.clone = Some(self.nodes[DEVICE].disk.clone());
            self.replace(DEVICE, other);
            self.air.clear();
        }
    }

    /// Another disk in a machine: whatever stands on no disk any more cannot be asked for.
    fn replace(&mut self, side: usize, disk: Disk) {
        self.disasters += 1;
        self.nodes[side].disk = disk;
        self.restart(side);
        self.forget_what_is_nowhere();
        let document = self.nodes[side].document.clone();
        self.truth.retain(|(writer, kind, key), value| {
            if *writer == side {
                // The restored machine's word is what it was when it was saved.
                match document.get(*kind, key) {
                    Some(said) => said.clone_into(value),
                    None => return false,
                }
            }
            true
        });
    }

    fn forget_what_is_nowhere(&mut self) {
        let mut survives = self.nodes[DEVICE].disk.document();
        survives.merge(&self.nodes[HUB].disk.document());
        if let Some(clone) = &self.clone {
            survives.merge(&clone.document());
        }
        self.expected = survives;
    }

    fn heal(&mut self) {
        self.say(|_| "the world heals".into());
        self.faults = Faults::default();
        if self.clone.take().is_some() {
            self.forget_what_is_nowhere(); // what only the clone knew goes with it
        }
        if !self.up || self.random.percent(50) {
            self.link(true);
        }
    }

    /// After every step: disks hold what memory holds, and no window stands below its floor.
    fn check(&self) -> Result<(), String> {
        for (side, node) in self.nodes.iter().enumerate() {
            if node.disk.document() != node.document {
                return Err(format!("{:?}: the rows are not the document", SIDES[side]));
            }
            let (restored, live) = (node.disk.log(), &node.peer.log);
            let position = |log: &crate::sync::Log| (log.replica, log.base(), log.last());
            if position(&restored) != position(live) {
                return Err(format!("{:?}: the rows are not the log", SIDES[side]));
            }
            if node.disk.peer().cursor() != node.peer.cursor() {
                return Err(format!("{:?}: the cursor is not on disk", SIDES[side]));
            }
        }
        if self.reborn > self.disasters * LIVES_PER_DISASTER {
            return Err(format!("{} new incarnations after {} disasters", self.reborn, self.disasters));
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), String> {
        let [device, hub] = [DEVICE, HUB].map(|side| &self.nodes[side].document);
        if device.to_bytes() != hub.to_bytes() {
            return Err(format!("the documents differ: {}", difference(device, hub)));
        }
        let mut with_all = device.clone();
        with_all.merge(&self.expected);
        if with_all != *device {
            return Err(format!("a write is lost: {}", difference(&with_all, device)));
        }
        for ((side, kind, key), value) in &self.truth {
            if device.get(*kind, key) != Some(value) {
                return Err(format!("{:?} said {:?} {key} last and does not stand", SIDES[*side], kind));
            }
        }
        Ok(())
    }
}
