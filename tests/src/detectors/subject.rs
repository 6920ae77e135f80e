//! Our detectors as one thing: a reference, then samples, then an alarm.

use super::streams::{Kind, REFERENCE};
use shoal_proto::baseline::FeatureBaseline;
use shoal_watch::sequential::{Adwin, Bernoulli, BernoulliBets, Conformal, ConformalBets, Shape};

/// Samples in which each of the two halves of a detector (worse, better; location, spread) may be wrong
/// once: both together stay below one in 100,000 with room for the luck of twenty streams.
pub(super) const RUN_LENGTH: f64 = 300_000.0;

/// A detector with its state.
#[derive(Debug)]
pub(super) enum Subject {
    Rate(Box<BernoulliBets>, Bernoulli),
    Ranks(Box<FeatureBaseline>, Box<ConformalBets>, Conformal),
    Mean(Adwin),
}

impl Subject {
    /// The detectors that fit a stream, with their names; the first is the one with targets.
    pub(super) fn all(kind: Kind, reference: &[f64]) -> [(&'static str, Self); 2] {
        let calibrated = match kind {
            Kind::Bernoulli(..) => {
                let marked = reference.iter().filter(|x| **x > 0.5).count() as u64;
                let bets = BernoulliBets::new(marked, reference.len() as u64, 1, RUN_LENGTH.ln());
                ("Bernoulli CUSUM", Self::Rate(Box::new(bets), Bernoulli::default()))
            }
            Kind::Normal(..) => ("conformal CUSUM", Self::ranks(reference, 1)),
        };
        [calibrated, ("our ADWIN", Self::Mean(Adwin::default()))]
    }

    /// A conformal CUSUM of which one sample in `spacing` counts.
    pub(super) fn ranks(reference: &[f64], spacing: u32) -> Self {
        let base = FeatureBaseline::of(reference.iter().copied());
        let bets = ConformalBets::new(&base.counts, Shape::Values, spacing, RUN_LENGTH.ln());
        Self::Ranks(Box::new(base), Box::new(bets), Conformal::default())
    }

    /// Takes a sample and says whether it is an alarm; after one, the detector begins again.
    pub(super) fn observe(&mut self, value: f64) -> bool {
        let threshold = RUN_LENGTH.ln();
        match self {
            Self::Rate(bets, state) => {
                state.observe(bets, value > 0.5);
                let is_alarm = state.worse(bets).louder(state.better(bets)).log_e >= threshold;
                if is_alarm {
                    state.reset();
                }
                is_alarm
            }
            Self::Ranks(base, bets, state) => {
                state.observe(bets, base.bin(value));
                let is_alarm = state.location(bets).louder(state.spread(bets)).log_e >= threshold;
                if is_alarm {
                    state.reset();
                }
                is_alarm
            }
            Self::Mean(window) => window.observe(value).is_some(),
        }
    }
}

/// The part of a stream that is a reference, and the rest.
pub(super) fn split(samples: &[f64]) -> (&[f64], &[f64]) {
    samples.split_at(REFERENCE.min(samples.len()))
}
