//! The state of all columns of a model, and one row seen.

use super::novel::Novel;
use super::reference::{Plan, Reference};
use super::scale::{BLOCK, Block, Jump};
use super::tally::{ColumnTally, INFINITE, MISSING, Tally, ln_fixed};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::FeatureKind;

/// What a row's value in a column may be, besides its bin: one bit each.
pub mod event {
    /// No value: null or NaN.
    pub const MISSING: u8 = 1;
    /// Infinite.
    pub const INFINITE: u8 = 2;
    /// Below the least value of training; never of a category.
    pub const BELOW: u8 = 4;
    /// Above the greatest value of training; never of a category.
    pub const ABOVE: u8 = 8;
    /// A category that the baseline does not list.
    pub const UNSEEN: u8 = 16;
    /// The value of the last row that had one.
    pub const REPEAT: u8 = 32;
    /// A fraction where training had whole numbers only.
    pub const FRACTION: u8 = 64;
    /// The run of one value has just become longer than one of the baseline ever is; told once a run.
    pub const STUCK: u8 = 128;
    /// Those that come at a rate, in the order of their bits.
    pub const RATES: [u8; 7] = [MISSING, INFINITE, BELOW, ABOVE, UNSEEN, REPEAT, FRACTION];
}

/// What was seen in one row. Reused from row to row: nothing is allocated once it is wide enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The bin of each column's value, or [`MISSING`] or [`INFINITE`].
    pub codes: Vec<u8>,
    /// The [`event`]s of each column.
    pub events: Vec<u8>,
    /// Events of any column.
    pub any: u8,
    /// The row is the same as the one before.
    pub duplicate: bool,
    /// Columns whose scale is now found to have jumped, or to have come back; see [`Columns::jumps`].
    pub jumps: u32,
    /// Logarithms of the row's values.
    logs: Vec<i32>,
}

/// All columns of a model: the open window's counts, and what is remembered from row to row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    #[serde(rename = "t")]
    tally: Tally,
    #[serde(rename = "l")]
    lives: Vec<Live>,
    /// Categories that the baseline does not list; one a column that is a category.
    #[serde(rename = "n")]
    novel: Vec<Novel>,
    /// Rows in the block.
    #[serde(rename = "b")]
    block: u32,
    /// Columns without a value in the last row.
    #[serde(rename = "a")]
    absent: u32,
}

/// What is remembered of a column from row to row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Live {
    /// Bits of the last value that was one; NaN before any.
    #[serde(rename = "v")]
    last: u32,
    /// Rows with it.
    #[serde(rename = "r")]
    run: u32,
    #[serde(rename = "b")]
    block: Block,
}

