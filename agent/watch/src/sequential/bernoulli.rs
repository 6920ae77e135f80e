//! A rate against the one that was promised: errors on labels, missing values, unseen categories.
//!
//! Tests: the rate of marked samples is at most (at least) that of the reference. Each sum is one of
//! log-likelihood ratios of odds that are a fixed multiple of the reference's: a Bernoulli CUSUM, for
//! several multiples at once, so that a doubled rate and a sensor that fails for good are both found
//! soon. False alarms: one in `exp(h)` samples at `log_e = h`, for each side, averaged over what the
//! reference could have been. Blind to changes below about 1.4 times the odds, to which rows are
//! marked, and to runs within an unchanged rate.

use super::Sign;
use super::run_length::{Outcome, allowance, calibrated, log_constant, spaced};
use serde::{Deserialize, Serialize};

/// Odds that are looked for, as multiples of the reference's; for the better side their inverses.
const ODDS: [f64; BETS] = [1.9, 3.5, 16.0];
const BETS: usize = 3;
/// Shares of the false alarms that each may cause: most to the smallest change, which is the hardest to see.
const SHARES: [f64; BETS] = [0.55, 0.3, 0.15];
/// Rows of a reference below which nothing can be said of it. Few as they are, the rate that is held to be promised
/// then lies up to three standard errors on the safe side of what they show.
const MIN_ROWS: f64 = 20.0;
/// No reference is so long that a rate is nearer to nought or one.
const SURE: f64 = 1e-9;
/// A sum stops at this many times the threshold it was made for, so that it comes down when the rate does.
const CAP: f64 = 1.5;

/// What is bet on a rate; made from the reference, no part of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct BernoulliBets {
    worse: [Bet; BETS],
    better: [Bet; BETS],
    cap: f32,
    spacing: u32,
}

/// One multiple of the odds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Bet {
    /// What a marked sample, and one that is not, adds to the sum.
    marked: f32,
    plain: f32,
    /// What turns the sum into the logarithm of a run length.
    offset: f32,
}

impl BernoulliBets {
    /// Bets against the rate of `marked` in `rows` reference samples, of which one in `spacing` counts,
    /// for thresholds up to `log_run_length`. With fewer
    /// than twenty rows nothing is ever found.
    #[must_use]
    pub fn new(marked: u64, rows: u64, spacing: u32, log_run_length: f64) -> Self {
        let spacing = spacing.max(1);
        let height = if log_run_length.is_finite() { log_run_length.clamp(1.0, 40.0) } else { 40.0 };
        let share = 1.0 / f64::from(spacing);
        let (marked, rows) = (marked.min(rows) as f64 * share, rows as f64 * share);
        let side = |is_worse: bool| {
            let bet = |k: usize| bet(marked, rows, ODDS[k], is_worse, height, SHARES[k] * spaced(spacing));
            std::array::from_fn(|k| if rows >= MIN_ROWS { bet(k) } else { Bet::default() })
        };
        Self { worse: side(true), better: side(false), cap: narrow(CAP * height), spacing }
    }
}

fn bet(marked: f64, rows: f64, odds: f64, is_worse: bool, height: f64, share: f64) -> Bet {
    let odds = if is_worse { odds } else { 1.0 / odds };
    let z = allowance(&outcomes((marked + 0.5) / (rows + 1.0), odds), rows, height);
    let rate = wilson(marked, rows, if is_worse { z } else { -z });
    let [hit, miss] = outcomes(rate, odds);
    let offset = log_constant(&[hit, miss]) + share.ln();
    Bet { marked: narrow(hit.payoff.ln()), plain: narrow(miss.payoff.ln()), offset: narrow(offset) }
}

/// Likelihood ratios of a marked sample and of one that is not.
fn outcomes(rate: f64, odds: f64) -> [Outcome; 2] {
    let other = odds * rate / (1.0 - rate + odds * rate);
    let miss = (1.0 - other) / (1.0 - rate);
    [Outcome { probability: rate, payoff: other / rate }, Outcome { probability: 1.0 - rate, payoff: miss }]
}

/// Wilson's bound of a rate (1927), `z` standard errors up or, where negative, down; with half a mark of
/// doubt, so that a rate is never taken to be nought.
fn wilson(marked: f64, rows: f64, z: f64) -> f64 {
    let (rate, square) = ((marked + 0.5) / (rows + 1.0), z * z / rows);
    let half = z * (rate * (1.0 - rate) / rows + square / (4.0 * rows)).sqrt();
    ((rate + square / 2.0 + half) / (1.0 + square)).clamp(SURE, 1.0 - SURE)
}

