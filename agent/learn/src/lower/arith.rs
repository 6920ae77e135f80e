//! Functions of several tensors, element by element.

use shoal_grad::kernel::binary::Binary;
use shoal_grad::kernel::unary::Unary;

use super::{Call, Kind, Made, OpError, Value};

pub(crate) fn binary(call: &mut Call<'_>) -> Made {
    let function = match call.node.op.as_str() {
        "Add" => Binary::Add,
        "And" => Binary::And,
        "Div" => Binary::Div,
        "Equal" => Binary::Equal,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Mod" if call.flag("fmod", false) => Binary::Rest,
        "Mod" => Binary::Mod,
        "Mul" => Binary::Mul,
        "Or" => Binary::Or,
        "Pow" => Binary::Pow,
        "Sub" => Binary::Sub,
        "Xor" => Binary::Xor,
        _ => return Err(OpError::Unknown),
    };
    let (a, b) = (call.value(0)?, call.value(1)?);
    let mut id = call.tape.binary(function, a.id, b.id)?;
    let kind = match function {
        Binary::Add | Binary::Div | Binary::Mod | Binary::Rest | Binary::Mul | Binary::Pow | Binary::Sub => {
            a.kind
        }
        _ => Kind::Truth,
    };
    if function == Binary::Div && kind == Kind::Whole {
        id = call.tape.unary(Unary::Trunc, id)?;
    }
    Ok(vec![Value { id, kind }])
}

/// `Max`, `Min`, `Sum` and `Mean` of any number of tensors.
pub(crate) fn many(call: &mut Call<'_>) -> Made {
    let (function, is_mean) = match call.node.op.as_str() {
        "Max" => (Binary::Max, false),
        "Min" => (Binary::Min, false),
        "Sum" => (Binary::Add, false),
        "Mean" => (Binary::Add, true),
        _ => return Err(OpError::Unknown),
    };
    let count = call.operands.len();
    let mut sum = call.id(0)?;
    for slot in 1..count {
        let next = call.id(slot)?;
        sum = call.tape.binary(function, sum, next)?;
    }
    if is_mean {
        sum = call.tape.affine(sum, 1.0 / count.max(1) as f64, 0.0)?;
    }
    call.alike(sum)
}

/// The slope is broadcast one way: to the input.
pub(crate) fn prelu(call: &mut Call<'_>) -> Made {
    let (x, slope) = (call.id(0)?, call.id(1)?);
    Call::floats(call.tape.binary(Binary::PRelu, x, slope)?)
}

/// `Where`.
pub(crate) fn choose(call: &mut Call<'_>) -> Made {
    let (condition, a, b) = (call.id(0)?, call.value(1)?, call.id(2)?);
    let id = call.tape.select(condition, a.id, b)?;
    Ok(vec![Value { id, kind: a.kind }])
}

/// To numbers of other widths nothing changes; fractions are cut off on the way to whole numbers.
pub(crate) fn cast(call: &mut Call<'_>) -> Made {
    /// Numbers of types in ONNX's own list.
    const FLOATS: [i64; 4] = [1, 10, 11, 16];
    const TRUTH: i64 = 9;
    const TEXT: i64 = 8;
    let x = call.value(0)?;
    if call.node.op == "CastLike" {
        return Ok(vec![Value { id: x.id, kind: call.value(1)?.kind }]);
    }
    let kind = match call.node.int("to") {
        Some(to) if FLOATS.contains(&to) => Kind::Float,
        Some(TRUTH) => Kind::Truth,
        Some(TEXT) | None => return Err(OpError::setting("it does not say to which kind of number")),
        Some(_) => Kind::Whole,
    };
    let id = match (x.kind, kind) {
        (Kind::Float, Kind::Whole) => call.tape.unary(Unary::Trunc, x.id)?,
        (Kind::Float | Kind::Whole | Kind::SignedByte, Kind::Truth) => {
            let not = call.tape.unary(Unary::Not, x.id)?;
            call.tape.unary(Unary::Not, not)?
        }
        _ => x.id,
    };
    Ok(vec![Value { id, kind }])
}
