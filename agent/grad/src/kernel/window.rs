//! Where windows that step over an axis reach into it.

use std::ops::Range;

/// The windows of `0..count` whose tap is inside an axis of `size` elements.
///
/// The tap of window i is at `i * stride + offset - pad`.
#[inline(always)]
pub(crate) fn inside(count: usize, stride: usize, offset: usize, pad: usize, size: usize) -> Range<usize> {
    let end = (size + pad).saturating_sub(offset).div_ceil(stride).min(count);
    let start = pad.saturating_sub(offset).div_ceil(stride).min(end);
    start..end
}
