//! The Open Inference Protocol v2 as bytes: requests made before a measurement begins, and answers as
//! tensors.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};
use shoal_infer::{Tensor, TensorData, f16};
use shoal_onnx::Datatype;

/// How tensors are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Numbers in JSON.
    Json,
    /// Raw bytes after the JSON, and answered so too.
    Binary,
}

/// A whole HTTP request to `POST /v2/models/MODEL/infer`.
pub fn request(model: &str, inputs: &[Tensor], form: Form) -> anyhow::Result<Vec<u8>> {
    let mut raw = Vec::new();
    let mut described = Vec::with_capacity(inputs.len());
    for tensor in inputs {
        let mut input =
            json!({ "name": tensor.name, "shape": tensor.shape, "datatype": word(tensor.datatype()) });
        match form {
            Form::Json => input["data"] = numbers(&tensor.data)?,
            Form::Binary => {
                let before = raw.len();
                append(&tensor.data, &mut raw);
                input["parameters"] = json!({ "binary_data_size": raw.len() - before });
            }
        }
        described.push(input);
    }
    let mut asked = Map::from_iter([("inputs".to_owned(), Value::Array(described))]);
    let mut header = String::new();
    if form == Form::Binary {
        asked.insert("parameters".into(), json!({ "binary_data_output": true }));
    }
    let json = serde_json::to_vec(&asked)?;
    if form == Form::Binary {
        header = format!("inference-header-content-length: {}\r\n", json.len());
    }
    let length = json.len() + raw.len();
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         {header}content-length: {length}\r\n\r\n"
    );
    Ok([head.into_bytes(), json, raw].concat())
}

/// The outputs of an answer's body.
pub fn read_answer(body: &[u8], json_length: Option<usize>) -> anyhow::Result<Vec<Tensor>> {
    let (json, mut raw) = body
        .split_at_checked(json_length.unwrap_or(body.len()))
        .context("the JSON is longer than the body")?;
    let answer: Value = serde_json::from_slice(json)?;
    let outputs = answer["outputs"].as_array().context("an answer without outputs")?;
    let mut tensors = Vec::with_capacity(outputs.len());
    for output in outputs {
        let name = output["name"].as_str().context("an output without a name")?.to_owned();
        let shape: Vec<usize> = serde_json::from_value(output["shape"].clone())?;
        let datatype = output["datatype"].as_str().unwrap_or_default();
        let data = match output["parameters"]["binary_data_size"].as_u64() {
            None => of_json(datatype, output["data"].as_array().context("an output without data")?)?,
            Some(size) => {
                let (bytes, rest) =
                    raw.split_at_checked(usize::try_from(size)?).context("the raw tensors are cut off")?;
                raw = rest;
                of_bytes(datatype, bytes)?
            }
        };
        ensure!(data.len() == shape.iter().product::<usize>(), "output `{name}` does not hold its shape");
        tensors.push(Tensor { name, shape, data });
    }
    Ok(tensors)
}

const fn word(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "BOOL",
        Datatype::U8 => "UINT8",
        Datatype::U16 => "UINT16",
        Datatype::U32 => "UINT32",
        Datatype::U64 => "UINT64",
        Datatype::I8 => "INT8",
        Datatype::I16 => "INT16",
        Datatype::I32 => "INT32",
        Datatype::I64 => "INT64",
        Datatype::F16 => "FP16",
        Datatype::F32 => "FP32",
        Datatype::F64 => "FP64",
        Datatype::String => "BYTES",
    }
}

/// Runs the same expression on the elements of all kinds of numbers, and others on halves, bools and text.
macro_rules! kinds {
    (
        $data:expr, $values:ident => $numbers:expr, $halves:ident => $of_halves:expr,
        $bools:ident => $of_bools:expr, $texts:ident => $of_texts:expr
    ) => {
        match $data {
            TensorData::U8($values) => $numbers,
            TensorData::U16($values) => $numbers,
            TensorData::U32($values) => $numbers,
            TensorData::U64($values) => $numbers,
            TensorData::I8($values) => $numbers,
            TensorData::I16($values) => $numbers,
            TensorData::I32($values) => $numbers,
            TensorData::I64($values) => $numbers,
            TensorData::F32($values) => $numbers,
            TensorData::F64($values) => $numbers,
            TensorData::F16($halves) => $of_halves,
            TensorData::Bool($bools) => $of_bools,
            TensorData::String($texts) => $of_texts,
        }
    };
}

