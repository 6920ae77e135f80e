//! Whether a version on trial is worse than the one before it: a test that may be looked at after every label.
//!
//! Tests: the share of right answers on trial is no lower than in the record of the version before. The e-value is
//! a likelihood ratio in the manner of universal inference (Wasserman, Ramdas and Balakrishnan 2020): above stands
//! what was bet before each label came, below the best that any two shares in that order can do for both records.
//! So the chance that it ever reaches `1 / alpha` without a loss is at most `alpha` over the whole trial, whatever
//! the shares are, and a short record of the version before, which many shares explain, condemns nothing. Blind
//! to which rows are wrong, and to a world that changed between the two records: both are held to be one.

use super::gate::count;
use statrs::function::erf::{erfc, erfc_inv};
use statrs::function::gamma::ln_gamma;

/// Twice the log-likelihood that speaks against a version when one good version in twenty is doubted once.
const DOUBT: f64 = 2.706;
/// Odds of an error that are bet on, as multiples of those before: a model that lost something, one that lost half,
/// and one that lost its way. At 0.9 before these are 0.75, 0.53 and 0.23. Beside them stands a bet on whatever the
/// labels so far show, so that what is worse than any of these is found too.
const ODDS: [f64; 3] = [3.0, 8.0, 30.0];

/// The logarithm of the e-value against "no worse than before", from (labels, right) of both.
#[must_use]
pub(super) fn log_e(before: (u64, u64), trial: (u64, u64)) -> f64 {
    let ((n, k), (m, j)) = ((before.0, before.1.min(before.0)), (trial.0, trial.1.min(trial.0)));
    if n == 0 || m == 0 {
        return 0.0;
    }
    let errors = (count(n - k) + 0.5) / (count(n) + 1.0);
    let mut bets = [predicted(m, j); ODDS.len() + 1];
    for (bet, odds) in bets.iter_mut().zip(ODDS) {
        let other = odds * errors / (1.0 - errors + odds * errors);
        *bet = count(j) * (1.0 - other).ln() + count(m - j) * other.ln();
    }
    let highest = bets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = bets.iter().map(|bet| (bet - highest).exp()).sum::<f64>() / count(bets.len() as u64);
    let best = if is_lower((n, k), (m, j)) { best(n + m, k + j) } else { best(n, k) + best(m, j) };
    predicted(n, k) + highest + mean.ln() - best
}

/// Whether what there is speaks against the version on trial, if not beyond chance: reason to wait, and no more.
#[must_use]
pub(super) fn is_doubtful(before: (u64, u64), trial: (u64, u64)) -> bool {
    let ((n, k), (m, j)) = (before, trial);
    n > 0 && is_lower(before, trial) && 2.0 * (best(n, k) + best(m, j) - best(n + m, k + j)) > DOUBT
}

fn is_lower((n, k): (u64, u64), (m, j): (u64, u64)) -> bool {
    count(j) * count(n) < count(k) * count(m)
}

/// The chance of an unjust end that a policy's `max_z` allows: the one-sided normal tail beyond it.
#[must_use]
pub(super) fn alpha(z: f64) -> f64 {
    (0.5 * erfc(z / std::f64::consts::SQRT_2)).clamp(1e-300, 1.0)
}

/// An e-value in the terms of [`alpha`]: the quantile whose tail is its inverse.
#[must_use]
pub(super) fn as_z(log_e: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * (-log_e.clamp(0.0, 600.0)).exp())
}

/// The logarithm of the highest likelihood that one share gives to a record.
fn best(n: u64, k: u64) -> f64 {
    let of = |part: u64| if part == 0 { 0.0 } else { count(part) * (count(part) / count(n)).ln() };
    of(k) + of(n - k)
}

/// The logarithm of the probability of a record, each label foretold from those before it (Krichevsky and Trofimov
/// 1981): at most half the logarithm of its length below the best, and a little.
fn predicted(n: u64, k: u64) -> f64 {
    let rising = |part: u64| ln_gamma(count(part) + 0.5) - ln_gamma(0.5);
    rising(k) + rising(n - k) - ln_gamma(count(n) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    /// Labels until the test ends the trial, at most `most`.
    fn until(random: &mut StdRng, (n, p): (u64, f64), now: f64, most: u64) -> Option<u64> {
        let before = (0..n).filter(|_| random.random_bool(p)).count() as u64;
        let mut right = 0;
        (1..=most).find(|labels| {
            right += u64::from(random.random_bool(now));
            log_e((n, before), (*labels, right)) >= -alpha(2.33).ln()
        })
    }

    #[test]
    fn equal_shares_end_no_more_trials_than_stated() {
        for before in [(20, 0.9), (256, 0.5), (256, 0.9), (256, 0.99)] {
            let mut random = StdRng::seed_from_u64(before.0);
            let ended = (0..1_000).filter(|_| until(&mut random, before, before.1, 300).is_some()).count();
            assert!(ended <= 10, "{before:?}: {ended} of 1000 trials ended");
        }
    }

    #[test]
    fn a_loss_is_found_soon() {
        for (before, now, most) in [((256, 0.9), 0.5, 22), ((256, 0.99), 0.7, 22), ((100, 0.9), 0.3, 15)] {
            let mut random = StdRng::seed_from_u64(7);
            let mut ends: Vec<u64> =
                (0..400).map(|_| until(&mut random, before, now, 300).unwrap_or(300)).collect();
            ends.sort_unstable();
            assert!(ends[200] <= most, "{before:?} {now}: median of {} labels", ends[200]);
        }
    }

    #[test]
    fn short_records_condemn_nothing_and_equal_ones_speak_for_the_version() {
        for (before, trial) in
            [((0, 0), (300, 0)), ((1, 1), (300, 0)), ((3, 3), (6, 0)), ((256, 250), (2, 0))]
        {
            assert!(
                log_e(before, trial) < -alpha(2.33).ln(),
                "{before:?} {trial:?} {}",
                log_e(before, trial)
            );
        }
        for (before, trial) in [((200, 180), (20, 18)), ((200, 180), (20, 16)), ((200, 100), (20, 20))] {
            assert!(log_e(before, trial) < 0.0, "{before:?} {trial:?} {}", log_e(before, trial));
            assert!(!is_doubtful(before, trial), "{before:?} {trial:?}");
        }
        assert!(is_doubtful((200, 180), (20, 14)) && !is_doubtful((0, 0), (20, 0)));
        assert!(log_e((10, 10), (300, 0)) > 30.0, "what is far worse than any bet");
    }

    #[test]
    fn limits_are_those_of_the_normal_table() {
        for (z, tail) in [(1.644_854, 0.05), (2.326_348, 0.01), (3.0, 0.001_35)] {
            assert!((alpha(z) - tail).abs() < 1e-5 && (as_z(-alpha(z).ln()) - z).abs() < 1e-6, "{z}");
        }
    }
}
