//! Whether a model may be served: it loads, runs, stays finite, and answers what it should.

use serde::{Deserialize, Serialize};
use shoal_onnx::{Limits, OnnxModel, ParameterCount, TensorSpec};
use thiserror::Error;

use crate::predictor::{Batching, LoadError, Predictor};
use crate::signature::InferError;
use crate::tensor::{Tensor, TensorData};

/// Largest allowed difference from a golden output: |Δ| ≤ this · max(1, max|y|).
pub const GOLDEN_TOLERANCE: f64 = 1e-5;

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

/// Loads a model, runs it on one row and on three, and compares it with golden outputs.
///
/// To be called in a child process with limits on memory and time. Trial inputs are made up
/// (halves and zeros), so their outputs must be finite only when no golden input is given.
///
/// # Errors
/// [`Refused`], with the output's name.
pub fn admit(
    onnx: &[u8],
    golden: Option<(&[Tensor], &[Tensor])>,
    limits: &Limits,
) -> Result<Admission, Refused> {
    let predictor = Predictor::load(onnx, limits)?;
    for rows in [1, TRIAL_ROWS] {
        let made =
            predictor.infer(&predictor.samples(rows)).map_err(|source| Refused::Trial { rows, source })?;
        if golden.is_none() {
            finite(&made)?;
        }
    }
    let golden_difference = match golden {
        None => None,
        Some((inputs, expected)) => {
            let made = predictor.infer(inputs).map_err(|source| Refused::Golden { source })?;
            finite(&made)?;
            Some(compare(&made, expected)?)
        }
    };
    let model = OnnxModel::parse(onnx, limits).map_err(LoadError::from)?;
    Ok(Admission {
        inputs: predictor.inputs().to_vec(),
        outputs: predictor.outputs().to_vec(),
        parameters: model.graph().parameter_count(),
        batching: predictor.batching(),
        row_width: predictor.row_width(),
        golden_difference,
    })
}

fn finite(made: &[Tensor]) -> Result<(), Refused> {
    match made.iter().find(|tensor| !tensor.data.is_finite()) {
        None => Ok(()),
        Some(tensor) => Err(Refused::NotFinite { output: tensor.name.clone() }),
    }
}

fn compare(made: &[Tensor], expected: &[Tensor]) -> Result<f64, Refused> {
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
            // Written so that a difference that is not a number is refused.
            let fits = difference <= GOLDEN_TOLERANCE * scale && wanted.iter().all(|v| v.is_finite());
            if !fits {
                let tolerance = GOLDEN_TOLERANCE * scale;
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