fn numbers(data: &TensorData) -> anyhow::Result<Value> {
    Ok(kinds!(data,
        values => serde_json::to_value(values)?,
        halves => serde_json::to_value(halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>())?,
        bools => serde_json::to_value(bools)?,
        texts => serde_json::to_value(texts)?
    ))
}

fn append(data: &TensorData, raw: &mut Vec<u8>) {
    kinds!(data,
        values => raw.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        halves => raw.extend(halves.iter().flat_map(|half| half.to_le_bytes())),
        bools => raw.extend(bools.iter().map(|value| u8::from(*value))),
        texts => for text in texts {
            raw.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            raw.extend(text.as_bytes());
        }
    );
}

fn of_json(datatype: &str, values: &[Value]) -> anyhow::Result<TensorData> {
    let wrong = || format!("an element that is no {datatype}");
    #[expect(clippy::cast_possible_truncation, reason = "FP32 is what was sent")]
    Ok(match datatype {
        "FP16" | "FP32" => {
            TensorData::F32(values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN) as f32).collect())
        }
        "FP64" => TensorData::F64(values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()),
        "BOOL" => {
            TensorData::Bool(values.iter().map(Value::as_bool).collect::<Option<_>>().with_context(wrong)?)
        }
        "BYTES" => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            TensorData::String(texts.collect::<Option<_>>().with_context(wrong)?)
        }
        "UINT64" => {
            TensorData::U64(values.iter().map(Value::as_u64).collect::<Option<_>>().with_context(wrong)?)
        }
        _ => TensorData::I64(values.iter().map(Value::as_i64).collect::<Option<_>>().with_context(wrong)?),
    })
}

fn of_bytes(datatype: &str, bytes: &[u8]) -> anyhow::Result<TensorData> {
    macro_rules! numbers {
        ($kind:ident, $number:ty) => {
            TensorData::$kind(bytes.as_chunks().0.iter().map(|one| <$number>::from_le_bytes(*one)).collect())
        };
    }
    Ok(match datatype {
        "BOOL" => TensorData::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
        "UINT8" => TensorData::U8(bytes.to_vec()),
        "UINT16" => numbers!(U16, u16),
        "UINT32" => numbers!(U32, u32),
        "UINT64" => numbers!(U64, u64),
        "INT8" => numbers!(I8, i8),
        "INT16" => numbers!(I16, i16),
        "INT32" => numbers!(I32, i32),
        "INT64" => numbers!(I64, i64),
        "FP16" => TensorData::F16(
            bytes.as_chunks().0.iter().map(|one| f16::from_bits(u16::from_le_bytes(*one))).collect(),
        ),
        "FP32" => numbers!(F32, f32),
        "FP64" => numbers!(F64, f64),
        "BYTES" => TensorData::String(of_texts(bytes)?),
        other => bail!("a datatype `{other}`"),
    })
}

fn of_texts(mut bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (text, rest) = rest.split_at_checked(length).context("a text is cut off")?;
        texts.push(String::from_utf8(text.to_vec())?);
        bytes = rest;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_length_it_says() {
        let tensor = Tensor { name: "x".into(), shape: vec![1, 2], data: TensorData::F32(vec![0.5, 1.0]) };
        for form in [Form::Json, Form::Binary] {
            let bytes = request("m", std::slice::from_ref(&tensor), form).unwrap();
            let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&bytes[..at]).unwrap();
            assert!(head.ends_with(&format!("content-length: {}", bytes.len() - at - 4)), "{head}");
        }
    }

    #[test]
    fn answers_are_read_in_both_forms() {
        let json = br#"{"outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[1.5,null]}]}"#;
        let read = read_answer(json, None).unwrap();
        assert!(read[0].f32s().is_some_and(|values| values[0] == 1.5 && values[1].is_nan()));
        let head = br#"{"outputs":[{"name":"y","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}]}"#;
        let body = [head.as_slice(), &7i64.to_le_bytes()].concat();
        assert_eq!(read_answer(&body, Some(head.len())).unwrap()[0].i64s(), Some(&[7][..]));
        assert!(read_answer(&body[..body.len() - 1], Some(head.len())).is_err());
    }
}
