//! Errors on labelled predictions: a Bernoulli CUSUM against the error rate that was promised.
//!
//! The sums are those of log-likelihood ratios of odds twice and half the promised ones (an e-detector
//! after Shin, Ramdas and Rinaldo 2022): with no change, more than `1/α` labels pass on average before
//! a sum reaches `ln(1/α)`.

use serde::{Deserialize, Serialize};
use shoal_proto::baseline::PredictionBaseline;
use shoal_proto::summary::DriftLevel;

/// Odds of an error that are looked for: twice the promised ones.
const ODDS_RATIO: f64 = 2.0;
/// One false alarm in at least this many labels, by proof; in half a million or more, measured, where
/// the promise comes from ten thousand rows. Labels are rare, so delay is what costs: see the tests for both.
const LABELS_PER_FALSE_DRIFT: f64 = 10_000.0;
/// A sum this improbable at a window's close is a warning: one in about a thousand closes.
const CLOSES_PER_FALSE_WARNING: f64 = 1_000.0;
/// Labels from which the promise is taken where the package makes none.
const FIRST_LABELS: u64 = 100;
/// A sum stops growing at this many thresholds, so that it comes down when errors do.
const CAP: f64 = 2.0;
/// Labels that count as the recent past: what a trial is compared with.
pub(super) const RECENT: u64 = 256;
const WORDS: usize = 4;

/// What is known of the errors of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ErrorWatch {
    /// Error rate above which is worse, and below which is better than promised.
    promised: Option<(f64, f64)>,
    /// Labels and errors so far, while there is no promise.
    first: (u64, u64),
    worse: f64,
    better: f64,
    /// `worse` reached its threshold since the last close.
    crossed: bool,
    /// `better` did, in this window (`Some(true)`) or an earlier one; it is said once.
    improved: Option<bool>,
    /// The last right answers as bits, and how many labels there were.
    recent: [u64; WORDS],
    labels: u64,
}

/// What the errors say at a close: level, statistic, threshold.
pub(super) type Said = (DriftLevel, f64, f64);

impl ErrorWatch {
    pub(super) fn new(promised: Option<&PredictionBaseline>) -> Self {
        let promised = promised
            .filter(|reference| reference.labelled >= FIRST_LABELS)
            .map(|reference| rates(reference.labelled, reference.labelled.saturating_sub(reference.correct)));
        Self {
            promised,
            first: (0, 0),
            worse: 0.0,
            better: 0.0,
            crossed: false,
            improved: None,
            recent: [0; WORDS],
            labels: 0,
        }
    }

    pub(super) fn observe(&mut self, correct: bool) {
        let slot = usize::try_from(self.labels % RECENT).unwrap_or_default();
        let bit = 1_u64 << (slot % 64);
        self.recent[slot / 64] =
            if correct { self.recent[slot / 64] | bit } else { self.recent[slot / 64] & !bit };
        self.labels += 1;
        let Some((high, low)) = self.promised else {
            self.first = (self.first.0 + 1, self.first.1 + u64::from(!correct));
            if self.first.0 >= FIRST_LABELS {
                self.promised = Some(rates(self.first.0, self.first.1));
            }
            return;
        };
        let most = CAP * drift_at();
        self.worse = (self.worse + step(high, ODDS_RATIO, correct)).clamp(0.0, most);
        self.better = (self.better + step(low, 1.0 / ODDS_RATIO, correct)).clamp(0.0, most);
        self.crossed |= self.worse >= drift_at();
        if self.better >= drift_at() && self.improved.is_none() {
            self.improved = Some(true);
        }
    }

    /// The level at this moment: what need not wait for a close.
    pub(super) fn level(&self) -> DriftLevel {
        if self.crossed { DriftLevel::Drift } else { DriftLevel::Stable }
    }

    /// (labels, right) of the recent past.
    pub(super) fn recent(&self) -> (u64, u64) {
        let right = self.recent.iter().map(|word| u64::from(word.count_ones())).sum();
        (self.labels.min(RECENT), right)
    }

