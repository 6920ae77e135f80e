//! The reference of a model's answers, from rows that it was not trained on.
//!
//! Sums are integers of [`ONE`]ths and edges are `f32`: both are written in JSON and read back to the same
//! bits, so that a baseline's digest is that of what was packed.

use super::confusion::Confusion;
use crate::manifest::MAX_GROUPS;
use crate::summary::Counts;
use serde::{Deserialize, Serialize};

/// Bins of confidence for each predicted class.
pub const CONFIDENCE_BINS: usize = 10;
/// Equal-mass bins of a [`Reliability`] table: each holds a twentieth of the held-out rows.
pub const RELIABILITY_BINS: usize = 20;
/// What a sum counts as 1: a millionth is finer than any confidence is known.
pub const ONE: u64 = 1 << 20;
/// Bins of a class's scores, equally wide in `ln(p / (1 - p))` between -12 and 12.
pub const SCORE_BINS: u32 = 128;

/// The reference of a model's answers. What an older build did not write is empty, and stays unwritten.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionBaseline {
    /// Rows in each (class, confidence bin), row-major, classes × [`CONFIDENCE_BINS`]; empty for a regression.
    pub counts: Vec<u64>,
    /// Rows of it with a label.
    pub labelled: u64,
    /// Of those, how many were answered right.
    pub correct: u64,
    /// What is known of a classifier besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Box<ClassBaseline>>,
    /// What is known of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Box<ValueBaseline>>,
    /// One for each group of the manifest, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupBaseline>,
}

/// The reference of a classifier.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassBaseline {
    /// True against predicted class.
    pub confusion: Confusion,
    /// Confidence against right answers.
    pub reliability: Reliability,
    /// Calibrated confidence: what accuracy was to be expected of the held-out rows.
    pub expected: Spread,
    /// Scores of each class by whether the row was of it: see [`score_cell`]. Empty for more classes than
    /// [`Confusion::FULL`].
    #[serde(default, with = "crate::summary::rows")]
    pub scores: Counts,
}

/// The reference of a regression with one value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueBaseline {
    /// The answers.
    pub answers: Histogram,
    /// Sizes of the errors: their edges are what live errors are ranked on.
    pub residuals: Histogram,
    /// Mean size of an error.
    pub mean_error: f32,
    /// Root of the mean square of the errors, above zero: the unit of all sums over errors.
    pub rmse: f32,
    /// Mean of the target.
    pub target_mean: f32,
    /// Standard deviation of the target, above zero where it varies.
    pub target_std: f32,
    /// How large an error is to be expected of a row.
    pub model: ErrorModel,
    /// Expected size of an error against the real one, in units of [`rmse`](Self::rmse).
    pub reliability: Reliability,
    /// Expected size of an error over the held-out rows, in the same unit.
    pub expected: Spread,
}

/// Counts on frozen equal-mass edges.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Inner edges, strictly rising: bin `i` holds `edges[i-1] <= x < edges[i]`.
    pub edges: Vec<f32>,
    /// Rows in each bin, one more than edges.
    pub counts: Vec<u64>,
}

/// A score against what came of it, on frozen equal-mass edges: the calibration table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reliability {
    /// Inner edges of the score, strictly rising; at most [`RELIABILITY_BINS`]` - 1`.
    pub edges: Vec<f32>,
    /// One more than edges.
    pub bins: Vec<ReliabilityBin>,
}

/// One bin of a [`Reliability`] table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// Rows.
    pub count: u64,
    /// Sum of their scores, in [`ONE`]ths.
    pub score: u64,
    /// Sum of what came of them (1 for a right answer, or the size of the error), in [`ONE`]ths.
    pub outcome: u64,
    /// Sum of its squares, in [`ONE`]ths.
    pub square: u64,
}

/// Mean and spread of a number over the held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Rows.
    pub count: u64,
    /// Sum, in [`ONE`]ths.
    pub sum: u64,
    /// Sum of squares, in [`ONE`]ths.
    pub square: u64,
}

/// A small model of the size of a regression's error: a constant plus a parabola in each of a few inputs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorModel {
    /// The constant, in units of the rmse.
    pub constant: f32,
    /// What it looks at; empty when no input told anything of the error.
    pub terms: Vec<ErrorTerm>,
    /// Share of the error sizes' variance that it explained on rows it was not fitted to.
    pub skill: f32,
}

