//! Whether a classifier's confidences are what they claim, and the one number that mends them.

use super::model::Model;
use crate::rows::Rows;
use serde::Serialize;
use shoal_proto::manifest::OutputKind;

/// Confidence bins of the calibration error. Guo et al. 2017 use as many.
const BINS: usize = 15;
/// Rows below which a temperature would be noise.
const MIN_ROWS: usize = 30;
/// Spread of ln T that is believed before any row is seen: rows that are all answered right would else ask
/// for a temperature of nought.
const PRIOR_SPREAD: f64 = 0.5;
/// Temperatures that are looked at, as ln T.
const RANGE: (f64, f64) = (-2.0, 3.0);
/// Points of the first look: the steps between them are finer than any second valley.
const POINTS: u32 = 51;
/// Halvings (by the golden section) of the interval around the best point.
const SECTIONS: u32 = 40;

/// What was found out about confidences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calibration {
    /// What scores before the Softmax are to be divided by.
    pub temperature: f64,
    /// Expected calibration error of the held-out rows as the model was.
    pub error_before: f64,
    /// The same with the temperature; for a given model by two halves of the held-out rows, each with the
    /// temperature of the other.
    pub error_after: f64,
    /// Whether the file's own probabilities are those with the temperature.
    pub folded: bool,
}

/// Scores as logarithms, a column for each class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logits {
    width: usize,
    values: Vec<f64>,
}

impl Logits {
    /// `None` for values of a regression, and for scores that are not finite.
    pub(super) fn new(kind: OutputKind, width: usize, scores: &[f32]) -> Option<Self> {
        let floor = f32::MIN_POSITIVE;
        let log = |share: f32| f64::from(share.max(floor).ln());
        let values: Vec<f64> = match (kind, width) {
            (OutputKind::Values, _) => return None,
            (OutputKind::Logits, 1) => scores.iter().flat_map(|score| [0.0, f64::from(*score)]).collect(),
            (OutputKind::Logits, _) => scores.iter().map(|score| f64::from(*score)).collect(),
            (OutputKind::Probabilities, 1) => {
                scores.iter().flat_map(|share| [log(1.0 - share), log(*share)]).collect()
            }
            (OutputKind::Probabilities, _) => scores.iter().map(|share| log(*share)).collect(),
        };
        let is_sound = scores.iter().all(|score| score.is_finite());
        is_sound.then_some(Self { width: width.max(2), values })
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }

    fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        let values = places.flat_map(|at| &self.values[at * self.width..(at + 1) * self.width]).copied();
        Self { width: self.width, values: values.collect() }
    }

    /// Sum of the negative log-likelihoods.
    fn surprise(&self, truth: &[u32], temperature: f64) -> f64 {
        let of = |(row, truth): (&[f64], &u32)| {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|score| ((score - most) / temperature).exp()).sum();
            sum.ln() - (row.get(*truth as usize).copied().unwrap_or(most) - most) / temperature
        };
        self.rows().zip(truth).map(of).sum()
    }

    /// The confidence of each row's answer, and whether it is right.
    fn confidences(&self, truth: &[u32], temperature: f64) -> Vec<(f64, bool)> {
        let of = |(row, truth): (&[f64], &u32)| {
            let best = (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
            let sum: f64 = row.iter().map(|score| ((score - row[best]) / temperature).exp()).sum();
            (1.0 / sum, best == *truth as usize)
        };
        self.rows().zip(truth).map(of).collect()
    }

    /// The temperature of the greatest likelihood times prior (ln T normal around nought); `None` for too
    /// few rows.
    pub(super) fn temperature(&self, truth: &[u32]) -> Option<f64> {
        if truth.len() < MIN_ROWS {
            return None;
        }
        let cost = |log: f64| self.surprise(truth, log.exp()) + 0.5 * (log / PRIOR_SPREAD).powi(2);
        let step = (RANGE.1 - RANGE.0) / f64::from(POINTS - 1);
        let points = (0..POINTS).map(|at| RANGE.0 + f64::from(at) * step);
        let best = points.min_by(|a, b| cost(*a).total_cmp(&cost(*b)))?;
        let (mut low, mut high) = (best - step, best + step);
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        for _ in 0..SECTIONS {
            let (left, right) = (high - golden * (high - low), low + golden * (high - low));
            if cost(left) < cost(right) { high = right } else { low = left }
        }
        Some(f64::midpoint(low, high).exp())
    }
}

