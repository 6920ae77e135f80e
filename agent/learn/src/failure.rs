//! Why a model cannot be trained, or a training run came to nothing.

use shoal_grad::GradError;
use shoal_onnx::{NetworkError, PatchError, Refusal};
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::dataset::{DatasetError, SourceError};
use crate::lower::OpError;
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
    /// Nothing in the model is a weight that a gradient reaches.
    #[error("the model has no trainable parameter{}", if *.is_quantised {
        ": it is quantised, and no gradient passes the rounding; train the float model and quantise that"
    } else {
        ""
    })]
    NoParameters { is_quantised: bool },
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
    /// A feature that is looked up in a table is not one of its rows.
    #[error(
        "a feature is {value}, expected a whole number from -{size} to below {size}: it is looked up in a table"
    )]
    Index { value: f32, size: usize },
    /// An operator failed.
    #[error("node `{node}` ({op}) failed")]
    Op {
        node: String,
        op: String,
        #[source]
        source: OpError,
    },
    /// The computation cannot be laid out.
    #[error("the computation cannot be laid out")]
    Program {
        #[source]
        source: GradError,
    },
    /// Even one row at a time needs more memory than there may be.
    #[error("training needs {needed} bytes with one row at a time, {budget} are allowed")]
    Memory { needed: usize, budget: usize },
    /// Rows cannot be read.
    #[error("the rows cannot be read")]
    Source(#[from] SourceError),
    /// What a run was stopped with does not fit this one.
    #[error("the checkpoint cannot be resumed from")]
    Checkpoint(#[from] CheckpointError),
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
    Network(#[from] NetworkError),
}

impl LearnError {
    /// Whether fewer rows at once may do: tensors, or maps of where their elements go, are too large.
    pub(crate) fn is_too_large(&self) -> bool {
        let (Self::Op { source: OpError::Grad(source), .. } | Self::Program { source }) = self else {
            return false;
        };
        matches!(source, GradError::Room { .. } | GradError::Size { .. })
    }
}

/// An error with its causes, in one line.
#[cfg(test)]
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |all, cause| format!("{all}: {cause}"))
}
