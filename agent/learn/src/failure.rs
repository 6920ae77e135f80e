//! Why a model cannot be trained, or a training run came to nothing.

use shoal_onnx::{MlpError, PatchError, Refusal};
use thiserror::Error;

use crate::dataset::DatasetError;
use crate::ops::OpError;
use crate::recipe::RecipeError;

/// The reason no trained model comes out.
#[derive(Debug, Error)]
pub enum LearnError {
    /// The pre-check refused the file.
    #[error("the model is refused")]
    Refused(#[from] Refusal),
    /// Operators on the way to the output have no backward here.
    #[error("the model cannot be trained through {}", .ops.join(", "))]
    NotTrainable { ops: Vec<String> },
    /// The model's inputs or outputs are not such that rows can be trained on.
    #[error("the model cannot be trained: {reason}")]
    Interface { reason: String },
    /// The scope leaves nothing to train.
    #[error("no parameter is in scope {scope}, the model has {known}")]
    NothingInScope { scope: String, known: String },
    /// The data makes no sense.
    #[error("the data is refused")]
    Dataset(#[from] DatasetError),
    /// The recipe makes no sense.
    #[error("the recipe is refused")]
    Recipe(#[from] RecipeError),
    /// The data has another width than the model.
    #[error("the model takes {expected} features, the data has {got}")]
    Width { expected: usize, got: usize },
    /// The targets do not fit the output.
    #[error("the targets do not fit the output: expected {expected}, got {got}")]
    Targets { expected: String, got: String },
    /// An operator failed.
    #[error("node `{node}` ({op}) failed")]
    Op {
        node: String,
        op: String,
        #[source]
        source: OpError,
    },
    /// The tensor library failed outside of an operator.
    #[error("the tensor library failed at {step}")]
    Engine {
        step: &'static str,
        #[source]
        source: Box<candle_core::Error>,
    },
    /// A parameter got no gradient: training it would do nothing.
    #[error("parameter `{parameter}` gets no gradient")]
    NoGradient { parameter: String },
    /// The loss, or a weight, is infinite or not a number.
    #[error("{what} is not finite at step {step}")]
    NotFinite { what: String, step: u64 },
    /// The caller asked to stop.
    #[error("stopped at step {step}")]
    Stopped { step: u64 },
    /// The new weights could not be written.
    #[error("the trained weights cannot be written")]
    Patch(#[from] PatchError),
    /// A new network could not be written.
    #[error("the network cannot be written")]
    Mlp(#[from] MlpError),
}

/// Names the step at which the tensor library failed.
pub(crate) fn at(step: &'static str) -> impl Fn(candle_core::Error) -> LearnError {
    move |source| LearnError::Engine { step, source: Box::new(source) }
}
