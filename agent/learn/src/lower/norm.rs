//! Normalisations and Softmax.

use shoal_grad::Id;
use shoal_grad::kernel::binary::{Binary, Fold};
use shoal_grad::kernel::unary::Unary;

use super::conv::planes;
use super::{BatchNorm, Call, Made, OpError, Statistics};

/// Every operator here has this for a variance of nought, when it says nothing.
const EPSILON: f64 = 1e-5;

/// Before opset 13 all axes from `axis` on are one.
pub(crate) fn softmax(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let is_logarithm = call.node.op == "LogSoftmax";
    let joins = call.opset < 13;
    let axis = call.axis(call.node.int("axis").unwrap_or(if joins { 1 } else { -1 }), shape.len())?;
    let outer = shape[..axis].iter().product();
    let rest: usize = shape[axis + 1..].iter().product();
    let sizes = if joins { [outer, shape[axis] * rest, 1] } else { [outer, shape[axis], rest] };
    Call::floats(call.tape.softmax(call.id(0)?, sizes, is_logarithm)?)
}

/// By stored statistics, `(x - mean) / √(variance + ε) · scale + shift`, or by those of the batch.
pub(crate) fn batch(call: &mut Call<'_>) -> Made {
    let [x, scale, shift, mean, variance] = [call.id(0)?, call.id(1)?, call.id(2)?, call.id(3)?, call.id(4)?];
    let epsilon = call.float("epsilon", EPSILON);
    if !call.flag("training_mode", false) && call.batch_norm == BatchNorm::AsStored {
        let inverse = call.tape.affine(variance, 1.0, epsilon)?;
        let inverse = call.tape.unary(Unary::Power { exponent: -0.5 }, inverse)?;
        let slope = call.tape.mul(scale, inverse)?;
        let moved = call.tape.mul(mean, slope)?;
        let offset = call.tape.binary(Binary::Sub, shift, moved)?;
        return Call::floats(call.tape.channels(x, slope, offset)?);
    }
    let shape = call.shape(0)?;
    let (batch, channels, plane) = planes(&shape)?;
    let normalised = call.tape.normalise(x, [batch, channels, plane.iter().product()], epsilon)?;
    let momentum = call.float("momentum", 0.9);
    for (slot, value) in [(3, normalised.mean), (4, normalised.variance)] {
        let name = call.node.inputs[slot].clone();
        call.statistics.push(Statistics { name, value, momentum });
    }
    Call::floats(call.tape.channels(normalised.y, scale, shift)?)
}

/// Over each plane of each row.
pub(crate) fn instance(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let (batch, channels, plane) = planes(&shape)?;
    let epsilon = call.float("epsilon", EPSILON);
    let sizes = [1, batch * channels, plane.iter().product()];
    let normalised = call.tape.normalise(call.id(0)?, sizes, epsilon)?;
    Call::floats(call.tape.channels(normalised.y, call.id(1)?, call.id(2)?)?)
}

/// Over groups of channels; opset 18 has one scale for each group, 21 one for each channel.
pub(crate) fn group(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let (batch, channels, plane) = planes(&shape)?;
    let groups = call.node.int("num_groups").and_then(|groups| usize::try_from(groups).ok()).unwrap_or(0);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(OpError::setting(format!("{groups} groups of {channels} channels")));
    }
    let inner = channels / groups * plane.iter().product::<usize>();
    let epsilon = call.float("epsilon", EPSILON);
    let normalised = call.tape.normalise(call.id(0)?, [1, batch * groups, inner], epsilon)?;
    let (scale, shift) = (call.id(1)?, call.id(2)?);
    let view = if call.tape.len(scale) == channels { shape.clone() } else { vec![batch, groups, inner] };
    let y = call.tape.view(normalised.y, &view)?;
    let y = call.tape.channels(y, scale, shift)?;
    Call::floats(call.tape.view(y, &shape)?)
}

/// Over all axes from `axis` on.
pub(crate) fn layer(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let shape = call.shape(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), shape.len())?;
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let epsilon = call.float("epsilon", EPSILON);
    let normalised = call.tape.normalise(x, [1, outer, inner], epsilon)?;
    let scale = call.id(1)?;
    if call.tape.len(scale) != inner {
        let y = call.tape.mul(normalised.y, scale)?;
        let Some(shift) = call.maybe(2) else { return Call::floats(y) };
        return Call::floats(call.tape.add(y, shift.id)?);
    }
    let shift = match call.maybe(2) {
        Some(shift) => shift.id,
        None => call.tape.filled(&[inner], |_| 0.0)?,
    };
    let rows = call.tape.view(normalised.y, &[outer, inner])?;
    let rows = call.tape.channels(rows, scale, shift)?;
    Call::floats(call.tape.view(rows, &shape)?)
}

