//! What is counted of a window's rows: integers, which add up over a fleet in any order.

use super::{Joint, OUTLIER_ALPHA, Seen};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{JointBaseline, Ranks};
use statrs::distribution::{ContinuousCDF as _, FisherSnedecor};

/// One standard deviation, and one unit of a squared distance, as an integer.
const UNIT: f32 = 1_024.0;

/// Counts of a window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JointState {
    rows: u64,
    outliers: u64,
    /// Rows in each bin of the distance's reference, of the residual's, of the trees'.
    #[serde(rename = "d")]
    distance: Vec<u64>,
    #[serde(rename = "r")]
    residual: Vec<u64>,
    #[serde(rename = "t")]
    trees: Vec<u64>,
    /// Sum of each standardised input.
    #[serde(rename = "m")]
    moved: Vec<i64>,
    /// What each input added to the distance of far rows, and to their residual.
    #[serde(rename = "fd")]
    far: Vec<i64>,
    #[serde(rename = "fr")]
    left: Vec<i64>,
}

/// How far the mean of a window's rows lies from the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanShift {
    /// Squared distance of the means over what two samples of these sizes would have: one where nothing moved.
    pub statistic: f64,
    /// The chance of as much where nothing moved.
    pub p: f64,
}

impl JointState {
    /// An empty window.
    #[must_use]
    pub fn new(baseline: &JointBaseline) -> Self {
        let bins = |ranks: Option<&Ranks>| vec![0; ranks.map_or(0, |ranks| ranks.counts.len())];
        let width = baseline.mean.len();
        let residual = baseline.residual.as_ref();
        Self {
            rows: 0,
            outliers: 0,
            distance: bins(Some(&baseline.distance.ranks)),
            residual: bins(residual.map(|residual| &residual.ranks)),
            trees: bins(baseline.trees.as_ref().map(|trees| &trees.ranks)),
            moved: vec![0; width],
            far: vec![0; width],
            left: vec![0; if residual.is_some() { width } else { 0 }],
        }
    }

    /// Whether it counts what this baseline asks for.
    #[must_use]
    pub fn fits(&self, baseline: &JointBaseline) -> bool {
        let empty = Self::new(baseline);
        self.lengths() == empty.lengths()
    }

    fn lengths(&self) -> [usize; 6] {
        let sums = [&self.moved, &self.far, &self.left].map(Vec::len);
        let counts = [&self.distance, &self.residual, &self.trees].map(Vec::len);
        [counts[0], counts[1], counts[2], sums[0], sums[1], sums[2]]
    }

    /// Counts the row that was looked at last.
    pub(super) fn add(&mut self, joint: &mut Joint, seen: &Seen) {
        self.rows += 1;
        self.outliers += u64::from(seen.outlier(OUTLIER_ALPHA).is_some());
        let count = |counts: &mut Vec<u64>, bin: Option<usize>| {
            if let Some(count) = bin.and_then(|bin| counts.get_mut(bin)) {
                *count += 1;
            }
        };
        count(&mut self.distance, Some(seen.distance.bin));
        count(&mut self.residual, seen.residual.map(|rank| rank.bin));
        count(&mut self.trees, seen.trees.map(|rank| rank.bin));
        accumulate(&mut self.moved, &joint.z);
        if seen.distance.value >= joint.distance.tail.from {
            accumulate_far(&mut self.far, joint.distance_shares());
        }
        let left = seen.residual.is_some_and(|rank| {
            joint.residual.as_ref().is_some_and(|residual| rank.value >= residual.ranks.tail.from)
        });
        if left {
            accumulate_far(&mut self.left, joint.residual_shares());
        }
    }

