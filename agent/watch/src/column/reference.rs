//! A package's baseline, laid out for one pass over a row.

use super::columns::event;
use super::scale;
use shoal_proto::baseline::{BINS, FeatureBaseline, FeatureKind, MAX_CATEGORIES};

/// Standard deviations of a rate by which the share of repeated rows may be higher than the baseline shows.
const REPEAT_SIGMAS: f64 = 3.0;
/// A run is unusual from this many times the longest of the baseline on, at least: runs may have heavier
/// tails than independent repeats have.
const LONGEST_RUNS: f64 = 2.0;

const _: () = assert!(BINS.is_multiple_of(4), "edges are compared by four");

/// What a row is held against. Not part of the state: it is made again from the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    plans: Vec<Plan>,
    features: Vec<FeatureBaseline>,
}

/// One column's part, all that a row needs in one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Inner edges; those that are not there are never reached.
    pub(super) edges: [f32; BINS],
    /// Least and greatest trained value.
    pub(super) range: (f32, f32),
    /// `ln |x|` of the middle, in 2^-16.
    pub(super) log_centre: i32,
    /// Rows with one value from which on it is stuck; nought for never.
    pub(super) stuck_at: u32,
    /// Categories, rising; empty unless it is one.
    pub(super) categories: Vec<f32>,
    pub(super) kind: FeatureKind,
    /// What a block's logarithms are held against.
    pub(super) scale: Option<scale::Expected>,
}

impl Reference {
    /// Lays out a baseline's features. Each detector of this module (a column's stuck sensor, its jump of
    /// scale) shall be wrong once in `one_false_in` rows at most: more than 1e9 is taken as that.
    #[must_use]
    pub fn new(features: &[FeatureBaseline], one_false_in: f64) -> Self {
        let rows = if one_false_in.is_nan() { 1e9 } else { one_false_in.clamp(100.0, 1e9) };
        Self {
            plans: features.iter().map(|feature| Plan::new(feature, rows)).collect(),
            features: features.to_vec(),
        }
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.plans.len()
    }

    /// The baseline it was made of.
    #[must_use]
    pub fn features(&self) -> &[FeatureBaseline] {
        &self.features
    }

    /// Rows with one value in a row from which on a column is stuck; `None` where its baseline does not tell
    /// (no order of rows, or never another value).
    #[must_use]
    pub fn stuck_at(&self, column: usize) -> Option<u32> {
        self.plans.get(column).map(|plan| plan.stuck_at).filter(|rows| *rows > 0)
    }

    /// How often one [`event`] came in how many rows of the baseline that it could have come in: what a
    /// detector of rates starts from. Rows below or above the range are none by construction; the next row is
    /// one with the chance `1 / (n + 1)`, which is what is told.
    #[must_use]
    pub fn rate(&self, column: usize, event: u8) -> (u64, u64) {
        let Some(feature) = self.features.get(column) else { return (0, 0) };
        let finite = feature.finite();
        match event {
            event::MISSING => (feature.missing, feature.rows()),
            event::INFINITE => (feature.infinite, feature.rows()),
            event::BELOW | event::ABOVE if finite > 0 => (1, finite + 1),
            event::UNSEEN => (feature.other, finite),
            event::REPEAT => (feature.repeats, finite),
            _ => (0, finite),
        }
    }

    pub(super) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    pub(super) fn category_cells(&self, column: usize) -> usize {
        self.plans.get(column).map_or(0, |plan| match plan.kind {
            FeatureKind::Category => plan.categories.len() + 1,
            FeatureKind::Number | FeatureKind::Whole => 0,
        })
    }
}

impl Plan {
    fn new(feature: &FeatureBaseline, one_false_in: f64) -> Self {
        let mut edges = [f32::INFINITY; BINS];
        for (edge, exact) in edges.iter_mut().zip(feature.edges.iter().take(BINS - 1)) {
            *edge = at_least(*exact);
        }
        let range = if feature.finite() > 0 {
            (at_least(feature.min), -at_least(-feature.max))
        } else {
            (f32::NEG_INFINITY, f32::INFINITY)
        };
        let scale = scale::Expected::new(feature, one_false_in);
        let categories =
            feature.categories.iter().take(MAX_CATEGORIES).map(|category| nearest(category.value));
        Self {
            edges,
            range,
            log_centre: scale.as_ref().map_or(0, |expected| expected.centre),
            stuck_at: stuck_at(feature, one_false_in),
            categories: categories.collect(),
            kind: feature.kind,
            scale,
        }
    }

