//! The network and the broker: they lose, double, reorder, hold back, garble, forget and replay.

use super::builds::{self, Build};
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_agent::core::Event;
use shoal_hub::core as hub;
use shoal_proto::id::{DeviceId, Incarnation};
use shoal_proto::message::{Cursor, Exchange, Hello, Payload};
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::time::{Hlc, WallMs};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire;

/// Frames that are kept to be sent again.
const TAPE: usize = 64;
/// How long a message takes at most when nothing is wrong.
const QUICK_MS: u64 = 300;
/// When a broker notices that a client is gone: one and a half keep-alives.
const WILL_MS: u64 = 90_000;

impl World {
    /// When each copy of a message comes; the second of them is the double.
    fn deliveries(&mut self) -> Vec<u64> {
        self.counts.messages += 1;
        if self.healed {
            return vec![20];
        }
        let mut delays = Vec::new();
        for chance in [1.0 - self.form.loss, self.form.double] {
            if !self.chance(chance) {
                continue;
            }
            if self.chance(self.form.slow) {
                self.counts.delayed += 1;
                delays.push(self.random.random_range(1_000..self.form.slow_ms.max(2_000)));
            } else {
                delays.push(self.random.random_range(10..QUICK_MS));
            }
        }
        self.counts.lost += u64::from(delays.is_empty());
        self.counts.doubled += u64::from(delays.len() > 1);
        delays
    }

    pub(super) fn send_up(&mut self, at: usize, what: Up, frame: Vec<u8>) {
        self.mix(&frame);
        let board = &self.boards[at];
        let (id, cut) = (board.id.clone(), board.cut.0 > self.now);
        if !board.linked || cut {
            self.counts.lost += 1;
            return;
        }
        let topic = Topic::Up(id.clone(), what).to_string();
        if what == Up::Status {
            self.retained.insert(id, (topic.clone(), frame.clone()));
        }
        self.record(Err(topic.clone()), &frame);
        for (copy, delay) in self.deliveries().into_iter().enumerate() {
            let (frame, topic) = (self.garble(frame.clone()), topic.clone());
            self.pass_up(topic, frame, delay, copy > 0);
        }
        if self.chance(self.form.garbled / 4.0) {
            self.forge(at);
        }
    }

    fn pass_up(&mut self, topic: String, bytes: Vec<u8>, delay: u64, again: bool) {
        let session = self.hub.session;
        self.later(delay, Happening::ToHub { topic, retained: false, session, again, bytes });
    }

    pub(super) fn last_will(&mut self, at: usize, will: Vec<u8>) {
        let id = self.boards[at].id.clone();
        let topic = Topic::Up(id.clone(), Up::Status).to_string();
        self.retained.insert(id, (topic.clone(), will.clone()));
        let delay = self.random.random_range(10..WILL_MS);
        self.pass_up(topic, will, delay, false);
    }

    pub(super) fn send_down(&mut self, id: &DeviceId, frame: &[u8]) {
        let frame = &*self.as_said_by_hub(frame);
        self.mix(frame);
        self.record(Ok(id.clone()), frame);
        let Some(at) = self.reader(id).filter(|_| self.hub.linked) else {
            self.counts.messages += 1;
            self.counts.lost += 1;
            return;
        };
        let session = self.boards[at].session;
        for delay in self.deliveries() {
            let frame = self.garble(frame.to_vec());
            self.later(delay, Happening::ToDevice(id.clone(), session, frame));
        }
    }

    /// The board under this name that the broker knows.
    fn reader(&self, id: &DeviceId) -> Option<usize> {
        self.boards.iter().position(|board| board.id == *id && board.linked)
    }

    pub(super) fn deliver_to_device(
        &mut self,
        id: &DeviceId,
        session: u64,
        bytes: Vec<u8>,
    ) -> Result<(), String> {
        let Some(at) = self.reader(id) else { return Ok(()) };
        let stale = self.boards[at].session != session && self.random.random_bool(0.8);
        let is_foreign = self.boards[at].speaks == Build::Older && builds::is_later(&bytes);
        if stale || is_foreign || self.boards[at].cut.1 > self.now {
            self.counts.lost += 1;
            return Ok(());
        }
        self.device_event(at, Event::FromHub(bytes))
    }

    pub(super) fn deliver_to_hub(
        &mut self,
        topic: String,
        retained: bool,
        session: u64,
        again: bool,
        mut bytes: Vec<u8>,
    ) -> Result<(), String> {
        let stale = self.hub.session != session && self.random.random_bool(0.8);
        if !self.hub.linked || (stale && !retained) {
            self.counts.lost += 1;
            return Ok(());
        }
        let parsed = Topic::parse(&topic);
        let is_beat = matches!(parsed, Some(Topic::Up(_, Up::Beat)));
        if self.hub.is_older && (is_beat || builds::is_later(&bytes)) {
            self.counts.lost += 1;
            return Ok(());
        }
        let id = match parsed {
            Some(Topic::Up(id, Up::Sync)) => Some(id),
            _ => None,
        };
        if let Some(id) = &id
            && self.mutant == Mutant::NoSequenceCheck
        {
            bytes = self.without_gap(id, bytes);
        }
        self.hub_event(hub::Event::DeviceFrame { topic, retained, bytes })?;
        if let Some(id) = id.filter(|_| again && self.mutant == Mutant::JoinAdds) {
            self.hub.disk.double_counters(&id);
            self.hub_crash()?;
        }
        Ok(())
    }

