//! Which stored tensors of a graph are parameters: what a gradient could change with sense.

use std::collections::{BTreeMap, BTreeSet};

use crate::constant::ConstantData;
use crate::graph::{Graph, Node};
use crate::network::NORMALISER_PREFIX;

/// Operators that `shoal-learn` has a forward and a backward for, sorted by name.
pub const TRAINABLE_OPS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "IsNaN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "RMSNormalization",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
    "ai.onnx.ml.Normalizer",
    "ai.onnx.ml.Scaler",
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
/// A parameter is a stored tensor of 32-bit floats (or of half precision, widened), not a scalar, used as a
/// matrix, a kernel or a table, added, multiplied, or as scale and shift of a normalisation; directly, or
/// through operators that see stored tensors only (a change of shape, weights that are put together).
/// Running statistics, operands of `Sub` and `Div` (input normalisers), masks and tensors whose names
/// begin with [`NORMALISER_PREFIX`] are none.
#[must_use]
pub fn parameters(graph: &Graph) -> Vec<Parameter> {
    let live = live(graph);
    let fed = fed(graph);
    let mut wanted: BTreeMap<&str, (Role, usize)> = BTreeMap::new();
    for (place, node) in graph.nodes.iter().enumerate().rev().filter(|(place, _)| live[*place]) {
        if node.outputs.iter().all(|made| !fed.contains(made.as_str())) {
            let seen = node.outputs.iter().find_map(|made| wanted.get(made.as_str())).copied();
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                if let Some(seen) = seen {
                    wanted.entry(name).or_insert(seen);
                }
            }
            continue;
        }
        for (slot, role) in slots(node) {
            if let Some(name) = node.operand(*slot).filter(|name| !fed.contains(name)) {
                wanted.entry(name).or_insert((*role, place));
            }
        }
    }
    let mut found: Vec<Parameter> = wanted
        .into_iter()
        .filter(|(name, _)| !is_statistic(name))
        .filter_map(|(name, (role, node))| {
            let stored = graph.initializers.get(name)?;
            let ConstantData::F32(values) = &stored.data else { return None };
            let is_constant_node = graph.producer(name).is_some();
            let fits = !stored.dims.is_empty()
                && values.iter().all(|value| value.abs() < MASK)
                && !(is_constant_node && role == Role::Norm);
            fits.then(|| Parameter { name: name.into(), dims: stored.dims.clone(), role, node })
        })
        .collect();
    let slot = |p: &Parameter| graph.nodes[p.node].inputs.iter().position(|name| *name == p.name);
    found.sort_by_key(|p| (p.node, slot(p), p.name.clone()));
    found
}

/// No weight is as large; what is added to scores to hide them is.
const MASK: f32 = 1e4;

/// Names that exporters give to what is measured and not learned, and our own for input normalisers.
fn is_statistic(name: &str) -> bool {
    let running = ["running_mean", "running_var", "moving_mean", "moving_variance"];
    name.starts_with(NORMALISER_PREFIX) || running.iter().any(|part| name.contains(part))
}

/// Values that depend on what a caller gives.
fn fed(graph: &Graph) -> BTreeSet<&str> {
    let mut fed: BTreeSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
    for node in &graph.nodes {
        // The shape of what is given is no more than a number of rows.
        let is_shape = node.op == "Shape" || node.op == "Size";
        if !is_shape && node.inputs.iter().any(|name| fed.contains(name.as_str())) {
            fed.extend(node.outputs.iter().map(String::as_str));
        }
    }
    fed
}

fn slots(node: &Node) -> &'static [(usize, Role)] {
    match node.op.as_str() {
        "Gemm" | "Conv" | "ConvTranspose" => &[(0, Role::Weight), (1, Role::Weight), (2, Role::Bias)],
        "MatMul" => &[(0, Role::Weight), (1, Role::Weight)],
        "Einsum" => &[(0, Role::Weight), (1, Role::Weight), (2, Role::Weight)],
        "Gather" => &[(0, Role::Weight)],
        "LSTM" | "GRU" | "RNN" => &[
            (1, Role::Weight),
            (2, Role::Weight),
            (3, Role::Bias),
            (5, Role::Bias),
            (6, Role::Bias),
            (7, Role::Norm),
        ],
        "Add" | "Sum" => &[(0, Role::Bias), (1, Role::Bias)],
        "Mul" => &[(0, Role::Norm), (1, Role::Norm)],
        "PRelu" | "RMSNormalization" => &[(1, Role::Norm)],
        "BatchNormalization" | "LayerNormalization" | "InstanceNormalization" | "GroupNormalization" => {
            &[(1, Role::Norm), (2, Role::Bias)]
        }
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
