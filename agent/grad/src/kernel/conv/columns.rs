//! Windows as columns of a matrix, one row for each tap of each input, a tile of windows at a time.

use std::ops::Range;

use super::{ConvShape, fill_bias};
use crate::kernel::gemm::{Matrix, MatrixMut, multiply};
use crate::kernel::window::{inside, read_steps, write_steps};
use crate::real::{Real, on_this_cpu};

/// Elements of the columns at a time: 256 KiB in 32 bits, which stays in the second cache.
const TILE: usize = 64 * 1024;
/// Windows at a time at least, however many taps they have: one vector.
const FEWEST: usize = 16;

/// Windows that are computed together: whole rows of them, or a part of one row.
#[derive(Debug, Clone)]
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Tile {
    fn windows(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Its first window, within the plane.
    fn start(&self, s: &ConvShape) -> usize {
        self.rows.start * s.made[1] + self.columns.start
    }
}

/// Rows of the matrix of columns.
fn depth(s: &ConvShape) -> usize {
    s.group_inputs() * s.taps()
}

/// Rows and columns of the output in the largest tile.
fn largest_tile(s: &ConvShape) -> [usize; 2] {
    let windows = (TILE / depth(s).max(1)).max(FEWEST);
    let width = s.made[1].min(windows);
    let height = if width == s.made[1] { (windows / width.max(1)).min(s.made[0]) } else { 1 };
    [height, width]
}

/// The tiles of a plane, in order.
fn tiles(s: &ConvShape) -> impl Iterator<Item = Tile> {
    let ([height, width], [rows, columns]) = (largest_tile(s), s.made);
    (0..rows).step_by(height.max(1)).flat_map(move |row| {
        (0..columns).step_by(width.max(1)).map(move |column| Tile {
            rows: row..(row + height).min(rows),
            columns: column..(column + width).min(columns),
        })
    })
}

pub(super) fn scratch(s: &ConvShape) -> usize {
    depth(s) * largest_tile(s).iter().product::<usize>()
}

pub(super) fn forward<T: Real>(
    s: &ConvShape,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    scratch: &mut [T],
) {
    let (depth, outputs, plane) = (depth(s), s.group_outputs(), s.made_plane());
    for (example, group) in examples_and_groups(s) {
        let (x, w) = (&x[s.input_of(example, group)], &w[s.weights_of(group)]);
        let y = &mut y[s.output_of(example, group)];
        let beta = match bias {
            Some(bias) => {
                fill_bias(y, plane, &bias[group * outputs..]);
                T::ONE
            }
            None => T::ZERO,
        };
        for tile in tiles(s) {
            let windows = tile.windows();
            let columns = &mut scratch[..depth * windows];
            gather(s, &tile, x, columns);
            let w = Matrix { data: w, row: depth, column: 1 };
            let columns = Matrix { data: columns, row: windows, column: 1 };
            let y = MatrixMut { data: &mut y[tile.start(s)..], row: plane, column: 1 };
            multiply([outputs, windows, depth], T::ONE, w, columns, beta, y);
        }
    }
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    let (depth, outputs, plane) = (depth(s), s.group_outputs(), s.made_plane());
    dx.fill(T::ZERO);
    if dy.is_empty() {
        return;
    }
    for (example, group) in examples_and_groups(s) {
        let (dy, w) = (&dy[s.output_of(example, group)], &w[s.weights_of(group)]);
        let dx = &mut dx[s.input_of(example, group)];
        for tile in tiles(s) {
            let windows = tile.windows();
            let columns = &mut scratch[..depth * windows];
            let dy = Matrix { data: &dy[tile.start(s)..], row: plane, column: 1 };
            let w = Matrix { data: w, row: 1, column: depth };
            let made = MatrixMut { data: columns, row: windows, column: 1 };
            multiply([depth, windows, outputs], T::ONE, w, dy, T::ZERO, made);
            scatter(s, &tile, columns, dx);
        }
    }
}

pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    let (depth, outputs, plane) = (depth(s), s.group_outputs(), s.made_plane());
    dw.fill(T::ZERO);
    if dy.is_empty() {
        return;
    }
    for (example, group) in examples_and_groups(s) {
        let (x, dy) = (&x[s.input_of(example, group)], &dy[s.output_of(example, group)]);
        let dw = &mut dw[s.weights_of(group)];
        for tile in tiles(s) {
            let windows = tile.windows();
            let columns = &mut scratch[..depth * windows];
            gather(s, &tile, x, columns);
            let dy = Matrix { data: &dy[tile.start(s)..], row: plane, column: 1 };
            let columns = Matrix { data: columns, row: 1, column: windows };
            let dw = MatrixMut { data: &mut *dw, row: depth, column: 1 };
            multiply([outputs, depth, windows], T::ONE, dy, columns, T::ONE, dw);
        }
    }
}

fn examples_and_groups(s: &ConvShape) -> impl Iterator<Item = (usize, usize)> {
    let groups = s.groups;
    (0..s.batch).flat_map(move |example| (0..groups).map(move |group| (example, group)))
}

/// What one tap reads of a plane for the windows of a tile.
#[derive(Debug, Clone)]
struct Reads {
    /// Rows of the tile, from its first, whose tap is inside.
    rows: Range<usize>,
    /// Columns of the tile, from its first, whose tap is inside.
    columns: Range<usize>,
    /// The first element that is read.
    first: usize,
    /// Elements from one row of the tile to the next.
    pitch: usize,
}

