//! Jumps of scale: another unit, or a decimal point that moved.
//!
//! Of each block of 32 rows the mean of `ln |x|` is held against the baseline's. It has jumped when two blocks
//! in a row lie beyond what the baseline's spread explains (each at the wanted rate of false alarms as if it
//! were alone: the second is the margin for tails that are heavier than normal), by the same factor, with the
//! spread that a factor or a change of unit leaves. So a jump is told after 64 to 95 rows, within 8 standard
//! errors at most; a factor below three only where it is a usual one and the block's mean tells it from its
//! neighbours.
//!
//! Blind to values of nought, to a change of sign alone, to a factor that a block's mean does not show, and to
//! drift that is slower than a block. A drift by many standard deviations that happens to end at a usual factor
//! is taken for it; of a column whose values spread over decades the nearest usual factor is a guess, the
//! factor itself is told beside it.

use serde::{Deserialize, Serialize};
use shoal_proto::baseline::FeatureBaseline;
use statrs::distribution::{ContinuousCDF as _, Normal};

/// Rows of a block.
pub(super) const BLOCK: u32 = 32;
/// Values that are not nought, of a block that says something.
const MIN_VALUES: u32 = BLOCK / 2;
/// One in a logarithm of a block: 2^-8.
const ONE: f64 = 256.0;
/// How far a logarithm counts from the centre, as in the baseline.
const REACH: i32 = 16 * 256;
/// What is below this factor, ln 1.7, is a drift: a column a third of its mean wide gets so far by one standard
/// deviation or two.
const LEAST: f64 = 0.53;
/// A factor from which on any is a jump: ln 3.
const ANY: f64 = 1.0986;
/// Standard error of a mean up to which factors below three are told apart.
const RESOLVED: f64 = 0.05;
/// The spread of a block beside the one expected: 32 values tell it within a third, those of one block of a
/// slow signal are closer to each other.
const SPREAD: (f64, f64) = (0.4, 1.75);

/// What being earlier in the tables is worth in doubt: powers of ten are commoner than 1024.
const COMMONER: f64 = 0.01;
/// Factors between units that are mixed up, one way; the other way is the inverse. The commoner ones first.
const USUAL: [(f64, &str, &str); 14] = [
    (10.0, "x 10", "/ 10"),
    (100.0, "x 100 (share to per cent)", "/ 100 (per cent to share)"),
    (1_000.0, "x 1000 (kilo to one, or one to milli)", "/ 1000 (milli to one, or one to kilo)"),
    (1_000_000.0, "x 1000000 (one to micro)", "/ 1000000 (micro to one)"),
    (25.4, "x 25.4 (inch to mm)", "/ 25.4 (mm to inch)"),
    (2.54, "x 2.54 (inch to cm)", "/ 2.54 (cm to inch)"),
    (0.453_592, "x 0.4536 (pound to kg)", "/ 0.4536 (kg to pound)"),
    (3.6, "x 3.6 (m/s to km/h)", "/ 3.6 (km/h to m/s)"),
    (60.0, "x 60 (minute to second)", "/ 60 (second to minute)"),
    (3_600.0, "x 3600 (hour to second)", "/ 3600 (second to hour)"),
    (1_024.0, "x 1024 (kibi)", "/ 1024 (kibi)"),
    (std::f64::consts::PI / 180.0, "x pi/180 (degree to radian)", "x 180/pi (radian to degree)"),
    (6.894_76, "x 6.895 (psi to kPa)", "/ 6.895 (kPa to psi)"),
    (0.3048, "x 0.3048 (foot to m)", "/ 0.3048 (m to foot)"),
];
/// Changes of unit with an offset, as `slope * x + offset`.
const AFFINE: [(f64, f64, &str); 4] = [
    (1.8, 32.0, "°C to °F"),
    (1.0 / 1.8, -32.0 / 1.8, "°F to °C"),
    (1.0, 273.15, "°C to K"),
    (1.0, -273.15, "K to °C"),
];

/// A scale that is another than the baseline's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jump {
    /// How many times as large values are.
    pub factor: f64,
    /// The usual change of unit that it is nearest to.
    pub usual: Option<&'static str>,
    /// Standard errors of a block's mean by which it is off, and from how many on that is a jump.
    pub sigmas: f64,
    /// From how many on it is one.
    pub threshold: f64,
}

/// What a column's logarithms are held against.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expected {
    /// Mean of `ln |x|`, in 2^-16.
    pub(super) centre: i32,
    /// Standard deviation of `ln |x|`.
    std: f64,
    /// Standard error of a full block's mean.
    error: f64,
    /// Standard errors from which on a block is off.
    sigmas: f64,
    /// A typical value with its sign, where all have the same and are near each other.
    typical: Option<f64>,
    slow: bool,
}

/// A column's block, and what came of the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "n")]
    rows: u32,
    #[serde(rename = "s")]
    sum: i32,
    #[serde(rename = "q")]
    squares: u32,
    /// By how much the last block was off; nought for not.
    #[serde(rename = "b")]
    before: i16,
    /// The jump that was found, as a logarithm; nought for none.
    #[serde(rename = "j")]
    jump: i16,
    /// The spread it was found with.
    #[serde(rename = "d")]
    spread: u16,
}

