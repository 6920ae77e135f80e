//! From a row to standardised inputs, and from these to a few projected values.

use super::draw::Draw;

/// Standard deviations beyond which an input counts as this many: one broken input must not hide, nor
/// drown, all others.
pub(super) const CLIP: f32 = 8.0;
/// An input that varies less than this share of its mean is constant: that is the rounding of an f32.
const ROUNDING: f64 = 1e-6;
const PROJECTION: u64 = 0;
/// Numbers that are worked on together.
pub(super) const LANES: usize = 8;

/// Mean and inverse standard deviation of each column of row-major rows; the inverse is nought where a
/// column does not vary. Values that are not finite are left out.
pub(super) fn scaling(rows: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let mut sums = vec![(0_u64, 0.0_f64); width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row).filter(|(_, value)| value.is_finite()) {
            *sum = (sum.0 + 1, sum.1 + f64::from(*value));
        }
    }
    let mean: Vec<f64> = sums.iter().map(|(count, sum)| sum / (*count).max(1) as f64).collect();
    let mut squares = vec![0.0_f64; width];
    for row in rows.chunks_exact(width) {
        for ((square, mean), value) in squares.iter_mut().zip(&mean).zip(row) {
            if value.is_finite() {
                *square += (f64::from(*value) - mean).powi(2);
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "means of f32 are f32, inverses are checked")]
    let inverse = squares.iter().zip(&sums).zip(&mean).map(|((square, (count, _)), mean)| {
        let deviation = (square / (*count).max(1) as f64).sqrt();
        let inverse = (1.0 / deviation) as f32;
        if deviation > mean.abs() * ROUNDING && inverse.is_finite() { inverse } else { 0.0 }
    });
    let inverse = inverse.collect();
    #[expect(clippy::cast_possible_truncation, reason = "means of f32 are f32")]
    let mean = mean.iter().map(|mean| *mean as f32).collect();
    (mean, inverse)
}

/// Standardises a row and clips it. What is missing, or not a number, is at the mean; so is an input that
/// never varied; infinity is as far as anything can be. Values beyond the width are left out.
pub(super) fn standardise(row: &[f32], mean: &[f32], inverse: &[f32], z: &mut [f32]) {
    z[row.len().min(mean.len())..].fill(0.0);
    for ((z, value), (mean, inverse)) in z.iter_mut().zip(row).zip(mean.iter().zip(inverse)) {
        let scaled = (value - mean) * inverse;
        *z = if scaled.is_nan() { 0.0 } else { scaled.clamp(-CLIP, CLIP) };
    }
}

/// A random projection in which every input counts in exactly one projected value, with a random sign, and
/// every value sums the same number of inputs (but one): `CountSketch` (Charikar, Chen, Farach-Colton 2002), the
/// sparsest of sign projections (Achlioptas 2003; Weinberger et al. 2009 as feature hashing), here balanced.
///
/// It costs one addition an input, no input is lost as in very sparse projections, and squared lengths are
/// kept in the mean with the variance of dense signs. With no more inputs than values it is the
/// identity, but for order and sign. It is drawn from the seed and the inputs that vary: nothing of it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Projection {
    /// Inputs that vary; the one at place `t` counts in the value `t % to`.
    pub(super) inputs: Vec<u32>,
    pub(super) signs: Vec<f32>,
    pub(super) to: usize,
}

impl Projection {
    pub(super) fn new(seed: u64, inverse: &[f32], to: usize) -> Self {
        let mut inputs: Vec<u32> =
            (0..).zip(inverse).filter(|(_, inverse)| **inverse > 0.0).map(|(input, _)| input).collect();
        let mut draw = Draw::new(seed, PROJECTION);
        draw.shuffle(&mut inputs);
        let signs = inputs.iter().map(|_| if draw.bits() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Self { inputs, signs, to }
    }

    pub(super) fn project(&self, z: &[f32], to: &mut [f32]) {
        to.fill(0.0);
        let (inputs, signs) = (self.inputs.chunks(self.to), self.signs.chunks(self.to));
        for (inputs, signs) in inputs.zip(signs) {
            for ((to, input), sign) in to.iter_mut().zip(inputs).zip(signs) {
                *to += sign * z[*input as usize];
            }
        }
    }
}

/// Mahalanobis distance of projected rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub(super) centre: Vec<f32>,
    /// `L⁻¹`, column by column, with noughts above the diagonal and below the last row, so that a column is a
    /// whole number of lanes.
    columns: Vec<[f32; LANES]>,
}

impl Metric {
    /// From the lower triangle, row by row.
    pub(super) fn new(centre: &[f32], whitening: &[f32]) -> Self {
        let (to, stride) = (centre.len(), centre.len().div_ceil(LANES));
        let mut columns = vec![[0.0; LANES]; to * stride];
        let mut from = whitening.iter();
        for row in 0..to {
            for (column, value) in (0..=row).zip(from.by_ref()) {
                columns[column * stride + row / LANES][row % LANES] = *value;
            }
        }
        Self { centre: centre.to_vec(), columns }
    }

