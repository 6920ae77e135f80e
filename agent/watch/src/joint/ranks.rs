//! Where a statistic lies among those of the reference: bins for sequential tests and for counts that add
//! up, and a chance for marking single rows.

use shoal_proto::baseline::{BINS, Ranks, Tail};

/// Quantiles at which the last of the equal bins is divided further.
const TAIL_CUTS: [f64; 4] = [0.975, 0.99, 0.995, 0.999];
/// Reference rows in a bin at least.
const MIN_BIN: usize = 5;
/// An edge may lie this share of a bin's rows beside its place, where a gap is wider: so no edge falls on
/// a value that many rows have.
const SLACK: f64 = 0.1;
/// Share of the reference that the tail is fitted to, where that is enough rows.
const TAIL_SHARE: f64 = 0.05;
/// Rows that the tail is fitted to, where there are so many in the upper fifth.
const TAIL_ROWS: usize = 50;
/// The heaviest tail that is believed: the variance of a heavier one is infinite.
const MAX_SHAPE: f64 = 0.5;

/// Ranks among reference values. The values must come from rows that the statistic was not fitted to.
#[must_use]
pub fn ranks(values: &[f64]) -> Ranks {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let equal = (1..BINS).map(|cut| (cut as f64 / BINS as f64, 1.0 / BINS as f64));
    let further = TAIL_CUTS.iter().map(|cut| (*cut, 1.0 - cut));
    let (mut edges, mut last): (Vec<f64>, usize) = (Vec::new(), 0);
    for (quantile, bin) in equal.chain(further) {
        let Some(at) = gap(&sorted, quantile, bin * SLACK) else { continue };
        let edge = between(&sorted, at);
        if at >= last + MIN_BIN && at + MIN_BIN <= n && edges.last().is_none_or(|last| *last < edge) {
            edges.push(edge);
            last = at;
        }
    }
    let mut counts = vec![0; edges.len() + 1];
    let mut profile = Ranks { edges, counts: Vec::new(), tail: tail(&sorted) };
    sorted.iter().for_each(|value| counts[profile.bin(*value)] += 1);
    profile.counts = counts;
    profile
}

/// The index near a quantile before which the gap is widest; ties are passed upwards.
fn gap(sorted: &[f64], quantile: f64, slack: f64) -> Option<usize> {
    let n = sorted.len() as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let (at, near) = ((quantile * n) as usize, (slack * n) as usize);
    let width = |index: &usize| sorted[*index] - sorted[index - 1];
    let places = at.saturating_sub(near).max(1)..(at + near + 1).min(sorted.len());
    let widest = places.max_by(|a, b| width(a).total_cmp(&width(b)))?;
    (widest..sorted.len()).find(|index| width(index) > 0.0)
}

/// A number above `sorted[at - 1]` and not above `sorted[at]`.
fn between(sorted: &[f64], at: usize) -> f64 {
    let (low, high) = (sorted[at - 1], sorted[at]);
    let middle = low + (high - low) / 2.0;
    if middle > low { middle } else { high }
}

/// A generalised Pareto tail by probability-weighted moments (Hosking and Wallis 1987), never lighter
/// than exponential: a reference of a few thousand rows cannot show where a tail ends.
fn tail(sorted: &[f64]) -> Tail {
    let n = sorted.len();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let share = (n as f64 * TAIL_SHARE) as usize;
    let wanted = share.max(TAIL_ROWS.min(n / 5));
    let start = (n - wanted..n).find(|at| *at > 0 && sorted[*at] > sorted[at - 1]);
    let Some(start) = start else {
        let from = sorted.last().copied().unwrap_or_default();
        let below = sorted.iter().rev().find(|value| **value < from);
        let scale = below.map_or(0.0, |below| from - below).max(least_scale(from));
        return Tail { from: from.next_up(), rows: 0, scale, shape: 0.0 };
    };
    let from = between(sorted, start);
    let beyond = &sorted[start..];
    let rows = beyond.len() as f64;
    let mean = beyond.iter().map(|value| value - from).sum::<f64>() / rows;
    let weighted = (1..=beyond.len())
        .zip(beyond)
        .map(|(rank, value)| (rows - rank as f64) / (rows - 1.0).max(1.0) * (value - from));
    let spread = mean - 2.0 * weighted.sum::<f64>() / rows;
    let shape = if spread > 0.0 { (2.0 - mean / spread).clamp(0.0, MAX_SHAPE) } else { 0.0 };
    let scale = (mean * (1.0 - shape)).max(least_scale(from));
    Tail { from, rows: beyond.len() as u64, scale, shape }
}

