//! What a caller gave against what the model wants.

use shoal_onnx::{Datatype, TensorSpec};
use thiserror::Error;

use crate::engine::EngineFailure;
use crate::tensor::{Tensor, TensorError};

/// Why a prediction could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InferError {
    /// The model has no such input.
    #[error("the model has no input `{input}`, it has {known}")]
    UnknownInput { input: String, known: String },
    /// An input was not given.
    #[error("input `{input}` is missing")]
    MissingInput { input: String },
    /// An input was given twice.
    #[error("input `{input}` was given twice")]
    RepeatedInput { input: String },
    /// Wrong kind of number.
    #[error("input `{input}`: expected {expected}, got {got}")]
    Datatype { input: String, expected: Datatype, got: Datatype },
    /// Wrong shape.
    #[error("input `{input}`: expected shape {expected}, got {got:?}")]
    Shape { input: String, expected: String, got: Vec<usize> },
    /// Shape and elements of a tensor contradict each other.
    #[error("a tensor contradicts itself")]
    Contradiction(#[from] TensorError),
    /// Inputs have different numbers of rows.
    #[error("input `{input}`: expected {expected} rows like the first input, got {got}")]
    RowCount { input: String, expected: usize, got: usize },
    /// The number of features is not the rows' width times their number.
    #[error("input `{input}`: {rows} rows of {width} features, got {got} numbers")]
    FeatureCount { input: String, rows: usize, width: usize, got: usize },
    /// The model cannot be fed plain rows.
    #[error("the model cannot be fed rows of features: {reason}")]
    NotRows { reason: &'static str },
    /// An output has not a row for each row given.
    #[error("output `{output}` has shape {got:?} for {rows} rows")]
    OutputRows { output: String, rows: usize, got: Vec<usize> },
    /// The engine refused.
    #[error("the engine failed")]
    Engine {
        #[source]
        source: EngineFailure,
    },
    /// The engine panicked.
    #[error("the engine panicked: {message}")]
    Panicked { message: String },
}

impl From<EngineFailure> for InferError {
    fn from(source: EngineFailure) -> Self {
        match source {
            EngineFailure::Panicked { message } => Self::Panicked { message },
            error @ EngineFailure::Error { .. } => Self::Engine { source: error },
        }
    }
}

impl InferError {
    /// Whether the caller is at fault, and not the model.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        !matches!(self, Self::Engine { .. } | Self::Panicked { .. } | Self::OutputRows { .. })
    }
}

/// Puts tensors into the model's order and checks each.
pub(crate) fn arrange<'a>(specs: &[TensorSpec], given: &'a [Tensor]) -> Result<Vec<&'a Tensor>, InferError> {
    if let Some(stray) = given.iter().find(|tensor| specs.iter().all(|spec| spec.name != tensor.name)) {
        let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        return Err(InferError::UnknownInput { input: stray.name.clone(), known: known.join(", ") });
    }
    let mut arranged = Vec::with_capacity(specs.len());
    for spec in specs {
        let input = || spec.name.clone();
        let mut named = given.iter().filter(|tensor| tensor.name == spec.name);
        let tensor = named.next().ok_or_else(|| InferError::MissingInput { input: input() })?;
        if named.next().is_some() {
            return Err(InferError::RepeatedInput { input: input() });
        }
        tensor.check()?;
        let (expected, got) = (spec.datatype, tensor.datatype());
        // Half precision may be fed as f32, which is what the engine computes with.
        let is_wider = expected == Datatype::F16 && got == Datatype::F32;
        if expected != got && !is_wider {
            return Err(InferError::Datatype { input: input(), expected, got });
        }
        if !fits(spec, &tensor.shape) {
            let expected = shape_text(spec);
            return Err(InferError::Shape { input: input(), expected, got: tensor.shape.clone() });
        }
        arranged.push(tensor);
    }
    Ok(arranged)
}

fn fits(spec: &TensorSpec, shape: &[usize]) -> bool {
    spec.dims.len() == shape.len()
        && spec.dims.iter().zip(shape).all(|(wanted, got)| match wanted {
            None => *got > 0,
            Some(size) => i64::try_from(*got) == Ok(*size),
        })
}

pub(crate) fn shape_text(spec: &TensorSpec) -> String {
    let dims: Vec<String> =
        spec.dims.iter().map(|dim| dim.map_or("?".into(), |size| size.to_string())).collect();
    format!("[{}]", dims.join(", "))
}
