//! Tensors between the protocol's words and the engine's.

use super::flat::Flat;
use super::refused::{Refused, shortened};
use serde::ser::{Serialize, Serializer};
use shoal_infer::{Tensor, TensorData, f16};
use shoal_onnx::Datatype;
use std::borrow::Cow;

/// The protocol's name of a datatype. What takes half precision takes `FP32` too.
pub(super) const fn name_of(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "BOOL",
        Datatype::U8 => "UINT8",
        Datatype::U16 => "UINT16",
        Datatype::U32 => "UINT32",
        Datatype::U64 => "UINT64",
        Datatype::I8 => "INT8",
        Datatype::I16 => "INT16",
        Datatype::I32 => "INT32",
        Datatype::I64 => "INT64",
        Datatype::F16 => "FP16",
        Datatype::F32 => "FP32",
        Datatype::F64 => "FP64",
        Datatype::String => "BYTES",
    }
}

const ALL: [Datatype; 13] = [
    Datatype::F16,
    Datatype::Bool,
    Datatype::U8,
    Datatype::U16,
    Datatype::U32,
    Datatype::U64,
    Datatype::I8,
    Datatype::I16,
    Datatype::I32,
    Datatype::I64,
    Datatype::F32,
    Datatype::F64,
    Datatype::String,
];

/// The datatype of a name, or why not.
pub(super) fn datatype_of(input: &str, name: &str) -> Result<Datatype, Refused> {
    ALL.into_iter().find(|datatype| name_of(*datatype) == name).ok_or_else(|| {
        let known: Vec<_> = ALL.into_iter().map(name_of).collect();
        refused(
            input,
            format!("unknown datatype `{}`, expected one of {}", shortened(name), known.join(", ")),
        )
    })
}

/// A shape without negative sizes, and how many elements it holds.
pub(super) fn shape_of(input: &str, shape: &[i64]) -> Result<(Vec<usize>, usize), Refused> {
    let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    let elements = sizes
        .as_ref()
        .and_then(|sizes| sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size)));
    match (sizes, elements) {
        (Some(sizes), Some(elements)) => Ok((sizes, elements)),
        _ => Err(refused(input, format!("shape {shape:?} is no shape"))),
    }
}

/// A tensor of JSON numbers.
pub(super) fn from_json(input: &str, shape: &[i64], datatype: &str, flat: Flat) -> Result<Tensor, Refused> {
    let datatype = datatype_of(input, datatype)?;
    let (shape, elements) = shape_of(input, shape)?;
    if flat.len() != elements {
        let reason = format!("shape {shape:?} holds {elements} elements, got {}", flat.len());
        return Err(refused(input, reason));
    }
    let data = from_flat(datatype, flat)
        .map_err(|got| refused(input, format!("expected {} data, got {got}", name_of(datatype))))?;
    Ok(Tensor { name: input.to_owned(), shape, data })
}

pub(super) fn refused(input: &str, reason: String) -> Refused {
    Refused::Tensor { input: shortened(input), reason }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "FP32 is what was asked for"
)]
fn from_flat(datatype: Datatype, flat: Flat) -> Result<TensorData, String> {
    Ok(match (datatype, flat) {
        (Datatype::F16, Flat::Floats(values)) => {
            TensorData::F16(values.into_iter().map(f16::from_f64).collect())
        }
        (Datatype::F16, Flat::Integers(values)) => {
            TensorData::F16(values.into_iter().map(|value| f16::from_f64(value as f64)).collect())
        }
        (Datatype::F32, Flat::Floats(values)) => {
            TensorData::F32(values.into_iter().map(|value| value as f32).collect())
        }
        (Datatype::F32, Flat::Integers(values)) => {
            TensorData::F32(values.into_iter().map(|value| value as f32).collect())
        }
        (Datatype::F64, Flat::Floats(values)) => TensorData::F64(values),
        (Datatype::F64, Flat::Integers(values)) => {
            TensorData::F64(values.into_iter().map(|value| value as f64).collect())
        }
        (Datatype::Bool, Flat::Bools(values)) => TensorData::Bool(values),
        (Datatype::Bool, Flat::Integers(values)) => TensorData::Bool(
            values
                .into_iter()
                .map(|value| match value {
                    0 => Ok(false),
                    1 => Ok(true),
                    other => Err(other.to_string()),
                })
                .collect::<Result<_, _>>()?,
        ),
        (Datatype::String, Flat::Texts(values)) => TensorData::String(values),
        (Datatype::U64, Flat::Unsigned(values)) => TensorData::U64(values),
        (Datatype::F32, Flat::Unsigned(values)) => {
            TensorData::F32(values.into_iter().map(|value| value as f32).collect())
        }
        (Datatype::F64, Flat::Unsigned(values)) => {
            TensorData::F64(values.into_iter().map(|value| value as f64).collect())
        }
        (_, Flat::Unsigned(_)) => return Err("whole numbers beyond 9223372036854775807".into()),
        (datatype, Flat::Integers(values)) => integers(datatype, &values)?,
        (datatype, Flat::Empty) => integers(datatype, &[])?,
        (_, Flat::Floats(values)) if values.iter().any(|value| value.is_nan()) => {
            return Err("a missing value".into());
        }
        (_, Flat::Floats(_)) => return Err("fractions".into()),
        (_, Flat::Bools(_)) => return Err("`true` and `false`".into()),
        (_, Flat::Texts(_)) => return Err("texts".into()),
    })
}

