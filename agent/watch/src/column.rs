//! One column of the input: its quality, its distribution in windows, and what of it the row-by-row detectors
//! are fed.
//!
//! A [`Reference`] is made once from the package's baseline. [`Columns`] is the state: it counts every row on
//! frozen edges in a [`Tally`] of integers, which add up over a fleet, and tells in [`Seen`], for each column,
//! the bin of the value (what a CUSUM is fed) and the [`event`]s of its quality (what the detectors of rates
//! are fed). Stuck sensors and jumps of scale it finds itself. At a window's close [`WindowTests`] hold the
//! tally against the baseline.

mod columns;
mod distance;
mod novel;
mod order;
mod reference;
mod rhythm;
mod scale;
mod shift;
mod tally;
mod window;

pub use columns::{Columns, Seen, event};
pub use distance::Distances;
pub use novel::{Frequent, Novel};
pub(crate) use order::MOVED;
pub use order::{Rearranged, rearranged};
pub use reference::Reference;
pub use rhythm::{Rhythm, RhythmLearner, Tick};
pub use scale::Jump;
pub use shift::{Mix, Shift, critical_p, join_bins, outside_p, rate_p, split_cells};
pub use tally::{CELLS, ColumnTally, INFINITE, MISSING, Tally, ln_fixed};
pub use window::{RateTest, WindowTests};

#[cfg(test)]
mod tests;
