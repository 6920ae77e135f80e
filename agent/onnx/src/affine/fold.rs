//! Goes from the input through the nodes until the weights have taken the map in.

use std::collections::BTreeMap;

use thiserror::Error;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType};

use crate::limits::Limits;
use crate::model::{OnnxModel, original};
use crate::patch::{AttributePatch, PatchError, patch_attributes, patch_initializers};
use crate::refit::called;
use crate::refusal::{Refusal, named};

use super::Affine;

/// Features of a map that is only tried: a file may claim to take any number, and each takes 16 bytes.
const MAX_FEATURES: usize = 1 << 20;

/// Why a map was not folded in; then there is no new file.
#[derive(Debug, Error)]
pub enum FoldError {
    /// The file is refused.
    #[error("the file is refused")]
    Refused(#[from] Refusal),
    /// The map is not for this input.
    #[error("the input has {expected} features, the map is for {got}")]
    Features { expected: usize, got: usize },
    /// Nothing says how many features there are.
    #[error("the file does not say how many features its input has")]
    Width,
    /// A scale is zero, or a number is not finite.
    #[error("the map of feature {feature} cannot be taken back: {scale} x + {shift}")]
    Map { feature: usize, scale: f64, shift: f64 },
    /// There is not one input of 32-bit floats.
    #[error("the model must have one input, of f32")]
    Input,
    /// Something reads a value besides the node that would take the map in.
    #[error("`{value}` is read in {readers} places, the map would have to go into all of them")]
    Readers { value: String, readers: usize },
    /// Nothing before an output takes the map in: a bias may be missing.
    #[error("nothing before the output `{output}` takes the rest of the map in")]
    Output { output: String },
    /// A node that stands in the way, or cannot take the map in.
    #[error("node `{node}` ({op}): {reason}")]
    Node { node: String, op: String, reason: String },
    /// The values could not be written.
    #[error("the values cannot be written")]
    Patch(#[from] PatchError),
}

/// What was at a value in the old file, from what is there in the new one: `scale · new + shift`,
/// feature by feature.
#[derive(Debug, Clone)]
pub(super) struct Carry {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Carry {
    pub(super) fn identity(width: usize) -> Self {
        Self::shifted(vec![0.0; width])
    }

    pub(super) fn shifted(shift: Vec<f64>) -> Self {
        Self { scale: vec![1.0; shift.len()], shift }
    }

    pub(super) fn width(&self) -> usize {
        self.scale.len()
    }

    pub(super) fn is_shifted(&self) -> bool {
        self.shift.iter().any(|shift| *shift != 0.0)
    }

    fn is_identity(&self) -> bool {
        !self.is_shifted() && self.scale.iter().all(|scale| *scale == 1.0)
    }

    /// Whether all features are mapped alike.
    pub(super) fn is_uniform(&self) -> bool {
        let alike = |values: &[f64]| values.windows(2).all(|pair| pair[0] == pair[1]);
        alike(&self.scale) && alike(&self.shift)
    }
}

/// Where features lie in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) place: usize,
    pub(super) rank: usize,
}

/// The graph, and what was changed in it so far.
pub(super) struct Fold<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) tensors: BTreeMap<String, Vec<f32>>,
    pub(super) attributes: Vec<AttributePatch>,
    pub(super) axis: Axis,
}

/// Folds a map of the input's features into the weights that read them: the new file gives for
/// `x` what the old one gave for `scale · x + shift`. Only values change, no other byte.
///
/// The map is taken in by a `Scaler`, by `Sub`, `Add`, `Mul` and `Div` with stored numbers, and by
/// the first `Gemm`, `MatMul` with `Add`, `Conv` or linear model. Features are the last axis, or
/// the second of what a `Conv` reads. Shifts do not go into a `Conv` that pads: its zeros would
/// have to be shifted too.
///
/// # Errors
/// [`FoldError`], which names the node that stands in the way and why.
pub fn fold_input_affine(bytes: &[u8], map: &[Affine], limits: &Limits) -> Result<Vec<u8>, FoldError> {
    for (feature, Affine { scale, shift }) in map.iter().copied().enumerate() {
        if scale == 0.0 || !scale.is_finite() || !shift.is_finite() {
            return Err(FoldError::Map { feature, scale, shift });
        }
    }
    let Input { name, proto, axis, features } = Input::of(bytes, limits)?;
    if let Some(expected) = features.filter(|size| *size != map.len()) {
        return Err(FoldError::Features { expected, got: map.len() });
    }
    let empty = GraphProto::default();
    let graph = proto.graph.as_ref().unwrap_or(&empty);
    let mut fold = Fold { graph, tensors: BTreeMap::new(), attributes: Vec::new(), axis };
    let mut carry = Carry {
        scale: map.iter().map(|affine| affine.scale).collect(),
        shift: map.iter().map(|affine| affine.shift).collect(),
    };
    let mut value = name.as_str();
    while !carry.is_identity() {
        let (place, slot) = reader(graph, value)?;
        let node = &graph.node[place];
        carry = fold.pass(place, node, slot, &carry)?;
        let is_finite = carry.scale.iter().chain(&carry.shift).all(|number| number.is_finite());
        if !is_finite {
            return Err(refused(node, "it would make numbers that are not finite"));
        }
        value = node.output.first().map_or("", String::as_str);
    }
    let patched = patch_attributes(bytes, &fold.attributes)?;
    Ok(patch_initializers(&patched, &fold.tensors)?)
}

