//! What a model answers: its predictions, what they promise, and what labels say of them.
//!
//! | what | state | question | Monitor |
//! |---|---|---|---|
//! | [`AnswerWindow`] | counts of a window | are answers distributed as they were? | Prediction |
//! | [`Estimate`] | the same | how good are they, by their own confidence? | Estimate |
//! | [`Priors`] | the same | which classes have become more frequent? | |
//! | [`Performance`], [`Metrics`] | counts of labels of a window | how good were they? | Calibration |
//! | [`LateLabels`] | the last windows | which window was a label's prediction in? | |
//! | [`bias`] | both | is a group treated worse than the others? | Parity, Opportunity |
//!
//! [`AnswerReference`] is what all are held against, [`of_classes`] and [`of_values`] take it when a package is
//! made. All counts are integers: they add up to the same bytes however rows were parted.

mod auc;
mod baseline;
pub mod bias;
mod calibration;
mod error_model;
mod estimate;
mod fixed;
mod group;
mod interval;
mod judge;
mod late;
mod metrics;
mod performance;
mod prior;
mod probability;
mod reference;
mod window;

pub use auc::{Auc, aucs};
pub use baseline::{of_classes, of_values};
pub use calibration::Calibration;
pub use error_model::expected_error;
pub use estimate::{ClassEstimate, Estimate};
pub use fixed::{Share, Sum};
pub use group::{GroupCodes, Groups, NO_PART};
pub use interval::{Measured, wilson};
pub use judge::{Found, Material, WindowTest, decide};
pub use late::{Attributed, LateLabels, WINDOWS};
pub use metrics::{ClassMetrics, Metrics};
pub use performance::{Label, Outcome, Performance};
pub use prior::Priors;
pub use probability::{probabilities, top};
pub use reference::AnswerReference;
pub use window::AnswerWindow;

#[cfg(test)]
mod tests;
