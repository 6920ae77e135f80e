//! Performance without labels, from what confidence promises.
//!
//! CBPE (NannyML) for classifiers, direct loss estimation for regressions. **Blind to concept drift**: it sees
//! only changes that show in the inputs and so in the confidence. It is right as far as the package's
//! calibration holds for the rows that come: where confidence without a temperature is far from the truth and
//! rows move to confidences that few held-out rows had, the intervals are too narrow (see the tests).

use super::interval::{Measured, above, in_errors};
use super::reference::AnswerReference;
use super::window::AnswerWindow;
use serde::{Deserialize, Serialize};

/// What is to be expected of the answers of a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Share of right answers, with an interval for the share that labels of all rows would show: it holds the
    /// chance of so many rows and the doubt in the calibration.
    pub accuracy: Option<Measured>,
    /// Mean size of an error of a regression, with such an interval.
    pub mae: Option<Measured>,
    /// One a class; empty for many classes.
    pub classes: Vec<ClassEstimate>,
    /// Mean F1 over the classes that rows are expected of.
    pub f1: Option<f64>,
    /// What the same estimate was for the held-out rows.
    pub reference: Option<f64>,
    /// How many standard errors (of this window, of the reference and of the calibration) it is worse.
    pub z: Option<f64>,
    /// Probability of being so much worse with no change.
    pub p: Option<f64>,
    /// Whether the package holds a calibration; where not, confidence is taken at its word.
    pub is_calibrated: bool,
}

/// What is to be expected of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ClassEstimate {
    /// Of the rows answered so, the share that are; `None` of none.
    pub precision: Option<f64>,
    /// Of the rows that are so, the share answered so.
    pub recall: Option<f64>,
    /// Their harmonic mean.
    pub f1: Option<f64>,
    /// Rows that are so.
    pub rows: f64,
}

impl Estimate {
    /// The estimate of a window that was counted on a reference.
    #[must_use]
    pub fn of(window: &AnswerWindow, reference: &AnswerReference) -> Self {
        let calibration = reference.calibration();
        let is_calibrated = calibration.is_fitted();
        let n = window.bins.iter().sum::<u64>();
        let is_classifier = reference.classes() > 0;
        let mut estimate = Self { is_calibrated, ..Self::default() };
        if n == 0 || (!is_classifier && !is_calibrated) {
            return estimate;
        }
        let rows = n as f64;
        let (mean, square) = (window.expected.value() / rows, window.square.value() / rows);
        let scatter =
            if is_classifier { (mean - square).max(0.0) } else { calibration.scatter(&window.bins) };
        let error = (scatter / rows + calibration.variance(&window.bins, false)).sqrt();
        if is_classifier {
            estimate.accuracy = Measured::normal(mean, n, error, (0.0, 1.0));
            estimate.of_classes(window);
        } else {
            let unit = reference.unit();
            estimate.mae = Measured::normal(mean * unit, n, error * unit, (0.0, f64::INFINITY));
        }
        if let Some((held_out, expected, variance)) = reference.expected().and_then(|known| known.moments()) {
            let variance = variance.max(square - mean * mean);
            let variance =
                variance * (1.0 / rows + 1.0 / held_out) + calibration.variance(&window.bins, true);
            let worse = if is_classifier { expected - mean } else { mean - expected };
            let z = in_errors(worse, variance);
            estimate.reference = Some(if is_classifier { expected } else { expected * reference.unit() });
            (estimate.z, estimate.p) = (Some(z), Some(above(z)));
        }
        estimate
    }

    fn of_classes(&mut self, window: &AnswerWindow) {
        let answered = window.answered();
        self.classes = window
            .classes
            .iter()
            .zip(answered)
            .map(|(tally, answered)| {
                let (hits, mass, answered) = (tally.hits.value(), tally.mass.value(), answered as f64);
                let share = |of: f64| (of > 1e-6).then(|| (hits / of).min(1.0));
                ClassEstimate {
                    precision: share(answered),
                    recall: share(mass),
                    f1: (answered + mass > 1e-6).then(|| (2.0 * hits / (answered + mass)).min(1.0)),
                    rows: mass,
                }
            })
            .collect();
        let known: Vec<f64> =
            self.classes.iter().filter(|class| class.rows >= 1.0).filter_map(|class| class.f1).collect();
        self.f1 = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    }
}