/// `x / √(mean of x² + ε) · scale`, over all axes from `axis` on.
pub(crate) fn rms(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let shape = call.shape(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), shape.len())?;
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let epsilon = call.float("epsilon", EPSILON);
    let inverse = inverse_root(call, x, &axes, epsilon)?;
    let y = call.tape.mul(x, inverse)?;
    Call::floats(call.tape.mul(y, call.id(1)?)?)
}

/// `1 / √(mean of x² + ε)`.
fn inverse_root(call: &mut Call<'_>, x: Id, axes: &[usize], epsilon: f64) -> Result<Id, OpError> {
    let count: usize = axes.iter().map(|axis| call.tape.shape(x)[*axis]).product();
    let squares = call.tape.unary(Unary::Power { exponent: 2.0 }, x)?;
    let mean = call.tape.reduce(Fold::Sum { scale: 1.0 / count.max(1) as f64 }, squares, axes)?;
    let shifted = call.tape.affine(mean, 1.0, epsilon)?;
    Ok(call.tape.unary(Unary::Power { exponent: -0.5 }, shifted)?)
}

/// Divides by the sum of sizes or the length, along one axis.
pub(crate) fn lp(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let rank = call.shape(0)?.len();
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), rank)?;
    let sum = Fold::Sum { scale: 1.0 };
    let norm = match call.node.int("p").unwrap_or(2) {
        1 => {
            let sizes = call.tape.unary(Unary::Abs, x)?;
            call.tape.reduce(sum, sizes, &[axis])?
        }
        2 => {
            let squares = call.tape.unary(Unary::Power { exponent: 2.0 }, x)?;
            let sum = call.tape.reduce(sum, squares, &[axis])?;
            call.tape.unary(Unary::Sqrt, sum)?
        }
        p => return Err(OpError::setting(format!("p is {p}, 1 or 2 are normed by"))),
    };
    Call::floats(call.tape.binary(Binary::Div, x, norm)?)
}

/// `(x - mean) / (deviation + 1e-9)` over the given axes.
pub(crate) fn mean_variance(call: &mut Call<'_>) -> Made {
    /// What the standard's function adds to the deviation.
    const EPSILON: f64 = 1e-9;
    let x = call.id(0)?;
    let shape = call.shape(0)?;
    let axes: Vec<usize> = match call.node.ints("axes") {
        Some(axes) => {
            axes.to_vec().iter().map(|axis| call.axis(*axis, shape.len())).collect::<Result<_, _>>()?
        }
        None => [0, 2, 3].into_iter().filter(|axis| *axis < shape.len()).collect(),
    };
    let count: usize = axes.iter().map(|axis| shape[*axis]).product();
    let mean_of = Fold::Sum { scale: 1.0 / count.max(1) as f64 };
    let mean = call.tape.reduce(mean_of, x, &axes)?;
    let centred = call.tape.binary(Binary::Sub, x, mean)?;
    let squares = call.tape.unary(Unary::Power { exponent: 2.0 }, centred)?;
    let variance = call.tape.reduce(mean_of, squares, &axes)?;
    let deviation = call.tape.unary(Unary::Sqrt, variance)?;
    let deviation = call.tape.affine(deviation, 1.0, EPSILON)?;
    Call::floats(call.tape.binary(Binary::Div, centred, deviation)?)
}

/// `LRN`: each channel divided by a power of the squares of those near it.
pub(crate) fn response(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let shape = call.shape(0)?;
    let (batch, channels, plane) = planes(&shape)?;
    let size = call.node.int("size").and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| OpError::setting("size is left out"))?;
    let (alpha, beta, bias) = (call.float("alpha", 1e-4), call.float("beta", 0.75), call.float("bias", 1.0));
    let squares = call.tape.unary(Unary::Power { exponent: 2.0 }, x)?;
    let inner: usize = plane.iter().product();
    let squares = call.tape.view(squares, &[batch, channels, inner])?;
    let (before, all) = ((size - 1) / 2, |count: usize| (0..count).map(Some).collect::<Vec<_>>());
    call.tape.may_walk(&[batch, channels, inner])?;
    let mut sum = None;
    // A window wider than the channels sees nothing on either side of them.
    for offset in (before + 1).saturating_sub(channels)..size.min(before + channels) {
        let near = (0..channels).map(|at| (at + offset).checked_sub(before).filter(|at| *at < channels));
        let walk = [(0, all(batch)), (1, near.collect()), (2, all(inner))];
        let moved = call.tape.take(squares, &walk, 0.0)?;
        sum = Some(match sum {
            None => moved,
            Some(sum) => call.tape.add(sum, moved)?,
        });
    }
    let sum = call.tape.view(sum.unwrap_or(squares), &shape)?;
    let scaled = call.tape.affine(sum, alpha / size as f64, bias)?;
    let power = call.tape.unary(Unary::Power { exponent: -beta }, scaled)?;
    Call::floats(call.tape.mul(x, power)?)
}
