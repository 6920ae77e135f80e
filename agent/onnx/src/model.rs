//! A file that passed the pre-check.

use std::collections::BTreeMap;

use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto};

use crate::census;
use crate::graph::Graph;
use crate::inspect::ParameterCount;
use crate::limits::Limits;
use crate::lower::{self, ClassNames};
use crate::ops::{self, UnknownOp};
use crate::refusal::{Refusal, named};
use crate::scope;
use crate::spec::TensorSpec;

/// An ONNX model whose parts are known to be sane: bounded, self-contained, of known operators.
///
/// What passes may still be refused by the engine, and may still ask for much memory or time in
/// ways that only running shows: admission runs in a child process for that.
#[derive(Debug, Clone)]
pub struct OnnxModel {
    proto: ModelProto,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    class_names: Vec<ClassNames>,
}

impl OnnxModel {
    /// Checks and decodes a file.
    ///
    /// # Errors
    /// A [`Refusal`], which names the part that is refused.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let (proto, class_names, unknown) = decode(bytes, limits)?;
        if !unknown.is_empty() {
            return Err(Refusal::UnknownOps { ops: unknown });
        }
        let graph = graph_of(&proto);
        scope::check(graph, limits)?;
        let mut inputs = Vec::new();
        let stored: std::collections::BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        for info in &graph.input {
            if !stored.contains(info.name.as_str()) {
                inputs.push(input(info, limits)?);
            }
        }
        few("inputs", inputs.len())?;
        few("outputs", graph.output.len())?;
        let outputs: Vec<TensorSpec> = graph.output.iter().map(output).collect::<Result<_, _>>()?;
        if outputs.is_empty() {
            return Err(Refusal::NotOnnx { reason: "its graph has no output".into() });
        }
        Ok(Self { proto, inputs, outputs, class_names })
    }

    /// What a caller must give, in the file's order; initialisers are not among them.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What comes out, in the file's order.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// What the columns of scores are called, where the file zips them with class names.
    #[must_use]
    pub fn class_names(&self) -> &[ClassNames] {
        &self.class_names
    }

    /// The decoded file, rewritten as far as the standard goes.
    #[must_use]
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// Hands the model over to the engine, with half precision widened to single: the engine is
    /// fed f32 and gives f32 where [`OnnxModel::inputs`] and [`OnnxModel::outputs`] say f16.
    #[must_use]
    pub fn into_proto(mut self) -> ModelProto {
        lower::widen(&mut self.proto);
        self.proto
    }

    /// The model as a plain graph that names no foreign library.
    #[must_use]
    pub fn graph(&self) -> Graph {
        Graph::of(self)
    }

    /// [`OnnxModel::graph`] as training takes it: half precision is widened to single, floating point numbers
    /// in `Constant` nodes and the weights of linear models of `ai.onnx.ml` stand among the stored tensors.
    #[must_use]
    pub fn training_graph(&self) -> Graph {
        Graph::of_training(self)
    }

    /// Counts the stored tensors of floating point numbers, those in `Constant` nodes too.
    #[must_use]
    pub fn parameter_count(&self) -> ParameterCount {
        self.graph().parameter_count()
    }

    /// Version of ONNX's own operator set, zero when the file does not say.
    #[must_use]
    pub fn opset(&self) -> i64 {
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        self.proto.opset_import.iter().find(|set| own(&set.domain)).map_or(0, |set| set.version)
    }

    pub(crate) fn raw_graph(&self) -> &GraphProto {
        graph_of(&self.proto)
    }

    pub(crate) fn raw_graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }
}

/// Values that a caller gives or gets at most: each stands in every answer about the model.
const MAX_VALUES: usize = 256;

fn few(what: &'static str, count: usize) -> Result<(), Refusal> {
    if count <= MAX_VALUES {
        return Ok(());
    }
    Err(Refusal::BadInterface { value: what.into(), reason: format!("{count}, {MAX_VALUES} are the most") })
}

/// A row must fit in what a tensor may hold.
fn input(info: &tract_onnx::pb::ValueInfoProto, limits: &Limits) -> Result<TensorSpec, Refusal> {
    let spec = TensorSpec::of(info)?;
    if spec.least_elements().is_some_and(|elements| elements <= limits.max_tensor_elements) {
        return Ok(spec);
    }
    let reason = format!("one row of it is over the limit of {} elements", limits.max_tensor_elements);
    Err(Refusal::BadInterface { value: named(&spec.name), reason })
}

/// An output need not say its shape nor, in some exports, its type: float is assumed then.
fn output(info: &tract_onnx::pb::ValueInfoProto) -> Result<TensorSpec, Refusal> {
    if info.r#type.is_some() {
        return TensorSpec::of(info);
    }
    Ok(TensorSpec {
        name: info.name.clone(),
        datatype: crate::spec::Datatype::F32,
        dims: Vec::new(),
        ranked: false,
    })
}

fn graph_of(proto: &ModelProto) -> &GraphProto {
    proto.graph.as_ref().expect("decode() saw a graph")
}

/// Decodes a file within the limits, as it stands: places of nodes are those in the bytes.
pub(crate) fn original(bytes: &[u8], limits: &Limits) -> Result<ModelProto, Refusal> {
    if bytes.len() > limits.max_bytes {
        return Err(Refusal::TooLarge { bytes: bytes.len(), limit: limits.max_bytes });
    }
    census::take(bytes, limits)?;
    ModelProto::decode(bytes).map_err(|cause| Refusal::NotOnnx { reason: cause.to_string() })
}

/// A decoded file, what its columns are called, and the operators that are not served.
pub(crate) type Decoded = (ModelProto, Vec<ClassNames>, Vec<UnknownOp>);

/// Decodes a file within the limits, rewrites it, and lists the operators that are not served.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    let mut proto = original(bytes, limits)?;
    let Some(graph) = &proto.graph else {
        return Err(Refusal::NotOnnx { reason: "it holds no graph".into() });
    };
    if graph.node.is_empty() {
        return Err(Refusal::NotOnnx { reason: "its graph has no node".into() });
    }
    let class_names = lower::lower(&mut proto, limits)?;
    let mut unknown = BTreeMap::new();
    collect_unknown(graph_of(&proto), &mut unknown);
    Ok((proto, class_names, unknown.into_values().collect()))
}

fn collect_unknown(graph: &GraphProto, unknown: &mut BTreeMap<(String, String), UnknownOp>) {
    for node in &graph.node {
        if let Some(reason) = ops::refuse(&node.domain, &node.op_type) {
            let (domain, name) = (named(&node.domain), named(&node.op_type));
            unknown.entry((domain.clone(), name.clone())).or_insert(UnknownOp {
                domain,
                name,
                reason: reason.into(),
            });
        }
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                collect_unknown(inner, unknown);
            }
        }
    }
}
