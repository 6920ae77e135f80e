//! What inputs look like, class by class: where the label-free adapter brings inputs back to that have moved.

use super::Floats;
use serde::{Deserialize, Serialize};

/// Classes of which moments are kept; of more, all rows are taken as one.
pub const PROFILE_CLASSES: usize = 64;
/// Features of which moments are kept.
pub const PROFILE_FEATURES: usize = 1_024;

/// Moments of the training rows. A value `x` is first bent, `asinh(x / bend)` where `bend` is not nought, and then
/// standardised by `mean` and `std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputProfile {
    /// Where each feature begins to bend, in its own unit; nought for a straight one.
    pub bend: Floats,
    /// Mean of each bent feature.
    pub mean: Floats,
    /// Standard deviation of each bent feature; nought for one that is never adapted: a category, or a constant.
    pub std: Floats,
    /// Share of each class; one of 1 where there are no classes.
    pub shares: Floats,
    /// Mean of each class, of standardised features: class after class.
    pub means: Floats,
    /// Variance of each class about its mean, likewise.
    pub variances: Floats,
}

impl InputProfile {
    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Whether its lengths fit each other and its numbers are sound.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let (width, classes) = (self.mean.len(), self.shares.len());
        let all = [&self.bend, &self.mean, &self.std, &self.shares, &self.means, &self.variances];
        let not_below = [&self.bend, &self.std, &self.shares, &self.variances];
        (1..=PROFILE_FEATURES).contains(&width)
            && (1..=PROFILE_CLASSES).contains(&classes)
            && self.bend.len() == width
            && self.std.len() == width
            && self.means.len() == width * classes
            && self.variances.len() == width * classes
            && all.iter().all(|values| values.is_finite())
            && not_below.iter().all(|values| values.iter().all(|value| *value >= 0.0))
    }
}
