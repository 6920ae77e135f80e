//! A token bucket: so many bytes a second, and a burst that was saved up.

use crate::time::Mono;
use std::time::Duration;

/// Parts of a byte that a bucket counts, so that slow rates lose nothing between two looks.
const PARTS: u128 = 1_000_000_000;

/// Grants bytes at a rate. Over any span of time it grants at most the rate's share of it and one burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second; `None`: all that is asked for.
    rate: Option<u64>,
    burst: u64,
    /// In billionths of a byte.
    level: u128,
    at: Mono,
}

impl Bucket {
    /// A full bucket. A rate of zero counts as one byte a second: nothing waits for ever.
    #[must_use]
    pub fn new(rate: Option<u64>, burst: u64, now: Mono) -> Self {
        let rate = rate.map(|rate| rate.max(1));
        Self { rate, burst, level: u128::from(burst) * PARTS, at: now }
    }

    /// Takes so many bytes, if they are there. More than the burst are never there.
    pub fn take(&mut self, now: Mono, bytes: u64) -> bool {
        self.fill(now);
        let wanted = u128::from(bytes) * PARTS;
        if self.rate.is_none() {
            return true;
        }
        let is_there = self.level >= wanted;
        if is_there {
            self.level -= wanted;
        }
        is_there
    }

    /// When so many bytes will be there, or those of a full bucket.
    #[must_use]
    pub fn when(&self, now: Mono, bytes: u64) -> Mono {
        let mut then = *self;
        then.fill(now);
        let Some(rate) = self.rate else { return now };
        let wanted = u128::from(bytes.min(self.burst)) * PARTS;
        let nanos = wanted.saturating_sub(then.level).div_ceil(u128::from(rate));
        now.max(self.at).after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Whether it holds its burst: it need not be remembered any longer.
    #[must_use]
    pub fn is_full(&self, now: Mono) -> bool {
        self.when(now, self.burst) <= now.max(self.at)
    }

    fn fill(&mut self, now: Mono) {
        let Some(rate) = self.rate else { return };
        let gained = now.since(self.at).as_nanos().saturating_mul(u128::from(rate));
        self.level = self.level.saturating_add(gained).min(u128::from(self.burst) * PARTS);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_grants_its_burst_and_then_its_rate() {
        let at = Mono::from_millis;
        let mut bucket = Bucket::new(Some(1_000), 500, at(0));
        for (ms, bytes, granted) in [
            (0, 300, true),
            (0, 300, false),
            (99, 300, false),
            (100, 300, true),
            (100, 1, false),
            (50, 1, false), // time that runs back gives nothing
            (10_000, 501, false),
            (10_000, 500, true),
            (10_001, 1, true),
        ] {
            assert_eq!(bucket.take(at(ms), bytes), granted, "{bytes} at {ms}");
        }
        assert_eq!(bucket.when(at(10_001), 100), at(10_101));
        assert_eq!(bucket.when(at(10_001), 5_000), at(10_501), "a full bucket is all that ever is");
        assert!(!bucket.is_full(at(10_400)) && bucket.is_full(at(10_501)));
        let mut open = Bucket::new(None, 0, at(0));
        assert!(open.take(at(0), u64::MAX) && open.when(at(3), 9) == at(3) && open.is_full(at(0)));
    }

    proptest! {
        #[test]
        fn no_span_gets_more_than_its_rate_and_a_burst(
            rate in 1u64..100_000,
            burst in 1u64..50_000,
            asks in proptest::collection::vec((0u64..300, 1u64..20_000), 1..60),
        ) {
            let mut bucket = Bucket::new(Some(rate), burst, Mono::default());
            let (mut ms, mut granted) = (0, Vec::new());
            for (later, bytes) in asks {
                ms += later;
                if bucket.take(Mono::from_millis(ms), bytes) {
                    granted.push((ms, bytes));
                }
            }
            for (first, (from, _)) in granted.iter().enumerate() {
                let mut sum = 0;
                for (until, bytes) in &granted[first..] {
                    sum += bytes;
                    prop_assert!(sum * 1_000 <= burst * 1_000 + rate * (until - from), "{sum} in {from}..{until}");
                }
            }
        }

        #[test]
        fn what_is_promised_for_a_moment_is_there_then(rate in 1u64..1_000_000, bytes in 1u64..50_000) {
            let mut bucket = Bucket::new(Some(rate), 50_000, Mono::default());
            prop_assert!(bucket.take(Mono::default(), 50_000));
            let then = bucket.when(Mono::default(), bytes);
            prop_assert!(bucket.take(then, bytes));
        }
    }
}
