//! ONNX files as data: checked before anything deep is done with them, described, patched in
//! place, written, and handed on as a plain [`Graph`] that names no foreign library.
//!
//! Nothing here runs a model; `shoal-infer` does, and `shoal-learn` trains one.

mod limits;
mod ml;
mod refusal;

mod ops;
mod wire;

mod bounds;
mod census;
mod constant;
mod model;
mod scope;
mod spec;
mod traps;
mod window;

mod lower;

mod affine;
mod embedding;
mod graph;
mod inspect;
mod linear;
mod network;
mod patch;
mod refit;
mod steady;
mod trainable;

pub use affine::{Affine, FoldError, Moments, fold_input_affine, input_affine, takes_input_affine};
pub use constant::{Constant, ConstantData};
pub use graph::{Attribute, Graph, Node};
pub use inspect::{InputAffine, Inspection, Opset, OutputKind, ParameterCount, Servable, Trainable, inspect};
pub use limits::Limits;
pub use linear::patch_parameters;
pub use lower::ClassNames;
pub use ml::ml_settings;
pub use model::OnnxModel;
pub use network::{
    CnnSpec, ConvLayer, DenseLayer, Head, MlpSpec, NORMALISER_PREFIX, NetworkError, Normaliser, build_cnn,
    build_mlp,
};
pub use ops::{SERVED_OPS, UnknownOp};
pub use patch::{AttributePatch, PatchError, patch_attributes, patch_initializers};
pub use refit::{Leaves, TreeRefit, TreeRefitError, leaves, refit_as, refit_trees};
pub use refusal::Refusal;
/// What [`refit_trees`] is told, and tells.
pub use shoal_ml::{
    Boosting, Ensemble, Labels, Library, Objective, RefitError, RefitSettings, Refitted, Samples,
};
pub use spec::{Datatype, TensorSpec};
pub use trainable::{
    Parameter, Role, StoredTensor, TRAINABLE_OPS, is_quantised, parameters, stored_tensors, untrainable_ops,
};
