//! Sums that come out the same to the last bit, whatever the order and however rows were parted.

use serde::{Deserialize, Serialize};

/// What a [`Sum`] counts as 1.
const ONE: f64 = 4_294_967_296.0; // 2^32
/// Numbers are held within this before they are added: 2^62 in fixed point, so 2^65 rows do not overflow.
pub(super) const MOST: f64 = 1_073_741_824.0; // 2^30
/// What a [`Share`] counts as 1.
const SHARE: f64 = 1_073_741_824.0; // 2^30

/// An exact sum in 2^-32ths. Each number is rounded once, to within 1.2e-10, and held within ±2^30; NaN adds
/// nothing. On disk it is two halves, for CBOR has no 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "(i64, u64)", into = "(i64, u64)")]
pub struct Sum(i128);

impl From<(i64, u64)> for Sum {
    fn from((high, low): (i64, u64)) -> Self {
        Self((i128::from(high) << 64) | i128::from(low))
    }
}

impl From<Sum> for (i64, u64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the two halves")]
    fn from(sum: Sum) -> Self {
        ((sum.0 >> 64) as i64, sum.0 as u64)
    }
}

impl Sum {
    /// Adds one number.
    pub fn add(&mut self, number: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "within 2^62; NaN is nought")]
        let whole = (number.clamp(-MOST, MOST) * ONE).round() as i64;
        self.0 = self.0.wrapping_add(i128::from(whole));
    }

    /// Adds another sum.
    pub fn absorb(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The sum, rounded.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0 as f64 / ONE
    }
}

/// An exact sum of numbers between 0 and 1 in 2^-30ths: enough for 10^10 rows, beyond which it stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u64);

impl Share {
    /// Adds one number; NaN adds nothing.
    pub fn add(&mut self, number: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^30")]
        let whole = (number.clamp(0.0, 1.0) * SHARE + 0.5) as u64;
        self.0 = self.0.saturating_add(whole);
    }

    /// Adds another sum.
    pub fn absorb(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// The sum, rounded.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0 as f64 / SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::wire::{from_cbor, to_cbor};

    #[test]
    fn sums_survive_the_disk_and_hold_extremes() {
        for numbers in [vec![], vec![-1.5, 0.25], vec![1e300, f64::NEG_INFINITY, 3.0], vec![f64::NAN, -7.0]] {
            let (mut sum, mut share) = (Sum::default(), Share::default());
            for number in &numbers {
                sum.add(*number);
                share.add(*number);
            }
            assert_eq!(from_cbor::<Sum>(&to_cbor(&sum)).unwrap(), sum);
            assert_eq!(from_cbor::<Share>(&to_cbor(&share)).unwrap(), share);
            let expected: f64 = numbers.iter().filter(|n| !n.is_nan()).map(|n| n.clamp(-MOST, MOST)).sum();
            assert!((sum.value() - expected).abs() < 1e-9, "{} {expected}", sum.value());
            assert!(share.value() >= 0.0);
        }
    }
}
