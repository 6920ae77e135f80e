//! Tensors as kernels see them: borrowed when read, owned when made.

use crate::number::narrow;

/// The kind of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Bool,
    U8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Text,
}

/// Elements made by a kernel, or stored in its settings.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Data {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Text(Vec<String>),
}

/// Elements read by a kernel.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Slice<'a> {
    Bool(&'a [bool]),
    U8(&'a [u8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a [String]),
}

/// An owned tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The elements, as many as the product of `shape`.
    pub data: Data,
}

/// A borrowed tensor, row-major.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// The elements, as many as the product of `shape`.
    pub data: Slice<'a>,
}

impl Data {
    /// The kind of element.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.as_slice().kind()
    }

    /// Borrows the elements.
    #[must_use]
    pub fn as_slice(&self) -> Slice<'_> {
        match self {
            Self::Bool(v) => Slice::Bool(v),
            Self::U8(v) => Slice::U8(v),
            Self::I16(v) => Slice::I16(v),
            Self::I32(v) => Slice::I32(v),
            Self::I64(v) => Slice::I64(v),
            Self::F32(v) => Slice::F32(v),
            Self::F64(v) => Slice::F64(v),
            Self::Text(v) => Slice::Text(v),
        }
    }
}

impl Slice<'_> {
    /// The kind of element.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::U8(_) => Kind::U8,
            Self::I16(_) => Kind::I16,
            Self::I32(_) => Kind::I32,
            Self::I64(_) => Kind::I64,
            Self::F32(_) => Kind::F32,
            Self::F64(_) => Kind::F64,
            Self::Text(_) => Kind::Text,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Text(v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers as f32, borrowed when they are; `None` for text.
    pub(crate) fn f32s(&self) -> Option<std::borrow::Cow<'_, [f32]>> {
        Some(match self {
            Self::F32(v) => (*v).into(),
            Self::F64(v) => v.iter().map(|x| narrow(*x)).collect(),
            Self::Bool(v) => v.iter().map(|x| f32::from(u8::from(*x))).collect(),
            Self::U8(v) => v.iter().map(|x| f32::from(*x)).collect(),
            Self::I16(v) => v.iter().map(|x| f32::from(*x)).collect(),
            Self::I32(v) => v.iter().map(|x| *x as f32).collect(),
            Self::I64(v) => v.iter().map(|x| *x as f32).collect(),
            Self::Text(_) => return None,
        })
    }

    /// The numbers as f64, borrowed when they are; `None` for text.
    pub(crate) fn f64s(&self) -> Option<std::borrow::Cow<'_, [f64]>> {
        Some(match self {
            Self::F64(v) => (*v).into(),
            Self::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
            Self::U8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I64(v) => v.iter().map(|x| *x as f64).collect(),
            Self::Text(_) => return None,
        })
    }

    /// Whole numbers as i64; `None` for fractions and text.
    pub(crate) fn i64s(&self) -> Option<std::borrow::Cow<'_, [i64]>> {
        Some(match self {
            Self::I64(v) => (*v).into(),
            Self::Bool(v) => v.iter().map(|x| i64::from(*x)).collect(),
            Self::U8(v) => v.iter().map(|x| i64::from(*x)).collect(),
            Self::I16(v) => v.iter().map(|x| i64::from(*x)).collect(),
            Self::I32(v) => v.iter().map(|x| i64::from(*x)).collect(),
            Self::F32(_) | Self::F64(_) | Self::Text(_) => return None,
        })
    }
}

impl Array {
    /// Borrows it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { shape: &self.shape, data: self.data.as_slice() }
    }
}

impl View<'_> {
    /// Rows and features of a row, as operators on tables see a tensor: one axis is one row.
    pub(crate) fn table(&self) -> (usize, usize) {
        match self.shape {
            [] => (1, 1),
            [width] => (1, *width),
            [rows, inner @ ..] => (*rows, inner.iter().product()),
        }
    }

    /// The size of the last axis.
    pub(crate) fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}
