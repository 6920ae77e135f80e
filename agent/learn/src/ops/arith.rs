//! Arithmetic by element, with NumPy's broadcasting.

use candle_core::Tensor;

use super::{Call, OpError};

pub(super) fn binary(call: &Call<'_>) -> Result<Tensor, OpError> {
    let (a, b) = (call.float(0)?, call.float(1)?);
    Ok(match call.node.op.as_str() {
        "Add" => a.broadcast_add(b)?,
        "Sub" => a.broadcast_sub(b)?,
        "Mul" => a.broadcast_mul(b)?,
        "Div" => a.broadcast_div(b)?,
        _ => return Err(OpError::Unknown),
    })
}

pub(super) fn unary(call: &Call<'_>) -> Result<Tensor, OpError> {
    let a = call.float(0)?;
    Ok(match call.node.op.as_str() {
        "Neg" => a.neg()?,
        "Sqrt" => a.sqrt()?,
        _ => return Err(OpError::Unknown),
    })
}
