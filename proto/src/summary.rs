//! What a window of live data was like: integers that add up exactly over a fleet.

use crate::id::{Digest, Incarnation, ModelName};
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far live data stands from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftLevel {
    /// Nothing beyond the stated false-alarm rate.
    #[default]
    Stable,
    /// Something moved; not enough to act on.
    Warning,
    /// It moved.
    Drift,
}

/// What identifies a summary; immutable once sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowId {
    /// Which life of the device's database.
    pub incarnation: Incarnation,
    /// Numbered per incarnation; wall time is only a label.
    pub number: u64,
}

/// One sealed window of one model on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSummary {
    /// Which window.
    pub id: WindowId,
    /// Which model.
    pub model: ModelName,
    /// The version that served when the window closed.
    pub version: Digest,
    /// The baseline whose edges the counts are on.
    pub baseline: Digest,
    /// When it was opened, by the device's clock.
    pub opened: WallMs,
    /// When it was closed, by the device's clock.
    pub closed: WallMs,
    /// Rows predicted.
    pub rows: u64,
    /// One a feature, in the manifest's order.
    pub features: Vec<FeatureSummary>,
    /// Predicted (class × confidence bin), row-major.
    pub predictions: Counts,
    /// Labels that arrived while this window was open.
    pub labels: LabelSummary,
    /// The verdict at close.
    pub level: DriftLevel,
}

/// One feature in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FeatureSummary {
    /// Rows in each bin of the baseline.
    #[serde(rename = "c")]
    pub counts: Counts,
    /// Rows with no value (null or NaN).
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Rows with an infinite value.
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    pub infinite: u64,
    /// Rows below or above the trained range.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    pub out_of_range: u64,
    /// The level of this feature at close.
    #[serde(rename = "l", default)]
    pub level: DriftLevel,
}

/// What labels said while a window was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelSummary {
    /// Predictions with a label.
    pub labelled: u64,
    /// Of those, how many were right.
    pub correct: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Counts by index, written sparsely: `[[index, count], …]` in order, no zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(u32, u64)>", into = "Vec<(u32, u64)>")]
pub struct Counts(BTreeMap<u32, u64>);

impl From<Vec<(u32, u64)>> for Counts {
    fn from(pairs: Vec<(u32, u64)>) -> Self {
        let mut counts = Self::default();
        for (index, count) in pairs {
            counts.add(index, count);
        }
        counts
    }
}

impl From<Counts> for Vec<(u32, u64)> {
    fn from(counts: Counts) -> Self {
        counts.0.into_iter().collect()
    }
}

impl Counts {
    /// Adds to one index.
    pub fn add(&mut self, index: u32, count: u64) {
        if count > 0 {
            let slot = self.0.entry(index).or_default();
            *slot = slot.saturating_add(count);
        }
    }

    /// Adds all of another.
    pub fn absorb(&mut self, other: &Self) {
        for (index, count) in &other.0 {
            self.add(*index, *count);
        }
    }

    /// The count at an index.
    #[must_use]
    pub fn get(&self, index: u32) -> u64 {
        self.0.get(&index).copied().unwrap_or_default()
    }

    /// The indices with a count, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().map(|(index, count)| (*index, *count))
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The first `len` counts, zeros included.
    #[must_use]
    pub fn dense(&self, len: usize) -> Vec<u64> {
        (0..len).map(|index| u32::try_from(index).map_or(0, |index| self.get(index))).collect()
    }
}
