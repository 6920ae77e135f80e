//! A candidate in the shadow: it answers live rows beside the version that serves, and is heard by nobody.
//!
//! What fails, stalls or is slow there has hurt no application. Labels of live rows are held against both answers:
//! a sequential sign test on the rows that only one of them got right (a mixture of bets on all shares above one
//! half, an e-process by Ville's inequality) may be looked at after each. That answers differ is no fault in itself,
//! since a candidate is there to mend some; where they differ more than they did on the held-out rows, the shadow
//! lasts its whole time, for labels to come.

use super::gate::{count, share, usual_row_us};
use super::trial::fails;
use super::worse;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{Rejection, ShadowSeen};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::manifest::GatePolicy;
use statrs::function::beta::{beta_reg, ln_beta};
use std::fmt;
use std::time::Duration;

/// What a shadow has seen so far; survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shadow {
    /// What it showed.
    pub seen: ShadowSeen,
    /// Held-out rows, and those among them to which both named the same class; noughts where no gate looked.
    pub held_out: (u64, u64),
    /// Time in the shadow in earlier lives of the process.
    pub stood_before: Duration,
}

/// What a shadow says.
#[derive(Debug, Clone, PartialEq)]
pub enum ShadowVerdict {
    /// Not yet.
    Waiting(ShadowWaiting),
    /// It may go on trial.
    Pass,
    /// It never serves.
    Reject(Rejection),
}

/// What a shadow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowWaiting {
    /// More rows, or the end of the time.
    Rows { have: u64, need: u64 },
    /// Labels, or the end of the time: answers differ more than they did on the held-out rows.
    Differing { differing: u64, rows: u64 },
}

impl fmt::Display for ShadowWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { have, need } => write!(f, "{have} of {need} rows in the shadow"),
            Self::Differing { differing, rows } => {
                write!(f, "labels in the shadow: {differing} of {rows} answers differ from those served")
            }
        }
    }
}

impl Shadow {
    /// Judges by what was seen in `stood` time.
    #[must_use]
    pub fn judge(&self, policy: &TrialPolicy, stood: Duration) -> ShadowVerdict {
        let ShadowSeen { rows, failures, compared, agreed, only_served, only_shadow, .. } = self.seen;
        if fails(failures, rows, policy.max_failure_share) {
            return ShadowVerdict::Reject(Rejection::FailsInShadow { failures, rows });
        }
        let (log_e, limit) = (log_e(only_served, only_shadow), 1.0 / worse::alpha(policy.max_z));
        if log_e >= limit.ln() {
            let e = log_e.exp();
            return ShadowVerdict::Reject(Rejection::WorseInShadow { only_served, only_shadow, e, limit });
        }
        if rows < policy.shadow_requests && stood < Duration::from_secs(policy.shadow_max_s) {
            return ShadowVerdict::Waiting(ShadowWaiting::Rows { have: rows, need: policy.shadow_requests });
        }
        let differing = compared.saturating_sub(agreed);
        let (part, allowed) = (share(differing, compared), policy.shadow_max_differing);
        if compared > 0 && part > allowed {
            return ShadowVerdict::Reject(Rejection::DiffersInShadow {
                share: part,
                rows: compared,
                allowed,
            });
        }
        let is_over = stood >= Duration::from_secs(policy.shadow_max_s);
        if !is_over && worse::is_doubtful(self.held_out, (compared, agreed)) && only_shadow <= only_served {
            return ShadowVerdict::Waiting(ShadowWaiting::Differing { differing, rows: compared });
        }
        ShadowVerdict::Pass
    }
}

/// Whether a candidate takes too long for a row, from microseconds of the served version's and its own.
#[must_use]
pub fn too_slow((champion_us, candidate_us): (f64, f64), policy: &GatePolicy) -> Option<Rejection> {
    let allowed_us = policy.max_row_us.unwrap_or_else(|| usual_row_us(champion_us));
    (candidate_us > allowed_us).then_some(Rejection::TooSlow { champion_us, candidate_us, allowed_us })
}

