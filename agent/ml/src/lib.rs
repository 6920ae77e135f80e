//! The operators of `ai.onnx.ml` on plain slices: tree ensembles, linear and support vector
//! models, and what prepares features for them.
//!
//! Settings are parsed once into a checked [`Kernel`]: every index in range, no cycle, no empty
//! tree. Running one then neither panics nor asks for more memory than its output needs. Answers
//! follow onnxruntime where the standard leaves them open.

mod array;
mod number;
mod settings;

mod post;

mod distance;
mod encode;
mod features;
mod labels;
mod linear;
mod normalize;
mod svm;
mod trees;

mod kernel;

pub use array::{Array, Data, Kind, Slice, View};
pub use kernel::{Extent, Kernel, OPS, OutputShape, RunError};
pub use number::Number;
pub use settings::{Setting, Settings, SettingsError};
pub use trees::{
    Boosting, Ensemble, Forest, Labels, Leaf, Library, Objective, RefitError, RefitSettings, Refitted,
    Samples,
};

#[cfg(test)]
mod tests;
