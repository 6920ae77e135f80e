//! Normalisations, from primitives: candle's fused ones lose the gradient in silence.

use candle_core::Tensor;

use super::{Call, OpError, axis};

/// What ONNX takes for epsilon when the file does not say.
const EPSILON: f32 = 1e-5;

pub(super) fn softmax(call: &Call<'_>) -> Result<Tensor, OpError> {
    along(call, |x, axis| {
        let raised = shifted(x, axis)?.exp()?;
        raised.broadcast_div(&raised.sum_keepdim(axis)?)
    })
}

pub(super) fn log_softmax(call: &Call<'_>) -> Result<Tensor, OpError> {
    along(call, log_softmax_of)
}

/// The logarithm of the softmax along an axis.
pub(crate) fn log_softmax_of(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let shifted = shifted(x, axis)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(axis)?.log()?)
}

/// Less the largest, which takes part in no gradient.
fn shifted(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    x.broadcast_sub(&x.detach().max_keepdim(axis)?)
}

/// Before operator set 13, all axes from the given one on counted as one.
fn along(
    call: &Call<'_>,
    work: impl Fn(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let is_old = call.opset < 13;
    let axis = axis(call.node.int("axis").unwrap_or(if is_old { 1 } else { -1 }), x.rank())?;
    if !is_old || axis + 1 == x.rank() {
        return Ok(work(x, axis)?);
    }
    let outer: usize = x.dims()[..axis].iter().product();
    let inner: usize = x.dims()[axis..].iter().product();
    Ok(work(&x.reshape((outer, inner))?, 1)?.reshape(x.dims())?)
}

/// Batch normalisation with frozen statistics: `x · k + (bias − mean · k)`, `k = scale / √(var + ε)`.
pub(super) fn batch(call: &Call<'_>) -> Result<Tensor, OpError> {
    if call.node.int("training_mode").unwrap_or(0) != 0 {
        return Err(OpError::Setting { reason: "its statistics are not frozen".into() });
    }
    let x = call.float(0)?;
    let epsilon = f64::from(call.node.float("epsilon").unwrap_or(EPSILON));
    let mut shape = vec![1; x.rank()];
    if x.rank() < 2 {
        return Err(OpError::Operand { slot: 0, expected: "at least two axes" });
    }
    shape[1] = x.dim(1)?;
    let per_channel =
        |slot: usize| -> Result<Tensor, OpError> { Ok(call.float(slot)?.reshape(shape.as_slice())?) };
    let (scale, bias, mean, var) = (per_channel(1)?, per_channel(2)?, per_channel(3)?, per_channel(4)?);
    let factor = (scale * var.affine(1.0, epsilon)?.sqrt()?.recip()?)?;
    Ok(x.broadcast_sub(&mean)?.broadcast_mul(&factor)?.broadcast_add(&bias)?)
}
