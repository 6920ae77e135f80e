//! `POST …/infer`: what was asked.
//!
//! The same JSON as [`shoal_proto::infer::InferRequest`], read straight into flat numbers: a tree of
//! them would take four times the memory.

use crate::serve::binary;
use crate::serve::flat::Flat;
use crate::serve::models::ServedModel;
use crate::serve::refused::{Refused, shortened};
use crate::serve::tensors::{datatype_of, from_json, refused, shape_of};
use axum::http::HeaderMap;
use serde::Deserialize;
use shoal_infer::Tensor;
use shoal_proto::infer::{OutputWanted, Parameters};

#[derive(Deserialize)]
struct RequestJson {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<InputJson>,
    #[serde(default)]
    outputs: Vec<OutputWanted>,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<Flat>,
}

/// A request, its tensors ready for the model.
pub(in crate::serve) struct Request {
    pub(in crate::serve) id: Option<String>,
    pub(in crate::serve) inputs: Vec<Tensor>,
    pub(in crate::serve) wanted: Wanted,
    pub(in crate::serve) parameters: Parameters,
}

/// Which outputs, and how each is to be sent.
pub(in crate::serve) struct Wanted {
    /// Names and whether as raw bytes; empty: all.
    pub(in crate::serve) outputs: Vec<(String, bool)>,
    /// Whether raw bytes where no output is named.
    pub(in crate::serve) all_binary: bool,
}

impl Wanted {
    /// Before the model runs: an output that does not exist costs nothing.
    pub(in crate::serve) fn check(&self, served: &ServedModel) -> Result<(), Refused> {
        let known = served.predictor().outputs();
        let unknown = |name: &str| known.iter().all(|spec| spec.name != name);
        match self.outputs.iter().find(|(name, _)| unknown(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Refused::UnknownOutput {
                output: shortened(name),
                known: known.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// Reads JSON, or JSON followed by raw tensors.
pub(in crate::serve) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Request, Refused> {
    let malformed = |reason: String| Refused::Malformed { reason };
    let (json, mut raw) = match headers.get(binary::HEADER) {
        None => (body, &[][..]),
        Some(length) => {
            let length = length.to_str().ok().and_then(|text| text.parse().ok());
            length.and_then(|length| body.split_at_checked(length)).ok_or_else(|| {
                malformed(format!("`{}` is no length within {} bytes", binary::HEADER, body.len()))
            })?
        }
    };
    let request: RequestJson = serde_json::from_slice(json).map_err(|cause| malformed(cause.to_string()))?;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        inputs.push(tensor(input, &mut raw)?);
    }
    if !raw.is_empty() {
        return Err(malformed(format!("{} bytes are left after the last input", raw.len())));
    }
    let all_binary = flag(&request.parameters, "binary_data_output").unwrap_or(false);
    let outputs = request.outputs.into_iter().map(|output| {
        let binary = flag(&output.parameters, "binary_data").unwrap_or(all_binary);
        (output.name, binary)
    });
    let wanted = Wanted { outputs: outputs.collect(), all_binary };
    Ok(Request { id: request.id, inputs, wanted, parameters: request.parameters })
}

fn tensor(input: InputJson, raw: &mut &[u8]) -> Result<Tensor, Refused> {
    let InputJson { name, shape, datatype, parameters, data } = input;
    let size = parameters.get("binary_data_size").map(|size| {
        size.as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .ok_or_else(|| refused(&name, "`binary_data_size` is no size".into()))
    });
    match (size.transpose()?, data) {
        (None, Some(flat)) => from_json(&name, &shape, &datatype, flat),
        (Some(size), None) => {
            let (bytes, rest) = raw.split_at_checked(size).ok_or_else(|| {
                refused(&name, format!("`binary_data_size` is {size}, {} bytes are left", raw.len()))
            })?;
            *raw = rest;
            let datatype = datatype_of(&name, &datatype)?;
            let (shape, elements) = shape_of(&name, &shape)?;
            let data = binary::read(&name, datatype, elements, bytes)?;
            Ok(Tensor { name, shape, data })
        }
        (None, None) => Err(refused(&name, "neither `data` nor `binary_data_size`".into())),
        (Some(_), Some(_)) => Err(refused(&name, "both `data` and `binary_data_size`".into())),
    }
}

fn flag(parameters: &Parameters, name: &str) -> Option<bool> {
    parameters.get(name)?.as_bool()
}
