//! Operators on slices, forward and backward. All tensors are row-major and without gaps.

mod blocks;
pub mod gemm;
pub mod packed;

pub mod binary;
pub mod movement;
pub mod unary;

pub mod conv;
pub mod pool;
mod window;

pub mod recurrent;
pub mod rows;

pub mod loss;
pub mod product;
pub mod update;
