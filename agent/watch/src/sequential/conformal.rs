//! Location and spread of a value, from the bin of the reference's histogram that each sample falls in.
//!
//! Tests: samples are drawn as the reference was. A bin stands for ranks, and ranks for normal scores
//! (van der Waerden), so the form of the reference's distribution does not matter; on them eight
//! likelihood ratios are bet: two sizes each of higher, lower, wider and narrower. A sum of their
//! logarithms that begins again at nought is an e-detector (Shin, Ramdas and Rinaldo 2022) on a conformal
//! test martingale (Vovk), with bets that are fixed where theirs jump. False alarms: one in `exp(h)`
//! samples at `log_e = h`, for location and for spread, averaged over what the reference could have been.
//! Blind to changes that keep mean and spread of the scores (two peaks for one), and to shifts within
//! one bin; the window tests see the first. Samples must be near enough independent: see
//! [`spacing`](super::spacing()).

use super::Sign;
use super::bernoulli::narrow;
use super::run_length::{MIN_ROWS, Outcome, allowance, calibrated, deviation, log_constant, spaced};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// Shifts that are looked for, in standard deviations of the normal scores.
const SHIFTS: [f64; 2] = [0.4, 0.9];
/// Factors of the spread that are looked for.
const FACTORS: [f64; 2] = [1.4, 2.0];
/// Bets: each [`Side`] with each size.
const LANES: usize = 8;
/// A sample pays at most this, so that one in a rare bin is no finding by itself.
const MAX_PAYOFF: f64 = 8.0;
/// A sum stops at this many times the threshold it was made for, so that it comes down when values do.
const CAP: f64 = 1.5;

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Values are greater.
    Higher,
    /// Values are smaller.
    Lower,
    /// Values lie further apart.
    Wider,
    /// Values lie closer together.
    Narrower,
}

impl Side {
    /// All kinds, in the order of the bets.
    pub const ALL: [Self; 4] = [Self::Higher, Self::Lower, Self::Wider, Self::Narrower];

    /// Its first bet.
    fn lane(self) -> usize {
        self as usize * 2
    }
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Values: location and spread.
    Values,
    /// Sizes of errors: location only.
    Sizes,
    /// Distances: only higher ones.
    Distances,
}

impl Shape {
    fn watches(self, side: Side) -> bool {
        match self {
            Self::Values => true,
            Self::Sizes => matches!(side, Side::Higher | Side::Lower),
            Self::Distances => side == Side::Higher,
        }
    }
}

/// What is bet on each bin; made from the reference, no part of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformalBets {
    /// What a sample in each bin adds to each sum.
    table: Vec<[f32; LANES]>,
    /// What turns a sum into the logarithm of a run length.
    offsets: [f32; LANES],
    cap: f32,
    spacing: u32,
}

impl ConformalBets {
    /// Bets against a reference histogram, of whose rows and of the samples one in `spacing` counts, for
    /// thresholds up to `log_run_length`. Fewer than two bins with rows, or thirty rows,
    /// leave nothing to find.
    #[must_use]
    pub fn new(counts: &[u64], shape: Shape, spacing: u32, log_run_length: f64) -> Self {
        let spacing = spacing.max(1);
        let height = if log_run_length.is_finite() { log_run_length.clamp(1.0, 40.0) } else { 40.0 };
        let rows = counts.iter().sum::<u64>() as f64;
        let masses: Vec<f64> =
            counts.iter().map(|count| (*count as f64 + 0.5) / (rows + 0.5 * counts.len() as f64)).collect();
        let mut bets = Self {
            table: vec![[-1.0; LANES]; counts.len()],
            offsets: [0.0; LANES],
            cap: narrow(CAP * height),
            spacing,
        };
        let n = rows / f64::from(spacing);
        if n < MIN_ROWS || counts.iter().filter(|count| **count > 0).count() < 2 {
            return bets;
        }
        for side in Side::ALL.into_iter().filter(|side| shape.watches(*side)) {
            let rivals = if shape == Shape::Distances { 2.0_f64 } else { 4.0 };
            for size in 0..2 {
                let outcomes = payoffs(&masses, side, size);
                let z = allowance(&outcomes, n, height);
                let doubt = (z * deviation(&outcomes) / n.sqrt()).ln_1p();
                let lane = side.lane() + size;
                for (row, outcome) in bets.table.iter_mut().zip(&outcomes) {
                    row[lane] = narrow(outcome.payoff.ln() - doubt);
                }
                bets.offsets[lane] = narrow(log_constant(&outcomes) - rivals.ln() + spaced(spacing).ln());
            }
        }
        bets
    }

