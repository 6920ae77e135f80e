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

/// Makes each element of `to` from itself and the next of every `step`th of `from`.
#[inline(always)]
pub(crate) fn read_steps<T: Copy>(to: &mut [T], from: &[T], step: usize, make: impl Fn(T, T) -> T) {
    match step {
        1 => {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = make(*to, from);
            }
        }
        2 => {
            let Some((last, to)) = to.split_last_mut() else { return };
            *last = make(*last, from[to.len() * 2]);
            for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = make(*to, from[0]);
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.chunks(step)) {
                *to = make(*to, from[0]);
            }
        }
    }
}

/// Makes every `step`th element of `to` from itself and the next of `from`.
#[inline(always)]
pub(crate) fn write_steps<T: Copy>(to: &mut [T], from: &[T], step: usize, make: impl Fn(T, T) -> T) {
    match step {
        1 => {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = make(*to, from);
            }
        }
        2 => {
            let Some((&last, from)) = from.split_last() else { return };
            to[from.len() * 2] = make(to[from.len() * 2], last);
            for (to, &from) in to.as_chunks_mut::<2>().0.iter_mut().zip(from) {
                to[0] = make(to[0], from);
            }
        }
        _ => {
            for (to, &from) in to.chunks_mut(step).zip(from) {
                to[0] = make(to[0], from);
            }
        }
    }
}

/// Writes a row whose even and odd elements come from two; there are as many, or one more is even.
#[inline(always)]
pub(crate) fn interleave<T: Copy>(to: &mut [T], even: &[T], odd: &[T]) {
    let count = odd.len();
    let (pairs, rest) = to.split_at_mut(2 * count);
    if let ([to], [.., last]) = (rest, even) {
        *to = *last;
    }
    // By places: over arrays of two it becomes a way over the stack.
    let even = &even[..count];
    for place in 0..count {
        pairs[2 * place] = even[place];
        pairs[2 * place + 1] = odd[place];
    }
}

/// Copies a row; a short one as two vectors that may overlap, without a call.
#[inline(always)]
pub(crate) fn copy_row<T: Copy>(to: &mut [T], from: &[T]) {
    let from = &from[..to.len()];
    match to.len() {
        0 => {}
        1 => to[0] = from[0],
        2..4 => copy_ends::<T, 2>(to, from),
        4..8 => copy_ends::<T, 4>(to, from),
        8..16 => copy_ends::<T, 8>(to, from),
        16..33 => copy_ends::<T, 16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` elements.
#[inline(always)]
fn copy_ends<T: Copy, const N: usize>(to: &mut [T], from: &[T]) {
    let ends = from.first_chunk::<N>().zip(from.last_chunk::<N>());
    let (&first, &last) = ends.expect("a row is as long as its vectors");
    to[..N].copy_from_slice(&first);
    let rest = to.len() - N;
    to[rest..].copy_from_slice(&last);
}
