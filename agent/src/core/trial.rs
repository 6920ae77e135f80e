//! A version on trial: it serves, and is judged on what comes.

use super::gate::share;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::RollbackReason;
use shoal_proto::fact::TrialPolicy;
use std::fmt;
use std::time::Duration;

/// Failures that may be chance: fewer never end a trial.
pub(super) const MIN_FAILURES: u64 = 3;

/// What a trial has seen so far; survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

impl fmt::Display for TrialWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { have, need } => write!(f, "{have} of {need} requests on trial"),
            Self::Labels { have, need } => write!(f, "{have} of {need} labels on trial"),
        }
    }
}

impl Trial {
    /// Judges by what was seen in `served` time of serving.
    #[must_use]
    pub fn judge(&self, policy: &TrialPolicy, served: Duration) -> TrialVerdict {
        if self.failures >= MIN_FAILURES
            && share(self.failures, self.requests + self.failures) > policy.max_failure_share
        {
            let (failures, requests) = (self.failures, self.requests + self.failures);
            return TrialVerdict::RollBack(RollbackReason::Failures { failures, requests });
        }
        let z = worse_z(self.before, self.labels);
        if self.labels.0 >= policy.min_labels.max(1) && z > policy.max_z {
            return TrialVerdict::RollBack(RollbackReason::WorseOnLabels {
                before: share(self.before.1, self.before.0),
                trial: share(self.labels.1, self.labels.0),
                labels: self.labels.0,
                z,
                limit: policy.max_z,
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
        TrialVerdict::Confirm
    }
}

/// Two-proportion z of "worse than before" with the pooled variance; zero without both sides.
fn worse_z(before: (u64, u64), trial: (u64, u64)) -> f64 {
    if before.0 == 0 || trial.0 == 0 {
        return 0.0;
    }
    let pooled = share(before.1 + trial.1, before.0 + trial.0);
    let variance = pooled * (1.0 - pooled) * (share(1, before.0) + share(1, trial.0));
    if variance <= 0.0 {
        return 0.0;
    }
    (share(before.1, before.0) - share(trial.1, trial.0)) / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let first = Trial { before: (0, 0), labels: (20, 3), ..good };
        assert_eq!(first.judge(&policy, soon), TrialVerdict::Confirm, "nothing to compare with");
    }
}
