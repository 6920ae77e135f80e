//! Tests of two versions on the same rows.

use statrs::function::erf::{erfc, erfc_inv};

/// The normal quantile that 95 % lie below: what "certain" means of a gain.
const CERTAIN: f64 = 1.644_854;
/// The normal quantile of the power with which a difference shall be seen: 0.8.
const POWER: f64 = 0.841_621;
/// Rows beyond which no number is told: nobody gives so many labels to one run.
const MOST_ROWS: f64 = 1e5;

/// A share of counts; zero of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    count(part) / count(whole.max(1))
}

/// McNemar's exact one-sided test: the chance of `better` or more heads among all discordant rows,
/// were both versions equally good.
pub(super) fn mcnemar(better: u64, worse: u64) -> f64 {
    // Summed in logarithms: 2^-n underflows beyond a thousand discordant rows.
    let n = count(better + worse);
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for tails in 0..=worse {
        let k = count(tails);
        if tails > 0 {
            log_choose += ((n - k + 1.0) / k).ln();
        }
        tail += (log_choose - n * std::f64::consts::LN_2).exp();
    }
    tail.min(1.0)
}

/// The part of the normal law beyond `z`.
pub(super) fn above(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// Rows on which, at the rates seen in `rows`, McNemar's test at `level` would say "better" four times in five
/// (Connor 1987); `None` where the rates do not say "better", or so little that no number is of use.
pub(super) fn rows_to_decide(rows: u64, better: u64, worse: u64, level: f64) -> Option<u64> {
    let (up, down) = (share(better, rows), share(worse, rows));
    let (gain, discordant) = (up - down, up + down);
    if gain <= 0.0 {
        return None;
    }
    let root = quantile(level) * discordant.sqrt() + POWER * (discordant - gain * gain).max(0.0).sqrt();
    whole((root / gain).powi(2))
}

/// The same of a test whose statistic grows with the root of the rows.
pub(super) fn rows_for_z(rows: u64, z: f64, level: f64) -> Option<u64> {
    if z > 0.0 { whole(count(rows) * ((quantile(level) + POWER) / z).powi(2)) } else { None }
}

/// The gain of the mean recall of all classes that is certain at 95 %, from (rows, only the candidate right, only
/// the champion right) of each; a row of each kind is added to the spread, which is nought at the ends otherwise.
pub(super) fn certain_gain(classes: impl Iterator<Item = (u64, u64, u64)>) -> f64 {
    let (mut gain, mut variance, mut number) = (0.0, 0.0, 0.0);
    for (rows, better, worse) in classes.filter(|class| class.0 > 0) {
        let change = share(better, rows) - share(worse, rows);
        let discordant = (count(better + worse) + 1.0) / (count(rows) + 1.0);
        gain += change;
        variance += (discordant - change * change).max(0.0) / count(rows);
        number += 1.0;
    }
    if number > 0.0 { (gain - CERTAIN * variance.sqrt()) / number } else { 0.0 }
}

/// The normal quantile with `tail` beyond it.
fn quantile(tail: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * tail.clamp(1e-12, 1.0))
}

fn whole(rows: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most MOST_ROWS, and not below 0"
    )]
    let whole = rows.clamp(0.0, MOST_ROWS).ceil() as u64;
    (rows < MOST_ROWS).then_some(whole)
}

#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
pub(in crate::core) fn count(rows: u64) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_equals_the_binomial_tail() {
        for (better, worse, p) in [(5, 0, 0.03125), (5, 1, 0.109_375), (10, 2, 0.019_287_109), (0, 0, 1.0)] {
            assert!(
                (mcnemar(better, worse) - p).abs() < 1e-8,
                "{better} {worse}: {}",
                mcnemar(better, worse)
            );
        }
        assert!(mcnemar(3_000, 2_000) < 1e-40);
        assert!(mcnemar(2_000, 3_000) > 0.999);
    }

    #[test]
    fn rows_that_would_decide() {
        // Connor 1987: 0.2 against 0.1 discordant, one-sided 5 %, power 0.8: 184 rows.
        assert_eq!(rows_to_decide(100, 20, 10, 0.05), Some(184));
        assert_eq!(rows_to_decide(60, 12, 6, 0.05), Some(184), "rates, not rows");
        assert_eq!(rows_to_decide(60, 6, 6, 0.05), None);
        assert_eq!(rows_to_decide(60, 0, 0, 0.05), None);
        assert_eq!(rows_to_decide(100_000, 1_001, 1_000, 0.05), None, "too many to ask for");
        assert_eq!(rows_for_z(100, 1.243, 0.05), Some(401));
        assert_eq!(rows_for_z(100, -1.0, 0.05), None);
    }

    #[test]
    fn a_gain_is_certain_only_beyond_its_spread() {
        let few = [(10, 3, 1), (10, 3, 1)];
        let many = [(1_000, 300, 100), (1_000, 300, 100)];
        assert!(certain_gain(few.into_iter()) < 0.05);
        assert!((certain_gain(many.into_iter()) - 0.2).abs() < 0.03);
        assert_eq!(certain_gain([(0, 0, 0)].into_iter()), 0.0);
    }
}
