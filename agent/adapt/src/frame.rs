//! Between a row as it comes and the standardised units that the adapter thinks in.

use shoal_proto::baseline::{Baseline, InputProfile};

/// Standardised values beyond this say no more.
pub(crate) const FAR: f32 = 10.0;
/// Least variance of a class, of 1 in all: what a sensor's last digit leaves.
const LEAST_VARIANCE: f64 = 1e-3;

/// An [`InputProfile`] made ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    bend: Vec<f32>,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// Places of the features that are adapted.
    live: Vec<usize>,
    pub(crate) shares: Vec<f64>,
    pub(crate) means: Vec<Vec<f64>>,
    pub(crate) variances: Vec<Vec<f64>>,
    /// Rows from one to the next that is nearly independent of it, on the average of the features.
    pub(crate) spacing: f64,
}

impl Frame {
    /// `None` where the baseline has no moments, or no feature that may be adapted.
    #[must_use]
    pub fn new(baseline: &Baseline) -> Option<Self> {
        let profile = baseline.inputs.as_ref().filter(|profile| profile.is_sound())?;
        let live: Vec<usize> = (0..profile.width()).filter(|at| profile.std[*at] > 0.0).collect();
        if live.is_empty() {
            return None;
        }
        let spacings = live.iter().filter_map(|at| baseline.features.get(*at));
        let spacing = spacings.map(|feature| f64::from(feature.spacing)).sum::<f64>() / live.len() as f64;
        let InputProfile { bend, mean, std, shares, means, variances } = profile;
        let of_class = |values: &[f32], class: usize| -> Vec<f64> {
            live.iter().map(|at| f64::from(values[class * profile.width() + at])).collect()
        };
        let classes = 0..shares.len();
        Some(Self {
            bend: bend.to_vec(),
            mean: mean.to_vec(),
            std: std.to_vec(),
            shares: normalised(shares),
            means: classes.clone().map(|class| of_class(means, class)).collect(),
            variances: classes
                .map(|class| of_class(variances, class).into_iter().map(|v| v.max(LEAST_VARIANCE)).collect())
                .collect(),
            spacing: spacing.max(1.0),
            live,
        })
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Classes whose moments are known; one where there are none.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.shares.len()
    }

    /// Features that are adapted.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// The live features of a row in standardised units, no farther than ten; NaN stays.
    pub(crate) fn standardise(&self, row: &[f32], into: &mut Vec<f32>) {
        into.clear();
        into.extend(self.live.iter().map(|at| self.one(*at, row.get(*at).copied().unwrap_or(f32::NAN))));
    }

    fn one(&self, at: usize, x: f32) -> f32 {
        let bent = if self.bend[at] > 0.0 { (x / self.bend[at]).asinh() } else { x };
        ((bent - self.mean[at]) / self.std[at]).clamp(-FAR, FAR)
    }

    /// Writes standardised values into the live features of a row; what is missing is put at training's mean.
    pub(crate) fn put(&self, z: &[f32], row: &mut [f32]) {
        for (at, z) in self.live.iter().zip(z) {
            let z = if z.is_nan() { 0.0 } else { z.clamp(-FAR, FAR) };
            let bent = z * self.std[*at] + self.mean[*at];
            row[*at] = if self.bend[*at] > 0.0 { bent.sinh() * self.bend[*at] } else { bent };
        }
    }

    /// A row whose live features are moved to where `map` puts their standardised values. What is missing, what
    /// is infinite, and what `map` leaves where it is, stays as it is to the bit.
    pub(crate) fn moved(&self, row: &mut [f32], map: impl Fn(usize, f32) -> f32) {
        for (place, at) in self.live.iter().enumerate() {
            let Some(x) = row.get_mut(*at).filter(|x| x.is_finite()) else { continue };
            let from = self.one(*at, *x);
            let to = map(place, from);
            if to != from {
                let bent = to * self.std[*at] + self.mean[*at];
                *x = if self.bend[*at] > 0.0 { bent.sinh() * self.bend[*at] } else { bent };
            }
        }
    }
}

fn normalised(shares: &[f32]) -> Vec<f64> {
    let sum: f64 = shares.iter().map(|share| f64::from(*share)).sum();
    if sum <= 0.0 {
        return vec![1.0 / shares.len() as f64; shares.len()];
    }
    shares.iter().map(|share| f64::from(*share) / sum).collect()
}
