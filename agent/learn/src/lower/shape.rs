//! Shapes, and what only changes them.

use shoal_onnx::Attribute;

use super::{Call, Kind, Made, OpError, Value, hold};

/// `Identity`; `Dropout`, which does nothing outside of its own training.
pub(crate) fn pass(call: &mut Call<'_>) -> Made {
    Ok(vec![call.value(0)?])
}

pub(crate) fn constant(call: &mut Call<'_>) -> Made {
    let missing = || OpError::setting("its value is not of numbers");
    let constant = call.node.constant().ok_or_else(missing)?;
    Ok(vec![hold(call.tape, &constant)?.ok_or_else(missing)?])
}

fn wholes(call: &mut Call<'_>, shape: &[usize], values: Vec<f64>) -> Made {
    let id = call.tape.stored(shape, values)?;
    Ok(vec![Value { id, kind: Kind::Whole }])
}

pub(crate) fn shape(call: &mut Call<'_>) -> Made {
    let sizes = call.shape(0)?;
    let rank = i64::try_from(sizes.len()).unwrap_or(i64::MAX);
    let bound = |name: &str, otherwise: i64| {
        let at = call.node.int(name).unwrap_or(otherwise);
        let from_front = if at < 0 { at.saturating_add(rank) } else { at };
        usize::try_from(from_front.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let part = sizes.get(start..end.max(start)).unwrap_or_default();
    let values: Vec<f64> = part.iter().map(|size| *size as f64).collect();
    wholes(call, &[values.len()], values)
}

pub(crate) fn size(call: &mut Call<'_>) -> Made {
    let elements = call.tape.len(call.id(0)?) as f64;
    wholes(call, &[], vec![elements])
}

pub(crate) fn constant_of_shape(call: &mut Call<'_>) -> Made {
    let sizes = sizes(call, 0)?;
    let (kind, value) = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(constant)) => {
            let value =
                hold(call.tape, constant)?.ok_or_else(|| OpError::setting("its value is no number"))?;
            let number = call.tape.constant(value.id).and_then(|values| values.first().copied());
            (value.kind, number.unwrap_or(0.0))
        }
        _ => (Kind::Float, 0.0),
    };
    let id = call.tape.filled(&sizes, |_| value)?;
    Ok(vec![Value { id, kind }])
}

