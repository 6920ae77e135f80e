//! Vectors that are watched as a whole: all features together, or what the model's last layer reads.

use super::reference::JointReference;
use crate::budget::Heights;
use crate::found::{Found, Subject, said};
use crate::joint::{JointState, OUTLIER_ALPHA, attribute};
use crate::sequential::{Bernoulli, Conformal, Side};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::JointBaseline;
use shoal_proto::finding::Monitor;

/// What was seen of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JointInputs {
    #[serde(rename = "s")]
    pub(super) state: JointState,
    #[serde(rename = "d")]
    distance: Conformal,
    #[serde(rename = "r")]
    residual: Conformal,
    #[serde(rename = "o")]
    outliers: Bernoulli,
}

impl JointInputs {
    pub(super) fn new(baseline: &JointBaseline) -> Self {
        Self {
            state: JointState::new(baseline),
            distance: Conformal::default(),
            residual: Conformal::default(),
            outliers: Bernoulli::default(),
        }
    }

    /// Takes a vector; the chance of one as strange, where it is an outlier.
    pub(super) fn observe(&mut self, of: &mut JointReference, values: &[f32]) -> Option<f64> {
        let seen = of.joint.observe(&mut self.state, values);
        self.distance.observe(&of.distance, seen.distance.bin);
        if let (Some(bets), Some(rank)) = (&of.residual, seen.residual) {
            self.residual.observe(bets, rank.bin);
        }
        let outlier = seen.outlier(OUTLIER_ALPHA);
        self.outliers.observe(&of.outliers, outlier.is_some());
        outlier.map(|outlier| outlier.p)
    }

    /// What all features together say.
    pub(super) fn features_running(&self, of: &JointReference, found: &mut Vec<Found>) {
        let alone = |monitor| Heights::new(monitor, 1);
        let blamed = |shares: Vec<f64>| {
            let first = attribute(&shares, None).into_iter().next().filter(|first| first.share > 0.0);
            first.map_or(Subject::Model, |first| Found::feature(first.feature))
        };
        let before = found.len();
        let distance = self.distance.sign(&of.distance, Side::Higher);
        said(Monitor::Joint, Subject::Model, distance, alone(Monitor::Joint), found);
        for one in &mut found[before..] {
            one.subject = blamed(self.state.distance_blame(&of.joint));
        }
        if let Some(bets) = &of.residual {
            let before = found.len();
            let residual = self.residual.sign(bets, Side::Higher);
            said(Monitor::Reconstruction, Subject::Model, residual, alone(Monitor::Reconstruction), found);
            for one in &mut found[before..] {
                one.subject = blamed(self.state.residual_blame(&of.joint));
            }
        }
        self.outliers_running(of, found);
    }

    /// What an embedding says: the stronger of its distance and of what its components leave over.
    pub(super) fn embedding_running(&self, of: &JointReference, found: &mut Vec<Found>) {
        let heights = Heights::new(Monitor::Embedding, 2);
        let mut both = Vec::new();
        said(
            Monitor::Embedding,
            Subject::Model,
            self.distance.sign(&of.distance, Side::Higher),
            heights,
            &mut both,
        );
        if let Some(bets) = &of.residual {
            let residual = self.residual.sign(bets, Side::Higher);
            said(Monitor::Embedding, Subject::Model, residual, heights, &mut both);
        }
        found.extend(both.into_iter().max_by(|a, b| a.statistic.total_cmp(&b.statistic)));
    }

    pub(super) fn outliers_running(&self, of: &JointReference, found: &mut Vec<Found>) {
        let outliers = self.outliers.worse(&of.outliers);
        said(Monitor::Outlier, Subject::Model, outliers, Heights::new(Monitor::Outlier, 1), found);
    }

    /// Rows that are like none of training.
    pub(super) fn outliers(&self) -> u64 {
        self.state.outliers().1
    }

    pub(super) fn reset(&mut self, of: &JointReference) {
        self.state.reset();
        self.distance.close();
        self.residual.close();
        self.outliers.close(&of.outliers);
    }
}
