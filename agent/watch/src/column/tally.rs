//! Integer counts of a window on frozen edges: they add up exactly over a fleet.

use super::reference::Reference;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{BINS, FeatureBaseline};
use shoal_proto::summary::{Counts, FeatureSummary, Fixed};

/// Codes of a row's value in one column: its bin, or one of the two below.
pub const CELLS: usize = BINS + 2;
/// The code of a value that is missing: null or NaN.
pub const MISSING: u8 = 20;
/// The code of an infinite value.
pub const INFINITE: u8 = 21;
const _: () = assert!(MISSING as usize == BINS && INFINITE as usize == BINS + 1);

/// The counts of one window, of all columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows.
    #[serde(rename = "n")]
    pub rows: u64,
    /// Rows that were the same as the one before.
    #[serde(rename = "d")]
    pub duplicates: u64,
    /// One a column, in the manifest's order.
    #[serde(rename = "c")]
    pub columns: Vec<ColumnTally>,
}

/// The counts of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnTally {
    /// Rows by code: the baseline's bins from the first on, then [`MISSING`], then [`INFINITE`].
    #[serde(rename = "c")]
    pub cells: [u64; CELLS],
    /// Finite values below the least of the baseline.
    #[serde(rename = "b")]
    pub below: u64,
    /// Finite values above the greatest of the baseline.
    #[serde(rename = "a")]
    pub above: u64,
    /// Rows whose value is that of the last row that had one.
    #[serde(rename = "r")]
    pub repeats: u64,
    /// Rows with a fraction where the baseline has whole numbers only.
    #[serde(rename = "f")]
    pub fractions: u64,
    /// Values that are not nought.
    #[serde(rename = "s")]
    pub sized: u64,
    /// Sum of `ln |x|` of those, in 2^-16.
    #[serde(rename = "l")]
    pub logs: i64,
    /// Rows of each of the baseline's categories, and last of all others; empty unless it is a category.
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<u64>,
}

impl Tally {
    /// No rows, on a reference's edges.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        let columns =
            (0..reference.width()).map(|at| ColumnTally::empty(vec![0; reference.category_cells(at)]));
        Self { rows: 0, duplicates: 0, columns: columns.collect() }
    }

    /// Whether these counts have the cells of a reference.
    #[must_use]
    pub fn fits(&self, reference: &Reference) -> bool {
        self.columns.len() == reference.width()
            && (0..)
                .zip(&self.columns)
                .all(|(at, column)| column.categories.len() == reference.category_cells(at))
    }

    /// Adds all of another, in whatever order: the sum is the same to the bit. `false`, and nothing added,
    /// where the two have not the same cells.
    #[must_use]
    pub fn absorb(&mut self, other: &Self) -> bool {
        let alike = |(a, b): (&ColumnTally, &ColumnTally)| a.categories.len() == b.categories.len();
        if self.columns.len() != other.columns.len() || !self.columns.iter().zip(&other.columns).all(alike) {
            return false;
        }
        add(&mut self.rows, other.rows);
        add(&mut self.duplicates, other.duplicates);
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.absorb(theirs);
        }
        true
    }

    /// Forgets all rows.
    pub fn reset(&mut self) {
        (self.rows, self.duplicates) = (0, 0);
        for column in &mut self.columns {
            let mut categories = std::mem::take(&mut column.categories);
            categories.fill(0);
            *column = ColumnTally::empty(categories);
        }
    }

    /// The counts as they travel. Repeated values are not among them: they depend on which rows stand
    /// beside each other, so that a fleet's would not add up to those of one stream.
    #[must_use]
    pub fn summaries(&self) -> Vec<FeatureSummary> {
        let one = |column: &ColumnTally| FeatureSummary {
            counts: Counts::of(&column.cells[..BINS]),
            missing: column.missing(),
            infinite: column.infinite(),
            out_of_range: column.below + column.above,
            below: column.below,
            categories: Counts::of(&column.categories[..column.categories.len().saturating_sub(1)]),
            unseen: column.unlisted(),
            log_size: Fixed::from_units(column.logs, LOG_PLACES),
            zeros: column.finite().saturating_sub(column.sized),
            ..FeatureSummary::default()
        };
        self.columns.iter().map(one).collect()
    }
}

impl ColumnTally {
    fn empty(categories: Vec<u64>) -> Self {
        Self {
            cells: [0; CELLS],
            below: 0,
            above: 0,
            repeats: 0,
            fractions: 0,
            sized: 0,
            logs: 0,
            categories,
        }
    }

    fn absorb(&mut self, other: &Self) {
        let counts = self.cells.iter_mut().zip(&other.cells);
        let categories = self.categories.iter_mut().zip(&other.categories);
        counts.chain(categories).for_each(|(mine, theirs)| add(mine, *theirs));
        add(&mut self.below, other.below);
        add(&mut self.above, other.above);
        add(&mut self.repeats, other.repeats);
        add(&mut self.fractions, other.fractions);
        add(&mut self.sized, other.sized);
        self.logs = self.logs.wrapping_add(other.logs); // wraps and not saturates: the order must not matter
    }

    /// Rows in the bins of a baseline.
    #[must_use]
    pub fn bins(&self, baseline: &FeatureBaseline) -> &[u64] {
        &self.cells[..baseline.counts.len().min(BINS)]
    }

    /// Rows without a value.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.cells[usize::from(MISSING)]
    }

    /// Rows with an infinite value.
    #[must_use]
    pub fn infinite(&self) -> u64 {
        self.cells[usize::from(INFINITE)]
    }

    /// Rows with a finite value.
    #[must_use]
    pub fn finite(&self) -> u64 {
        self.cells[..BINS].iter().sum()
    }

    /// Rows with a number, infinities among them.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.finite() + self.infinite()
    }

    /// Rows of categories that the baseline does not list.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.categories.last().copied().unwrap_or_default()
    }
}

fn add(mine: &mut u64, theirs: u64) {
    *mine = mine.saturating_add(theirs);
}

/// Binary places of [`ln_fixed`].
pub(super) const LOG_PLACES: u32 = 16;

/// `ln |x|` in 2^-16, within 1e-4, of a finite value that is not nought; the same on every processor. What is
/// below the least normal number counts as that.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "|ln| of a float is below 104")]
#[expect(clippy::cast_possible_wrap, reason = "an exponent has eight bits")]
pub fn ln_fixed(x: f32) -> i32 {
    // log2(1 + m) is m and a parabola that is nought at both ends, bent by a cubic of least squares.
    const BEND: [f32; 4] = [0.441_740_3, -0.266_029_9, 0.146_314_3, -0.044_004_7];
    let bits = (x.to_bits() & 0x7fff_ffff).max(0x0080_0000);
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000) - 1.0;
    let bend = BEND[0] + m * (BEND[1] + m * (BEND[2] + m * BEND[3]));
    let log2 = exponent as f32 + (m + m * (1.0 - m) * bend);
    (log2 * (std::f32::consts::LN_2 * 65_536.0)) as i32
}

#[cfg(test)]
mod tests;
