//! Products of stacks of matrices.

use super::gemm::{Matrix, MatrixMut, multiply};
use crate::real::Real;

/// `y[i] = alpha · a[i] · b[i] (+ bias)`, for matrices in stacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Rows of a, columns of b, and what is summed over.
    pub sizes: [usize; 3],
    /// Whether a is stored [k, m].
    pub a_turned: bool,
    /// Whether b is stored [n, k].
    pub b_turned: bool,
    /// Scales the product, not the bias.
    pub alpha: f64,
    /// Where the matrices of both begin, for each result.
    pub starts: Vec<[usize; 2]>,
}

/// Computes it; `bias` [n] is added to each row.
pub fn forward<T: Real>(p: &Product, a: &[T], b: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let [m, n, k] = p.sizes;
    if m * n == 0 {
        return;
    }
    let beta = match bias {
        Some(bias) => {
            y.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
            T::ONE
        }
        None => T::ZERO,
    };
    let (a_row, a_column) = if p.a_turned { (1, m) } else { (k, 1) };
    let (b_row, b_column) = if p.b_turned { (1, k) } else { (n, 1) };
    for ([a_start, b_start], y) in p.starts.iter().zip(y.chunks_exact_mut(m * n)) {
        let a = Matrix { data: &a[*a_start..], row: a_row, column: a_column };
        let b = Matrix { data: &b[*b_start..], row: b_row, column: b_column };
        multiply(p.sizes, T::of(p.alpha), a, b, beta, MatrixMut { data: y, row: n, column: 1 });
    }
}
