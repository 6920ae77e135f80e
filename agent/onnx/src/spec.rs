//! What goes into a model and what comes out.

use std::fmt;

use serde::{Deserialize, Serialize};
use tract_onnx::pb::{self, tensor_proto::DataType};

use crate::refusal::{Refusal, named};

/// Most axes of a tensor: the engine's work grows with their square, and real ones have six.
pub(crate) const MAX_RANK: usize = 32;

/// The kind of number in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Datatype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    String,
}

impl Datatype {
    /// The number ONNX gives to this type.
    pub(crate) fn from_onnx(code: i32) -> Option<Self> {
        Some(match DataType::try_from(code).ok()? {
            DataType::Bool => Self::Bool,
            DataType::Uint8 => Self::U8,
            DataType::Uint16 => Self::U16,
            DataType::Uint32 => Self::U32,
            DataType::Uint64 => Self::U64,
            DataType::Int8 => Self::I8,
            DataType::Int16 => Self::I16,
            DataType::Int32 => Self::I32,
            DataType::Int64 => Self::I64,
            DataType::Float16 => Self::F16,
            DataType::Float => Self::F32,
            DataType::Double => Self::F64,
            DataType::String => Self::String,
            _ => return None,
        })
    }

    /// Bytes of one element; zero for text, which has no fixed size.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::String => 0,
        }
    }

    /// Whether it is a floating point number.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// The lower-case name, as in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name, type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name in the file.
    pub name: String,
    /// The kind of number.
    pub datatype: Datatype,
    /// Sizes, outermost first; `None` where the file names a symbol or nothing.
    pub dims: Vec<Option<i64>>,
    /// Whether the file gives a shape at all; when not, `dims` is empty and says nothing.
    pub ranked: bool,
}

impl TensorSpec {
    /// Elements of one row: the product of all sizes but the first, `None` when one is symbolic.
    #[must_use]
    pub fn row_elements(&self) -> Option<usize> {
        if !self.ranked {
            return None;
        }
        self.dims
            .iter()
            .skip(1)
            .try_fold(1usize, |product, dim| product.checked_mul(usize::try_from((*dim)?).ok()?))
    }

    /// Whether the first size is open, so that rows may be batched.
    #[must_use]
    pub fn batches(&self) -> bool {
        self.dims.first() == Some(&None)
    }

    /// Elements that a caller gives at least: open sizes are one.
    pub(crate) fn least_elements(&self) -> Option<usize> {
        self.dims
            .iter()
            .flatten()
            .try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
    }

    pub(crate) fn of(info: &pb::ValueInfoProto) -> Result<Self, Refusal> {
        let bad = |reason: String| Refusal::BadInterface { value: named(&info.name), reason };
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            info.r#type.as_ref().and_then(|kind| kind.value.as_ref())
        else {
            return Err(bad("it is no tensor".into()));
        };
        let datatype = Datatype::from_onnx(tensor.elem_type)
            .ok_or_else(|| bad(format!("element type {} is not served", tensor.elem_type)))?;
        let dims = match &tensor.shape {
            None => Vec::new(),
            Some(shape) => shape.dim.iter().map(size).collect(),
        };
        if let Some(dim) = dims.iter().flatten().find(|dim| **dim < 0) {
            return Err(bad(format!("a size is {dim}")));
        }
        if dims.len() > MAX_RANK {
            return Err(bad(format!("it has {} axes, {MAX_RANK} are the most", dims.len())));
        }
        Ok(Self { name: info.name.clone(), datatype, dims, ranked: tensor.shape.is_some() })
    }
}

fn size(dim: &pb::tensor_shape_proto::Dimension) -> Option<i64> {
    match &dim.value {
        // Some exporters write -1 or 0 for an open size.
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(value)) if *value != -1 && *value != 0 => {
            Some(*value)
        }
        _ => None,
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.datatype)?;
        if !self.ranked {
            return f.write_str("[..]");
        }
        let dims: Vec<String> =
            self.dims.iter().map(|dim| dim.map_or("?".into(), |d| d.to_string())).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}
