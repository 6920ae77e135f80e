//! Windows that are moved over images: convolutions and pools.

use tract_onnx::pb::NodeProto;

use crate::scope::Scope;
use crate::traps::{MAX_PAD, attribute, dims, ints};

/// Largest stride, dilation or kernel side: images served at the edge are smaller.
const MAX_WINDOW: i64 = 1 << 16;
/// Places of a pool's window, which the engine lists one by one.
const MAX_PLACES: i64 = 1 << 20;
/// Largest stride of a transposed convolution: its output is larger than its input by this, in each axis.
const MAX_TRANSPOSED_STRIDE: i64 = 1 << 8;

/// Operators on channels: the engine looks for the second axis (and for places beyond it) unchecked.
const ON_CHANNELS: [(&str, usize); 14] = [
    ("AveragePool", 3),
    ("BatchNormalization", 2),
    ("Conv", 3),
    ("ConvInteger", 3),
    ("ConvTranspose", 3),
    ("DepthToSpace", 4),
    ("GlobalAveragePool", 3),
    ("GlobalLpPool", 3),
    ("GlobalMaxPool", 3),
    ("GroupNormalization", 2),
    ("InstanceNormalization", 2),
    ("MaxPool", 3),
    ("QLinearConv", 3),
    ("SpaceToDepth", 4),
];

/// Says that an operand has too few axes, where the file says how many it has.
pub(crate) fn rank(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let (_, least) = ON_CHANNELS.iter().find(|(op, _)| *op == node.op_type)?;
    let rank = scope.rank(node.input.first()?)?;
    (rank < *least).then(|| format!("its operand has {rank} axes, expected at least {least}"))
}

/// Says what is wrong with a convolution or pool.
pub(crate) fn check(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let most = |name| match name {
        "strides" if node.op_type == "ConvTranspose" => MAX_TRANSPOSED_STRIDE,
        _ => MAX_WINDOW,
    };
    for name in ["strides", "dilations", "kernel_shape"] {
        if let Some(value) = ints(node, name).iter().find(|v| !(1..=most(name)).contains(*v)) {
            return Some(format!("{name} holds {value}, expected 1 to {}", most(name)));
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
    if node.op_type.ends_with("Pool") {
        let kernel = ints(node, "kernel_shape");
        if kernel.is_empty() {
            return Some("kernel_shape is missing".into());
        }
        let places = kernel.iter().try_fold(1i64, |product, side| product.checked_mul(*side));
        if places.is_none_or(|places| places > MAX_PLACES) {
            return Some(format!("kernel_shape {kernel:?} has more than {MAX_PLACES} places"));
        }
        return axes(node, kernel.len());
    }
    let slot = if node.op_type == "QLinearConv" { 3 } else { 1 };
    let kernel = dims(node, slot, scope)?;
    if kernel.len() < 3 || kernel.contains(&0) {
        return Some(format!("the kernel's shape is {kernel:?}"));
    }
    let declared = ints(node, "kernel_shape");
    if !declared.is_empty() && declared != &kernel[2..] {
        return Some(format!("kernel_shape is {declared:?}, the kernel's shape is {kernel:?}"));
    }
    axes(node, kernel.len() - 2)
}

/// Lists that have not an entry for each axis are read beyond their end.
fn axes(node: &NodeProto, axes: usize) -> Option<String> {
    for (name, sides) in
        [("strides", 1), ("dilations", 1), ("kernel_shape", 1), ("output_padding", 1), ("pads", 2)]
    {
        let got = ints(node, name).len();
        if got != 0 && got != axes * sides {
            return Some(format!("{name} has {got} entries, expected {}", axes * sides));
        }
    }
    None
}
