//! Products of matrices.

use shoal_grad::Id;

use super::{Call, Made, OpError};

/// An operand, or what it is the transpose of.
fn unturned(call: &Call<'_>, id: Id) -> (Id, bool) {
    call.turned.get(&id).map_or((id, false), |source| (*source, true))
}

/// `alpha · a · b + beta · c`.
pub(crate) fn gemm(call: &mut Call<'_>) -> Made {
    let (a, b) = (call.id(0)?, call.id(1)?);
    let turned = (call.flag("transA", false), call.flag("transB", false));
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    let columns = call.tape.shape(b).get(usize::from(!turned.1)).copied().unwrap_or(0);
    let Some(c) = call.maybe(2).filter(|_| beta != 0.0) else {
        return Call::floats(call.tape.product((a, turned.0), (b, turned.1), alpha, None)?);
    };
    let c = call.tape.affine(c.id, beta, 0.0)?;
    if matches!(call.tape.shape(c), [width] | [1, width] if *width == columns) {
        let bias = call.tape.view(c, &[columns])?;
        return Call::floats(call.tape.product((a, turned.0), (b, turned.1), alpha, Some(bias))?);
    }
    let product = call.tape.product((a, turned.0), (b, turned.1), alpha, None)?;
    Call::floats(call.tape.add(product, c)?)
}

/// NumPy's product: of the last two axes, the others broadcast; a tensor of one axis is a row or a column.
pub(crate) fn matmul(call: &mut Call<'_>) -> Made {
    let (mut a, mut b) = (unturned(call, call.id(0)?), unturned(call, call.id(1)?));
    let (shape_a, shape_b) = (call.tape.shape(a.0).to_vec(), call.tape.shape(b.0).to_vec());
    let (row, column) = match (shape_a.as_slice(), shape_b.as_slice()) {
        ([], _) | (_, []) => return Err(OpError::setting("a single number has no product of matrices")),
        ([width], [_]) => (Some([1, *width]), Some([*width, 1])),
        ([width], _) => (Some([1, *width]), None),
        (_, [width]) => (None, Some([*width, 1])),
        _ => (None, None),
    };
    if let Some(shape) = row {
        a.0 = call.tape.view(a.0, &shape)?;
    }
    if let Some(shape) = column {
        b.0 = call.tape.view(b.0, &shape)?;
    }
    let mut made = call.tape.product(a, b, 1.0, None)?;
    let mut shape = call.tape.shape(made).to_vec();
    let rank = shape.len();
    if row.is_some() {
        shape.remove(rank - 2);
    }
    if column.is_some() {
        shape.pop();
    }
    made = call.tape.view(made, &shape)?;
    Call::floats(made)
}
