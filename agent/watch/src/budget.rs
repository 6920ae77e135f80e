//! How rarely a model's monitors may be wrong, all together, and what each of them may take of it.
//!
//! With nothing changed, all monitors of a model together say Drift at most once in thirty days at a row
//! a second, and a warning at most once in a week. The rates hold for rows that are draws of the reference
//! like its own, independent of each other or dependent as far as its `spacing` says: a window shorter than
//! the period of its signal truly differs from the reference, and is said to.

use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

/// Rows of thirty days at one a second.
pub const ROWS_A_MONTH: f64 = 2_592_000.0;
/// Rows of a week at one a second.
pub const ROWS_A_WEEK: f64 = 604_800.0;
/// Hourly windows of thirty days.
const WINDOWS_A_MONTH: f64 = 720.0;
/// Hourly windows of a week.
const WINDOWS_A_WEEK: f64 = 168.0;

/// Shares of the one false finding, by kind; those that are not named find what cannot be by chance.
const SHARES: [(Monitor, f64); 22] = [
    (Monitor::Feature, 0.15),
    (Monitor::Category, 0.05),
    (Monitor::Missing, 0.03),
    (Monitor::Range, 0.03),
    (Monitor::Infinite, 0.02),
    (Monitor::Unseen, 0.02),
    (Monitor::Duplicate, 0.01),
    (Monitor::Schema, 0.01),
    (Monitor::Stuck, 0.03),
    (Monitor::Scale, 0.03),
    (Monitor::Interval, 0.02),
    (Monitor::Location, 0.10),
    (Monitor::Spread, 0.10),
    (Monitor::Joint, 0.04),
    (Monitor::Reconstruction, 0.04),
    (Monitor::Embedding, 0.02),
    (Monitor::Outlier, 0.03),
    (Monitor::Prediction, 0.08),
    (Monitor::Estimate, 0.04),
    (Monitor::Calibration, 0.03),
    (Monitor::Parity, 0.02),
    (Monitor::Opportunity, 0.02),
];
/// Shares of detectors of labels: there is one of each, and labels are at most as many as rows.
const OF_LABELS: f64 = 0.08;

/// What a kind of monitor may take of the one false finding.
#[must_use]
pub fn share(monitor: Monitor) -> f64 {
    SHARES.iter().find(|(kind, _)| *kind == monitor).map_or(OF_LABELS, |(_, share)| *share)
}

/// What a sequential detector's statistic must reach: logarithms of run lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heights {
    pub(crate) drift: f64,
    pub(crate) warning: f64,
}

impl Heights {
    /// Of one of `alike` detectors of a kind.
    pub(crate) fn new(monitor: Monitor, alike: usize) -> Self {
        let alike = alike.max(1) as f64 / share(monitor);
        Self { drift: (ROWS_A_MONTH * alike).ln(), warning: (ROWS_A_WEEK * alike).ln() }
    }

    /// The level that a statistic reaches.
    pub(crate) fn level(self, log_e: f64) -> DriftLevel {
        if log_e >= self.drift {
            DriftLevel::Drift
        } else if log_e >= self.warning {
            DriftLevel::Warning
        } else {
            DriftLevel::Stable
        }
    }

    /// What had to be reached for a level.
    pub(crate) fn of(self, level: DriftLevel) -> f64 {
        if level == DriftLevel::Drift { self.drift } else { self.warning }
    }
}

/// The probability of a false finding that one window's tests of a kind may have together: of Drift, of a
/// warning.
#[must_use]
pub fn a_window(monitor: Monitor) -> (f64, f64) {
    let share = share(monitor);
    (share / WINDOWS_A_MONTH, share / WINDOWS_A_WEEK)
}

/// With nothing changed, once in how many of the monitor's trials all of its kind together say this level.
#[must_use]
pub fn one_false_in(monitor: Monitor, level: DriftLevel) -> f64 {
    use shoal_proto::finding::Trials;
    let drift = level == DriftLevel::Drift;
    let trials = match monitor.trials() {
        Trials::Windows => [WINDOWS_A_WEEK, WINDOWS_A_MONTH],
        Trials::Rows | Trials::Labels => [ROWS_A_WEEK, ROWS_A_MONTH],
    };
    trials[usize::from(drift)] / share(monitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_one_false_finding_at_most() {
        let labels = 3.0 * OF_LABELS; // errors, their mean, and residuals: a model has two of them at most
        let total: f64 = SHARES.iter().map(|(_, share)| share).sum::<f64>() + labels;
        println!("{total:.2} false findings of Drift in a month at most");
        assert!(total <= 1.2, "{total}"); // no model has all: a classifier has no residuals
        let heights = Heights::new(Monitor::Location, 20);
        assert!((heights.drift - (2_592_000.0_f64 * 200.0).ln()).abs() < 1e-9);
        assert_eq!(heights.level(heights.warning), DriftLevel::Warning);
        assert!((one_false_in(Monitor::Feature, DriftLevel::Drift) - 4_800.0).abs() < 1e-9);
    }
}
