//! Products of matrices, by the crate `gemm`, on one thread.

use crate::real::Real;

/// A matrix in a slice: element (i, j) is at `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    /// Where its elements are.
    pub data: &'a [T],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

/// A matrix that is written.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    /// Where its elements are.
    pub data: &'a mut [T],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

/// A product whose operands are long enough.
#[derive(Debug)]
pub struct Checked<'a, T> {
    sizes: [usize; 3],
    alpha: T,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    beta: T,
    c: MatrixMut<'a, T>,
}

/// `c = alpha · a · b + beta · c` with a [m, k], b [k, n], c [m, n]; with `beta` nought, c is only
/// written.
///
/// # Panics
/// When a slice is too short for its matrix, or two elements of `c` are the same.
#[inline]
pub fn multiply<T: Real>(
    [m, n, k]: [usize; 3],
    alpha: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    beta: T,
    c: MatrixMut<'_, T>,
) {
    if m == 0 || n == 0 {
        return;
    }
    let last =
        |rows: usize, columns: usize, row: usize, column: usize| (rows - 1) * row + (columns - 1) * column;
    if k > 0 {
        assert!(last(m, k, a.row, a.column) < a.data.len(), "a is too short for {m} x {k}");
        assert!(last(k, n, b.row, b.column) < b.data.len(), "b is too short for {k} x {n}");
    }
    assert!(last(m, n, c.row, c.column) < c.data.len(), "c is too short for {m} x {n}");
    let apart = (c.column >= 1 && c.row > (n - 1) * c.column) || (c.row >= 1 && c.column > (m - 1) * c.row);
    assert!(apart || m == 1 || n == 1, "rows of c overlap");
    T::gemm(Checked { sizes: [m, n, k], alpha, a, b, beta, c });
}

/// [`multiply`] of matrices without gaps; `a_turned`: a is stored [k, m], `b_turned`: b is [n, k].
#[inline]
pub fn dense<T: Real>(
    [m, n, k]: [usize; 3],
    alpha: T,
    (a, a_turned): (&[T], bool),
    (b, b_turned): (&[T], bool),
    beta: T,
    c: &mut [T],
) {
    let (row, column) = if a_turned { (1, m) } else { (k, 1) };
    let a = Matrix { data: a, row, column };
    let (row, column) = if b_turned { (1, k) } else { (n, 1) };
    let b = Matrix { data: b, row, column };
    multiply([m, n, k], alpha, a, b, beta, MatrixMut { data: c, row: n, column: 1 });
}

impl<T: Real> Checked<'_, T> {
    #[inline]
    pub(crate) fn run(self) {
        let Self { sizes: [m, n, k], alpha, a, b, beta, c } = self;
        let signed =
            |stride: usize| isize::try_from(stride).expect("strides fit, since the last element does");
        #[expect(unsafe_code, reason = "the product takes pointers; `multiply` has checked all ends")]
        // SAFETY: the last element of each matrix is inside its slice, and `c` is borrowed alone.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.data.as_mut_ptr(),
                signed(c.column),
                signed(c.row),
                beta != T::ZERO,
                a.data.as_ptr(),
                signed(a.column),
                signed(a.row),
                b.data.as_ptr(),
                signed(b.column),
                signed(b.row),
                beta,
                alpha,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_every_layout() {
        let a: Vec<f64> = (0..6).map(f64::from).collect();
        let b: Vec<f64> = (0..12).map(|v| f64::from(v) - 5.0).collect();
        let at = |data: &[f64], turned: bool, (rows, columns): (usize, usize), i: usize, j: usize| {
            if turned { data[j * rows + i] } else { data[i * columns + j] }
        };
        for (a_turned, b_turned) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut c = vec![1.0; 8];
            dense([2, 4, 3], 2.0, (&a, a_turned), (&b, b_turned), 0.5, &mut c);
            for (place, got) in c.iter().enumerate() {
                let (i, j) = (place / 4, place % 4);
                let sum: f64 =
                    (0..3).map(|k| at(&a, a_turned, (2, 3), i, k) * at(&b, b_turned, (3, 4), k, j)).sum();
                assert!((got - (2.0 * sum + 0.5)).abs() < 1e-12, "{a_turned} {b_turned} {place}");
            }
        }
        let mut c = vec![f32::NAN; 1];
        dense([1, 1, 0], 1.0, (&[], false), (&[], false), 0.0, &mut c);
        assert_eq!(c, [0.0], "an empty sum is nought");
    }

    #[test]
    #[should_panic(expected = "b is too short")]
    fn a_short_operand_is_seen() {
        dense([2, 2, 2], 1.0, (&[0f32; 4], false), (&[0f32; 3], false), 0.0, &mut [0.0; 4]);
    }
}
