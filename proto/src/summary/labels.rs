//! What labels said of predictions, by the window of the prediction and not of the label's arrival.

use super::cells::{Cells, Counts, pair};
use super::fixed::{Fixed, units_of_share};
use super::{LabelSummary, is_zero};
use crate::baseline::confidence_bin;
use crate::id::{Digest, Incarnation, ModelName};
use crate::op::{MAX_VALUE_BYTES, split_stamped, stamped};
use crate::wire::{from_cbor, to_cbor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bins of a score: four an octave of its odds, from 1:256 to 256:1, so that sure answers are told apart.
pub const SCORE_BINS: u32 = 64;
/// Classes of which scores are kept: more would not fit an operation beside a large confusion.
const MAX_SCORED_CLASSES: usize = 16;
/// Octaves of odds below evens.
const OCTAVES: u64 = 8;
/// Least probability that is taken for a true class, so that one row is not all of a log-loss.
const LEAST_PROBABILITY: f64 = 1e-6;

/// Sums over labelled predictions: integers, that add up exactly in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelSums {
    /// Predictions with a label.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub labelled: u64,
    /// Of those, right answers of a classifier.
    #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
    pub correct: u64,
    /// Rows by [`pair`] of the true and the answered class.
    #[serde(rename = "c", default, skip_serializing_if = "Counts::is_empty")]
    pub confusion: Counts,
    /// By bin of confidence: rows, right answers, sum of confidence in 2^-20.
    #[serde(rename = "b", default, skip_serializing_if = "Cells::is_empty")]
    pub reliability: Cells<3>,
    /// Rows by [`score_cell`].
    #[serde(rename = "s", default, skip_serializing_if = "Counts::is_empty")]
    pub scores: Counts,
    /// Rows with a score for every class: what the next two are sums over.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub scored: u64,
    /// Sum of -ln of the true class's score.
    #[serde(rename = "p", default, skip_serializing_if = "Fixed::is_zero")]
    pub log_loss: Fixed,
    /// Sum over rows and classes of the squared distance of score and truth.
    #[serde(rename = "r", default, skip_serializing_if = "Fixed::is_zero")]
    pub brier: Fixed,
    /// Rows of a regression with a finite answer and a finite label: what the next four are sums over.
    #[serde(rename = "v", default, skip_serializing_if = "is_zero")]
    pub measured: u64,
    /// Sum of the absolute errors.
    #[serde(rename = "a", default, skip_serializing_if = "Fixed::is_zero")]
    pub absolute: Fixed,
    /// Sum of the squared errors.
    #[serde(rename = "e", default, skip_serializing_if = "Fixed::is_zero")]
    pub squared: Fixed,
    /// Sum of the labels.
    #[serde(rename = "t", default, skip_serializing_if = "Fixed::is_zero")]
    pub truth: Fixed,
    /// Sum of the squared labels.
    #[serde(rename = "q", default, skip_serializing_if = "Fixed::is_zero")]
    pub truth_squared: Fixed,
    /// The confusion of each group, by [`pair`] of its name's and its value's place in the package.
    #[serde(rename = "g", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<u32, Counts>,
}

/// A label for a classifier's answer.
#[derive(Debug, Clone, Copy)]
pub struct ClassLabel<'a> {
    /// The true class.
    pub truth: u16,
    /// The class that was answered.
    pub answered: u16,
    /// Calibrated confidence of the answer, where known.
    pub confidence: Option<f32>,
    /// The score of each class, 0 to 1; empty where unknown.
    pub scores: &'a [f32],
    /// The groups that the row is in, as in [`LabelSums::groups`].
    pub groups: &'a [u32],
}

impl LabelSums {
    /// Adds a label for a classifier's answer.
    pub fn observe_class(&mut self, label: &ClassLabel<'_>) {
        let right = u64::from(label.truth == label.answered);
        let cell = pair(label.truth, label.answered);
        self.labelled = self.labelled.saturating_add(1);
        self.correct = self.correct.saturating_add(right);
        self.confusion.add(cell, 1);
        if let Some(confidence) = label.confidence.filter(|it| !it.is_nan()) {
            let sum = units_of_share(confidence.into());
            self.reliability.add_all(confidence_bin(confidence), [1, right, sum]);
        }
        self.observe_scores(label);
        for group in label.groups {
            self.groups.entry(*group).or_default().add(cell, 1);
        }
    }

    fn observe_scores(&mut self, label: &ClassLabel<'_>) {
        let scores = label.scores;
        if usize::from(label.truth) >= scores.len() || scores.iter().any(|it| it.is_nan()) {
            return;
        }
        self.scored = self.scored.saturating_add(1);
        for (class, score) in (0..).zip(scores) {
            let (score, positive) = (f64::from(score.clamp(0.0, 1.0)), class == label.truth);
            self.brier.add((score - f64::from(u8::from(positive))).powi(2));
            if positive {
                self.log_loss.add(-score.max(LEAST_PROBABILITY).ln());
            }
            if usize::from(class) < MAX_SCORED_CLASSES {
                self.scores.add(score_cell(class, positive, score), 1);
            }
        }
    }