fn integers(datatype: Datatype, values: &[i64]) -> Result<TensorData, String> {
    fn all<T: TryFrom<i64>>(values: &[i64]) -> Result<Vec<T>, String> {
        values.iter().map(|value| T::try_from(*value).map_err(|_out_of_range| value.to_string())).collect()
    }
    Ok(match datatype {
        Datatype::U8 => TensorData::U8(all(values)?),
        Datatype::U16 => TensorData::U16(all(values)?),
        Datatype::U32 => TensorData::U32(all(values)?),
        Datatype::U64 => TensorData::U64(all(values)?),
        Datatype::I8 => TensorData::I8(all(values)?),
        Datatype::I16 => TensorData::I16(all(values)?),
        Datatype::I32 => TensorData::I32(all(values)?),
        Datatype::I64 => TensorData::I64(values.to_vec()),
        Datatype::Bool if values.is_empty() => TensorData::Bool(Vec::new()),
        Datatype::F16 if values.is_empty() => TensorData::F16(Vec::new()),
        Datatype::F32 if values.is_empty() => TensorData::F32(Vec::new()),
        Datatype::F64 if values.is_empty() => TensorData::F64(Vec::new()),
        Datatype::String if values.is_empty() => TensorData::String(Vec::new()),
        Datatype::Bool | Datatype::F16 | Datatype::F32 | Datatype::F64 | Datatype::String => {
            return Err("whole numbers".into());
        }
    })
}

/// Features as the model's kind of number; whole numbers are cut off as a cast does. `None` for text.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast is what is meant")]
pub(super) fn from_features(datatype: Datatype, features: &[f32]) -> Option<TensorData> {
    macro_rules! cast {
        ($variant:ident, $type:ty) => {
            TensorData::$variant(features.iter().map(|value| *value as $type).collect())
        };
    }
    Some(match datatype {
        Datatype::F16 | Datatype::F32 => TensorData::F32(features.to_vec()),
        Datatype::F64 => TensorData::F64(features.iter().map(|value| f64::from(*value)).collect()),
        Datatype::U8 => cast!(U8, u8),
        Datatype::U16 => cast!(U16, u16),
        Datatype::U32 => cast!(U32, u32),
        Datatype::U64 => cast!(U64, u64),
        Datatype::I8 => cast!(I8, i8),
        Datatype::I16 => cast!(I16, i16),
        Datatype::I32 => cast!(I32, i32),
        Datatype::I64 => cast!(I64, i64),
        Datatype::Bool => TensorData::Bool(features.iter().map(|value| *value != 0.0).collect()),
        Datatype::String => return None,
    })
}

