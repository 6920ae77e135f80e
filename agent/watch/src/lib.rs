//! Watches whether a served model is still right: per sample, in constant memory, at a stated rate of false
//! alarms, with state that adds up over a fleet.
//!
//! Pure: time comes as an argument, nothing is drawn at random but from a seed that is given, and no
//! allocation is made while a row is observed.
#![expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]

pub mod answer;
pub mod budget;
pub mod column;
mod found;
mod inputs;
pub mod joint;
mod outputs;
mod report;
pub mod row;
pub mod sequential;
mod watch;

pub use report::{Drift, FeatureDrift, Moved, Outlying};
pub use watch::{Closed, KEPT_FINDINGS, MAX_FINDINGS, Watch, Watched};

#[cfg(test)]
mod tests;
