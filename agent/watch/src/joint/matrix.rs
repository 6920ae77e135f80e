//! Small symmetric matrices, row-major: Cholesky's factor, its inverse, and Jacobi's eigenvectors.

/// The lower triangular inverse `L⁻¹` of Cholesky's factor, row-major and square with noughts above.
///
/// `None` where the matrix is not positive definite.
pub(super) fn whitening(matrix: &[f64], size: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| factor[row * size + k] * factor[column * size + k]).sum();
            let rest = matrix[row * size + column] - known;
            factor[row * size + column] = if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / factor[column * size + column]
            };
        }
    }
    let mut inverse = vec![0.0; size * size];
    for column in 0..size {
        for row in column..size {
            let unit = if row == column { 1.0 } else { 0.0 };
            let known: f64 = (column..row).map(|k| factor[row * size + k] * inverse[k * size + column]).sum();
            inverse[row * size + column] = (unit - known) / factor[row * size + row];
        }
    }
    inverse.iter().all(|value| value.is_finite()).then_some(inverse)
}

/// Rotations of all pairs at most; ten are enough for any matrix that was met.
const SWEEPS: usize = 30;

/// Eigenvalues, greatest first, and their unit eigenvectors one after the other, by Jacobi's cyclic
/// rotations (Golub and Van Loan, algorithm 8.5.3). `O(n³)` a sweep, about eight sweeps; exact to rounding for
/// equal eigenvalues too.
pub(super) fn eigen(mut a: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; size * size];
    for index in 0..size {
        vectors[index * size + index] = 1.0;
    }
    let total: f64 = a.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS {
        let above = |row: usize| row * size + row + 1..(row + 1) * size;
        let off: f64 = (0..size).flat_map(&above).map(|at| a[at] * a[at]).sum();
        if off.is_nan() || off <= total * 1e-22 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                if a[p * size + q].abs() > f64::MIN_POSITIVE {
                    rotate(&mut a, &mut vectors, size, p, q);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&x, &y| a[y * size + y].total_cmp(&a[x * size + x]));
    let values = order.iter().map(|&index| a[index * size + index]).collect();
    let sorted = order.iter().flat_map(|&index| vectors[index * size..][..size].iter().copied()).collect();
    (values, sorted)
}

/// Turns rows and columns `p < q` so that their common element vanishes. The rows of `vectors` are the
/// eigenvectors.
fn rotate(a: &mut [f64], vectors: &mut [f64], size: usize, p: usize, q: usize) {
    let (app, aqq, apq) = (a[p * size + p], a[q * size + q], a[p * size + q]);
    let theta = (aqq - app) / (2.0 * apq);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let turn = |low: &mut [f64], high: &mut [f64]| {
        for (x, y) in low.iter_mut().zip(high) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    };
    let (low, high) = a.split_at_mut(q * size);
    turn(&mut low[p * size..][..size], &mut high[..size]);
    // The columns are the rows by symmetry, but for the four elements where both meet.
    for k in (0..size).filter(|k| *k != p && *k != q) {
        (a[k * size + p], a[k * size + q]) = (a[p * size + k], a[q * size + k]);
    }
    a[p * size + p] = app - tangent * apq;
    a[q * size + q] = aqq + tangent * apq;
    (a[p * size + q], a[q * size + p]) = (0.0, 0.0);
    let (low, high) = vectors.split_at_mut(q * size);
    turn(&mut low[p * size..][..size], &mut high[..size]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    fn near(a: &[f64], b: &[f64], within: f64) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < within), "{a:?} {b:?}");
    }

    #[test]
    fn known_factor_is_inverted() {
        // [[4, 2], [2, 5]] = L Lᵀ with L = [[2, 0], [1, 2]].
        near(&whitening(&[4.0, 2.0, 2.0, 5.0], 2).unwrap(), &[0.5, 0.0, -0.25, 0.5], 1e-15);
        for wrong in [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [f64::NAN; 4]] {
            assert_eq!(whitening(&wrong, 2), None);
        }
    }

    #[test]
    fn known_eigenvectors_are_found() {
        let (values, vectors) = eigen(vec![2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 5.0], 3);
        near(&values, &[5.0, 3.0, 1.0], 1e-12);
        near(&vectors[..3].iter().map(|v| v.abs()).collect::<Vec<_>>(), &[0.0, 0.0, 1.0], 1e-12);
        let half = 0.5_f64.sqrt();
        near(&vectors[3..6].iter().map(|v| v.abs()).collect::<Vec<_>>(), &[half, half, 0.0], 1e-12);
        near(&eigen(vec![0.0; 4], 2).0, &[0.0, 0.0], 1e-300);
        near(&eigen(vec![1.0, 0.0, 0.0, 1.0], 2).0, &[1.0, 1.0], 1e-15);
    }

    #[test]
    fn random_matrices_are_put_together_again() {
        let mut rng = StdRng::seed_from_u64(1);
        for size in [1, 2, 7, 40] {
            let mut matrix = vec![0.0; size * size];
            for row in 0..size {
                for column in 0..=row {
                    let value = rng.random_range(-1.0..1.0);
                    (matrix[row * size + column], matrix[column * size + row]) = (value, value);
                }
            }
            let (values, vectors) = eigen(matrix.clone(), size);
            assert!(values.is_sorted_by(|a, b| a >= b));
            let mut again = vec![0.0; size * size];
            for (value, axis) in values.iter().zip(vectors.chunks_exact(size)) {
                for (row, x) in axis.iter().enumerate() {
                    axis.iter().enumerate().for_each(|(at, y)| again[row * size + at] += value * x * y);
                }
            }
            near(&again, &matrix, 1e-10);
        }
    }
}
