//! `POST …/infer`: what is answered.

use super::request::Wanted;
use crate::serve::binary;
use crate::serve::predict::Answer;
use crate::serve::refused::Refused;
use crate::serve::tensors::{JsonData, name_of};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shoal_infer::Tensor;

#[derive(Serialize)]
struct AnswerJson<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<AnswerParameters<'a>>,
    outputs: Vec<OutputJson<'a>>,
}

#[derive(Serialize)]
struct AnswerParameters<'a> {
    prediction_id: &'a str,
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    shape: &'a [usize],
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<JsonData<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// The answer as JSON, or as JSON followed by raw tensors.
pub(super) fn write(answer: Answer, id: Option<String>, wanted: &Wanted) -> Result<Response, Refused> {
    let mut raw = Vec::new();
    let json = compose(&answer, id, wanted, Some(&mut raw))?;
    if raw.is_empty() {
        return Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response());
    }
    let length = json.len().to_string();
    let mut body = json;
    body.append(&mut raw);
    let headers = [(header::CONTENT_TYPE.as_str(), "application/octet-stream"), (binary::HEADER, &length)];
    Ok((headers, body).into_response())
}

/// The answer as JSON, whatever was wished: where raw bytes have no place.
pub(in crate::serve) fn json(
    answer: &Answer,
    id: Option<String>,
    wanted: &Wanted,
) -> Result<Vec<u8>, Refused> {
    compose(answer, id, wanted, None)
}

fn compose(
    answer: &Answer,
    id: Option<String>,
    wanted: &Wanted,
    mut raw: Option<&mut Vec<u8>>,
) -> Result<Vec<u8>, Refused> {
    let outputs = chosen(&answer.outputs, wanted)
        .map(|(tensor, is_binary)| {
            let mut output = OutputJson {
                name: &tensor.name,
                shape: &tensor.shape,
                datatype: name_of(tensor.datatype()),
                parameters: None,
                data: None,
            };
            match raw.as_deref_mut().filter(|_| is_binary) {
                Some(raw) => {
                    let binary_data_size = binary::write(&tensor.data, raw);
                    output.parameters = Some(BinarySize { binary_data_size });
                }
                None => output.data = Some(JsonData(&tensor.data)),
            }
            output
        })
        .collect::<Vec<_>>();
    let parameters = answer.prediction_id.as_deref().map(|prediction_id| AnswerParameters { prediction_id });
    serde_json::to_vec(&AnswerJson {
        model_name: answer.served.name().as_str(),
        model_version: answer.served.version(),
        id,
        parameters,
        outputs,
    })
    .map_err(|_cause| Refused::Interrupted)
}

/// The outputs that were asked for, in the order of the request; all where none was named.
pub(in crate::serve) fn chosen<'a>(
    outputs: &'a [Tensor],
    wanted: &'a Wanted,
) -> impl Iterator<Item = (&'a Tensor, bool)> {
    let named = wanted.outputs.iter().filter_map(|(name, is_binary)| {
        outputs.iter().find(|tensor| tensor.name == *name).map(|tensor| (tensor, *is_binary))
    });
    let all = wanted.outputs.is_empty().then(|| outputs.iter().map(|tensor| (tensor, wanted.all_binary)));
    named.chain(all.into_iter().flatten())
}
