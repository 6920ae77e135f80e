//! All columns together: multivariate drift, outlying rows, and which columns moved.
//!
//! Three statistics of a row, great where it is strange. **Mahalanobis distance** after a random projection to at
//! most 32 values (identity where there are no more inputs): sees means, spreads and correlations, cannot
//! see what happens between projected values' null space, and of one input in a thousand only what is
//! gross. **Residual of principal components** (as in `NannyML`: as many as hold 65 % of the variance):
//! sees correlations that break, is blind to movements along the axes. **Half-space trees** (Tan, Ting and Liu
//! 2011): see gaps between clusters, are blind to correlations.
//!
//! A shift of the mean that is spread thinly over many inputs moves single rows too little for these: at a window's
//! close [`JointState::mean_shift`] tests for it (Hotelling).
//!
//! A statistic's bin among the reference goes to a conformal CUSUM, with the reference's counts; the same
//! bins counted over a window add up over a fleet. The reference's values come from rows that the fit did
//! not know, so that ranks of new rows are even; how even, with 200 to 10,000 rows, is measured in the tests.
//! Blind to what single columns or the order of rows say, and to a label that changes its meaning.
//!
//! Nothing here knows what the inputs are: features of a row or a network's penultimate activations.

mod attribute;
mod draw;
mod fit;
mod learner;
mod matrix;
mod ranks;
mod space;
mod state;
mod trees;

pub use attribute::{Attribution, EVALUATIONS, ROWS as SENSITIVITY_ROWS, attribute, sensitivity};
pub use fit::{MIN_FIT_ROWS, Parts, Refusal, fit};
pub use learner::{Learner, MAX_BYTES as LEARNER_BYTES, ROWS as LEARNER_ROWS};
pub use ranks::{ranks, survival};
pub use state::{JointState, MeanShift};

use shoal_proto::baseline::{JointBaseline, Ranks};
use space::{LANES, Metric, Projection, dot, standardise};
use trees::Forest;

/// Chance below which a row of the reference's kind is called an outlier.
pub const OUTLIER_ALPHA: f64 = 1e-3;

/// A baseline made ready for rows: it holds what is drawn from the seed, and room to compute in.
///
/// It is no state: it is built again at each start. Observing makes no allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    mean: Vec<f32>,
    inverse: Vec<f32>,
    projection: Projection,
    metric: Metric,
    distance: Ranks,
    usual: Vec<f32>,
    rows: f64,
    spread: f64,
    residual: Option<Residual>,
    forest: Option<(Forest, Ranks)>,
    z: Vec<f32>,
    y: Vec<f32>,
    white: Vec<[f32; LANES]>,
    shares: Vec<f32>,
}

/// Principal components made ready.
#[derive(Debug, Clone, PartialEq)]
struct Residual {
    axes: Vec<f32>,
    centre: Vec<f32>,
    ranks: Ranks,
    usual: Vec<f32>,
    centred: Vec<f32>,
}

/// One statistic of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rank {
    /// Its value: great is strange.
    pub value: f64,
    /// Its bin in the reference's ranks.
    pub bin: usize,
}

/// What all inputs of a row say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Squared Mahalanobis distance.
    pub distance: Rank,
    /// Squared residual of the principal components, where the baseline has them.
    pub residual: Option<Rank>,
    /// Score of the half-space trees, where the baseline has them.
    pub trees: Option<Rank>,
    /// The chance that a row of the reference's kind is as strange: from the distance, and from the trees
    /// where there are some (twice the lesser, after Bonferroni). Never nought.
    pub p: f64,
}

/// A row that is like none of the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// The chance of a row as strange.
    pub p: f64,
    /// Its squared distance: rows are put in order by it.
    pub score: f64,
}

impl Seen {
    /// Marks the row if its chance is below `alpha`; see [`OUTLIER_ALPHA`]. Of rows of the reference's kind,
    /// `alpha` are marked, give or take what [`expected_outliers`](Joint::expected_outliers) says.
    #[must_use]
    pub fn outlier(&self, alpha: f64) -> Option<Outlier> {
        (self.p < alpha).then_some(Outlier { p: self.p, score: self.distance.value })
    }
}

/// A baseline whose parts do not fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the joint baseline's lengths do not fit each other, or it holds numbers that are not finite")]
pub struct Unsound;

impl Joint {
    /// Makes a baseline ready.
    pub fn new(baseline: &JointBaseline) -> Result<Self, Unsound> {
        if !baseline.is_sound() {
            return Err(Unsound);
        }
        let (width, to) = (baseline.mean.len(), baseline.distance.centre.len());
        let residual = baseline.residual.as_ref().map(|residual| Residual {
            axes: residual.axes.to_vec(),
            centre: residual.centre.to_vec(),
            ranks: residual.ranks.clone(),
            usual: residual.usual.to_vec(),
            centred: vec![0.0; width],
        });
        let forest = baseline.trees.as_ref().map(|trees| {
            (Forest::new(baseline.seed, &baseline.inverse, baseline.rows, trees), trees.ranks.clone())
        });
        let metric = Metric::new(&baseline.distance.centre, &baseline.distance.whitening);
        Ok(Self {
            mean: baseline.mean.to_vec(),
            inverse: baseline.inverse.to_vec(),
            projection: Projection::new(baseline.seed, &baseline.inverse, to),
            distance: baseline.distance.ranks.clone(),
            usual: baseline.distance.usual.to_vec(),
            rows: baseline.rows as f64,
            spread: baseline.distance.spread,
            residual,
            forest,
            z: vec![0.0; width],
            y: vec![0.0; to],
            white: metric.white(),
            metric,
            shares: vec![0.0; width],
        })
    }

