//! What was found out about a version before it was served, as it is kept beside it.

use serde::{Deserialize, Serialize};
use shoal_infer::Admission;

/// The report of an admission child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdmissionReport {
    /// Inputs, outputs, parameters, batching, and how far it is from its golden outputs.
    pub model: Admission,
    /// Pre-check, optimising and the trial of batches, in milliseconds.
    pub load_ms: f64,
    /// The median run of one row, in microseconds; absent where the model takes no single row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_us: Option<f64>,
    /// Most memory of the child before it looked at the model: the program itself.
    pub start_bytes: u64,
    /// Most memory of the child over its life.
    pub peak_bytes: u64,
}

impl AdmissionReport {
    /// Memory that the model took beyond the program's own.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.start_bytes)
    }
}
