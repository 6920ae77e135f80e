//! What a run is resumed from.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A run between two steps: with the same file, rows and recipe it goes on to the same bytes as a run that
/// was never stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Told apart from checkpoints of other runs.
    pub(crate) fingerprint: u64,
    /// Steps made.
    pub step: u64,
    pub(crate) first_loss: f64,
    pub(crate) moving: Vec<Saved>,
    pub(crate) statistics: Vec<Vec<f32>>,
    pub(crate) best: Option<Best>,
    /// Evaluations since the best one.
    pub(crate) worse: u32,
    pub(crate) is_over: bool,
}

/// A parameter with the optimiser's memory of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    pub(crate) values: Vec<f32>,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) start: Vec<f32>,
    pub(crate) stiffness: Vec<f32>,
}

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) statistics: Vec<Vec<f32>>,
}

/// Why a checkpoint is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is from other rows, another recipe, another file or another version of this program.
    #[error("it is of another run")]
    OtherRun,
    /// Its sizes are not those of the model.
    #[error("its sizes are not those of the model")]
    Sizes,
}

/// FNV-1a over parts, each with its length: to tell runs apart, not to resist anyone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn with(mut self, part: &[u8]) -> Self {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}