    /// Adds a label for a regression's answer.
    pub fn observe_value(&mut self, answer: f64, truth: f64) {
        self.labelled = self.labelled.saturating_add(1);
        if answer.is_finite() && truth.is_finite() {
            self.measured = self.measured.saturating_add(1);
            self.absolute.add((answer - truth).abs());
            self.squared.add((answer - truth).powi(2));
            self.truth.add(truth);
            self.truth_squared.add(truth.powi(2));
        }
    }

    /// Adds all of another.
    pub fn absorb(&mut self, other: &Self) {
        for (sum, count) in [
            (&mut self.labelled, other.labelled),
            (&mut self.correct, other.correct),
            (&mut self.scored, other.scored),
            (&mut self.measured, other.measured),
        ] {
            *sum = sum.saturating_add(count);
        }
        for (sum, more) in [
            (&mut self.log_loss, other.log_loss),
            (&mut self.brier, other.brier),
            (&mut self.absolute, other.absolute),
            (&mut self.squared, other.squared),
            (&mut self.truth, other.truth),
            (&mut self.truth_squared, other.truth_squared),
        ] {
            sum.absorb(more);
        }
        self.confusion.absorb(&other.confusion);
        self.reliability.absorb(&other.reliability);
        self.scores.absorb(&other.scores);
        for (group, confusion) in &other.groups {
            self.groups.entry(*group).or_default().absorb(confusion);
        }
    }
}

/// Where a score of a class is counted, apart for rows of the class and for all others.
#[must_use]
pub fn score_cell(class: u16, positive: bool, score: f64) -> u32 {
    (u32::from(class) * 2 + u32::from(positive)) * SCORE_BINS + score_bin(score)
}

/// The bin of a score: exponent and the two first binary places of its odds, so that every machine
/// finds the same.
fn score_bin(score: f64) -> u32 {
    let odds = score / (1.0 - score);
    let quarter = odds.abs().to_bits() >> (f64::MANTISSA_DIGITS - 3);
    let least = (1023 - OCTAVES) << 2;
    let bin = quarter.saturating_sub(least).min(u64::from(SCORE_BINS) - 1);
    u32::try_from(bin).expect("below SCORE_BINS")
}

/// Which slot: the window that the labelled predictions were counted in, and who made them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelKey {
    /// Which life of the device's database.
    pub incarnation: Incarnation,
    /// The window of the predictions.
    pub number: u64,
    /// Which model.
    pub model: ModelName,
    /// The version that answered.
    pub version: Digest,
}

impl LabelKey {
    /// The operation's key: sorted by window, dropped by the windows' floor.
    #[must_use]
    pub fn text(&self) -> String {
        let rest = format!("{}/{}", self.model, self.version);
        crate::document::window_key(self.incarnation, self.number, &rest)
    }

    /// Reads an operation's key; `None` for any other form.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let found = Self {
            incarnation: parts.next()?.parse().ok()?,
            number: u64::from_str_radix(parts.next()?, 16).ok()?,
            model: parts.next()?.parse().ok()?,
            version: parts.next()?.parse().ok()?,
        };
        (found.text() == key).then_some(found)
    }
}

/// All labels so far for the predictions of one window: written by the device alone, cumulative. Two
/// states of one slot join to the one with more labels, then the larger seq, so that a repeated or an
/// overtaken one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelSlot {
    /// Rises with every state that is written.
    #[serde(rename = "q")]
    pub seq: u64,
    /// The sums.
    #[serde(rename = "s")]
    pub sums: LabelSums,
    /// Whether tables were left out since they do not fit an operation; the counts and sums are whole.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl LabelSlot {
    /// The operation's value: labels and seq first, each eight bytes big endian, so that the larger bytes,
    /// which a grow-only map keeps, are those of the later state; any build joins them so, even one
    /// that does not know the kind. Tables go, the largest first, until the rest fits an operation.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        let write = |slot: &Self| stamped(slot.sums.labelled, &stamped(slot.seq, &to_cbor(slot)));
        let mut value = write(self);
        let mut slot = self.clone();
        for table in 0..3 {
            if value.len() <= MAX_VALUE_BYTES {
                break;
            }
            slot.cut = true;
            match table {
                0 => slot.sums.groups.clear(),
                1 => slot.sums.confusion = Counts::default(),
                _ => slot.sums.scores = Counts::default(),
            }
            value = write(&slot);
        }
        value
    }

    /// Reads an operation's value; `None` for a later build's form.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let (_labelled, rest) = split_stamped(value);
        from_cbor(split_stamped(rest).1).ok()
    }
}

/// What is known of the labels of one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowLabels {
    /// For its own predictions, whenever they came.
    pub own: LabelSums,
    /// Where the device keeps no slots yet: labels that came while it was open, for whichever prediction.
    pub arrived: LabelSummary,
    /// Whether the slot's tables are not whole.
    pub cut: bool,
}

impl WindowLabels {
    /// Labels, and right answers among them.
    #[must_use]
    pub fn counts(&self) -> LabelSummary {
        LabelSummary {
            labelled: self.own.labelled.saturating_add(self.arrived.labelled),
            correct: self.own.correct.saturating_add(self.arrived.correct),
        }
    }
}
