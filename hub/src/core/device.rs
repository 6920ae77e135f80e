//! One device as the hub sees it: its document, the conversation about it, and its signs of life.

use super::policy::{DEVICE_BURST_BYTES, MESSAGE_BYTES};
use serde::{Deserialize, Serialize};
use shoal_proto::document::{Document, Entry};
use shoal_proto::fact::{COUNTS, Count, Facts, Health, SLOT, SlotReport};
use shoal_proto::id::{Digest, Incarnation, ModelName, Replica, Side};
use shoal_proto::lattice::Marker;
use shoal_proto::message::{Beat, lower_half};
use shoal_proto::rate::Bucket;
use shoal_proto::sync::{self, Log, Peer};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::wire::from_cbor;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Wall time between two writings of `last_seen`: it is a label, and a write for each frame would
/// double the disk's work.
const REMEMBER_MS: u64 = 60_000;
/// Ancestors looked at when asking whether one version descends from another.
const MAX_ANCESTORS: usize = 1_000;

/// What the hub remembers of a device beside its document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Tags given by operators; they win over the device's own.
    pub tags: BTreeMap<String, String>,
    /// Which life of its database spoke last.
    pub incarnation: Option<Incarnation>,
    /// Which start of its process spoke last.
    pub boot: u64,
    /// The agent's version.
    pub agent_version: String,
    /// When it was last heard, by the hub's clock.
    pub last_seen: WallMs,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    /// The conversation.
    pub peer: Peer,
    /// The hub's replica of its document.
    pub document: Document,
    /// What is remembered beside it.
    pub memory: Memory,
    /// The boot that is there, as far as we know.
    pub online: Option<u64>,
    /// The last sign of life between its reports, of this life of the hub.
    pub beat: Option<Beat>,
    /// When it was last heard in this life of the hub.
    pub heard: Option<Mono>,
    /// Its slots, read out of the document.
    pub slots: BTreeMap<ModelName, SlotReport>,
    /// Slots that were said ahead of the log that leads to them.
    ahead: BTreeMap<ModelName, (Marker, SlotReport)>,
    /// Of them, those not yet looked at.
    foreseen: BTreeSet<ModelName>,
    /// How much more it may say.
    allowance: Option<Bucket>,
    /// Whether its last message was too much.
    is_loud: bool,
    /// When the conversation wants to go on.
    pub due: Option<Mono>,
    remembered: Memory,
}

impl Device {
    /// A device that spoke for the first time.
    #[must_use]
    pub fn new(ours: Incarnation) -> Self {
        let log = Log::new(Replica { side: Side::Hub, incarnation: ours });
        Self::restore(Peer::new(log, None, BTreeSet::new()), Document::default(), Memory::default())
    }

    /// A device as the database held it.
    #[must_use]
    pub fn restore(peer: Peer, document: Document, memory: Memory) -> Self {
        let slots = Facts(&document).slots().into_iter().collect();
        let remembered = memory.clone();
        Self {
            peer,
            document,
            memory,
            online: None,
            beat: None,
            heard: None,
            slots,
            ahead: BTreeMap::new(),
            foreseen: BTreeSet::new(),
            allowance: None,
            is_loud: false,
            due: None,
            remembered,
        }
    }

    /// Takes note of a word from it; gives what to remember, when that is due.
    pub fn hear(&mut self, now: Now) -> Option<Memory> {
        self.heard = Some(now.mono);
        self.memory.last_seen = self.memory.last_seen.max(now.wall);
        let stale = self.memory.last_seen.0 >= self.remembered.last_seen.0.saturating_add(REMEMBER_MS);
        let quiet = Memory { last_seen: self.remembered.last_seen, ..self.memory.clone() };
        (stale || quiet != self.remembered).then(|| self.remember())
    }

