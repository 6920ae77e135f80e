//! The numbers of a JSON tensor, nested or flat, read without building a tree of them.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// The elements of a tensor's `data`, row-major. Holds eight bytes a number, where a JSON tree would
/// hold thirty-two.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Flat {
    /// No element yet, so no kind.
    Empty,
    /// `true` and `false`.
    Bools(Vec<bool>),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Whole numbers, at least one of them beyond `i64`.
    Unsigned(Vec<u64>),
    /// At least one fraction, or a `null`, which is NaN.
    Floats(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Flat {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bools(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Unsigned(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    fn push_integer(&mut self, value: i64) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Integers(vec![value]),
            Self::Integers(values) => values.push(value),
            Self::Unsigned(values) => {
                let value = u64::try_from(value)
                    .map_err(|_negative| "a number below zero among numbers beyond 9223372036854775807")?;
                values.push(value);
            }
            Self::Floats(values) => {
                #[expect(clippy::cast_precision_loss, reason = "beside fractions it is a fraction")]
                values.push(value as f64);
            }
            Self::Bools(_) | Self::Texts(_) => return Err("a number among other things"),
        }
        Ok(())
    }

    /// A number beyond `i64`.
    fn push_unsigned(&mut self, value: u64) -> Result<(), &'static str> {
        let before: Option<Vec<u64>> = match self {
            Self::Empty => Some(Vec::new()),
            Self::Integers(values) => values.iter().map(|value| u64::try_from(*value).ok()).collect(),
            Self::Unsigned(values) => Some(std::mem::take(values)),
            Self::Floats(_) | Self::Bools(_) | Self::Texts(_) => None,
        };
        let Some(mut values) = before else {
            #[expect(clippy::cast_precision_loss, reason = "beside fractions it is a fraction")]
            return self.push_float(value as f64);
        };
        values.push(value);
        *self = Self::Unsigned(values);
        Ok(())
    }

    fn push_float(&mut self, value: f64) -> Result<(), &'static str> {
        if let Self::Integers(values) = self {
            #[expect(clippy::cast_precision_loss, reason = "beside fractions they are fractions")]
            let floats = values.iter().map(|integer| *integer as f64).collect();
            *self = Self::Floats(floats);
        }
        if let Self::Unsigned(values) = self {
            #[expect(clippy::cast_precision_loss, reason = "beside fractions they are fractions")]
            let floats = values.iter().map(|integer| *integer as f64).collect();
            *self = Self::Floats(floats);
        }
        match self {
            Self::Empty => *self = Self::Floats(vec![value]),
            Self::Floats(values) => values.push(value),
            Self::Integers(_) | Self::Unsigned(_) | Self::Bools(_) | Self::Texts(_) => {
                return Err("a number among other things");
            }
        }
        Ok(())
    }

    fn push_bool(&mut self, value: bool) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Bools(vec![value]),
            Self::Bools(values) => values.push(value),
            Self::Integers(_) | Self::Unsigned(_) | Self::Floats(_) | Self::Texts(_) => {
                return Err("`true` or `false` among other things");
            }
        }
        Ok(())
    }

    fn push_text(&mut self, value: &str) -> Result<(), &'static str> {
        match self {
            Self::Empty => *self = Self::Texts(vec![value.to_owned()]),
            Self::Texts(values) => values.push(value.to_owned()),
            Self::Integers(_) | Self::Unsigned(_) | Self::Floats(_) | Self::Bools(_) => {
                return Err("text among other things");
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self::Empty;
        Into(&mut flat).deserialize(deserializer)?;
        Ok(flat)
    }
}

/// Reads one value, or a list of such, to the end of the elements so far.
struct Into<'a>(&'a mut Flat);

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, `null`, `true`, `false` or texts, in lists nested as you like")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Into(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.push_integer(value).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.0.push_unsigned(value).map_err(E::custom),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push_float(value).map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.push_bool(value).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.push_text(value).map_err(E::custom)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_f64(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_flat_are_the_same() {
        for (text, flat) in [
            ("[1, 2, 3, 4]", Flat::Integers(vec![1, 2, 3, 4])),
            ("[[1, 2], [3, 4]]", Flat::Integers(vec![1, 2, 3, 4])),
            ("[[[1.5], [2]]]", Flat::Floats(vec![1.5, 2.0])),
            ("[1, 2.5]", Flat::Floats(vec![1.0, 2.5])),
            ("[1, 18446744073709551615]", Flat::Unsigned(vec![1, u64::MAX])),
            ("[18446744073709551615, 1, 0.5]", Flat::Floats(vec![18_446_744_073_709_551_615.0, 1.0, 0.5])),
            ("[[true], [false]]", Flat::Bools(vec![true, false])),
            ("[\"a\", \"b\"]", Flat::Texts(vec!["a".into(), "b".into()])),
            ("7", Flat::Integers(vec![7])),
            ("[]", Flat::Empty),
            ("[[], []]", Flat::Empty),
        ] {
            assert_eq!(serde_json::from_str::<Flat>(text).unwrap(), flat, "{text}");
        }
    }

    #[test]
    fn null_is_a_missing_value() {
        let Flat::Floats(values) = serde_json::from_str("[1, null]").unwrap() else { panic!("floats") };
        assert!(values[0] == 1.0 && values[1].is_nan());
    }

    #[test]
    fn mixtures_and_objects_are_refused() {
        for text in [
            "[1, true]",
            "[\"a\", 1]",
            "[{}]",
            "[1, \"a\"]",
            "[true, null]",
            "[NaN]",
            "[18446744073709551615, -1]",
        ] {
            assert!(serde_json::from_str::<Flat>(text).is_err(), "{text}");
        }
    }
}
