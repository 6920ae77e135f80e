//! Attributes and constant operands that make the engine panic, hang or take all memory.
//!
//! Each was met: see `reference/reliability.md` §3e. What comes from a computed shape is not seen
//! here; the admission child's limits are for that.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use crate::bounds;
use crate::constant::{Constant, ConstantData};
use crate::limits::Limits;
use crate::lower;
use crate::ml;
use crate::refusal::Refusal;
use crate::scope::{Scope, title};
use crate::window;

/// Largest padding on one side: 2^40 kept the engine busy for more than 40 s; real ones are
/// smaller than the kernel.
pub(crate) const MAX_PAD: i64 = 1 << 10;
/// Largest depth of a one-hot encoding.
const MAX_ONE_HOT: i64 = 1 << 16;
/// Largest step of a slice: those of i64 overflow.
const MAX_STEP: i64 = 1 << 31;
/// Largest rank: axes beyond it make no sense.
const MAX_RANK: i64 = 64;
/// Largest hidden size of a recurrent layer.
const MAX_HIDDEN: i64 = 1 << 16;
/// Most operand values looked at.
const MAX_LOOKED_AT: usize = 1 << 16;

pub(crate) fn bad(node: &NodeProto, reason: String) -> Refusal {
    Refusal::BadNode { node: title(node), op: crate::refusal::named(&node.op_type), reason }
}

/// The tensor that a `Constant` node makes, if it is one.
pub(crate) fn constant_of(node: &NodeProto) -> Option<&TensorProto> {
    (node.op_type == "Constant").then(|| attribute(node, "value"))?.and_then(|a| a.t.as_ref())
}

pub(crate) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

pub(crate) fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    attribute(node, name).map_or(&[], |attribute| &attribute.ints)
}

/// The whole numbers of a constant operand, `None` when it is computed, large, or of another type.
pub(crate) fn operand(node: &NodeProto, slot: usize, scope: &Scope<'_, '_>) -> Option<Vec<i64>> {
    let tensor = scope.stored(node.input.get(slot)?)?;
    let elements: i64 = tensor.dims.iter().try_fold(1i64, |p, d| p.checked_mul(*d))?;
    (usize::try_from(elements).ok()? <= MAX_LOOKED_AT).then(|| Constant::read(tensor))??.ints()
}

/// The floating point numbers of a constant operand, as [`operand`].
pub(crate) fn numbers(node: &NodeProto, slot: usize, scope: &Scope<'_, '_>) -> Option<Vec<f64>> {
    let tensor = scope.stored(node.input.get(slot)?)?;
    let elements: i64 = tensor.dims.iter().try_fold(1i64, |p, d| p.checked_mul(*d))?;
    match (usize::try_from(elements).ok()? <= MAX_LOOKED_AT).then(|| Constant::read(tensor))??.data {
        ConstantData::F32(values) => Some(values.into_iter().map(f64::from).collect()),
        ConstantData::F64(values) => Some(values),
        ConstantData::I64(_) | ConstantData::I32(_) | ConstantData::Bytes(..) | ConstantData::Other(_) => {
            None
        }
    }
}

pub(crate) fn dims<'a>(node: &NodeProto, slot: usize, scope: &Scope<'_, 'a>) -> Option<&'a [i64]> {
    Some(scope.stored(node.input.get(slot)?)?.dims.as_slice())
}

/// Refuses a node that is known to bring the engine down.
pub(crate) fn check(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Result<(), Refusal> {
    axes(node)?;
    if let Some(reason) = window::rank(node, scope) {
        return Err(bad(node, reason));
    }
    let found = match node.op_type.as_str() {
        "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "MaxPool" | "AveragePool" => {
            window::check(node, scope)
        }
        "Transpose" => permutation(node, scope),
        "Gather" | "ArrayFeatureExtractor" => gather(node, scope),
        "Expand" | "Tile" | "ConstantOfShape" | "Reshape" => size(node, scope, limits),
        "Pad" => pad(node, scope),
        "Slice" => step(node, scope),
        "Range" => range(node, scope, limits),
        "OneHot" => depth(node, scope),
        "Div" | "Mod" => divisor(node, scope),
        "DepthToSpace" | "SpaceToDepth" => at_least_one(node, "blocksize"),
        "LRN" => at_least_one(node, "size"),
        "LSTM" | "GRU" | "RNN" => {
            backward(node).or_else(|| at_least_one(node, "hidden_size")).or_else(|| bounds::direction(node))
        }
        "Resize" => bounds::resize(node, scope, limits),
        "QuantizeLinear" | "DequantizeLinear" => bounds::quantisation(node, scope),
        "MatMulNBits" | "GatherBlockQuantized" => bounds::blocks(node, limits),
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => bounds::sizes(node, &[0], scope),
        "MelWeightMatrix" => bounds::sizes(node, &[0, 1, 2], scope),
        "STFT" => bounds::sizes(node, &[1, 3], scope),
        "DFT" => bounds::sizes(node, &[1], scope),
        "TopK" => bounds::top(node, scope),
        "GroupNormalization" => at_least_one(node, "num_groups"),
        "Split" => at_least_one(node, "num_outputs"),
        op if shoal_ml::OPS.contains(&op) => ml::trap(node),
        _ => None,
    };
    found.map_or(Ok(()), |reason| Err(bad(node, reason)))
}

