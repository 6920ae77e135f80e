//! The two floating point types that trees are stored and summed in.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// What a tree needs of a number: `f32` and `f64` have it.
pub trait Number:
    Copy
    + PartialOrd
    + Default
    + std::fmt::Debug
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// Above all others.
    const INFINITY: Self;
    /// Rounds to the nearest.
    fn from_f64(value: f64) -> Self;
    /// Widens.
    fn to_f64(self) -> f64;
    /// The largest number below this one.
    fn below(self) -> Self;
    /// Whether it is no number.
    fn nan(self) -> bool;
}

impl Number for f32 {
    const INFINITY: Self = Self::INFINITY;
    fn from_f64(value: f64) -> Self {
        narrow(value)
    }
    fn to_f64(self) -> f64 {
        Self::into(self)
    }
    fn below(self) -> Self {
        self.next_down()
    }
    fn nan(self) -> bool {
        self.is_nan()
    }
}

impl Number for f64 {
    const INFINITY: Self = Self::INFINITY;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn below(self) -> Self {
        self.next_down()
    }
    fn nan(self) -> bool {
        self.is_nan()
    }
}

/// Rounds to the nearest f32.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}
