//! What the tests of columns share.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::baseline::FeatureBaseline;

/// Numbers by a seed.
pub(super) struct Draws(StdRng);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn uniform(&mut self) -> f32 {
        self.0.random()
    }

    pub(super) fn normal(&mut self) -> f32 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }

    pub(super) fn normals(&mut self, many: usize) -> Vec<f32> {
        (0..many).map(|_| self.normal()).collect()
    }

    /// The baseline of so many draws.
    pub(super) fn baseline(&mut self, rows: usize) -> FeatureBaseline {
        FeatureBaseline::of((0..rows).map(|_| f64::from(self.normal())))
    }
}
