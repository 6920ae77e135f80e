//! Streams with a change at a known sample, the same for every detector and every other program.

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::fmt::Write as _;
use std::path::Path;

/// Samples before the change.
pub(super) const CHANGE: usize = 10_000;
/// Samples of a stream with a change.
pub(super) const LENGTH: usize = 20_000;
/// Samples that are the reference of those detectors that have one.
pub(super) const REFERENCE: usize = 5_000;
/// Samples of a stream without a change, after its reference.
pub(super) const STEADY: usize = 100_000;

/// What the samples are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Marked or not: the rate before and after.
    Bernoulli(f64, f64),
    /// Standard normal before; mean and standard deviation after.
    Normal(f64, f64),
}

/// A stream's law.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Samples over which the change comes.
    pub(super) over: usize,
    /// Whether there is one.
    pub(super) has_change: bool,
}

impl Stream {
    const fn new(name: &'static str, kind: Kind, over: usize, has_change: bool) -> Self {
        Self { name, kind, over, has_change }
    }
}

/// All streams with a change, then those without.
pub(super) const ALL: [Stream; 11] = [
    Stream::new("bern_abrupt_.1_.3", Kind::Bernoulli(0.1, 0.3), 1, true),
    Stream::new("bern_abrupt_.1_.2", Kind::Bernoulli(0.1, 0.2), 1, true),
    Stream::new("bern_gradual1k_.1_.3", Kind::Bernoulli(0.1, 0.3), 1_000, true),
    Stream::new("bern_decrease_.3_.1", Kind::Bernoulli(0.3, 0.1), 1, true),
    Stream::new("gauss_mean+0.5", Kind::Normal(0.5, 1.0), 1, true),
    Stream::new("gauss_mean+1", Kind::Normal(1.0, 1.0), 1, true),
    Stream::new("gauss_mean+1_gradual1k", Kind::Normal(1.0, 1.0), 1_000, true),
    Stream::new("gauss_std_x2", Kind::Normal(0.0, 2.0), 1, true),
    Stream::new("gauss_std_x0.5", Kind::Normal(0.0, 0.5), 1, true),
    Stream::new("bern_none_.1", Kind::Bernoulli(0.1, 0.1), 1, false),
    Stream::new("gauss_none", Kind::Normal(0.0, 1.0), 1, false),
];

/// A normal deviate (Box and Muller).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

impl Stream {
    /// The samples of one seed.
    pub(super) fn samples(&self, seed: u64) -> Vec<f64> {
        let number = ALL.iter().position(|other| other.name == self.name).unwrap_or_default() as u64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | number);
        let length = if self.has_change { LENGTH } else { REFERENCE + STEADY };
        (0..length)
            .map(|at| {
                let share = if self.has_change && at >= CHANGE {
                    ((at - CHANGE + 1) as f64 / self.over as f64).min(1.0)
                } else {
                    0.0
                };
                match self.kind {
                    Kind::Bernoulli(before, after) => {
                        f64::from(u8::from(rng.random_bool(before + (after - before) * share)))
                    }
                    Kind::Normal(mean, spread) => {
                        normal(&mut rng) * (1.0 + (spread - 1.0) * share) + mean * share
                    }
                }
            })
            .collect()
    }
}

/// Writes every stream of every seed as `NAME.SEED.csv`, one value a line with all its digits.
pub(super) fn write(folder: &Path, seeds: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    for stream in ALL {
        for seed in 0..seeds {
            let mut text = String::new();
            for value in stream.samples(seed) {
                writeln!(text, "{value}")?;
            }
            shoal_agent::file::write_atomic(
                &folder.join(format!("{}.{seed}.csv", stream.name)),
                text.as_bytes(),
            )?;
        }
    }
    Ok(())
}
