//! Where numbers lie in the bytes of a file, and how they are written there.

use half::{bf16, f16};
use thiserror::Error;

use crate::wire::{Broken, Fields, Value};

use super::PatchError;

/// First byte, and the one after the last.
pub(super) type Range = (usize, usize);

const TENSOR_DATA_TYPE: u64 = 2;
const TENSOR_FLOAT_DATA: u64 = 4;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW_DATA: u64 = 9;
const TENSOR_DOUBLE_DATA: u64 = 10;

const TYPE_FLOAT: u64 = 1;
const TYPE_FLOAT16: u64 = 10;
const TYPE_DOUBLE: u64 = 11;
const TYPE_BFLOAT16: u64 = 16;

const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_F: u64 = 2;
const ATTRIBUTE_T: u64 = 5;
const ATTRIBUTE_FLOATS: u64 = 7;

/// Why values do not go where they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Misfit {
    #[error("{reason}")]
    Kind { reason: &'static str },
    #[error("holds {expected} values, got {got}")]
    Length { expected: usize, got: usize },
    #[error("cannot hold value {place}: it is too large for its type")]
    TooLarge { place: usize },
}

impl Misfit {
    pub(super) fn of_tensor(self, name: &str) -> PatchError {
        let name = name.into();
        match self {
            Self::Kind { reason } => PatchError::NotFloat { name, reason },
            Self::Length { expected, got } => PatchError::Length { name, expected, got },
            Self::TooLarge { place } => PatchError::TooLarge { name, place },
        }
    }
}

/// Kinds of numbers that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Half,
    Brain,
    Single,
    Double,
}

impl Width {
    fn of(data_type: u64) -> Option<Self> {
        Some(match data_type {
            TYPE_FLOAT => Self::Single,
            TYPE_DOUBLE => Self::Double,
            TYPE_FLOAT16 => Self::Half,
            TYPE_BFLOAT16 => Self::Brain,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Half | Self::Brain => 2,
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    /// Writes a number; false when it is finite and would not be so any more.
    fn write(self, value: f64, into: &mut [u8]) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
        let single = value as f32;
        let stored = match self {
            Self::Half => {
                let half = f16::from_f32(single);
                into.copy_from_slice(&half.to_le_bytes());
                half.to_f64()
            }
            Self::Brain => {
                let brain = bf16::from_f32(single);
                into.copy_from_slice(&brain.to_le_bytes());
                brain.to_f64()
            }
            Self::Single => {
                into.copy_from_slice(&single.to_le_bytes());
                f64::from(single)
            }
            Self::Double => {
                into.copy_from_slice(&value.to_le_bytes());
                value
            }
        };
        stored.is_finite() || !value.is_finite()
    }
}

/// Where the numbers of a tensor or setting lie, in runs of equal width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots {
    width: Width,
    runs: Vec<Range>,
}

impl Slots {
    fn of(width: Width, runs: Vec<Range>) -> Result<Self, Misfit> {
        if runs.iter().all(|(start, end)| (end - start).is_multiple_of(width.bytes())) {
            return Ok(Self { width, runs });
        }
        Err(Misfit::Kind { reason: "ends in the middle of a number" })
    }

    /// Overwrites all numbers.
    pub(super) fn write(
        &self,
        bytes: &mut [u8],
        values: impl ExactSizeIterator<Item = f64>,
    ) -> Result<(), Misfit> {
        let step = self.width.bytes();
        let expected: usize = self.runs.iter().map(|(start, end)| (end - start) / step).sum();
        if expected != values.len() {
            return Err(Misfit::Length { expected, got: values.len() });
        }
        let places = self.runs.iter().flat_map(|(start, end)| (*start..*end).step_by(step));
        for (place, (at, value)) in places.zip(values).enumerate() {
            if !self.width.write(value, &mut bytes[at..at + step]) {
                return Err(Misfit::TooLarge { place });
            }
        }
        Ok(())
    }
}

/// A tensor's name and where its numbers lie.
pub(super) fn tensor(bytes: &[u8], (start, end): Range) -> Result<(&[u8], Result<Slots, Misfit>), Broken> {
    let (mut name, mut data_type): (&[u8], u64) = (b"", 0);
    let mut raw = (0, 0);
    let (mut singles, mut doubles) = (Vec::new(), Vec::new());
    for field in Fields::within(bytes, start, end) {
        let field = field?;
        match (field.number, field.value) {
            (TENSOR_NAME, Value::Bytes { start, end }) => name = &bytes[start..end],
            (TENSOR_DATA_TYPE, Value::Varint(code)) => data_type = code,
            (TENSOR_RAW_DATA, Value::Bytes { start, end }) => raw = (start, end),
            (TENSOR_FLOAT_DATA, Value::Bytes { start, end }) => singles.push((start, end)),
            (TENSOR_FLOAT_DATA, Value::Fixed32 { start }) => singles.push((start, start + 4)),
            (TENSOR_DOUBLE_DATA, Value::Bytes { start, end }) => doubles.push((start, end)),
            (TENSOR_DOUBLE_DATA, Value::Fixed64 { start }) => doubles.push((start, start + 8)),
            _ => {}
        }
    }
    let slots = match Width::of(data_type) {
        None => Err(Misfit::Kind { reason: "is not of floating point numbers" }),
        Some(width) if raw.1 > raw.0 => Slots::of(width, vec![raw]),
        Some(Width::Single) => Slots::of(Width::Single, singles),
        Some(Width::Double) => Slots::of(Width::Double, doubles),
        Some(Width::Half | Width::Brain) => {
            Err(Misfit::Kind { reason: "keeps its half precision numbers in a form whose length varies" })
        }
    };
    Ok((name, slots))
}

/// A setting's name and where its numbers lie.
pub(super) fn attribute(bytes: &[u8], (start, end): Range) -> Result<(&[u8], Result<Slots, Misfit>), Broken> {
    let mut name: &[u8] = b"";
    let (mut single, mut floats, mut tensors) = (None, Vec::new(), Vec::new());
    for field in Fields::within(bytes, start, end) {
        let field = field?;
        match (field.number, field.value) {
            (ATTRIBUTE_NAME, Value::Bytes { start, end }) => name = &bytes[start..end],
            (ATTRIBUTE_F, Value::Fixed32 { start }) => single = Some((start, start + 4)),
            (ATTRIBUTE_FLOATS, Value::Bytes { start, end }) => floats.push((start, end)),
            (ATTRIBUTE_FLOATS, Value::Fixed32 { start }) => floats.push((start, start + 4)),
            (ATTRIBUTE_T, Value::Bytes { start, end }) => tensors.push((start, end)),
            _ => {}
        }
    }
    let slots = match (single, floats.is_empty(), tensors.as_slice()) {
        (Some(only), true, []) => Slots::of(Width::Single, vec![only]),
        (None, false, []) => Slots::of(Width::Single, floats),
        (None, true, [only]) => tensor(bytes, *only)?.1,
        (None, true, []) => Err(Misfit::Kind { reason: "is not of floating point numbers" }),
        _ => Err(Misfit::Kind { reason: "holds its values twice" }),
    };
    Ok((name, slots))
}
