//! Scalers of scikit-learn's exports, and the rounding of quantised models.

use shoal_grad::Id;
use shoal_grad::kernel::binary::{Binary, Fold};
use shoal_grad::kernel::unary::Unary;
use shoal_onnx::Attribute;

use super::{Call, Kind, Made, OpError, Value};

/// `(x - offset) · scale`.
pub(crate) fn scaler(call: &mut Call<'_>) -> Made {
    let list = |name: &str| match call.node.attributes.get(name) {
        Some(Attribute::Floats(values)) => values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>(),
        _ => Vec::new(),
    };
    let (offset, scale) = (list("offset"), list("scale"));
    let mut x = call.id(0)?;
    if !offset.is_empty() {
        let offset = call.tape.stored(&[offset.len()], offset)?;
        x = call.tape.binary(Binary::Sub, x, offset)?;
    }
    if !scale.is_empty() {
        let scale = call.tape.stored(&[scale.len()], scale)?;
        x = call.tape.mul(x, scale)?;
    }
    Call::floats(x)
}

/// Rows divided by their largest size, sum of sizes, or length.
pub(crate) fn normalizer(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let axis = call.shape(0)?.len().saturating_sub(1);
    let sum = Fold::Sum { scale: 1.0 };
    let norm = match call.node.text("norm").unwrap_or("MAX") {
        "MAX" => call.tape.reduce(Fold::Max, x, &[axis])?,
        "L1" => {
            let sizes = call.tape.unary(Unary::Abs, x)?;
            call.tape.reduce(sum, sizes, &[axis])?
        }
        "L2" => {
            let squares = call.tape.unary(Unary::Power { exponent: 2.0 }, x)?;
            let sum = call.tape.reduce(sum, squares, &[axis])?;
            call.tape.unary(Unary::Sqrt, sum)?
        }
        other => return Err(OpError::setting(format!("norm is `{other}`"))),
    };
    Call::floats(call.tape.binary(Binary::Div, x, norm)?)
}

/// A scale or zero point of one number, or of one for each index of the axis.
fn along(call: &mut Call<'_>, slot: usize) -> Result<Option<Id>, OpError> {
    let Some(value) = call.maybe(slot) else { return Ok(None) };
    let shape = call.shape(0)?;
    let count = call.tape.len(value.id);
    if count == 1 {
        return Ok(Some(call.tape.view(value.id, &[])?));
    }
    let axis = call.axis(call.node.int("axis").unwrap_or(1), shape.len())?;
    let mut of_axis = vec![1; shape.len()];
    of_axis[axis] = count;
    Ok(Some(call.tape.view(value.id, &of_axis)?))
}

/// `(x - zero point) · scale`.
pub(crate) fn dequantize(call: &mut Call<'_>) -> Made {
    let mut x = call.id(0)?;
    if let Some(zero) = along(call, 2)? {
        x = call.tape.binary(Binary::Sub, x, zero)?;
    }
    let scale = along(call, 1)?.ok_or(OpError::Operand { slot: 1, expected: "a scale" })?;
    Call::floats(call.tape.mul(x, scale)?)
}

/// Rounds to steps of the scale and cuts to eight bits. No gradient passes: what is before it cannot be
/// trained.
pub(crate) fn quantize(call: &mut Call<'_>) -> Made {
    /// ONNX's number of the signed kind of eight bits.
    const SIGNED: i64 = 3;
    let zero_is_signed = call.maybe(2).is_some_and(|zero| zero.kind == Kind::SignedByte);
    let scale = along(call, 1)?.ok_or(OpError::Operand { slot: 1, expected: "a scale" })?;
    let x = call.tape.binary(Binary::Div, call.id(0)?, scale)?;
    let mut steps = call.tape.unary(Unary::Round, x)?;
    let is_signed = zero_is_signed || call.node.int("output_dtype") == Some(SIGNED);
    if let Some(zero) = along(call, 2)? {
        steps = call.tape.add(steps, zero)?;
    }
    let (low, high) = if is_signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    let id = call.tape.unary(Unary::Clip { low, high }, steps)?;
    Ok(vec![Value { id, kind: Kind::Whole }])
}