/// One input of an [`ErrorModel`]: `linear * z + square * z²`, where `z = (x - center) / scale`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorTerm {
    /// The feature; absent for the model's own answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<u32>,
    /// Its mean.
    pub center: f32,
    /// Its standard deviation, above zero.
    pub scale: f32,
    /// Slope.
    pub linear: f32,
    /// Curvature.
    pub square: f32,
}

/// One group of the manifest on the held-out rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupBaseline {
    /// The group's name.
    pub name: String,
    /// One for each of its ranges or values.
    pub parts: Vec<PartBaseline>,
}

/// One range or value of a group: the favourable answer against the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartBaseline {
    /// Rows.
    pub rows: u64,
    /// Given the favourable answer.
    pub favoured: u64,
    /// Of the favourable class in truth.
    pub deserving: u64,
    /// Both.
    pub both: u64,
    /// Answered right, whatever the class.
    pub correct: u64,
}

/// Where a class's score is counted: (class, of that class or not, bin of the score).
///
/// The bins are equally wide in log-odds, so that scores near 0 and 1 are told apart; a score that is not a
/// number is counted as 0.
#[must_use]
pub fn score_cell(class: u32, is_of_class: bool, score: f32) -> u32 {
    let score = f64::from(if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) });
    let odds = (score / (1.0 - score)).ln(); // infinite at the ends
    let share = ((odds + 12.0) / 24.0).clamp(0.0, 1.0) * f64::from(SCORE_BINS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to SCORE_BINS")]
    let bin = (share as u32).min(SCORE_BINS - 1);
    (class * 2 + u32::from(is_of_class)) * SCORE_BINS + bin
}

/// Where a prediction is counted: its class's row, its confidence's column.
#[must_use]
pub fn prediction_cell(class: u32, confidence: f32) -> usize {
    let class = usize::try_from(class).unwrap_or(usize::MAX / CONFIDENCE_BINS - 1);
    class * CONFIDENCE_BINS + confidence_bin(confidence) as usize
}

/// The tenth that a confidence falls into; above 1 the last.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "ten bins")]
pub fn confidence_bin(confidence: f32) -> u32 {
    (1..CONFIDENCE_BINS).take_while(|bin| confidence * 10.0 >= *bin as f32).fold(0, |bin, _| bin + 1)
}

impl PredictionBaseline {
    /// What is wrong with it, if anything is: edges that do not rise, counts that do not fit.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let parts = self.groups.iter().flat_map(|group| &group.parts);
        let broken = |part: &PartBaseline| {
            part.favoured.max(part.deserving).max(part.correct) > part.rows
                || part.both > part.favoured.min(part.deserving)
        };
        if self.groups.len() > MAX_GROUPS || parts.into_iter().any(broken) {
            return Some("groups that do not add up");
        }
        let classes = self.classes.as_ref().and_then(|known| known.fault());
        classes.or_else(|| self.values.as_ref().and_then(|known| known.fault()))
    }
}

impl ClassBaseline {
    fn fault(&self) -> Option<&'static str> {
        let is_wide = usize::try_from(self.confusion.classes()).unwrap_or(usize::MAX) > Confusion::FULL;
        let cells = if is_wide { 0 } else { self.confusion.classes() * 2 * SCORE_BINS };
        if !self.confusion.fits() {
            return Some("a confusion table with cells beyond its classes");
        }
        if self.scores.iter().any(|(cell, _)| cell >= cells) {
            return Some("scores of classes that there are not");
        }
        self.reliability.fault()
    }
}

impl ValueBaseline {
    fn fault(&self) -> Option<&'static str> {
        let numbers = [self.mean_error, self.rmse, self.target_mean, self.target_std, self.model.constant];
        let terms = self.model.terms.iter();
        let mut terms = terms.flat_map(|term| [term.center, term.scale, term.linear, term.square]);
        if !numbers.iter().all(|number| number.is_finite()) || !terms.all(f32::is_finite) {
            return Some("numbers of a regression that are not finite");
        }
        self.answers.fault().or_else(|| self.residuals.fault()).or_else(|| self.reliability.fault())
    }
}

