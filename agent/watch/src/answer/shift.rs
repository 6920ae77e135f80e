//! Two histograms held against each other: PSI with its distribution under no change, and the exact
//! test of two rates.

use statrs::distribution::{ChiSquared, ContinuousCDF as _, Discrete as _, Hypergeometric};

/// Rows that a bin must be expected to hold in the reference and in the window. Below it bins are
/// joined, since PSI has a heavier tail than chi-square on fewer: with 15, windows of 60 rows gave twice
/// the stated false alarms.
const MIN_EXPECTED: f64 = 20.0;
/// Added to every count, so that an empty bin is no infinite surprise.
const SMOOTHING: f64 = 0.5;
/// Terms of a tail smaller than this share of its sum change nothing.
const NEGLIGIBLE: f64 = 1e-12;

/// How far a window's histogram stands from the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shift {
    /// Population stability index, `Σ (q-p) ln(q/p)`.
    pub(super) psi: f64,
    /// What PSI is on average with no change: `(bins-1)(1/n + 1/m)`.
    pub(super) bias: f64,
    /// Probability of such a PSI, or a greater one, with no change.
    pub(super) p: f64,
}

impl Shift {
    /// The shift of a window; `None` where there are fewer than two bins to compare.
    ///
    /// `PSI · nm/(n+m)` is chi-square with `bins - 1` degrees of freedom under no change (n rows of
    /// reference, m of window).
    pub(super) fn between(reference: &[u64], window: &[u64]) -> Option<Self> {
        let bins = reference.len();
        let (n, m) = (total(reference), total(window));
        if bins < 2 || n == 0.0 || m == 0.0 {
            return None;
        }
        let smooth = |count: u64, rows: f64| (count as f64 + SMOOTHING) / (rows + SMOOTHING * bins as f64);
        let psi = reference.iter().zip(window).map(|(r, w)| {
            let (p, q) = (smooth(*r, n), smooth(*w, m));
            (q - p) * (q / p).ln()
        });
        let (psi, scale, freedom) = (psi.sum::<f64>(), n * m / (n + m), (bins - 1) as f64);
        let p = ChiSquared::new(freedom).ok()?.sf(psi * scale);
        Some(Self { psi, bias: freedom / scale, p })
    }
}

pub(super) fn total(counts: &[u64]) -> f64 {
    counts.iter().sum::<u64>() as f64
}

/// Neighbouring bins joined until each is expected to hold [`MIN_EXPECTED`] rows on both sides. The
/// choice looks at the reference and the window's size, never at the window's counts.
pub(super) fn join_bins(reference: &[u64], window: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let needed = needed(total(reference), total(window));
    let (mut left, mut right) = (vec![0_u64], vec![0_u64]);
    for (r, w) in reference.iter().zip(window) {
        if left[left.len() - 1] as f64 >= needed {
            left.push(0);
            right.push(0);
        }
        let last = left.len() - 1;
        left[last] += r;
        right[last] += w;
    }
    if left.len() > 1 && (left[left.len() - 1] as f64) < needed {
        let (r, w) = (left.pop().unwrap_or_default(), right.pop().unwrap_or_default());
        let last = left.len() - 1;
        left[last] += r;
        right[last] += w;
    }
    (left, right)
}

/// Cells that hold enough by themselves, and the sum of all others as (reference, window).
pub(super) fn split_cells(reference: &[u64], window: &[u64]) -> (Vec<u64>, Vec<u64>, (u64, u64)) {
    let needed = needed(total(reference), total(window));
    let (mut left, mut right, mut rest) = (Vec::new(), Vec::new(), (0, 0));
    for (r, w) in reference.iter().zip(window) {
        if *r as f64 >= needed {
            left.push(*r);
            right.push(*w);
        } else {
            rest = (rest.0 + r, rest.1 + w);
        }
    }
    (left, right, rest)
}

/// Reference rows that a bin needs.
fn needed(n: f64, m: f64) -> f64 {
    MIN_EXPECTED * (n / m.max(1.0)).max(1.0)
}