/// The form sums are kept in: eight digits are more than a threshold needs.
#[expect(clippy::cast_possible_truncation, reason = "a sum of at most a hundred")]
pub(super) fn narrow(x: f64) -> f32 {
    x as f32
}

/// What was seen of one rate. Samples that are not marked only count, and enter the sums when they are
/// asked for: a sample costs a nanosecond.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Bernoulli {
    #[serde(rename = "w")]
    worse: [f32; BETS],
    #[serde(rename = "b")]
    better: [f32; BETS],
    /// Samples since each sum stood at nought.
    #[serde(rename = "ws")]
    worse_since: [u32; BETS],
    #[serde(rename = "bs")]
    better_since: [u32; BETS],
    /// The highest of each sum since the last close.
    #[serde(rename = "wh")]
    worse_highest: [f32; BETS],
    #[serde(rename = "bh")]
    better_highest: [f32; BETS],
    /// Samples since the last marked one, not in the sums yet.
    #[serde(rename = "q")]
    quiet: u32,
    /// Samples since the last that counted.
    #[serde(rename = "t")]
    turn: u32,
}

impl Bernoulli {
    /// Takes one sample.
    pub fn observe(&mut self, bets: &BernoulliBets, is_marked: bool) {
        self.turn += 1;
        if self.turn < bets.spacing {
            return;
        }
        self.turn = 0;
        if !is_marked && self.quiet < u32::MAX {
            self.quiet += 1;
            return;
        }
        self.settle(bets);
        for (k, bet) in bets.worse.iter().enumerate() {
            self.worse[k] = (self.worse[k] + bet.marked).min(bets.cap);
            self.worse_highest[k] = self.worse_highest[k].max(self.worse[k]);
            self.worse_since[k] = self.worse_since[k].saturating_add(1);
        }
        for (k, bet) in bets.better.iter().enumerate() {
            self.better[k] = (self.better[k] + bet.marked).max(0.0);
            self.better_since[k] =
                if self.better[k] > 0.0 { self.better_since[k].saturating_add(1) } else { 0 };
        }
    }

    /// More marked samples than promised.
    #[must_use]
    pub fn worse(&self, bets: &BernoulliBets) -> Sign {
        let settled = self.settled(bets);
        sign(bets, &bets.worse, &settled.worse, &settled.worse_highest, &settled.worse_since)
    }

    /// Fewer marked samples than promised.
    #[must_use]
    pub fn better(&self, bets: &BernoulliBets) -> Sign {
        let settled = self.settled(bets);
        sign(bets, &bets.better, &settled.better, &settled.better_highest, &settled.better_since)
    }

    /// Begins the next window: the sums stay, their highest is forgotten.
    pub fn close(&mut self, bets: &BernoulliBets) {
        self.settle(bets);
        (self.worse_highest, self.better_highest) = ([0.0; BETS], [0.0; BETS]);
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn settled(&self, bets: &BernoulliBets) -> Self {
        let mut settled = self.clone();
        settled.settle(bets);
        settled
    }

    /// Takes the quiet samples into the sums. They only fall on the worse side and only rise on the
    /// better one, so that many at once are the same as one by one.
    fn settle(&mut self, bets: &BernoulliBets) {
        let quiet = self.quiet as f32;
        for (k, bet) in bets.worse.iter().enumerate() {
            self.worse[k] = (self.worse[k] + quiet * bet.plain).max(0.0);
            self.worse_since[k] =
                if self.worse[k] > 0.0 { self.worse_since[k].saturating_add(self.quiet) } else { 0 };
        }
        for (k, bet) in bets.better.iter().enumerate() {
            self.better[k] = (self.better[k] + quiet * bet.plain).min(bets.cap);
            self.better_highest[k] = self.better_highest[k].max(self.better[k]);
            self.better_since[k] = self.better_since[k].saturating_add(self.quiet);
        }
        self.quiet = 0;
    }
}

/// What the loudest of a side's bets says.
fn sign(
    bets: &BernoulliBets,
    side: &[Bet; BETS],
    sums: &[f32; BETS],
    highest: &[f32; BETS],
    since: &[u32; BETS],
) -> Sign {
    let mut sign = Sign::default();
    for (k, bet) in side.iter().enumerate() {
        let log_e = calibrated(sums[k], bet.offset);
        if log_e > sign.log_e {
            sign.log_e = log_e;
            sign.since = u64::from(since[k]) * u64::from(bets.spacing);
        }
        sign.highest = sign.highest.max(log_e).max(calibrated(highest[k], bet.offset));
    }
    sign
}
