//! Numbers that are computed with: 32 bits to train, 64 bits to check.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A floating point number with the functions that kernels need.
///
/// In 32 bits the functions are written without branches, so that loops over them become vector
/// instructions; they are right to a few units in the last place.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Debug
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// Nought.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Below all numbers.
    const LOWEST: Self;

    /// The nearest number.
    fn of(value: f64) -> Self;
    /// The same number in 64 bits.
    fn f64(self) -> f64;
    /// e to the power of it.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Without its sign.
    fn abs(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// To a power.
    fn pow(self, power: Self) -> Self;
    /// The next whole number below.
    fn floor(self) -> Self;

    /// `1 / (1 + exp(-x))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }

    /// The larger of two; `other` when this one is not a number.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// The smaller of two; `other` when this one is not a number.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }

    /// Multiplies matrices; [`crate::kernel::gemm`] checks the bounds.
    #[doc(hidden)]
    fn gemm(call: crate::kernel::gemm::Checked<'_, Self>);

    /// Multiplies by a packed matrix; see [`crate::kernel::packed`].
    #[doc(hidden)]
    fn packed(call: crate::kernel::packed::Product<'_, Self>);

    /// Runs a step of a program.
    #[doc(hidden)]
    fn execute(run: crate::program::Run<'_, Self>);
}

/// Runs loops in the widest vectors of this CPU. What the closure calls must be inlined into it
/// (`#[inline(always)]`), or it is compiled for the plainest CPU of its kind.
#[inline(always)]
pub fn on_this_cpu<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        Self::exp(self)
    }
    fn ln(self) -> Self {
        Self::ln(self)
    }
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    fn abs(self) -> Self {
        Self::abs(self)
    }
    fn tanh(self) -> Self {
        Self::tanh(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn pow(self, power: Self) -> Self {
        Self::powf(self, power)
    }
    fn floor(self) -> Self {
        Self::floor(self)
    }
    fn gemm(call: crate::kernel::gemm::Checked<'_, Self>) {
        call.run();
    }
    fn packed(call: crate::kernel::packed::Product<'_, Self>) {
        crate::kernel::packed::run(call);
    }
    fn execute(run: crate::program::Run<'_, Self>) {
        run.go();
    }
}

/// Adding this to a number below 2²² leaves the nearest whole number in the last bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts: the first has few bits, so that its multiples are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }

    /// 2ⁿ · eʳ with |r| ≤ ln 2 / 2 and the series of eʳ; nought below -87.3, infinite above 88.7.
    #[inline(always)]
    fn exp(self) -> Self {
        let shifted = self * std::f32::consts::LOG2_E + ROUNDER;
        let n = shifted - ROUNDER;
        let r = (self - n * LN_2_HIGH) - n * LN_2_LOW;
        // In pairs, so that no product waits for all others.
        let square = r * r;
        let tail = (1.0 / 24.0 + r * (1.0 / 120.0)) + square * (1.0 / 720.0 + r * (1.0 / 5040.0));
        let series = (0.5 + r * (1.0 / 6.0)) + square * tail;
        let near_one = 1.0 + (r + square * series);
        // Added to the exponent: n may be 128, which is no power of its own, but then `near_one` is
        // below 1 up to the bound. The last bits of `shifted` are n, and those of its exponent go.
        let made = Self::from_bits(near_one.to_bits().wrapping_add(shifted.to_bits() << 23));
        let made = if self < -87.336_54 { 0.0 } else { made };
        if self <= 88.722_82 { made } else { self + Self::INFINITY }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        Self::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self::abs(self)
    }

    /// By `exp` away from nought, by a continued fraction near it, where the former loses digits; one
    /// division for both. It is 1 above 10.
    #[inline(always)]
    fn tanh(self) -> Self {
        let size = Self::abs(self);
        let power = Real::exp(2.0 * if size > 10.0 { 10.0 } else { size });
        let s = self * self;
        let near = size < 0.8;
        let over = size * (10_395.0 + s * (1_260.0 + s * 21.0));
        let under = 10_395.0 + s * (4_725.0 + s * (210.0 + s));
        let over = if near { over } else { power - 1.0 };
        let under = if near { under } else { power + 1.0 };
        Self::copysign(over / under, self)
    }

    /// The Maclaurin series below 1, Abramowitz and Stegun 7.1.26 with its error below the last
    /// digit of `1 - …` above it.
    #[inline(always)]
    fn erf(self) -> Self {
        let size = Self::abs(self);
        let s = self * self;
        let mut sum = 1.0 / 685_440.0;
        for term in
            [-1.0 / 75_600.0, 1.0 / 9_360.0, -1.0 / 1_320.0, 1.0 / 216.0, -1.0 / 42.0, 0.1, -1.0 / 3.0, 1.0]
        {
            sum = term + s * sum;
        }
        let near = std::f32::consts::FRAC_2_SQRT_PI * self * sum;
        let t = 1.0 / (1.0 + 0.327_591_1 * size);
        let poly = t
            * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
        let far = 1.0 - poly * Real::exp(-s);
        if size < 1.0 { near } else { Self::copysign(far, self) }
    }
    fn pow(self, power: Self) -> Self {
        Self::powf(self, power)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        Self::floor(self)
    }
    fn gemm(call: crate::kernel::gemm::Checked<'_, Self>) {
        call.run();
    }
    fn packed(call: crate::kernel::packed::Product<'_, Self>) {
        crate::kernel::packed::run(call);
    }
    fn execute(run: crate::program::Run<'_, Self>) {
        run.go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_in_32_bits_are_right_to_a_few_units() {
        let points = (-4000..4000).map(|step| step as f32 * 0.0213);
        for x in points.chain([0.0, 1e-6, -1e-6, 0.7999, 0.8001, 0.9999, 1.0001, 88.7, -87.3]) {
            let wide = f64::from(x);
            for (name, got, wanted, most) in [
                ("exp", Real::exp(x), wide.exp(), 3e-7),
                ("tanh", Real::tanh(x), wide.tanh(), 3e-7),
                ("erf", Real::erf(x), libm::erf(wide), 4e-7),
                ("sigmoid", Real::sigmoid(x), 1.0 / (1.0 + (-wide).exp()), 4e-7),
            ] {
                let off = (f64::from(got) - wanted).abs() / wanted.abs().max(1e-37);
                assert!(off < most, "{name}({x}) is {got}, expected {wanted}: off by {off:e}");
            }
        }
        assert!(
            Real::exp(f32::NAN).is_nan() && Real::tanh(f32::NAN).is_nan() && Real::erf(f32::NAN).is_nan()
        );
        assert_eq!((Real::exp(100f32), Real::exp(-100f32)), (f32::INFINITY, 0.0));
        assert_eq!((Real::tanh(100f32), Real::tanh(-100f32)), (1.0, -1.0));
    }
}
