//! Sums of real numbers that come out the same in every order.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Binary places: a millionth.
const PLACES: u32 = 20;
/// One, in units of 2^-20.
pub const ONE: u64 = 1 << PLACES;
/// Largest number added at once, 2^80 in units: 2^47 of them fit the sum.
const MAX_UNITS: i128 = 1 << 80;

/// A sum in units of 2^-20, exact once a number is rounded to it: integers add up the same in any
/// order. Written as a CBOR integer where 64 bits hold it, else as 16 bytes, big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Fixed(i128);

impl Fixed {
    /// Adds a number, rounded to 2^-20 and held to ±2^60; what is no number adds nothing.
    pub fn add(&mut self, value: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "the cast stops at the ends; NaN is nought")]
        let units = (value * ONE as f64).round() as i128;
        self.absorb(Self(units.clamp(-MAX_UNITS, MAX_UNITS)));
    }

    /// A sum that was counted in units of 2^-`places`, at most 20 of them: exact.
    #[must_use]
    pub fn from_units(units: i64, places: u32) -> Self {
        Self(i128::from(units) << PLACES.saturating_sub(places))
    }

    /// Adds another sum. Beyond 128 bits, which only a forged sum comes near, it wraps: still the same in
    /// every order.
    pub fn absorb(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The sum as the nearest float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people; sums stay integers")]
    pub fn value(self) -> f64 {
        self.0 as f64 / ONE as f64
    }

    /// Whether nothing, or nought, was added.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

/// A share as a count of 2^-20: nought below 0 and for NaN, one above 1.
#[must_use]
pub fn units_of_share(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held to 0 ..= 2^20; NaN is nought"
    )]
    let units = (share.clamp(0.0, 1.0) * ONE as f64).round() as u64;
    units
}

impl Serialize for Fixed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0) {
            Ok(small) => serializer.serialize_i64(small),
            Err(_wide) => serializer.serialize_bytes(&self.0.to_be_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Fixed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Units;
        impl Visitor<'_> for Units {
            type Value = Fixed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or 16 bytes")
            }
            fn visit_i64<E: serde::de::Error>(self, units: i64) -> Result<Fixed, E> {
                Ok(Fixed(units.into()))
            }
            fn visit_u64<E: serde::de::Error>(self, units: u64) -> Result<Fixed, E> {
                Ok(Fixed(units.into()))
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Fixed, E> {
                let bytes = bytes.try_into().map_err(|_cause| E::invalid_length(bytes.len(), &self))?;
                Ok(Fixed(i128::from_be_bytes(bytes)))
            }
        }
        deserializer.deserialize_any(Units)
    }
}
