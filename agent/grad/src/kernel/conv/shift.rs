//! Convolution of many channels without columns: each tap is a product with the shifted planes.
//!
//! Planes are laid out as in [`super::layout`], all of a group beside each other; a tap reads all
//! windows of all channels as one matrix, which begins at its offset.

use super::layout::{self, Layout};
use super::{ConvShape, LANES};
use crate::kernel::gemm::{Matrix, MatrixMut, multiply};
use crate::kernel::window::inside;
use crate::real::{Real, on_this_cpu};

/// Channels at least, in and out: the sums are read and written once a tap.
const FEWEST_CHANNELS: usize = 16;
/// Elements of scratch at most: 1 MiB in 32 bits.
const MOST_SCRATCH: usize = 256 * 1024;

/// Whether there are many channels, and their planes and weights fit into scratch.
pub(super) fn suits(s: &ConvShape) -> bool {
    s.group_inputs().min(s.group_outputs()) >= FEWEST_CHANNELS
        && s.taps() > 1
        && layout::suits(s)
        && scratch(s) <= MOST_SCRATCH
}

pub(super) fn scratch(s: &ConvShape) -> usize {
    let (inputs, outputs) = (s.group_inputs(), s.group_outputs());
    inputs * layout::input(s, 1) + outputs * layout::output(s, 1) + outputs * inputs * s.taps()
}

/// Scratch in parts: planes of the input, planes of the output, weights by taps.
fn parts<'a, T>(s: &ConvShape, scratch: &'a mut [T]) -> [&'a mut [T]; 3] {
    let (inputs, outputs) = (s.group_inputs(), s.group_outputs());
    let (input, rest) = scratch.split_at_mut(inputs * layout::input(s, 1));
    let (output, rest) = rest.split_at_mut(outputs * layout::output(s, 1));
    [input, output, &mut rest[..outputs * inputs * s.taps()]]
}

/// Weights [M, C, taps] as [taps, M, C].
fn by_taps<T: Real>(s: &ConvShape, w: &[T], turned: &mut [T]) {
    let pairs = s.group_outputs() * s.group_inputs();
    for (tap, turned) in turned.chunks_exact_mut(pairs).enumerate() {
        for (to, from) in turned.iter_mut().zip(w.chunks_exact(s.taps())) {
            *to = from[tap];
        }
    }
}

pub(super) fn forward<T: Real>(
    s: &ConvShape,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    scratch: &mut [T],
) {
    let layout = Layout::of(s, 1);
    let (inputs, outputs, run) = (s.group_inputs(), s.group_outputs(), layout.run.next_multiple_of(LANES));
    let [padded, made, weights] = parts(s, scratch);
    let stride = layout::input(s, 1);
    padded.fill(T::ZERO);
    for group in 0..s.groups {
        by_taps(s, &w[s.weights_of(group)], weights);
        for example in 0..s.batch {
            let x = &x[s.input_of(example, group)];
            on_this_cpu(
                #[inline(always)]
                || {
                    for (x, padded) in x.chunks_exact(s.plane()).zip(padded.chunks_exact_mut(stride)) {
                        layout.pad(s, x, padded);
                    }
                },
            );
            if let Some(bias) = bias {
                for (made, &bias) in made.chunks_exact_mut(run).zip(&bias[group * outputs..][..outputs]) {
                    made.fill(bias);
                }
            }
            for (tap, w) in weights.chunks_exact(outputs * inputs).enumerate() {
                let beta = if tap == 0 && bias.is_none() { T::ZERO } else { T::ONE };
                let w = Matrix { data: w, row: inputs, column: 1 };
                let x = Matrix { data: &padded[layout.place(layout.taps()[tap])..], row: stride, column: 1 };
                let made = MatrixMut { data: &mut *made, row: run, column: 1 };
                multiply([outputs, run, inputs], T::ONE, w, x, beta, made);
            }
            let y = &mut y[s.output_of(example, group)];
            for (y, made) in y.chunks_exact_mut(s.made_plane()).zip(made.chunks_exact(run)) {
                layout.pick(s, made, y);
            }
        }
    }
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s, 1);
    let (inputs, outputs, run) = (s.group_inputs(), s.group_outputs(), layout.run.next_multiple_of(LANES));
    let [made, gaps, weights] = parts(s, scratch);
    let stride = layout::input(s, 1);
    gaps.fill(T::ZERO);
    for group in 0..s.groups {
        by_taps(s, &w[s.weights_of(group)], weights);
        for example in 0..s.batch {
            let dy = &dy[s.output_of(example, group)];
            for (dy, gaps) in dy.chunks_exact(s.made_plane()).zip(gaps.chunks_exact_mut(run)) {
                layout.spread(s, dy, gaps);
            }
            made.fill(T::ZERO);
            for (tap, w) in weights.chunks_exact(outputs * inputs).enumerate() {
                let w = Matrix { data: w, row: 1, column: inputs };
                let dy = Matrix { data: gaps, row: run, column: 1 };
                let made =
                    MatrixMut { data: &mut made[layout.place(layout.taps()[tap])..], row: stride, column: 1 };
                multiply([inputs, run, outputs], T::ONE, w, dy, T::ONE, made);
            }
            let dx = &mut dx[s.input_of(example, group)];
            if !layout.covers(s) {
                dx.fill(T::ZERO);
            }
            on_this_cpu(
                #[inline(always)]
                || {
                    for (dx, made) in dx.chunks_exact_mut(s.plane()).zip(made.chunks_exact(stride)) {
                        layout.unpad(s, made, dx);
                    }
                },
            );
        }
    }
}

