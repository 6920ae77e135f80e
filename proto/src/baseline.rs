//! The reference profile that drift is measured against: `baseline.json` in a package.
//!
//! Edges are frozen when the package is made, so that counts taken anywhere add up exactly.

mod answer;
mod confusion;
mod feature;
mod input;
mod joint;

pub use feature::{
    Category, FEW_CATEGORIES, FeatureBaseline, FeatureKind, Intervals, LOG_REACH, MAX_CATEGORIES, Magnitude,
    OCTAVES, RhythmBaseline,
};
pub use input::{InputProfile, PROFILE_CLASSES, PROFILE_FEATURES};
pub use joint::{
    DEPTH_MAX, DistanceBaseline, EDGES_MAX, Floats, INPUTS_MAX, JOINT_MAX, JointBaseline,
    RESIDUAL_INPUTS_MAX, Ranks, ResidualBaseline, TREES_MAX, Tail, TreesBaseline,
};

use crate::id::Digest;
pub use answer::{
    CONFIDENCE_BINS, ClassBaseline, ErrorModel, ErrorTerm, GroupBaseline, Histogram, ONE, PartBaseline,
    PredictionBaseline, RELIABILITY_BINS, Reliability, ReliabilityBin, SCORE_BINS, Spread, ValueBaseline,
    confidence_bin, prediction_cell, score_cell,
};
pub use confusion::Confusion;
use serde::{Deserialize, Serialize};

/// Equal-mass bins of a numeric feature. Twenty keep five per cent of the reference in each.
pub const BINS: usize = 20;

/// The reference profile of a model version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Rows it was taken from.
    pub rows: u64,
    /// Features, in the manifest's order.
    pub features: Vec<FeatureBaseline>,
    /// Answers to rows that were not trained on.
    pub predictions: Option<PredictionBaseline>,
    /// How rows follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<RhythmBaseline>,
    /// All features together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint: Option<JointBaseline>,
    /// The tensor inside the model that the manifest names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<JointBaseline>,
    /// What inputs look like by class, for the adapter of inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputProfile>,
    /// How much the model's answer changes when a feature moves by one standard deviation, in the
    /// features' order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Vec<f32>>,
    /// Whether it was learned from the first rows on a device, which may have been strange already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub learned: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
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
            if !feature.is_sound() {
                return Err(BaselineError::Feature { index });
            }
        }
        if baseline.joint.iter().chain(&baseline.embedding).any(|joint| !joint.is_sound()) {
            return Err(BaselineError::Joint);
        }
        if baseline
            .inputs
            .as_ref()
            .is_some_and(|inputs| !inputs.is_sound() || inputs.width() != baseline.features.len())
        {
            return Err(BaselineError::Inputs);
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

/// A baseline that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// Not JSON, or not of this schema.
    #[error("baseline.json cannot be read: {reason}")]
    Parse { reason: String },
    /// Edges or categories that do not rise, or counts that do not fit them.
    #[error("baseline.json: feature {index} has edges that do not rise or counts that do not fit")]
    Feature { index: usize },
    /// Moments of inputs whose lengths do not fit the features.
    #[error("baseline.json: the moments of the inputs do not fit the features")]
    Inputs,
    /// A joint part whose lengths do not fit each other, or that is too large.
    #[error("baseline.json: the joint part's lengths do not fit each other, or it is too large")]
    Joint,
    /// A reference of answers that contradicts itself.
    #[error("baseline.json: the answers have {fault}")]
    Answers { fault: &'static str },
}
