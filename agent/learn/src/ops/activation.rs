//! Activations, with PyTorch's gradients at the kinks: candle's own differ there.

use candle_core::Tensor;

use super::{Call, OpError};

/// What the slope of `LeakyRelu` is when the file does not say.
const LEAKY_SLOPE: f32 = 0.01;

/// Relu and LeakyRelu; the gradient at zero is the lower one, where candle's Relu takes one.
pub(super) fn rectify(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let below = match call.node.op.as_str() {
        "LeakyRelu" => x.affine(f64::from(call.node.float("alpha").unwrap_or(LEAKY_SLOPE)), 0.0)?,
        _ => x.zeros_like()?,
    };
    Ok(x.gt(0f32)?.where_cond(x, &below)?)
}

/// By the hyperbolic tangent: no overflow, and so no gradient that is not a number.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor, OpError> {
    Ok(x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)?)
}

/// Bounds as attributes (before operator set 11) or operands. The gradient is one on the bounds,
/// where candle's minimum and maximum would halve it.
pub(super) fn clip(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let low = call.scalar(1)?.or(call.node.float("min")).unwrap_or(f32::MIN);
    let high = call.scalar(2)?.or(call.node.float("max")).unwrap_or(f32::MAX);
    let bounded = x.detach().clamp(low, high)?;
    Ok(x.eq(&bounded)?.where_cond(x, &bounded)?)
}

/// The exact one, or the one by the hyperbolic tangent, from primitives: candle's backward of both
/// has coefficients of six digits.
pub(super) fn gelu(call: &Call<'_>) -> Result<Tensor, OpError> {
    let x = call.float(0)?;
    let inner = match call.node.text("approximate") {
        Some("tanh") => {
            let cubic = (x.sqr()? * x)?.affine(0.044_715, 0.0)?;
            (x + cubic)?.affine((2.0 / std::f64::consts::PI).sqrt(), 0.0)?.tanh()?
        }
        _ => x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?,
    };
    Ok((x.affine(0.5, 0.0)? * inner.affine(1.0, 1.0)?)?)
}
