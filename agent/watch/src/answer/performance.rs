//! What labels say of the predictions of one window, as sums that add up exactly over labels and devices.

use super::baseline::{count_part, scored};
use super::fixed::{Share, Sum};
use super::group::GroupCodes;
use super::probability::top;
use super::reference::{AnswerReference, MOST_ERROR};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{Confusion, PartBaseline, score_cell};
use shoal_proto::summary::Counts;

/// A log-loss is held below this: `-ln(1e-15)`, as is usual.
const LEAST_PROBABILITY: f64 = 1e-15;
/// A target is held within this many standard deviations of the reference's mean in the sums for R².
const MOST_TARGET: f64 = 32_768.0;
/// The least chance of being labelled that is believed: one row does not stand for more than a million.
const LEAST_CHANCE: f64 = 1e-6;

/// A prediction and its truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome<'a> {
    /// A classifier's, of which only the answer was kept.
    Class {
        /// The answer.
        class: u32,
        /// How sure it was, after the temperature.
        confidence: f32,
        /// The true class.
        truth: u32,
    },
    /// A classifier's, with all of its [`probabilities`](super::probabilities()).
    Scores {
        /// After the temperature.
        probabilities: &'a [f32],
        /// The true class.
        truth: u32,
    },
    /// A regression's.
    Value {
        /// The answer.
        answer: f32,
        /// The true value.
        truth: f32,
    },
}

impl Outcome<'_> {
    /// Whether a classifier was right; `None` of a regression.
    #[must_use]
    pub fn is_correct(&self) -> Option<bool> {
        match *self {
            Self::Class { class, truth, .. } => Some(class == truth),
            Self::Scores { probabilities, truth } => Some(top(probabilities).0 == truth),
            Self::Value { .. } => None,
        }
    }

    /// How far off a regression was, with its sign; `None` of a classifier.
    #[must_use]
    pub fn error(&self) -> Option<f32> {
        match *self {
            Self::Value { answer, truth } => Some(answer - truth),
            Self::Class { .. } | Self::Scores { .. } => None,
        }
    }
}

/// A label, joined to its prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label<'a> {
    /// What was predicted and what is true.
    pub outcome: Outcome<'a>,
    /// The groups that the row is of.
    pub groups: GroupCodes,
    /// With what chance this row was to be labelled, where labels are chosen; `None` where it is not known or
    /// the same for all.
    pub chance: Option<f64>,
}

/// Labels of the predictions of one window, on one reference.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Performance {
    /// Rows predicted, labelled or not.
    #[serde(rename = "n")]
    pub(super) predicted: u64,
    #[serde(rename = "l")]
    pub(super) labelled: u64,
    #[serde(rename = "r")]
    pub(super) correct: u64,
    /// Labels of a class that there is not, or of values that are not finite.
    #[serde(rename = "x")]
    pub(super) unusable: u64,
    #[serde(rename = "c")]
    pub(super) confusion: Confusion,
    /// By calibration bin.
    #[serde(rename = "b")]
    pub(super) bins: Vec<BinTally>,
    #[serde(rename = "s")]
    pub(super) scores: ScoreTally,
    #[serde(rename = "v")]
    pub(super) values: ValueTally,
    #[serde(rename = "w")]
    pub(super) weighted: WeightTally,
    /// By part of all groups.
    #[serde(rename = "g")]
    pub(super) parts: Vec<PartBaseline>,
}

/// Confidence against right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct BinTally {
    #[serde(rename = "n")]
    pub(super) count: u64,
    #[serde(rename = "r")]
    pub(super) correct: u64,
    /// Confidence as calibrated by the package.
    #[serde(rename = "p")]
    pub(super) promised: Share,
}

/// What needs all probabilities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ScoreTally {
    #[serde(rename = "n")]
    pub(super) count: u64,
    #[serde(rename = "h")]
    pub(super) histogram: Counts,
    #[serde(rename = "l")]
    pub(super) log_loss: Sum,
    #[serde(rename = "m")]
    pub(super) log_loss_square: Sum,
    #[serde(rename = "b")]
    pub(super) brier: Sum,
    #[serde(rename = "c")]
    pub(super) brier_square: Sum,
}