/// Numbers as features; `None` for text.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "features are f32")]
pub(super) fn to_features(data: &TensorData) -> Option<Cow<'_, [f32]>> {
    macro_rules! cast {
        ($values:expr) => {
            $values.iter().map(|value| *value as f32).collect()
        };
    }
    Some(Cow::Owned(match data {
        TensorData::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
        TensorData::F32(values) => return Some(Cow::Borrowed(values)),
        TensorData::F64(values) => cast!(values),
        TensorData::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        TensorData::U16(values) => values.iter().map(|value| f32::from(*value)).collect(),
        TensorData::U32(values) => cast!(values),
        TensorData::U64(values) => cast!(values),
        TensorData::I8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        TensorData::I16(values) => values.iter().map(|value| f32::from(*value)).collect(),
        TensorData::I32(values) => cast!(values),
        TensorData::I64(values) => cast!(values),
        TensorData::Bool(values) => values.iter().map(|value| f32::from(u8::from(*value))).collect(),
        TensorData::String(_) => return None,
    }))
}

/// Elements as a flat JSON list; what is not finite becomes `null`.
pub(super) struct JsonData<'a>(pub(super) &'a TensorData);

impl Serialize for JsonData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            TensorData::Bool(values) => values.serialize(serializer),
            TensorData::U8(values) => values.serialize(serializer),
            TensorData::U16(values) => values.serialize(serializer),
            TensorData::U32(values) => values.serialize(serializer),
            TensorData::U64(values) => values.serialize(serializer),
            TensorData::I8(values) => values.serialize(serializer),
            TensorData::I16(values) => values.serialize(serializer),
            TensorData::I32(values) => values.serialize(serializer),
            TensorData::I64(values) => values.serialize(serializer),
            TensorData::F16(values) => serializer.collect_seq(values.iter().map(|value| value.to_f32())),
            TensorData::F32(values) => values.serialize(serializer),
            TensorData::F64(values) => values.serialize(serializer),
            TensorData::String(values) => values.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datatype: &str, shape: &[i64], data: &str) -> Result<TensorData, String> {
        let flat = serde_json::from_str(data).unwrap();
        from_json("x", shape, datatype, flat).map(|tensor| tensor.data).map_err(|refused| refused.text())
    }

    #[test]
    fn every_datatype_is_read() {
        assert_eq!(read("FP32", &[2], "[1, 2.5]"), Ok(TensorData::F32(vec![1.0, 2.5])));
        let halves = TensorData::F16(vec![f16::from_f32(1.0), f16::from_f32(0.5)]);
        assert_eq!(read("FP16", &[2], "[1, 0.5]"), Ok(halves));
        assert_eq!(read("FP64", &[1, 1], "[[3]]"), Ok(TensorData::F64(vec![3.0])));
        assert_eq!(
            read("INT64", &[1], "[-9007199254740993]"),
            Ok(TensorData::I64(vec![-9_007_199_254_740_993]))
        );
        assert_eq!(read("UINT64", &[2], "[0, 18446744073709551615]"), Ok(TensorData::U64(vec![0, u64::MAX])));
        assert_eq!(read("UINT8", &[2], "[0, 255]"), Ok(TensorData::U8(vec![0, 255])));
        assert_eq!(read("BOOL", &[2], "[true, false]"), Ok(TensorData::Bool(vec![true, false])));
        assert_eq!(read("BOOL", &[2], "[1, 0]"), Ok(TensorData::Bool(vec![true, false])));
        assert_eq!(read("BYTES", &[1], "[\"a\"]"), Ok(TensorData::String(vec!["a".into()])));
        assert_eq!(read("FP32", &[0, 4], "[]"), Ok(TensorData::F32(vec![])));
    }

    #[test]
    fn what_does_not_fit_is_told_with_expected_and_got() {
        for (datatype, shape, data, words) in [
            ("FP32", &[3][..], "[1, 2]", "holds 3 elements, got 2"),
            ("FP32", &[-1, 2], "[1, 2]", "is no shape"),
            ("FP32", &[i64::MAX, i64::MAX], "[1]", "is no shape"),
            ("FLOAT", &[1], "[1]", "unknown datatype `FLOAT`"),
            ("UINT8", &[1], "[256]", "expected UINT8 data, got 256"),
            ("INT32", &[1], "[1.5]", "expected INT32 data, got fractions"),
            ("INT32", &[1], "[null]", "expected INT32 data, got a missing value"),
            ("FP32", &[1], "[true]", "expected FP32 data, got `true` and `false`"),
            ("BOOL", &[1], "[2]", "expected BOOL data, got 2"),
            ("BYTES", &[1], "[2]", "expected BYTES data, got whole numbers"),
        ] {
            let error = read(datatype, shape, data).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
