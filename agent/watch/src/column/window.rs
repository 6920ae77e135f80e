//! The tests of one column at a window's close.

use super::distance::Distances;
use super::shift::{Mix, Shift, join_bins, outside_p, rate_p};
use super::tally::ColumnTally;
use shoal_proto::baseline::{FeatureBaseline, FeatureKind};

/// A share of rows, beside the baseline's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateTest {
    /// The baseline's.
    pub reference: f64,
    /// The window's.
    pub share: f64,
    /// Probability of so many rows, or more, with no change.
    pub p: f64,
}

/// What a window says of one column. Every probability is one of no change; with several columns, correct them
/// ([`critical_p`](super::critical_p)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowTests {
    /// Rows with a finite value.
    pub rows: u64,
    /// PSI over the baseline's bins, joined until each is expected to hold twenty rows.
    pub shift: Option<Shift>,
    /// G-test over the baseline's categories, where it is one.
    pub mix: Option<Mix>,
    /// For people who know them.
    pub distances: Distances,
    /// Rows of categories that are not listed; of a category only.
    pub unseen: RateTest,
    /// Rows without a value.
    pub missing: RateTest,
    /// Rows with an infinite value.
    pub infinite: RateTest,
    /// Rows out of the trained range, infinite ones among them; not of a category.
    pub range: RateTest,
    /// The probability that decides on drift of the distribution. Of numbers: the less of PSI's, which sees any
    /// change of shape, and Wasserstein's, which sees a small change of place sooner, doubled. Of a category: the less of the G-test's and of that of unlisted ones,
    /// doubled.
    pub p: f64,
}

impl WindowTests {
    /// Holds a window's counts against the baseline on whose edges they are.
    ///
    /// Tests hold at their stated rate for rows that are independent draws of the baseline, or dependent as far
    /// as its `spacing` says; a window shorter than the period of its signal truly differs from the baseline.
    #[must_use]
    pub fn of(baseline: &FeatureBaseline, tally: &ColumnTally) -> Self {
        let window = tally.bins(baseline);
        let spacing = f64::from(baseline.spacing.max(1));
        let (n, m, all) = (baseline.finite(), tally.finite(), baseline.rows());
        let (left, right) = join_bins(&baseline.counts, window, spacing);
        let shift = Shift::between(&left, &right, spacing);
        let mut distances = Distances::between(baseline, window);
        let rows = tally.missing() + tally.present();
        let missing = RateTest::of((baseline.missing, all), (tally.missing(), rows), spacing);
        let infinite = RateTest::of((baseline.infinite, all), (tally.infinite(), rows), spacing);
        let (mut unseen, mut range, mut mix) = (RateTest::NONE, RateTest::NONE, None);
        let p = if baseline.kind == FeatureKind::Category {
            let listed: Vec<u64> = baseline.categories.iter().map(|category| category.count).collect();
            let now = tally.categories.get(..listed.len()).unwrap_or_default();
            mix = Mix::between(&listed, now, spacing);
            unseen = RateTest::of((baseline.other, n), (tally.unlisted(), m), spacing);
            let with_others = |cells: &[u64], other| [cells, &[other]].concat();
            distances = Distances {
                wasserstein: distances.wasserstein,
                wasserstein_p: distances.wasserstein_p,
                kolmogorov: distances.kolmogorov,
                kolmogorov_p: distances.kolmogorov_p,
                ..Distances::of_cells(
                    &with_others(&listed, baseline.other),
                    &with_others(now, tally.unlisted()),
                )
            };
            unseen.p.min(mix.map_or(1.0, |mix| mix.p))
        } else {
            range =
                RateTest::outside(n, tally.below + tally.above + tally.infinite(), tally.present(), spacing);
            distances.wasserstein_p.min(shift.map_or(1.0, |shift| shift.p))
        };
        let p = (2.0 * p).min(1.0);
        Self { rows: m, shift, mix, distances, unseen, missing, infinite, range, p }
    }
}

impl RateTest {
    const NONE: Self = Self { reference: 0.0, share: 0.0, p: 1.0 };

    /// Fisher's exact test of `k` of `m` rows beside the reference's `k0` of `n`, all counts divided by the
    /// spacing.
    #[must_use]
    pub fn of((k0, n): (u64, u64), (k, m): (u64, u64), spacing: f64) -> Self {
        let [e0, en, e, em] = [k0, n, k, m].map(|count| effective(count, spacing));
        let p = if n == 0 || m == 0 { 1.0 } else { rate_p(e0, en, e, em) };
        Self { reference: share(k0, n), share: share(k, m), p }
    }

    /// The exact test of `k` of `m` rows outside the least and greatest of `n`.
    fn outside(n: u64, k: u64, m: u64, spacing: f64) -> Self {
        let [en, ek, em] = [n, k, m].map(|count| effective(count, spacing));
        let p = if em == 0 { 1.0 } else { outside_p(en, ek, em) };
        Self { reference: 0.0, share: share(k, m), p }
    }
}

/// Rows that dependent ones are worth, rounded down: too few are too few to tell.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than the count")]
fn effective(count: u64, spacing: f64) -> u64 {
    if spacing <= 1.0 { count } else { (count as f64 / spacing) as u64 }
}

fn share(k: u64, m: u64) -> f64 {
    k as f64 / m.max(1) as f64
}

#[cfg(test)]
mod tests;
