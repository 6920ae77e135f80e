//! The device's labelled rows, oldest first, as a training run takes them.

use super::train::TrainError;
use crate::rows::Rows;
use shoal_proto::id::ModelName;
use std::path::Path;

/// One labelled row of the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of the prediction that was labelled.
    pub prediction_id: String,
    /// In the manifest's order; NaN is missing.
    pub features: Vec<f32>,
    /// The true class.
    pub class: Option<u32>,
    /// The true value.
    pub value: Option<f64>,
}

impl Sample {
    /// Adds the row; `false` when it is incomplete, or labelled with what the model does not answer.
    pub(super) fn push_to(&self, rows: &mut Rows, classes: usize) -> bool {
        match (self.class, self.value) {
            (Some(class), _) if usize::try_from(class).is_ok_and(|class| class < classes) => {
                rows.push_class(&self.features, class)
            }
            #[expect(clippy::cast_possible_truncation, reason = "models answer in f32")]
            (None, Some(value)) if classes == 0 => rows.push_value(&self.features, value as f32),
            _ => false,
        }
    }

    /// What its digest is taken over.
    pub(super) fn digest_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.prediction_id.len() as u64).to_le_bytes());
        bytes.extend(self.prediction_id.as_bytes());
        bytes.extend(self.features.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(self.class.map_or(u64::MAX, u64::from).to_le_bytes());
        bytes.extend(self.value.unwrap_or(f64::NAN).to_le_bytes());
    }
}

/// The newest labelled rows of a model, oldest first.
pub(super) fn read(state: &Path, model: &ModelName, limit: u32) -> Result<Vec<Sample>, TrainError> {
    let reason = format!("no samples of `{model}` (at most {limit}) below `{}`", state.display());
    Err(TrainError::Samples { reason })
}
