//! Convolution over one and two axes, forward and backward.

mod columns;
mod depth;
mod layout;
mod point;
mod shift;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::real::{Real, on_this_cpu};

/// Sizes of a convolution; one axis is two with a height of 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvShape {
    /// Examples.
    pub batch: usize,
    /// Groups, each from its own inputs to its own outputs.
    pub groups: usize,
    /// Channels of the input, of all groups.
    pub inputs: usize,
    /// Channels of the output, of all groups.
    pub outputs: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps from one window to the next.
    pub stride: [usize; 2],
    /// Steps from one tap of the kernel to the next.
    pub dilation: [usize; 2],
    /// Noughts around the input: above, left, below, right.
    ///
    /// Below and right are not read: they follow from `made`, whose windows may hang over them.
    pub pads: [usize; 4],
    /// Height and width of the output.
    pub made: [usize; 2],
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each output sums windows of planes that were laid out with their padding.
    Depth,
    /// The planes are the matrices.
    Point,
    /// Each tap is a product with planes that were laid out with their padding.
    Shift,
    /// Windows are copied into the columns of a matrix.
    Columns,
}

impl ConvShape {
    /// Elements of scratch that each of the kernels needs.
    pub fn scratch(&self) -> usize {
        match self.way() {
            Way::Depth => depth::scratch(self),
            Way::Point => point::scratch(self),
            Way::Shift => shift::scratch(self),
            Way::Columns => columns::scratch(self),
        }
    }

    fn way(&self) -> Way {
        if depth::suits(self) {
            Way::Depth
        } else if point::suits(self) {
            Way::Point
        } else if shift::suits(self) {
            Way::Shift
        } else {
            Way::Columns
        }
    }

    /// Elements of one plane of the input.
    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Elements of one plane of the output.
    fn made_plane(&self) -> usize {
        self.made[0] * self.made[1]
    }

    /// Taps of the kernel.
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Channels of the input in one group.
    fn group_inputs(&self) -> usize {
        self.inputs / self.groups
    }

    /// Channels of the output in one group.
    fn group_outputs(&self) -> usize {
        self.outputs / self.groups
    }

    /// Where the input of a group of an example is.
    fn input_of(&self, example: usize, group: usize) -> Range<usize> {
        let length = self.group_inputs() * self.plane();
        let start = (example * self.groups + group) * length;
        start..start + length
    }

    /// Where the output of a group of an example is.
    fn output_of(&self, example: usize, group: usize) -> Range<usize> {
        let length = self.group_outputs() * self.made_plane();
        let start = (example * self.groups + group) * length;
        start..start + length
    }

    /// Where a channel of the input of an example is.
    fn input_plane(&self, example: usize, channel: usize) -> Range<usize> {
        let start = (example * self.inputs + channel) * self.plane();
        start..start + self.plane()
    }

    /// Where a channel of the output of an example is.
    fn output_plane(&self, example: usize, channel: usize) -> Range<usize> {
        let start = (example * self.outputs + channel) * self.made_plane();
        start..start + self.made_plane()
    }

    /// Where the weights of a group are.
    fn weights_of(&self, group: usize) -> Range<usize> {
        let length = self.group_outputs() * self.group_inputs() * self.taps();
        group * length..(group + 1) * length
    }

    fn check(&self, x: usize, w: usize, y: usize, scratch: usize) {
        assert!(
            self.groups > 0 && self.stride.iter().all(|&step| step > 0),
            "groups and strides are above 0"
        );
        let in_groups = self.inputs.is_multiple_of(self.groups) && self.outputs.is_multiple_of(self.groups);
        assert!(in_groups, "channels are multiples of the groups");
        assert_eq!(x, self.batch * self.inputs * self.plane(), "elements of the input");
        assert_eq!(w, self.outputs * self.group_inputs() * self.taps(), "elements of the weights");
        assert_eq!(y, self.batch * self.outputs * self.made_plane(), "elements of the output");
        assert!(scratch >= self.scratch(), "scratch has {scratch} of {} elements", self.scratch());
    }
}

/// `y = conv(x, w) + bias` with x [N, C, H, W], w [M, C/g, kh, kw], y [N, M, oh, ow].
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn forward<T: Real>(s: &ConvShape, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], scratch: &mut [T]) {
    s.check(x.len(), w.len(), y.len(), scratch.len());
    assert!(bias.is_none_or(|bias| bias.len() == s.outputs), "one bias for each output");
    if y.is_empty() {
        return;
    }
    match s.way() {
        Way::Depth => depth::forward(s, x, w, bias, y, scratch),
        Way::Point => point::forward(s, x, w, bias, y, scratch),
        Way::Shift => shift::forward(s, x, w, bias, y, scratch),
        Way::Columns => columns::forward(s, x, w, bias, y, scratch),
    }
}

/// The gradient of the input, from that of the output; nought where no window reaches.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    s.check(dx.len(), w.len(), dy.len(), scratch.len());
    if dx.is_empty() {
        return;
    }
    match s.way() {
        Way::Depth => depth::grad_input(s, dy, w, dx, scratch),
        Way::Point => point::grad_input(s, dy, w, dx, scratch),
        Way::Shift => shift::grad_input(s, dy, w, dx, scratch),
        Way::Columns => columns::grad_input(s, dy, w, dx, scratch),
    }
}

/// The gradient of the weights, summed over the batch.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    s.check(x.len(), dw.len(), dy.len(), scratch.len());
    if dw.is_empty() {
        return;
    }
    match s.way() {
        Way::Depth => depth::grad_weight(s, x, dy, dw, scratch),
        Way::Point => point::grad_weight(s, x, dy, dw, scratch),
        Way::Shift => shift::grad_weight(s, x, dy, dw, scratch),
        Way::Columns => columns::grad_weight(s, x, dy, dw, scratch),
    }
}

/// The gradient of the bias: sums of the planes over the batch.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn grad_bias<T: Real>(s: &ConvShape, dy: &[T], db: &mut [T]) {
    assert_eq!(dy.len(), s.batch * s.outputs * s.made_plane(), "elements of the output");
    assert_eq!(db.len(), s.outputs, "one bias for each output");
    db.fill(T::ZERO);
    if dy.is_empty() {
        return;
    }
    on_this_cpu(
        #[inline(always)]
        || {
            for example in dy.chunks_exact(s.outputs * s.made_plane()) {
                for (sum, plane) in db.iter_mut().zip(example.chunks_exact(s.made_plane())) {
                    *sum += total(plane);
                }
            }
        },
    );
}

/// Numbers that are summed side by side.
const LANES: usize = 16;

/// Sum of a slice, in `LANES` sums side by side.
#[inline(always)]
fn total<T: Real>(values: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += value;
    }
    fold(sums)
}

/// Sum of the lanes, by halves.
#[inline(always)]
fn fold<T: Real>(mut sums: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Fills every plane with its bias.
fn fill_bias<T: Real>(planes: &mut [T], plane: usize, bias: &[T]) {
    for (channel, &value) in planes.chunks_exact_mut(plane).zip(bias) {
        channel.fill(value);
    }
}
