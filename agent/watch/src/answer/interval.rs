//! Intervals of rates, means and their differences, at 95 %.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;

/// The 97.5 % quantile of the normal law.
pub(super) const Z95: f64 = 1.959_963_984_540_054;

/// A number with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// Rows it rests on.
    pub n: u64,
    /// Where the truth lies, 95 times in a hundred; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

impl Measured {
    pub(super) fn bare(value: f64, n: u64) -> Option<Self> {
        (n > 0 && value.is_finite()).then_some(Self { value, n, interval: None })
    }

    /// A value with its standard error, the interval held within bounds.
    pub(super) fn normal(value: f64, n: u64, error: f64, (low, high): (f64, f64)) -> Option<Self> {
        let reach = Z95 * error;
        let interval = reach.is_finite().then(|| ((value - reach).max(low), (value + reach).min(high)));
        Self::bare(value, n).map(|bare| Self { interval, ..bare })
    }

    /// A share of rows with Wilson's interval (1927); `None` of no rows.
    pub(super) fn rate(hits: u64, n: u64) -> Option<Self> {
        let value = hits as f64 / n.max(1) as f64;
        Self::bare(value, n).map(|bare| Self { interval: Some(wilson(hits, n)), ..bare })
    }

    /// The mean of numbers by their sums, with the interval of the central limit theorem.
    pub(super) fn mean(sum: f64, square: f64, n: u64, bounds: (f64, f64)) -> Option<Self> {
        let rows = n.max(1) as f64;
        let mean = sum / rows;
        let variance = (square / rows - mean * mean).max(0.0);
        Self::normal(mean, n, (variance / rows).sqrt(), bounds)
    }

    /// The difference of two shares, `a - b`, with Newcombe's hybrid score interval (1998, method 10).
    pub(super) fn difference(a: (u64, u64), b: (u64, u64)) -> Option<Self> {
        let (one, two) = (Self::rate(a.0, a.1)?, Self::rate(b.0, b.1)?);
        let ((l1, u1), (l2, u2)) = (one.interval?, two.interval?);
        let value = one.value - two.value;
        let low = value - (one.value - l1).hypot(u2 - two.value);
        let high = value + (u1 - one.value).hypot(two.value - l2);
        Some(Self { value, n: a.1 + b.1, interval: Some((low.max(-1.0), high.min(1.0))) })
    }
}

/// The interval that holds a proportion with 95 % confidence. Wilson 1927, without continuity correction.
#[must_use]
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    let (rows, z2) = (n.max(1) as f64, Z95 * Z95);
    let p = hits as f64 / rows;
    let middle = (p + z2 / (2.0 * rows)) / (1.0 + z2 / rows);
    let reach = Z95 / (1.0 + z2 / rows) * (p * (1.0 - p) / rows + z2 / (4.0 * rows * rows)).sqrt();
    // At the ends the formula is exact, and its rounding is not.
    let low = if hits == 0 { 0.0 } else { middle - reach };
    let high = if hits >= n { 1.0 } else { middle + reach };
    (low, high)
}

/// Difference of two shares and its variance, a half-row of each kind added to each side twice (Agresti and
/// Caffo 2000), so that it is not nought at the ends.
pub(super) fn difference(a: (u64, u64), b: (u64, u64)) -> (f64, f64) {
    let share = |(hits, n): (u64, u64)| (hits as f64 + 1.0) / (n as f64 + 2.0);
    let variance = |side| share(side) * (1.0 - share(side)) / (side.1 as f64 + 2.0);
    let plain = |(hits, n): (u64, u64)| hits as f64 / n.max(1) as f64;
    (plain(a) - plain(b), variance(a) + variance(b))
}

/// Probability of a normal number above `z`.
pub(super) fn above(z: f64) -> f64 {
    if z.is_nan() { 1.0 } else { 0.5 * erfc(z / std::f64::consts::SQRT_2) }
}

/// How many standard errors a difference is; nought over nought is none.
pub(super) fn in_errors(difference: f64, variance: f64) -> f64 {
    if difference == 0.0 || difference.is_nan() {
        return 0.0;
    }
    (difference / variance.max(0.0).sqrt().max(1e-12)).clamp(-1e6, 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_is_that_of_the_tables() {
        for (right, rows, low, high) in
            [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
        {
            let (l, h) = wilson(right, rows);
            assert!((l - low).abs() < 1e-4 && (h - high).abs() < 1e-4, "{right} of {rows}: {l} to {h}");
        }
    }

    #[test]
    fn intervals_are_those_of_the_papers() {
        // Newcombe 1998: 56/70 - 48/80, table II, method 10: 0.0524 to 0.3339.
        let (low, high) = Measured::difference((56, 70), (48, 80)).unwrap().interval.unwrap();
        assert!((low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4, "{low} {high}");
        // Wilson at 81/263 (Newcombe 1998, table I): 0.2553 to 0.3662.
        let (low, high) = Measured::rate(81, 263).unwrap().interval.unwrap();
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        assert_eq!((Measured::rate(0, 0), Measured::difference((1, 2), (0, 0))), (None, None));
        assert_eq!(Measured::bare(f64::NAN, 3), None);
        assert!((above(1.959_964) - 0.025).abs() < 1e-6 && above(f64::NAN) == 1.0);
        assert!(in_errors(0.0, 0.0) == 0.0 && in_errors(1.0, 0.0).is_finite());
    }
}