/// Errors of a regression in units of the reference's rmse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ValueTally {
    #[serde(rename = "n")]
    pub(super) count: u64,
    #[serde(rename = "a")]
    pub(super) size: Sum,
    #[serde(rename = "s")]
    pub(super) square: Sum,
    #[serde(rename = "f")]
    pub(super) fourth: Sum,
    /// Of the target's distance from the reference's mean, in its standard deviations.
    #[serde(rename = "t")]
    pub(super) target: Sum,
    #[serde(rename = "u")]
    pub(super) target_square: Sum,
    /// Errors that were held at 180 rmse.
    #[serde(rename = "x")]
    pub(super) beyond: u64,
}

/// Labels that were chosen with a known chance, each weighed by its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct WeightTally {
    #[serde(rename = "n")]
    pub(super) count: u64,
    #[serde(rename = "w")]
    pub(super) weight: Sum,
    #[serde(rename = "r")]
    pub(super) right: Sum,
    /// Squares, in 2^-20ths of their own, since weights go up to 2^20.
    #[serde(rename = "s")]
    pub(super) square: Sum,
    #[serde(rename = "t")]
    pub(super) right_square: Sum,
}

/// Squares of weights are divided by this, or the greatest would be beyond what a [`Sum`] holds.
pub(super) const WEIGHT_SQUARES: f64 = 1_048_576.0;

impl Performance {
    /// No labels yet.
    #[must_use]
    pub fn new(reference: &AnswerReference) -> Self {
        let bins = if reference.classes() > 0 { reference.calibration().bins() } else { 0 };
        Self {
            confusion: Confusion::new(reference.classes()),
            bins: vec![BinTally::default(); bins],
            parts: vec![PartBaseline::default(); reference.groups().parts()],
            ..Self::default()
        }
    }

    /// Whether its counts are on this reference.
    #[must_use]
    pub fn fits(&self, reference: &AnswerReference) -> bool {
        let empty = Self::new(reference);
        self.shape() == empty.shape()
    }

    fn shape(&self) -> (u32, usize, usize) {
        (self.confusion.classes(), self.bins.len(), self.parts.len())
    }

    /// Takes in that so many more rows were predicted in this window.
    pub fn predicted(&mut self, rows: u64) {
        self.predicted = self.predicted.saturating_add(rows);
    }

    /// Counts a label. One of a class that there is not, of a value that is not finite, or of another task is
    /// counted apart and is `false`.
    pub fn label(&mut self, reference: &AnswerReference, label: &Label<'_>) -> bool {
        let counted = match label.outcome {
            Outcome::Class { class, confidence, truth } => {
                self.class(reference, (class, confidence), truth, label)
            }
            Outcome::Scores { probabilities, truth } => {
                let fits = probabilities.len() == reference.classes();
                let counted = fits && self.class(reference, top(probabilities), truth, label);
                if counted {
                    self.scored(probabilities, truth);
                }
                counted
            }
            Outcome::Value { answer, truth } => {
                let finite = answer.is_finite() && truth.is_finite() && reference.classes() == 0;
                if finite {
                    self.value(reference, f64::from(answer), f64::from(truth));
                }
                finite
            }
        };
        self.labelled += u64::from(counted);
        self.unusable += u64::from(!counted);
        counted
    }

    fn class(
        &mut self,
        reference: &AnswerReference,
        (class, confidence): (u32, f32),
        truth: u32,
        label: &Label<'_>,
    ) -> bool {
        if !self.confusion.add(truth, class) {
            return false;
        }
        let right = class == truth;
        self.correct += u64::from(right);
        let calibration = reference.calibration();
        if let Some(bin) = self.bins.get_mut(calibration.bin(confidence)) {
            bin.count += 1;
            bin.correct += u64::from(right);
            bin.promised.add(calibration.expect(confidence));
        }
        reference.groups().each(label.groups, |place, positive| {
            if let Some(part) = self.parts.get_mut(place) {
                count_part(part, class, truth, positive);
            }
        });
        if let Some(chance) = label.chance.filter(|chance| !chance.is_nan()) {
            let weight = 1.0 / chance.clamp(LEAST_CHANCE, 1.0);
            let square = weight * weight / WEIGHT_SQUARES;
            self.weighted.count += 1;
            self.weighted.weight.add(weight);
            self.weighted.square.add(square);
            if right {
                self.weighted.right.add(weight);
                self.weighted.right_square.add(square);
            }
        }
        true
    }

