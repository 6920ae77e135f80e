//! Operators on slices, forward and backward. All tensors are row-major and without gaps.

mod blocks;
pub mod gemm;
pub mod packed;
pub mod recurrent;
pub mod rows;
