//! One NumPy array: the header is read strictly, by hand, since it may come from elsewhere.

use half::f16;
use thiserror::Error;

use crate::tensor::{Tensor, TensorData};

/// Largest header, in bytes: NumPy writes 128 for all but records.
const MAX_HEADER: usize = 4096;
/// Bytes of a character of NumPy's text.
const CODE_POINT: usize = 4;

/// Why an array could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NpyError {
    /// It does not begin like an array, or ends early.
    #[error("it is damaged")]
    Damaged,
    /// It is laid out in columns.
    #[error("it is laid out in columns, only rows are read")]
    Columns,
    /// It holds records, objects or big-endian numbers.
    #[error("type `{descr}` is not read")]
    Datatype { descr: String },
    /// Shape and bytes contradict each other.
    #[error("shape {shape:?} needs {expected} bytes, it holds {got}")]
    Length { shape: Vec<usize>, expected: usize, got: usize },
}

/// Reads an array of numbers, booleans or Unicode text, row-major and little-endian. Half precision is
/// handed out as f32.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Tensor, NpyError> {
    let (header, body) = split(bytes).ok_or(NpyError::Damaged)?;
    let descr = text(header, "descr").ok_or(NpyError::Damaged)?;
    match field(header, "fortran_order").ok_or(NpyError::Damaged)? {
        rest if rest.starts_with("False") => {}
        rest if rest.starts_with("True") => return Err(NpyError::Columns),
        _ => return Err(NpyError::Damaged),
    }
    let shape = shape(header).ok_or(NpyError::Damaged)?;
    let unit = unit(descr).ok_or_else(|| NpyError::Datatype { descr: descr.to_owned() })?;
    let expected = shape.iter().try_fold(unit, |product, dim| product.checked_mul(*dim));
    let expected = expected.ok_or(NpyError::Damaged)?;
    if expected != body.len() {
        return Err(NpyError::Length { shape, expected, got: body.len() });
    }
    let data = numbers(descr, body).ok_or_else(|| NpyError::Datatype { descr: descr.to_owned() })?;
    Ok(Tensor { name: name.to_owned(), shape, data })
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = if version[0] == 1 {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
    };
    if length > MAX_HEADER {
        return None;
    }
    let (header, body) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, body))
}

fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

fn text<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    Some(field(header, key)?.strip_prefix('\'')?.split_once('\'')?.0)
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let (inside, _) = field(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes.map(|size| size.parse().ok()).collect()
}

fn unit(descr: &str) -> Option<usize> {
    let unit: usize = descr.get(2..)?.parse().ok()?;
    if descr.starts_with("<U") { unit.checked_mul(CODE_POINT) } else { Some(unit) }
}

/// Texts of a fixed number of code points, filled up with zeros.
fn texts(descr: &str, body: &[u8]) -> Option<TensorData> {
    let unit = unit(descr).filter(|unit| *unit > 0)?;
    let text = |bytes: &[u8]| {
        let points = bytes.as_chunks::<CODE_POINT>().0.iter().map(|point| u32::from_le_bytes(*point));
        let text = points.map(char::from_u32).collect::<Option<String>>()?;
        Some(text.trim_end_matches('\0').to_owned())
    };
    Some(TensorData::String(body.chunks_exact(unit).map(text).collect::<Option<_>>()?))
}

fn numbers(descr: &str, body: &[u8]) -> Option<TensorData> {
    macro_rules! chunks {
        ($kind:ident, $number:ty) => {
            TensorData::$kind(
                body.as_chunks().0.iter().map(|bytes| <$number>::from_le_bytes(*bytes)).collect(),
            )
        };
    }
    Some(match descr {
        "|b1" => TensorData::Bool(body.iter().map(|byte| *byte != 0).collect()),
        "|u1" => TensorData::U8(body.to_vec()),
        "|i1" => chunks!(I8, i8),
        "<u2" => chunks!(U16, u16),
        "<u4" => chunks!(U32, u32),
        "<u8" => chunks!(U64, u64),
        "<i2" => chunks!(I16, i16),
        "<i4" => chunks!(I32, i32),
        "<i8" => chunks!(I64, i64),
        "<f2" => TensorData::F16(
            body.as_chunks().0.iter().map(|bytes| f16::from_bits(u16::from_le_bytes(*bytes))).collect(),
        ),
        "<f4" => chunks!(F32, f32),
        "<f8" => chunks!(F64, f64),
        text if text.starts_with("<U") => return texts(text, body),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(descr: &str, shape: &str, body: &[u8]) -> Result<TensorData, NpyError> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        let bytes = [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), body].concat();
        read("x", &bytes).map(|tensor| tensor.data)
    }

    #[test]
    fn half_precision_and_text_are_read() {
        assert_eq!(
            array("<f2", "2,", &[0, 0x3c, 0, 0xc0]),
            Ok(TensorData::F16(vec![f16::from_f32(1.0), f16::from_f32(-2.0)]))
        );
        let text = ['a', 'b', '\0', 'ß', '\0', '\0'].map(|c| u32::from(c).to_le_bytes()).concat();
        assert_eq!(array("<U3", "2,", &text), Ok(TensorData::String(vec!["ab".into(), "ß".into()])));
    }

    #[test]
    fn text_that_is_none_is_refused() {
        assert!(matches!(array("<U1", "1,", &[0xff; 4]), Err(NpyError::Datatype { .. })));
        assert!(array("<U0", "1,", &[]).is_err());
        assert!(array("<U1", "2,", &[0; 4]).is_err());
        assert!(array("|O", "1,", &[0; 8]).is_err());
    }
}