/// The logarithm of the e-value against "of the rows that only one got right, no more than half are the served
/// version's": the mean likelihood ratio over all shares from one half to one.
fn log_e(only_served: u64, only_shadow: u64) -> f64 {
    let rows = only_served + only_shadow;
    if rows == 0 {
        return 0.0;
    }
    let (a, b) = (count(only_served) + 1.0, count(only_shadow) + 1.0);
    // Of the Beta function from one half to one: by symmetry that from nought to one half with its ends changed.
    let above_half = beta_reg(b, a, 0.5).max(f64::MIN_POSITIVE);
    count(rows + 1) * std::f64::consts::LN_2 + ln_beta(a, b) + above_half.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    #[test]
    fn every_verdict() {
        let policy = TrialPolicy::default();
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(policy.shadow_max_s));
        let seen = ShadowSeen { rows: 50, compared: 50, agreed: 40, ..ShadowSeen::default() };
        let good = Shadow { seen, held_out: (100, 80), ..Shadow::default() };
        let of = |seen| Shadow { seen, ..good };
        assert_eq!(good.judge(&policy, soon), ShadowVerdict::Pass);
        let few = of(ShadowSeen { rows: 49, ..seen });
        assert_eq!(
            few.judge(&policy, soon),
            ShadowVerdict::Waiting(ShadowWaiting::Rows { have: 49, need: 50 })
        );
        assert_eq!(few.judge(&policy, late), ShadowVerdict::Pass);
        let failing = of(ShadowSeen { rows: 10, failures: 3, ..seen });
        let no = Rejection::FailsInShadow { failures: 3, rows: 10 };
        assert_eq!(failing.judge(&policy, soon), ShadowVerdict::Reject(no));
        let unlike = of(ShadowSeen { agreed: 15, ..seen });
        let waits = ShadowVerdict::Waiting(ShadowWaiting::Differing { differing: 35, rows: 50 });
        assert_eq!(unlike.judge(&policy, soon), waits);
        assert_eq!(unlike.judge(&policy, late), ShadowVerdict::Pass);
        let helped = of(ShadowSeen { labels: 5, only_shadow: 4, only_served: 1, ..unlike.seen });
        assert_eq!(helped.judge(&policy, soon), ShadowVerdict::Pass, "labels speak for it");
        let ungated = Shadow { held_out: (0, 0), ..unlike };
        assert_eq!(ungated.judge(&policy, soon), ShadowVerdict::Pass, "nothing to compare with");
        let strict = TrialPolicy { shadow_max_differing: 0.5, ..policy };
        assert!(matches!(
            unlike.judge(&strict, soon),
            ShadowVerdict::Reject(Rejection::DiffersInShadow { rows: 50, .. })
        ));
        let worse = of(ShadowSeen { rows: 9, labels: 9, only_served: 9, ..seen });
        assert!(matches!(
            worse.judge(&policy, soon),
            ShadowVerdict::Reject(Rejection::WorseInShadow { only_served: 9, .. })
        ));
        let once_right = of(ShadowSeen { rows: 10, labels: 10, only_served: 9, only_shadow: 1, ..seen });
        assert!(matches!(once_right.judge(&policy, soon), ShadowVerdict::Waiting(_)));
    }

    #[test]
    fn the_sign_test_keeps_its_level_at_every_look() {
        let limit = 100_f64.ln();
        let mut random = StdRng::seed_from_u64(5);
        let unjust = (0..2_000).filter(|_| {
            let mut served = 0;
            (1..=200_u64).any(|rows| {
                served += u64::from(random.random_bool(0.5));
                log_e(served, rows - served) >= limit
            })
        });
        let unjust = unjust.count();
        assert!(unjust <= 20, "{unjust} of 2000 equal candidates were refused");
        let mut delays: Vec<u64> = (0..400)
            .map(|_| {
                let mut served = 0;
                let found = (1..=500_u64).find(|rows| {
                    served += u64::from(random.random_bool(0.9));
                    log_e(served, rows - served) >= limit
                });
                found.unwrap_or(500)
            })
            .collect();
        delays.sort_unstable();
        assert!(delays[200] <= 20, "median of {} rows", delays[200]);
    }

    #[test]
    fn the_e_value_is_the_integral() {
        for (served, shadow) in [(9, 0), (3, 2), (0, 7), (40, 10)] {
            let steps = 20_000;
            let sum: f64 = (0..steps)
                .map(|at| {
                    let p = 0.5 + 0.5 * (f64::from(at) + 0.5) / f64::from(steps);
                    (count(served) * (2.0 * p).ln() + count(shadow) * (2.0 * (1.0 - p)).ln()).exp()
                })
                .sum();
            let mean = (sum / f64::from(steps)).ln();
            assert!((log_e(served, shadow) - mean).abs() < 1e-4, "{served} {shadow}: {mean}");
        }
        assert_eq!(log_e(0, 0), 0.0);
        assert!(log_e(0, 100_000).is_finite() && log_e(100_000, 0) > 1_000.0);
    }

    #[test]
    fn slow_is_what_the_gate_calls_slow() {
        assert_eq!(too_slow((100.0, 199.0), &GatePolicy::default()), None);
        assert!(too_slow((100.0, 201.0), &GatePolicy::default()).is_some());
        let strict = GatePolicy { max_row_us: Some(50.0), ..GatePolicy::default() };
        assert!(too_slow((100.0, 60.0), &strict).is_some());
    }
}
