//! Elements taken from places that are known beforehand, and rows looked up by data.

use super::{Call, Kind, Made, OpError, Value};

type Indices = Vec<Option<usize>>;

/// All axes as they are. Their indices take memory, so that is asked for.
fn whole(call: &Call<'_>, shape: &[usize]) -> Result<Vec<(usize, Indices)>, OpError> {
    call.tape.may_walk(shape)?;
    Ok(shape.iter().enumerate().map(|(axis, size)| (axis, (0..*size).map(Some).collect())).collect())
}

/// Since opset 10 starts, ends, axes and steps are operands.
pub(crate) fn slice(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let needed = |what, slot| OpError::Operand { slot, expected: what };
    let starts = call.list(1, "starts")?.ok_or_else(|| needed("starts", 1))?;
    let ends = call.list(2, "ends")?.ok_or_else(|| needed("ends", 2))?;
    let axes = match call.list(3, "axes")? {
        Some(axes) => axes,
        None => (0..i64::try_from(starts.len()).unwrap_or(0)).collect(),
    };
    let steps = call.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(OpError::setting("starts, ends, axes and steps differ in number"));
    }
    if let ([start], [end], [axis], [1]) = (&*starts, &*ends, &*axes, &*steps) {
        // One run along one axis needs no map.
        let axis = call.axis(*axis, shape.len())?;
        call.tape.may_walk(&shape[axis..=axis])?;
        let taken = indices(*start, *end, 1, shape[axis])?;
        let first = taken.first().copied().flatten().unwrap_or(0);
        let id = call.tape.part(call.id(0)?, axis, first, taken.len())?;
        return call.alike(id);
    }
    let mut walk = whole(call, &shape)?;
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = call.axis(*axis, shape.len())?;
        walk[axis].1 = indices(*start, *end, *step, shape[axis])?;
    }
    let id = call.tape.take(call.id(0)?, &walk, 0.0)?;
    call.alike(id)
}

fn indices(start: i64, end: i64, step: i64, size: usize) -> Result<Indices, OpError> {
    if step == 0 {
        return Err(OpError::setting("a step of 0"));
    }
    if size == 0 {
        return Ok(Vec::new());
    }
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let from_front = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (mut at, end) = (from_front(start).clamp(low.max(0), high), from_front(end).clamp(low, high));
    let mut made = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        made.push(usize::try_from(at).ok());
        at = at.saturating_add(step);
    }
    Ok(made)
}

/// By indices known beforehand along one axis, or by data.
pub(crate) fn gather(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(0), shape.len())?;
    let (table, at) = (call.value(0)?, call.value(1)?);
    if call.tape.constant(at.id).is_none() {
        if at.kind == Kind::Float {
            return Err(OpError::Operand { slot: 1, expected: "whole numbers" });
        }
        let id = call.tape.look_up(table.id, at.id, axis)?;
        return call.alike(id);
    }
    let places = call.ints(1)?.unwrap_or_default();
    let taken =
        places.iter().map(|place| call.axis(*place, shape[axis]).map(Some)).collect::<Result<_, _>>()?;
    let mut walk = whole(call, &shape)?;
    walk[axis].1 = taken;
    let made = [&shape[..axis], call.tape.shape(at.id), &shape[axis + 1..]].concat();
    let taken = call.tape.take(table.id, &walk, 0.0)?;
    let id = call.tape.view(taken, &made)?;
    call.alike(id)
}

/// `GatherElements` by indices known beforehand.
pub(crate) fn elements(call: &mut Call<'_>) -> Made {
    let (shape, made) = (call.shape(0)?, call.shape(1)?);
    let axis = call.axis(call.node.int("axis").unwrap_or(0), shape.len())?;
    let places = call.ints(1)?.ok_or(OpError::Operand { slot: 1, expected: "indices" })?;
    if made.len() != shape.len() {
        return Err(OpError::setting(format!("indices {made:?} for sizes {shape:?}")));
    }
    call.tape.may_map(&made)?;
    let mut map = Vec::with_capacity(places.len());
    for (place, index) in places.iter().enumerate() {
        let (mut rest, mut from, mut stride) = (place, 0, 1);
        for at in (0..shape.len()).rev() {
            let mine = rest % made[at];
            rest /= made[at];
            from += stride * if at == axis { call.axis(*index, shape[axis])? } else { mine };
            stride *= shape[at];
        }
        map.push(from);
    }
    let id = call.tape.take_elements(call.id(0)?, &map, &made)?;
    call.alike(id)
}

pub(crate) fn tile(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let repeats = super::shape::sizes(call, 1)?;
    if repeats.len() != shape.len() {
        return Err(OpError::setting(format!("repeats {repeats:?} for sizes {shape:?}")));
    }
    let made: Vec<usize> =
        shape.iter().zip(&repeats).map(|(size, repeats)| size.saturating_mul(*repeats)).collect();
    call.tape.may_walk(&made)?;
    let mut walk = whole(call, &shape)?;
    for ((_, indices), repeats) in walk.iter_mut().zip(repeats) {
        *indices = indices.repeat(repeats);
    }
    let id = call.tape.take(call.id(0)?, &walk, 0.0)?;
    call.alike(id)
}

