//! What the loop on a device is run by, without the device around it: for a backtest.

use super::reader::Reader;
use super::{Config, ConfigError, Problem, read_policy};
use crate::asking;
use crate::core::Policy;
use shoal_proto::id::DeviceId;
use std::path::Path;
use std::time::Duration;

pub(super) const MIB: u64 = 1024 * 1024;

/// The tables `[watch]`, `[retrain]`, `[adapt]`, `[trial]` and `[samples]` of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopSettings {
    /// What the core decides by.
    pub policy: Policy,
    /// What it is given.
    pub sizes: Sizes,
}

/// What the loop is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Quota of the samples database.
    pub samples_bytes: u64,
    /// Memory of a child.
    pub child_bytes: u64,
}

impl LoopSettings {
    /// A device's defaults.
    #[must_use]
    pub fn new(device: DeviceId) -> Self {
        let mut nothing = Reader::new("");
        let mut policy = Policy::new(device);
        read_policy(&mut nothing, &mut policy);
        Self { policy, sizes: read_sizes(&mut nothing) }
    }

    /// Reads a file: the five tables alone, or an agent's whole configuration, of which the rest is checked and
    /// not used. The device is `device` in any case.
    pub fn load(path: &Path, device: DeviceId) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, device)
            .map_err(|problems| ConfigError::Problems { path: path.to_owned(), problems })
    }

    /// As [`load`](Self::load), of a text.
    pub fn parse(text: &str, device: DeviceId) -> Result<Self, Vec<Problem>> {
        let mut read = Reader::new(text);
        if read.has("device") {
            let Config { policy, samples_bytes, child_bytes, .. } = Config::parse(text, Path::new("."))?;
            let sizes = Sizes { samples_bytes, child_bytes };
            return Ok(Self { policy: Policy { device, ..policy }, sizes });
        }
        let mut policy = Policy::new(device);
        read_policy(&mut read, &mut policy);
        let sizes = read_sizes(&mut read);
        read.finish(Self { policy, sizes })
    }
}

pub(super) fn read_ask(read: &mut Reader<'_>) -> asking::Settings {
    let usual = asking::Settings::default();
    let places =
        read.whole("ask", "queue", 0, 10_000).map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
    let hours = read.whole("ask", "max_age_h", 1, 24 * 365);
    asking::Settings {
        queue: places.unwrap_or(usual.queue),
        max_age: hours.map_or(usual.max_age, |hours| Duration::from_secs(hours * 3_600)),
        per_day: read.whole("ask", "per_day", 0, 1_000_000).unwrap_or(usual.per_day),
    }
}

pub(super) fn read_sizes(read: &mut Reader<'_>) -> Sizes {
    Sizes {
        samples_bytes: read.whole("samples", "quota_mib", 1, 1 << 20).unwrap_or(256) * MIB,
        child_bytes: read.whole("retrain", "memory_mib", 64, 1 << 20).unwrap_or(1_024) * MIB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_settings_are_those_of_an_agent() {
        let device = || DeviceId::new("b").unwrap();
        let read = |text: &str| LoopSettings::parse(text, device());
        assert_eq!(read("").unwrap(), LoopSettings::new(device()));
        let whole = read(include_str!("../../../cross/agent.toml")).unwrap();
        assert_eq!((whole.policy.device.as_str(), whole.policy.min_labels), ("b", 100));
        let some = read("[retrain]\nmin_labels = 7\n[samples]\nquota_mib = 3\n").unwrap();
        assert_eq!((some.policy.min_labels, some.sizes.samples_bytes), (7, 3 << 20));
        for (text, word) in [
            ("[retrian]\n", "did you mean `retrain`"),
            ("[retrain]\nmin_labels = 0\n", "from 1"),
            ("[serve]\nworkers = 1\n", "serve"),
        ] {
            let told: Vec<String> = read(text).unwrap_err().iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|one| one.contains(word)), "{word} is not in {told:?}");
        }
    }
}
