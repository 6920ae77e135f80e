//! What a window of live data was like: integers that add up exactly over a fleet.
//!
//! A sealed window is a slot that is written once; what labels say of its predictions later is a slot
//! beside it ([`LabelSlot`]). A view of the fleet ([`FleetSummary`]) is a pure fold over all slots, so that
//! no message, however often or late it comes, is counted twice.
//!
//! **Invariant:** a window's number is given once in the life of a database, and a window is closed when
//! another version begins to serve. (Incarnation, number) therefore names one model, version and baseline,
//! and with the version its schema; two versions never share a slot.

mod cells;
mod fixed;
mod fleet;
mod labels;

pub use cells::{Cells, Counts, pair, rows, unpair};
pub use fixed::{Fixed, ONE, units_of_share};
pub use fleet::{FleetKey, FleetSummary, LabelBook, fold};
pub use labels::{ClassLabel, LabelKey, LabelSlot, LabelSums, SCORE_BINS, WindowLabels, score_cell};

use crate::id::{Digest, Incarnation, ModelName};
use crate::op::MAX_VALUE_BYTES;
use crate::time::WallMs;
use crate::wire::to_cbor;
use serde::{Deserialize, Serialize};

/// Room that a stamp takes in an operation's value.
const STAMP_BYTES: usize = 8;

/// How far live data stands from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

impl DriftLevel {
    /// Its word in topics and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Warning => "warning",
            Self::Drift => "drift",
        }
    }
}

/// What identifies a summary; immutable once sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The version that served all of it.
    pub version: Digest,
    /// The baseline whose edges the counts are on.
    pub baseline: Digest,
    /// When it was opened, by the device's clock.
    pub opened: WallMs,
    /// When it was closed, by the device's clock.
    pub closed: WallMs,
    /// Rows predicted.
    pub rows: u64,
    /// One a feature, in the manifest's order; the last may be wanting where they do not fit an operation.
    pub features: Vec<FeatureSummary>,
    /// Predicted (class × confidence bin), row-major.
    pub predictions: Counts,
    /// Labels that arrived while this window was open, for whichever prediction. A device that keeps
    /// [`LabelSlot`]s may leave it nought: it is not looked at beside them.
    #[serde(default)]
    pub labels: LabelSummary,
    /// The verdict at close.
    pub level: DriftLevel,
    /// What calibrated confidence promises.
    #[serde(default, skip_serializing_if = "Estimate::is_zero")]
    pub estimate: Estimate,
    /// Rows that are like none of training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outliers: u64,
    /// Rows that are the same as the row before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// How well the model is, 0 to 100, at close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<u8>,
    /// Answers of a regression in each bin of the baseline's answers.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub values: Counts,
    /// By [`pair`] of a group's name's and its value's place in the package: rows, and those of them that
    /// were given the favourable answer.
    #[serde(default, skip_serializing_if = "Cells::is_empty")]
    pub groups: Cells<2>,
}

impl WindowSummary {
    /// A window without a row.
    #[must_use]
    pub fn new(id: WindowId, model: ModelName, version: Digest, baseline: Digest, opened: WallMs) -> Self {
        Self {
            id,
            model,
            version,
            baseline,
            opened,
            closed: opened,
            rows: 0,
            features: Vec::new(),
            predictions: Counts::default(),
            labels: LabelSummary::default(),
            level: DriftLevel::Stable,
            estimate: Estimate::default(),
            outliers: 0,
            duplicates: 0,
            health: None,
            values: Counts::default(),
            groups: Cells::default(),
        }
    }

    /// The operation's value. What does not fit one is left out, the last feature first: of some 300
    /// features with 20 bins each, all fit.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        let most = MAX_VALUE_BYTES - STAMP_BYTES;
        let mut value = to_cbor(self);
        let mut fitting = self.clone();
        while value.len() > most && !fitting.features.is_empty() {
            let kept = fitting.features.len() * most / value.len();
            fitting.features.truncate(kept.min(fitting.features.len() - 1));
            value = to_cbor(&fitting);
        }
        if value.len() > most {
            let bare =
                Self::new(fitting.id, fitting.model, fitting.version, fitting.baseline, fitting.opened);
            let Self { closed, rows, labels, level, estimate, outliers, duplicates, health, .. } = fitting;
            let bare = Self { closed, rows, labels, level, estimate, outliers, duplicates, health, ..bare };
            value = to_cbor(&bare);
        }
        value
    }
}