/// A scale for a reference that does not vary: rounding, and nothing else, is usual.
fn least_scale(from: f64) -> f64 {
    from.abs().max(1.0) * 1e-6
}

/// The chance that a row of the reference's kind has a value as great: a conformal p-value.
///
/// Up to where the tail begins, it is `(1 + rows at least as great) / (n + 1)`, in steps of bins: never
/// too small.
/// Beyond, where `1 / (n + 1)` would be the least, the fitted tail goes on: that is a model and no proof.
/// 1 for a value that is no number and for an empty reference.
#[must_use]
pub fn survival(ranks: &Ranks, value: f64) -> f64 {
    let all: u64 = ranks.counts.iter().sum();
    let n = all as f64 + 1.0;
    if value.is_nan() || all == 0 {
        return 1.0;
    }
    let tail = ranks.tail;
    if value >= tail.from {
        let excess = (value - tail.from).min(f64::MAX) / tail.scale;
        let beyond = if tail.shape > 1e-6 {
            (1.0 + tail.shape * excess).powf(-1.0 / tail.shape)
        } else {
            (-excess).exp()
        };
        return ((tail.rows as f64 + 1.0) / n * beyond).max(f64::MIN_POSITIVE);
    }
    let at_least: u64 = ranks.counts[ranks.bin(value)..].iter().sum();
    (at_least as f64 + 1.0) / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    #[test]
    fn bins_have_equal_mass_and_the_last_is_divided() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        let ranks = ranks(&values);
        assert!(ranks.is_sound());
        assert_eq!(ranks.counts.len(), 24);
        assert!(ranks.counts[..19].iter().all(|count| count.abs_diff(500) <= 100), "{:?}", ranks.counts);
        let last: u64 = ranks.counts[23];
        assert!((9..=11).contains(&last), "{:?}", ranks.counts);
        for share in [0.999, 0.99, 0.5, 0.06, 0.04, 0.02] {
            let p = survival(&ranks, (1.0 - share) * 1e4);
            assert!((share * 0.7..share + 0.06).contains(&p), "{share} {p}");
        }
        let falls: Vec<f64> = (0..3_000).map(|at| survival(&ranks, f64::from(at) * 5.0)).collect();
        assert!(falls.is_sorted_by(|a, b| a >= b));
        assert!(survival(&ranks, 1e300) > 0.0 && survival(&ranks, f64::INFINITY) > 0.0);
    }

    #[test]
    fn few_tied_and_empty_references_have_a_meaning() {
        let discrete: Vec<f64> = (0..1_000).map(|row| f64::from(row % 4)).collect();
        for values in [vec![], vec![1.0], vec![0.0; 500], vec![f64::NAN; 9], discrete.clone()] {
            let ranks = ranks(&values);
            assert!(ranks.is_sound(), "{ranks:?}");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1.0, 1e9] {
                let p = survival(&ranks, value);
                assert!(p > 0.0 && p <= 1.0, "{values:?} {value} {p}");
            }
        }
        let ranks = ranks(&discrete);
        assert_eq!(ranks.counts, [250; 4], "edges lie between values");
        assert!(survival(&ranks, 3.0) > 0.2 && survival(&ranks, 4.0) < 0.01, "{ranks:?}");
    }

    #[test]
    fn a_tail_is_found_again() {
        let mut rng = StdRng::seed_from_u64(1);
        for (shape, name) in [(0.0_f64, "exponential"), (0.3, "heavy")] {
            let draw = |rng: &mut StdRng| {
                let u: f64 = 1.0 - rng.random::<f64>();
                if shape > 0.0 { (u.powf(-shape) - 1.0) / shape } else { -u.ln() }
            };
            let values: Vec<f64> = (0..20_000).map(|_| draw(&mut rng)).collect();
            let ranks = ranks(&values);
            for p in [1e-2_f64, 1e-3, 1e-4] {
                let value = if shape > 0.0 { (p.powf(-shape) - 1.0) / shape } else { -p.ln() };
                let said = survival(&ranks, value);
                println!("{name}: p {p} said {said:.2e}");
                assert!((0.4..2.5).contains(&(said / p)));
            }
        }
    }
}
