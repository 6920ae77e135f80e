//! Operators on slices, forward and backward. All tensors are row-major and without gaps.

pub mod conv;
pub mod gemm;
pub mod pool;

mod window;