    /// Adds the counts of another window, or of another device, to these; nothing happens where they belong to
    /// another baseline, which is said.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.lengths() != other.lengths() {
            return false;
        }
        self.rows += other.rows;
        self.outliers += other.outliers;
        let counts = [
            (&mut self.distance, &other.distance),
            (&mut self.residual, &other.residual),
            (&mut self.trees, &other.trees),
        ];
        for (to, from) in counts {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        let sums =
            [(&mut self.moved, &other.moved), (&mut self.far, &other.far), (&mut self.left, &other.left)];
        for (to, from) in sums {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = to.wrapping_add(*from));
        }
        true
    }

    /// Begins the next window.
    pub fn reset(&mut self) {
        (self.rows, self.outliers) = (0, 0);
        for counts in [&mut self.distance, &mut self.residual, &mut self.trees] {
            counts.fill(0);
        }
        for sums in [&mut self.moved, &mut self.far, &mut self.left] {
            sums.fill(0);
        }
    }

    /// Rows, and how many of them are outliers at [`OUTLIER_ALPHA`].
    #[must_use]
    pub fn outliers(&self) -> (u64, u64) {
        (self.rows, self.outliers)
    }

    /// Rows in each bin of the distance's reference.
    #[must_use]
    pub fn distance(&self) -> &[u64] {
        &self.distance
    }

    /// Rows in each bin of the residual's reference; empty where the baseline has none.
    #[must_use]
    pub fn residual(&self) -> &[u64] {
        &self.residual
    }

    /// Rows in each bin of the trees' reference; empty where the baseline has none.
    #[must_use]
    pub fn trees(&self) -> &[u64] {
        &self.trees
    }

    /// How far the mean of each input moved, in standard deviations, with its sign. An input that moved
    /// may hide behind one that moved with it: this is per input.
    #[must_use]
    pub fn moved(&self) -> Vec<f64> {
        self.per_row(&self.moved)
    }

    /// How much each input adds to the squared distance of far rows beyond what it usually does, per row, nought
    /// or more: this names inputs whose correlation changed while their means stand.
    #[must_use]
    pub fn distance_blame(&self, joint: &Joint) -> Vec<f64> {
        self.excess(&self.far, &joint.usual)
    }

    /// The same of the residual; empty where the baseline has none.
    #[must_use]
    pub fn residual_blame(&self, joint: &Joint) -> Vec<f64> {
        joint.residual.as_ref().map_or(Vec::new(), |residual| self.excess(&self.left, &residual.usual))
    }

    /// Tests whether the mean of all inputs moved together: Hotelling's T² in the projected space, of two
    /// samples, with the shrunk covariance of the reference scaled by how it fits rows that it did not know.
    ///
    /// It finds a shift spread thinly over many inputs that no single row and no single input shows. It takes
    /// rows to be independent: where each is like the one before, the chance is too small. Nought rows say
    /// nothing: p is 1. Blind to all but the mean.
    #[must_use]
    pub fn mean_shift(&self, joint: &Joint) -> MeanShift {
        let nothing = MeanShift { statistic: 0.0, p: 1.0 };
        if self.rows == 0 || self.moved.len() != joint.width() {
            return nothing;
        }
        #[expect(clippy::cast_possible_truncation, reason = "clipped inputs have a mean below eight")]
        let mean: Vec<f32> = self.moved().iter().map(|mean| *mean as f32).collect();
        let (mut y, mut white) = (vec![0.0; joint.y.len()], joint.metric.white());
        joint.projection.project(&mean, &mut y);
        let squared = joint.metric.distance(&mut y, &mut white);
        let (values, n) = (joint.y.len() as f64, joint.rows);
        let statistic = squared / (1.0 / self.rows as f64 + 1.0 / n) / values / joint.spread;
        let free = (n - values).max(3.0);
        let Ok(law) = FisherSnedecor::new(values, free) else { return nothing };
        let p = law.sf(statistic * free / (free - 2.0));
        MeanShift { statistic, p: if p.is_nan() { 1.0 } else { p.clamp(f64::MIN_POSITIVE, 1.0) } }
    }

    fn per_row(&self, sums: &[i64]) -> Vec<f64> {
        let unit = f64::from(UNIT) * self.rows.max(1) as f64;
        sums.iter().map(|sum| *sum as f64 / unit).collect()
    }

    fn excess(&self, sums: &[i64], usual: &[f32]) -> Vec<f64> {
        if self.rows == 0 {
            return vec![0.0; sums.len()];
        }
        let per_row = self.per_row(sums);
        per_row.iter().zip(usual).map(|(now, usual)| (now - f64::from(*usual)).max(0.0)).collect()
    }
}

/// Adds clipped inputs: eight standard deviations are far inside an i32, and a sum lasts for 2^50 rows.
fn accumulate(sums: &mut [i64], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        #[expect(clippy::cast_possible_truncation, reason = "it is clipped")]
        let units = (value * UNIT) as i32;
        *sum += i64::from(units);
    }
}

/// Adds shares of a distance. A single one is held below 2^40 units, so that no sum of 2^23 far rows wraps.
fn accumulate_far(sums: &mut [i64], values: &[f32]) {
    const MOST: f32 = (1_u64 << 40) as f32;
    for (sum, value) in sums.iter_mut().zip(values) {
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
        let units = (value * UNIT).clamp(-MOST, MOST) as i64;
        *sum = sum.wrapping_add(units);
    }
}
