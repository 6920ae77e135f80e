//! Latencies in a few counters: quantiles to within a fifth, no lock, no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of a doubling: neighbours differ by at most a quarter of their value.
const PARTS: u32 = 4;
/// Up to two to the 36th nanoseconds, 68 s: longer than any request may take.
const DOUBLINGS: u32 = 36;

/// Latencies since the version serves.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Arc<[AtomicU64]>);

impl Default for Latencies {
    fn default() -> Self {
        Self((0..PARTS * DOUBLINGS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latencies {
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(PARTS.into());
        let doubling = nanos.ilog2();
        let part = (nanos >> (doubling - PARTS.ilog2())) & u64::from(PARTS - 1);
        let place = u64::from((doubling * PARTS).min(PARTS * (DOUBLINGS - 1))) + part;
        if let Some(counter) = usize::try_from(place).ok().and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The latency that this share of the requests stay below, in microseconds; `None` before the first.
    pub(super) fn quantile_us(&self, share: f64) -> Option<f64> {
        self.counts().quantile_us(share)
    }

    pub(super) fn counts(&self) -> LatencyCounts {
        LatencyCounts(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect())
    }
}

/// How many requests had taken how long at one moment.
#[derive(Debug, Clone)]
pub struct LatencyCounts(Vec<u64>);

impl LatencyCounts {
    /// Those that came after an earlier moment of the same version.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// How many requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The latency that this share of them stay below, in microseconds; `None` where there is none.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a rank among requests")]
        let rank = share * self.requests() as f64;
        let mut below = 0;
        let place = self.0.iter().position(|count| {
            below += count;
            #[expect(clippy::cast_precision_loss, reason = "a rank among requests")]
            let reached = below as f64 >= rank;
            reached && below > 0
        })?;
        let (doubling, part) = (place / PARTS as usize, place % PARTS as usize);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let nanos = (1u64 << doubling) as f64 * (1.0 + (part as f64 + 0.5) / f64::from(PARTS));
        Some((nanos / 10.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile_us(0.5), None);
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (share, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let got = latencies.quantile_us(share).unwrap();
            assert!((got - expected).abs() < 0.2 * expected, "{share}: {got}");
        }
    }

    #[test]
    fn a_part_of_the_time_is_told_apart() {
        let latencies = Latencies::default();
        (0..1_000).for_each(|_| latencies.add(Duration::from_micros(50)));
        let before = latencies.counts();
        (0..30).for_each(|_| latencies.add(Duration::from_micros(8_000)));
        let recent = latencies.counts().since(&before);
        assert_eq!(recent.requests(), 30);
        assert!(recent.quantile_us(0.99).unwrap() > 6_000.0);
        assert!(latencies.quantile_us(0.5).unwrap() < 60.0);
        assert_eq!(latencies.counts().since(&latencies.counts()).quantile_us(0.99), None);
    }

    #[test]
    fn extremes_are_counted() {
        let latencies = Latencies::default();
        latencies.add(Duration::ZERO);
        assert!(latencies.quantile_us(1.0).unwrap() < 0.1);
        for _ in 0..9 {
            latencies.add(Duration::from_secs(1_000_000));
        }
        assert!(latencies.quantile_us(0.99).unwrap() > 30e6);
    }
}
