//! Writes small networks as ONNX files: dense ones, and convolutions over windows with a dense head.

mod normaliser;

pub use normaliser::Normaliser;

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

/// `x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseLayer {
    /// `[outputs, inputs]`, row-major, as PyTorch keeps it.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// Convolutions over a window of several channels, an average over time, and a dense head.
#[derive(Debug, Clone, PartialEq)]
pub struct CnnSpec {
    /// Channels of a window.
    pub channels: usize,
    /// Samples of a channel. A row is channel-major: `channels` · `length` features.
    pub length: usize,
    /// Applied to the features first, when given.
    pub normaliser: Option<Normaliser>,
    /// At least one; all are followed by a rectifier.
    pub convolutions: Vec<ConvLayer>,
    /// From the last filters' means over time.
    pub dense: DenseLayer,
    /// What the dense layer's sums become.
    pub head: Head,
}

/// A convolution over time, with as many zeros on both sides as keep its middle on every `stride`-th sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvLayer {
    /// `[filters, channels, kernel]`, row-major.
    pub weight: Vec<f32>,
    /// `[filters]`.
    pub bias: Vec<f32>,
    /// Odd.
    pub kernel: usize,
    /// At least one.
    pub stride: usize,
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
pub enum NetworkError {
    /// No layers, no features, or a kernel that has no middle.
    #[error("a network needs at least one feature and one layer, and kernels of odd length")]
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
/// [`NetworkError`] when lengths do not fit or numbers are not finite.
pub fn build_mlp(spec: &MlpSpec) -> Result<Vec<u8>, NetworkError> {
    if spec.width == 0 {
        return Err(NetworkError::Empty);
    }
    let Some((last, hidden)) = spec.layers.split_last() else { return Err(NetworkError::Empty) };
    let mut graph = begin("mlp", spec.width);
    let mut value = normalise(&mut graph, spec.normaliser.as_ref(), spec.width)?;
    let mut inputs = spec.width;
    for (place, layer) in hidden.iter().enumerate() {
        let sums = format!("layers.{place}.sums");
        dense(&mut graph, place, layer, (&value, inputs), &sums)?;
        value = format!("layers.{place}.active");
        graph.node.push(node("Relu", &[&sums], &value, Vec::new()));
        inputs = layer.bias.len();
    }
    finish(&mut graph, hidden.len(), last, (&value, inputs), spec.head)?;
    Ok(file(graph))
}

/// Writes a convolutional network: operator set 17, open batch `N`, input `features`
/// [N, channels · length], so that it is fed, watched and trained like a table's model.
///
/// The same network gives the same bytes.
///
/// # Errors
/// [`NetworkError`] when lengths do not fit or numbers are not finite.
pub fn build_cnn(spec: &CnnSpec) -> Result<Vec<u8>, NetworkError> {
    let width = spec.channels.saturating_mul(spec.length);
    if width == 0 || spec.convolutions.is_empty() {
        return Err(NetworkError::Empty);
    }
    let mut graph = begin("cnn", width);
    let value = normalise(&mut graph, spec.normaliser.as_ref(), width)?;
    // 0: the batch as it comes.
    store_shape(&mut graph, "window.shape", &[0, spec.channels, spec.length]);
    graph.node.push(node("Reshape", &[&value, "window.shape"], "window", Vec::new()));
    let (mut value, mut channels) = ("window".to_owned(), spec.channels);
    for (place, layer) in spec.convolutions.iter().enumerate() {
        let ConvLayer { kernel, stride, .. } = *layer;
        let filters = layer.bias.len();
        if filters == 0 || kernel.is_multiple_of(2) || stride == 0 {
            return Err(NetworkError::Empty);
        }
        let [weight, bias, sums, active] =
            ["weight", "bias", "sums", "active"].map(|part| format!("convolutions.{place}.{part}"));
        store(&mut graph, &weight, &[filters, channels, kernel], &layer.weight)?;
        store(&mut graph, &bias, &[filters], &layer.bias)?;
        let settings = vec![
            ints("dilations", &[1]),
            int("group", 1),
            ints("kernel_shape", &[kernel]),
            ints("pads", &[kernel / 2, kernel / 2]),
            ints("strides", &[stride]),
        ];
        graph.node.push(node("Conv", &[&value, &weight, &bias], &sums, settings));
        graph.node.push(node("Relu", &[&sums], &active, Vec::new()));
        (value, channels) = (active, filters);
    }
    graph.node.push(node("GlobalAveragePool", &[&value], "pooled", Vec::new()));
    graph.node.push(node("Flatten", &["pooled"], "pooled.flat", vec![int("axis", 1)]));
    finish(&mut graph, 0, &spec.dense, ("pooled.flat", channels), spec.head)?;
    Ok(file(graph))
}

fn begin(name: &str, width: usize) -> GraphProto {
    GraphProto { name: name.into(), input: vec![interface("features", width)], ..GraphProto::default() }
}

/// A dense layer of `(value, inputs)`.
fn dense(
    graph: &mut GraphProto,
    place: usize,
    layer: &DenseLayer,
    (value, inputs): (&str, usize),
    sums: &str,
) -> Result<(), NetworkError> {
    let (weight, bias) = (format!("layers.{place}.weight"), format!("layers.{place}.bias"));
    let outputs = layer.bias.len();
    if outputs == 0 {
        return Err(NetworkError::Empty);
    }
    store(graph, &weight, &[outputs, inputs], &layer.weight)?;
    store(graph, &bias, &[outputs], &layer.bias)?;
    graph.node.push(node("Gemm", &[value, &weight, &bias], sums, vec![int("transB", 1)]));
    Ok(())
}

/// The last layer, and the output.
fn finish(
    graph: &mut GraphProto,
    place: usize,
    layer: &DenseLayer,
    input: (&str, usize),
    head: Head,
) -> Result<(), NetworkError> {
    let output = match head {
        Head::Values => {
            dense(graph, place, layer, input, "values")?;
            "values"
        }
        Head::Classes => {
            let sums = format!("layers.{place}.sums");
            dense(graph, place, layer, input, &sums)?;
            graph.node.push(node("Softmax", &[&sums], "probabilities", vec![int("axis", -1)]));
            "probabilities"
        }
    };
    graph.output.push(interface(output, layer.bias.len()));
    Ok(())
}

fn file(graph: GraphProto) -> Vec<u8> {
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "shoal".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn normalise(
    graph: &mut GraphProto,
    normaliser: Option<&Normaliser>,
    width: usize,
) -> Result<String, NetworkError> {
    normaliser.map_or_else(|| Ok("features".to_owned()), |normaliser| normaliser.write(graph, width))
}

fn store(graph: &mut GraphProto, name: &str, dims: &[usize], values: &[f32]) -> Result<(), NetworkError> {
    let expected = dims.iter().product();
    if values.len() != expected {
        return Err(NetworkError::Length { name: name.into(), expected, got: values.len() });
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(NetworkError::Value { name: name.into(), value: value.to_string() });
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

/// Whole numbers of a `Reshape`.
fn store_shape(graph: &mut GraphProto, name: &str, dims: &[usize]) {
    graph.initializer.push(TensorProto {
        name: name.into(),
        dims: vec![size(dims.len())],
        data_type: DataType::Int64 as i32,
        raw_data: dims.iter().flat_map(|dim| size(*dim).to_le_bytes()).collect(),
        ..TensorProto::default()
    });
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

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|value| size(*value)).collect(),
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