    fn record(&mut self, place: Result<DeviceId, String>, frame: &[u8]) {
        if self.healed || !self.random.random_bool(0.05) {
            return;
        }
        if self.tape.len() >= TAPE {
            let at = self.random.random_range(0..TAPE);
            drop(self.tape.swap_remove(at));
        }
        self.tape.push((place, frame.to_vec()));
    }

    /// Somebody sends again what was said at any time before.
    pub(super) fn replay(&mut self) {
        if self.tape.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.tape.len());
        let (place, frame) = self.tape[at].clone();
        self.counts.doubled += 1;
        match place {
            Err(topic) => self.pass_up(topic, frame, 10, true),
            Ok(id) => {
                let session = self.reader(&id).map_or(0, |at| self.boards[at].session);
                self.later(10, Happening::ToDevice(id, session, frame));
            }
        }
    }

    /// Bits flip, ends are missing, and a later build speaks a wire that this one does not know.
    fn garble(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        if self.healed || frame.is_empty() || !self.chance(self.form.garbled) {
            return frame;
        }
        self.counts.forged += 1;
        match self.random.random_range(0..3) {
            0 => {
                let at = self.random.random_range(0..frame.len());
                frame[at] ^= 1 << self.random.random_range(0..8);
            }
            1 => frame.truncate(self.random.random_range(0..frame.len())),
            _ => frame[1] = wire::VERSION + 1,
        }
        frame
    }

    /// Frames that are well-formed and that nobody said, to either side.
    fn forge(&mut self, at: usize) {
        self.counts.forged += 1;
        let id = self.boards[at].id.clone();
        let foreign = Incarnation(self.random.random_range(1..u64::MAX));
        let known = self.boards[at].disk.link.incarnation.unwrap_or(foreign);
        let hubs = self.hub.disk.links.get(&id).and_then(|link| link.incarnation).unwrap_or(foreign);
        let gap = |seq: u64| {
            let op = Op { seq, hlc: Hlc(seq), kind: Kind(0x0301), key: "forged".into(), value: vec![1] };
            Payload::Batch { after: seq - 1, chain: Chain([9; 8]), ops: vec![op] }
        };
        let seq = self.random.random_range(1_000_000..2_000_000);
        let say = |incarnation, payload| {
            wire::encode(&Exchange { incarnation, wall: WallMs(u64::MAX), ack: None, wire_max: 0, payload })
                .unwrap_or_default()
        };
        let topic = |what| Topic::Up(id.clone(), what).to_string();
        match self.random.random_range(0..5) {
            0 => {
                let frame = say(known, Payload::Forked { incarnation: foreign });
                self.pass_up(topic(Up::Sync), frame, 10, false);
            }
            1 => self.pass_up(topic(Up::Sync), say(known, gap(seq)), 10, false),
            2 => {
                let hello = Hello {
                    device: DeviceId::new("another").expect("a legal name"),
                    incarnation: foreign,
                    boot: 1,
                    last_seq: 9,
                    cursor: None,
                    agent_version: "x".repeat(500),
                    wire_max: 9,
                    wall: WallMs(0),
                };
                self.pass_up(topic(Up::Hello), wire::encode(&hello).unwrap_or_default(), 10, false);
            }
            3 => {
                let session = self.boards[at].session;
                let frame = say(hubs, Payload::Forked { incarnation: foreign });
                self.later(10, Happening::ToDevice(id, session, frame));
            }
            _ => {
                let topic = format!("shoal/v1/{}", "x".repeat(300));
                self.pass_up(topic, vec![0xE5; 9], 10, false);
            }
        }
    }

    /// [`Mutant::CutAtPuback`]: the broker's word is taken for the hub's.
    pub(super) fn acknowledge_as_broker(&mut self, at: usize, frame: &[u8]) {
        let Ok(Exchange { incarnation, payload, wall, .. }) = wire::decode::<Exchange>(frame) else { return };
        let Payload::Batch { chain, ops, .. } = payload else { return };
        let Some(hub) = self.boards[at].disk.link.cursor else { return };
        let (seq, chain) = ops.iter().fold((0, chain), |(_, chain), op| (op.seq, chain.then(op)));
        let ack = Some(Cursor { incarnation, seq, chain });
        let (life, incarnation) = (self.boards[at].life, hub.incarnation);
        let said = Exchange { incarnation, wall, ack, wire_max: 0, payload: Payload::Nothing };
        let frame = wire::encode(&said).unwrap_or_default();
        self.later(10, Happening::Device(at, life, Box::new(Event::FromHub(frame))));
    }

    /// [`Mutant::NoSequenceCheck`]: whatever comes is taken for what comes next.
    fn without_gap(&self, id: &DeviceId, frame: Vec<u8>) -> Vec<u8> {
        let held = self.hub.disk.links.get(id).and_then(|link| link.cursor).filter(|held| !held.is_lost());
        let (Some(held), Ok(mut said)) = (held, wire::decode::<Exchange>(&frame)) else { return frame };
        if let Payload::Batch { after, chain, ops } = &mut said.payload
            && *after > held.seq
            && said.incarnation == held.incarnation
        {
            (*after, *chain) = (held.seq, held.chain);
            for (seq, op) in (held.seq + 1..).zip(ops) {
                op.seq = seq;
            }
        }
        wire::encode(&said).unwrap_or(frame)
    }
}