fn axes(node: &NodeProto) -> Result<(), Refusal> {
    let single = attribute(node, "axis").map(|axis| axis.i);
    let many = ints(node, "axes").iter().copied();
    match single.into_iter().chain(many).find(|axis| !(-MAX_RANK..=MAX_RANK).contains(axis)) {
        Some(axis) => Err(bad(node, format!("axis {axis} does not exist"))),
        None => Ok(()),
    }
}

fn permutation(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let perm = ints(node, "perm");
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq((0..).take(perm.len())) {
        return Some(format!("perm {:?} is no permutation", &perm[..perm.len().min(8)]));
    }
    let rank = dims(node, 0, scope)?.len();
    (!perm.is_empty() && perm.len() != rank)
        .then(|| format!("perm has {} axes, its operand {rank}", perm.len()))
}

fn gather(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let data = dims(node, 0, scope)?;
    let rank = i64::try_from(data.len()).ok()?;
    let axis = match node.op_type.as_str() {
        "Gather" => attribute(node, "axis").map_or(0, |axis| axis.i),
        _ => -1,
    };
    let axis = if axis < 0 { axis + rank } else { axis };
    let Some(size) = usize::try_from(axis).ok().and_then(|axis| data.get(axis)) else {
        return Some(format!("axis {axis} of shape {data:?} does not exist"));
    };
    let indices = operand(node, 1, scope)?;
    let wrong = indices.iter().find(|index| !(-size..*size).contains(index))?;
    Some(format!("index {wrong} is outside of {size}"))
}

fn size(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Option<String> {
    let slot = usize::from(node.op_type != "ConstantOfShape");
    let shape = operand(node, slot, scope)?;
    let is_reshape = node.op_type == "Reshape";
    let open = shape.iter().filter(|dim| **dim == -1).count();
    let lowest = if is_reshape { -1 } else { 0 };
    if let Some(dim) = shape.iter().find(|dim| **dim < lowest) {
        return Some(format!("a size is {dim}"));
    }
    if open > 1 {
        return Some("two sizes are -1".into());
    }
    let product = shape.iter().filter(|dim| **dim > 0).try_fold(1i64, |p, dim| p.checked_mul(*dim));
    let fits = product.and_then(|p| usize::try_from(p).ok()).is_some_and(|p| p <= limits.max_tensor_elements);
    (!fits).then(|| {
        format!(
            "shape {:?} is over the limit of {} elements",
            &shape[..shape.len().min(8)],
            limits.max_tensor_elements
        )
    })
}

fn pad(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let operand = operand(node, 1, scope).unwrap_or_default();
    if attribute(node, "mode").is_some_and(|mode| mode.s == b"wrap") {
        return Some("mode wrap is not served".into());
    }
    let wrong = ints(node, "pads").iter().chain(&operand).find(|v| !(0..=MAX_PAD).contains(*v))?;
    Some(format!("pads hold {wrong}, expected 0 to {MAX_PAD}"))
}

fn step(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let steps = operand(node, 4, scope)?;
    let wrong = steps.iter().find(|step| **step == 0 || !(-MAX_STEP..=MAX_STEP).contains(*step))?;
    Some(format!("a step is {wrong}"))
}

fn range(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Option<String> {
    if let Some(delta) = numbers(node, 2, scope).and_then(|delta| delta.first().copied()) {
        if !delta.is_normal() {
            return Some(format!("the step is {delta}"));
        }
        let start = *numbers(node, 0, scope)?.first()?;
        let end = *numbers(node, 1, scope)?.first()?;
        let count = (end - start) / delta;
        // Written so that a count that is not a number is refused.
        let is_sane = count <= limits.max_tensor_elements as f64;
        return (!is_sane).then(|| format!("it counts to {count}"));
    }
    let delta = *operand(node, 2, scope)?.first()?;
    if delta == 0 {
        return Some("the step is 0".into());
    }
    let start = *operand(node, 0, scope)?.first()?;
    let end = *operand(node, 1, scope)?.first()?;
    let count = (i128::from(end) - i128::from(start)) / i128::from(delta);
    (count > limits.max_tensor_elements as i128).then(|| format!("it counts to {count}"))
}

/// What is left of backward layers after the rewriting.
fn backward(node: &NodeProto) -> Option<String> {
    lower::is_reverse(node).then(|| "backward layers are served from opset 10 on, without lengths".into())
}

fn depth(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let depth = *operand(node, 1, scope)?.first()?;
    (!(1..=MAX_ONE_HOT).contains(&depth)).then(|| format!("depth is {depth}"))
}

fn divisor(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    operand(node, 1, scope)?.contains(&0).then(|| "a whole number is divided by 0".into())
}

fn at_least_one(node: &NodeProto, name: &str) -> Option<String> {
    let value = attribute(node, name)?.i;
    (!(1..=MAX_HIDDEN).contains(&value)).then(|| format!("{name} is {value}, expected 1 to {MAX_HIDDEN}"))
}
