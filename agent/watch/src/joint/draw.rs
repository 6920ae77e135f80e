//! Numbers drawn from a seed, the same on every machine and in every build.

/// A counter that is hashed: splitmix64 (Steele, Lea, Flood 2014). Not for secrets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draw(u64);

/// The golden ratio in 64 bits: what the counter grows by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draw {
    /// One stream of a seed; streams of different numbers have nothing to do with each other.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed.wrapping_add(STEP)) ^ mix(stream.wrapping_mul(STEP).wrapping_add(1)))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `bound` (nought where that is nought). The bias of the multiplication (Lemire 2019,
    /// without rejection) is below `bound / 2^64`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.bits()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or_default()
    }

    /// A number in 0 … 1, one excluded.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts things into a random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_is_splitmix64() {
        // The first outputs for the seed 1234567, as in the authors' test vectors.
        let mut draw = Draw(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| draw.bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn draws_are_even_and_streams_differ() {
        let mut draw = Draw::new(7, 0);
        let mut counts = [0_u32; 10];
        (0..100_000).for_each(|_| counts[draw.below(10)] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        let mean = (0..100_000).map(|_| draw.unit()).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.005);
        assert_ne!(Draw::new(7, 0).bits(), Draw::new(7, 1).bits());
        assert_ne!(Draw::new(7, 0).bits(), Draw::new(8, 0).bits());
        assert_eq!(draw.below(0), 0);
        let mut order: Vec<u32> = (0..50).collect();
        draw.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
