//! Tensors in NumPy's `.npz` files: guard sets, replay sets and golden inputs of a package.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, ZipArchive, write::FileOptions};
use npyz::{AutoSerialize, WriterBuilder};
use thiserror::Error;

use crate::npy::{self, NpyError};
use crate::tensor::{Tensor, TensorData, TensorError};

/// 256 MiB unpacked over all arrays: a guard set is a few thousand rows; a small archive that
/// unpacks to more is an attack.
const MAX_UNPACKED: u64 = 256 << 20;

/// Arrays of an archive: a package has a handful, a gradient file some hundred.
const MAX_ARRAYS: usize = 4096;

/// Why an archive could not be read or written.
#[derive(Debug, Error)]
pub enum NpzError {
    /// The bytes are no archive, or a damaged one.
    #[error("not an .npz archive: {reason}")]
    NotNpz { reason: String },
    /// More arrays than the limit.
    #[error("archive holds {arrays} files, the limit is {limit}")]
    TooManyArrays { arrays: usize, limit: usize },
    /// More bytes unpacked than the limit.
    #[error("archive unpacks to more than {limit} bytes at array `{array}`")]
    TooLarge { array: String, limit: u64 },
    /// An array cannot be read.
    #[error("array `{array}` cannot be read")]
    Array {
        array: String,
        #[source]
        source: NpyError,
    },
    /// A tensor's shape and elements contradict each other.
    #[error("a tensor cannot be written")]
    Contradiction(#[from] TensorError),
    /// Text has no place in the format that is safe to read.
    #[error("tensor `{array}` holds text, which is not written")]
    Text { array: String },
    /// Two tensors have the same name.
    #[error("two tensors are named `{array}`")]
    Duplicate { array: String },
    /// The archive could not be written.
    #[error("archive cannot be written")]
    Write {
        #[source]
        source: std::io::Error,
    },
}

/// Reads all arrays, in the archive's order; files that are no arrays are passed over.
///
/// # Errors
/// [`NpzError`], with the array's name.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<Tensor>, NpzError> {
    // The archive reader is foreign and old, and the bytes may come from elsewhere.
    catch_unwind(AssertUnwindSafe(|| unpack(bytes)))
        .unwrap_or_else(|_| Err(NpzError::NotNpz { reason: "the reader panicked".into() }))
}

fn unpack(bytes: &[u8]) -> Result<Vec<Tensor>, NpzError> {
    let not_npz = |cause: &dyn std::fmt::Display| NpzError::NotNpz { reason: cause.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|cause| not_npz(&cause))?;
    if archive.len() > MAX_ARRAYS {
        return Err(NpzError::TooManyArrays { arrays: archive.len(), limit: MAX_ARRAYS });
    }
    let (mut tensors, mut left) = (Vec::new(), MAX_UNPACKED);
    for place in 0..archive.len() {
        let file = archive.by_index(place).map_err(|cause| not_npz(&cause))?;
        let Some(name) = npyz::npz::array_name_from_file_name(file.name()).map(str::to_owned) else {
            continue;
        };
        let mut body = Vec::new();
        file.take(left + 1).read_to_end(&mut body).map_err(|cause| not_npz(&cause))?;
        left = left
            .checked_sub(body.len() as u64)
            .ok_or_else(|| NpzError::TooLarge { array: name.clone(), limit: MAX_UNPACKED })?;
        let tensor = npy::read(&name, &body);
        tensors.push(tensor.map_err(|source| NpzError::Array { array: name, source })?);
    }
    Ok(tensors)
}

/// Writes tensors in the given order, uncompressed and dated 1980: the same tensors give the same
/// bytes.
///
/// # Errors
/// [`NpzError`] for text, two tensors of one name, and shapes that do not fit.
pub fn write_npz(tensors: &[Tensor]) -> Result<Vec<u8>, NpzError> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = NpzWriter::new(&mut bytes);
    for (place, tensor) in tensors.iter().enumerate() {
        tensor.check()?;
        if tensors[..place].iter().any(|before| before.name == tensor.name) {
            return Err(NpzError::Duplicate { array: tensor.name.clone() });
        }
        write_one(&mut writer, tensor)?;
    }
    writer.zip_writer().finish().map_err(|source| NpzError::Write { source: source.into() })?;
    drop(writer);
    Ok(bytes.into_inner())
}

type Writer<'a> = NpzWriter<&'a mut Cursor<Vec<u8>>>;

fn write_one(writer: &mut Writer<'_>, tensor: &Tensor) -> Result<(), NpzError> {
    let written = match &tensor.data {
        TensorData::Bool(values) => put(writer, tensor, values),
        TensorData::U8(values) => put(writer, tensor, values),
        TensorData::U16(values) => put(writer, tensor, values),
        TensorData::U32(values) => put(writer, tensor, values),
        TensorData::U64(values) => put(writer, tensor, values),
        TensorData::I8(values) => put(writer, tensor, values),
        TensorData::I16(values) => put(writer, tensor, values),
        TensorData::I32(values) => put(writer, tensor, values),
        TensorData::I64(values) => put(writer, tensor, values),
        TensorData::F16(values) => put(writer, tensor, values),
        TensorData::F32(values) => put(writer, tensor, values),
        TensorData::F64(values) => put(writer, tensor, values),
        TensorData::String(_) => return Err(NpzError::Text { array: tensor.name.clone() }),
    };
    written.map_err(|source| NpzError::Write { source })
}

fn put<T: AutoSerialize + Copy>(
    writer: &mut Writer<'_>,
    tensor: &Tensor,
    values: &[T],
) -> std::io::Result<()> {
    let options = FileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let shape: Vec<u64> = tensor.shape.iter().map(|dim| *dim as u64).collect();
    let mut array = writer.array::<T>(&tensor.name, options)?.default_dtype().shape(&shape).begin_nd()?;
    array.extend(values.iter().copied())?;
    array.finish()
}