/// Adds a border, or cuts one off where it is below nought.
pub(crate) fn pad(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let pads = call.list(1, "pads")?.ok_or(OpError::Operand { slot: 1, expected: "pads" })?;
    let moving = call.maybe(2).filter(|value| call.tape.constant(value.id).is_none());
    let fill = match moving {
        Some(_) => 0.0,
        None => call.number(2)?.unwrap_or_else(|| call.float("value", 0.0)),
    };
    let axes: Vec<usize> = match call.ints(3)? {
        Some(axes) => axes.iter().map(|axis| call.axis(*axis, shape.len())).collect::<Result<_, _>>()?,
        None => (0..shape.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(OpError::setting(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mode = call.node.text("mode").unwrap_or("constant");
    let mut walk = whole(call, &shape)?;
    for (place, axis) in axes.iter().enumerate() {
        let size = i64::try_from(shape[*axis]).unwrap_or(i64::MAX);
        let (before, after) = (pads[place], pads[place + axes.len()]);
        let made = size.saturating_add(before).saturating_add(after).max(0);
        call.tape.may_walk(&[usize::try_from(made).unwrap_or(usize::MAX)])?;
        if mode != "constant" && size == 0 && made > 0 {
            return Err(OpError::setting(format!(
                "axis {axis} is empty: nothing is there for mode `{mode}`"
            )));
        }
        let source = |at: i64| -> Result<Option<usize>, OpError> {
            let inside = match mode {
                "constant" => return Ok(usize::try_from(at).ok().filter(|at| *at < shape[*axis])),
                "edge" => at.clamp(0, size - 1),
                "reflect" if size > 1 => {
                    let wave = at.rem_euclid(2 * (size - 1));
                    wave.min(2 * (size - 1) - wave)
                }
                "reflect" => 0,
                "wrap" => at.rem_euclid(size),
                other => return Err(OpError::setting(format!("mode is `{other}`"))),
            };
            Ok(usize::try_from(inside).ok())
        };
        walk[*axis].1 = (0..made).map(|at| source(at.saturating_sub(before))).collect::<Result<_, _>>()?;
    }
    let mut id = call.tape.take(call.id(0)?, &walk, fill)?;
    if let Some(value) = moving {
        // The border of a mask is where the value goes, which is trained or computed.
        let inside = call.tape.filled(&shape, |_| 0.0)?;
        let border = call.tape.take(inside, &walk, 1.0)?;
        let value = call.tape.view(value.id, &[])?;
        let value = call.tape.mul(border, value)?;
        id = call.tape.add(id, value)?;
    }
    call.alike(id)
}

/// Keeps the triangle above (or below) a diagonal; noughts elsewhere.
pub(crate) fn trilu(call: &mut Call<'_>) -> Made {
    let x = call.value(0)?;
    let shape = call.shape(0)?;
    let [.., rows, columns] = *shape.as_slice() else {
        return Err(OpError::setting("fewer than two axes have no triangle"));
    };
    let diagonal = call.ints(1)?.and_then(|list| list.first().copied()).unwrap_or(0);
    let is_upper = call.flag("upper", true);
    let signed = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
    let keeps = |row: usize, column: usize| {
        let over = signed(column) - signed(row);
        if is_upper { over >= diagonal } else { over <= diagonal }
    };
    let kept = |at: usize| f64::from(u8::from(keeps(at / columns, at % columns)));
    let mask = call.tape.filled(&[rows, columns], kept)?;
    let nought = call.tape.number(0.0)?;
    let id = call.tape.select(mask, x.id, nought)?;
    Ok(vec![Value { id, kind: x.kind }])
}

/// `GatherND` by indices known beforehand.
pub(crate) fn nd(call: &mut Call<'_>) -> Made {
    let (shape, of_indices) = (call.shape(0)?, call.shape(1)?);
    let places = call.ints(1)?.ok_or(OpError::Operand { slot: 1, expected: "indices" })?;
    let shared = call.node.int("batch_dims").and_then(|dims| usize::try_from(dims).ok()).unwrap_or(0);
    let Some((depth, outer)) = of_indices.split_last() else {
        return Err(OpError::setting("indices without axes"));
    };
    let axes = shared + depth;
    if axes > shape.len() || shared > outer.len() || *depth == 0 {
        return Err(OpError::setting(format!("indices {of_indices:?} for sizes {shape:?}")));
    }
    let slice: usize = shape[axes..].iter().product();
    let stacks: usize = shape[..shared].iter().product();
    let made = [outer, &shape[axes..]].concat();
    call.tape.may_map(&made)?;
    let per_stack = (places.len() / depth).checked_div(stacks).unwrap_or(0).max(1);
    let mut map = Vec::new();
    for (place, index) in places.chunks_exact(*depth).enumerate() {
        let mut from = place / per_stack;
        for (axis, at) in (shared..axes).zip(index) {
            from = from * shape[axis] + call.axis(*at, shape[axis])?;
        }
        map.extend((0..slice).map(|inner| from * slice + inner));
    }
    let id = call.tape.take_elements(call.id(0)?, &map, &made)?;
    call.alike(id)
}

#[cfg(test)]
mod tests {
    use super::indices;

    #[test]
    fn slices_are_pythons() {
        for (start, end, step, size, wanted) in [
            (0, i64::MAX, 1, 3, &[0usize, 1, 2][..]),
            (-2, -1, 1, 3, &[1]),
            (-1, i64::MIN, -1, 3, &[2, 1, 0]),
            (9, 0, -2, 4, &[3, 1]),
            (2, 1, 1, 3, &[]),
            (0, 5, 1, 0, &[]),
            (-1, i64::MIN, -1, 0, &[]),
        ] {
            let made = indices(start, end, step, size).unwrap();
            let wanted: Vec<Option<usize>> = wanted.iter().copied().map(Some).collect();
            assert_eq!(made, wanted, "{start}:{end}:{step} of {size}");
        }
    }
}
