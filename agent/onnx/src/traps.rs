//! Attributes and constant operands that make the engine panic, hang or take all memory.
//!
//! Each was met: see `reference/reliability.md` §3e. What comes from a computed shape is not seen
//! here; the admission child's limits are for that.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use crate::constant::Constant;
use crate::limits::Limits;
use crate::lower;
use crate::ml;
use crate::refusal::Refusal;
use crate::scope::{Scope, title};

/// Largest stride, dilation or kernel side: images served at the edge are smaller.
const MAX_WINDOW: i64 = 1 << 16;
/// Largest padding on one side: 2^40 kept the engine busy for more than 40 s; real ones are
/// smaller than the kernel.
const MAX_PAD: i64 = 1 << 10;
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

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    attribute(node, name).map_or(&[], |attribute| &attribute.ints)
}

/// The whole numbers of a constant operand, `None` when it is computed, large, or of another type.
fn operand(node: &NodeProto, slot: usize, scope: &Scope<'_, '_>) -> Option<Vec<i64>> {
    let tensor = scope.stored(node.input.get(slot)?)?;
    let elements: i64 = tensor.dims.iter().try_fold(1i64, |p, d| p.checked_mul(*d))?;
    (usize::try_from(elements).ok()? <= MAX_LOOKED_AT).then(|| Constant::read(tensor))??.ints()
}

fn dims<'a>(node: &NodeProto, slot: usize, scope: &Scope<'_, 'a>) -> Option<&'a [i64]> {
    Some(scope.stored(node.input.get(slot)?)?.dims.as_slice())
}

/// Refuses a node that is known to bring the engine down.
pub(crate) fn check(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Result<(), Refusal> {
    axes(node)?;
    let found = match node.op_type.as_str() {
        "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "MaxPool" | "AveragePool" => {
            window(node, scope)
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
        "LSTM" | "GRU" | "RNN" => backward(node).or_else(|| at_least_one(node, "hidden_size")),
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

fn window(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    for name in ["strides", "dilations", "kernel_shape"] {
        if let Some(value) = ints(node, name).iter().find(|v| !(1..=MAX_WINDOW).contains(*v)) {
            return Some(format!("{name} holds {value}, expected 1 to {MAX_WINDOW}"));
        }
    }
    for name in ["pads", "output_padding"] {
        if let Some(value) = ints(node, name).iter().find(|v| !(0..=MAX_PAD).contains(*v)) {
            return Some(format!("{name} holds {value}, expected 0 to {MAX_PAD}"));
        }
    }
    if let Some(group) = attribute(node, "group")
        && !(1..=MAX_WINDOW).contains(&group.i)
    {
        return Some(format!("group is {}, expected 1 to {MAX_WINDOW}", group.i));
    }
    if node.op_type == "ConvTranspose" && !ints(node, "output_shape").is_empty() {
        return Some("output_shape is not served; export with pads".into());
    }
    let is_pool = node.op_type.ends_with("Pool");
    if is_pool && ints(node, "kernel_shape").is_empty() {
        return Some("kernel_shape is missing".into());
    }
    let slot = if node.op_type == "QLinearConv" { 3 } else { 1 };
    let kernel = if is_pool { None } else { dims(node, slot, scope) }?;
    if kernel.len() < 3 || kernel.contains(&0) {
        return Some(format!("the kernel's shape is {kernel:?}"));
    }
    let declared = ints(node, "kernel_shape");
    (!declared.is_empty() && declared != &kernel[2..])
        .then(|| format!("kernel_shape is {declared:?}, the kernel's shape is {kernel:?}"))
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
    operand(node, 4, scope)?.contains(&0).then(|| "a step is 0".into())
}

fn range(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Option<String> {
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
    (!(1..=MAX_WINDOW).contains(&depth)).then(|| format!("depth is {depth}"))
}

fn divisor(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    operand(node, 1, scope)?.contains(&0).then(|| "a whole number is divided by 0".into())
}

fn at_least_one(node: &NodeProto, name: &str) -> Option<String> {
    let value = attribute(node, name)?.i;
    (!(1..=MAX_HIDDEN).contains(&value)).then(|| format!("{name} is {value}, expected 1 to {MAX_HIDDEN}"))
}
