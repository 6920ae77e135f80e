//! Rows that are never read the same twice.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::{Dataset, Source, SourceError, TargetKind};

/// Apart from the order of rows and the first weights.
const NOISE_STREAM: u64 = 3;

/// Rows with normal noise added to every feature at each reading, by the seed: what is learned from them does
/// not lean on small differences (Bishop 1995: a penalty on slopes), which are the first that drift destroys.
#[derive(Debug)]
pub(super) struct Noisy {
    rows: Dataset,
    deviation: f64,
    random: ChaCha8Rng,
}

impl Noisy {
    pub(super) fn new(rows: Dataset, deviation: f64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(NOISE_STREAM);
        Self { rows, deviation, random }
    }

    /// Two normal numbers; Box and Muller's transform.
    #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
    fn pair(&mut self) -> [f32; 2] {
        let radius = (-2.0 * (1.0 - self.random.random::<f64>()).ln()).sqrt() * self.deviation;
        let (sin, cos) = (self.random.random::<f64>() * std::f64::consts::TAU).sin_cos();
        [(radius * sin) as f32, (radius * cos) as f32]
    }
}

impl Source for Noisy {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn width(&self) -> usize {
        Source::width(&self.rows)
    }

    fn targets(&self) -> TargetKind {
        Source::targets(&self.rows)
    }

    fn weight(&self, row: usize) -> f32 {
        self.rows.weight(row)
    }

    fn read(&mut self, rows: &[usize], features: &mut [f32], targets: &mut [f32]) -> Result<(), SourceError> {
        self.rows.read(rows, features, targets)?;
        if self.deviation > 0.0 {
            for values in features.chunks_mut(2) {
                values.iter_mut().zip(self.pair()).for_each(|(value, noise)| *value += noise);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Targets;

    #[test]
    fn each_reading_has_noise_of_its_own_and_a_seed_all_of_it() {
        let rows = Dataset::new(3, vec![1.0; 3000], Targets::Classes(vec![1; 1000]), Vec::new()).unwrap();
        let all: Vec<usize> = (0..1000).collect();
        let read = |source: &mut Noisy| {
            let (mut features, mut targets) = (vec![0.0; 3000], vec![0.0; 1000]);
            source.read(&all, &mut features, &mut targets).unwrap();
            assert_eq!(targets, [1.0; 1000]);
            features
        };
        let mut one = Noisy::new(rows.clone(), 0.3, 7);
        let (first, second) = (read(&mut one), read(&mut one));
        assert_ne!(first, second);
        assert_eq!(read(&mut Noisy::new(rows.clone(), 0.3, 7)), first);
        assert_ne!(read(&mut Noisy::new(rows.clone(), 0.3, 8)), first);
        assert_eq!(read(&mut Noisy::new(rows, 0.0, 7)), [1.0; 3000]);
        let mean = first.iter().sum::<f32>() / 3000.0;
        let deviation = (first.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 3000.0).sqrt();
        assert!((mean - 1.0).abs() < 0.02 && (deviation - 0.3).abs() < 0.02, "{mean} {deviation}");
    }
}