/// Mean distance of confidence and share of right answers over bins of equal width, by their rows.
fn error(confidences: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (confidence, right) in confidences {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the bins")]
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += confidence;
        bins[bin].1 += f64::from(u8::from(*right));
    }
    bins.iter().map(|(sum, right)| (sum - right).abs()).sum::<f64>() / confidences.len().max(1) as f64
}

impl Calibration {
    /// Of a model fitted here, whose file holds the temperature already: held-out rows had no part in it.
    pub(super) fn folded(model: &Model, held_out: &Rows, temperature: f64) -> Option<Self> {
        let (logits, truth) = (model.logits()?, held_out.classes());
        let at = |temperature| error(&logits.confidences(truth, temperature));
        Some(Self { temperature, error_before: at(1.0 / temperature), error_after: at(1.0), folded: true })
    }

    /// Of a given model, whose file stays as it is.
    pub(super) fn of_given(model: &Model, held_out: &Rows) -> Option<Self> {
        Self::crosswise(&model.logits()?, held_out.classes())
    }

    fn crosswise(logits: &Logits, truth: &[u32]) -> Option<Self> {
        let temperature = logits.temperature(truth)?;
        let half = |first: usize| {
            let places = || (first..truth.len()).step_by(2);
            (logits.pick(places()), places().map(|at| truth[at]).collect::<Vec<_>>())
        };
        let halves = [half(0), half(1)];
        let mut after = Vec::new();
        for (mine, other) in [(0, 1), (1, 0)] {
            let learnt = halves[other].0.temperature(&halves[other].1).unwrap_or(temperature);
            after.extend(halves[mine].0.confidences(&halves[mine].1, learnt));
        }
        let error_before = error(&logits.confidences(truth, 1.0));
        Some(Self { temperature, error_before, error_after: error(&after), folded: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    /// Logits of three classes, `sharpness` times those by which the truth is drawn.
    fn drawn(rows: usize, sharpness: f64) -> (Logits, Vec<u32>) {
        let mut random = StdRng::seed_from_u64(5);
        let (mut values, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let row: [f64; 3] = std::array::from_fn(|_| random.random_range(-2.0..2.0));
            let shares = row.map(f64::exp);
            let mut left = random.random_range(0.0..shares.iter().sum());
            let class = shares.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            truth.push(u32::try_from(class.unwrap_or(2)).unwrap());
            values.extend(row.map(|score| score * sharpness));
        }
        (Logits { width: 3, values }, truth)
    }

    #[test]
    fn a_temperature_mends_too_much_and_too_little_confidence() {
        for sharpness in [4.0, 1.0, 0.5] {
            let (logits, truth) = drawn(4_000, sharpness);
            let found = Calibration::crosswise(&logits, &truth).unwrap();
            assert!((found.temperature / sharpness - 1.0).abs() < 0.1, "{sharpness}: {found:?}");
            assert!(found.error_after < 0.03, "{sharpness}: {found:?}");
            let worst = if sharpness == 1.0 { 0.0 } else { 0.1 };
            assert!(found.error_before >= worst, "{sharpness}: {found:?}");
        }
    }

    #[test]
    fn rows_that_are_all_right_do_not_ask_for_certainty() {
        let values = (0..40).flat_map(|_| [3.0, 0.0]).collect();
        let all_right = Logits { width: 2, values };
        let temperature = all_right.temperature(&[0; 40]).unwrap();
        assert!((0.3..1.0).contains(&temperature), "{temperature}");
        assert_eq!(all_right.temperature(&[0; 20]), None, "too few rows say nothing");
    }

    #[test]
    fn scores_of_every_kind_are_read() {
        use OutputKind::{Logits as L, Probabilities as P, Values};
        let of = |kind, width, scores: &[f32]| Logits::new(kind, width, scores);
        let confidence = |logits: Option<Logits>| logits.unwrap().confidences(&[1], 1.0)[0];
        for (kind, width, scores, expected) in
            [(P, 1, vec![0.75], 0.75), (P, 2, vec![0.25, 0.75], 0.75), (L, 1, vec![0.0], 0.5)]
        {
            assert!((confidence(of(kind, width, &scores)).0 - expected).abs() < 1e-6);
        }
        assert!(of(Values, 1, &[1.0]).is_none() && of(L, 2, &[f32::NAN, 0.0]).is_none());
        assert!(of(P, 2, &[0.0, 1.0]).unwrap().temperature(&[0; 30]).is_some_and(f64::is_finite));
    }
}
