//! The answers of one window, before any label: class × confidence, and what confidence promises.
//!
//! Performance without labels is that of NannyML's CBPE, streaming: calibrated probabilities are summed, since
//! the sum of the chances to be right is the number of right answers to be expected. A regression sums the
//! errors that its error model expects. **Blind to concept drift**: when the truth changes and inputs do not,
//! confidence stays where it was and so does the estimate. Only labels tell.

use super::fixed::{Share, Sum};
use super::group::GroupCodes;
use super::probability::top;
use super::reference::AnswerReference;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{CONFIDENCE_BINS, Confusion, prediction_cell};

/// Counts of one window. Two of the same reference add up exactly; an observation allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AnswerWindow {
    /// Rows answered.
    #[serde(rename = "n")]
    pub(super) rows: u64,
    /// (class × confidence bin), or a regression's answers on the reference's edges.
    #[serde(rename = "c")]
    pub(super) cells: Vec<u64>,
    /// Answers that are not finite.
    #[serde(rename = "o")]
    pub(super) odd: u64,
    /// Of the chance to be right, or of the expected size of the error: sum, sum of squares.
    #[serde(rename = "e")]
    pub(super) expected: Sum,
    #[serde(rename = "q")]
    pub(super) square: Sum,
    /// Rows in each bin of the calibration table.
    #[serde(rename = "b")]
    pub(super) bins: Vec<u64>,
    /// By class; empty for more than [`Confusion::FULL`].
    #[serde(rename = "k")]
    pub(super) classes: Vec<ClassTally>,
    /// By part of all groups.
    #[serde(rename = "g")]
    pub(super) parts: Vec<PartTally>,
}

/// What is expected of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ClassTally {
    /// Answered so and right.
    #[serde(rename = "h")]
    pub(super) hits: Share,
    /// Truly of the class.
    #[serde(rename = "m")]
    pub(super) mass: Share,
}

/// What is expected of one part of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct PartTally {
    #[serde(rename = "n")]
    pub(super) rows: u64,
    #[serde(rename = "f")]
    pub(super) favoured: u64,
    /// Favoured and truly of the favourable class.
    #[serde(rename = "h")]
    pub(super) hits: Share,
    /// Truly of the favourable class.
    #[serde(rename = "m")]
    pub(super) mass: Share,
}

impl AnswerWindow {
    /// An empty window.
    #[must_use]
    pub fn new(reference: &AnswerReference) -> Self {
        let classes = reference.classes();
        let cells = if classes > 0 {
            classes * CONFIDENCE_BINS
        } else {
            reference.answers().map_or(0, |answers| answers.counts.len())
        };
        Self {
            cells: vec![0; cells],
            bins: vec![0; reference.calibration().bins()],
            classes: vec![ClassTally::default(); if classes > Confusion::FULL { 0 } else { classes }],
            parts: vec![PartTally::default(); reference.groups().parts()],
            ..Self::default()
        }
    }

    /// Whether its counts are on this reference.
    #[must_use]
    pub fn fits(&self, reference: &AnswerReference) -> bool {
        let empty = Self::new(reference);
        self.shape() == empty.shape()
    }

    fn shape(&self) -> [usize; 4] {
        [self.cells.len(), self.bins.len(), self.classes.len(), self.parts.len()]
    }

    /// Begins again.
    pub fn reset(&mut self) {
        (self.rows, self.odd) = (0, 0);
        (self.expected, self.square) = (Sum::default(), Sum::default());
        self.cells.fill(0);
        self.bins.fill(0);
        self.classes.fill(ClassTally::default());
        self.parts.fill(PartTally::default());
    }

