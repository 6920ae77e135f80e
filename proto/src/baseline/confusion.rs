//! True against predicted classes: integers that add up exactly.

use crate::summary::Counts;
use serde::{Deserialize, Serialize};

/// A confusion table, sparse. For more than [`FULL`](Self::FULL) classes only its diagonal and its margins
/// are kept: they suffice for accuracy, precision, recall and F1, and grow with the classes and not with
/// their square.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    #[serde(rename = "k")]
    classes: u32,
    /// `true × classes + predicted`, or `class × 3 +` 0 (right), 1 (predicted), 2 (true).
    #[serde(rename = "c", with = "crate::summary::rows")]
    cells: Counts,
}

impl Confusion {
    /// Most classes of which every pair is counted.
    pub const FULL: usize = 64;

    /// An empty table.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { classes: u32::try_from(classes).unwrap_or(u32::MAX / 3), cells: Counts::default() }
    }

    /// How many classes.
    #[must_use]
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// Whether every pair of classes is counted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        usize::try_from(self.classes).is_ok_and(|classes| classes <= Self::FULL)
    }

    /// Whether all cells are of its classes.
    #[must_use]
    pub(super) fn fits(&self) -> bool {
        let classes = u64::from(self.classes);
        let cells = if self.is_full() { classes * classes } else { classes * 3 };
        self.cells.iter().all(|(cell, _)| u64::from(cell) < cells)
    }

    /// Counts a row; `false` when there is no such class.
    pub fn add(&mut self, truth: u32, predicted: u32) -> bool {
        if truth.max(predicted) >= self.classes {
            return false;
        }
        if self.is_full() {
            self.cells.add(truth * self.classes + predicted, 1);
        } else {
            self.cells.add(truth * 3, u64::from(truth == predicted));
            self.cells.add(predicted * 3 + 1, 1);
            self.cells.add(truth * 3 + 2, 1);
        }
        true
    }

    /// Adds all rows of another table of as many classes; one of other classes changes nothing and is `false`.
    pub fn absorb(&mut self, other: &Self) -> bool {
        let fits = self.classes == other.classes;
        if fits {
            self.cells.absorb(&other.cells);
        }
        fits
    }

    /// Rows of one true class with one answer; `None` where pairs are not counted.
    #[must_use]
    pub fn get(&self, truth: u32, predicted: u32) -> Option<u64> {
        let inside = self.is_full() && truth.max(predicted) < self.classes;
        inside.then(|| self.cells.get(truth * self.classes + predicted))
    }

    /// (right, predicted, true) rows of each class.
    #[must_use]
    pub fn margins(&self) -> Vec<[u64; 3]> {
        let mut margins = vec![[0_u64; 3]; usize::try_from(self.classes).unwrap_or_default()];
        for (cell, [count]) in self.cells.iter() {
            let mut add = |class: u32, kind: usize| {
                if let Some(row) = usize::try_from(class).ok().and_then(|class| margins.get_mut(class)) {
                    row[kind] += count;
                }
            };
            if self.is_full() {
                let (truth, predicted) = (cell / self.classes, cell % self.classes);
                if truth == predicted {
                    add(truth, 0);
                }
                add(predicted, 1);
                add(truth, 2);
            } else {
                add(cell / 3, usize::try_from(cell % 3).unwrap_or_default());
            }
        }
        margins
    }

    /// (rows, right answers).
    #[must_use]
    pub fn total(&self) -> (u64, u64) {
        self.margins().iter().fold((0, 0), |(rows, right), margin| (rows + margin[2], right + margin[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_table_keeps_the_margins_of_a_full_one() {
        let rows = [(0, 0), (0, 1), (1, 1), (2, 0), (2, 2), (2, 2)];
        let (mut full, mut wide) = (Confusion::new(3), Confusion::new(Confusion::FULL + 1));
        for (truth, predicted) in rows {
            assert!(full.add(truth, predicted) && wide.add(truth, predicted));
        }
        assert!(!full.add(3, 0) && !wide.add(0, 65));
        assert_eq!(full.margins(), wide.margins()[..3]);
        assert_eq!(full.margins(), [[1, 2, 2], [1, 2, 1], [2, 2, 3]]);
        assert_eq!((full.total(), wide.total()), ((6, 4), (6, 4)));
        assert_eq!((full.get(2, 0), wide.get(2, 0)), (Some(1), None));
        assert!(full.fits() && wide.fits() && !full.absorb(&wide));
        let mut twice = full.clone();
        assert!(twice.absorb(&full) && twice.total() == (12, 8));
    }
}
