//! A version on trial: it serves, and is judged on what comes.

use super::event::Labelled;
use super::gate::share;
use super::worse;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::RollbackReason;
use shoal_proto::fact::TrialPolicy;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Labels of a regression that are remembered, and below which its errors are not known.
const MOST_ERRORS: usize = 256;
const LEAST_ERRORS: usize = 20;
/// Failures that may be chance: fewer never end a trial.
const MIN_FAILURES: u64 = 3;

/// Whether more of all fail than may, and more than chance explains.
pub(super) fn fails(failures: u64, all: u64, allowed: f64) -> bool {
    failures >= MIN_FAILURES && share(failures, all) > allowed
}

/// What a trial has seen so far; survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Trial {
    /// Rows answered.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Labels for its own answers, and right ones among them.
    pub labels: (u64, u64),
    /// Labels for the champion's answers before it, and right ones among them.
    pub before: (u64, u64),
    /// Serving time of earlier lives of the process.
    pub served_before: Duration,
    /// Of a regression: how far off an answer may be to count as right, the median of the champion's last errors.
    #[serde(default)]
    pub tolerance: Option<f64>,
}

impl Trial {
    /// Whether an answer was right, where that can be said.
    #[must_use]
    pub fn right(&self, label: &Labelled) -> Option<bool> {
        label.correct().or_else(|| Some(label.error()? <= self.tolerance?))
    }
}

/// The absolute errors of the last labels of a champion that answers with numbers.
#[derive(Debug, Clone, Default)]
pub struct Errors(VecDeque<f64>);

impl Errors {
    /// Takes one.
    pub fn push(&mut self, error: f64) {
        if self.0.len() == MOST_ERRORS {
            self.0.pop_front();
        }
        // What is no number is as far off as can be.
        self.0.push_back(if error.is_nan() { f64::INFINITY } else { error });
    }

    /// A trial to be held against them: half of them are right by its tolerance. Few say nothing.
    #[must_use]
    pub fn trial(&self) -> Option<Trial> {
        if self.0.len() < LEAST_ERRORS {
            return None;
        }
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let tolerance = sorted[(sorted.len() - 1) / 2];
        let right = sorted.iter().filter(|error| **error <= tolerance).count() as u64;
        Some(Trial { before: (sorted.len() as u64, right), tolerance: Some(tolerance), ..Trial::default() })
    }
}

/// What a trial says.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialVerdict {
    /// Not yet.
    Waiting(TrialWaiting),
    /// It becomes the champion.
    Confirm,
    /// It is taken back.
    RollBack(RollbackReason),
}

/// What a trial waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialWaiting {
    /// More answers.
    Requests { have: u64, need: u64 },
    /// More labels, or the end of the time.
    Labels { have: u64, need: u64 },
    /// More labels: those there are speak against it, and not yet clearly.
    Doubt { labels: u64 },
}

impl fmt::Display for TrialWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { have, need } => write!(f, "{have} of {need} requests on trial"),
            Self::Labels { have, need } => write!(f, "{have} of {need} labels on trial"),
            Self::Doubt { labels } => {
                write!(f, "more labels on trial: {labels} speak against it, not yet beyond chance")
            }
        }
    }
}

