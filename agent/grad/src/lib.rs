//! Reverse-mode differentiation with everything planned beforehand: kernels on slices, forward and
//! backward, in 32 and 64 bits, and a program over them whose memory is laid out once.
//!
//! It knows no ONNX and no file. All kernels run on the caller's thread, and the same numbers on the
//! same build and kind of CPU give the same bits.

mod error;
mod real;

pub mod kernel;

mod op;
mod tape;

mod differentiate;
mod layout;
mod program;

pub use error::GradError;
pub use layout::Layout;
pub use program::Program;
#[doc(hidden)]
pub use program::Run;
pub use real::{Real, on_this_cpu};
pub use tape::{Id, LayerInputs, MAX_HELD_BYTES, Normalised, States, Tape};
