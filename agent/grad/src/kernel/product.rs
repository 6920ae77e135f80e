//! Products of stacks of matrices.

use super::gemm::{Matrix, MatrixMut, multiply};
use super::packed::{self, Onto, Rows, RowsMut, pack, packed_len};
use crate::real::Real;

/// Elements of a right operand up to which it is laid out in panels first: it stays near while all rows
/// pass. Beyond it the blocks of the crate `gemm` pay.
const MAX_PACKED: usize = 1 << 16;

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

impl Product {
    fn is_packed(&self) -> bool {
        let [_, n, k] = self.sizes;
        k > 0 && packed_len(k, n) <= MAX_PACKED
    }

    /// Elements of scratch that [`forward`] needs.
    #[must_use]
    pub fn scratch(&self) -> usize {
        let [m, n, k] = self.sizes;
        if !self.is_packed() {
            return 0;
        }
        packed_len(k, n) + if self.a_turned { m * k } else { 0 }
    }
}

/// Computes it; `bias` [n] is added to each row.
pub fn forward<T: Real>(p: &Product, a: &[T], b: &[T], bias: Option<&[T]>, y: &mut [T], scratch: &mut [T]) {
    let [m, n, _] = p.sizes;
    if m * n == 0 {
        return;
    }
    if p.is_packed() {
        in_panels(p, a, b, bias, y, scratch);
    } else {
        in_blocks(p, a, b, bias, y);
    }
}

fn in_panels<T: Real>(p: &Product, a: &[T], b: &[T], bias: Option<&[T]>, y: &mut [T], scratch: &mut [T]) {
    let [m, n, k] = p.sizes;
    let (panels, rows) = scratch.split_at_mut(packed_len(k, n));
    let (row, column) = if p.b_turned { (1, k) } else { (n, 1) };
    let mut laid = None;
    for ([a_start, b_start], y) in p.starts.iter().zip(y.chunks_exact_mut(m * n)) {
        if laid != Some(*b_start) {
            pack([k, n], Matrix { data: &b[*b_start..], row, column }, panels);
            laid = Some(*b_start);
        }
        let a = &a[*a_start..*a_start + m * k];
        let data = if p.a_turned {
            turn(a, m, k, rows);
            &*rows
        } else {
            a
        };
        // The bias is not scaled.
        let onto = match bias {
            Some(bias) if p.alpha == 1.0 => Onto::Row(bias),
            _ => Onto::Nought,
        };
        packed::multiply(p.sizes, Rows { data, stride: k }, panels, onto, RowsMut { data: y, stride: n });
        if p.alpha != 1.0 {
            scale(y, T::of(p.alpha), bias);
        }
    }
}

fn scale<T: Real>(y: &mut [T], alpha: T, bias: Option<&[T]>) {
    match bias {
        None => y.iter_mut().for_each(|y| *y *= alpha),
        Some(bias) => {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y = *y * alpha + *bias);
            }
        }
    }
}

/// Elements of the sides of the squares in which a matrix is turned: what is read and written stays near.
const SQUARE: usize = 16;

/// `a` [k, m] as rows [m, k].
fn turn<T: Real>(a: &[T], m: usize, k: usize, rows: &mut [T]) {
    for first_p in (0..k).step_by(SQUARE) {
        let end_p = k.min(first_p + SQUARE);
        for first_i in (0..m).step_by(SQUARE) {
            let width = SQUARE.min(m - first_i);
            for p in first_p..end_p {
                let from = &a[p * m + first_i..][..width];
                for (to, from) in rows[first_i * k + p..].iter_mut().step_by(k).zip(from) {
                    *to = *from;
                }
            }
        }
    }
}

fn in_blocks<T: Real>(p: &Product, a: &[T], b: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let [m, n, k] = p.sizes;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_and_blocks_give_the_same() {
        let numbers =
            |count: usize| -> Vec<f64> { (0..count).map(|at| ((at * 37 % 19) as f64) - 9.0).collect() };
        for sizes in [[3, 5, 7], [1, 33, 2], [40, 64, 16], [9, 1, 1]] {
            let [m, n, k] = sizes;
            let (a, b, bias) = (numbers(2 * m * k), numbers(2 * k * n), numbers(n));
            for (a_turned, b_turned, alpha, bias) in [
                (false, false, 1.0, None),
                (true, false, 1.0, Some(&*bias)),
                (false, true, 0.5, Some(&*bias)),
                (true, true, -2.0, None),
            ] {
                let starts = vec![[0, 0], [m * k, k * n], [0, k * n]];
                let p = Product { sizes, a_turned, b_turned, alpha, starts };
                let (mut panels, mut blocks) = (vec![0.0; 3 * m * n], vec![0.0; 3 * m * n]);
                in_panels(&p, &a, &b, bias, &mut panels, &mut vec![0.0; p.scratch()]);
                in_blocks(&p, &a, &b, bias, &mut blocks);
                assert_eq!(panels, blocks, "{sizes:?} {a_turned} {b_turned}");
            }
        }
    }
}