impl Expected {
    pub(super) fn new(feature: &FeatureBaseline, one_false_in: f64) -> Option<Self> {
        let size = feature.magnitude.filter(|size| size.mean.is_finite() && size.std.is_finite())?;
        let spacing = f64::from(feature.spacing.max(1));
        let effective = |rows: f64| (rows / spacing).max(1.0);
        let error = size.std * (1.0 / effective(f64::from(BLOCK)) + 1.0 / effective(size.rows as f64)).sqrt();
        let p = (f64::from(BLOCK) / one_false_in / 2.0).clamp(1e-12, 0.05);
        let one_sign = size.negative == 0 || size.negative == size.rows;
        let sign = if size.negative == 0 { 1.0 } else { -1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "|ln| of a number is below 746")]
        Some(Self {
            centre: (size.mean * 65_536.0).round() as i32,
            std: size.std,
            error: error + 0.5 / ONE,
            sigmas: Normal::standard().inverse_cdf(1.0 - p),
            typical: (one_sign && size.std <= 0.5).then(|| sign * size.mean.exp()),
            slow: spacing > 4.0,
        })
    }

    /// The change of unit that a shift of `ln |x|` and its new spread are nearest to.
    fn usual(&self, shift: f64, spread: f64) -> Option<&'static str> {
        let tolerance = (3.0 * self.error / std::f64::consts::SQRT_2 + 0.01).min(0.2);
        let score = |expected: f64, ratio: f64| {
            let off = (shift - expected).abs() / tolerance;
            let wider = ((spread + 0.02) / (self.std * ratio + 0.02)).ln().abs();
            (off <= 1.0 && self.is_spread(spread, ratio)).then_some(off + wider)
        };
        let factors = USUAL.iter().flat_map(|(factor, up, down)| {
            [(score(factor.ln(), 1.0), *up), (score(-factor.ln(), 1.0), *down)]
        });
        let affine = AFFINE.iter().map(|(slope, offset, name)| {
            let of = |typical: f64| {
                let now = slope * typical + offset;
                if now == 0.0 {
                    None
                } else {
                    score((now / typical).abs().ln(), (slope * typical / now).abs())
                }
            };
            (self.typical.and_then(of), *name)
        });
        let all = factors.chain(affine).enumerate();
        let all = all.filter_map(|(at, (score, name))| Some((score? + COMMONER * at as f64, name)));
        all.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
    }

    fn is_spread(&self, spread: f64, ratio: f64) -> bool {
        let expected = self.std * ratio;
        spread <= SPREAD.1 * expected + 0.05 && (self.slow || spread >= SPREAD.0 * expected - 0.02)
    }

    /// Whether a block that is off by so much is one of another scale, and not of values elsewhere.
    fn is_jump(&self, shift: f64, spread: f64) -> bool {
        let size = shift.abs();
        let beyond = size >= LEAST && size > self.sigmas * self.error;
        let known = || self.error <= RESOLVED && self.usual(shift, spread).is_some();
        beyond && ((size >= ANY && self.is_spread(spread, 1.0)) || known())
    }
}

impl Block {
    /// One value: its logarithm beside the centre's, in 2^-16.
    #[inline]
    pub(super) fn add(&mut self, off: i32) {
        let off = (off >> 8).clamp(-REACH, REACH);
        self.rows += 1;
        self.sum += off;
        self.squares += off.unsigned_abs() * off.unsigned_abs();
    }

    /// Closes the block; whether a jump was found, or is over.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 16 * 256")]
    pub(super) fn close(&mut self, expected: Option<&Expected>) -> bool {
        let Self { rows, sum, squares, before, jump, .. } = *self;
        (self.rows, self.sum, self.squares) = (0, 0, 0);
        let Some(expected) = expected.filter(|_| rows >= MIN_VALUES) else { return false };
        let mean = f64::from(sum) / f64::from(rows);
        let spread = (f64::from(squares) / f64::from(rows) - mean * mean).max(0.0).sqrt();
        let (shift, last) = (mean / ONE, f64::from(before) / ONE);
        self.before = if expected.is_jump(shift, spread / ONE) { mean.round() as i16 } else { 0 };
        let close_by = 0.05 + 4.0 * expected.error; // of two blocks' difference that is 2.8 standard errors

        if self.before == 0 {
            self.jump = 0;
        } else if before != 0 && (shift - last).abs() <= close_by {
            // The first block may hold rows of before the jump: it counts where it agrees.
            let agrees = (shift - last).abs() <= 3.0 * expected.error;
            let both = if agrees { mean.midpoint(f64::from(before)) } else { mean };
            (self.jump, self.spread) = (both.round() as i16, spread as u16);
        }
        (jump == 0) != (self.jump == 0)
    }

    /// The jump that was found last.
    pub(super) fn jump(&self, expected: &Expected) -> Option<Jump> {
        let shift = f64::from(self.jump) / ONE;
        (self.jump != 0).then(|| Jump {
            factor: shift.exp(),
            usual: expected.usual(shift, f64::from(self.spread) / ONE),
            sigmas: shift.abs() / expected.error,
            threshold: expected.sigmas,
        })
    }
}

#[cfg(test)]
mod tests;
