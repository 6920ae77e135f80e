//! Whether a model may be served: it loads, runs, stays finite, and answers what it should.

use serde::{Deserialize, Serialize};
use shoal_onnx::{
    Datatype, DenseLayer, Head, Limits, MlpSpec, OnnxModel, ParameterCount, TensorSpec, build_mlp,
};
use thiserror::Error;

use crate::predictor::{Batching, LoadError, Predictor};
use crate::signature::InferError;
use crate::tensor::{Tensor, TensorData};

/// Largest allowed difference from a golden output: |Δ| ≤ this · max(1, max|y|).
pub const GOLDEN_TOLERANCE: f64 = 1e-5;

/// The same for outputs of half precision: others round between layers, where this engine computes in f32.
const HALF_TOLERANCE: f64 = 4.0 / 1024.0;

/// Golden rows that are run each alone.
const MAX_ROWS_ALONE: usize = 64;

/// What odd rows are filled with, by the kind of number.
const ODD: [(f32, i64); 5] =
    [(0.0, 0), (-1.0, -1), (f32::MAX, i64::MAX), (f32::NAN, i64::MIN), (1_000.0, 1_000)];

/// Rows of the trial batch.
const TRIAL_ROWS: usize = 3;

/// What was found out about a model that may be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// What a caller must give.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// Stored floating point numbers.
    pub parameters: ParameterCount,
    /// How several rows are taken.
    pub batching: Batching,
    /// Features of a row when it can be fed plain rows.
    pub row_width: Option<usize>,
    /// Largest difference from a golden output, relative to max(1, max|y|), when one was given.
    pub golden_difference: Option<f64>,
}

/// Why a model may not be served.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refused {
    /// It does not load.
    #[error("the model does not load")]
    Load(#[from] LoadError),
    /// It does not run on a trial input.
    #[error("the model does not run on {rows} trial rows")]
    Trial {
        rows: usize,
        #[source]
        source: InferError,
    },
    /// It does not run on the golden input.
    #[error("the model does not run on the golden input")]
    Golden {
        #[source]
        source: InferError,
    },
    /// An output is infinite or not a number.
    #[error("output `{output}` is not finite")]
    NotFinite { output: String },
    /// A golden output names none of the model's, or has another shape or type.
    #[error("golden output `{output}`: expected {expected}, got {got}")]
    GoldenShape { output: String, expected: String, got: String },
    /// An output differs from the golden one.
    #[error("output `{output}` differs by {difference:e} from the golden one, {tolerance:e} is allowed")]
    GoldenValues { output: String, difference: f64, tolerance: f64 },
    /// A label differs from the golden one.
    #[error("output `{output}` gives another label than the golden one in element {place}")]
    GoldenLabel { output: String, place: usize },
}

impl Refused {
    /// A word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Load(LoadError::Refused(_)) => "refused",
            Self::Load(LoadError::Unranked { .. } | LoadError::Engine { .. }) => "load",
            Self::Trial { .. } => "trial",
            Self::Golden { .. } => "golden_run",
            Self::NotFinite { .. } => "not_finite",
            Self::GoldenShape { .. } => "golden_shape",
            Self::GoldenValues { .. } | Self::GoldenLabel { .. } => "golden_values",
        }
    }
}

impl Admission {
    /// What is known of a loaded model; `golden_difference` is from its [`trial`].
    #[must_use]
    pub fn of(predictor: &Predictor, parameters: ParameterCount, golden_difference: Option<f64>) -> Self {
        Self {
            inputs: predictor.inputs().to_vec(),
            outputs: predictor.outputs().to_vec(),
            parameters,
            batching: predictor.batching(),
            row_width: predictor.row_width(),
            golden_difference,
        }
    }
}

/// Loads a model, runs it on one row and on three, and compares it with golden outputs.
///
/// To be called in a child process with limits on memory and time.
///
/// # Errors
/// [`Refused`], with the output's name.
pub fn admit(
    onnx: &[u8],
    golden: Option<(&[Tensor], &[Tensor])>,
    limits: &Limits,
) -> Result<Admission, Refused> {
    let parameters = OnnxModel::parse(onnx, limits).map_err(LoadError::from)?.parameter_count();
    let predictor = Predictor::load(onnx, limits)?;
    let golden_difference = trial(&predictor, golden)?;
    Ok(Admission::of(&predictor, parameters, golden_difference))
}

/// Runs a model on golden inputs, all rows at once and each alone, and gives the largest difference;
/// without them it runs made-up inputs (halves and zeros) of one row and of three, whose outputs must be
/// finite.
///
/// # Errors
/// [`Refused`], with the output's name.
pub fn trial(predictor: &Predictor, golden: Option<(&[Tensor], &[Tensor])>) -> Result<Option<f64>, Refused> {
    let Some((inputs, expected)) = golden else {
        for rows in [1, TRIAL_ROWS] {
            let made = predictor.infer(&predictor.samples(rows));
            let made = made.map_err(|source| Refused::Trial { rows, source })?;
            finite(&made[..made.len().min(predictor.outputs().len())])?;
        }
        return Ok(None);
    };
    let run = |inputs: &[Tensor], expected: &[Tensor]| {
        let mut made = predictor.infer(inputs).map_err(|source| Refused::Golden { source })?;
        made.truncate(predictor.outputs().len()); // what is exposed from inside is nobody's answer
        finite(&made)?;
        compare(predictor.outputs(), &made, expected)
    };
    let mut worst = run(inputs, expected)?;
    for place in 0..rows_alone(predictor, inputs, expected) {
        let alone = |tensors: &[Tensor]| tensors.iter().map(|tensor| row(tensor, place)).collect::<Vec<_>>();
        worst = worst.max(run(&alone(inputs), &alone(expected))?);
    }
    Ok(Some(worst))
}

