//! Why operators do not fit together.

use thiserror::Error;

/// A program that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GradError {
    /// Shapes or settings that do not fit.
    #[error("{what}")]
    Shape { what: String },
    /// A tensor of more elements than can be addressed, or of too many axes.
    #[error("a tensor of sizes {shape:?} is too large")]
    Size { shape: Vec<usize> },
    /// Maps or numbers made up beforehand that would take more memory than is left for them.
    #[error("sizes {shape:?} take {bytes} bytes before a run, {left} are left")]
    Room { shape: Vec<usize>, bytes: usize, left: usize },
    /// A backward step for which there is none, because it is one itself.
    #[error("`{op}` is differentiated twice")]
    Twice { op: &'static str },
    /// A gradient is asked for that does not depend on the parameter.
    #[error("the result does not depend on it")]
    Independent,
    /// Values of the wrong number.
    #[error("expected {expected} values, got {got}")]
    Length { expected: usize, got: usize },
}

impl GradError {
    pub(crate) fn shape(what: impl Into<String>) -> Self {
        Self::Shape { what: what.into() }
    }
}