    /// The bin of a finite value. All edges are compared, four at a time and without a branch, and counted as
    /// numbers with a point: a sum of flags would be made a count of bits, which is slow where no instruction
    /// does it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "there are twenty edges")]
    pub(super) fn bin(&self, value: f32) -> u8 {
        const WHOLE: f32 = 8_388_608.0; // 2^23: what is added stands in the lowest bits
        let mut reached = [0.0_f32; 4];
        let (fours, _) = self.edges.as_chunks::<4>();
        for four in fours {
            for (reached, edge) in reached.iter_mut().zip(four) {
                *reached += if *edge <= value { 1.0 } else { 0.0 };
            }
        }
        (WHOLE + (reached[0] + reached[1]) + (reached[2] + reached[3])).to_bits() as u8
    }
}

/// The run from which on a sensor is stuck: as long as independent repeats at the baseline's rate are once in
/// so many rows, and no less than twice the baseline's longest, or what that would have been in so many rows
/// were runs' lengths exponential.
///
/// Blind to a sensor that sticks with a little noise, and to one that seldom moves anyway.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn stuck_at(feature: &FeatureBaseline, one_false_in: f64) -> u32 {
    let rows = feature.finite();
    if feature.longest_run == 0 || rows < 2 || feature.longest_run == rows {
        return 0;
    }
    let (n, squared) = (rows as f64, REPEAT_SIGMAS * REPEAT_SIGMAS);
    let share = feature.repeats as f64 / n;
    let spread = REPEAT_SIGMAS * (share * (1.0 - share) / n + squared / (4.0 * n * n)).sqrt();
    let rate = ((share + squared / (2.0 * n) + spread) / (1.0 + squared / n)).min(1.0 - 1e-9);
    let geometric = 1.0 + (1.0 / (one_false_in * (1.0 - rate))).min(1.0).ln() / rate.ln();
    let longest = LONGEST_RUNS.max(one_false_in.ln() / n.ln()) * feature.longest_run as f64;
    geometric.max(longest).ceil().clamp(3.0, 4e9) as u32
}

/// The least `f32` that is not below a number.
#[expect(clippy::cast_possible_truncation, reason = "rounded to the next")]
fn at_least(exact: f64) -> f32 {
    let near = exact as f32;
    if f64::from(near) < exact { near.next_up() } else { near }
}

#[expect(clippy::cast_possible_truncation, reason = "categories were f32")]
fn nearest(exact: f64) -> f32 {
    exact as f32 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_any_precision_fall_where_they_fell() {
        let feature = FeatureBaseline::of((0..500).map(|row| f64::from(row) / 7.0 - 30.0));
        let plan = Plan::new(&feature, 1e6);
        for row in -100..6_000 {
            let value = row as f32 / 83.0 - 31.0;
            let exact = f64::from(value);
            assert_eq!(usize::from(plan.bin(value)), feature.bin(exact), "{value}");
            let out = (value < plan.range.0, value > plan.range.1);
            assert_eq!(out, (exact < feature.min, exact > feature.max), "{value}");
        }
        for edge in &feature.edges {
            let near = at_least(*edge);
            for value in [near.next_down(), near, near.next_up()] {
                assert_eq!(usize::from(plan.bin(value)), feature.bin(f64::from(value)), "at {edge}");
            }
        }
    }

    #[test]
    fn a_run_is_too_long_by_rate_and_by_the_longest() {
        let never = |feature: FeatureBaseline| assert_eq!(Plan::new(&feature, 1e6).stuck_at, 0);
        never(FeatureBaseline::of([]));
        never(FeatureBaseline::of([5.0; 100]));
        never(FeatureBaseline::of((0..100).map(f64::from)).without_order());
        let of = |feature: FeatureBaseline| Plan::new(&feature, 1e6).stuck_at;
        assert_eq!(of(FeatureBaseline::of((0..100_000).map(f64::from))), 3);
        assert!((4..=7).contains(&of(FeatureBaseline::of((0..100).map(f64::from)))));
        let held = of(FeatureBaseline::of((0..1_000).map(|row| f64::from(row / 100))));
        assert!((200..3_000).contains(&held), "{held}");
    }
}
