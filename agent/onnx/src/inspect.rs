//! What a model is, for people and for the registry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::affine::takes_input_affine;
use crate::constant::Constant;
use crate::graph::Graph;
use crate::limits::Limits;
use crate::model::{OnnxModel, decode};
use crate::refit::{Leaves, in_a_line, leaves};
use crate::refusal::Refusal;
use crate::spec::TensorSpec;
use crate::trainable::{is_quantised, parameters, untrainable_ops};

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// What a caller gives; empty when the model is not servable.
    pub inputs: Vec<TensorSpec>,
    /// What comes out; empty when the model is not servable.
    pub outputs: Vec<TensorSpec>,
    /// Operator sets the file asks for.
    pub opsets: Vec<Opset>,
    /// What wrote the file, with its version.
    pub producer: String,
    /// How often each operator is used, graphs inside graphs not counted.
    pub ops: BTreeMap<String, usize>,
    /// Stored tensors of floating point numbers.
    pub parameters: ParameterCount,
    /// Whether it passes the pre-check of serving.
    pub servable: Servable,
    /// Whether it can be trained on the device.
    pub trainable: Trainable,
    /// Whether the leaves of its trees can be refitted; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Leaves>,
    /// Whether a map of its input can be folded in.
    #[serde(default)]
    pub input_affine: InputAffine,
    /// What the first output of floating point numbers is.
    pub output_kind: OutputKind,
}

/// An operator set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opset {
    /// Empty for ONNX's own.
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParameterCount {
    /// Elements.
    pub count: u64,
    /// Bytes when decoded.
    pub size_bytes: u64,
}

/// Whether a model passes the pre-check; only admission says whether it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Servable {
    /// Nothing known is against it.
    Yes,
    /// What is against it.
    No {
        /// One line for each reason.
        reasons: Vec<String>,
    },
}

/// Whether a model can be trained.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trainable {
    /// What could be trained, in the order of the layers; empty when anything is against it.
    pub parameters: Vec<String>,
    /// What is against it, one line each.
    pub reasons: Vec<String>,
}

/// Whether a scale and a shift of each feature can be folded into the first layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputAffine {
    /// They can.
    Yes {
        /// Of so many features, or channels.
        features: usize,
    },
    /// They cannot.
    No {
        /// What stands in the way.
        reason: String,
    },
    /// Nobody looked.
    #[default]
    Unknown,
}

/// What the numbers of the first float output are, as far as the file shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Scores before a Softmax: an output of two or more columns whose last step is linear. An
    /// autoencoder is told apart by its width, a regression on several values is not: what the
    /// package says goes before this.
    Logits,
    /// After a Softmax or Sigmoid, or from a classifier that gives them.
    Probabilities,
    /// Anything else.
    Values,
}

/// Describes a file, servable or not.
///
/// # Errors
/// A [`Refusal`] when the file cannot be decoded within the limits; what is against serving it
/// otherwise stands in [`Inspection::servable`].
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, Refusal> {
    let (proto, _, _) = decode(bytes, limits)?;
    let raw = proto.graph.as_ref().ok_or_else(|| Refusal::NotOnnx { reason: "it holds no graph".into() })?;
    let mut ops = BTreeMap::new();
    for node in &raw.node {
        *ops.entry(crate::refusal::named(&node.op_type)).or_default() += 1;
    }
    let opsets = proto
        .opset_import
        .iter()
        .map(|set| Opset { domain: set.domain.clone(), version: set.version })
        .collect();
    let mut inspection = Inspection {
        inputs: Vec::new(),
        outputs: Vec::new(),
        opsets,
        producer: format!("{} {}", proto.producer_name, proto.producer_version).trim().to_owned(),
        ops,
        parameters: ParameterCount::default(),
        servable: Servable::Yes,
        trainable: Trainable::default(),
        leaves: None,
        input_affine: InputAffine::Unknown,
        output_kind: OutputKind::Values,
    };
    let model = match OnnxModel::parse(bytes, limits) {
        Ok(model) => model,
        Err(refusal) => {
            let reasons = match &refusal {
                Refusal::UnknownOps { ops } => ops.iter().map(ToString::to_string).collect(),
                other => vec![other.to_string()],
            };
            inspection.servable = Servable::No { reasons };
            inspection.trainable.reasons.push("it cannot be served".into());
            inspection.input_affine = InputAffine::No { reason: "it cannot be served".into() };
            return Ok(inspection);
        }
    };
    let graph = model.graph();
    inspection.parameters = graph.parameter_count();
    inspection.trainable = trainable(&model.training_graph());
    inspection.leaves = leaves(bytes, limits)?;
    inspection.input_affine = match takes_input_affine(bytes, limits) {
        Ok(features) => InputAffine::Yes { features },
        Err(cause) => InputAffine::No { reason: in_a_line(&cause) },
    };
    inspection.output_kind = output_kind(&graph);
    inspection.inputs = graph.inputs;
    inspection.outputs = graph.outputs;
    Ok(inspection)
}

fn trainable(graph: &Graph) -> Trainable {
    let mut reasons: Vec<String> = untrainable_ops(graph)
        .into_iter()
        .map(|op| match op.strip_prefix("ai.onnx.ml.TreeEnsemble") {
            Some(_) => format!("{op} is not trained by gradients"),
            None => format!("{op} cannot be trained through"),
        })
        .collect();
    if graph.inputs.len() != 1 {
        reasons.push("training needs exactly one input".into());
    }
    if graph.float_output().is_none() {
        reasons.push("no output is of floating point numbers".into());
    }
    let parameters: Vec<String> = parameters(graph).into_iter().map(|p| p.name).collect();
    if parameters.is_empty() {
        reasons.push(if is_quantised(graph) {
            "it is quantised, and no gradient passes the rounding".into()
        } else {
            "it stores no weights that a gradient reaches".into()
        });
    }
    if !reasons.is_empty() {
        return Trainable { parameters: Vec::new(), reasons };
    }
    Trainable { parameters, reasons }
}

fn output_kind(graph: &Graph) -> OutputKind {
    let Some(output) = graph.float_output() else { return OutputKind::Values };
    let mut value = output.name.as_str();
    while let Some((_, node)) = graph.producer(value) {
        match node.op.rsplit('.').next().unwrap_or_default() {
            "Identity" | "Cast" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                let Some(inner) = node.operand(0) else { break };
                value = inner;
            }
            "Softmax" | "Sigmoid" | "TreeEnsembleClassifier" | "LinearClassifier" | "Normalizer" => {
                return OutputKind::Probabilities;
            }
            "LogSoftmax" => return OutputKind::Logits,
            "Gemm" | "MatMul" | "Add" => {
                let width = output.row_elements();
                let input = graph.inputs.first().and_then(TensorSpec::row_elements);
                let several = width.is_some_and(|width| width > 1) && width != input;
                return if several { OutputKind::Logits } else { OutputKind::Values };
            }
            _ => break,
        }
    }
    OutputKind::Values
}

impl Graph {
    /// Counts the stored tensors of floating point numbers, those in `Constant` nodes too.
    #[must_use]
    pub fn parameter_count(&self) -> ParameterCount {
        let inline: Vec<Constant> = self.nodes.iter().filter_map(super::graph::Node::constant).collect();
        let stored = self.initializers.values().chain(&inline);
        stored.filter(|constant| constant.datatype().is_float()).fold(
            ParameterCount::default(),
            |sum, constant| {
                let count = constant.dims.iter().product::<usize>() as u64;
                let size = constant.datatype().size_bytes() as u64;
                ParameterCount { count: sum.count + count, size_bytes: sum.size_bytes + count * size }
            },
        )
    }
}