impl Columns {
    /// Nothing seen.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        let live = Live { last: f32::NAN.to_bits(), run: 0, block: Block::default() };
        let categories = reference.plans().iter().filter(|plan| plan.kind == FeatureKind::Category);
        Self {
            tally: Tally::new(reference),
            lives: vec![live; reference.width()],
            novel: categories.map(|_| Novel::default()).collect(),
            block: 0,
            absent: 0,
        }
    }

    /// Whether this state, read back, is of a reference like this one.
    #[must_use]
    pub fn fits(&self, reference: &Reference) -> bool {
        let of = reference.plans().iter().filter(|plan| plan.kind == FeatureKind::Category).count();
        self.tally.fits(reference) && self.lives.len() == reference.width() && self.novel.len() == of
    }

    /// The open window's counts.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Categories of a column that the baseline does not list, of the open window.
    #[must_use]
    pub fn novel(&self, reference: &Reference, column: usize) -> Option<&Novel> {
        let plans = reference.plans();
        let is = |plan: &&Plan| plan.kind == FeatureKind::Category;
        plans.get(column).filter(is)?;
        self.novel.get(plans[..column].iter().filter(is).count())
    }

    /// Rows in a row with the value that a column has now.
    #[must_use]
    pub fn run(&self, column: usize) -> u32 {
        self.lives.get(column).map_or(0, |live| live.run)
    }

    /// Columns whose sensor is stuck now.
    pub fn stuck(&self, reference: &Reference) -> impl Iterator<Item = usize> {
        let plans = reference.plans().iter().zip(&self.lives).enumerate();
        plans.filter(|(_, (plan, live))| plan.stuck_at > 0 && live.run >= plan.stuck_at).map(|(at, _)| at)
    }

    /// Columns whose scale is another now.
    pub fn jumps(&self, reference: &Reference) -> impl Iterator<Item = (usize, Jump)> {
        let plans = reference.plans().iter().zip(&self.lives).enumerate();
        plans.filter_map(|(at, (plan, live))| Some((at, live.block.jump(plan.scale.as_ref()?)?)))
    }

    /// Closes the window: counts begin anew, what is remembered from row to row stays.
    pub fn reset(&mut self) {
        self.tally.reset();
        self.novel.iter_mut().for_each(Novel::reset);
    }

    /// Sees one row: counts it, and tells what it saw. A row that is too short lacks what is not there; what is
    /// beyond the last column is passed over.
    ///
    /// # Panics
    /// Where the state does not [fit](Self::fits) the reference.
    pub fn observe(&mut self, reference: &Reference, row: &[f32], seen: &mut Seen) {
        let plans = reference.plans();
        assert_eq!(plans.len(), self.lives.len(), "the state is of this reference");
        seen.codes.resize(plans.len(), 0);
        seen.events.resize(plans.len(), 0);
        seen.logs.resize(plans.len(), 0);
        let given = &row[..row.len().min(plans.len())];
        for (log, value) in seen.logs.iter_mut().zip(given) {
            *log = ln_fixed(*value); // apart from the rest, since so it is done for several at once
        }
        let columns = plans.iter().zip(&mut self.lives).zip(&mut self.tally.columns);
        let told = seen.codes.iter_mut().zip(&mut seen.events).zip(&seen.logs);
        let (mut any, mut absent, mut repeats, mut novel) = (0, 0, 0, self.novel.iter_mut());
        for (at, (((plan, live), tally), ((code, events), log))) in columns.zip(told).enumerate() {
            let value = given.get(at).map_or(f32::NAN, |value| value + 0.0); // one nought, not two
            let novel = if plan.kind == FeatureKind::Category { novel.next() } else { None };
            if value.is_finite() {
                (*code, *events) = live.see(plan, tally, value, *log);
                if let Some(novel) = novel {
                    *events = category(plan, tally, novel, value, *events);
                }
            } else {
                absent += 1;
                (*code, *events) =
                    if value.is_nan() { (MISSING, event::MISSING) } else { (INFINITE, event::INFINITE) };
            }
            tally.cells[usize::from(*code)] += 1;
            repeats += u32::from(*events & event::REPEAT != 0);
            any |= *events;
        }
        seen.any = any;
        seen.duplicate =
            repeats > 0 && repeats as usize + absent as usize == plans.len() && absent == self.absent;
        self.absent = absent;
        self.tally.rows += 1;
        self.tally.duplicates += u64::from(seen.duplicate);
        self.block += 1;
        seen.jumps = 0;
        if self.block == BLOCK {
            self.block = 0;
            for (plan, live) in plans.iter().zip(&mut self.lives) {
                seen.jumps += u32::from(live.block.close(plan.scale.as_ref()));
            }
        }
    }
}

impl Live {
    /// Sees a finite value: its bin and its events.
    #[inline]
    fn see(&mut self, plan: &Plan, tally: &mut ColumnTally, value: f32, log: i32) -> (u8, u8) {
        let bits = value.to_bits();
        let (below, above) = (value < plan.range.0, value > plan.range.1);
        tally.below += u64::from(below);
        tally.above += u64::from(above);
        let mut events = (u8::from(below) * event::BELOW) | (u8::from(above) * event::ABOVE);
        if bits == self.last {
            self.run = self.run.saturating_add(1);
            tally.repeats += 1;
            events |= event::REPEAT | (u8::from(self.run == plan.stuck_at) * event::STUCK);
        } else {
            (self.last, self.run) = (bits, 1);
        }
        if plan.kind == FeatureKind::Whole && has_fraction(value) {
            tally.fractions += 1;
            events |= event::FRACTION;
        }
        if value != 0.0 {
            tally.sized += 1;
            tally.logs = tally.logs.wrapping_add(i64::from(log));
            self.block.add(log - plan.log_centre);
        }
        (plan.bin(value), events)
    }
}

/// Whether a finite value is not a whole number.
#[expect(clippy::cast_possible_truncation, reason = "those that an i32 does not hold are found before")]
fn has_fraction(value: f32) -> bool {
    const WHOLE_FROM: f32 = 8_388_608.0; // 2^23: from here on there is no place for a fraction
    value.abs() < WHOLE_FROM && (value as i32) as f32 != value
}

/// Counts a category, and says whether it is one of the baseline.
fn category(plan: &Plan, tally: &mut ColumnTally, novel: &mut Novel, value: f32, events: u8) -> u8 {
    let at = plan.categories.partition_point(|category| *category < value);
    let events = events & !(event::BELOW | event::ABOVE);
    if plan.categories.get(at) == Some(&value) {
        tally.categories[at] += 1;
        return events;
    }
    tally.categories[plan.categories.len()] += 1;
    novel.add(value);
    events | event::UNSEEN
}

#[cfg(test)]
mod tests;