impl Reads {
    /// `None` when the tap is outside for all windows of the tile.
    #[inline(always)]
    fn of(s: &ConvShape, tile: &Tile, tap: [usize; 2]) -> Option<Self> {
        let [down, along] = [tap[0] * s.dilation[0], tap[1] * s.dilation[1]];
        let rows = clip(&inside(s.made[0], s.stride[0], down, s.pads[0], s.size[0]), &tile.rows);
        let columns = clip(&inside(s.made[1], s.stride[1], along, s.pads[1], s.size[1]), &tile.columns);
        if rows.is_empty() || columns.is_empty() {
            return None;
        }
        let row = (tile.rows.start + rows.start) * s.stride[0] + down - s.pads[0];
        let column = (tile.columns.start + columns.start) * s.stride[1] + along - s.pads[1];
        Some(Self { rows, columns, first: row * s.size[1] + column, pitch: s.stride[0] * s.size[1] })
    }

    /// From the first to the last window whose tap is inside, in a tile of this width.
    #[inline(always)]
    fn span(&self, width: usize) -> Range<usize> {
        self.rows.start * width + self.columns.start..(self.rows.end - 1) * width + self.columns.end
    }
}

/// The common part, counted from the start of the second.
#[inline(always)]
fn clip(whole: &Range<usize>, part: &Range<usize>) -> Range<usize> {
    let start = whole.start.max(part.start);
    let end = whole.end.min(part.end).max(start);
    start - part.start..end - part.start
}

/// Whether rows of the tile follow each other in the input as they do in the output, so that all of
/// a plane is one run.
fn is_one_run(s: &ConvShape, tile: &Tile) -> bool {
    s.stride == [1, 1] && s.size[1] == tile.columns.len()
}

/// Every tap, with what it reads, and for every channel its row of the columns and its plane.
#[inline(always)]
fn for_each_tap(s: &ConvShape, tile: &Tile, mut work: impl FnMut(Option<&Reads>, usize, usize)) {
    let (taps, plane) = (s.taps(), s.plane());
    for tap in 0..taps {
        let reads = Reads::of(s, tile, [tap / s.kernel[1], tap % s.kernel[1]]);
        for channel in 0..s.group_inputs() {
            work(reads.as_ref(), channel * taps + tap, channel * plane);
        }
    }
}

/// Copies the windows of a tile into columns, with nought for what is outside.
fn gather<T: Real>(s: &ConvShape, tile: &Tile, x: &[T], columns: &mut [T]) {
    let (width, windows, one_run) = (tile.columns.len(), tile.windows(), is_one_run(s, tile));
    on_this_cpu(
        #[inline(always)]
        || {
            for_each_tap(s, tile, |reads, row, plane| {
                let made = &mut columns[row * windows..(row + 1) * windows];
                let Some(reads) = reads else {
                    made.fill(T::ZERO);
                    return;
                };
                let first = plane + reads.first;
                if reads.rows.len() < tile.rows.len() {
                    made[..reads.rows.start * width].fill(T::ZERO);
                    made[reads.rows.end * width..].fill(T::ZERO);
                }
                if one_run {
                    let span = reads.span(width);
                    made[span.clone()].copy_from_slice(&x[first..first + span.len()]);
                    clear_edges(made, width, reads);
                    return;
                }
                for (line, row) in made.chunks_exact_mut(width).skip(reads.rows.start).zip(reads.rows.clone())
                {
                    let from = first + (row - reads.rows.start) * reads.pitch;
                    read_steps(&mut line[reads.columns.clone()], &x[from..], s.stride[1], |_, read| read);
                }
                clear_edges(made, width, reads);
            });
        },
    );
}

/// Adds the columns of a tile to where their taps read.
fn scatter<T: Real>(s: &ConvShape, tile: &Tile, columns: &mut [T], dx: &mut [T]) {
    let (width, windows, one_run) = (tile.columns.len(), tile.windows(), is_one_run(s, tile));
    on_this_cpu(
        #[inline(always)]
        || {
            for_each_tap(s, tile, |reads, row, plane| {
                let made = &mut columns[row * windows..(row + 1) * windows];
                let Some(reads) = reads else { return };
                let first = plane + reads.first;
                if one_run {
                    clear_edges(made, width, reads);
                    let span = reads.span(width);
                    write_steps(&mut dx[first..first + span.len()], &made[span], 1, |sum, made| sum + made);
                    return;
                }
                for (line, row) in made.chunks_exact(width).skip(reads.rows.start).zip(reads.rows.clone()) {
                    let from = first + (row - reads.rows.start) * reads.pitch;
                    write_steps(&mut dx[from..], &line[reads.columns.clone()], s.stride[1], |sum, made| {
                        sum + made
                    });
                }
            });
        },
    );
}

/// Writes nought for the windows at the ends of rows whose tap is outside.
#[inline(always)]
fn clear_edges<T: Real>(made: &mut [T], width: usize, reads: &Reads) {
    // By columns, of which there are few: filling each row's ends costs two calls a row.
    for column in (0..reads.columns.start).chain(reads.columns.end..width) {
        for window in made[column..].iter_mut().step_by(width) {
            *window = T::ZERO;
        }
    }
}
