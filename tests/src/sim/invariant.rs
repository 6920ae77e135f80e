//! What must hold after every event.
//!
//! Of a device, from what it writes and what its shell is told to do ([`device`]); of the hub ([`hub`]); and of
//! both together, in the account of everything that was ever written.

mod device;
mod hub;
mod seen;

pub(super) use seen::Seen;

use shoal_agent::core::Effect;
use shoal_proto::document::Document;
use shoal_proto::id::{DeviceId, Digest, Replica, RolloutId};
use shoal_proto::op::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Below this share of right answers a version is a bad one.
pub(super) const BAD: f64 = 0.5;

/// What was written anywhere and stands on some disk: each document as it must be in the end.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) expected: BTreeMap<DeviceId, Document>,
    /// Versions that were assigned, by device and generation.
    assigned: BTreeMap<(DeviceId, u64), Digest>,
    /// Verdicts of rollouts on devices, as they were first written.
    verdicts: BTreeMap<(RolloutId, DeviceId), String>,
    /// Devices on which a version served for a rollout.
    tried: BTreeMap<RolloutId, BTreeSet<DeviceId>>,
    /// Bad versions that a trial confirmed, where it had too little to compare with.
    pub(super) misled: BTreeSet<Digest>,
}

impl Account {
    pub(super) fn expect(&mut self, id: &DeviceId, replica: Replica, op: &Op) {
        self.expected.entry(id.clone()).or_default().apply(replica, op);
    }

    /// What the hub said and forgot is no longer held against it.
    pub(super) fn after_hub_restore(&mut self) {
        self.assigned.clear();
        self.verdicts.clear();
        self.tried.clear();
    }
}

/// Nothing that the world can see comes before the write it depends on.
pub(super) fn invariant_persist_comes_first(effects: &[Effect]) -> Result<(), String> {
    let is_seen = |effect: &Effect| !matches!(effect, Effect::Persist(_) | Effect::Note(_) | Effect::Sense);
    let first_seen = effects.iter().position(is_seen);
    let last_write = effects.iter().rposition(|effect| matches!(effect, Effect::Persist(_)));
    match (first_seen, last_write) {
        (Some(seen), Some(written)) if written > seen => {
            Err(format!("persist_comes_first: effect {seen} is seen before write {written}"))
        }
        _ => Ok(()),
    }
}
