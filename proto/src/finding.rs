//! What monitors find: the same value is logged, reported to the hub, shown and asserted on.

use crate::id::{Digest, ModelName};
use crate::summary::{DriftLevel, WindowId};
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Histogram of a feature against its baseline (PSI, chi-square calibrated).
    Feature,
    /// Rate of missing values.
    Missing,
    /// Rate of values out of the trained range.
    Range,
    /// Rate of infinite values.
    Infinite,
    /// Rate of categories that training never saw.
    Unseen,
    /// A feature that stands still longer than it ever did in training.
    Stuck,
    /// Rate of rows that are the same as the row before.
    Duplicate,
    /// A jump of scale: another unit, or a decimal point that moved.
    Scale,
    /// Time between rows.
    Interval,
    /// No row for longer than the source ever paused.
    Silent,
    /// Requests whose features are not those of the package.
    Schema,
    /// Where a feature's values lie, row by row (conformal CUSUM).
    Location,
    /// How far a feature's values spread, row by row (conformal CUSUM).
    Spread,
    /// Mix of a feature's categories (G-test).
    Category,
    /// All features together: Mahalanobis distance (conformal CUSUM).
    Joint,
    /// All features together: what their principal components leave over (conformal CUSUM).
    Reconstruction,
    /// What the model's last layer reads: Mahalanobis distance, or what principal components leave over
    /// (conformal CUSUM).
    Embedding,
    /// Rate of rows that are like none of training.
    Outlier,
    /// Class × confidence, or the answer's value, against the baseline.
    Prediction,
    /// Performance that calibrated confidence promises, without labels; blind to concept drift.
    Estimate,
    /// Errors on labelled predictions (Bernoulli CUSUM).
    Error,
    /// Mean error of labelled predictions between two parts of the recent past (ADWIN).
    ErrorMean,
    /// Size of a regression's errors (conformal CUSUM).
    Residual,
    /// Confidence against the share of right answers.
    Calibration,
    /// A group is given an answer less often than the others (demographic parity).
    Parity,
    /// A group's right answers are rarer (equal opportunity, equalized odds).
    Opportunity,
    /// One that a newer build knows.
    #[serde(other)]
    Unknown,
}

/// What a monitor counts its chances of a false alarm in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trials {
    /// Rows predicted.
    Rows,
    /// Labels that came.
    Labels,
    /// Windows closed.
    Windows,
}

impl Monitor {
    /// Its word in findings, topics and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Missing => "missing",
            Self::Range => "range",
            Self::Infinite => "infinite",
            Self::Unseen => "unseen",
            Self::Stuck => "stuck",
            Self::Duplicate => "duplicate",
            Self::Scale => "scale",
            Self::Interval => "interval",
            Self::Silent => "silent",
            Self::Schema => "schema",
            Self::Location => "location",
            Self::Spread => "spread",
            Self::Category => "category",
            Self::Joint => "joint",
            Self::Reconstruction => "reconstruction",
            Self::Embedding => "embedding",
            Self::Outlier => "outlier",
            Self::Prediction => "prediction",
            Self::Estimate => "estimate",
            Self::Error => "error",
            Self::ErrorMean => "error_mean",
            Self::Residual => "residual",
            Self::Calibration => "calibration",
            Self::Parity => "parity",
            Self::Opportunity => "opportunity",
            Self::Unknown => "unknown",
        }
    }

    /// What a person should do about its finding.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Feature | Self::Location | Self::Category => {
                "look at this input's source; retrain with recent labels where the change is real"
            }
            Self::Missing => "look at the sensor or the join that fills this input",
            Self::Range => "look at the sensor and its unit; the model extrapolates",
            Self::Infinite => "look at the arithmetic before the model: something divides by nought",
            Self::Unseen => "map the new category, or retrain with it",
            Self::Stuck => "look at the sensor: it repeats one value",
            Self::Duplicate => "look at the source: it sends rows twice",
            Self::Scale => "compare the unit with the one in the package",
            Self::Interval => "look at the sampling clock and at what drops rows",
            Self::Silent => "look at the source: it has gone silent",
            Self::Schema => "compare the sender's features and their order with the package's",
            Self::Spread => "look at the sensor's noise; retrain with recent labels where the change is real",
            Self::Joint => "look at the features that are named beside it",
            Self::Reconstruction => {
                "features no longer move together as they did: look for one that is wrong"
            }
            Self::Embedding => {
                "the model sees what it was not trained on: have recent rows labelled, then retrain"
            }
            Self::Outlier => "keep the marked rows and have some of them labelled",
            Self::Prediction => "see which features moved; have recent rows labelled",
            Self::Estimate => "have recent rows labelled to be sure, then retrain",
            Self::Error | Self::ErrorMean | Self::Residual => "retrain with recent labels",
            Self::Calibration => "calibrate the model again with recent labels",
            Self::Parity => "look at who is in the group, and at its labels",
            Self::Opportunity => "have more rows of this group labelled, then retrain",
            Self::Unknown => "ask a newer build",
        }
    }

    /// What of the model it watches.
    #[must_use]
    pub fn part(self) -> Part {
        match self {
            Self::Missing
            | Self::Range
            | Self::Infinite
            | Self::Unseen
            | Self::Stuck
            | Self::Duplicate
            | Self::Scale
            | Self::Interval
            | Self::Silent
            | Self::Schema => Part::Quality,
            Self::Feature
            | Self::Location
            | Self::Spread
            | Self::Category
            | Self::Joint
            | Self::Reconstruction
            | Self::Embedding
            | Self::Outlier
            | Self::Unknown => Part::Data,
            Self::Prediction => Part::Predictions,
            Self::Estimate | Self::Error | Self::ErrorMean | Self::Residual | Self::Calibration => {
                Part::Performance
            }
            Self::Parity | Self::Opportunity => Part::Fairness,
        }
    }

    /// What its rate of false alarms is counted in.
    #[must_use]
    pub fn trials(self) -> Trials {
        match self {
            Self::Feature
            | Self::Interval
            | Self::Category
            | Self::Prediction
            | Self::Estimate
            | Self::Calibration
            | Self::Parity
            | Self::Opportunity => Trials::Windows,
            Self::Missing
            | Self::Range
            | Self::Infinite
            | Self::Unseen
            | Self::Stuck
            | Self::Duplicate
            | Self::Scale
            | Self::Silent
            | Self::Schema
            | Self::Location
            | Self::Spread
            | Self::Joint
            | Self::Reconstruction
            | Self::Embedding
            | Self::Outlier
            | Self::Unknown => Trials::Rows,
            Self::Error | Self::ErrorMean | Self::Residual => Trials::Labels,
        }
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that a monitor found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// The model that is watched.
    pub model: ModelName,
    /// The version that served.
    pub version: Digest,
    /// What found it.
    pub monitor: Monitor,
    /// The feature, where the monitor watches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The group of rows, as `NAME = VALUE`, where the monitor watches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How serious.
    pub level: DriftLevel,
    /// The statistic.
    pub statistic: f64,
    /// What it was held against.
    pub threshold: f64,
    /// With nothing changed, all monitors of this kind together say so once in this many of the monitor's
    /// [trials](Monitor::trials); nought where it is not known.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub one_false_in: f64,
    /// When it began, as far as can be told, by the device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<WallMs>,
    /// The window in which it was found.
    pub window: WindowId,
    /// When, by the device's clock.
    pub at: WallMs,
}