impl Histogram {
    /// Equal-mass bins of the finite values: fewer than `bins` where values repeat, one where there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f32>, bins: usize) -> Self {
        let mut values: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f32::total_cmp);
        let mut histogram = Self { edges: equal_mass(&values, bins), counts: Vec::new() };
        histogram.counts = vec![0; histogram.edges.len() + 1];
        for value in values {
            let bin = histogram.bin(value);
            histogram.counts[bin] += 1;
        }
        histogram
    }

    /// The bin of a number.
    #[must_use]
    pub fn bin(&self, value: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    fn fault(&self) -> Option<&'static str> {
        let empty = self.edges.is_empty() && self.counts.is_empty();
        let fits = rises(&self.edges) && self.counts.len() == self.edges.len() + 1;
        (!empty && !fits).then_some("answers with edges that do not rise or counts that do not fit")
    }
}

impl Reliability {
    /// The table of (score, outcome) pairs; scores that are not finite are left out, and both are held
    /// between 0 and 256, so that no sum overflows.
    #[must_use]
    pub fn of(pairs: impl IntoIterator<Item = (f32, f64)>) -> Self {
        let mut pairs: Vec<(f32, f64)> = pairs
            .into_iter()
            .filter(|(score, outcome)| score.is_finite() && outcome.is_finite())
            .map(|(score, outcome)| (score.clamp(0.0, 256.0), outcome.clamp(0.0, 256.0)))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let scores: Vec<f32> = pairs.iter().map(|(score, _)| *score).collect();
        let edges = equal_mass(&scores, RELIABILITY_BINS);
        let mut table = Self { bins: vec![ReliabilityBin::default(); edges.len() + 1], edges };
        for (score, outcome) in pairs {
            let bin = table.bin(score);
            let bin = &mut table.bins[bin];
            bin.count += 1;
            bin.score += in_ones(f64::from(score));
            bin.outcome += in_ones(outcome);
            bin.square += in_ones(outcome * outcome);
        }
        table
    }

    /// The bin of a score; one that is not a number is in the last.
    #[must_use]
    pub fn bin(&self, score: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= score)
    }

    fn fault(&self) -> Option<&'static str> {
        let empty = self.edges.is_empty() && self.bins.is_empty();
        let fits = rises(&self.edges)
            && self.bins.len() == self.edges.len() + 1
            && self.edges.len() < RELIABILITY_BINS;
        (!empty && !fits).then_some("a calibration table with edges that do not rise or bins that do not fit")
    }
}

impl Spread {
    /// Of numbers, each held between 0 and 256.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut spread = Self::default();
        for number in numbers {
            let number = if number.is_nan() { 0.0 } else { number.clamp(0.0, 256.0) };
            spread.count += 1;
            spread.sum += in_ones(number);
            spread.square += in_ones(number * number);
        }
        spread
    }

    /// (rows, mean, variance); `None` of no rows.
    #[must_use]
    pub fn moments(&self) -> Option<(f64, f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52, sums below 2^63")]
        let [count, sum, square] = [self.count, self.sum, self.square].map(|number| number as f64);
        let one = f64::from(u32::try_from(ONE).unwrap_or(u32::MAX));
        let (mean, square) = (sum / one / count, square / one / count);
        (self.count > 0).then(|| (count, mean, (square - mean * mean).max(0.0)))
    }
}

/// A number between 0 and 2^16 in [`ONE`]ths.
fn in_ones(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held between 0 and 2^36")]
    let whole = (number.clamp(0.0, 65_536.0) * 1_048_576.0).round() as u64;
    whole
}

/// Inner edges that cut sorted values into bins of equal mass, none of them empty.
fn equal_mass(sorted: &[f32], bins: usize) -> Vec<f32> {
    let mut edges: Vec<f32> =
        (1..bins).filter_map(|cut| sorted.get(sorted.len() * cut / bins).copied()).collect();
    edges.dedup();
    edges.retain(|edge| sorted.first().is_some_and(|least| edge > least));
    edges
}

fn rises(edges: &[f32]) -> bool {
    edges.windows(2).all(|pair| pair[0] < pair[1]) && edges.iter().all(|edge| edge.is_finite())
}

#[cfg(test)]
mod tests;