    /// Says what was found and begins the next window. Fewer errors than promised are said once, with
    /// negative numbers, as a warning.
    pub(super) fn close(&mut self) -> Option<Said> {
        let warn_at = CLOSES_PER_FALSE_WARNING.ln();
        let said = if self.crossed {
            Some((DriftLevel::Drift, self.worse.max(drift_at()), drift_at()))
        } else if self.worse >= warn_at {
            Some((DriftLevel::Warning, self.worse, warn_at))
        } else if self.improved == Some(true) {
            Some((DriftLevel::Warning, -self.better, -drift_at()))
        } else {
            None
        };
        self.crossed = self.worse >= drift_at();
        self.improved = self.improved.map(|_| false);
        said
    }
}

fn drift_at() -> f64 {
    LABELS_PER_FALSE_DRIFT.ln()
}

/// The promised error rate, one standard error up and down: a promise from a hundred rows is not held
/// to the third digit.
fn rates(labels: u64, errors: u64) -> (f64, f64) {
    let n = labels as f64 + 1.0;
    let rate = (errors as f64 + 0.5) / n;
    let error = (rate * (1.0 - rate) / n).sqrt();
    let legal = |p: f64| p.clamp(0.5 / n, 1.0 - 0.5 / n);
    (legal(rate + error), legal(rate - error))
}

/// The log-likelihood ratio of one label.
fn step(rate: f64, odds: f64, correct: bool) -> f64 {
    let other = odds * rate / (1.0 - rate + odds * rate);
    if correct { ((1.0 - other) / (1.0 - rate)).ln() } else { (other / rate).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    fn promised(percent: u64) -> ErrorWatch {
        let correct = 10_000 - percent * 100;
        ErrorWatch::new(Some(&PredictionBaseline {
            labelled: 10_000,
            correct,
            ..PredictionBaseline::default()
        }))
    }

    fn delay(watch: &mut ErrorWatch, rng: &mut StdRng, rate: f64, most: u64) -> Option<u64> {
        (1..=most).find(|_| {
            watch.observe(!rng.random_bool(rate));
            watch.level() == DriftLevel::Drift
        })
    }

    #[test]
    fn delays_and_false_alarms_are_bounded() {
        let mut rng = StdRng::seed_from_u64(1);
        for (to, bound) in [(0.3, 110), (0.2, 300)] {
            let mut delays: Vec<u64> = (0..200)
                .map(|_| {
                    let mut watch = promised(10);
                    delay(&mut watch, &mut rng, 0.1, 1_000);
                    delay(&mut watch, &mut rng, to, 5_000).expect("found within 5,000 labels")
                })
                .collect();
            delays.sort_unstable();
            println!("0.1 -> {to}: median {} p95 {}", delays[100], delays[190]);
            assert!(delays[100] <= bound);
        }
        for percent in [2_u32, 10, 30] {
            let rate = f64::from(percent) / 100.0;
            let alarms = (0..20)
                .filter(|_| delay(&mut promised(percent.into()), &mut rng, rate, 50_000).is_some())
                .count();
            println!("promised {rate}: {alarms} false alarms in 20 streams of 50,000 labels");
            assert!(alarms <= 6);
        }
    }

    #[test]
    fn a_promise_is_learned_from_the_first_labels() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut watch = ErrorWatch::new(None);
        assert_eq!(delay(&mut watch, &mut rng, 0.1, 1_000), None);
        assert!(delay(&mut watch, &mut rng, 0.5, 200).is_some());
    }

    #[test]
    fn fewer_errors_are_said_once_and_drift_ends_when_errors_do() {
        let mut watch = promised(30);
        for _ in 0..200 {
            watch.observe(true);
        }
        let said = watch.close().unwrap();
        assert!(said.0 == DriftLevel::Warning && said.1 < 0.0);
        for _ in 0..200 {
            watch.observe(true);
        }
        assert_eq!(watch.close(), None);
        for _ in 0..400 {
            watch.observe(false);
        }
        assert_eq!(watch.close().unwrap().0, DriftLevel::Drift);
        for _ in 0..400 {
            watch.observe(true);
        }
        assert_eq!(watch.close().unwrap().0, DriftLevel::Drift, "the window in which it stood above");
        assert_eq!((watch.close(), watch.level()), (None, DriftLevel::Stable));
    }

    #[test]
    fn the_recent_past_slides() {
        let mut watch = ErrorWatch::new(None);
        for _ in 0..RECENT {
            watch.observe(true);
        }
        assert_eq!(watch.recent(), (256, 256));
        for _ in 0..100 {
            watch.observe(false);
        }
        assert_eq!(watch.recent(), (256, 156));
    }
}