/// Channels come last here, so that all taps of a row of the kernel are one matrix, whose rows overlap.
pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s, 1);
    let (inputs, outputs) = (s.group_inputs(), s.group_outputs());
    let (run, pitch) = (layout.run.next_multiple_of(LANES), layout.width * s.stride[1]);
    let [turned, gaps, sums] = parts(s, scratch);
    turned.fill(T::ZERO);
    gaps.fill(T::ZERO);
    // Taps of one product: all of a row when they are beside each other.
    let beside = if s.dilation[1] == 1 { s.kernel[1] } else { 1 };
    for group in 0..s.groups {
        sums.fill(T::ZERO);
        for example in 0..s.batch {
            let dy = &dy[s.output_of(example, group)];
            for (dy, gaps) in dy.chunks_exact(s.made_plane()).zip(gaps.chunks_exact_mut(run)) {
                layout.spread(s, dy, gaps);
            }
            turn(s, &layout, &x[s.input_of(example, group)], turned);
            for (part, sums) in sums.chunks_exact_mut(beside * outputs * inputs).enumerate() {
                let down = part * beside / s.kernel[1] * s.dilation[0];
                let along = part * beside % s.kernel[1] * s.dilation[1];
                let row = down % s.stride[0] * layout.rows + down / s.stride[0];
                let x = &turned[(row * pitch + along) * inputs..];
                let dy = Matrix { data: gaps, row: run, column: 1 };
                let x = Matrix { data: x, row: s.stride[1] * inputs, column: 1 };
                let sums = MatrixMut { data: sums, row: beside * inputs, column: 1 };
                multiply([outputs, beside * inputs, layout.run], T::ONE, dy, x, T::ONE, sums);
            }
        }
        let dw = &mut dw[s.weights_of(group)];
        for (part, sums) in sums.chunks_exact(beside * outputs * inputs).enumerate() {
            for (place, &sum) in sums.iter().enumerate() {
                let (output, tap, input) =
                    (place / (beside * inputs), place / inputs % beside, place % inputs);
                dw[(output * inputs + input) * s.taps() + part * beside + tap] = sum;
            }
        }
    }
}

/// Lays the planes of a group out with their padding and the channels last, rows split by phases; what
/// is outside is nought already.
fn turn<T: Real>(s: &ConvShape, layout: &Layout, x: &[T], turned: &mut [T]) {
    let (inputs, pitch) = (s.group_inputs(), layout.width * s.stride[1]);
    let columns = inside(pitch, 1, 0, s.pads[1], s.size[1]);
    for phase in 0..s.stride[0] {
        for row in inside(layout.rows, s.stride[0], phase, s.pads[0], s.size[0]) {
            let from = (row * s.stride[0] + phase - s.pads[0]) * s.size[1] + columns.start
                - s.pads[1].min(columns.start);
            let to = ((phase * layout.rows + row) * pitch + columns.start) * inputs;
            on_this_cpu(
                #[inline(always)]
                || {
                    transpose(&x[from..], s.plane(), &mut turned[to..], [inputs, columns.len()]);
                },
            );
        }
    }
}

/// `to[j, i] = from[i, j]` with i below 16 at a time; rows of `from` are `row` apart.
#[inline(always)]
fn transpose<T: Real>(from: &[T], row: usize, to: &mut [T], [rows, columns]: [usize; 2]) {
    for first in (0..rows).step_by(LANES) {
        let lanes = LANES.min(rows - first);
        for lane in 0..lanes {
            let from = &from[(first + lane) * row..][..columns];
            for (to, &from) in to[first + lane..].iter_mut().step_by(rows).zip(from) {
                *to = from;
            }
        }
    }
}