/// Says whether a file takes a map of its input in, as scales and shifts of each feature differ; gives how
/// many features there are.
///
/// # Errors
/// As [`fold_input_affine`], and [`FoldError::Width`] when the file does not say how many features it takes.
pub fn takes_input_affine(bytes: &[u8], limits: &Limits) -> Result<usize, FoldError> {
    let features = Input::of(bytes, limits)?.features.ok_or(FoldError::Width)?;
    if features > MAX_FEATURES {
        return Err(FoldError::Features { expected: features, got: MAX_FEATURES });
    }
    let one = |at: usize| Affine { scale: 1.0 + 1.0 / (at + 2) as f64, shift: 1.0 / (at + 1) as f64 };
    let map: Vec<Affine> = (0..features).map(one).collect();
    fold_input_affine(bytes, &map, limits).map(|_| features)
}

/// The one input, and where its features lie.
struct Input {
    name: String,
    proto: ModelProto,
    axis: Axis,
    /// How many there are, where the file says it.
    features: Option<usize>,
}

impl Input {
    fn of(bytes: &[u8], limits: &Limits) -> Result<Self, FoldError> {
        let model = OnnxModel::parse(bytes, limits)?;
        let [input] = model.inputs() else { return Err(FoldError::Input) };
        if !input.is_f32() {
            return Err(FoldError::Input);
        }
        let proto = original(bytes, limits)?;
        let empty = GraphProto::default();
        let rank = if input.ranked { input.dims.len() } else { 2 };
        let axis = axis(proto.graph.as_ref().unwrap_or(&empty), &input.name, rank)?;
        let features = input.dims.get(axis.place).copied().flatten();
        let features = features.and_then(|size| usize::try_from(size).ok());
        Ok(Self { name: input.name.clone(), proto, axis, features })
    }
}

pub(super) fn refused(node: &NodeProto, reason: impl Into<String>) -> FoldError {
    FoldError::Node { node: called(node), op: named(&node.op_type), reason: reason.into() }
}

/// How often a value is read, graphs inside nodes and outputs counted.
pub(super) fn readers(graph: &GraphProto, value: &str) -> usize {
    let own = graph.output.iter().filter(|output| output.name == value).count();
    let of_node = |node: &NodeProto| {
        let inner = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        node.input.iter().filter(|read| *read == value).count()
            + inner.map(|graph| readers(graph, value)).sum::<usize>()
    };
    own + graph.node.iter().map(of_node).sum::<usize>()
}

/// The only reader of a value, and the operand as which it reads it.
fn reader(graph: &GraphProto, value: &str) -> Result<(usize, usize), FoldError> {
    if graph.output.iter().any(|output| output.name == value) {
        return Err(FoldError::Output { output: named(value) });
    }
    let refused = |readers| FoldError::Readers { value: named(value), readers };
    let readers = readers(graph, value);
    if readers != 1 || value.is_empty() {
        return Err(refused(readers));
    }
    let slot = |node: &NodeProto| node.input.iter().position(|read| read == value);
    let found = graph.node.iter().enumerate().find_map(|(place, node)| Some((place, slot(node)?)));
    found.ok_or_else(|| refused(readers))
}

/// Finds the axis with the features, from the first node that multiplies with a matrix.
fn axis(graph: &GraphProto, input: &str, rank: usize) -> Result<Axis, FoldError> {
    let last = Axis { place: rank.saturating_sub(1), rank };
    let mut value = input;
    while let Ok((place, _)) = reader(graph, value) {
        let node = &graph.node[place];
        match node.op_type.as_str() {
            "Conv" if rank < 3 => return Err(refused(node, "its input's sizes are not known")),
            "Conv" => return Ok(Axis { place: 1, rank }),
            "Gemm" if int(node, "transA") == Some(1) => return Ok(Axis { place: 0, rank }),
            "Add" | "Sub" | "Mul" | "Div" | "Identity" | "Cast" => {}
            _ => break,
        }
        value = node.output.first().map_or("", String::as_str);
    }
    Ok(last)
}

pub(super) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

impl Fold<'_> {
    /// Lets a node take in what it can; gives what is left behind it.
    fn pass(
        &mut self,
        place: usize,
        node: &NodeProto,
        slot: usize,
        carry: &Carry,
    ) -> Result<Carry, FoldError> {
        match (node.domain.as_str(), node.op_type.as_str()) {
            ("" | "ai.onnx", "Identity") => Ok(carry.clone()),
            ("" | "ai.onnx", "Cast") if int(node, "to") == Some(i64::from(DataType::Float as i32)) => {
                Ok(carry.clone())
            }
            ("" | "ai.onnx", "Add") => self.add(node, slot, carry),
            ("" | "ai.onnx", "Sub" | "Div") if slot != 0 => {
                Err(refused(node, "the input is its second operand"))
            }
            ("" | "ai.onnx", "Sub") => self.subtract(node, carry),
            ("" | "ai.onnx", "Mul") => self.multiply(node, slot, carry),
            ("" | "ai.onnx", "Div") => self.divide(node, carry),
            ("" | "ai.onnx", "Gemm" | "MatMul" | "Conv") if slot != 0 => {
                Err(refused(node, "the input is not its first operand"))
            }
            ("" | "ai.onnx", "Gemm") => self.gemm(node, carry),
            ("" | "ai.onnx", "MatMul") => self.mat_mul(node, carry),
            ("" | "ai.onnx", "Conv") => self.conv(node, carry),
            ("ai.onnx.ml", "Scaler") => self.scaler(place, node, carry),
            ("ai.onnx.ml", "LinearClassifier" | "LinearRegressor") => self.linear(place, node, carry),
            _ if carry.scale.iter().all(|scale| *scale == 1.0) => {
                Err(refused(node, "nothing before it takes the shift in, as a bias would"))
            }
            _ => Err(refused(node, "it takes no map in, and none passes through it")),
        }
    }
}
