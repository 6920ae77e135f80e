//! Trains the stored weights of an ONNX graph in place: no offline preparation, no other format.
//!
//! The graph is interpreted over candle's tensors, forward and backward, and the new weights are
//! written into the original file. Dense graphs for now; an operator without a backward here is an
//! error that names it, never a gradient left out in silence.
//!
//! candle makes a fresh tensor for each operator, which is slow for small layers (some ten
//! microseconds each); this engine is for being right first. It runs on one thread.

mod failure;

mod dataset;
mod recipe;
mod scope;

mod ops;
mod program;

mod loss;
mod optimizer;

mod fine_tune;
mod fit;

pub use dataset::{Dataset, DatasetError, Targets};
pub use failure::LearnError;
pub use fine_tune::{Progress, Trained, fine_tune, gradients, trainable_parameters};
pub use fit::fit_mlp;
pub use ops::OpError;
pub use recipe::{Optimizer, Recipe, RecipeError, Scope};
