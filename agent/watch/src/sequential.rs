//! Detectors that look at every sample and state how rarely they are wrong.
//!
//! [`Bernoulli`] watches a rate, [`Conformal`] the location and spread of a value's ranks, both as sums
//! of log-likelihood ratios that begin again at nought (CUSUM, Page 1954), an e-detector after Shin,
//! Ramdas and Rinaldo (2022). [`Adwin`] compares the means of two parts of the recent past (Bifet and
//! Gavaldà 2007). A CUSUM's statistic, [`Sign::log_e`], is calibrated: with no change it reaches `h` once
//! in `exp(h)` samples, so statistics of different detectors, references and bins compare, and a
//! threshold is the logarithm of the run length that is wanted.

mod adwin;
mod bernoulli;
mod conformal;
mod run_length;
mod spacing;

pub use adwin::{Adwin, Change};
pub use bernoulli::{Bernoulli, BernoulliBets};
pub use conformal::{Conformal, ConformalBets, Shape, Side};
pub use spacing::spacing;

/// What a CUSUM says of one kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sign {
    /// Logarithm of the samples in which such a sum is reached once with no change; nought at rest.
    pub log_e: f64,
    /// The highest `log_e` since [`Bernoulli::close`] or [`Conformal::close`], and no less than `log_e`.
    pub highest: f64,
    /// Samples since the sum last stood at nought: the best guess of when the change was.
    pub since: u64,
}

impl Sign {
    /// The one that is further from rest.
    #[must_use]
    pub fn louder(self, other: Self) -> Self {
        if (other.log_e, other.highest) > (self.log_e, self.highest) { other } else { self }
    }
}

#[cfg(test)]
mod tests;
