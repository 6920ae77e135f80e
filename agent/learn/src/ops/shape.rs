//! Changes of shape and place.

use candle_core::Tensor;

use super::{Call, OpError, Value, axis};

/// ONNX's number for 32-bit floats, the only type a cast may lead to here.
const ONNX_F32: i64 = 1;

/// Identity, Dropout (nothing is dropped) and casts to f32.
pub(super) fn pass(call: &Call<'_>) -> Result<Value, OpError> {
    if call.node.op != "Cast" {
        return Ok(Value::Float(call.float(0)?.clone()));
    }
    if call.node.int("to") != Some(ONNX_F32) {
        return Err(OpError::Setting { reason: "only casts to f32 are trained through".into() });
    }
    match call.ints_or_none(0) {
        Ok(Some(_)) => Err(OpError::Operand { slot: 0, expected: "floats" }),
        _ => Ok(Value::Float(call.float(0)?.clone())),
    }
}

pub(super) fn flatten(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let wanted = call.node.int("axis").unwrap_or(1);
    let at = if usize::try_from(wanted) == Ok(x.rank()) { x.rank() } else { axis(wanted, x.rank())? };
    let (outer, inner) = x.dims().split_at(at);
    Ok(x.reshape((outer.iter().product::<usize>(), inner.iter().product::<usize>()))?)
}

/// Constant sizes only; 0 keeps a size, -1 takes what is left.
pub(super) fn reshape(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let sizes = call.ints_or_none(1)?.ok_or(OpError::Operand { slot: 1, expected: "constant sizes" })?;
    let keeps = call.node.int("allowzero").unwrap_or(0) == 0;
    let wrong = || OpError::Setting { reason: format!("shape {:?} does not become {sizes:?}", x.dims()) };
    let mut shape = Vec::with_capacity(sizes.len());
    let mut open = None;
    for (place, size) in sizes.iter().enumerate() {
        shape.push(match *size {
            -1 if open.is_none() => {
                open = Some(place);
                1
            }
            0 if keeps => *x.dims().get(place).ok_or_else(wrong)?,
            size => usize::try_from(size).ok().ok_or_else(wrong)?,
        });
    }
    if let Some(place) = open {
        let known: usize = shape.iter().try_fold(1usize, |p, d| p.checked_mul(*d)).ok_or_else(wrong)?;
        shape[place] = x.elem_count().checked_div(known).ok_or_else(wrong)?;
    }
    Ok(x.reshape(shape)?)
}

pub(super) fn transpose(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let perm: Vec<usize> = match call.node.ints("perm") {
        None => (0..x.rank()).rev().collect(),
        Some(perm) => perm.iter().map(|at| axis(*at, x.rank())).collect::<Result<_, _>>()?,
    };
    Ok(x.permute(perm)?)
}

/// Axes as an attribute (before operator set 13) or an operand.
fn axes(call: &Call<'_>, rank: usize) -> Result<Option<Vec<usize>>, OpError> {
    let given = match call.node.ints("axes") {
        Some(axes) => Some(axes),
        None => call.ints_or_none(1)?,
    };
    let Some(given) = given else { return Ok(None) };
    let mut axes = given.iter().map(|at| axis(*at, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    Ok(Some(axes))
}

pub(super) fn squeeze(call: &Call<'_>) -> Result<Tensor, OpError> {
    let mut x = call.float(0)?.clone();
    let ones = || x.dims().iter().enumerate().filter(|(_, size)| **size == 1).map(|(at, _)| at).collect();
    for at in axes(call, x.rank())?.unwrap_or_else(ones).into_iter().rev() {
        x = x.squeeze(at)?;
    }
    Ok(x)
}

pub(super) fn unsqueeze(call: &Call<'_>) -> Result<Tensor, OpError> {
    let mut x = call.float(0)?.clone();
    let given = call.node.ints("axes").map_or_else(|| call.ints_or_none(1), |axes| Ok(Some(axes)))?;
    let count = given.map_or(0, <[i64]>::len);
    let axes =
        axes(call, x.rank() + count)?.ok_or(OpError::Operand { slot: 1, expected: "constant axes" })?;
    for at in axes {
        x = x.unsqueeze(at)?;
    }
    Ok(x)
}
