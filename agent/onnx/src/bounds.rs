//! Settings and constant operands with bounds of their own.

use tract_onnx::pb::NodeProto;

use crate::limits::Limits;
use crate::scope::Scope;
use crate::traps::{attribute, dims, numbers, operand};

/// Largest factor of a resize, in each axis.
const MAX_SCALE: f64 = 4_096.0;
/// Largest window, transform or filter bank of a spectrum.
const MAX_SPECTRUM: i64 = 1 << 20;
/// Most values kept of a row.
const MAX_TOP: i64 = 1 << 26;
/// Weights in a block of a quantised matrix.
const MAX_BLOCK: i64 = 1 << 16;

/// Recurrent layers walk in one of three ways; the engine takes any other word for the first.
pub(crate) fn direction(node: &NodeProto) -> Option<String> {
    let word = &attribute(node, "direction")?.s;
    let is_known = [&b"forward"[..], b"reverse", b"bidirectional"].contains(&word.as_slice());
    (!is_known).then(|| "direction is not known".into())
}

/// Scales must be above zero, and sizes must fit.
pub(crate) fn resize(node: &NodeProto, scope: &Scope<'_, '_>, limits: &Limits) -> Option<String> {
    for slot in [1, 2] {
        let scales = numbers(node, slot, scope).unwrap_or_default();
        // The region of interest stands where older files have their scales: it may be of any sign.
        let is_region = slot == 1 && node.input.len() > 2;
        let wrong = scales.iter().find(|scale| !(**scale > 0.0 && **scale <= MAX_SCALE));
        if let Some(scale) = wrong.filter(|_| !is_region) {
            return Some(format!("a scale is {scale}, expected above 0 and up to {MAX_SCALE}"));
        }
    }
    let sizes = operand(node, 3, scope)?;
    let product = sizes.iter().try_fold(1i64, |product, size| product.checked_mul((*size).max(1)));
    let fits = product.and_then(|product| usize::try_from(product).ok());
    let is_sane = fits.is_some_and(|product| product <= limits.max_tensor_elements)
        && sizes.iter().all(|size| *size >= 0);
    (!is_sane).then(|| format!("sizes are {:?}", &sizes[..sizes.len().min(8)]))
}

/// A scale for each zero point, and none that divides by nothing.
pub(crate) fn quantisation(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let count = |slot| -> Option<i64> {
        dims(node, slot, scope)?.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim))
    };
    let scales = count(1)?;
    if scales == 0 {
        return Some("it has no scale".into());
    }
    if let Some(zeros) = count(2).filter(|zeros| *zeros != scales) {
        return Some(format!("it has {scales} scales and {zeros} zero points"));
    }
    let values = numbers(node, 1, scope)?;
    let wrong = values.iter().find(|scale| !scale.is_finite() || **scale == 0.0)?;
    Some(format!("a scale is {wrong}"))
}

/// The engine makes room for rows times columns before it looks at the weights.
pub(crate) fn blocks(node: &NodeProto, limits: &Limits) -> Option<String> {
    if let Some(block) = attribute(node, "block_size")
        && !(1..=MAX_BLOCK).contains(&block.i)
    {
        return Some(format!("block_size is {}, expected 1 to {MAX_BLOCK}", block.i));
    }
    let (rows, columns) = (attribute(node, "N")?.i, attribute(node, "K")?.i);
    let product = if rows > 0 && columns > 0 { rows.checked_mul(columns) } else { None };
    let fits = product.and_then(|product| usize::try_from(product).ok());
    fits.is_none_or(|product| product > limits.max_tensor_elements)
        .then(|| format!("N is {rows} and K is {columns}"))
}

/// Lengths of windows, transforms, steps and filter banks.
pub(crate) fn sizes(node: &NodeProto, slots: &[usize], scope: &Scope<'_, '_>) -> Option<String> {
    let given = slots.iter().filter_map(|slot| operand(node, *slot, scope));
    let wrong = given.flatten().find(|size| !(1..=MAX_SPECTRUM).contains(size))?;
    Some(format!("a length is {wrong}, expected 1 to {MAX_SPECTRUM}"))
}

/// How many values are kept.
pub(crate) fn top(node: &NodeProto, scope: &Scope<'_, '_>) -> Option<String> {
    let kept = *operand(node, 1, scope)?.first()?;
    (!(0..=MAX_TOP).contains(&kept)).then(|| format!("it keeps {kept} values"))
}
