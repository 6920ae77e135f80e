//! Operators on each feature: `Scaler`, `Imputer`, `Binarizer`, and `Normalizer` on each row.

use crate::array::{Array, Data, Slice, View};
use crate::kernel::RunError;
use crate::number::narrow;
use crate::settings::{Settings, SettingsError};

/// `(x - offset) * scale`.
#[derive(Debug, Clone)]
pub(crate) struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaler {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let (offset, scale) = (settings.floats("offset")?.to_vec(), settings.floats("scale")?.to_vec());
        if offset.is_empty() || scale.is_empty() {
            return Err(SettingsError::Missing { name: if offset.is_empty() { "offset" } else { "scale" } });
        }
        if offset.len() != scale.len() {
            let (expected, got) = (offset.len(), scale.len());
            return Err(SettingsError::Length { name: "scale", expected, got });
        }
        Ok(Self { offset, scale })
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Array, RunError> {
        let values = x.data.f32s().ok_or(RunError::NotNumbers)?;
        if self.offset.len() == 1 {
            let (offset, scale) = (self.offset[0], self.scale[0]);
            let made = values.iter().map(|value| (value - offset) * scale).collect();
            return Ok(Array { shape: x.shape.to_vec(), data: Data::F32(made) });
        }
        let width = x.width();
        if width != self.offset.len() {
            return Err(RunError::Features { expected: self.offset.len(), got: width });
        }
        let mut made = Vec::with_capacity(values.len());
        for row in values.chunks_exact(width) {
            let both = self.offset.iter().zip(&self.scale);
            made.extend(row.iter().zip(both).map(|(value, (offset, scale))| (value - offset) * scale));
        }
        Ok(Array { shape: x.shape.to_vec(), data: Data::F32(made) })
    }
}

/// What a row is divided by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Normalizer {
    Max,
    L1,
    L2,
}

impl Normalizer {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        match settings.text("norm", "MAX")? {
            "MAX" => Ok(Self::Max),
            "L1" => Ok(Self::L1),
            "L2" => Ok(Self::L2),
            _ => Err(SettingsError::value("norm", "it is not known")),
        }
    }

    pub(crate) fn run(self, x: &View<'_>) -> Result<Array, RunError> {
        let mut values = x.data.f32s().ok_or(RunError::NotNumbers)?.into_owned();
        // The second axis is normalised; of one axis, that one.
        let (outer, axis, inner) = match x.shape {
            [] => (1, 1, 1),
            [width] => (1, *width, 1),
            [rows, width, rest @ ..] => (*rows, *width, rest.iter().product::<usize>()),
        };
        for block in values.chunks_exact_mut((axis * inner).max(1)).take(outer) {
            for place in 0..inner {
                self.divide(block, place, inner);
            }
        }
        Ok(Array { shape: x.shape.to_vec(), data: Data::F32(values) })
    }

    fn divide(self, block: &mut [f32], place: usize, step: usize) {
        let column = || block.iter().skip(place).step_by(step);
        let by = match self {
            // The largest value with its sign, as onnxruntime does it.
            Self::Max => column().copied().fold(f32::MIN, f32::max),
            Self::L1 => narrow(column().map(|value| f64::from(value.abs())).sum()),
            Self::L2 => narrow(column().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()),
        };
        if by == 0.0 {
            return;
        }
        for value in block.iter_mut().skip(place).step_by(step) {
            // Signs are kept whatever the norm.
            *value /= by;
        }
    }
}

/// One where a value is above the threshold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binarizer {
    threshold: f32,
}

impl Binarizer {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Self { threshold: settings.float("threshold", 0.0)? })
    }

    pub(crate) fn run(self, x: &View<'_>) -> Result<Array, RunError> {
        let threshold = f64::from(self.threshold);
        let data = match x.data {
            Slice::F64(v) => Data::F64(v.iter().map(|x| f64::from(u8::from(*x > threshold))).collect()),
            Slice::I64(v) => Data::I64(v.iter().map(|x| i64::from(*x as f64 > threshold)).collect()),
            Slice::I32(v) => Data::I32(v.iter().map(|x| i32::from(f64::from(*x) > threshold)).collect()),
            other => {
                let values = other.f32s().ok_or(RunError::NotNumbers)?;
                Data::F32(values.iter().map(|x| f32::from(u8::from(*x > self.threshold))).collect())
            }
        };
        Ok(Array { shape: x.shape.to_vec(), data })
    }
}

/// Values in the place of those that are missing.
#[derive(Debug, Clone)]
pub(crate) enum Imputer {
    Floats { missing: f32, filled: Vec<f32> },
    Ints { missing: i64, filled: Vec<i64> },
}

impl Imputer {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let (floats, ints) =
            (settings.floats("imputed_value_floats")?, settings.ints("imputed_value_int64s")?);
        match (floats, ints) {
            ([], []) => Err(SettingsError::Missing { name: "imputed_value_floats" }),
            ([], ints) => {
                Ok(Self::Ints { missing: settings.int("replaced_value_int64", 0)?, filled: ints.to_vec() })
            }
            (floats, _) => {
                let missing = settings.float("replaced_value_float", 0.0)?;
                Ok(Self::Floats { missing, filled: floats.to_vec() })
            }
        }
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Array, RunError> {
        let width = x.width();
        let shape = x.shape.to_vec();
        match self {
            Self::Ints { missing, filled } => {
                check(filled.len(), width)?;
                let values = x.data.i64s().ok_or(RunError::NotWhole)?;
                let made = fill(&values, width, filled, |value| *value == *missing);
                Ok(Array { shape, data: Data::I64(made) })
            }
            Self::Floats { missing, filled } => {
                check(filled.len(), width)?;
                let is_gone = |value: f64| value.is_nan() && missing.is_nan() || value == f64::from(*missing);
                if let Slice::F64(values) = x.data {
                    let filled: Vec<f64> = filled.iter().map(|value| f64::from(*value)).collect();
                    let made = fill(values, width, &filled, |value| is_gone(*value));
                    return Ok(Array { shape, data: Data::F64(made) });
                }
                let values = x.data.f32s().ok_or(RunError::NotNumbers)?;
                let made = fill(&values, width, filled, |value| is_gone(f64::from(*value)));
                Ok(Array { shape, data: Data::F32(made) })
            }
        }
    }
}

fn check(held: usize, width: usize) -> Result<(), RunError> {
    if held == 1 || held == width { Ok(()) } else { Err(RunError::Features { expected: held, got: width }) }
}

fn fill<T: Copy>(values: &[T], width: usize, filled: &[T], is_gone: impl Fn(&T) -> bool) -> Vec<T> {
    let one = |(at, value): (usize, &T)| {
        if !is_gone(value) {
            return *value;
        }
        filled[if filled.len() == 1 { 0 } else { at % width }]
    };
    values.iter().enumerate().map(one).collect()
}
