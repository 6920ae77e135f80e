//! Which rows are worth a label, decided as each comes, when only so many may be asked for.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Scores that a new one is ranked among.
const RECENT: usize = 100;
/// Share of the rows that are asked for while all of the budget is left: spending it decays exponentially, with
/// twice the budget's rows as its time, so that a period need not be known and its end is never empty-handed.
const EAGER: f64 = 0.5;

/// Multiples of it are spread evenly over [0, 1).
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Asks for the most doubtful rows of the recent ones, as far as the budget reaches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Asker {
    recent: VecDeque<f32>,
    /// Rows that were offered.
    offered: u64,
}

impl Asker {
    /// Whether to ask for a row's label: `doubt` is greater where less is known, `left` of `budget` labels may
    /// still be asked for.
    pub fn offer(&mut self, doubt: f32, left: u64, budget: u64) -> bool {
        let above = self.recent.iter().filter(|other| **other > doubt).count() as f64;
        let equal = self.recent.iter().filter(|other| **other == doubt).count() as f64;
        // Equal ones are put in order by lot, or a model that is always sure would be asked about all or nothing.
        self.offered += 1;
        let lot = (self.offered as f64 * GOLDEN).fract();
        let rank = (above + lot * equal) / self.recent.len().max(1) as f64;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(if doubt.is_nan() { f32::INFINITY } else { doubt });
        left > 0 && rank < EAGER * left as f64 / budget.max(1) as f64
    }
}
