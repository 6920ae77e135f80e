//! The binary tensor data extension, as Triton has it: raw little-endian elements after the JSON.

use super::refused::Refused;
use super::tensors::refused;
use shoal_infer::{TensorData, f16};
use shoal_onnx::Datatype;

/// The header that tells where the JSON ends and the tensors begin.
pub(super) const HEADER: &str = "inference-header-content-length";

/// The elements in some bytes; text is a four-byte length before each element.
pub(super) fn read(
    input: &str,
    datatype: Datatype,
    elements: usize,
    bytes: &[u8],
) -> Result<TensorData, Refused> {
    let size = datatype.size_bytes();
    if datatype != Datatype::String && elements.checked_mul(size) != Some(bytes.len()) {
        let reason = format!("{elements} elements of {size} bytes, got {} bytes", bytes.len());
        return Err(refused(input, reason));
    }
    macro_rules! numbers {
        ($type:ty) => {
            bytes
                .chunks_exact(size_of::<$type>())
                .map(|chunk| {
                    let mut one = [0; size_of::<$type>()];
                    one.copy_from_slice(chunk);
                    <$type>::from_le_bytes(one)
                })
                .collect()
        };
    }
    Ok(match datatype {
        Datatype::Bool => TensorData::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
        Datatype::U8 => TensorData::U8(bytes.to_vec()),
        Datatype::U16 => TensorData::U16(numbers!(u16)),
        Datatype::U32 => TensorData::U32(numbers!(u32)),
        Datatype::U64 => TensorData::U64(numbers!(u64)),
        Datatype::I8 => TensorData::I8(numbers!(i8)),
        Datatype::I16 => TensorData::I16(numbers!(i16)),
        Datatype::I32 => TensorData::I32(numbers!(i32)),
        Datatype::I64 => TensorData::I64(numbers!(i64)),
        Datatype::F16 => TensorData::F16(numbers!(f16)),
        Datatype::F32 => TensorData::F32(numbers!(f32)),
        Datatype::F64 => TensorData::F64(numbers!(f64)),
        Datatype::String => TensorData::String(texts(input, elements, bytes)?),
    })
}

fn texts(input: &str, elements: usize, mut bytes: &[u8]) -> Result<Vec<String>, Refused> {
    let broken = || refused(input, format!("the bytes do not hold {elements} texts"));
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_too_long| broken())?;
        let (text, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        texts.push(std::str::from_utf8(text).map_err(|_not_text| broken())?.to_owned());
        bytes = rest;
    }
    if texts.len() == elements && bytes.is_empty() { Ok(texts) } else { Err(broken()) }
}

/// Appends the elements; tells how many bytes they take.
pub(super) fn write(data: &TensorData, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    macro_rules! numbers {
        ($values:expr) => {
            out.extend($values.iter().flat_map(|value| value.to_le_bytes()))
        };
    }
    match data {
        TensorData::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        TensorData::U8(values) => out.extend(values),
        TensorData::U16(values) => numbers!(values),
        TensorData::U32(values) => numbers!(values),
        TensorData::U64(values) => numbers!(values),
        TensorData::I8(values) => numbers!(values),
        TensorData::I16(values) => numbers!(values),
        TensorData::I32(values) => numbers!(values),
        TensorData::I64(values) => numbers!(values),
        TensorData::F16(values) => numbers!(values),
        TensorData::F32(values) => numbers!(values),
        TensorData::F64(values) => numbers!(values),
        TensorData::String(values) => {
            for text in values {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend(length.to_le_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
    out.len() - start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_reads_back() {
        for (datatype, data) in [
            (Datatype::Bool, TensorData::Bool(vec![true, false])),
            (Datatype::U8, TensorData::U8(vec![1, 255])),
            (Datatype::U16, TensorData::U16(vec![1, u16::MAX])),
            (Datatype::U32, TensorData::U32(vec![1, u32::MAX])),
            (Datatype::U64, TensorData::U64(vec![1, u64::MAX])),
            (Datatype::I8, TensorData::I8(vec![-1, 1])),
            (Datatype::I16, TensorData::I16(vec![-1, i16::MIN])),
            (Datatype::I32, TensorData::I32(vec![-1, i32::MIN])),
            (Datatype::I64, TensorData::I64(vec![-1, i64::MIN])),
            (Datatype::F32, TensorData::F32(vec![-1.5, f32::MAX])),
            (Datatype::F64, TensorData::F64(vec![-1.5, f64::MAX])),
            (Datatype::String, TensorData::String(vec!["".into(), "Fußball".into()])),
        ] {
            let mut bytes = Vec::new();
            assert_eq!(write(&data, &mut bytes), bytes.len());
            assert_eq!(read("x", datatype, 2, &bytes).unwrap(), data);
            assert!(read("x", datatype, 3, &bytes).is_err());
            bytes.pop();
            assert!(read("x", datatype, 2, &bytes).is_err(), "{datatype}");
        }
    }
}