/// One feature in one window. A numeric one is counted on the baseline's bins, a categorical one on
/// its categories.
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
    /// Of those, rows below it; the others are above, where the device tells them apart.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub below: u64,
    /// Rows with the same value as the row before.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    pub repeats: u64,
    /// Rows in each category of the baseline.
    #[serde(rename = "k", default, skip_serializing_if = "Counts::is_empty")]
    pub categories: Counts,
    /// Rows with a category that training never saw.
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    pub unseen: u64,
    /// Sum of ln|x| over the rows of a numeric feature that are finite and not nought.
    #[serde(rename = "x", default, skip_serializing_if = "Fixed::is_zero")]
    pub log_size: Fixed,
    /// Rows that are nought, which have no ln.
    #[serde(rename = "z", default, skip_serializing_if = "is_zero")]
    pub zeros: u64,
    /// The level of this feature at close.
    #[serde(rename = "l", default)]
    pub level: DriftLevel,
}

impl FeatureSummary {
    /// A numeric feature's bins.
    #[must_use]
    pub fn numeric(bins: &[u64]) -> Self {
        Self { counts: Counts::of(bins), ..Self::default() }
    }

    /// A categorical feature's categories, in the order of the baseline, and rows of any other.
    #[must_use]
    pub fn categorical(categories: &[u64], unseen: u64) -> Self {
        Self { categories: Counts::of(categories), unseen, ..Self::default() }
    }

    /// Adds all counts of another; the level stays, since a sum has none.
    pub fn absorb(&mut self, other: &Self) {
        self.counts.absorb(&other.counts);
        self.categories.absorb(&other.categories);
        self.log_size.absorb(other.log_size);
        for (sum, count) in [
            (&mut self.missing, other.missing),
            (&mut self.infinite, other.infinite),
            (&mut self.out_of_range, other.out_of_range),
            (&mut self.below, other.below),
            (&mut self.repeats, other.repeats),
            (&mut self.unseen, other.unseen),
            (&mut self.zeros, other.zeros),
        ] {
            *sum = sum.saturating_add(count);
        }
    }

    /// Mean of ln|x|; `None` without a row that has one.
    #[must_use]
    pub fn mean_log_size(&self) -> Option<f64> {
        let rows = self.counts.total().saturating_sub(self.zeros);
        #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
        (rows > 0).then(|| self.log_size.value() / rows as f64)
    }
}

/// What calibrated confidence promises without labels (CBPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Rows with a calibrated confidence.
    #[serde(rename = "n")]
    pub rows: u64,
    /// Sum of it in 2^-20: so many of [`ONE`] right answers are expected.
    #[serde(rename = "p")]
    pub promised: u64,
}

impl Estimate {
    /// Adds one row's calibrated confidence; NaN is passed over.
    pub fn observe(&mut self, confidence: f64) {
        if !confidence.is_nan() {
            self.absorb(Self { rows: 1, promised: units_of_share(confidence) });
        }
    }

    /// Adds all of another.
    pub fn absorb(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.promised = self.promised.saturating_add(other.promised);
    }

    /// The accuracy that is promised; `None` without rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people; sums stay integers")]
    pub fn accuracy(self) -> Option<f64> {
        (self.rows > 0).then(|| self.promised as f64 / ONE as f64 / self.rows as f64)
    }

    const fn is_zero(&self) -> bool {
        self.rows == 0 && self.promised == 0
    }
}

/// What labels said while a window was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelSummary {
    /// Predictions with a label.
    pub labelled: u64,
    /// Of those, how many were right.
    pub correct: u64,
}

impl LabelSummary {
    /// Adds all of another.
    pub fn absorb(&mut self, other: Self) {
        self.labelled = self.labelled.saturating_add(other.labelled);
        self.correct = self.correct.saturating_add(other.correct);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests;
