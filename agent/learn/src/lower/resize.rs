//! Planes made larger or smaller, and blocks moved between planes and channels.

use shoal_grad::Id;

use super::{Call, Made, OpError};

/// `Resize` and `Upsample` to sizes known beforehand, by the nearest element or linearly.
pub(crate) fn resize(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let is_old = call.node.op == "Upsample" || call.opset < 11;
    let scales = floats(call, if is_old { 1 } else { 2 })?;
    let wanted = if is_old { None } else { call.ints(3)?.filter(|sizes| !sizes.is_empty()) };
    let axes: Vec<usize> = match call.node.ints("axes") {
        Some(axes) => {
            axes.to_vec().iter().map(|axis| call.axis(*axis, shape.len())).collect::<Result<_, _>>()?
        }
        None => (0..shape.len()).collect(),
    };
    if call.node.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch")
        || call.flag("antialias", false)
    {
        return Err(OpError::setting("antialias and keep_aspect_ratio_policy are not trained through"));
    }
    let mut id = call.id(0)?;
    for (place, axis) in axes.iter().enumerate() {
        let size = shape[*axis];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked by the tape when it is too large"
        )]
        let (made, scale) = match (&wanted, scales.get(place)) {
            (Some(sizes), _) => {
                let made = sizes.get(place).and_then(|made| usize::try_from(*made).ok());
                let made = made.ok_or_else(|| OpError::setting("sizes for another number of axes"))?;
                (made, made as f64 / size.max(1) as f64)
            }
            (None, Some(scale)) => ((size as f64 * scale).floor() as usize, *scale),
            (None, None) => return Err(OpError::setting("neither scales nor sizes are known beforehand")),
        };
        if made != size || (scale - 1.0).abs() > f64::EPSILON {
            id = along(call, id, *axis, made, scale, is_old)?;
        }
    }
    call.alike(id)
}

fn floats(call: &Call<'_>, slot: usize) -> Result<Vec<f64>, OpError> {
    let Some(value) = call.maybe(slot) else { return Ok(Vec::new()) };
    let values =
        call.tape.constant(value.id).ok_or(OpError::Operand { slot, expected: "scales known beforehand" })?;
    Ok(values.to_vec())
}

/// One axis resized.
fn along(
    call: &mut Call<'_>,
    x: Id,
    axis: usize,
    made: usize,
    scale: f64,
    is_old: bool,
) -> Result<Id, OpError> {
    let shape = call.tape.shape(x).to_vec();
    let size = shape[axis];
    let made_sizes: Vec<usize> =
        (0..shape.len()).map(|at| if at == axis { made } else { shape[at] }).collect();
    call.tape.may_walk(&made_sizes)?;
    if size == 0 && made > 0 {
        return Err(OpError::setting(format!("axis {axis} is empty and cannot be resized to {made}")));
    }
    let mode = call.node.text("mode").unwrap_or("nearest");
    let default = if is_old { "asymmetric" } else { "half_pixel" };
    let transform = call.node.text("coordinate_transformation_mode").unwrap_or(default).to_owned();
    let source = |at: usize| -> Result<f64, OpError> {
        let at = at as f64;
        Ok(match transform.as_str() {
            "asymmetric" => at / scale,
            "half_pixel" => (at + 0.5) / scale - 0.5,
            "pytorch_half_pixel" if made > 1 => (at + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if made > 1 => at * (size as f64 - 1.0) / (made as f64 - 1.0),
            "align_corners" => 0.0,
            "half_pixel_symmetric" => {
                let adjusted = made as f64 / (scale * size as f64);
                let offset = size as f64 / 2.0 * (1.0 - adjusted);
                offset + (at + 0.5) / scale - 0.5
            }
            other => return Err(OpError::setting(format!("coordinate_transformation_mode is `{other}`"))),
        })
    };
    let points: Vec<f64> = (0..made).map(source).collect::<Result<_, _>>()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to the axis")]
    let inside = |at: f64| Some(at.clamp(0.0, size.saturating_sub(1) as f64) as usize);
    let walk = |indices: Vec<Option<usize>>| {
        let mut walk: Vec<(usize, Vec<Option<usize>>)> =
            shape.iter().enumerate().map(|(axis, size)| (axis, (0..*size).map(Some).collect())).collect();
        walk[axis].1 = indices;
        walk
    };
    match mode {
        "nearest" => {
            let rounding =
                call.node.text("nearest_mode").unwrap_or(if is_old { "floor" } else { "round_prefer_floor" });
            let round = |at: f64| match rounding {
                "floor" => at.floor(),
                "ceil" => at.ceil(),
                "round_prefer_ceil" => (at + 0.5).floor(),
                _ => (at - 0.5).ceil(),
            };
            Ok(call.tape.take(x, &walk(points.iter().map(|at| inside(round(*at))).collect()), 0.0)?)
        }
        "linear" | "bilinear" => {
            let low = call.tape.take(x, &walk(points.iter().map(|at| inside(at.floor())).collect()), 0.0)?;
            let high =
                call.tape.take(x, &walk(points.iter().map(|at| inside(at.floor() + 1.0)).collect()), 0.0)?;
            let mut of_axis = vec![1; shape.len()];
            of_axis[axis] = made;
            let near: Vec<f64> = points.iter().map(|at| at - at.floor()).collect();
            let far: Vec<f64> = near.iter().map(|share| 1.0 - share).collect();
            let (near, far) = (call.tape.stored(&of_axis, near)?, call.tape.stored(&of_axis, far)?);
            let (high, low) = (call.tape.mul(high, near)?, call.tape.mul(low, far)?);
            Ok(call.tape.add(low, high)?)
        }
        other => Err(OpError::setting(format!("mode `{other}` is not trained through"))),
    }
}

fn block(call: &Call<'_>) -> Result<(usize, [usize; 4]), OpError> {
    let shape = call.shape(0)?;
    let block =
        call.node.int("blocksize").and_then(|block| usize::try_from(block).ok()).filter(|block| *block > 0);
    let most = block.and_then(|block| block.checked_mul(block));
    match (block, shape.as_slice()) {
        // Blocks of more elements than there are make sizes that cannot be counted.
        (Some(block), &[n, c, h, w]) if most.is_some_and(|most| most <= (c * h * w).max(1)) => {
            Ok((block, [n, c, h, w]))
        }
        _ => Err(OpError::setting(format!("no blocks of sizes {shape:?}"))),
    }
}

pub(crate) fn depth_to_space(call: &mut Call<'_>) -> Made {
    let (b, [n, c, h, w]) = block(call)?;
    let rest = c / (b * b);
    let (view, order) = match call.node.text("mode").unwrap_or("DCR") {
        "CRD" => ([n, rest, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        _ => ([n, b, b, rest, h, w], [0, 3, 4, 1, 5, 2]),
    };
    let x = call.tape.view(call.id(0)?, &view)?;
    let x = call.tape.transpose(x, &order)?;
    Call::floats(call.tape.view(x, &[n, rest, h * b, w * b])?)
}

pub(crate) fn space_to_depth(call: &mut Call<'_>) -> Made {
    let (b, [n, c, h, w]) = block(call)?;
    let x = call.tape.view(call.id(0)?, &[n, c, h / b, b, w / b, b])?;
    let x = call.tape.transpose(x, &[0, 3, 5, 1, 2, 4])?;
    Call::floats(call.tape.view(x, &[n, c * b * b, h / b, w / b])?)
}
