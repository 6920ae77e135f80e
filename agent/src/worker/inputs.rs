//! Inputs brought back to what a model knows: without labels, by a map that is folded into its first layer.

use super::train::TrainError;
use crate::store::SamplesReader;
use serde::{Deserialize, Serialize};
use shoal_onnx::{Affine, Limits, Moments, fold_input_affine, input_affine};
use shoal_proto::baseline::Baseline;
use shoal_proto::id::{Digester, ModelName};

/// Mean and spread of recent inputs, labelled or not; the held-out rows and those after them are not among
/// them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Inputs {
    /// Rows that were seen.
    pub(super) rows: u64,
    /// Of each feature.
    moments: Vec<Moments>,
}

impl Inputs {
    /// Looks at the newest `limit` rows of a model that came before a row.
    pub(super) fn before(
        reader: &SamplesReader,
        (model, limit): (&ModelName, u32),
        row: u64,
        width: usize,
    ) -> Result<Self, TrainError> {
        let mut inputs = Self { rows: 0, moments: vec![Moments::default(); width] };
        let see = |features: &[f32]| {
            if features.len() == width {
                inputs.rows += 1;
                inputs.moments.iter_mut().zip(features).for_each(|(moments, value)| moments.push(*value));
            }
        };
        reader.each_before(model, row, limit, see).map_err(TrainError::Samples)?;
        Ok(inputs)
    }

    pub(super) fn digest_into(&self, digester: &mut Digester) {
        digester.update(&self.rows.to_le_bytes());
        for Moments { count, mean, squares } in &self.moments {
            digester.update(&count.to_le_bytes());
            digester.update(&mean.to_le_bytes());
            digester.update(&squares.to_le_bytes());
        }
    }

    /// Folds the map from these inputs to a reference into a model.
    ///
    /// # Errors
    /// [`TrainError::SameInputs`] when no feature would be moved, and why the model does not take the map.
    pub(super) fn fold_into(
        &self,
        onnx: &[u8],
        reference: &Baseline,
        cap: f64,
    ) -> Result<Vec<u8>, TrainError> {
        let usual: Vec<Moments> = reference
            .features
            .iter()
            .map(|feature| {
                let count: u64 = feature.counts.iter().sum();
                Moments { count, mean: feature.mean, squares: feature.std * feature.std * count as f64 }
            })
            .collect();
        let map = input_affine(&usual, &self.moments, cap);
        if map.iter().all(|step| *step == Affine::IDENTITY) {
            return Err(TrainError::SameInputs { rows: self.rows });
        }
        Ok(fold_input_affine(onnx, &map, &Limits::default())?)
    }
}
