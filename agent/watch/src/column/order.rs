//! Columns that hold what other columns held: a sender that changed the order of its features.
//!
//! A window of each column that moved is held against the references of the others: the Kolmogorov–Smirnov
//! distance over its own bins, with the other's distribution drawn straight between its edges, and the mean of
//! `ln |x|`, which tells columns apart whose bins all the other's values overshoot. Said only of columns that
//! change places among themselves in a cycle: one that drifts into another's range is no rearrangement.

use super::tally::ColumnTally;
use shoal_proto::baseline::FeatureBaseline;

/// How far a column must have moved from its own reference.
pub(crate) const MOVED: f64 = 0.25;
/// How near it must be to the other's, beside what chance adds: a bin holds a twentieth, and is drawn straight.
const NEAR: f64 = 0.08;
/// Standard deviations of `ln |x|` by which its mean may be off.
const NEAR_SIZE: f64 = 0.3;

/// A column that looks like another's reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rearranged {
    /// Which column.
    pub column: usize,
    /// Whose values it seems to hold.
    pub like: usize,
    /// Kolmogorov–Smirnov distance from its own reference.
    pub moved: f64,
}

/// Those of the `moved` columns that have changed places among themselves.
#[must_use]
pub fn rearranged(features: &[FeatureBaseline], tallies: &[ColumnTally], moved: &[usize]) -> Vec<Rearranged> {
    let far = |column: &usize| -> Option<(usize, f64)> {
        let (own, window) = (features.get(*column)?, tallies.get(*column)?);
        let by = greatest_gap(own, window.bins(own), own);
        (by >= MOVED && window.finite() > 0).then_some((*column, by))
    };
    let moved: Vec<(usize, f64)> = moved.iter().filter_map(far).collect();
    let best = |&(column, moved_by): &(usize, f64)| -> Option<Rearranged> {
        let (own, window) = (&features[column], &tallies[column]);
        let counted = window.bins(own);
        let rows = window.finite();
        let chance = 1.36 / (rows as f64).sqrt();
        let others = moved.iter().map(|(other, _)| *other).filter(|other| *other != column);
        let near = others.filter_map(|other| {
            let reference = features.get(other)?;
            let gap = greatest_gap(own, counted, reference);
            let size = off_size(window, reference)?;
            let fits = gap <= NEAR + chance && size <= NEAR_SIZE + 3.0 / (rows as f64).sqrt();
            fits.then_some((other, gap + size))
        });
        let (like, _) = near.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Rearranged { column, like, moved: moved_by })
    };
    let likes: Vec<Rearranged> = moved.iter().filter_map(best).collect();
    let like = |column: usize| likes.iter().find(|one| one.column == column).map(|one| one.like);
    let is_in_a_cycle = |one: &&Rearranged| {
        let mut at = Some(one.like);
        for _ in 0..likes.len() {
            if at == Some(one.column) {
                return true;
            }
            at = at.and_then(like);
        }
        false
    };
    likes.iter().filter(is_in_a_cycle).copied().collect()
}

/// The Kolmogorov–Smirnov distance between rows counted on one column's edges and another's reference.
fn greatest_gap(edges_of: &FeatureBaseline, counted: &[u64], other: &FeatureBaseline) -> f64 {
    let rows = counted.iter().sum::<u64>().max(1) as f64;
    let mut below = 0;
    let mut greatest = 0.0_f64;
    for (edge, count) in edges_of.edges.iter().zip(counted) {
        below += count;
        greatest = greatest.max((below as f64 / rows - share_below(other, *edge)).abs());
    }
    greatest
}

/// The share of a reference's values below a number.
fn share_below(reference: &FeatureBaseline, value: f64) -> f64 {
    if !reference.categories.is_empty() {
        let listed = |below: f64| reference.categories.iter().filter(move |one| one.value < below);
        let rows = |below: f64| listed(below).map(|one| one.count).sum::<u64>() as f64;
        return rows(value) / rows(f64::INFINITY).max(1.0);
    }
    let bin = reference.bin(value);
    let all = reference.finite().max(1) as f64;
    let below = reference.counts.iter().take(bin).sum::<u64>() as f64;
    let inside = reference.counts.get(bin).copied().unwrap_or_default() as f64;
    let low = bin.checked_sub(1).map_or(reference.min, |at| reference.edges[at]);
    let high = reference.edges.get(bin).copied().unwrap_or(reference.max);
    let part =
        if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { f64::from(value > low) };
    (below + inside * part) / all
}

/// Standard deviations of the reference's `ln |x|` by which a window's mean is off; `None` where only one of
/// both has values that differ from nought.
fn off_size(window: &ColumnTally, reference: &FeatureBaseline) -> Option<f64> {
    match (window.sized, &reference.magnitude) {
        (0, None) => Some(0.0),
        (0, Some(_)) | (_, None) => None,
        (sized, Some(size)) => {
            let mean = window.logs as f64 / sized as f64 / f64::from(1_u32 << super::tally::LOG_PLACES);
            Some((mean - size.mean).abs() / size.std.max(0.01))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Columns, Reference, Seen};
    use super::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    /// Columns as different as a temperature, a pressure and a share; and one that is like the first.
    fn row(rng: &mut ChaCha8Rng) -> [f32; 4] {
        let mut draw = |low: f32, high: f32| rng.random_range(low..high);
        [draw(15.0, 30.0), draw(900.0, 1_100.0), draw(0.0, 1.0), draw(15.0, 30.0)]
    }

    #[test]
    fn columns_that_changed_places_are_named() {
        type Change = fn([f32; 4]) -> [f32; 4];
        type Case = (&'static str, Change, &'static [(usize, usize)]);
        let cases: [Case; 6] = [
            ("nothing", |row| row, &[]),
            ("two swapped", |[a, b, c, d]| [b, a, c, d], &[(0, 1), (1, 0)]),
            ("three in a ring", |[a, b, c, d]| [b, c, a, d], &[(0, 1), (1, 2), (2, 0)]),
            ("like columns", |[a, b, c, d]| [d, b, c, a], &[]),
            ("one went into another's range", |[_, b, c, d]| [b, b, c, d], &[]),
            ("one went far away", |[a, b, c, d]| [a * 1e4, b, c, d], &[]),
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let train: Vec<_> = (0..1_000).map(|_| row(&mut rng)).collect();
        let column = |at: usize| train.iter().map(move |row| f64::from(row[at]));
        let features: Vec<_> = (0..4).map(|at| FeatureBaseline::of(column(at))).collect();
        let reference = Reference::new(&features, f64::INFINITY);
        for (name, change, expected) in cases {
            let (mut columns, mut seen) = (Columns::new(&reference), Seen::default());
            for _ in 0..300 {
                columns.observe(&reference, &change(row(&mut rng)), &mut seen);
            }
            let found = rearranged(&features, &columns.tally().columns, &[0, 1, 2, 3]);
            let pairs: Vec<_> = found.iter().map(|one| (one.column, one.like)).collect();
            assert_eq!(pairs, expected, "{name}: {found:?}");
        }
    }
}
