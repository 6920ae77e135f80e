//! Disks that hold what was persisted, and nothing else.

use super::models::NAME;
use super::mutant::Mutant;
use serde::Deserialize;
use shoal_agent::core::slot::Slot;
use shoal_agent::core::{Boot, Record as DeviceRecord, VersionInfo};
use shoal_hub::core::device::Memory;
use shoal_hub::core::registered::Registered;
use shoal_hub::core::rollout::Rollout;
use shoal_hub::core::{Record as HubRecord, Saved};
use shoal_proto::document::{Document, Entry};
use shoal_proto::fact::{CONDEMNED, COUNTER};
use shoal_proto::id::{DeviceId, Digest, Incarnation, Replica, RolloutId, Side};
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::{Log, Peer, Record};
use shoal_proto::time::{Hlc, WallMs};
use shoal_proto::wire::from_cbor;
use std::collections::{BTreeMap, BTreeSet};

/// One side of one document, as a database holds it.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) incarnation: Option<Incarnation>,
    clock: Hlc,
    base: (u64, Chain),
    ops: BTreeMap<u64, Op>,
    entries: BTreeMap<(Kind, String), Entry>,
    pub(super) cursor: Option<Cursor>,
    sealed: BTreeSet<Incarnation>,
}

impl Link {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Append(op) => {
                self.clock = self.clock.max(op.hlc);
                self.ops.insert(op.seq, op);
            }
            Record::Forget(seq, chain) => {
                self.base = (seq, chain);
                self.ops.retain(|number, _| *number > seq);
            }
            Record::Put(entry) => {
                self.entries.insert((entry.kind, entry.key.clone()), entry);
            }
            Record::Drop(kind, key) => {
                self.entries.remove(&(kind, key));
            }
            Record::Cursor(cursor) => self.cursor = Some(cursor),
            Record::Seal(incarnation) => {
                self.sealed.insert(incarnation);
                self.cursor = None;
            }
            Record::Reborn(incarnation) => {
                self.incarnation = Some(incarnation);
                self.base = (0, Chain::default());
                self.ops.clear();
            }
        }
    }

    pub(super) fn document(&self) -> Document {
        let mut document = Document::default();
        for entry in self.entries.values() {
            document.join(entry.clone());
        }
        document
    }

    /// The last operation of our own log.
    pub(super) fn last(&self) -> u64 {
        self.ops.keys().next_back().copied().unwrap_or(self.base.0)
    }

    fn peer(&self, side: Side) -> Option<Peer> {
        let replica = Replica { side, incarnation: self.incarnation? };
        let log = Log::restore(replica, self.clock, self.base, self.ops.values().cloned());
        Some(Peer::new(log, self.cursor, self.sealed.clone()))
    }

    /// What a later build wrote before it was taken back: operations of kinds that this build does not know.
    /// Gives the operations, for those who keep account.
    fn skew(&mut self, side: Side, wall: WallMs, number: u64) -> Vec<(Replica, Op)> {
        let Some(mut peer) = self.peer(side) else { return Vec::new() };
        let mut document = self.document();
        let own = if side == Side::Device { 0x70 } else { 0x80 };
        let mut written = Vec::new();
        for class in [0x0100, 0x0300, 0x0900] {
            let mut records = Vec::new();
            let (key, value) = (format!("later/{}", number % 3), number.to_be_bytes().to_vec());
            peer.write(&mut document, wall, Kind(class + own), key, value, &mut records);
            for record in records {
                if let Record::Append(op) = &record {
                    written.push((peer.log.replica, op.clone()));
                }
                self.apply(record);
            }
        }
        written
    }
}

/// A training run as the core keeps it, as far as it is of interest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct RunSeen {
    pub(super) number: u64,
}

/// A device's `state.db` and vault.
#[derive(Debug, Clone, Default)]
pub(super) struct DeviceDisk {
    pub(super) link: Link,
    memory: BTreeMap<String, Vec<u8>>,
    pub(super) versions: BTreeMap<Digest, VersionInfo>,
    boots: u64,
    /// The slot as memory holds it, read once.
    slot: Option<Slot>,
}

impl DeviceDisk {
    pub(super) fn commit(&mut self, records: Vec<DeviceRecord>) {
        for record in records {
            match record {
                DeviceRecord::Link(record) => self.link.apply(record),
                DeviceRecord::Memory { key, value } => {
                    let is_slot = key.starts_with("slot/");
                    self.memory.insert(key, value);
                    if is_slot {
                        self.read_slot();
                    }
                }
            }
        }
    }

    fn read_slot(&mut self) {
        let bytes = self.memory.get(&format!("slot/{NAME}"));
        self.slot = bytes.and_then(|bytes| from_cbor(bytes).ok());
    }

