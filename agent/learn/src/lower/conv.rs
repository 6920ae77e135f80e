//! Convolutions over one or two axes.

use shoal_grad::kernel::conv::ConvShape;

use super::{Call, Made, OpError};

/// Settings of windows, for two axes; one axis is the second of two, the first having size one.
pub(super) struct Windows {
    /// One or two.
    pub(super) axes: usize,
    pub(super) size: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
}

impl Windows {
    /// Reads the settings for planes of these sizes (without batch and channels).
    pub(super) fn read(call: &Call<'_>, plane: &[usize], kernel: Option<&[usize]>) -> Result<Self, OpError> {
        let axes = plane.len();
        if !(1..=2).contains(&axes) {
            return Err(OpError::setting(format!(
                "windows over {axes} axes are not trained through, 1 or 2 are"
            )));
        }
        let list = |name: &str| -> Result<Option<Vec<usize>>, OpError> {
            let Some(list) = call.node.ints(name) else { return Ok(None) };
            let wrong = || OpError::setting(format!("{name} {list:?} for {axes} axes"));
            let list: Option<Vec<usize>> = list.iter().map(|value| usize::try_from(*value).ok()).collect();
            let count = if name == "pads" { 2 * axes } else { axes };
            list.filter(|list| list.len() == count).map(Some).ok_or_else(wrong)
        };
        let two = |list: &[usize], otherwise: usize| match *list {
            [one] => [otherwise, one],
            [first, second, ..] => [first, second],
            [] => [otherwise; 2],
        };
        let kernel = match (list("kernel_shape")?, kernel) {
            (Some(kernel), _) => kernel,
            (None, Some(kernel)) if kernel.len() == axes => kernel.to_vec(),
            _ => return Err(OpError::setting("kernel_shape is left out")),
        };
        let pads = list("pads")?.unwrap_or_else(|| vec![0; 2 * axes]);
        let windows = Self {
            axes,
            size: two(plane, 1),
            kernel: two(&kernel, 1),
            stride: two(&list("strides")?.unwrap_or_default(), 1),
            dilation: two(&list("dilations")?.unwrap_or_default(), 1),
            pads: match *pads.as_slice() {
                [left, right] => [0, left, 0, right],
                [top, left, bottom, right] => [top, left, bottom, right],
                _ => [0; 4],
            },
        };
        if windows.stride.contains(&0) || windows.dilation.contains(&0) || windows.kernel.contains(&0) {
            return Err(OpError::setting("strides, dilations and kernels are at least 1"));
        }
        Ok(windows)
    }

    /// Cells that a window spans along an axis.
    pub(super) fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1).saturating_mul(self.dilation[axis]).saturating_add(1)
    }

    /// Works `auto_pad` out, where it is used.
    pub(super) fn auto_pad(&mut self, call: &Call<'_>) -> Result<(), OpError> {
        let is_upper = match call.node.text("auto_pad") {
            None | Some("" | "NOTSET") => return Ok(()),
            Some("VALID") => {
                self.pads = [0; 4];
                return Ok(());
            }
            Some("SAME_UPPER") => true,
            Some("SAME_LOWER") => false,
            Some(other) => return Err(OpError::setting(format!("auto_pad is `{other}`"))),
        };
        for axis in 0..2 {
            let made = self.size[axis].div_ceil(self.stride[axis]);
            let reach =
                made.saturating_sub(1).saturating_mul(self.stride[axis]).saturating_add(self.span(axis));
            let total = reach.saturating_sub(self.size[axis]);
            let (less, more) = (total / 2, total - total / 2);
            (self.pads[axis], self.pads[axis + 2]) = if is_upper { (less, more) } else { (more, less) };
        }
        Ok(())
    }

    /// Cells along an axis with its padding.
    pub(super) fn padded(&self, axis: usize) -> usize {
        self.size[axis].saturating_add(self.pads[axis]).saturating_add(self.pads[axis + 2])
    }

    /// How many windows fit along each axis.
    pub(super) fn made(&self) -> Result<[usize; 2], OpError> {
        let along = |axis: usize| {
            let room = self.padded(axis).checked_sub(self.span(axis));
            room.map(|room| room / self.stride[axis] + 1)
        };
        match (along(0), along(1)) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => Err(OpError::setting(format!("a window {:?} is larger than {:?}", self.kernel, self.size))),
        }
    }

    /// Sizes of a result with this many channels.
    pub(super) fn shape(&self, batch: usize, channels: usize, made: [usize; 2]) -> Vec<usize> {
        let plane = if self.axes == 1 { &made[1..] } else { &made[..] };
        [&[batch, channels], plane].concat()
    }
}

