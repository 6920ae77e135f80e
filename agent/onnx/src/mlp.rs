//! Writes a dense network as an ONNX file.

use prost::Message;
use thiserror::Error;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

/// Stored tensors whose names begin so belong to the input normaliser and are never trained.
pub const NORMALISER_PREFIX: &str = "norm.";

/// The newest operator set that every runtime of the last years and tract know.
const OPSET: i64 = 17;
/// The file format that came with it.
const IR_VERSION: i64 = 8;

/// A dense network to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpSpec {
    /// Features of a row.
    pub width: usize,
    /// Applied to the features first, when given.
    pub normaliser: Option<Normaliser>,
    /// At least one; all but the last are followed by a rectifier.
    pub layers: Vec<DenseLayer>,
    /// What the last layer's sums become.
    pub head: Head,
}

/// `clip((x - mean) / std, -clip, clip)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normaliser {
    /// One for each feature.
    pub mean: Vec<f32>,
    /// One for each feature, above zero.
    pub std: Vec<f32>,
    /// Above zero; bounds how far a broken sensor can push the network.
    pub clip: f32,
}

/// `x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseLayer {
    /// `[outputs, inputs]`, row-major, as PyTorch keeps it.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// What comes out of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Output `probabilities` [N, classes], by Softmax.
    Classes,
    /// Output `values` [N, k].
    Values,
}

/// Why a network cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MlpError {
    /// No layers, or no features.
    #[error("a network needs at least one feature and one layer")]
    Empty,
    /// A list has the wrong length.
    #[error("`{name}` needs {expected} values, got {got}")]
    Length { name: String, expected: usize, got: usize },
    /// A number is not finite, or not above zero where it must be.
    #[error("`{name}` holds {value}")]
    Value { name: String, value: String },
}

/// Writes a dense network: operator set 17, open batch `N`, input `features` [N, width].
///
/// The same network gives the same bytes.
///
/// # Errors
/// [`MlpError`] when lengths do not fit or numbers are not finite.
pub fn build_mlp(spec: &MlpSpec) -> Result<Vec<u8>, MlpError> {
    let mut graph = GraphProto { name: "mlp".into(), ..GraphProto::default() };
    if spec.width == 0 || spec.layers.is_empty() {
        return Err(MlpError::Empty);
    }
    graph.input.push(interface("features", spec.width));
    let mut value = "features".to_owned();
    if let Some(normaliser) = &spec.normaliser {
        value = normalise(&mut graph, normaliser, spec.width, value)?;
    }
    let mut inputs = spec.width;
    for (place, layer) in spec.layers.iter().enumerate() {
        let (weight, bias) = (format!("layers.{place}.weight"), format!("layers.{place}.bias"));
        let outputs = layer.bias.len();
        if outputs == 0 {
            return Err(MlpError::Empty);
        }
        store(&mut graph, &weight, &[outputs, inputs], &layer.weight)?;
        store(&mut graph, &bias, &[outputs], &layer.bias)?;
        let is_last = place + 1 == spec.layers.len();
        let sums = if is_last && spec.head == Head::Values {
            "values".into()
        } else {
            format!("layers.{place}.sums")
        };
        graph.node.push(node("Gemm", &[&value, &weight, &bias], &sums, vec![int("transB", 1)]));
        value = sums;
        if !is_last {
            let active = format!("layers.{place}.active");
            graph.node.push(node("Relu", &[&value], &active, Vec::new()));
            value = active;
        }
        inputs = outputs;
    }
    if spec.head == Head::Classes {
        graph.node.push(node("Softmax", &[&value], "probabilities", vec![int("axis", -1)]));
        value = "probabilities".into();
    }
    graph.output.push(interface(&value, inputs));
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "shoal".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

fn normalise(
    graph: &mut GraphProto,
    normaliser: &Normaliser,
    width: usize,
    value: String,
) -> Result<String, MlpError> {
    let name = |part: &str| format!("{NORMALISER_PREFIX}{part}");
    let not_above_zero = normaliser.std.iter().chain([&normaliser.clip]).find(|v| **v <= 0.0);
    if let Some(value) = not_above_zero {
        return Err(MlpError::Value { name: name("std"), value: value.to_string() });
    }
    store(graph, &name("mean"), &[width], &normaliser.mean)?;
    store(graph, &name("std"), &[width], &normaliser.std)?;
    store(graph, &name("low"), &[], &[-normaliser.clip])?;
    store(graph, &name("high"), &[], &[normaliser.clip])?;
    graph.node.push(node("Sub", &[&value, &name("mean")], &name("centred"), Vec::new()));
    graph.node.push(node("Div", &[&name("centred"), &name("std")], &name("scaled"), Vec::new()));
    let operands = [&*name("scaled"), &name("low"), &name("high")];
    graph.node.push(node("Clip", &operands, &name("features"), Vec::new()));
    Ok(name("features"))
}

fn store(graph: &mut GraphProto, name: &str, dims: &[usize], values: &[f32]) -> Result<(), MlpError> {
    let expected = dims.iter().product();
    if values.len() != expected {
        return Err(MlpError::Length { name: name.into(), expected, got: values.len() });
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(MlpError::Value { name: name.into(), value: value.to_string() });
    }
    graph.initializer.push(TensorProto {
        name: name.into(),
        dims: dims.iter().map(|dim| size(*dim)).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    });
    Ok(())
}

fn size(dim: usize) -> i64 {
    i64::try_from(dim).expect("sizes of lists in memory fit i64")
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("{op}:{output}"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn interface(name: &str, width: usize) -> ValueInfoProto {
    let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
    let shape = TensorShapeProto {
        dim: vec![dim(dimension::Value::DimParam("N".into())), dim(dimension::Value::DimValue(size(width)))],
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(shape),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
