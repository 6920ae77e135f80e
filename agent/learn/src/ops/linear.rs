//! Matrix products.

use candle_core::{D, Tensor};

use super::{Call, OpError};

/// `alpha · A' · B' + beta · C`.
pub(super) fn gemm(call: &Call<'_>) -> Result<Tensor, OpError> {
    let turned = |slot: usize, name: &str| -> Result<Tensor, OpError> {
        let tensor = call.float(slot)?;
        Ok(if call.node.int(name).unwrap_or(0) == 0 { tensor.clone() } else { tensor.t()? })
    };
    let (alpha, beta) = (call.node.float("alpha").unwrap_or(1.0), call.node.float("beta").unwrap_or(1.0));
    let product = turned(0, "transA")?.matmul(&turned(1, "transB")?)?;
    let product = scaled(product, alpha)?;
    match call.float_or_none(2)? {
        None => Ok(product),
        Some(added) => Ok(product.broadcast_add(&scaled(added.clone(), beta)?)?),
    }
}

fn scaled(tensor: Tensor, factor: f32) -> Result<Tensor, OpError> {
    if factor == 1.0 {
        return Ok(tensor);
    }
    Ok(tensor.affine(f64::from(factor), 0.0)?)
}

/// Matrix product as NumPy has it: a vector counts as one row, or one column.
pub(super) fn matmul(call: &Call<'_>) -> Result<Tensor, OpError> {
    let (a, b) = (call.float(0)?, call.float(1)?);
    let (is_row, is_column) = (a.rank() == 1, b.rank() == 1);
    let a = if is_row { a.unsqueeze(0)? } else { a.clone() };
    let b = if is_column { b.unsqueeze(1)? } else { b.clone() };
    let mut product = if b.rank() == 2 && a.rank() > 2 {
        // One product over all leading axes: no copy of the weights for each.
        let dims = a.dims().to_vec();
        let inner = dims[dims.len() - 1];
        let outer = a.elem_count().checked_div(inner).unwrap_or(0);
        let flat = a.reshape((outer, inner))?.matmul(&b)?;
        let mut shape = dims;
        let last = shape.len() - 1;
        shape[last] = b.dim(1)?;
        flat.reshape(shape)?
    } else {
        a.broadcast_matmul(&b)?
    };
    if is_column {
        product = product.squeeze(D::Minus1)?;
    }
    if is_row {
        let place = product.rank().saturating_sub(if is_column { 1 } else { 2 });
        product = product.squeeze(place)?;
    }
    Ok(product)
}
