//! The device's labelled rows, as a training run takes them.

use super::train::TrainError;
use crate::rows::Rows;
use crate::store::{LabelledRow, SamplesReader};
use shoal_proto::id::ModelName;
use std::path::Path;

/// The newest labelled rows of a model, oldest first.
pub(super) fn read(state: &Path, model: &ModelName, limit: u32) -> Result<Vec<LabelledRow>, TrainError> {
    let read = || SamplesReader::open_read_only(state)?.labelled(model, limit);
    read().map_err(TrainError::Samples)
}

/// Adds a row; `false` when it is incomplete, or labelled with what the model does not answer.
pub(super) fn push(sample: &LabelledRow, rows: &mut Rows, classes: usize) -> bool {
    match (sample.class, sample.value) {
        (Some(class), _) if usize::try_from(class).is_ok_and(|class| class < classes) => {
            rows.push_class(&sample.features, class)
        }
        #[expect(clippy::cast_possible_truncation, reason = "models answer in f32")]
        (None, Some(value)) if classes == 0 => rows.push_value(&sample.features, value as f32),
        _ => false,
    }
}

/// What the digest of a training set is taken over: the label's reference, features and truth.
pub(super) fn digest_into(sample: &LabelledRow, bytes: &mut Vec<u8>) {
    bytes.extend((sample.prediction_id.len() as u64).to_le_bytes());
    bytes.extend(sample.prediction_id.as_bytes());
    bytes.extend(sample.features.iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(sample.class.map_or(u64::MAX, u64::from).to_le_bytes());
    bytes.extend(sample.value.unwrap_or(f64::NAN).to_le_bytes());
}