/// What of a model can be well or ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Whether inputs arrive whole.
    Quality,
    /// Whether inputs are as in training.
    Data,
    /// Whether answers are as they were.
    Predictions,
    /// Whether answers are right, as labels or calibrated confidence tell.
    Performance,
    /// Whether they are as right for every group.
    Fairness,
}

/// Every part, in the order in which they are shown.
pub const PARTS: [Part; 5] =
    [Part::Quality, Part::Data, Part::Predictions, Part::Performance, Part::Fairness];

/// What a part's score is at each level.
const AT_WARNING: u8 = 70;
const AT_DRIFT: u8 = 30;

impl Part {
    /// Its word in topics and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Data => "data",
            Self::Predictions => "predictions",
            Self::Performance => "performance",
            Self::Fairness => "fairness",
        }
    }

    /// Percent of its own illness that the whole model has by it: wrong answers are all that counts in the
    /// end; inputs that moved may be answered well all the same.
    fn weight(self) -> u8 {
        match self {
            Self::Performance => 100,
            Self::Quality | Self::Fairness => 80,
            Self::Data | Self::Predictions => 60,
        }
    }
}

/// How well a model does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelHealth {
    /// From 0, do not trust it, to 100: that of its worst part by weight.
    pub score: u8,
    /// The level of each part.
    pub parts: Vec<(Part, DriftLevel)>,
}

impl Default for ModelHealth {
    fn default() -> Self {
        Self::of(&[])
    }
}

impl ModelHealth {
    /// The health that findings leave.
    #[must_use]
    pub fn of(findings: &[(Monitor, DriftLevel)]) -> Self {
        let level = |part| {
            let of_part = findings.iter().filter(|(monitor, _)| monitor.part() == part);
            of_part.map(|(_, level)| *level).max().unwrap_or_default()
        };
        let parts = PARTS.map(|part| (part, level(part)));
        let score = parts.iter().map(|(part, level)| {
            let ill = match level {
                DriftLevel::Stable => 0,
                DriftLevel::Warning => 100 - AT_WARNING,
                DriftLevel::Drift => 100 - AT_DRIFT,
            };
            100 - u16::from(ill) * u16::from(part.weight()) / 100
        });
        let score = u8::try_from(score.min().unwrap_or(100)).unwrap_or(100);
        Self { score, parts: parts.to_vec() }
    }

    /// The worst level of any part.
    #[must_use]
    pub fn level(&self) -> DriftLevel {
        self.parts.iter().map(|(_, level)| *level).max().unwrap_or_default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_nought(value: &f64) -> bool {
    *value == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_written_as_its_word_and_an_unknown_one_reads() {
        for monitor in [Monitor::Feature, Monitor::ErrorMean, Monitor::Opportunity] {
            assert_eq!(serde_json::to_string(&monitor).unwrap(), format!("\"{monitor}\""));
        }
        assert_eq!(serde_json::from_str::<Monitor>("\"telepathy\"").unwrap(), Monitor::Unknown);
    }

    #[test]
    fn a_model_is_as_well_as_its_worst_part() {
        use DriftLevel::{Drift, Stable, Warning};
        for (findings, score, level) in [
            (vec![], 100, Stable),
            (vec![(Monitor::Feature, Warning)], 82, Warning),
            (vec![(Monitor::Feature, Warning), (Monitor::Joint, Drift)], 58, Drift),
            (vec![(Monitor::Feature, Drift), (Monitor::Error, Drift)], 30, Drift),
            (vec![(Monitor::Estimate, Warning), (Monitor::Stuck, Warning)], 70, Warning),
        ] {
            let health = ModelHealth::of(&findings);
            assert_eq!((health.score, health.level()), (score, level), "{findings:?}");
        }
    }
}
