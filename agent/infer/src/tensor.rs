//! Named tensors as callers see them.

use half::f16;
use shoal_onnx::Datatype;
use thiserror::Error;

/// A named tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The input's or output's name.
    pub name: String,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, as many as the product of `shape`.
    pub data: TensorData,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TensorData {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    String(Vec<String>),
}

/// Shape and elements do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("tensor `{name}`: shape {shape:?} does not hold {elements} elements")]
pub struct TensorError {
    /// The tensor's name.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// The elements given.
    pub elements: usize,
}

impl Tensor {
    /// Makes a tensor whose elements fit its shape.
    ///
    /// # Errors
    /// [`TensorError`] when they do not.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: TensorData) -> Result<Self, TensorError> {
        let tensor = Self { name: name.into(), shape, data };
        tensor.check()?;
        Ok(tensor)
    }

    pub(crate) fn check(&self) -> Result<(), TensorError> {
        let held = self.data.len();
        if self.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim)) == Some(held) {
            return Ok(());
        }
        Err(TensorError { name: self.name.clone(), shape: self.shape.clone(), elements: held })
    }

    /// The kind of number.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// The elements as f32, `None` for other types.
    #[must_use]
    pub fn f32s(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements as i64, `None` for other types.
    #[must_use]
    pub fn i64s(&self) -> Option<&[i64]> {
        match &self.data {
            TensorData::I64(values) => Some(values),
            _ => None,
        }
    }
}

/// Runs the same expression on the elements, whatever their type.
macro_rules! each {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            TensorData::Bool($values) => $body,
            TensorData::U8($values) => $body,
            TensorData::U16($values) => $body,
            TensorData::U32($values) => $body,
            TensorData::U64($values) => $body,
            TensorData::I8($values) => $body,
            TensorData::I16($values) => $body,
            TensorData::I32($values) => $body,
            TensorData::I64($values) => $body,
            TensorData::F16($values) => $body,
            TensorData::F32($values) => $body,
            TensorData::F64($values) => $body,
            TensorData::String($values) => $body,
        }
    };
}
pub(crate) use each;

impl TensorData {
    /// The kind of number.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::U8(_) => Datatype::U8,
            Self::U16(_) => Datatype::U16,
            Self::U32(_) => Datatype::U32,
            Self::U64(_) => Datatype::U64,
            Self::I8(_) => Datatype::I8,
            Self::I16(_) => Datatype::I16,
            Self::I32(_) => Datatype::I32,
            Self::I64(_) => Datatype::I64,
            Self::F16(_) => Datatype::F16,
            Self::F32(_) => Datatype::F32,
            Self::F64(_) => Datatype::F64,
            Self::String(_) => Datatype::String,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no floating point number is infinite or not a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        match self {
            Self::F16(values) => values.iter().all(|value| value.is_finite()),
            Self::F32(values) => values.iter().all(|value| value.is_finite()),
            Self::F64(values) => values.iter().all(|value| value.is_finite()),
            _ => true,
        }
    }

    /// A part of the elements.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Bool(v) => Self::Bool(v[range].to_vec()),
            Self::U8(v) => Self::U8(v[range].to_vec()),
            Self::U16(v) => Self::U16(v[range].to_vec()),
            Self::U32(v) => Self::U32(v[range].to_vec()),
            Self::U64(v) => Self::U64(v[range].to_vec()),
            Self::I8(v) => Self::I8(v[range].to_vec()),
            Self::I16(v) => Self::I16(v[range].to_vec()),
            Self::I32(v) => Self::I32(v[range].to_vec()),
            Self::I64(v) => Self::I64(v[range].to_vec()),
            Self::F16(v) => Self::F16(v[range].to_vec()),
            Self::F32(v) => Self::F32(v[range].to_vec()),
            Self::F64(v) => Self::F64(v[range].to_vec()),
            Self::String(v) => Self::String(v[range].to_vec()),
        }
    }

    /// Appends elements; false when they are of another type.
    pub(crate) fn append(&mut self, more: Self) -> bool {
        match (self, more) {
            (Self::Bool(a), Self::Bool(b)) => a.extend(b),
            (Self::U8(a), Self::U8(b)) => a.extend(b),
            (Self::U16(a), Self::U16(b)) => a.extend(b),
            (Self::U32(a), Self::U32(b)) => a.extend(b),
            (Self::U64(a), Self::U64(b)) => a.extend(b),
            (Self::I8(a), Self::I8(b)) => a.extend(b),
            (Self::I16(a), Self::I16(b)) => a.extend(b),
            (Self::I32(a), Self::I32(b)) => a.extend(b),
            (Self::I64(a), Self::I64(b)) => a.extend(b),
            (Self::F16(a), Self::F16(b)) => a.extend(b),
            (Self::F32(a), Self::F32(b)) => a.extend(b),
            (Self::F64(a), Self::F64(b)) => a.extend(b),
            (Self::String(a), Self::String(b)) => a.extend(b),
            _ => return false,
        }
        true
    }
}
