//! Which stored tensors of a graph are parameters: what a gradient could change with sense.

use std::collections::{BTreeMap, BTreeSet};

use crate::constant::ConstantData;
use crate::graph::{Graph, Node};
use crate::mlp::NORMALISER_PREFIX;

/// Operators that `shoal-learn` has a forward and a backward for, sorted by name.
pub const TRAINABLE_OPS: &[&str] = &[
    "Add",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Constant",
    "Div",
    "Dropout",
    "Erf",
    "Flatten",
    "Gelu",
    "Gemm",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "Mul",
    "Neg",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// What a parameter does in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It multiplies activations as a matrix.
    Weight,
    /// It is added.
    Bias,
    /// It scales, in a normalisation or by itself.
    Norm,
}

/// A trainable stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The initialiser's name.
    pub name: String,
    /// Its sizes.
    pub dims: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// Place in [`Graph::nodes`] of the last node that uses it as a parameter.
    pub node: usize,
}

/// Lists the operators on the way to the float output that cannot be trained through.
#[must_use]
pub fn untrainable_ops(graph: &Graph) -> BTreeSet<String> {
    let live = live(graph);
    let nodes = graph.nodes.iter().zip(&live).filter(|(_, live)| **live).map(|(node, _)| node);
    nodes
        .filter(|node| TRAINABLE_OPS.binary_search(&node.op.as_str()).is_err())
        .map(|node| node.op.clone())
        .collect()
}

/// Lists the parameters in the order of the nodes that use them.
///
/// A parameter is a stored tensor of 32-bit floats, not a scalar, used as a matrix, added,
/// multiplied, or as scale and shift of a normalisation, directly or through a change of shape.
/// Running statistics, operands of `Sub` and `Div` (input normalisers) and tensors whose names
/// begin with [`NORMALISER_PREFIX`] are none.
#[must_use]
pub fn parameters(graph: &Graph) -> Vec<Parameter> {
    let live = live(graph);
    let mut wanted: BTreeMap<&str, (Role, usize)> = BTreeMap::new();
    for (place, node) in graph.nodes.iter().enumerate().rev().filter(|(place, _)| live[*place]) {
        if is_view(node) {
            let seen = node.outputs.first().and_then(|made| wanted.get(made.as_str())).copied();
            if let (Some(seen), Some(name)) = (seen, node.operand(0)) {
                wanted.entry(name).or_insert(seen);
            }
            continue;
        }
        for (slot, role) in slots(node) {
            if let Some(name) = node.operand(*slot) {
                wanted.entry(name).or_insert((*role, place));
            }
        }
    }
    let mut found: Vec<Parameter> = wanted
        .into_iter()
        .filter(|(name, _)| !name.starts_with(NORMALISER_PREFIX))
        .filter_map(|(name, (role, node))| {
            let stored = graph.initializers.get(name)?;
            let fits = matches!(stored.data, ConstantData::F32(_)) && !stored.dims.is_empty();
            fits.then(|| Parameter { name: name.into(), dims: stored.dims.clone(), role, node })
        })
        .collect();
    let slot = |p: &Parameter| graph.nodes[p.node].inputs.iter().position(|name| *name == p.name);
    found.sort_by_key(|p| (p.node, slot(p), p.name.clone()));
    found
}

/// Whether a node only changes the shape or place of its first operand.
fn is_view(node: &Node) -> bool {
    matches!(
        node.op.as_str(),
        "Identity" | "Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Dropout"
    )
}

fn slots(node: &Node) -> &'static [(usize, Role)] {
    match node.op.as_str() {
        "Gemm" => &[(0, Role::Weight), (1, Role::Weight), (2, Role::Bias)],
        "MatMul" => &[(0, Role::Weight), (1, Role::Weight)],
        "Add" => &[(0, Role::Bias), (1, Role::Bias)],
        "Mul" => &[(0, Role::Norm), (1, Role::Norm)],
        "BatchNormalization" => &[(1, Role::Norm), (2, Role::Bias)],
        _ => &[],
    }
}

/// Marks the nodes that the float output depends on.
fn live(graph: &Graph) -> Vec<bool> {
    let mut needed: BTreeSet<&str> = graph.float_output().map(|o| o.name.as_str()).into_iter().collect();
    let mut live = vec![false; graph.nodes.len()];
    for (place, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|made| needed.contains(made.as_str())) {
            live[place] = true;
            needed.extend(node.inputs.iter().map(String::as_str));
        }
    }
    live
}
