//! Which stored tensors of a graph are parameters: what a gradient could change with sense.

use std::collections::{BTreeMap, BTreeSet};

use crate::constant::ConstantData;
use crate::graph::{Graph, Node};
use crate::network::NORMALISER_PREFIX;

/// Operators that `shoal-learn` has a forward and a backward for, sorted by name.
pub const TRAINABLE_OPS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
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
    "Cosh",
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
    "GatherND",
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
    "LRN",
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
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
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
    "com.microsoft.Gelu",
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
    let live = reached(graph);
    let fed = fed(graph);
    let mut wanted: BTreeMap<&str, (Role, usize)> = BTreeMap::new();
    for (place, node) in graph.nodes.iter().enumerate().rev().filter(|(place, _)| live[*place]) {
        if ROUNDED.contains(&node.op.as_str()) {
            continue; // Scales and zero points of quantised tensors.
        }
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

/// A stored tensor with what training makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// The initialiser's name, or that of what a `Constant` node makes.
    pub name: String,
    /// Its sizes.
    pub dims: Vec<usize>,
    /// What it does when it is trained, or why it is not.
    pub role: Result<Role, &'static str>,
}

/// Lists the stored tensors of numbers with more than one axis or element, trained or not: parameters first,
/// in the order of the layers.
#[must_use]
pub fn stored_tensors(graph: &Graph) -> Vec<StoredTensor> {
    let trained = parameters(graph);
    let names: BTreeSet<&str> = trained.iter().map(|parameter| parameter.name.as_str()).collect();
    let left = graph.initializers.iter().filter(|(name, _)| !names.contains(name.as_str()));
    let left: Vec<StoredTensor> = left
        .filter_map(|(name, constant)| {
            let reason = match &constant.data {
                ConstantData::Bytes(..) if constant.dims.len() > 1 => {
                    "it is quantised: whole numbers of eight bits"
                }
                ConstantData::Bytes(..) | ConstantData::I64(_) | ConstantData::I32(_) => return None,
                ConstantData::F64(_) => "it is of 64 bits",
                ConstantData::Other(_) => "it is of a kind that is not computed with",
                ConstantData::F32(_) if is_statistic(name) => "it is measured, not learned",
                ConstantData::F32(_) if constant.dims.is_empty() => "it is a single number",
                ConstantData::F32(values) if values.iter().any(|value| value.abs() >= MASK) => "it masks",
                ConstantData::F32(_) => "no gradient reaches it as a weight, bias or scale",
            };
            Some(StoredTensor { name: name.clone(), dims: constant.dims.clone(), role: Err(reason) })
        })
        .collect();
    let trained = trained.into_iter().map(|p| StoredTensor { name: p.name, dims: p.dims, role: Ok(p.role) });
    trained.chain(left).collect()
}

/// Operators of quantised models: no gradient passes the rounding.
const ROUNDED: [&str; 3] = ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"];

/// Whether a graph holds quantised tensors.
#[must_use]
pub fn is_quantised(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| ROUNDED.contains(&node.op.as_str()) || node.op.ends_with("Integer"))
}

/// Marks the nodes that the float output depends on.
fn live(graph: &Graph) -> Vec<bool> {
    graph.depended_on(&output_of(graph), |_| true)
}

/// Nodes whose results a gradient reaches: those between them and the output do not round.
fn reached(graph: &Graph) -> Vec<bool> {
    let rounds = |node: &Node| matches!(node.op.as_str(), "QuantizeLinear" | "DynamicQuantizeLinear");
    graph.depended_on(&output_of(graph), |node| !rounds(node))
}

fn output_of(graph: &Graph) -> Vec<&str> {
    graph.float_output().map(|output| output.name.as_str()).into_iter().collect()
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
