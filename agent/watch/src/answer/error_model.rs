//! How large a regression's error is to be expected: a small ridge regression on the size of its errors.
//!
//! What NannyML calls direct loss estimation, small enough for a board: a parabola in each of the few inputs
//! that tell most of the error (errors grow at the borders of what was trained, which a straight line cannot
//! say) and in the answer itself. It is fitted on half of the held-out rows and kept only when it explains the
//! other half better than a constant does.

use shoal_proto::baseline::{ErrorModel, ErrorTerm};

/// Most inputs it looks at: 33 inputs are 67 coefficients, 134 multiplications a row.
const MAX_INPUTS: usize = 32;
/// Inputs are held within this many standard deviations: a parabola far out says anything.
const REACH: f64 = 4.0;
/// Pulls towards a constant that are tried, each times the rows.
const RIDGES: [f64; 5] = [1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Rows of each half below which nothing is fitted.
const MIN_ROWS: usize = 100;

/// The expected size of an error in units of the rmse, at least 0 and at most 256.
#[must_use]
pub fn expected_error(model: &ErrorModel, answer: f32, features: &[f32]) -> f32 {
    let terms = model.terms.iter().map(|term| {
        let z = place(term, answer, features);
        f64::from(term.linear) * z + f64::from(term.square) * z * z
    });
    let size = f64::from(model.constant) + terms.sum::<f64>();
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 256")]
    let size = if size.is_nan() { 0.0 } else { size.clamp(0.0, 256.0) as f32 };
    size
}

/// Where an input stands, in standard deviations from its mean; a missing one stands at the mean.
fn place(term: &ErrorTerm, answer: f32, features: &[f32]) -> f64 {
    let value = match term.feature {
        None => Some(&answer),
        Some(index) => usize::try_from(index).ok().and_then(|index| features.get(index)),
    };
    let value = value.map_or(f64::NAN, |value| f64::from(*value));
    let z = (value - f64::from(term.center)) / f64::from(term.scale);
    if z.is_nan() { 0.0 } else { z.clamp(-REACH, REACH) }
}

/// The model of the sizes (in units of the rmse) of errors of these answers to these rows of `width` features.
#[must_use]
pub(super) fn fit(answers: &[f32], features: &[f32], width: usize, sizes: &[f64]) -> ErrorModel {
    let rows = sizes.len();
    let mean = sizes.iter().sum::<f64>() / rows.max(1) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a mean of sizes")]
    let constant = ErrorModel { constant: mean as f32, ..ErrorModel::default() };
    if rows < 2 * MIN_ROWS || answers.len() != rows || features.len() != rows * width {
        return constant;
    }
    let row = |index: usize| &features[index * width..(index + 1) * width];
    let mut terms: Vec<(f64, ErrorTerm)> = (0..width)
        .map(Some)
        .chain([None])
        .filter_map(|input| {
            let value = |index: usize| input.map_or(answers[index], |input| row(index)[input]);
            let term = standard(input, (0..rows).map(value))?;
            let placed = (0..rows).map(|index| place(&term, answers[index], row(index)));
            Some((told(placed, sizes), term))
        })
        .collect();
    terms.sort_by(|a, b| b.0.total_cmp(&a.0));
    terms.truncate(MAX_INPUTS);
    let terms: Vec<ErrorTerm> = terms.into_iter().map(|(_, term)| term).collect();
    // Rows that lie beside each other in time are alike: halves are taken in turns.
    let design = |half: usize| {
        let indices = (0..rows).filter(move |index| index % 2 == half);
        indices.map(|index| (powers(&terms, answers[index], row(index)), sizes[index])).collect::<Vec<_>>()
    };
    let (train, test) = (design(0), design(1));
    let total = squares(&test, &[mean_of(&train)]);
    let best = RIDGES
        .into_iter()
        .filter_map(|ridge| {
            let weights = solve(&train, ridge)?;
            Some((squares(&test, &weights), weights))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((left, weights)) if left < total => written(terms, &weights, 1.0 - left / total),
        _ => constant,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "coefficients are kept as f32")]
fn written(mut terms: Vec<ErrorTerm>, weights: &[f64], skill: f64) -> ErrorModel {
    for (term, pair) in terms.iter_mut().zip(weights[1..].chunks_exact(2)) {
        (term.linear, term.square) = (pair[0] as f32, pair[1] as f32);
    }
    ErrorModel { constant: weights[0] as f32, terms, skill: skill as f32 }
}

/// Mean and standard deviation of an input; `None` where it does not vary.
fn standard(input: Option<usize>, values: impl Iterator<Item = f32> + Clone) -> Option<ErrorTerm> {
    let values = values.filter(|value| value.is_finite()).map(f64::from);
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    #[expect(clippy::cast_possible_truncation, reason = "kept as f32")]
    let (center, scale) = (mean as f32, variance.sqrt() as f32);
    let feature = input.map(|input| u32::try_from(input).unwrap_or(u32::MAX));
    (scale.is_normal() && center.is_finite()).then_some(ErrorTerm {
        feature,
        center,
        scale,
        ..ErrorTerm::default()
    })
}

/// How much an input tells of the sizes by itself: the greater of two squared correlations.
fn told(placed: impl Iterator<Item = f64> + Clone, sizes: &[f64]) -> f64 {
    let squared = correlation(placed.clone().map(|z| z * z), sizes);
    correlation(placed, sizes).max(squared)
}

fn correlation(xs: impl Iterator<Item = f64>, ys: &[f64]) -> f64 {
    let (mut n, mut sx, mut sy, mut sxx, mut syy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in xs.zip(ys) {
        n += 1.0;
        sx += x;
        sy += y;
        sxx += x * x;
        syy += y * y;
        sxy += x * y;
    }
    let (cov, vx, vy) = (n * sxy - sx * sy, n * sxx - sx * sx, n * syy - sy * sy);
    if vx > 0.0 && vy > 0.0 { cov * cov / (vx * vy) } else { 0.0 }
}

type Rows = [(Vec<f64>, f64)];

fn powers(terms: &[ErrorTerm], answer: f32, features: &[f32]) -> Vec<f64> {
    let placed = terms.iter().map(|term| place(term, answer, features));
    std::iter::once(1.0).chain(placed.flat_map(|z| [z, z * z])).collect()
}

fn mean_of(rows: &Rows) -> f64 {
    rows.iter().map(|(_, size)| size).sum::<f64>() / rows.len().max(1) as f64
}

/// Sum of squares that weights leave over.
fn squares(rows: &Rows, weights: &[f64]) -> f64 {
    let left = |(xs, size): &(Vec<f64>, f64)| {
        let said: f64 = xs.iter().zip(weights).map(|(x, weight)| x * weight).sum();
        (size - said.max(0.0)).powi(2)
    };
    rows.iter().map(left).sum()
}

/// Ridge weights by Cholesky's factorisation of the normal equations; the constant is not pulled.
fn solve(rows: &Rows, ridge: f64) -> Option<Vec<f64>> {
    let width = rows.first()?.0.len();
    let mut matrix = vec![0.0; width * width];
    let mut right = vec![0.0; width];
    for (xs, size) in rows {
        for i in 0..width {
            right[i] += xs[i] * size;
            for j in 0..=i {
                matrix[i * width + j] += xs[i] * xs[j];
            }
        }
    }
    for i in 1..width {
        matrix[i * width + i] += ridge * rows.len() as f64;
    }
    for i in 0..width {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i * width + k] * matrix[j * width + k]).sum();
            let left = matrix[i * width + j] - dot;
            matrix[i * width + j] = if i == j {
                if left.is_nan() || left <= 0.0 {
                    return None;
                }
                left.sqrt()
            } else {
                left / matrix[j * width + j]
            };
        }
    }
    for i in 0..width {
        let dot: f64 = (0..i).map(|k| matrix[i * width + k] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i * width + i];
    }
    for i in (0..width).rev() {
        let dot: f64 = (i + 1..width).map(|k| matrix[k * width + i] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i * width + i];
    }
    right.iter().all(|weight| weight.is_finite()).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn errors_that_grow_at_the_borders_are_foreseen() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let width = 3;
        let features: Vec<f32> = (0..3_000).map(|_| rng.random_range(-2.0..2.0)).collect();
        let sizes: Vec<f64> = features
            .chunks_exact(width)
            .map(|row| (0.2 + f64::from(row[1]).powi(2)) * rng.random_range(0.0..1.0))
            .collect();
        let answers: Vec<f32> = features.iter().step_by(width).copied().collect();
        let model = fit(&answers, &features, width, &sizes);
        println!("skill {:.3} of at most about 0.6", model.skill);
        assert!(model.skill > 0.4);
        let [middle, border] = [0.0, 2.0].map(|x| expected_error(&model, 0.0, &[0.0, x, 0.0]));
        assert!((middle - 0.1).abs() < 0.15 && (border - 2.1).abs() < 0.3, "{middle} {border}");
        for odd in [f32::NAN, f32::INFINITY, f32::MIN] {
            let size = expected_error(&model, odd, &[odd; 3]);
            assert!((0.0..=256.0).contains(&size) && size.is_finite());
        }
        assert_eq!(expected_error(&model, 0.0, &[]), expected_error(&model, 0.0, &[f32::NAN; 3]));
    }

    #[test]
    fn errors_that_nothing_tells_of_have_a_constant() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let features: Vec<f32> = (0..2_000).map(|_| rng.random_range(-2.0..2.0)).collect();
        let sizes: Vec<f64> = (0..1_000).map(|_| rng.random_range(0.0..2.0)).collect();
        let model = fit(&[0.0; 1_000], &features, 2, &sizes);
        assert!(model.skill < 0.02 && (model.constant - 1.0).abs() < 0.2, "{model:?}");
        for (answers, features, width) in [(&[][..], &[][..], 0), (&[1.0; 50], &[f32::NAN; 50], 1)] {
            let sizes = vec![0.5; answers.len()];
            assert!(fit(answers, features, width, &sizes).terms.is_empty());
        }
        let constant = fit(&[1.0; 300], &[3.0; 300], 1, &[0.5; 300]);
        assert!(constant.terms.is_empty() && (constant.constant - 0.5).abs() < 1e-6);
    }
}
