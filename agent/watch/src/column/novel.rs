//! Categories that the baseline does not list: which are the commonest, and how many there are.
//!
//! Written here and not taken from the crate `datasketches`: its sketches grow while rows are observed, and a
//! sketch's bytes depend on the order of the rows (the HIP accumulator, the list of coupons), where a summary
//! of a fleet must be the same however its rows were split.

use serde::{Deserialize, Serialize};

/// Categories that are followed. One of every 64 rows or more is among them for certain.
const SLOTS: usize = 64;
/// Registers of the count of different ones: its standard error is `1.04 / sqrt(256)`, 6.5 %.
const REGISTERS: usize = 256;

/// A category that came often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frequent {
    /// Its number.
    pub value: f32,
    /// Rows of it, at most.
    pub most: u64,
    /// Rows of it, at least.
    pub least: u64,
}

/// Sketches of a stream of categories, in constant memory: SpaceSaving with 64 counters (Metwally, Agrawal, El
/// Abbadi 2005) and HyperLogLog with 256 registers (Flajolet et al. 2007, 64-bit hash, linear counting below
/// 2.5 times the registers).
///
/// The count of different ones [joins](Self::join) with others' whatever was counted twice; the commonest ones
/// are local.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Novel {
    slots: [Slot; SLOTS],
    registers: Box<[u8; REGISTERS]>,
    rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    bits: u32,
    count: u64,
    /// By how much the count may be too high.
    error: u64,
}

/// As it is written: what is empty takes no room.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "n", default, skip_serializing_if = "is_nought")]
    rows: u64,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<(u32, u64, u64)>,
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    registers: Vec<(u8, u8)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_nought(value: &u64) -> bool {
    *value == 0
}

impl Default for Novel {
    fn default() -> Self {
        Self { slots: [Slot::default(); SLOTS], registers: Box::new([0; REGISTERS]), rows: 0 }
    }
}

impl From<Written> for Novel {
    fn from(written: Written) -> Self {
        let mut novel = Self { rows: written.rows, ..Self::default() };
        for (slot, (bits, count, error)) in novel.slots.iter_mut().zip(written.slots) {
            *slot = Slot { bits, count, error };
        }
        for (at, rank) in written.registers {
            novel.registers[usize::from(at)] = rank;
        }
        novel
    }
}

impl From<Novel> for Written {
    fn from(novel: Novel) -> Self {
        let used = novel.slots.iter().filter(|slot| slot.count > 0);
        let registers = (0..=u8::MAX).zip(novel.registers.iter().copied());
        Self {
            rows: novel.rows,
            slots: used.map(|slot| (slot.bits, slot.count, slot.error)).collect(),
            registers: registers.filter(|(_, rank)| *rank > 0).collect(),
        }
    }
}

impl Novel {
    /// One row of a category. Nothing is allocated.
    pub fn add(&mut self, value: f32) {
        let bits = (value + 0.0).to_bits();
        self.rows = self.rows.saturating_add(1);
        let hash = mixed(bits);
        let (at, rank) = (usize::from(hash.to_be_bytes()[0]), rank(hash));
        self.registers[at] = self.registers[at].max(rank);
        let mut least = 0;
        for at in 0..SLOTS {
            let slot = &mut self.slots[at];
            if slot.count > 0 && slot.bits == bits {
                slot.count = slot.count.saturating_add(1);
                return;
            }
            if slot.count < self.slots[least].count {
                least = at;
            }
            if self.slots[least].count == 0 {
                break; // slots are used from the first on
            }
        }
        let error = self.slots[least].count;
        self.slots[least] = Slot { bits, count: error.saturating_add(1), error };
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// About how many different ones there were.
    #[must_use]
    pub fn distinct(&self) -> f64 {
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw }
    }

    /// The commonest, most rows first; ties by number.
    #[must_use]
    pub fn frequent(&self) -> Vec<Frequent> {
        let used = self.slots.iter().filter(|slot| slot.count > 0);
        let mut all: Vec<Frequent> = used
            .map(|slot| Frequent {
                value: f32::from_bits(slot.bits),
                most: slot.count,
                least: slot.count - slot.error.min(slot.count),
            })
            .collect();
        all.sort_by(|a, b| b.most.cmp(&a.most).then(a.value.total_cmp(&b.value)));
        all
    }

    /// Joins the count of different ones of another: a semilattice, so that order and repetition say nothing.
    /// Rows and the commonest stay this one's.
    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.registers.iter_mut().zip(other.registers.iter()) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Forgets all rows.
    pub fn reset(&mut self) {
        self.slots.fill(Slot::default());
        self.registers.fill(0);
        self.rows = 0;
    }
}

/// One more than the noughts that a hash begins with after its first byte.
#[expect(clippy::cast_possible_truncation, reason = "below 65")]
fn rank(hash: u64) -> u8 {
    ((hash << 8) | 0x80).leading_zeros() as u8 + 1
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
fn mixed(bits: u32) -> u64 {
    let mut z = u64::from(bits).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    #[test]
    fn the_commonest_are_found_and_bounds_hold() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut novel = Novel::default();
        let mut exact = std::collections::BTreeMap::<u16, u64>::new();
        for _ in 0..50_000 {
            let value = {
                let most = rng.random_range(0..1_000_u16);
                let most = rng.random_range(0..=most);
                rng.random_range(0..=most)
            };
            *exact.entry(value).or_default() += 1;
            novel.add(f32::from(value));
        }
        let found = novel.frequent();
        assert_eq!((found.len(), novel.rows()), (SLOTS, 50_000));
        for one in &found {
            let (_, true_count) = exact.iter().find(|(value, _)| f32::from(**value) == one.value).unwrap();
            assert!(one.least <= *true_count && *true_count <= one.most, "{one:?}: {true_count}");
        }
        for (value, count) in exact {
            assert!(count <= 50_000 / SLOTS as u64 || found.iter().any(|one| one.value == f32::from(value)));
        }
        assert_eq!(found[0].value, 0.0);
    }

    #[test]
    fn different_ones_are_counted_within_the_stated_error() {
        for many in [0_u32, 1, 10, 100, 300, 700, 3_000, 100_000] {
            let mut errors = Vec::new();
            for seed in 0..20_u32 {
                let mut novel = Novel::default();
                (0..many).for_each(|at| novel.add((at + seed * 100_000) as f32));
                errors.push(novel.distinct() / f64::from(many.max(1)) - f64::from(many.min(1)));
            }
            let rms = (errors.iter().map(|e| e * e).sum::<f64>() / 20.0).sqrt();
            println!("{many} different: error {:.1} % (rms of 20 seeds)", rms * 100.0);
            assert!(rms < 0.1, "{many}: {rms}");
        }
    }

    #[test]
    fn joining_is_a_semilattice_and_the_disk_keeps_all() {
        let of = |range: std::ops::Range<u16>| {
            let mut novel = Novel::default();
            range.for_each(|at| novel.add(f32::from(at)));
            novel
        };
        let (a, b, all) = (of(0..700), of(300..1_000), of(0..1_000));
        let mut joined = a.clone();
        joined.join(&b);
        joined.join(&b);
        let mut other = b.clone();
        other.join(&a);
        assert_eq!((joined.registers.clone(), joined.registers), (all.registers.clone(), other.registers));
        let bytes = shoal_proto::wire::to_cbor(&all);
        assert_eq!(shoal_proto::wire::from_cbor::<Novel>(&bytes).unwrap(), all);
        assert!(shoal_proto::wire::to_cbor(&Novel::default()).len() < 4);
        let mut again = all;
        again.reset();
        assert_eq!(again, Novel::default());
    }
}
