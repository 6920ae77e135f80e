//! Axes folded into one number each, and running sums.

use shoal_grad::Id;
use shoal_grad::kernel::binary::{Binary, Fold};
use shoal_grad::kernel::unary::Unary;

use super::{Call, Made, OpError};

const SUM: Fold = Fold::Sum { scale: 1.0 };

/// Axes are a setting in older sets of operators and an operand in newer ones.
pub(crate) fn reduce(call: &mut Call<'_>) -> Made {
    let x = call.id(0)?;
    let shape = call.shape(0)?;
    let axes: Vec<usize> = match call.list(1, "axes")? {
        Some(axes) if !axes.is_empty() => {
            axes.iter().map(|axis| call.axis(*axis, shape.len())).collect::<Result<_, _>>()?
        }
        _ if call.flag("noop_with_empty_axes", false) => return call.alike(x),
        _ => (0..shape.len()).collect(),
    };
    let folded = fold(call, x, &axes)?;
    if call.flag("keepdims", true) {
        return call.alike(folded);
    }
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
    let kept: Vec<usize> = kept.collect();
    let id = call.tape.view(folded, &kept)?;
    call.alike(id)
}

fn fold(call: &mut Call<'_>, x: Id, axes: &[usize]) -> Result<Id, OpError> {
    let count: usize = axes.iter().map(|axis| call.tape.shape(x)[*axis]).product();
    let tape = &mut *call.tape;
    let square = Unary::Power { exponent: 2.0 };
    Ok(match call.node.op.as_str() {
        "ReduceSum" => tape.reduce(SUM, x, axes)?,
        "ReduceMean" => tape.reduce(Fold::Sum { scale: 1.0 / count.max(1) as f64 }, x, axes)?,
        "ReduceMax" => tape.reduce(Fold::Max, x, axes)?,
        "ReduceMin" => tape.reduce(Fold::Min, x, axes)?,
        "ReduceProd" => tape.reduce(Fold::Product, x, axes)?,
        "ReduceL1" => {
            let sizes = tape.unary(Unary::Abs, x)?;
            tape.reduce(SUM, sizes, axes)?
        }
        "ReduceL2" => {
            let squares = tape.unary(square, x)?;
            let sum = tape.reduce(SUM, squares, axes)?;
            tape.unary(Unary::Sqrt, sum)?
        }
        "ReduceSumSquare" => {
            let squares = tape.unary(square, x)?;
            tape.reduce(SUM, squares, axes)?
        }
        "ReduceLogSum" => {
            let sum = tape.reduce(SUM, x, axes)?;
            tape.unary(Unary::Log, sum)?
        }
        "ReduceLogSumExp" => log_sum_exp(call, x, axes)?,
        _ => return Err(OpError::Unknown),
    })
}

/// The largest is taken out first, so that nothing overflows; its own gradient cancels.
fn log_sum_exp(call: &mut Call<'_>, x: Id, axes: &[usize]) -> Result<Id, OpError> {
    let tape = &mut *call.tape;
    let most = tape.reduce(Fold::Max, x, axes)?;
    let below = tape.binary(Binary::Sub, x, most)?;
    let powers = tape.unary(Unary::Exp, below)?;
    let sum = tape.reduce(SUM, powers, axes)?;
    let log = tape.unary(Unary::Log, sum)?;
    Ok(tape.add(log, most)?)
}

/// `CumSum` along an axis known beforehand.
pub(crate) fn running_sum(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let axis = call.ints(1)?.and_then(|list| list.first().copied());
    let axis = call.axis(axis.ok_or(OpError::Operand { slot: 1, expected: "an axis" })?, shape.len())?;
    let (from_end, before) = (call.flag("reverse", false), call.flag("exclusive", false));
    let id = call.tape.running_sum(call.id(0)?, axis, from_end, before)?;
    call.alike(id)
}
