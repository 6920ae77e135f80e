//! Pooling over windows of planes, forward and backward.

mod average;
mod largest;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use average::{average_backward, average_forward};
pub use largest::{max_backward, max_forward};

/// Sizes of a pooling; one axis is two with a height of 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolShape {
    /// Planes: examples times channels.
    pub batch: usize,
    /// Height and width of a plane.
    pub size: [usize; 2],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Steps from one window to the next.
    pub stride: [usize; 2],
    /// Steps from one cell of a window to the next.
    pub dilation: [usize; 2],
    /// Cells around a plane: above, left, below, right.
    pub pads: [usize; 4],
    /// Height and width of the output, whose last windows may hang over the padding.
    pub made: [usize; 2],
}

impl PoolShape {
    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn made_plane(&self) -> usize {
        self.made[0] * self.made[1]
    }

    fn check(&self, x: usize, y: usize) {
        assert!(
            self.stride.iter().chain(&self.dilation).all(|&step| step > 0),
            "strides and dilations are above 0"
        );
        assert_eq!(x, self.batch * self.plane(), "elements of the input");
        assert_eq!(y, self.batch * self.made_plane(), "elements of the output");
    }

    /// Cells of a window that are inside the plane, along an axis: `start`, then every `dilation`.
    #[inline(always)]
    fn cells(&self, axis: usize, window: usize) -> Range<usize> {
        let first = window * self.stride[axis];
        let step = self.dilation[axis];
        let skipped = self.pads[axis].saturating_sub(first).div_ceil(step);
        let end = (self.size[axis] + self.pads[axis]).saturating_sub(first).div_ceil(step);
        let end = end.min(self.kernel[axis]);
        skipped.min(end)..end
    }

    /// The place of a cell of a window along an axis.
    #[inline(always)]
    fn place(&self, axis: usize, window: usize, cell: usize) -> usize {
        window * self.stride[axis] + cell * self.dilation[axis] - self.pads[axis]
    }
}
