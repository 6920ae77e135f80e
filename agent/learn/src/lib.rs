//! Trains the stored weights of an ONNX graph in place: no offline preparation, no other format.
//!
//! A graph becomes a tape of [`shoal_grad`] with every size known; the tape's derivative is planned once,
//! runs without allocating, and the new weights are written into the original file. An operator without a
//! backward is an error that names it, and so is a parameter that no gradient reaches: nothing is left out in
//! silence. Everything runs on one thread.

mod failure;

mod dataset;
mod recipe;

mod lower;
mod model;
mod scope;

mod network;

mod feeder;
mod optimizer;
mod order;

mod checkpoint;
mod session;

mod fine_tune;

mod architecture;
mod bend;
mod fit;
mod plan;

pub use architecture::{Architecture, ArchitectureError};
pub use bend::bends;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use dataset::{Dataset, DatasetError, Source, SourceError, TargetKind, Targets};
pub use failure::LearnError;
pub use fine_tune::{Gradients, Slopes, fine_tune, gradients, trainable_parameters};
pub use fit::{FitPlan, Fitted, fit};
pub use lower::OpError;
pub use plan::{Planned, plan};
pub use recipe::{ClassWeights, LossKind, Optimizer, Recipe, RecipeError, Schedule, Scope, Statistics};
pub use session::{Progress, Session, Trained};
