//! The short way for tables: rows of features in, rows of scores out.

use shoal_onnx::Datatype;
use tract_onnx::prelude::tvec;

use crate::engine;
use crate::predictor::{Batching, Predictor};
use crate::signature::InferError;
use crate::tensor::{Tensor, TensorData};

/// Scores, one row for each row of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Scores of a row.
    pub width: usize,
    /// Row-major, rows × `width`.
    pub values: Vec<f32>,
}

impl Rows {
    /// The rows, one after another.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

impl Predictor {
    /// Features of a row, when the model can be fed plain rows.
    #[must_use]
    pub fn row_width(&self) -> Option<usize> {
        match self.inputs() {
            [input] if input.datatype != Datatype::String => input.row_elements(),
            _ => None,
        }
    }

    /// Runs the model on plain rows, row-major, and gives its first output of floating point
    /// numbers, whatever lies behind a row flattened. Features are cast to what the model wants.
    ///
    /// # Errors
    /// [`InferError::NotRows`] for a model with several inputs, open inner sizes or no such
    /// output, and those of [`Predictor::infer`].
    pub fn rows(&self, rows: usize, features: &[f32]) -> Result<Rows, InferError> {
        let reason = "no output is of floating point numbers";
        self.slot_rows(rows, features, self.float_output.ok_or(InferError::NotRows { reason })?)
    }

    /// The same of the tensor from inside that the model was loaded to expose.
    ///
    /// # Errors
    /// Those of [`Predictor::rows`], and when it exposes none.
    pub fn exposed_rows(&self, rows: usize, features: &[f32]) -> Result<Rows, InferError> {
        let reason = "no tensor from inside is exposed";
        let slot = self.exposed.as_ref().map(|_| self.outputs().len());
        self.slot_rows(rows, features, slot.ok_or(InferError::NotRows { reason })?)
    }

    fn slot_rows(&self, rows: usize, features: &[f32], slot: usize) -> Result<Rows, InferError> {
        let [input] = self.inputs() else {
            return Err(InferError::NotRows { reason: "it has not exactly one input" });
        };
        let reason = "an inner size of its input is open, or it is text";
        let width = self.row_width().ok_or(InferError::NotRows { reason })?;
        if rows.checked_mul(width) != Some(features.len()) {
            let (input, got) = (input.name.clone(), features.len());
            return Err(InferError::FeatureCount { input, rows, width, got });
        }
        if rows == 0 {
            return Ok(Rows { width: 0, values: Vec::new() });
        }
        let mut shape: Vec<usize> =
            input.dims.iter().map(|dim| dim.and_then(|d| usize::try_from(d).ok()).unwrap_or(1)).collect();
        if let (true, Some(first)) = (input.batches(), shape.first_mut()) {
            *first = rows;
        }
        match self.batching() {
            Batching::Open if self.goes_alone && rows > 1 => {
                shape[0] = 1;
                self.fixed_rows(rows, width, &shape, features, slot)
            }
            Batching::Open => self.at_once_rows(rows, shape, features, slot),
            _ if rows == 1 && input.batches() => self.at_once_rows(1, shape, features, slot),
            Batching::Fixed => self.fixed_rows(rows, width, &shape, features, slot),
            Batching::PerSize | Batching::OneByOne => {
                let data = TensorData::F32(features.to_vec());
                self.through_tensors(rows, Tensor { name: input.name.clone(), shape, data }, slot)
            }
        }
    }

    fn at_once_rows(
        &self,
        rows: usize,
        shape: Vec<usize>,
        features: &[f32],
        slot: usize,
    ) -> Result<Rows, InferError> {
        let wanted = self.inputs().first().map_or(Datatype::F32, |input| engine::held_as(input.datatype));
        let value = engine::give_f32(&shape, features, wanted)?;
        let made = self.run(vec![shape], tvec!(value))?;
        let output = made.get(slot).ok_or(InferError::NotRows { reason: "an output is missing" })?;
        self.per_row(rows, output.shape(), engine::take_f32(output)?, slot)
    }

    /// A file that fixes its rows: one row at a time when it fixes one, else exactly as many.
    fn fixed_rows(
        &self,
        rows: usize,
        width: usize,
        shape: &[usize],
        features: &[f32],
        slot: usize,
    ) -> Result<Rows, InferError> {
        let fixed = shape.first().copied().unwrap_or(1);
        if fixed == rows {
            return self.at_once_rows(rows, shape.to_vec(), features, slot);
        }
        if fixed != 1 {
            let input = self.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
            return Err(InferError::FeatureCount { input, rows: fixed, width, got: features.len() });
        }
        let mut whole = Rows { width: 0, values: Vec::new() };
        for row in features.chunks_exact(width) {
            let one = self.at_once_rows(1, shape.to_vec(), row, slot)?;
            whole.width = one.width;
            whole.values.extend(one.values);
        }
        Ok(whole)
    }

    fn through_tensors(&self, rows: usize, tensor: Tensor, slot: usize) -> Result<Rows, InferError> {
        let wanted = self.inputs().first().map_or(Datatype::F32, |input| engine::held_as(input.datatype));
        let value = engine::give(&tensor, wanted)?;
        let fed = engine::taken(&tensor.name, &value)?;
        let made = self.infer(&[fed])?;
        let output = made.get(slot).ok_or(InferError::NotRows { reason: "an output is missing" })?;
        let values = match &output.data {
            TensorData::F32(values) => values.clone(),
            _ => engine::take_f32(&engine::give(output, Datatype::F32)?)?,
        };
        self.per_row(rows, &output.shape, values, slot)
    }

    fn per_row(
        &self,
        rows: usize,
        shape: &[usize],
        values: Vec<f32>,
        slot: usize,
    ) -> Result<Rows, InferError> {
        if shape.first() != Some(&rows) || !values.len().is_multiple_of(rows) {
            let output = self.outputs().get(slot).map(|spec| spec.name.clone()).unwrap_or_default();
            return Err(InferError::OutputRows { output, rows, got: shape.to_vec() });
        }
        Ok(Rows { width: values.len() / rows, values })
    }
}
