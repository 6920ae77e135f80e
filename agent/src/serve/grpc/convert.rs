//! Messages to tensors and back.

use crate::serve::binary;
use crate::serve::predict::Answer;
use crate::serve::refused::Refused;
use crate::serve::rest::answer::chosen;
use crate::serve::rest::request::Wanted;
use crate::serve::tensors::{datatype_of, name_of, refused, shape_of};
use prost::bytes::Bytes;
use serde_json::Value;
use shoal_infer::{Tensor, TensorData};
use shoal_onnx::Datatype;
use shoal_proto::grpc::{
    InferParameter, InferTensor, InferTensorContents, ModelInferRequest, ModelInferResponse, ParameterChoice,
};
use shoal_proto::infer::Parameters;

/// A request, its tensors ready for the model.
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) inputs: Vec<Tensor>,
    pub(super) wanted: Wanted,
    /// Raw inputs are answered with raw outputs.
    pub(super) is_raw: bool,
    pub(super) parameters: Parameters,
}

pub(super) fn read(call: ModelInferRequest) -> Result<Asked, Refused> {
    let ModelInferRequest { id, inputs: given, outputs, raw_input_contents: raw, parameters, .. } = call;
    let is_raw = !raw.is_empty();
    if is_raw && raw.len() != given.len() {
        let reason = format!(
            "`raw_input_contents` has {} entries, expected one for each of {} inputs",
            raw.len(),
            given.len()
        );
        return Err(Refused::Malformed { reason });
    }
    let mut raw = raw.into_iter();
    let inputs = given.into_iter().map(|input| tensor(input, raw.next())).collect::<Result<_, _>>()?;
    let outputs = outputs.into_iter().map(|output| (output.name, is_raw)).collect();
    let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, parameter(value)?)));
    let wanted = Wanted { outputs, all_binary: is_raw };
    Ok(Asked { id, inputs, wanted, is_raw, parameters: parameters.collect() })
}

/// A parameter as JSON has it.
fn parameter(value: InferParameter) -> Option<Value> {
    Some(match value.parameter_choice? {
        ParameterChoice::Bool(value) => value.into(),
        ParameterChoice::Int64(value) => value.into(),
        ParameterChoice::Uint64(value) => value.into(),
        ParameterChoice::Double(value) => value.into(),
        ParameterChoice::String(value) => value.into(),
    })
}

fn tensor(input: InferTensor, raw: Option<Bytes>) -> Result<Tensor, Refused> {
    let InferTensor { name, datatype, shape, contents, .. } = input;
    let datatype = datatype_of(&name, &datatype)?;
    let (shape, elements) = shape_of(&name, &shape)?;
    let data = match (raw, contents) {
        (Some(bytes), None) => binary::read(&name, datatype, elements, &bytes)?,
        (None, Some(contents)) => typed(&name, datatype, contents)?,
        (None, None) if elements == 0 => typed(&name, datatype, InferTensorContents::default())?,
        (None, None) => return Err(refused(&name, "neither `contents` nor raw bytes".into())),
        (Some(_), Some(_)) => return Err(refused(&name, "both `contents` and raw bytes".into())),
    };
    if data.len() != elements {
        let reason = format!("shape {shape:?} holds {elements} elements, got {}", data.len());
        return Err(refused(&name, reason));
    }
    Ok(Tensor { name, shape, data })
}

fn typed(input: &str, datatype: Datatype, contents: InferTensorContents) -> Result<TensorData, Refused> {
    fn narrow<W: Copy + ToString, N: TryFrom<W>>(input: &str, values: &[W]) -> Result<Vec<N>, Refused> {
        let fit = |value: &W| {
            N::try_from(*value)
                .map_err(|_too_large| refused(input, format!("{} is out of range", value.to_string())))
        };
        values.iter().map(fit).collect()
    }
    Ok(match datatype {
        Datatype::Bool => TensorData::Bool(contents.bools),
        Datatype::U8 => TensorData::U8(narrow(input, &contents.uints)?),
        Datatype::U16 => TensorData::U16(narrow(input, &contents.uints)?),
        Datatype::U32 => TensorData::U32(contents.uints),
        Datatype::U64 => TensorData::U64(contents.uint64s),
        Datatype::I8 => TensorData::I8(narrow(input, &contents.ints)?),
        Datatype::I16 => TensorData::I16(narrow(input, &contents.ints)?),
        Datatype::I32 => TensorData::I32(contents.ints),
        Datatype::I64 => TensorData::I64(contents.int64s),
        Datatype::F32 => TensorData::F32(contents.fp32s),
        Datatype::F64 => TensorData::F64(contents.fp64s),
        Datatype::F16 => return Err(refused(input, "half precision is sent as raw bytes".into())),
        Datatype::String => {
            let text = |bytes: Bytes| {
                String::from_utf8(bytes.into())
                    .map_err(|_not_text| refused(input, "BYTES that are no UTF-8".into()))
            };
            TensorData::String(contents.bytes.into_iter().map(text).collect::<Result<_, _>>()?)
        }
    })
}

pub(super) fn write(answer: Answer, id: String, wanted: &Wanted, is_raw: bool) -> ModelInferResponse {
    let mut raw_output_contents = Vec::new();
    // There is no list for half precision: raw bytes then, and for all, since they go by place.
    let has_halves = chosen(&answer.outputs, wanted).any(|(output, _)| output.datatype() == Datatype::F16);
    let is_raw = is_raw || has_halves;
    let outputs = chosen(&answer.outputs, wanted).map(|(output, _)| {
        let contents = if is_raw {
            let mut bytes = Vec::new();
            binary::write(&output.data, &mut bytes);
            raw_output_contents.push(bytes.into());
            None
        } else {
            Some(contents(&output.data))
        };
        InferTensor {
            name: output.name.clone(),
            datatype: name_of(output.datatype()).into(),
            shape: output.shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect(),
            contents,
            ..InferTensor::default()
        }
    });
    let outputs = outputs.collect();
    let prediction_id = answer.prediction_id.map(|id| {
        let value = InferParameter { parameter_choice: Some(ParameterChoice::String(id)) };
        ("prediction_id".to_owned(), value)
    });
    ModelInferResponse {
        model_name: answer.served.name().to_string(),
        model_version: answer.served.version().into(),
        id,
        parameters: prediction_id.into_iter().collect(),
        outputs,
        raw_output_contents,
    }
}

fn contents(data: &TensorData) -> InferTensorContents {
    let none = InferTensorContents::default();
    macro_rules! wide {
        ($field:ident, $values:expr) => {
            InferTensorContents { $field: $values.iter().map(|value| (*value).into()).collect(), ..none }
        };
    }
    match data {
        TensorData::Bool(values) => wide!(bools, values),
        TensorData::U8(values) => wide!(uints, values),
        TensorData::U16(values) => wide!(uints, values),
        TensorData::U32(values) => wide!(uints, values),
        TensorData::U64(values) => wide!(uint64s, values),
        TensorData::I8(values) => wide!(ints, values),
        TensorData::I16(values) => wide!(ints, values),
        TensorData::I32(values) => wide!(ints, values),
        TensorData::I64(values) => wide!(int64s, values),
        TensorData::F32(values) => wide!(fp32s, values),
        TensorData::F64(values) => wide!(fp64s, values),
        TensorData::F16(_) => none, // given raw
        TensorData::String(values) => InferTensorContents {
            bytes: values.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
            ..none
        },
    }
}