    pub(super) const fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    pub(super) fn run(&self) -> Option<RunSeen> {
        from_cbor::<Option<RunSeen>>(self.memory.get(&format!("run/{NAME}"))?).ok().flatten()
    }

    /// A snapshot of an earlier day takes the place of a damaged database: its log is of a past life.
    pub(super) fn restored(&mut self, backup: &Self) {
        let (link, memory) = (backup.link.clone(), backup.memory.clone());
        self.link = Link { incarnation: None, ..link };
        self.memory = memory;
        self.boots = backup.boots.max(self.boots);
        self.read_slot();
    }

    pub(super) fn skew(&mut self, wall: WallMs, number: u64) -> Vec<(Replica, Op)> {
        self.link.skew(Side::Device, wall, number)
    }

    pub(super) fn boot(&mut self, configured: VersionInfo, seed: u64, mutant: Mutant) -> Boot {
        self.boots += 1;
        let mut memory = self.memory.clone();
        let mut entries: Vec<Entry> = self.link.entries.values().cloned().collect();
        let mut incarnation = self.link.incarnation;
        match mutant {
            Mutant::WindowNumbersReused => drop(memory.remove("next_window")),
            Mutant::RunNumbersReused => drop(memory.remove("next_run")),
            Mutant::CondemnedComesBack => entries.retain(|entry| entry.kind != CONDEMNED),
            Mutant::OneIncarnation => incarnation = Some(incarnation.unwrap_or(Incarnation(7))),
            Mutant::GenerationFalls => {
                if let Some(slot) = self.slot() {
                    let slot = Slot { applied_generation: 0, ..slot.clone() };
                    memory.insert(format!("slot/{NAME}"), shoal_proto::wire::to_cbor(&slot));
                }
            }
            _ => {}
        }
        Boot {
            incarnation,
            boot: self.boots,
            clock: self.link.clock,
            base: self.link.base,
            ops: self.link.ops.values().cloned().collect(),
            entries,
            cursor: self.link.cursor,
            sealed: self.link.sealed.clone(),
            memory,
            versions: self.versions.values().cloned().collect(),
            configured: vec![configured],
            seed,
        }
    }
}

/// The hub's `hub.db`.
#[derive(Debug, Clone, Default)]
pub(super) struct HubDisk {
    pub(super) links: BTreeMap<DeviceId, Link>,
    memories: BTreeMap<DeviceId, Memory>,
    pub(super) generation: u64,
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    models: BTreeMap<Digest, Registered>,
}

impl HubDisk {
    pub(super) fn commit(&mut self, records: Vec<HubRecord>) {
        for record in records {
            match record {
                HubRecord::Born(device, incarnation) => {
                    self.links.entry(device).or_default().incarnation = Some(incarnation);
                }
                HubRecord::Link(device, record) => self.links.entry(device).or_default().apply(record),
                HubRecord::Memory(device, memory) => drop(self.memories.insert(device, memory)),
                HubRecord::Gone(device) => {
                    self.links.remove(&device);
                    self.memories.remove(&device);
                }
                HubRecord::Generation(generation) => self.generation = generation,
                HubRecord::Rollout(rollout) => drop(self.rollouts.insert(rollout.id.clone(), *rollout)),
                HubRecord::Model(model) => drop(self.models.insert(model.version, *model)),
            }
        }
    }

    pub(super) fn saved(&self) -> Saved {
        let devices = self.links.iter().filter_map(|(id, link)| {
            let memory = self.memories.get(id).cloned().unwrap_or_default();
            Some((id.clone(), (link.peer(Side::Hub)?, link.document(), memory)))
        });
        Saved {
            generation: self.generation,
            devices: devices.collect(),
            models: self.models.clone(),
            rollouts: self.rollouts.clone(),
        }
    }

    /// The document of a device, as it would be after a restart.
    pub(super) fn document(&self, id: &DeviceId) -> Document {
        self.links.get(id).map(Link::document).unwrap_or_default()
    }

    pub(super) fn skew(&mut self, id: &DeviceId, wall: WallMs, number: u64) -> Vec<(Replica, Op)> {
        self.links.get_mut(id).map(|link| link.skew(Side::Hub, wall, number)).unwrap_or_default()
    }

    /// A join that adds where it should take the larger: what came twice counts twice.
    pub(super) fn double_counters(&mut self, id: &DeviceId) {
        let Some(link) = self.links.get_mut(id) else { return };
        for ((kind, _), entry) in &mut link.entries {
            if *kind == COUNTER {
                entry.totals.iter_mut().for_each(|(_, total)| *total *= 2);
            }
        }
    }
}
