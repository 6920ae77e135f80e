//! Functions of one number.

use shoal_grad::kernel::binary::Binary;
use shoal_grad::kernel::unary::Unary;

use super::{Call, Kind, Made, OpError, Value};

/// Those without settings.
pub(crate) fn plain(call: &mut Call<'_>) -> Made {
    let function = match call.node.op.as_str() {
        "Abs" => Unary::Abs,
        "Acos" => Unary::Acos,
        "Acosh" => Unary::Acosh,
        "Asin" => Unary::Asin,
        "Asinh" => Unary::Asinh,
        "Atan" => Unary::Atan,
        "Atanh" => Unary::Atanh,
        "Ceil" => Unary::Ceil,
        "Cos" => Unary::Cos,
        "Cosh" => Unary::Cosh,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Floor" => Unary::Floor,
        "HardSwish" => Unary::HardSwish,
        "IsNaN" => Unary::IsNan,
        "Log" => Unary::Log,
        "Mish" => Unary::Mish,
        "Neg" => Unary::Neg,
        "Not" => Unary::Not,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "Round" => Unary::Round,
        "Sigmoid" => Unary::Sigmoid,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Sinh" => Unary::Sinh,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Sqrt" => Unary::Sqrt,
        "Tan" => Unary::Tan,
        "Tanh" => Unary::Tanh,
        _ => return Err(OpError::Unknown),
    };
    let x = call.value(0)?;
    let id = call.tape.unary(function, x.id)?;
    let kind = if matches!(function, Unary::Not | Unary::IsNan) { Kind::Truth } else { x.kind };
    Ok(vec![Value { id, kind }])
}

/// Those with settings, and the standard's values where they are left out.
pub(crate) fn with_settings(call: &mut Call<'_>) -> Made {
    let function = match call.node.op.as_str() {
        "Celu" => Unary::Celu { alpha: call.float("alpha", 1.0) },
        "Elu" => Unary::Elu { alpha: call.float("alpha", 1.0) },
        "HardSigmoid" => {
            Unary::HardSigmoid { alpha: call.float("alpha", 0.2), beta: call.float("beta", 0.5) }
        }
        "LeakyRelu" => Unary::LeakyRelu { slope: call.float("alpha", 0.01) },
        "Selu" => Unary::Selu {
            alpha: call.float("alpha", 1.673_263_192_176_818_8),
            gamma: call.float("gamma", 1.050_701_022_148_132_3),
        },
        "Shrink" => Unary::Shrink { lambda: call.float("lambd", 0.5), bias: call.float("bias", 0.0) },
        "Swish" => Unary::Swish { alpha: call.float("alpha", 1.0) },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: call.float("alpha", 1.0) },
        _ => return Err(OpError::Unknown),
    };
    let x = call.id(0)?;
    Call::floats(call.tape.unary(function, x)?)
}

pub(crate) fn gelu(call: &mut Call<'_>) -> Made {
    let function = match call.node.text("approximate") {
        None | Some("none") => Unary::Gelu,
        Some("tanh") => Unary::GeluTanh,
        Some(other) => return Err(OpError::setting(format!("approximate is `{other}`"))),
    };
    let x = call.id(0)?;
    Call::floats(call.tape.unary(function, x)?)
}

/// Bounds are settings up to opset 6 and operands after it.
pub(crate) fn clip(call: &mut Call<'_>) -> Made {
    let is_known = |slot: usize| call.maybe(slot).is_none_or(|bound| call.tape.constant(bound.id).is_some());
    if !is_known(1) || !is_known(2) {
        // Bounds that are trained, or computed.
        let mut id = call.id(0)?;
        for (slot, function) in [(1, Binary::Max), (2, Binary::Min)] {
            if let Some(bound) = call.maybe(slot) {
                id = call.tape.binary(function, id, bound.id)?;
            }
        }
        return call.alike(id);
    }
    let low = match call.number(1)? {
        Some(low) => low,
        None => call.float("min", f64::NEG_INFINITY),
    };
    let high = match call.number(2)? {
        Some(high) => high,
        None => call.float("max", f64::INFINITY),
    };
    let x = call.id(0)?;
    let id = call.tape.unary(Unary::Clip { low, high }, x)?;
    call.alike(id)
}
