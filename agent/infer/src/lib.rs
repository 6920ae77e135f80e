//! Runs ONNX models with tract: admission, prediction on tensors and on plain rows, `.npz` files.
//!
//! A panic inside the engine is an error here and never reaches the caller; a hang or an
//! allocation beyond all memory is not caught, which is why a model is first admitted in a child
//! process. Nothing here starts one.

mod tensor;

mod engine;
mod kernels;
mod plans;

mod batch;
mod predictor;
mod rows;
mod signature;

mod admit;
mod npy;
mod npz;

pub use ::half::f16;
pub use admit::{Admission, GOLDEN_TOLERANCE, Refused, admit, odd_rows, sample_row, trial, warm_up};
pub use batch::{can_join, join, part};
pub use engine::EngineFailure;
pub use npy::NpyError;
pub use npz::{NpzError, read_npz, write_npz};
pub use predictor::{Batching, LoadError, Predictor};
pub use rows::Rows;
pub use signature::InferError;
pub use tensor::{Tensor, TensorData, TensorError};