/// How many golden rows are run alone: none where there is but one, or where they are no rows.
fn rows_alone(predictor: &Predictor, inputs: &[Tensor], expected: &[Tensor]) -> usize {
    let rows = |tensor: &Tensor| tensor.shape.first().copied().unwrap_or(0);
    let several = inputs.first().map_or(0, rows);
    let batched = inputs.iter().chain(expected).all(|tensor| rows(tensor) == several);
    let alone = batched && several > 1 && predictor.batching() != Batching::Fixed;
    if alone { several.min(MAX_ROWS_ALONE) } else { 0 }
}

fn row(tensor: &Tensor, place: usize) -> Tensor {
    let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
    let width = tensor.data.len() / rows;
    let mut shape = tensor.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first = 1;
    }
    Tensor { name: tensor.name.clone(), shape, data: tensor.data.slice(place * width..(place + 1) * width) }
}

/// A made-up row for each input (one as it stands in the file, where that fixes the number of rows).
#[must_use]
pub fn sample_row(predictor: &Predictor) -> Vec<Tensor> {
    predictor.samples(1)
}

/// Rows that nobody should send and anybody may: zeros, numbers below zero, the largest, none at all. What
/// a model answers to them does not matter, as long as it ends.
pub fn odd_rows(predictor: &Predictor) -> impl Iterator<Item = Vec<Tensor>> {
    ODD.into_iter().map(|(float, whole)| {
        let odd = |tensor: Tensor| Tensor { data: filled(tensor.data, float, whole), ..tensor };
        predictor.samples(1).into_iter().map(odd).collect()
    })
}

fn filled(mut data: TensorData, float: f32, whole: i64) -> TensorData {
    macro_rules! fill {
        ($values:ident) => {
            $values.fill(whole.try_into().unwrap_or_default())
        };
    }
    match &mut data {
        TensorData::F32(values) => values.fill(float),
        TensorData::F16(values) => values.fill(::half::f16::from_f32(float)),
        TensorData::F64(values) => values.fill(f64::from(float)),
        TensorData::Bool(values) => values.fill(whole != 0),
        TensorData::U8(values) => fill!(values),
        TensorData::U16(values) => fill!(values),
        TensorData::U32(values) => fill!(values),
        TensorData::U64(values) => fill!(values),
        TensorData::I8(values) => fill!(values),
        TensorData::I16(values) => fill!(values),
        TensorData::I32(values) => fill!(values),
        TensorData::I64(values) => values.fill(whole),
        TensorData::String(_) => {}
    }
    data
}

/// Has the engine look at the processor, which it does once: some need a file for it.
pub fn warm_up() {
    let spec = MlpSpec {
        width: 1,
        normaliser: None,
        layers: vec![DenseLayer { weight: vec![1.0], bias: vec![0.0] }],
        head: Head::Values,
    };
    let loaded = build_mlp(&spec).map(|onnx| Predictor::load(&onnx, &Limits::default()));
    drop(loaded); // one that fails says so again for the model itself
}

fn finite(made: &[Tensor]) -> Result<(), Refused> {
    match made.iter().find(|tensor| !tensor.data.is_finite()) {
        None => Ok(()),
        Some(tensor) => Err(Refused::NotFinite { output: tensor.name.clone() }),
    }
}

fn compare(specs: &[TensorSpec], made: &[Tensor], expected: &[Tensor]) -> Result<f64, Refused> {
    let mut worst = 0.0f64;
    for wanted in expected {
        let output = || wanted.name.clone();
        let describe = |tensor: &Tensor| format!("{} {:?}", tensor.datatype(), tensor.shape);
        let got = made.iter().find(|tensor| tensor.name == wanted.name);
        let Some(got) = got.filter(|got| describe(got) == describe(wanted)) else {
            let got = got.map_or("no such output".into(), describe);
            return Err(Refused::GoldenShape { output: output(), expected: describe(wanted), got });
        };
        if let (Some(got), Some(wanted)) = (floats(got), floats(wanted)) {
            let scale = wanted.iter().fold(1.0f64, |most, value| most.max(value.abs()));
            let difference = got.iter().zip(&wanted).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
            let spec = specs.iter().find(|spec| spec.name == output());
            let is_half = spec.is_some_and(|spec| spec.datatype == Datatype::F16);
            let tolerance = scale * if is_half { HALF_TOLERANCE } else { GOLDEN_TOLERANCE };
            // Written so that a difference that is not a number is refused.
            let fits = difference <= tolerance && wanted.iter().all(|v| v.is_finite());
            if !fits {
                return Err(Refused::GoldenValues { output: output(), difference, tolerance });
            }
            worst = worst.max(difference / scale);
        } else if got.data != wanted.data {
            let place = (0..wanted.data.len())
                .find(|at| got.data.slice(*at..at + 1) != wanted.data.slice(*at..at + 1));
            return Err(Refused::GoldenLabel { output: output(), place: place.unwrap_or_default() });
        }
    }
    Ok(worst)
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    match &tensor.data {
        TensorData::F32(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
        TensorData::F16(values) => Some(values.iter().map(|value| value.to_f64()).collect()),
        TensorData::F64(values) => Some(values.clone()),
        _ => None,
    }
}
