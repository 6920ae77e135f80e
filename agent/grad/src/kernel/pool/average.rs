//! The average of each window.

use std::ops::Range;

use super::PoolShape;
use crate::kernel::window::{inside, read_steps, write_steps};
use crate::real::{Real, on_this_cpu};

/// The average of each window; nought when it has no cell inside.
///
/// `count_padding`: cells in the padding count as noughts; those beyond it, where a window hangs over,
/// never count.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn average_forward<T: Real>(s: &PoolShape, count_padding: bool, x: &[T], y: &mut [T]) {
    s.check(x.len(), y.len());
    y.fill(T::ZERO);
    if y.is_empty() || x.is_empty() {
        return;
    }
    let full = full(s);
    on_this_cpu(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(s.made_plane()).zip(x.chunks_exact(s.plane())) {
                for (window, y) in y.chunks_exact_mut(s.made[1]).enumerate() {
                    for down in s.cells(0, window) {
                        let row = &x[s.place(0, window, down) * s.size[1]..][..s.size[1]];
                        add_row(s, row, y);
                    }
                    let rows = count(s, count_padding, 0, window);
                    let weight = |columns: usize| T::ONE / T::of(whole(rows * columns));
                    for column in (0..full.start).chain(full.end..s.made[1]) {
                        y[column] *= weight(count(s, count_padding, 1, column));
                    }
                    let inner = weight(s.kernel[1]);
                    for y in &mut y[full.clone()] {
                        *y *= inner;
                    }
                }
            }
        },
    );
}

/// The gradient of the input: each cell gets its part of its windows' gradients.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn average_backward<T: Real>(s: &PoolShape, count_padding: bool, dy: &[T], dx: &mut [T]) {
    s.check(dx.len(), dy.len());
    dx.fill(T::ZERO);
    if dy.is_empty() || dx.is_empty() {
        return;
    }
    let full = full(s);
    on_this_cpu(
        #[inline(always)]
        || {
            for (dx, dy) in dx.chunks_exact_mut(s.plane()).zip(dy.chunks_exact(s.made_plane())) {
                for (window, dy) in dy.chunks_exact(s.made[1]).enumerate() {
                    let rows = count(s, count_padding, 0, window);
                    for down in s.cells(0, window) {
                        let row = &mut dx[s.place(0, window, down) * s.size[1]..][..s.size[1]];
                        give_row(s, (count_padding, rows), &full, dy, row);
                    }
                }
            }
        },
    );
}

/// Adds what one row of the plane is to one row of windows.
#[inline(always)]
fn add_row<T: Real>(s: &PoolShape, row: &[T], sums: &mut [T]) {
    if s.dilation[1] == 1 && s.kernel[1] > s.made[1] {
        for (column, sum) in sums.iter_mut().enumerate() {
            let cells = s.cells(1, column);
            if !cells.is_empty() {
                let first = s.place(1, column, cells.start);
                *sum = row[first..first + cells.len()].iter().fold(*sum, |sum, &value| sum + value);
            }
        }
        return;
    }
    for along in 0..s.kernel[1] {
        let columns = inside(s.made[1], s.stride[1], along * s.dilation[1], s.pads[1], s.size[1]);
        if !columns.is_empty() {
            let first = s.place(1, columns.start, along);
            read_steps(&mut sums[columns], &row[first..], s.stride[1], |sum, value| sum + value);
        }
    }
}

/// Gives one row of the plane its part of the gradients of one row of windows.
#[inline(always)]
fn give_row<T: Real>(
    s: &PoolShape,
    (count_padding, rows): (bool, usize),
    full: &Range<usize>,
    dy: &[T],
    row: &mut [T],
) {
    let weight = |columns: usize| T::ONE / T::of(whole(rows * columns));
    for column in (0..full.start).chain(full.end..s.made[1]) {
        let cells = s.cells(1, column);
        if cells.is_empty() {
            continue;
        }
        let part = dy[column] * weight(count(s, count_padding, 1, column));
        for along in cells {
            row[s.place(1, column, along)] += part;
        }
    }
    if full.is_empty() {
        return;
    }
    let inner = weight(s.kernel[1]);
    if s.dilation[1] == 1 && s.kernel[1] > full.len() {
        for column in full.clone() {
            let part = dy[column] * inner;
            for to in &mut row[s.place(1, column, 0)..][..s.kernel[1]] {
                *to += part;
            }
        }
        return;
    }
    for along in 0..s.kernel[1] {
        let first = s.place(1, full.start, along);
        write_steps(&mut row[first..], &dy[full.clone()], s.stride[1], |sum, dy| sum + dy * inner);
    }
}

/// Columns of windows with all cells inside the plane.
fn full(s: &PoolShape) -> Range<usize> {
    let reach = |cell: usize| inside(s.made[1], s.stride[1], cell * s.dilation[1], s.pads[1], s.size[1]);
    let (first, last) = (reach(0), reach(s.kernel[1] - 1));
    first.start.min(last.end)..first.end.min(last.end)
}

/// Cells of a window along an axis that count.
#[inline(always)]
fn count(s: &PoolShape, count_padding: bool, axis: usize, window: usize) -> usize {
    if !count_padding {
        return s.cells(axis, window).len().max(1);
    }
    let padded = s.pads[axis] + s.size[axis] + s.pads[axis + 2];
    let left = padded.saturating_sub(window * s.stride[axis]).div_ceil(s.dilation[axis]);
    left.clamp(1, s.kernel[axis].max(1))
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "counts of cells are far below 2 to the power of 53")]
fn whole(count: usize) -> f64 {
    count as f64
}