fn groups(call: &Call<'_>) -> Result<usize, OpError> {
    let groups = call.node.int("group").unwrap_or(1);
    usize::try_from(groups)
        .ok()
        .filter(|groups| *groups > 0)
        .ok_or_else(|| OpError::setting(format!("group is {groups}")))
}

/// Batch, channels and sizes of a plane.
pub(super) fn planes(shape: &[usize]) -> Result<(usize, usize, &[usize]), OpError> {
    match shape {
        [batch, channels, plane @ ..] => Ok((*batch, *channels, plane)),
        _ => Err(OpError::setting(format!("sizes {shape:?} have no batch and channels"))),
    }
}

pub(crate) fn convolve(call: &mut Call<'_>) -> Made {
    let (of_x, of_w) = (call.shape(0)?, call.shape(1)?);
    let (batch, inputs, plane) = planes(&of_x)?;
    let (outputs, _, kernel) = planes(&of_w)?;
    let mut windows = Windows::read(call, plane, Some(kernel))?;
    windows.auto_pad(call)?;
    let made = windows.made()?;
    let Windows { size, kernel, stride, dilation, pads, .. } = windows;
    let groups = groups(call)?;
    let s = ConvShape { batch, groups, inputs, outputs, size, kernel, stride, dilation, pads, made };
    let bias = call.maybe(2).map(|bias| bias.id);
    let y = call.tape.convolve(s, call.id(0)?, call.id(1)?, bias)?;
    Call::floats(call.tape.view(y, &windows.shape(batch, outputs, made))?)
}

/// `ConvTranspose`: the gradient of a convolution, run forwards.
pub(crate) fn transpose(call: &mut Call<'_>) -> Made {
    let (of_x, of_w) = (call.shape(0)?, call.shape(1)?);
    let (batch, channels, plane) = planes(&of_x)?;
    let (_, per_group, kernel) = planes(&of_w)?;
    let groups = groups(call)?;
    let mut windows = Windows::read(call, plane, Some(kernel))?;
    let size = made_back(call, &mut windows)?;
    let made = windows.size;
    let Windows { kernel, stride, dilation, pads, .. } = windows;
    let outputs = per_group * groups;
    let s = ConvShape {
        batch,
        groups,
        inputs: outputs,
        outputs: channels,
        size,
        kernel,
        stride,
        dilation,
        pads,
        made,
    };
    let mut y = call.tape.convolve_back(s, call.id(0)?, call.id(1)?)?;
    if let Some(bias) = call.maybe(2) {
        let bias = call.tape.view(bias.id, &[outputs, 1, 1])?;
        y = call.tape.add(y, bias)?;
    }
    Call::floats(call.tape.view(y, &windows.shape(batch, outputs, size))?)
}

/// Sizes that a transposed convolution makes; `output_shape` decides over the pads.
fn made_back(call: &Call<'_>, windows: &mut Windows) -> Result<[usize; 2], OpError> {
    let two = |name: &str| -> [Option<usize>; 2] {
        let list = call.node.ints(name).unwrap_or_default();
        let list = if list.len() > windows.axes { &list[list.len() - windows.axes..] } else { list };
        let size = |value: &i64| usize::try_from(*value).ok();
        match list {
            [one] => [Some(if name == "output_shape" { 1 } else { 0 }), size(one)],
            [first, second] => [size(first), size(second)],
            _ => [None, None],
        }
    };
    let (wanted, more) = (two("output_shape"), two("output_padding"));
    let is_wanted = call.node.ints("output_shape").is_some_and(|list| !list.is_empty());
    let auto = call.node.text("auto_pad").unwrap_or("NOTSET");
    let mut size = [0; 2];
    for axis in 0..2 {
        let whole = windows.stride[axis]
            .saturating_mul(windows.size[axis].saturating_sub(1))
            .saturating_add(more[axis].unwrap_or(0))
            .saturating_add(windows.span(axis));
        let same = (auto == "SAME_UPPER" || auto == "SAME_LOWER")
            .then(|| windows.size[axis].saturating_mul(windows.stride[axis]));
        let target = if is_wanted { wanted[axis] } else { same };
        if let Some(target) = target {
            let total = whole.saturating_sub(target);
            let (less, more) = (total / 2, total - total / 2);
            let is_upper = auto == "SAME_UPPER";
            (windows.pads[axis], windows.pads[axis + 2]) = if is_upper { (less, more) } else { (more, less) };
            size[axis] = target;
        } else {
            let pads = windows.pads[axis].saturating_add(windows.pads[axis + 2]);
            size[axis] = whole.checked_sub(pads).ok_or_else(|| {
                OpError::setting(format!("pads of {pads} are larger than the result, {whole}"))
            })?;
        }
    }
    Ok(size)
}