pub(crate) fn range(call: &mut Call<'_>) -> Made {
    /// Numbers of a range at most: whole numbers are data up to here without rounding.
    const MOST: f64 = 16_777_216.0;
    let known = |slot: usize| {
        call.number(slot)?.ok_or(OpError::Operand { slot, expected: "a number known beforehand" })
    };
    let (start, limit, delta) = (known(0)?, known(1)?, known(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if count.is_nan() || count > MOST {
        return Err(OpError::setting(format!("from {start} to {limit} by {delta} is no range")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
    let id = call.tape.filled(&[count as usize], |at| start + at as f64 * delta)?;
    call.alike(id)
}

/// Sizes in an operand.
pub(super) fn sizes(call: &Call<'_>, slot: usize) -> Result<Vec<usize>, OpError> {
    let sizes = call.ints(slot)?.ok_or(OpError::Operand { slot, expected: "sizes" })?;
    let size =
        |size: &i64| usize::try_from(*size).map_err(|_below| OpError::setting(format!("a size of {size}")));
    sizes.iter().map(size).collect()
}

/// A nought keeps a size, minus one takes what is left.
pub(crate) fn reshape(call: &mut Call<'_>) -> Made {
    let x = call.value(0)?;
    let from = call.shape(0)?;
    let wanted = call.list(1, "shape")?.ok_or(OpError::Operand { slot: 1, expected: "sizes" })?;
    let keeps_nought = call.flag("allowzero", false);
    let mut open = None;
    let mut made = Vec::with_capacity(wanted.len());
    for (axis, size) in wanted.iter().enumerate() {
        made.push(match *size {
            0 if !keeps_nought => from.get(axis).copied().unwrap_or(0),
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            size => usize::try_from(size).map_err(|_below| OpError::setting(format!("a size of {size}")))?,
        });
    }
    if let Some(axis) = open {
        let rest = made.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
        let rest = rest.ok_or_else(|| OpError::setting(format!("sizes {wanted:?} cannot be counted")))?;
        made[axis] = call.tape.len(x.id).checked_div(rest).unwrap_or(0);
    }
    let id = call.tape.view(x.id, &made)?;
    call.alike(id)
}

pub(crate) fn flatten(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let axis = match call.node.int("axis").unwrap_or(1) {
        axis if usize::try_from(axis) == Ok(shape.len()) => shape.len(),
        axis => call.axis(axis, shape.len().max(1))?.min(shape.len()),
    };
    let made = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    let id = call.tape.view(call.id(0)?, &made)?;
    call.alike(id)
}

pub(crate) fn squeeze(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let axes: Vec<usize> = match call.list(1, "axes")? {
        Some(axes) => axes.iter().map(|axis| call.axis(*axis, shape.len())).collect::<Result<_, _>>()?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
    let made: Vec<usize> = kept.collect();
    let id = call.tape.view(call.id(0)?, &made)?;
    call.alike(id)
}

pub(crate) fn unsqueeze(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let axes = call.list(1, "axes")?.ok_or(OpError::Operand { slot: 1, expected: "axes" })?;
    let rank = shape.len() + axes.len();
    let axes: Vec<usize> = axes.iter().map(|axis| call.axis(*axis, rank)).collect::<Result<_, _>>()?;
    let mut rest = shape.iter();
    let made: Vec<usize> = (0..rank)
        .map(|axis| if axes.contains(&axis) { 1 } else { rest.next().copied().unwrap_or(1) })
        .collect();
    let id = call.tape.view(call.id(0)?, &made)?;
    call.alike(id)
}

pub(crate) fn transpose(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let rank = call.shape(0)?.len();
    let order: Vec<usize> = match call.node.ints("perm") {
        Some(order) => order.to_vec().iter().map(|axis| call.axis(*axis, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let id = call.tape.transpose(x, &order)?;
    let swaps_last = rank >= 2
        && order.iter().take(rank - 2).copied().eq(0..rank - 2)
        && order[rank - 2..] == [rank - 1, rank - 2];
    if swaps_last && id != x {
        call.turned.insert(id, x);
    }
    call.alike(id)
}

pub(crate) fn concat(call: &mut Call<'_>) -> Made {
    let parts: Vec<_> = (0..call.operands.len()).map(|slot| call.id(slot)).collect::<Result<_, _>>()?;
    let rank = call.shape(0)?.len();
    let axis = call.axis(call.node.int("axis").unwrap_or(1), rank)?;
    let id = call.tape.join(&parts, axis)?;
    call.alike(id)
}

pub(crate) fn split(call: &mut Call<'_>) -> Made {
    let x = call.value(0)?;
    let shape = call.shape(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(0), shape.len())?;
    let parts = match call.list(1, "split")? {
        Some(parts) => parts
            .iter()
            .map(|part| {
                usize::try_from(*part).map_err(|_below| OpError::setting(format!("a part of {part}")))
            })
            .collect::<Result<Vec<usize>, _>>()?,
        None => {
            let count = call.node.outputs.len().max(1);
            let each = shape[axis].div_ceil(count);
            (0..count).map(|place| each.min(shape[axis].saturating_sub(place * each))).collect()
        }
    };
    let mut start = 0;
    let mut made = Vec::with_capacity(parts.len());
    for length in parts {
        made.push(Value { id: call.tape.part(x.id, axis, start, length)?, kind: x.kind });
        start += length;
    }
    Ok(made)
}

pub(crate) fn expand(call: &mut Call<'_>) -> Made {
    let x = call.value(0)?;
    let (mine, wanted) = (call.shape(0)?, sizes(call, 1)?);
    let rank = mine.len().max(wanted.len());
    let size =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let made: Vec<usize> = (0..rank)
        .map(|axis| match (size(&mine, axis), size(&wanted, axis)) {
            (mine, 1) => mine,
            (_, wanted) => wanted,
        })
        .collect();
    let id = call.tape.expand(x.id, &made)?;
    call.alike(id)
}