    /// Looks at a row and adds it to a state of this baseline. Values that are missing or no number count as
    /// the mean, infinities as eight standard deviations; values beyond the width are left out.
    pub fn observe(&mut self, state: &mut JointState, row: &[f32]) -> Seen {
        let seen = self.look(row);
        state.add(self, &seen);
        seen
    }

    /// Looks at a row without counting it.
    pub fn look(&mut self, row: &[f32]) -> Seen {
        standardise(row, &self.mean, &self.inverse, &mut self.z);
        self.projection.project(&self.z, &mut self.y);
        let distance = rank(&self.distance, self.metric.distance(&mut self.y, &mut self.white));
        let residual = self.residual.as_mut().map(|residual| residual.look(&self.z));
        let trees = self.forest.as_ref().map(|(forest, ranks)| rank(ranks, forest.score(&self.z)));
        let mut p = survival(&self.distance, distance.value);
        if let (Some(rank), Some((_, ranks))) = (trees, &self.forest) {
            p = (2.0 * p.min(survival(ranks, rank.value))).min(1.0);
        }
        Seen { distance, residual, trees, p }
    }

    /// The reference of the distance: its counts are what a conformal test takes.
    #[must_use]
    pub fn distance_ranks(&self) -> &Ranks {
        &self.distance
    }

    /// The reference of the residual.
    #[must_use]
    pub fn residual_ranks(&self) -> Option<&Ranks> {
        self.residual.as_ref().map(|residual| &residual.ranks)
    }

    /// The reference of the trees' score.
    #[must_use]
    pub fn tree_ranks(&self) -> Option<&Ranks> {
        self.forest.as_ref().map(|(_, ranks)| ranks)
    }

    /// Inputs of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Multiplications and additions a row, without far rows and without the trees' comparisons: so the cost
    /// can be told before anything runs.
    #[must_use]
    pub fn operations(&self) -> usize {
        let to = self.y.len();
        let axes = self.residual.as_ref().map_or(0, |residual| residual.axes.len() + self.width());
        3 * self.width() + to * (to + 1) / 2 + axes
    }

    /// What share of rows of the reference's kind is marked at `alpha`, at most, about: the rate to promise a
    /// Bernoulli CUSUM. A tail fitted to `m` rows knows a chance a factor `q` beyond its beginning to a relative
    /// error of about `√((1 + ln²q) / m)`; this is two of them up. The tests print it beside what is met.
    #[must_use]
    pub fn expected_outliers(&self, alpha: f64) -> f64 {
        let ranks = &self.distance;
        let n = ranks.counts.iter().sum::<u64>() as f64 + 1.0;
        let rows = ranks.tail.rows as f64 + 1.0;
        let beyond = (rows / n / alpha.max(f64::MIN_POSITIVE)).ln().max(0.0);
        (alpha * (2.0 * (1.0 + beyond * beyond).sqrt() / rows.sqrt()).exp()).min(1.0)
    }

    /// What each input adds to the squared distance of the row that was looked at last; the sum is the distance.
    fn distance_shares(&mut self) -> &[f32] {
        self.metric.gradient(&self.white, &mut self.y);
        self.shares.fill(0.0);
        let (to, inputs) = (self.y.len(), self.projection.inputs.len());
        for (place, (input, sign)) in self.projection.inputs.iter().zip(&self.projection.signs).enumerate() {
            let slot = place % to;
            let together = inputs / to + usize::from(slot < inputs % to);
            let own = sign * self.z[*input as usize] - self.metric.centre[slot] / together as f32;
            self.shares[*input as usize] = own * self.y[slot];
        }
        &self.shares
    }

    /// What each input adds to the squared residual of the row that was looked at last.
    fn residual_shares(&mut self) -> &[f32] {
        self.shares.fill(0.0);
        if let Some(residual) = &self.residual {
            residual.left(&mut self.shares);
        }
        &self.shares
    }
}

impl Residual {
    fn look(&mut self, z: &[f32]) -> Rank {
        self.centred
            .iter_mut()
            .zip(z.iter().zip(&self.centre))
            .for_each(|(to, (z, centre))| *to = z - centre);
        let length = dot(&self.centred, &self.centred);
        let width = self.centred.len();
        let held: f32 = self.axes.chunks_exact(width).map(|axis| dot(axis, &self.centred).powi(2)).sum();
        rank(&self.ranks, f64::from((length - held).max(0.0)))
    }

    fn left(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.centred);
        for axis in self.axes.chunks_exact(to.len()) {
            let along = dot(axis, &self.centred);
            to.iter_mut().zip(axis).for_each(|(to, axis)| *to -= along * axis);
        }
        to.iter_mut().for_each(|to| *to *= *to);
    }
}

fn rank(ranks: &Ranks, value: f64) -> Rank {
    Rank { value, bin: ranks.bin(value) }
}

#[cfg(test)]
mod tests;
