//! What must hold after every event.

use super::models::Version;
use shoal_agent::core::{Effect, Record};
use shoal_proto::fact::WINDOW;
use shoal_proto::id::{DeviceId, Digest};
use std::collections::{BTreeMap, BTreeSet};

/// Below this share of right answers a version is a bad one.
pub(super) const BAD: f64 = 0.5;

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    admitted: BTreeMap<DeviceId, BTreeSet<Digest>>,
    served: BTreeMap<Digest, BTreeSet<DeviceId>>,
    /// Sealed windows as they were first written.
    windows: BTreeMap<(DeviceId, String), Digest>,
}

impl Seen {
    pub(super) fn admitted(&mut self, device: &DeviceId, version: Digest) {
        self.admitted.entry(device.clone()).or_default().insert(version);
    }

    /// The server never parses what was not admitted in a child first.
    pub(super) fn invariant_admitted_before_served(
        &self,
        device: &DeviceId,
        version: Digest,
    ) -> Result<(), String> {
        if self.admitted.get(device).is_some_and(|versions| versions.contains(&version)) {
            return Ok(());
        }
        Err(format!("admitted_before_served: {device} serves {} unadmitted", version.short()))
    }

    /// A bad version of the hub's reaches no more devices than there are canaries.
    pub(super) fn invariant_bad_stays_in_the_canary(
        &mut self,
        device: &DeviceId,
        version: &Version,
        canary: usize,
    ) -> Result<(), String> {
        let devices = self.served.entry(version.info.version).or_default();
        devices.insert(device.clone());
        let is_pushed = version.info.manifest.lineage.is_none();
        if is_pushed && version.quality < BAD && devices.len() > canary {
            return Err(format!(
                "bad_stays_in_the_canary: {} served on {}",
                version.info.record.name,
                devices.len()
            ));
        }
        Ok(())
    }

    /// A window's number is given once: what was sealed under a key is never another window, so that two
    /// versions never share a slot, nor anything is lost in its join.
    pub(super) fn invariant_windows_are_sealed_once(
        &mut self,
        device: &DeviceId,
        records: &[Record],
    ) -> Result<(), String> {
        for record in records {
            let Record::Link(shoal_proto::sync::Record::Append(op)) = record else { continue };
            if op.kind == WINDOW {
                let value = Digest::of(&op.value);
                let sealed = self.windows.entry((device.clone(), op.key.clone())).or_insert(value);
                if *sealed != value {
                    return Err(format!("windows_are_sealed_once: {device} wrote {} anew", op.key));
                }
            }
        }
        Ok(())
    }

    /// How many devices a version ever served on.
    pub(super) fn served_on(&self, version: Digest) -> usize {
        self.served.get(&version).map_or(0, BTreeSet::len)
    }
}

/// Nothing that the world can see comes before the write it depends on.
pub(super) fn invariant_persist_comes_first(effects: &[Effect]) -> Result<(), String> {
    let visible = |effect: &Effect| {
        matches!(
            effect,
            Effect::Publish { .. } | Effect::Serve { .. } | Effect::Fetch { .. } | Effect::Train(_)
        )
    };
    let first_visible = effects.iter().position(visible);
    let last_write = effects.iter().rposition(|effect| matches!(effect, Effect::Persist(_)));
    match (first_visible, last_write) {
        (Some(seen), Some(written)) if written > seen => {
            Err(format!("persist_comes_first: effect {seen} is visible before write {written}"))
        }
        _ => Ok(()),
    }
}
