//! Tensors stored in a file.

use tract_onnx::pb::{TensorProto, tensor_proto::DataLocation};

use crate::limits::Limits;
use crate::refusal::{Refusal, named};
use crate::spec::{Datatype, MAX_RANK};

/// A stored tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Sizes, outermost first; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements, as many as the product of `dims`.
    pub data: ConstantData,
}

/// The elements of a stored tensor, as far as anyone computes with them.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ConstantData {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    /// Truths, and whole numbers of eight bits, signed or not.
    Bytes(Datatype, Vec<i16>),
    /// A type that is served and never computed with here.
    Other(Datatype),
}

impl Constant {
    /// The kind of number.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        match &self.data {
            ConstantData::F32(_) => Datatype::F32,
            ConstantData::F64(_) => Datatype::F64,
            ConstantData::I64(_) => Datatype::I64,
            ConstantData::I32(_) => Datatype::I32,
            ConstantData::Bytes(datatype, _) | ConstantData::Other(datatype) => *datatype,
        }
    }

    /// The elements as whole numbers, `None` for other types.
    #[must_use]
    pub fn ints(&self) -> Option<Vec<i64>> {
        match &self.data {
            ConstantData::I64(values) => Some(values.clone()),
            ConstantData::I32(values) => Some(values.iter().map(|v| i64::from(*v)).collect()),
            ConstantData::Bytes(_, values) => Some(values.iter().map(|v| i64::from(*v)).collect()),
            ConstantData::F32(_) | ConstantData::F64(_) | ConstantData::Other(_) => None,
        }
    }

    /// Reads a tensor that [`check`] has passed.
    pub(crate) fn read(tensor: &TensorProto) -> Option<Self> {
        let dims = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
        let raw = &tensor.raw_data;
        let data = match Datatype::from_onnx(tensor.data_type)? {
            Datatype::F32 if raw.is_empty() => ConstantData::F32(tensor.float_data.clone()),
            Datatype::F32 => {
                ConstantData::F32(raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Datatype::F64 if raw.is_empty() => ConstantData::F64(tensor.double_data.clone()),
            Datatype::F64 => {
                ConstantData::F64(raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
            }
            Datatype::I64 if raw.is_empty() => ConstantData::I64(tensor.int64_data.clone()),
            Datatype::I64 => {
                ConstantData::I64(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            Datatype::I32 if raw.is_empty() => ConstantData::I32(tensor.int32_data.clone()),
            Datatype::I32 => {
                ConstantData::I32(raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect())
            }
            kind @ (Datatype::Bool | Datatype::U8 | Datatype::I8) => {
                let of_byte =
                    |byte: u8| if kind == Datatype::I8 { i16::from(byte.cast_signed()) } else { byte.into() };
                let of_wide = |wide: &i32| i16::try_from(*wide).unwrap_or_default();
                let values = match raw.as_slice() {
                    [] => tensor.int32_data.iter().map(of_wide).collect(),
                    raw => raw.iter().copied().map(of_byte).collect(),
                };
                ConstantData::Bytes(kind, values)
            }
            other => ConstantData::Other(other),
        };
        Some(Self { dims, data })
    }
}

/// Checks that a stored tensor holds what it says, and adds its elements to `total`.
///
/// # Errors
/// [`Refusal::ExternalData`], [`Refusal::BadTensor`] and [`Refusal::TooManyElements`].
pub(crate) fn check(tensor: &TensorProto, total: &mut u128, limits: &Limits) -> Result<(), Refusal> {
    let name = named(&tensor.name);
    let bad = |reason: String| Refusal::BadTensor { tensor: name.clone(), reason };
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Err(Refusal::ExternalData { tensor: name });
    }
    if tensor.segment.is_some() {
        return Err(bad("it is stored in segments".into()));
    }
    let datatype = Datatype::from_onnx(tensor.data_type)
        .ok_or_else(|| bad(format!("element type {} is not served", tensor.data_type)))?;
    if tensor.dims.len() > MAX_RANK {
        return Err(bad(format!("it has {} axes, {MAX_RANK} are the most", tensor.dims.len())));
    }
    let elements = tensor.dims.iter().try_fold(1u128, |product, dim| {
        let dim = u128::try_from(*dim).ok()?;
        product.checked_mul(dim)
    });
    let elements = elements.ok_or_else(|| bad(format!("its sizes {:?} make no sense", tensor.dims)))?;
    *total = total.saturating_add(elements);
    if *total > limits.max_tensor_elements as u128 {
        return Err(Refusal::TooManyElements {
            tensor: name,
            elements: *total,
            limit: limits.max_tensor_elements,
        });
    }
    if !tensor.raw_data.is_empty() && stored(tensor, datatype) > 0 {
        return Err(bad("it is stored twice, as raw bytes and as numbers".into()));
    }
    let (held, wanted, unit) = if tensor.raw_data.is_empty() {
        (stored(tensor, datatype) as u128, elements, "elements")
    } else if datatype == Datatype::String {
        return Err(bad("text is stored as raw bytes".into()));
    } else {
        (tensor.raw_data.len() as u128, elements * datatype.size_bytes() as u128, "bytes")
    };
    if held != wanted {
        let dims = &tensor.dims;
        return Err(bad(format!("shape {dims:?} of {datatype} needs {wanted} {unit}, it holds {held}")));
    }
    Ok(())
}

/// Elements in the typed field that belongs to this datatype.
fn stored(tensor: &TensorProto, datatype: Datatype) -> usize {
    match datatype {
        Datatype::F32 => tensor.float_data.len(),
        Datatype::F64 => tensor.double_data.len(),
        // The engine reads u64 from int64_data and u32 from int32_data; a file that uses
        // uint64_data is refused rather than read as empty.
        Datatype::I64 | Datatype::U64 => tensor.int64_data.len(),
        Datatype::String => tensor.string_data.len(),
        Datatype::Bool
        | Datatype::U8
        | Datatype::U16
        | Datatype::I8
        | Datatype::I16
        | Datatype::F16
        | Datatype::I32
        | Datatype::U32 => tensor.int32_data.len(),
    }
}