    /// Bins that it knows.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.table.len()
    }
}

/// The likelihood ratio of each bin: its mass under the change by its mass without.
pub(super) fn payoffs(masses: &[f64], side: Side, size: usize) -> Vec<Outcome> {
    let (shift, factor) = match side {
        Side::Higher => (SHIFTS[size], 1.0),
        Side::Lower => (-SHIFTS[size], 1.0),
        Side::Wider => (0.0, FACTORS[size]),
        Side::Narrower => (0.0, 1.0 / FACTORS[size]),
    };
    let law = Normal::standard();
    let (mut sum, mut below) = (0.0, 0.0);
    let mut outcomes: Vec<Outcome> = masses
        .iter()
        .enumerate()
        .map(|(bin, mass)| {
            sum += mass;
            let is_last = bin + 1 == masses.len();
            let now = if is_last { 1.0 } else { law.cdf((law.inverse_cdf(sum.min(1.0)) - shift) / factor) };
            let other = (now - below).max(0.0);
            below = now;
            Outcome { probability: *mass, payoff: (other / mass).clamp(1.0 / MAX_PAYOFF, MAX_PAYOFF) }
        })
        .collect();
    let mean: f64 = outcomes.iter().map(|o| o.probability * o.payoff).sum();
    for outcome in &mut outcomes {
        outcome.payoff /= mean;
    }
    outcomes
}

/// What was seen of one value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Conformal {
    #[serde(rename = "s")]
    sums: [f32; LANES],
    /// The highest of each sum since the last close.
    #[serde(rename = "h")]
    highest: [f32; LANES],
    /// Samples since each sum stood at nought.
    #[serde(rename = "n")]
    since: [u32; LANES],
    /// Samples since the last that counted.
    #[serde(rename = "t")]
    turn: u32,
}

impl Conformal {
    /// Takes one sample by its bin in the reference's histogram. A bin that the reference does not have
    /// counts as the last.
    pub fn observe(&mut self, bets: &ConformalBets, bin: usize) {
        self.turn += 1;
        if self.turn < bets.spacing {
            return;
        }
        self.turn = 0;
        let Some(row) = bets.table.get(bin).or(bets.table.last()) else { return };
        for (lane, pays) in row.iter().enumerate() {
            let sum = (self.sums[lane] + pays).clamp(0.0, bets.cap);
            self.sums[lane] = sum;
            self.highest[lane] = self.highest[lane].max(sum);
            self.since[lane] = if sum > 0.0 { self.since[lane].wrapping_add(1) } else { 0 };
        }
    }

    /// What is said of one kind of change.
    #[must_use]
    pub fn sign(&self, bets: &ConformalBets, side: Side) -> Sign {
        let mut sign = Sign::default();
        for lane in side.lane()..side.lane() + 2 {
            let log_e = calibrated(self.sums[lane], bets.offsets[lane]);
            if log_e > sign.log_e {
                sign.log_e = log_e;
                sign.since = u64::from(self.since[lane]) * u64::from(bets.spacing);
            }
            sign.highest = sign.highest.max(calibrated(self.highest[lane], bets.offsets[lane]));
        }
        sign
    }

    /// Values are higher or lower, whichever is said louder.
    #[must_use]
    pub fn location(&self, bets: &ConformalBets) -> Sign {
        self.sign(bets, Side::Higher).louder(self.sign(bets, Side::Lower))
    }

    /// Values lie further apart or closer together, whichever is said louder.
    #[must_use]
    pub fn spread(&self, bets: &ConformalBets) -> Sign {
        self.sign(bets, Side::Wider).louder(self.sign(bets, Side::Narrower))
    }

    /// Begins the next window: the sums stay, their highest is forgotten.
    pub fn close(&mut self) {
        self.highest = [0.0; LANES];
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
