//! A model as a plain graph that names no foreign library: what training works on.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType};

use crate::constant::{Constant, ConstantData};
use crate::linear;
use crate::lower::widen;
use crate::model::OnnxModel;
use crate::spec::{Datatype, TensorSpec};

/// Inputs, stored tensors and nodes in an order in which they can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// What a caller gives.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// Stored tensors by name.
    pub initializers: BTreeMap<String, Constant>,
    /// Nodes; each reads only inputs, initialisers and what nodes before it made.
    pub nodes: Vec<Node>,
}

/// One operator at work.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The node's name, or that of what it makes first.
    pub name: String,
    /// The operator, with its domain before a dot when it is not ONNX's own.
    pub op: String,
    /// Values read; empty names are operands left out.
    pub inputs: Vec<String>,
    /// Values made; empty names are not wanted.
    pub outputs: Vec<String>,
    /// Settings by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A setting of a node.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    Tensor(Constant),
    /// Graphs and types, which training does not use.
    Other,
}

impl Graph {
    pub(crate) fn of(model: &OnnxModel) -> Self {
        Self::read(model, model.raw_graph())
    }

    /// With half precision widened to single, floating point numbers in `Constant` nodes among the stored
    /// tensors, by the names of what the nodes make, and linear models of `ai.onnx.ml` taken apart.
    pub(crate) fn of_training(model: &OnnxModel) -> Self {
        let mut proto = model.proto().clone();
        widen(&mut proto);
        let mut graph = Self::read(model, proto.graph.as_ref().unwrap_or(model.raw_graph()));
        for node in &graph.nodes {
            let floats = |constant: &Constant| constant.datatype().is_float();
            if let (Some(constant), Some(name)) = (node.constant().filter(floats), node.outputs.first()) {
                graph.initializers.entry(name.clone()).or_insert(constant);
            }
        }
        linear::expand(&mut graph, model.raw_graph());
        graph
    }

    fn read(model: &OnnxModel, raw: &GraphProto) -> Self {
        Self {
            opset: model.opset(),
            inputs: model.inputs().to_vec(),
            outputs: model.outputs().to_vec(),
            initializers: raw
                .initializer
                .iter()
                .filter_map(|tensor| Some((tensor.name.clone(), Constant::read(tensor)?)))
                .collect(),
            nodes: raw.node.iter().map(Node::of).collect(),
        }
    }

    /// The node that makes a value, with its place.
    #[must_use]
    pub fn producer(&self, value: &str) -> Option<(usize, &Node)> {
        self.nodes.iter().enumerate().find(|(_, node)| node.outputs.iter().any(|made| made == value))
    }

    /// Marks the nodes that values depend on; what a node reads is followed where `follows` says so.
    #[must_use]
    pub fn depended_on(&self, values: &[&str], follows: impl Fn(&Node) -> bool) -> Vec<bool> {
        let mut needed: BTreeSet<&str> = values.iter().copied().collect();
        let mut marked = vec![false; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate().rev() {
            if node.outputs.iter().any(|made| needed.contains(made.as_str())) {
                marked[place] = true;
                if follows(node) {
                    needed.extend(node.inputs.iter().filter(|name| !name.is_empty()).map(String::as_str));
                }
            }
        }
        marked
    }

    /// The first output of floating point numbers: scores, probabilities or values. Classifiers of
    /// scikit-learn give the label first.
    #[must_use]
    pub fn float_output(&self) -> Option<&TensorSpec> {
        self.outputs.iter().find(|output| output.datatype.is_float())
    }
}

impl Node {
    pub(crate) fn of(raw: &NodeProto) -> Self {
        let op = match raw.domain.as_str() {
            "" | "ai.onnx" => raw.op_type.clone(),
            domain => format!("{domain}.{}", raw.op_type),
        };
        let name = if raw.name.is_empty() { raw.output.first() } else { Some(&raw.name) };
        Self {
            name: name.cloned().unwrap_or_default(),
            op,
            inputs: raw.input.clone(),
            outputs: raw.output.clone(),
            attributes: raw.attribute.iter().map(|a| (a.name.clone(), Attribute::of(a))).collect(),
        }
    }

    /// A whole-number setting.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A fractional setting.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// A list of whole numbers.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    /// A text setting.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::Text(value)) => Some(value),
            _ => None,
        }
    }

    /// The name of an operand, `None` when it is left out.
    #[must_use]
    pub fn operand(&self, slot: usize) -> Option<&str> {
        self.inputs.get(slot).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What a `Constant` node holds, `None` for other nodes and for text.
    #[must_use]
    pub fn constant(&self) -> Option<Constant> {
        if self.op != "Constant" {
            return None;
        }
        let scalar = |data| Constant { dims: Vec::new(), data };
        let list = |length, data| Constant { dims: vec![length], data };
        self.attributes.iter().find_map(|(name, value)| match (name.as_str(), value) {
            ("value", Attribute::Tensor(tensor)) => Some(tensor.clone()),
            ("value_float", Attribute::Float(v)) => Some(scalar(ConstantData::F32(vec![*v]))),
            ("value_int", Attribute::Int(v)) => Some(scalar(ConstantData::I64(vec![*v]))),
            ("value_floats", Attribute::Floats(v)) => Some(list(v.len(), ConstantData::F32(v.clone()))),
            ("value_ints", Attribute::Ints(v)) => Some(list(v.len(), ConstantData::I64(v.clone()))),
            _ => None,
        })
    }
}

impl Attribute {
    fn of(raw: &AttributeProto) -> Self {
        match AttributeType::try_from(raw.r#type) {
            Ok(AttributeType::Float) => Self::Float(raw.f),
            Ok(AttributeType::Int) => Self::Int(raw.i),
            Ok(AttributeType::String) => Self::Text(String::from_utf8_lossy(&raw.s).into_owned()),
            Ok(AttributeType::Floats) => Self::Floats(raw.floats.clone()),
            Ok(AttributeType::Ints) => Self::Ints(raw.ints.clone()),
            Ok(AttributeType::Tensor) => match raw.t.as_ref() {
                Some(tensor) => Constant::read(tensor).map_or(Self::Other, Self::Tensor),
                None => Self::Other,
            },
            Ok(AttributeType::Strings) => Self::Texts(
                raw.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
            ),
            _ => Self::Other,
        }
    }
}

impl TensorSpec {
    /// Whether it is of 32-bit floats, the only ones trained on.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        self.datatype == Datatype::F32
    }
}
