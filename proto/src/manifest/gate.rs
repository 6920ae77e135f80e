//! What a retrained version must show.

use serde::{Deserialize, Serialize};

/// What a retrained version must show before it may serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatePolicy {
    /// Labelled holdout rows below which the answer is "too little evidence".
    pub min_holdout: u32,
    /// Level of the one-sided paired tests: McNemar's exact one of a classifier, Wilcoxon's of a regression.
    pub significance: f64,
    /// The candidate's accuracy must be above the champion's by this.
    pub margin: f64,
    /// Share of right answers on the holdout below which nothing passes: labels that no version can
    /// follow are lies or noise, and "better than the champion" means nothing on them.
    pub min_accuracy: f64,
    /// Guard-set accuracy that may be lost.
    pub max_guard_loss: f64,
    /// Recall that any one class, and accuracy that any part of a group, may lose on the holdout, where the loss is
    /// beyond chance. A class may lose twice that where the mean recall of all classes surely gains half of it.
    pub max_class_loss: f64,
    /// Mean log-loss on the holdout, in nats, by which a candidate may be worse; 0.05 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_log_loss_rise: Option<f64>,
    /// Microseconds that one row may take; 50 more than one and a half times the champion's where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_row_us: Option<f64>,
    /// How far trained weights may go from the parent's, as a multiple of their length; 10 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<f64>,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            min_holdout: 30,
            significance: 0.05,
            margin: 0.0,
            min_accuracy: 0.5,
            max_guard_loss: 0.05,
            max_class_loss: 0.2,
            max_log_loss_rise: None,
            max_row_us: None,
            max_distance: None,
        }
    }
}
