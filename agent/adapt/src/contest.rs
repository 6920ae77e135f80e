//! Two who answer the same labelled rows: which of them to believe.

use serde::{Deserialize, Serialize};

/// What an earlier row still counts after one more.
const MEMORY: f64 = 0.998;
/// Standard deviations of a fair coin by which the challenger must lead: once in forty by chance, each time that
/// the two have parted as often as `1 / (1 - MEMORY)` rows allow.
const LEAD: f64 = 2.0;

/// Counts the rows on which only one of two was right, the recent ones more.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Contest {
    /// Only the challenger was right.
    pub challenger: f64,
    /// Only the holder was right.
    pub holder: f64,
}

impl Contest {
    /// Takes a row that both answered.
    pub fn judge(&mut self, challenger_right: bool, holder_right: bool) {
        self.challenger = self.challenger * MEMORY + f64::from(u8::from(challenger_right && !holder_right));
        self.holder = self.holder * MEMORY + f64::from(u8::from(holder_right && !challenger_right));
    }

    /// Whether the challenger is right more often, beyond chance.
    #[must_use]
    pub fn is_won(&self) -> bool {
        self.challenger - self.holder > LEAD * (self.challenger + self.holder + 1.0).sqrt()
    }

    /// Whether the challenger is right less often, beyond chance.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.holder - self.challenger > LEAD * (self.challenger + self.holder + 1.0).sqrt()
    }

    /// Whether it is behind at all: one that answers gives way then.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.challenger < self.holder
    }
}
