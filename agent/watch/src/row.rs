//! What monitors are told: a row that was predicted, and the truth about one.

use crate::answer::GroupCodes;
use serde::{Deserialize, Serialize};
use shoal_proto::id::ModelName;
use shoal_proto::time::Mono;

/// Which request a row came with: the place of its prediction among all others, whatever the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Asked {
    /// The life of the server, drawn when it starts.
    pub life: u64,
    /// Numbered in that life.
    pub number: u64,
}

impl Asked {
    /// What a label refers to: `MODEL.LIFE-NUMBER`.
    #[must_use]
    pub fn prediction_id(self, model: &ModelName) -> String {
        format!("{model}.{:016x}-{:x}", self.life, self.number)
    }
}

/// A row that was predicted.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Which request it came with.
    pub asked: Asked,
    /// When, by the clock that never jumps.
    pub at: Mono,
    /// The features, in the manifest's order; NaN is a missing value.
    pub features: &'a [f32],
    /// What the model answered.
    pub answer: Answer<'a>,
    /// What the model's last layer read; empty where it is not watched.
    pub embedding: &'a [f32],
    /// The groups that the request named; those that features tell are found here.
    pub groups: GroupCodes,
}

/// What a model answered to a row.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The class, for a classifier whose scores are numbers.
    pub class: Option<u32>,
    /// Its probability; 0 for a regression.
    pub confidence: f32,
    /// The output row: scores or values.
    pub values: &'a [f32],
}

/// The truth about a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    /// The index of the true class.
    Class(u32),
    /// The true number.
    Value(f64),
}

/// The truth about a row that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Which request the row came with.
    pub asked: Asked,
    /// Its features.
    pub features: &'a [f32],
    /// What was answered.
    pub answer: Answer<'a>,
    /// What is true.
    pub truth: Truth,
    /// The groups that the request named.
    pub groups: GroupCodes,
}
