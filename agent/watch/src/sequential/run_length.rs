//! How long a CUSUM runs with no change, and how much of that a finite reference costs.

/// Height at which the run length is computed; beyond it grows by `e` a unit, which it does already here.
const HEIGHT: f64 = 8.0;
/// States between nought and [`HEIGHT`]. Twice as many change the result by less than a tenth.
const STATES: usize = 160;
/// Standard errors of the reference beyond which no more is allowed for: where a reference is that
/// unlucky (one in seven hundred), the one finding that follows is borne.
const MOST_ERRORS: f64 = 3.0;

/// Rows of a reference below which nothing can be said of it.
pub(super) const MIN_ROWS: f64 = 30.0;

/// One outcome of a bet: its probability with no change, and what it pays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) probability: f64,
    /// Likelihood ratio: the mean over all outcomes is one.
    pub(super) payoff: f64,
}

/// The logarithm of `C` in the mean run length `C·exp(h)` of a CUSUM at height `h`; nought for a bet on
/// nothing.
///
/// Brook and Evans's Markov chain (1972). A sum between two states goes to either with the
/// probabilities that keep the mean of `exp(sum)`, so that the rounding costs no growth.
pub(super) fn log_constant(outcomes: &[Outcome]) -> f64 {
    let width = HEIGHT / STATES as f64;
    if !outcomes.iter().any(|o| o.probability > 0.0 && o.payoff > 1.0) {
        return 0.0;
    }
    // States from the highest (0) to nought (the last): moves down reach only a few further.
    let mut matrix = vec![0.0; STATES * STATES];
    let mut right = vec![1.0; STATES];
    for (row, line) in matrix.chunks_exact_mut(STATES).enumerate() {
        let level = STATES - 1 - row;
        line[row] += 1.0;
        for outcome in outcomes.iter().filter(|o| o.probability > 0.0) {
            let to = (level as f64 + outcome.payoff.max(f64::MIN_POSITIVE).ln() / width).max(0.0);
            if to >= STATES as f64 {
                continue;
            }
            let below = to.floor();
            let up = (((to - below) * width).exp() - 1.0) / (width.exp() - 1.0);
            let at = STATES - 1 - index(below);
            line[at] -= outcome.probability * (1.0 - up);
            if let Some(above) = at.checked_sub(1) {
                line[above] -= outcome.probability * up;
            }
        }
    }
    eliminate(&mut matrix, &mut right);
    (right[STATES - 1] / (HEIGHT.exp() - HEIGHT - 1.0)).max(f64::MIN_POSITIVE).ln()
}

/// The logarithm of the samples in which a sum is reached once with no change: `C·(exp(sum) - sum - 1)`, exact
/// for a sum that moves in small steps; nought at rest. `offset` is `ln C` and what is taken off for rivals.
pub(super) fn calibrated(sum: f32, offset: f32) -> f64 {
    let sum = f64::from(sum);
    let growth = sum.exp_m1() - sum;
    if growth > 0.0 { (growth.ln() + f64::from(offset)).max(0.0) } else { 0.0 }
}

/// What a run length in samples gains where only one in `spacing` counts: the root, not all of it, since
/// up to a tenth's correlation remains and gave 1.1 times the stated alarms with all.
pub(super) fn spaced(spacing: u32) -> f64 {
    f64::from(spacing).sqrt()
}

/// A state's number.
fn index(level: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and STATES")]
    let index = level as usize;
    index.min(STATES - 1)
}

/// Solves in place: afterwards the last of `right` is the last unknown. No pivots: the rows of `I - P` are
/// dominated by their diagonal.
fn eliminate(matrix: &mut [f64], right: &mut [f64]) {
    let ends: Vec<usize> =
        matrix.chunks_exact(STATES).map(|row| row.iter().rposition(|x| *x != 0.0).unwrap_or(0)).collect();
    let mut furthest = 0;
    for pivot in 0..STATES {
        furthest = ends[pivot].max(furthest);
        let (above, below) = matrix.split_at_mut((pivot + 1) * STATES);
        let top = &above[pivot * STATES..];
        for (offset, row) in below.chunks_exact_mut(STATES).enumerate() {
            if row[pivot] != 0.0 {
                let factor = row[pivot] / top[pivot];
                for column in pivot..=furthest {
                    row[column] -= factor * top[column];
                }
                right[pivot + 1 + offset] -= factor * right[pivot];
            }
        }
    }
    right[STATES - 1] /= matrix[STATES * STATES - 1];
}

/// Standard errors by which a reference of `rows` is to be believed less than it says, so that the rate of
/// false alarms, averaged over all references that could have been drawn, is the one without error.
///
/// An error `x` (normal, of deviation `s/√n`) of a payoff's mean changes the exponent of the run length at
/// height `h` by `h·x/K`, `K` the mean of the log payoff under change. The average of `exp(h·x/K)` is
/// `exp((h·s/K)²/2n)`, which `z = h·s/(2K√n)` standard errors make up for.
pub(super) fn allowance(outcomes: &[Outcome], rows: f64, height: f64) -> f64 {
    let (mut information, mut variance) = (0.0, 0.0);
    for Outcome { probability, payoff } in outcomes {
        variance += probability * (payoff - 1.0).powi(2);
        if *payoff > 0.0 {
            information += probability * payoff * payoff.ln();
        }
    }
    if information <= 0.0 || rows <= 0.0 {
        return 0.0;
    }
    (height * variance.sqrt() / (2.0 * information * rows.sqrt())).min(MOST_ERRORS)
}

/// Standard deviation of a payoff.
pub(super) fn deviation(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(|o| o.probability * (o.payoff - 1.0).powi(2)).sum::<f64>().sqrt()
}