    fn scored(&mut self, probabilities: &[f32], truth: u32) {
        let tally = &mut self.scores;
        tally.count += 1;
        let mut brier = 0.0;
        let mut loss = -LEAST_PROBABILITY.ln();
        for (class, probability) in (0..).zip(probabilities) {
            let probability =
                if probability.is_nan() { 0.0 } else { f64::from(*probability).clamp(0.0, 1.0) };
            let off = probability - f64::from(u8::from(class == truth));
            brier += off * off;
            if class == truth {
                loss = -probability.max(LEAST_PROBABILITY).ln();
            }
        }
        tally.log_loss.add(loss);
        tally.log_loss_square.add(loss * loss);
        tally.brier.add(brier);
        tally.brier_square.add(brier * brier);
        if self.confusion.is_full() {
            for (class, score) in scored(probabilities) {
                tally.histogram.add(score_cell(class, class == truth, score), 1);
            }
        }
    }

    fn value(&mut self, reference: &AnswerReference, answer: f64, truth: f64) {
        let size = (answer - truth).abs() / reference.unit();
        let held = size.min(MOST_ERROR);
        let (mean, std) = reference.target();
        let place = ((truth - mean) / std).clamp(-MOST_TARGET, MOST_TARGET);
        let tally = &mut self.values;
        tally.count += 1;
        tally.beyond += u64::from(size > MOST_ERROR);
        tally.size.add(held);
        tally.square.add(held.powi(2));
        tally.fourth.add(held.powi(4));
        tally.target.add(place);
        tally.target_square.add(place * place);
    }

    /// Adds all labels of another; `false`, and nothing changed, where it is on another reference.
    pub fn absorb(&mut self, other: &Self) -> bool {
        if self.shape() != other.shape() {
            return false;
        }
        for (mine, theirs) in [
            (&mut self.predicted, other.predicted),
            (&mut self.labelled, other.labelled),
            (&mut self.correct, other.correct),
            (&mut self.unusable, other.unusable),
            (&mut self.scores.count, other.scores.count),
            (&mut self.values.count, other.values.count),
            (&mut self.values.beyond, other.values.beyond),
            (&mut self.weighted.count, other.weighted.count),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.scores.log_loss, other.scores.log_loss),
            (&mut self.scores.log_loss_square, other.scores.log_loss_square),
            (&mut self.scores.brier, other.scores.brier),
            (&mut self.scores.brier_square, other.scores.brier_square),
            (&mut self.values.size, other.values.size),
            (&mut self.values.square, other.values.square),
            (&mut self.values.fourth, other.values.fourth),
            (&mut self.values.target, other.values.target),
            (&mut self.values.target_square, other.values.target_square),
            (&mut self.weighted.weight, other.weighted.weight),
            (&mut self.weighted.right, other.weighted.right),
            (&mut self.weighted.square, other.weighted.square),
            (&mut self.weighted.right_square, other.weighted.right_square),
        ] {
            mine.absorb(theirs);
        }
        self.scores.histogram.absorb(&other.scores.histogram);
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            mine.count = mine.count.saturating_add(theirs.count);
            mine.correct = mine.correct.saturating_add(theirs.correct);
            mine.promised.absorb(theirs.promised);
        }
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            mine.rows += theirs.rows;
            mine.favoured += theirs.favoured;
            mine.deserving += theirs.deserving;
            mine.both += theirs.both;
            mine.correct += theirs.correct;
        }
        self.confusion.absorb(&other.confusion)
    }

    /// Labels that were counted.
    #[must_use]
    pub fn labelled(&self) -> u64 {
        self.labelled
    }

    /// Labels that could not be: of no class, of no number, of another task.
    #[must_use]
    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    /// True against predicted.
    #[must_use]
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }
}
