//! The reference profile that drift is measured against: `baseline.json` in a package.
//!
//! Edges are frozen when the package is made, so that counts taken anywhere add up exactly.

mod answer;
mod confusion;

use crate::id::Digest;
pub use answer::{
    CONFIDENCE_BINS, ClassBaseline, ErrorModel, ErrorTerm, GroupBaseline, Histogram, ONE, PartBaseline,
    PredictionBaseline, RELIABILITY_BINS, Reliability, ReliabilityBin, SCORE_BINS, Spread, ValueBaseline,
    prediction_cell, score_cell,
};
pub use confusion::Confusion;
use serde::{Deserialize, Serialize};

/// Equal-mass bins of a numeric feature. Twenty keep five per cent of the reference in each.
pub const BINS: usize = 20;

/// The reference profile of a model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Rows it was taken from.
    pub rows: u64,
    /// Features, in the manifest's order.
    pub features: Vec<FeatureBaseline>,
    /// Answers to rows that were not trained on.
    pub predictions: Option<PredictionBaseline>,
}

/// The reference of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureBaseline {
    /// Inner edges, strictly rising: bin `i` holds `edges[i-1] <= x < edges[i]`. At most
    /// [`BINS`]` - 1`, fewer where values repeat.
    pub edges: Vec<f64>,
    /// Rows in each bin, one more than edges.
    pub counts: Vec<u64>,
    /// Rows without a value.
    pub missing: u64,
    /// Least finite value.
    pub min: f64,
    /// Greatest finite value.
    pub max: f64,
    /// Mean of the finite values.
    pub mean: f64,
    /// Standard deviation of the finite values.
    pub std: f64,
}

impl Baseline {
    /// The canonical file.
    ///
    /// # Panics
    /// Never: all floats of a baseline are finite.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a baseline has a JSON form")
    }

    /// Reads a baseline and checks that bins and edges fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, BaselineError> {
        let baseline: Self = serde_json::from_slice(bytes)
            .map_err(|cause| BaselineError::Parse { reason: cause.to_string() })?;
        for (index, feature) in baseline.features.iter().enumerate() {
            let rising = feature.edges.windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || feature.counts.len() != feature.edges.len() + 1 || feature.edges.len() >= BINS {
                return Err(BaselineError::Feature { index });
            }
        }
        if let Some(fault) = baseline.predictions.as_ref().and_then(PredictionBaseline::fault) {
            return Err(BaselineError::Answers { fault });
        }
        Ok(baseline)
    }

    /// What summaries are keyed by, so that versions born on devices still merge.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl FeatureBaseline {
    /// The bin of a finite value.
    #[must_use]
    pub fn bin(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// A profile of one column: missing and non-finite values are counted apart.
    #[must_use]
    pub fn of(column: impl IntoIterator<Item = f64>) -> Self {
        let mut missing = 0;
        let mut values: Vec<f64> = Vec::new();
        for value in column {
            if value.is_finite() { values.push(value) } else { missing += 1 }
        }
        values.sort_by(f64::total_cmp);
        let rows = values.len();
        let mut edges: Vec<f64> =
            (1..BINS).filter_map(|cut| values.get(rows * cut / BINS).copied()).collect();
        edges.dedup();
        if edges.first() == values.first() {
            edges.drain(..edges.len().min(1)); // an edge at the least value would leave the first bin empty
        }
        #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
        let count = rows.max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        let (min, max) =
            (values.first().copied().unwrap_or_default(), values.last().copied().unwrap_or_default());
        let mut profile = Self { counts: vec![0; edges.len() + 1], edges, missing, min, max, mean, std };
        for value in values {
            let bin = profile.bin(value);
            profile.counts[bin] += 1;
        }
        profile
    }
}

/// A baseline that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// Not JSON, or not of this schema.
    #[error("baseline.json cannot be read: {reason}")]
    Parse { reason: String },
    /// Edges that do not rise, or counts that do not fit them.
    #[error("baseline.json: feature {index} has edges that do not rise or counts that do not fit")]
    Feature { index: usize },
    /// A reference of answers that contradicts itself.
    #[error("baseline.json: the answers have {fault}")]
    Answers { fault: &'static str },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_have_equal_mass() {
        let profile = FeatureBaseline::of((0..1000).map(f64::from));
        assert_eq!(profile.counts, vec![50; BINS]);
    }

    #[test]
    fn repeated_values_give_fewer_bins() {
        let profile = FeatureBaseline::of([1.0, 1.0, 1.0, 2.0, f64::NAN]);
        assert_eq!((profile.counts.iter().sum::<u64>(), profile.missing), (4, 1));
        assert!(profile.edges.windows(2).all(|pair| pair[0] < pair[1]));
        let constant = FeatureBaseline::of([3.0; 10]);
        assert_eq!(constant.counts, vec![10]);
        let empty = FeatureBaseline::of([]);
        assert_eq!(empty.counts.iter().sum::<u64>(), 0);
    }
}
