//! Disks that hold what was persisted, and nothing else.

use shoal_agent::core::{Boot, Record as DeviceRecord, VersionInfo};
use shoal_hub::core::device::Memory;
use shoal_hub::core::registered::Registered;
use shoal_hub::core::rollout::Rollout;
use shoal_hub::core::{Record as HubRecord, Saved};
use shoal_proto::document::{Document, Entry};
use shoal_proto::id::{DeviceId, Digest, Incarnation, Replica, RolloutId, Side};
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::{Log, Peer, Record};
use shoal_proto::time::Hlc;
use std::collections::{BTreeMap, BTreeSet};

/// One side of one document, as a database holds it.
#[derive(Debug, Clone, Default)]
struct Link {
    incarnation: Option<Incarnation>,
    clock: Hlc,
    base: (u64, Chain),
    ops: BTreeMap<u64, Op>,
    entries: BTreeMap<(Kind, String), Entry>,
    cursor: Option<Cursor>,
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
}

/// A device's `state.db` and vault.
#[derive(Debug, Clone, Default)]
pub(super) struct DeviceDisk {
    link: Link,
    memory: BTreeMap<String, Vec<u8>>,
    pub(super) versions: BTreeMap<Digest, VersionInfo>,
    boots: u64,
}

impl DeviceDisk {
    pub(super) fn commit(&mut self, records: Vec<DeviceRecord>) {
        for record in records {
            match record {
                DeviceRecord::Link(record) => self.link.apply(record),
                DeviceRecord::Memory { key, value } => drop(self.memory.insert(key, value)),
            }
        }
    }

    pub(super) fn boot(&mut self, configured: VersionInfo, seed: u64) -> Boot {
        self.boots += 1;
        Boot {
            incarnation: self.link.incarnation,
            boot: self.boots,
            clock: self.link.clock,
            base: self.link.base,
            ops: self.link.ops.values().cloned().collect(),
            entries: self.link.entries.values().cloned().collect(),
            cursor: self.link.cursor,
            sealed: self.link.sealed.clone(),
            memory: self.memory.clone(),
            versions: self.versions.values().cloned().collect(),
            configured: vec![configured],
            seed,
        }
    }
}

/// The hub's `hub.db`.
#[derive(Debug, Clone, Default)]
pub(super) struct HubDisk {
    links: BTreeMap<DeviceId, Link>,
    memories: BTreeMap<DeviceId, Memory>,
    generation: u64,
    rollouts: BTreeMap<RolloutId, Rollout>,
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
            let replica = Replica { side: Side::Hub, incarnation: link.incarnation? };
            let log = Log::restore(replica, link.clock, link.base, link.ops.values().cloned());
            let peer = Peer::new(log, link.cursor, link.sealed.clone());
            let mut document = Document::default();
            for entry in link.entries.values() {
                document.join(entry.clone());
            }
            Some((id.clone(), (peer, document, self.memories.get(id).cloned().unwrap_or_default())))
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
        self.saved().devices.remove(id).map(|(_, document, _)| document).unwrap_or_default()
    }

    pub(super) fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.values()
    }
}
