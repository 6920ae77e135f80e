//! New values for stored tensors, written into the original bytes.
//!
//! Decoding and encoding again would drop what the decoder does not know (metadata of newer
//! exporters), so only the elements are overwritten: all other bytes, and the length, stay.

use std::collections::BTreeMap;

use thiserror::Error;
use tract_onnx::pb::tensor_proto::DataType;

use crate::wire::{Broken, Fields, Value};

const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_DATA_TYPE: u64 = 2;
const TENSOR_FLOAT_DATA: u64 = 4;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW_DATA: u64 = 9;

/// Why values could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: damaged at byte {at}")]
    NotOnnx { at: usize },
    /// No stored tensor has this name.
    #[error("no stored tensor is named `{name}`")]
    Unknown { name: String },
    /// Two stored tensors have this name.
    #[error("two stored tensors are named `{name}`")]
    Duplicate { name: String },
    /// The stored tensor is not of 32-bit floats.
    #[error("stored tensor `{name}` is not of 32-bit floats")]
    NotF32 { name: String },
    /// The number of values differs.
    #[error("stored tensor `{name}` holds {expected} values, got {got}")]
    Length { name: String, expected: usize, got: usize },
}

impl From<Broken> for PatchError {
    fn from(Broken { at }: Broken) -> Self {
        Self::NotOnnx { at }
    }
}

/// Where a stored tensor keeps what.
#[derive(Debug, Default)]
struct Place<'a> {
    name: &'a [u8],
    data_type: u64,
    raw: Option<(usize, usize)>,
    /// Runs of little-endian floats, packed or one by one.
    floats: Vec<(usize, usize)>,
}

/// Writes new values over stored tensors of 32-bit floats.
///
/// # Errors
/// [`PatchError`], which names the tensor; then nothing is written.
pub fn patch_initializers(bytes: &[u8], new: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>, PatchError> {
    let mut patched = bytes.to_vec();
    let mut left: BTreeMap<&[u8], (&str, &[f32])> =
        new.iter().map(|(name, values)| (name.as_bytes(), (name.as_str(), values.as_slice()))).collect();
    let mut done: Vec<&str> = Vec::new();
    for graph in submessages(Fields::of(bytes), MODEL_GRAPH)? {
        for tensor in submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_INITIALIZER)? {
            let place = place(bytes, tensor)?;
            if let Some((name, values)) = left.remove(place.name) {
                write(&mut patched, &place, name, values)?;
                done.push(name);
            } else if let Some(name) = done.iter().find(|name| name.as_bytes() == place.name) {
                return Err(PatchError::Duplicate { name: (*name).into() });
            }
        }
    }
    match left.into_values().next() {
        None => Ok(patched),
        Some((name, _)) => Err(PatchError::Unknown { name: name.into() }),
    }
}

fn submessages(fields: Fields<'_>, number: u64) -> Result<Vec<(usize, usize)>, Broken> {
    let mut found = Vec::new();
    for field in fields {
        let field = field?;
        if let (true, Value::Bytes { start, end }) = (field.number == number, field.value) {
            found.push((start, end));
        }
    }
    Ok(found)
}

fn place(bytes: &[u8], (start, end): (usize, usize)) -> Result<Place<'_>, Broken> {
    let mut place = Place::default();
    for field in Fields::within(bytes, start, end) {
        let field = field?;
        match (field.number, field.value) {
            (TENSOR_NAME, Value::Bytes { start, end }) => place.name = &bytes[start..end],
            (TENSOR_DATA_TYPE, Value::Varint(code)) => place.data_type = code,
            (TENSOR_RAW_DATA, Value::Bytes { start, end }) => place.raw = Some((start, end)),
            (TENSOR_FLOAT_DATA, Value::Bytes { start, end }) => place.floats.push((start, end)),
            (TENSOR_FLOAT_DATA, Value::Fixed32 { start }) => place.floats.push((start, start + 4)),
            _ => {}
        }
    }
    Ok(place)
}

fn write(patched: &mut [u8], place: &Place<'_>, name: &str, values: &[f32]) -> Result<(), PatchError> {
    let is_f32 = i32::try_from(place.data_type) == Ok(DataType::Float as i32);
    let runs: Vec<(usize, usize)> = match place.raw {
        Some((start, end)) if end > start => vec![(start, end)],
        _ => place.floats.clone(),
    };
    if !is_f32 || runs.iter().any(|(start, end)| (end - start) % 4 != 0) {
        return Err(PatchError::NotF32 { name: name.into() });
    }
    let expected: usize = runs.iter().map(|(start, end)| (end - start) / 4).sum();
    if expected != values.len() {
        return Err(PatchError::Length { name: name.into(), expected, got: values.len() });
    }
    let slots = runs.into_iter().flat_map(|(start, end)| (start..end).step_by(4));
    for (at, value) in slots.zip(values) {
        patched[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}
