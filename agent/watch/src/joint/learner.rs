//! Rows kept on a device that has no baseline, until there are enough to make one.

use super::draw::Draw;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Floats;

/// Rows that are kept where they are short: a histogram's bins then hold a hundred each.
pub const ROWS: usize = 2_000;
/// Bytes of kept rows at most.
pub const MAX_BYTES: usize = 1 << 20;

/// A sample of the first rows: every one of them is kept with the same probability (algorithm R, Vitter
/// 1985), from a seed, in constant memory.
///
/// What comes of it is a baseline of whatever the device saw: if that was strange already, the baseline
/// calls it usual. Mark it: `Baseline::learned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    width: usize,
    seed: u64,
    /// Rows that are looked at before it is done.
    until: u64,
    seen: u64,
    keep: usize,
    /// Kept rows, slot by slot; room for all of them is made at the start.
    rows: Floats,
    /// When the row of each slot came.
    arrived: Vec<u64>,
}

impl Learner {
    /// Begins with nothing. It is done after `until` rows, of which [`ROWS`] are kept, or fewer where
    /// rows of `width` numbers need more than [`MAX_BYTES`].
    #[must_use]
    pub fn new(width: usize, until: u64, seed: u64) -> Self {
        let wanted = usize::try_from(until).unwrap_or(usize::MAX).clamp(1, ROWS);
        let keep = (MAX_BYTES / (4 * width.max(1) + 8)).clamp(1, wanted);
        let rows = Floats(Vec::with_capacity(keep * width));
        Self { width, seed, until, seen: 0, keep, rows, arrived: Vec::with_capacity(keep) }
    }

    /// Looks at the next row; values that it lacks are missing, and what is too much is left out. Once
    /// it is done, nothing changes any more.
    pub fn observe(&mut self, row: &[f32]) {
        if self.is_done() {
            return;
        }
        let kept = self.arrived.len();
        let slot = if kept < self.keep {
            self.arrived.push(self.seen);
            self.rows.0.resize((kept + 1) * self.width, f32::NAN);
            Some(kept)
        } else {
            // Drawn from the row's number, so that a state read back goes on as before.
            let among = usize::try_from(self.seen + 1).unwrap_or(usize::MAX);
            Some(Draw::new(self.seed, self.seen).below(among)).filter(|slot| *slot < self.keep)
        };
        if let Some(slot) = slot {
            self.arrived[slot] = self.seen;
            let to = &mut self.rows.0[slot * self.width..][..self.width];
            to.fill(f32::NAN);
            to.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
        }
        self.seen += 1;
    }

    /// Whether enough rows were seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.seen >= self.until
    }

    /// Rows seen, and rows that are looked at in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.seen, self.until)
    }

    /// The kept rows, row-major, in the order in which they came.
    #[must_use]
    pub fn rows(&self) -> Vec<f32> {
        let mut slots: Vec<usize> = (0..self.arrived.len()).collect();
        slots.sort_unstable_by_key(|slot| self.arrived[*slot]);
        slots.iter().flat_map(|slot| self.rows[slot * self.width..][..self.width].iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(learner: &mut Learner, rows: std::ops::Range<u32>) {
        for row in rows {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let value = row as f32;
            learner.observe(&[value, -value]);
        }
    }

    #[test]
    fn every_row_is_kept_with_the_same_probability_and_in_order() {
        let mut kept = [0_u32; 10];
        for seed in 0..50 {
            let mut learner = Learner::new(2, 10_000, seed);
            fed(&mut learner, 0..10_000);
            assert!(learner.is_done());
            let rows = learner.rows();
            assert_eq!(rows.len(), 2 * ROWS);
            assert!(rows.chunks_exact(2).is_sorted_by(|a, b| a[0] < b[0]));
            assert!(rows.chunks_exact(2).all(|row| row[0] == -row[1]));
            for row in rows.chunks_exact(2) {
                kept.iter_mut()
                    .zip(1_u8..)
                    .filter(|(_, tenth)| row[0] < f32::from(*tenth) * 1e3)
                    .take(1)
                    .for_each(|(count, _)| *count += 1);
            }
        }
        println!("rows kept of each tenth, 10,000 expected: {kept:?}");
        assert!(kept.iter().all(|count| (9_550..10_450).contains(count)), "five standard errors: {kept:?}");
    }

    #[test]
    fn memory_is_bounded_and_a_state_read_back_goes_on_as_before() {
        for (width, keep) in [(20, 2_000), (512, 510), (4_096, 63), (1 << 20, 1)] {
            assert_eq!(Learner::new(width, 5_000, 1).keep, keep, "{width}");
        }
        let mut learner = Learner::new(2, 5_000, 3);
        let room = learner.rows.0.capacity();
        fed(&mut learner, 0..3_000);
        let bytes = shoal_proto::wire::to_cbor(&learner);
        let mut again: Learner = shoal_proto::wire::from_cbor(&bytes).unwrap();
        fed(&mut learner, 3_000..6_000);
        fed(&mut again, 3_000..6_000);
        assert_eq!(learner, again);
        assert_eq!((learner.rows.0.capacity(), learner.progress()), (room, (5_000, 5_000)));
    }

    #[test]
    fn rows_of_another_width_are_missing_or_cut() {
        let mut learner = Learner::new(2, 3, 0);
        learner.observe(&[1.0]);
        learner.observe(&[1.0, 2.0, 3.0]);
        learner.observe(&[]);
        let rows = learner.rows();
        assert!(rows[0] == 1.0 && rows[1].is_nan() && rows[2..4] == [1.0, 2.0] && rows[4].is_nan());
        let mut none = Learner::new(0, 2, 0);
        none.observe(&[1.0]);
        assert_eq!(none.rows(), Vec::<f32>::new());
    }
}
