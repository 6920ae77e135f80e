//! What training makes smaller, with its gradient by the scores.

use crate::real::Real;

/// A loss of scores [rows, k]; the loss of all rows is the sum of each row's times its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Negative log-likelihood of Softmax; one class number a row.
    CrossEntropy,
    /// Negative log-likelihood of a Sigmoid for each column, their mean; k targets of nought to one a row.
    Binary,
    /// Mean over the columns of (y - t)².
    MeanSquared,
    /// Mean over the columns of (y - t)² / 2, linear beyond `delta`. Huber (1964).
    Huber {
        /// Where it becomes linear, above nought.
        delta: f64,
    },
    /// Mean over the columns of the pinball loss: `quantile · (t - y)` above, `(quantile - 1) · (t - y)`
    /// below. Koenker and Bassett (1978).
    Quantile {
        /// Between nought and one.
        quantile: f64,
    },
}

/// Computes the loss of all rows into `value`, and its gradient. Sums are in 64 bits.
pub fn forward<T: Real>(
    kind: Loss,
    scores: &[T],
    targets: &[T],
    weights: &[T],
    value: &mut [T],
    gradient: &mut [T],
) {
    let columns = scores.len().checked_div(weights.len()).unwrap_or(0).max(1);
    let mut sum = 0.0;
    let rows = scores.chunks_exact(columns).zip(gradient.chunks_exact_mut(columns)).zip(weights);
    for (row, ((scores, gradient), weight)) in rows.enumerate() {
        let weight = weight.f64();
        sum += weight
            * match kind {
                Loss::CrossEntropy => cross_entropy(scores, targets[row], weight, gradient),
                each => {
                    let targets = &targets[row * columns..(row + 1) * columns];
                    let share = weight / columns as f64;
                    let mut sum = 0.0;
                    for ((score, target), slope) in scores.iter().zip(targets).zip(gradient) {
                        let (loss, by_score) = of_one(each, score.f64(), target.f64());
                        sum += loss;
                        *slope = T::of(share * by_score);
                    }
                    sum / columns as f64
                }
            };
    }
    value[0] = T::of(sum);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "class numbers are checked before"
)]
fn cross_entropy<T: Real>(scores: &[T], class: T, weight: f64, gradient: &mut [T]) -> f64 {
    let class = (class.f64() as usize).min(scores.len() - 1);
    let most = scores.iter().fold(T::LOWEST, |most, score| most.larger(*score)).f64();
    let total: f64 = scores.iter().map(|score| (score.f64() - most).exp()).sum();
    for (place, (score, slope)) in scores.iter().zip(gradient).enumerate() {
        let probability = (score.f64() - most).exp() / total;
        *slope = T::of(weight * (probability - f64::from(u8::from(place == class))));
    }
    total.ln() + most - scores[class].f64()
}

fn of_one(kind: Loss, score: f64, target: f64) -> (f64, f64) {
    let off = score - target;
    match kind {
        Loss::Binary => {
            let softplus = score.max(0.0) + (-score.abs()).exp().ln_1p();
            (softplus - score * target, 1.0 / (1.0 + (-score).exp()) - target)
        }
        Loss::MeanSquared | Loss::CrossEntropy => (off * off, 2.0 * off),
        Loss::Huber { delta } if off.abs() > delta => {
            (delta * (off.abs() - 0.5 * delta), delta * off.signum())
        }
        Loss::Huber { .. } => (0.5 * off * off, off),
        Loss::Quantile { quantile } if off < 0.0 => (-quantile * off, -quantile),
        Loss::Quantile { quantile } => ((1.0 - quantile) * off, 1.0 - quantile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gradient_is_that_of_its_loss() {
        let scores = [0.3, -1.2, 2.0, 0.9, 0.1, -0.4];
        let weights = [0.7, 1.6];
        let columns = [0.2, 0.9, 0.4, 0.0, 1.0, 0.5];
        for (kind, targets) in [
            (Loss::CrossEntropy, &[2.0, 0.0][..]),
            (Loss::Binary, &columns),
            (Loss::MeanSquared, &columns),
            (Loss::Huber { delta: 0.5 }, &columns),
            (Loss::Quantile { quantile: 0.9 }, &columns),
        ] {
            let loss = |scores: &[f64]| {
                let (mut value, mut gradient) = ([0.0], [0.0; 6]);
                forward(kind, scores, targets, &weights, &mut value, &mut gradient);
                (value[0], gradient)
            };
            let (_, gradient) = loss(&scores);
            for place in 0..6 {
                let moved = |by: f64| {
                    let mut scores = scores;
                    scores[place] += by;
                    loss(&scores).0
                };
                let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((gradient[place] - wanted).abs() < 1e-8, "{kind:?} {place}: {gradient:?}, {wanted}");
            }
        }
    }

    #[test]
    fn losses_by_hand() {
        let value = |kind, scores: &[f64], targets: &[f64]| {
            let mut value = [0.0];
            forward(kind, scores, targets, &[1.0], &mut value, &mut vec![0.0; scores.len()]);
            value[0]
        };
        for (kind, scores, targets, wanted) in [
            (Loss::CrossEntropy, &[0.0, 0.0][..], &[1.0][..], 2f64.ln()),
            (Loss::CrossEntropy, &[1000.0, 0.0], &[1.0], 1000.0),
            (Loss::Binary, &[0.0], &[1.0], 2f64.ln()),
            (Loss::Binary, &[-800.0], &[1.0], 800.0),
            (Loss::MeanSquared, &[1.0, 3.0], &[0.0, 1.0], 2.5),
            (Loss::Huber { delta: 1.0 }, &[3.0], &[0.0], 2.5),
            (Loss::Quantile { quantile: 0.9 }, &[0.0], &[2.0], 1.8),
        ] {
            assert!((value(kind, scores, targets) - wanted).abs() < 1e-12, "{kind:?} {scores:?}");
        }
    }
}
