//! The largest or the mean of windows.

use shoal_grad::kernel::binary::Fold;
use shoal_grad::kernel::pool::PoolShape;

use super::conv::{Windows, planes};
use super::{Call, Made, OpError};

/// `GlobalAveragePool` and `GlobalMaxPool`.
pub(crate) fn global(call: &mut Call<'_>) -> Made {
    let shape = call.shape(0)?;
    let (_, _, plane) = planes(&shape)?;
    let elements: usize = plane.iter().product();
    let fold = match call.node.op.as_str() {
        "GlobalMaxPool" => Fold::Max,
        _ => Fold::Sum { scale: 1.0 / elements.max(1) as f64 },
    };
    let axes: Vec<usize> = (2..shape.len()).collect();
    Call::floats(call.tape.reduce(fold, call.id(0)?, &axes)?)
}

pub(crate) fn max(call: &mut Call<'_>) -> Made {
    let (s, shape) = windows(call)?;
    Call::floats(call.tape.max_pool(s, call.id(0)?, &shape)?)
}

pub(crate) fn average(call: &mut Call<'_>) -> Made {
    let (s, shape) = windows(call)?;
    let counts_padding = call.flag("count_include_pad", false);
    Call::floats(call.tape.mean_pool(s, counts_padding, call.id(0)?, &shape)?)
}

fn windows(call: &Call<'_>) -> Result<(PoolShape, Vec<usize>), OpError> {
    let shape = call.shape(0)?;
    let (batch, channels, plane) = planes(&shape)?;
    let mut windows = Windows::read(call, plane, None)?;
    windows.auto_pad(call)?;
    let mut made = windows.made()?;
    if call.flag("ceil_mode", false) {
        for (axis, made) in made.iter_mut().enumerate() {
            let room = windows.padded(axis) - windows.span(axis);
            let more = room.div_ceil(windows.stride[axis]) + 1;
            // A window that begins in the padding at the end sees nothing.
            let begins = (more - 1).saturating_mul(windows.stride[axis]);
            *made =
                if begins < windows.size[axis].saturating_add(windows.pads[axis]) { more } else { more - 1 };
        }
    }
    let Windows { size, kernel, stride, dilation, pads, .. } = windows;
    let to = windows.shape(batch, channels, made);
    Ok((PoolShape { batch: batch * channels, size, kernel, stride, dilation, pads, made }, to))
}