/// Fisher's exact test, one-sided: the probability of `k` or more of a window's `m` rows, where the
/// reference had `k0` of `n`, with no change. Exact, so an unknown small rate raises no alarm by the
/// reference's own chance.
pub(super) fn rate_p(k0: u64, n: u64, k: u64, m: u64) -> f64 {
    let Ok(law) = Hypergeometric::new(n + m, k0 + k, m) else { return 1.0 };
    let (all, most) = ((n + m) as f64, (k0 + k).min(m));
    if k as f64 * all <= (k0 + k) as f64 * m as f64 {
        return 1.0; // not above the common rate: no evidence of more
    }
    let mut term = law.ln_pmf(k).exp();
    let mut sum = term;
    for x in k..most {
        let (x, marked, drawn) = (x as f64, (k0 + k) as f64, m as f64);
        term *= (marked - x) * (drawn - x) / ((x + 1.0) * (all - marked - drawn + x + 1.0));
        sum += term;
        if term < sum * NEGLIGIBLE {
            break;
        }
    }
    sum.min(1.0)
}

/// The greatest p-value that Benjamini and Hochberg's step-up rejects at false discovery rate `q`, and
/// `q / tests` where none is. When nothing changed at all, the chance of any rejection is at most `q`
/// (independent or positively dependent tests).
pub(super) fn critical_p(p_values: &[f64], q: f64) -> f64 {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tests = sorted.len().max(1) as f64;
    let step = |rank: usize| q * (rank + 1) as f64 / tests;
    sorted
        .iter()
        .enumerate()
        .rev()
        .find(|(rank, p)| **p <= step(*rank))
        .map_or(q / tests, |(rank, _)| step(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psi_and_its_probability_are_known() {
        // Reference values: PSI by hand without smoothing, chi-square tails from tables.
        let shift = Shift::between(&[5_000, 5_000], &[6_000, 4_000]).unwrap();
        let by_hand = 0.1 * (0.6_f64 / 0.5).ln() - 0.1 * (0.4_f64 / 0.5).ln();
        assert!((shift.psi - by_hand).abs() < 1e-4, "{}", shift.psi);
        for (freedom, statistic, p) in [(1, 3.841, 0.05), (4, 13.277, 0.01), (19, 43.820, 0.001)] {
            let law = ChiSquared::new(f64::from(freedom)).unwrap();
            assert!((law.sf(statistic) - p).abs() < p * 0.001, "{freedom}");
        }
        let same = Shift::between(&[50; 20], &[50; 20]).unwrap();
        assert!(same.psi == 0.0 && same.p == 1.0 && (same.bias - 0.038).abs() < 1e-12);
        assert_eq!(Shift::between(&[10], &[10]), None);
    }

    #[test]
    fn bins_are_joined_until_they_hold_enough() {
        assert_eq!(join_bins(&[50; 20], &[50; 20]).0.len(), 20);
        assert_eq!(join_bins(&[50; 20], &[5; 20]).0, [200, 200, 200, 200, 200]);
        assert_eq!(join_bins(&[20, 1], &[20, 1]), (vec![21], vec![21]));
        assert_eq!(split_cells(&[90, 0, 3, 40], &[80, 7, 0, 50]), (vec![90, 40], vec![80, 50], (3, 7)));
    }

    #[test]
    fn exact_tests_agree_with_enumeration() {
        // Fisher: 3 of 4 against 1 of 4: 17/70, the tea-tasting lady.
        assert!((rate_p(1, 4, 3, 4) - 17.0 / 70.0).abs() < 1e-12);
        assert_eq!(rate_p(10, 100, 1, 100), 1.0);
    }

    #[test]
    fn step_up_is_that_of_benjamini_and_hochberg() {
        assert!((critical_p(&[0.001, 0.02, 0.9, 0.03], 0.05) - 0.0375).abs() < 1e-12);
        assert!((critical_p(&[0.5, 0.9], 0.05) - 0.025).abs() < 1e-12);
        assert!(critical_p(&[], 0.05).is_finite());
    }
}