    /// Whether a message of so many bytes may be heard, and whether it is the first of many that may not.
    pub fn may_say(&mut self, now: Mono, bytes: usize, bytes_per_s: u64) -> (bool, bool) {
        let bytes = MESSAGE_BYTES.saturating_add(bytes as u64);
        let full = || Bucket::new(Some(bytes_per_s), DEVICE_BURST_BYTES, now);
        let may = self.allowance.get_or_insert_with(full).take(now, bytes);
        let was_loud = std::mem::replace(&mut self.is_loud, !may);
        (may, !may && !was_loud)
    }

    /// Whether a sign of life says something new: of this life and no earlier start, and later than the last.
    #[must_use]
    pub fn takes(&self, beat: &Beat) -> bool {
        let same = self.memory.incarnation.is_none_or(|known| beat.life == lower_half(known));
        let last = self.beat.as_ref().filter(|last| last.boot == beat.boot);
        same && beat.boot >= self.memory.boot && last.is_none_or(|last| last.uptime_s < beat.uptime_s)
    }

    /// A counter, as the document or a later sign of life has it.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        let place = COUNTS.iter().position(|(known, _)| *known == count);
        let number = place.and_then(|place| u8::try_from(place).ok());
        let said = self.beat.as_ref().and_then(|beat| beat.counts.get(&number?)).copied();
        Facts(&self.document).count(count).max(said.unwrap_or(0))
    }

    /// How it is, with the uptime of its last sign of life.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        let health = Facts(&self.document).health()?;
        let said = self.beat.as_ref().filter(|beat| beat.boot >= self.memory.boot);
        Some(Health {
            uptime_s: said.map_or(health.uptime_s, |beat| beat.uptime_s.max(health.uptime_s)),
            ..health
        })
    }

    /// What to remember now.
    pub fn remember(&mut self) -> Memory {
        self.remembered = self.memory.clone();
        self.memory.clone()
    }

    /// Reads again what the records say has changed; tells which models' slots did.
    pub fn refresh(&mut self, records: &[sync::Record]) -> BTreeSet<ModelName> {
        let mut changed = std::mem::take(&mut self.foreseen);
        changed.extend(records.iter().filter_map(|record| match record {
            sync::Record::Put(entry) if entry.kind == SLOT => entry.key.parse::<ModelName>().ok(),
            _ => None,
        }));
        for model in &changed {
            let written = self.document.marker(SLOT, model.as_str());
            let life = self.memory.incarnation;
            self.ahead.retain(|_, (said, _)| Some(said.replica.incarnation) == life);
            if self.ahead.get(model).is_some_and(|(said, _)| written >= Some(*said)) {
                self.ahead.remove(model);
            }
            let ahead = self.ahead.get(model).map(|(_, slot)| slot.clone());
            if let Some(slot) = ahead.or_else(|| Facts(&self.document).slot(model)) {
                self.slots.insert(model.clone(), slot);
            }
        }
        changed
    }

    /// Takes slots that were said ahead; they stand until the document has them or something later.
    pub fn foresee(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.kind == SLOT) {
            let (Ok(model), Some(marker), Ok(slot)) =
                (entry.key.parse::<ModelName>(), entry.marker, from_cbor::<SlotReport>(&entry.value))
            else {
                continue;
            };
            if self.document.marker(SLOT, model.as_str()) < Some(marker) {
                self.ahead.insert(model.clone(), (marker, slot));
                self.foreseen.insert(model);
            }
        }
    }

    /// The device's own tags under the hub's.
    #[must_use]
    pub fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = Facts(&self.document).inventory().map(|it| it.tags).unwrap_or_default();
        tags.extend(self.memory.tags.clone());
        tags
    }

    /// How long it has been silent; counted from the hub's start when it has not spoken since.
    #[must_use]
    pub fn silent(&self, now: Mono) -> Duration {
        now.since(self.heard.unwrap_or_default())
    }

    /// Whether a version is another one or was made from it on this device.
    #[must_use]
    pub fn descends(&self, version: Digest, from: Digest) -> bool {
        let versions = Facts(&self.document).versions();
        let mut at = version;
        for _ in 0..MAX_ANCESTORS {
            if at == from {
                return true;
            }
            let Some(parent) = versions.get(&at).and_then(|record| record.parent) else { return false };
            at = parent;
        }
        false
    }
}