    /// Room for what [`distance`](Self::distance) computes.
    pub(super) fn white(&self) -> Vec<[f32; LANES]> {
        vec![[0.0; LANES]; self.centre.len().div_ceil(LANES)]
    }

    /// `|L⁻¹ (y - centre)|²`; `y` becomes centred, `white` what its length is taken of.
    pub(super) fn distance(&self, y: &mut [f32], white: &mut [[f32; LANES]]) -> f64 {
        y.iter_mut().zip(&self.centre).for_each(|(y, centre)| *y -= centre);
        white.fill([0.0; LANES]);
        for (line, y) in self.columns.chunks_exact(white.len().max(1)).zip(y.iter()) {
            for (white, line) in white.iter_mut().zip(line) {
                for lane in 0..LANES {
                    white[lane] += line[lane] * y;
                }
            }
        }
        f64::from(dot(white.as_flattened(), white.as_flattened()))
    }

    /// `Σ⁻¹ (y - centre)` from what [`distance`](Self::distance) left in `white`; it goes to `y`.
    pub(super) fn gradient(&self, white: &[[f32; LANES]], y: &mut [f32]) {
        for (line, y) in self.columns.chunks_exact(white.len().max(1)).zip(y) {
            *y = dot(line.as_flattened(), white.as_flattened());
        }
    }
}

/// A sum of products in eight lanes: always in the same order, whatever the machine.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (lanes_a, rest_a) = a.as_chunks::<LANES>();
    let (lanes_b, rest_b) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in lanes_a.iter().zip(lanes_b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_values_are_standardised_to_something_finite() {
        let rows = [1.0, 5.0, f32::MAX, 2.0, 5.0, -f32::MAX, 3.0, 5.0, f32::NAN, f32::INFINITY, 5.0, 0.0];
        let (mean, inverse) = scaling(&rows, 3);
        assert_eq!((mean[0], mean[1], inverse[1]), (2.0, 5.0, 0.0));
        assert!(inverse.iter().all(|value| value.is_finite()));
        let mut z = [9.0; 3];
        for (row, expected) in [
            (vec![2.0, 7.0, 0.0], [0.0, 0.0, 0.0]),
            (vec![f32::INFINITY, f32::INFINITY, f32::NAN], [CLIP, 0.0, 0.0]),
            (vec![f32::NEG_INFINITY], [-CLIP, 0.0, 0.0]),
            (vec![2.0, 5.0, 0.0, 9.0], [0.0, 0.0, 0.0]),
            (vec![], [0.0; 3]),
        ] {
            standardise(&row, &mean, &inverse, &mut z);
            assert_eq!(z, expected, "{row:?}");
        }
        assert_eq!(scaling(&[], 2), (vec![0.0; 2], vec![0.0; 2]));
        let tiny = scaling(&[1e-44, 2e-44, 3e-44], 1);
        assert!(tiny.1[0].is_finite());
    }

    #[test]
    fn every_input_counts_once_and_lengths_are_kept_in_the_mean() {
        let inverse = [vec![1.0; 70], vec![0.0; 5]].concat();
        let (mut total, trials) = (0.0, 400);
        for seed in 0..trials {
            let projection = Projection::new(seed, &inverse, 32);
            let mut seen = projection.inputs.clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..70).collect::<Vec<_>>());
            let z: Vec<f32> = (0..75_u8).map(|at| f32::from(at % 7) - 2.0).collect();
            let mut y = [0.0; 32];
            projection.project(&z, &mut y);
            let kept = z[..70].iter().map(|z| z * z).sum::<f32>();
            total += f64::from(dot(&y, &y) / kept);
        }
        println!("kept squared length {:.3}", total / trials as f64);
        assert!((total / trials as f64 - 1.0).abs() < 0.06, "six standard errors");
        assert_eq!(Projection::new(1, &inverse, 32), Projection::new(1, &inverse, 32));
        assert_ne!(Projection::new(1, &inverse, 32), Projection::new(2, &inverse, 32));
    }

    #[test]
    fn the_distance_is_that_of_the_textbook() {
        // Covariance [[4, 2], [2, 5]]: see `matrix`.
        let metric = Metric::new(&[1.0, 1.0], &[0.5, -0.25, 0.5]);
        let (mut y, mut white) = ([3.0, 4.0], metric.white());
        let distance = metric.distance(&mut y, &mut white);
        assert!((distance - 2.0).abs() < 1e-6, "{distance}");
        metric.gradient(&white, &mut y);
        assert!((y[0] - 0.25).abs() < 1e-6 && (y[1] - 0.5).abs() < 1e-6, "{y:?}");
    }
}