    /// Counts a classifier's answer: as it was served (class and confidence), and as
    /// [`probabilities`](super::probabilities) after the temperature.
    pub fn observe_class(
        &mut self,
        reference: &AnswerReference,
        raw: (u32, f32),
        probabilities: &[f32],
        codes: GroupCodes,
    ) {
        self.rows += 1;
        match self.cells.get_mut(prediction_cell(raw.0, raw.1)) {
            Some(cell) if !raw.1.is_nan() => *cell += 1,
            _ => self.odd += 1,
        }
        let (class, confidence) = top(probabilities);
        let calibration = reference.calibration();
        let chance = calibration.expect(confidence);
        self.count(calibration.bin(confidence), chance);
        // The chance of the answer is calibrated; what is left goes to the other classes as the model has it.
        let others = probabilities.len().saturating_sub(1).max(1) as f64;
        let (rest, left) = (1.0 - f64::from(confidence), 1.0 - chance);
        let scale = if rest > 1e-9 { left / rest } else { 0.0 };
        let even = if rest > 1e-9 { 0.0 } else { left / others };
        let answered = usize::try_from(class).unwrap_or(usize::MAX);
        let share = |index: usize, probability: f32| {
            if index == answered { chance } else { f64::from(probability) * scale + even }
        };
        for (index, (tally, probability)) in self.classes.iter_mut().zip(probabilities).enumerate() {
            tally.mass.add(share(index, *probability));
        }
        if let Some(tally) = self.classes.get_mut(answered) {
            tally.hits.add(chance);
        }
        reference.groups().each(codes, |place, positive| {
            if let Some(part) = self.parts.get_mut(place) {
                let index = usize::try_from(positive).unwrap_or(usize::MAX);
                part.rows += 1;
                part.mass.add(probabilities.get(index).map_or(0.0, |probability| share(index, *probability)));
                if positive == class {
                    part.favoured += 1;
                    part.hits.add(chance);
                }
            }
        });
    }

    /// Counts a regression's answer to a row of these features.
    pub fn observe_value(&mut self, reference: &AnswerReference, answer: f32, features: &[f32]) {
        self.rows += 1;
        if !answer.is_finite() {
            self.odd += 1;
            return;
        }
        if let Some(answers) = reference.answers()
            && let Some(cell) = self.cells.get_mut(answers.bin(answer))
        {
            *cell += 1;
        }
        if let Some(size) = reference.expected_error(answer, features) {
            let calibration = reference.calibration();
            self.count(calibration.bin(size), calibration.expect(size));
        }
    }

    fn count(&mut self, bin: usize, expected: f64) {
        if let Some(bin) = self.bins.get_mut(bin) {
            *bin += 1;
        }
        self.expected.add(expected);
        self.square.add(expected * expected);
    }

    /// Adds all rows of another window on the same reference; `false`, and nothing changed, where it is on
    /// another.
    pub fn absorb(&mut self, other: &Self) -> bool {
        if self.shape() != other.shape() {
            return false;
        }
        self.rows = self.rows.saturating_add(other.rows);
        self.odd = self.odd.saturating_add(other.odd);
        self.expected.absorb(other.expected);
        self.square.absorb(other.square);
        add(&mut self.cells, &other.cells);
        add(&mut self.bins, &other.bins);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.hits.absorb(theirs.hits);
            mine.mass.absorb(theirs.mass);
        }
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            mine.rows = mine.rows.saturating_add(theirs.rows);
            mine.favoured = mine.favoured.saturating_add(theirs.favoured);
            mine.hits.absorb(theirs.hits);
            mine.mass.absorb(theirs.mass);
        }
        true
    }

    /// Rows answered.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Answers that are not finite: nothing else counts them.
    #[must_use]
    pub fn odd(&self) -> u64 {
        self.odd
    }

    /// Rows of each part of all groups, and how many were given the favourable answer.
    pub fn parts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.parts.iter().map(|part| (part.rows, part.favoured))
    }

    /// (class × confidence bin), row-major, or a regression's answers on the reference's edges.
    #[must_use]
    pub fn cells(&self) -> &[u64] {
        &self.cells
    }

    /// Answers of each class; of a regression, nothing that means anything.
    #[must_use]
    pub fn answered(&self) -> Vec<u64> {
        self.cells.chunks(CONFIDENCE_BINS).map(|row| row.iter().sum()).collect()
    }
}

fn add(mine: &mut [u64], theirs: &[u64]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine = mine.saturating_add(*theirs);
    }
}