impl Trial {
    /// Judges by what was seen in `served` time of serving.
    #[must_use]
    pub fn judge(&self, policy: &TrialPolicy, served: Duration) -> TrialVerdict {
        let (failures, requests) = (self.failures, self.requests + self.failures);
        if fails(failures, requests, policy.max_failure_share) {
            return TrialVerdict::RollBack(RollbackReason::Failures { failures, requests });
        }
        let log_e = worse::log_e(self.before, self.labels);
        if log_e >= -worse::alpha(policy.max_z).ln() {
            return TrialVerdict::RollBack(RollbackReason::WorseOnLabels {
                before: share(self.before.1, self.before.0),
                trial: share(self.labels.1, self.labels.0),
                labels: self.labels.0,
                z: worse::as_z(log_e),
                limit: policy.max_z,
                e: Some(log_e.exp()),
            });
        }
        let over = served >= Duration::from_secs(policy.max_s);
        if self.requests < policy.min_requests && !over {
            let (have, need) = (self.requests, policy.min_requests);
            return TrialVerdict::Waiting(TrialWaiting::Requests { have, need });
        }
        if self.labels.0 < policy.min_labels && !over {
            let (have, need) = (self.labels.0, policy.min_labels);
            return TrialVerdict::Waiting(TrialWaiting::Labels { have, need });
        }
        if worse::is_doubtful(self.before, self.labels) && !over {
            let labels = self.labels.0;
            return TrialVerdict::Waiting(TrialWaiting::Doubt { labels });
        }
        TrialVerdict::Confirm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regression_is_held_against_the_champions_own_errors() {
        let mut errors = Errors::default();
        (0..19).for_each(|error| errors.push(f64::from(error)));
        assert_eq!(errors.trial(), None, "too few to tell");
        (19..300).for_each(|error| errors.push(f64::from(error % 100)));
        errors.push(f64::NAN);
        let trial = errors.trial().unwrap();
        let tolerance = trial.tolerance.unwrap();
        assert!((40.0..60.0).contains(&tolerance) && trial.before.0 == 256, "{trial:?}");
        assert!((126..140).contains(&trial.before.1), "half of them: {trial:?}");
        let (policy, soon) = (TrialPolicy::default(), Duration::from_secs(1));
        let far = Trial { requests: 100, labels: (60, 12), ..trial };
        assert!(matches!(
            far.judge(&policy, soon),
            TrialVerdict::RollBack(RollbackReason::WorseOnLabels { .. })
        ));
        let near = Trial { requests: 100, labels: (60, 31), ..trial };
        assert_eq!(near.judge(&policy, soon), TrialVerdict::Confirm);
    }

    #[test]
    fn every_verdict() {
        let policy = TrialPolicy::default();
        let soon = Duration::from_secs(1);
        let late = Duration::from_secs(policy.max_s);
        let good = Trial { requests: 100, labels: (20, 19), before: (200, 180), ..Trial::default() };
        assert_eq!(good.judge(&policy, soon), TrialVerdict::Confirm);
        let few = Trial { requests: 99, ..good };
        assert!(matches!(few.judge(&policy, soon), TrialVerdict::Waiting(TrialWaiting::Requests { .. })));
        let unlabelled = Trial { labels: (19, 19), ..good };
        assert!(matches!(
            unlabelled.judge(&policy, soon),
            TrialVerdict::Waiting(TrialWaiting::Labels { .. })
        ));
        assert_eq!(unlabelled.judge(&policy, late), TrialVerdict::Confirm);
        let worse = Trial { labels: (20, 10), ..good };
        assert!(matches!(
            worse.judge(&policy, soon),
            TrialVerdict::RollBack(RollbackReason::WorseOnLabels { labels: 20, .. })
        ));
        let chance = Trial { labels: (20, 16), ..good };
        assert_eq!(chance.judge(&policy, soon), TrialVerdict::Confirm);
        let failing = Trial { failures: 3, ..good };
        assert!(matches!(
            failing.judge(&policy, soon),
            TrialVerdict::RollBack(RollbackReason::Failures { .. })
        ));
        let once = Trial { failures: 2, ..good };
        assert_eq!(once.judge(&policy, soon), TrialVerdict::Confirm);
        let doubtful = Trial { labels: (20, 14), ..good };
        assert!(matches!(
            doubtful.judge(&policy, soon),
            TrialVerdict::Waiting(TrialWaiting::Doubt { labels: 20 })
        ));
        assert_eq!(doubtful.judge(&policy, late), TrialVerdict::Confirm);
        let soon_clear = Trial { labels: (10, 1), requests: 10, ..good };
        assert!(matches!(
            soon_clear.judge(&policy, soon),
            TrialVerdict::RollBack(RollbackReason::WorseOnLabels { labels: 10, .. })
        ));
        let first = Trial { before: (0, 0), labels: (20, 3), ..good };
        assert_eq!(first.judge(&policy, soon), TrialVerdict::Confirm, "nothing to compare with");
    }
}
