//! Convolution of few channels without a matrix: outputs are sums of shifted runs of the input.
//!
//! A plane of the input is laid out once with its padding, and split into one plane for each phase of
//! the stride. Then all windows of an output follow each other as one run with gaps at the ends of
//! rows, and every tap reads one run that is as long.

use super::{ConvShape, LANES, fold};
use crate::kernel::window::{inside, read_steps, write_steps};
use crate::real::{Real, on_this_cpu};

/// Taps at most: more are better as a matrix.
const MOST_TAPS: usize = 64;
/// Elements of scratch at most: 512 KiB in 32 bits.
const MOST_SCRATCH: usize = 128 * 1024;
/// Outputs that are summed at a time when there are enough of them.
const BLOCK: usize = 64;

/// Whether a group has one input and its planes are small enough to lie in scratch.
pub(super) fn suits(s: &ConvShape) -> bool {
    s.group_inputs() == 1 && Taps::fit(s) && !s.made.contains(&0) && scratch(s) <= MOST_SCRATCH
}

/// How padded planes lie in scratch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Rows of one phase.
    pub(super) rows: usize,
    /// Elements from one row to the next.
    pub(super) width: usize,
    /// From the first window to the end of the last.
    pub(super) run: usize,
    /// The furthest tap within a phase.
    pub(super) reach: usize,
}

impl Layout {
    pub(super) fn of(s: &ConvShape) -> Self {
        let last = |axis: usize| s.kernel[axis].saturating_sub(1) * s.dilation[axis] / s.stride[axis];
        let (rows, width) = (s.made[0] + last(0), s.made[1] + last(1));
        Self { rows, width, run: (s.made[0] - 1) * width + s.made[1], reach: last(0) * width + last(1) }
    }

    pub(super) fn phase(&self) -> usize {
        self.rows * self.width
    }

    /// Elements of the padded input: its phases and a block that may be read beyond them.
    pub(super) fn input(&self, s: &ConvShape) -> usize {
        self.phase() * s.stride[0] * s.stride[1] + BLOCK
    }

    /// Elements of a plane of the output with gaps, and `reach` noughts before it.
    pub(super) fn output(&self) -> usize {
        self.reach + self.phase() + BLOCK
    }

    /// Copies the windows out of a run, without the gaps.
    #[inline(always)]
    pub(super) fn pick<T: Real>(&self, s: &ConvShape, run: &[T], y: &mut [T]) {
        for (to, from) in y.chunks_exact_mut(s.made[1]).zip(run.chunks(self.width)) {
            to.copy_from_slice(&from[..s.made[1]]);
        }
    }
}

pub(super) fn scratch(s: &ConvShape) -> usize {
    let layout = Layout::of(s);
    layout.input(s) + layout.output() + s.taps() * LANES
}

/// Taps of the kernel: their phases, and where they read within them.
#[derive(Debug)]
pub(super) struct Taps {
    phase: [usize; MOST_TAPS],
    offset: [usize; MOST_TAPS],
    count: usize,
}

impl Taps {
    pub(super) fn of(s: &ConvShape, layout: &Layout) -> Self {
        let mut taps = Self { phase: [0; MOST_TAPS], offset: [0; MOST_TAPS], count: s.taps() };
        for tap in 0..taps.count {
            let down = tap / s.kernel[1] * s.dilation[0];
            let along = tap % s.kernel[1] * s.dilation[1];
            taps.phase[tap] = down % s.stride[0] * s.stride[1] + along % s.stride[1];
            taps.offset[tap] = down / s.stride[0] * layout.width + along / s.stride[1];
        }
        taps
    }

    /// Whether there are few enough.
    pub(super) fn fit(s: &ConvShape) -> bool {
        s.taps() <= MOST_TAPS
    }

    /// Where a tap reads in the padded planes.
    #[inline(always)]
    pub(super) fn place(&self, layout: &Layout, tap: usize) -> usize {
        self.phase[tap] * layout.phase() + self.offset[tap]
    }

    /// The phases that are read.
    pub(super) fn phases(&self, s: &ConvShape) -> impl Iterator<Item = usize> {
        (0..s.stride[0] * s.stride[1]).filter(|&phase| self.uses(phase))
    }

    fn uses(&self, phase: usize) -> bool {
        self.phase[..self.count].contains(&phase)
    }
}

/// Taps of one sum: where each reads, and its weight.
#[derive(Debug, Clone, Copy)]
struct Sum<T> {
    offset: [usize; MOST_TAPS],
    weight: [T; MOST_TAPS],
    count: usize,
}

impl<T: Real> Sum<T> {
    fn new() -> Self {
        Self { offset: [0; MOST_TAPS], weight: [T::ZERO; MOST_TAPS], count: 0 }
    }

    #[inline(always)]
    fn push(&mut self, offset: usize, weight: T) {
        self.offset[self.count] = offset;
        self.weight[self.count] = weight;
        self.count += 1;
    }

    /// `to[i] = start + Σ weight · from[i + offset]`; `to` is written up to the next whole vector.
    #[inline(always)]
    fn write(&self, from: &[T], start: T, length: usize, to: &mut [T]) {
        let mut at = 0;
        while at + BLOCK <= length {
            let sums = self.block::<BLOCK>(&from[at..], start);
            to[at..at + BLOCK].copy_from_slice(&sums);
            at += BLOCK;
        }
        while at < length {
            let sums = self.block::<LANES>(&from[at..], start);
            to[at..at + LANES].copy_from_slice(&sums);
            at += LANES;
        }
    }

    #[inline(always)]
    fn block<const N: usize>(&self, from: &[T], start: T) -> [T; N] {
        let mut sums = [start; N];
        for (&offset, &weight) in self.offset[..self.count].iter().zip(&self.weight) {
            for (sum, &value) in sums.iter_mut().zip(&from[offset..offset + N]) {
                *sum += weight * value;
            }
        }
        sums
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
    let layout = Layout::of(s);
    let taps = Taps::of(s, &layout);
    let (padded, rest) = scratch.split_at_mut(layout.input(s));
    let made = &mut rest[..layout.output()];
    on_this_cpu(|| {
        padded.fill(T::ZERO);
        let mut sum = Sum::new();
        for tap in 0..taps.count {
            sum.push(taps.place(&layout, tap), T::ZERO);
        }
        let outputs = s.group_outputs();
        for plane in 0..s.batch * s.groups {
            pad(s, &layout, &taps, &x[plane * s.plane()..][..s.plane()], padded);
            for output in plane * outputs..(plane + 1) * outputs {
                let channel = output % s.outputs;
                sum.weight[..taps.count].copy_from_slice(&w[channel * taps.count..][..taps.count]);
                let start = bias.map_or(T::ZERO, |bias| bias[channel]);
                sum.write(padded, start, layout.run, made);
                let y = &mut y[output * s.made_plane()..][..s.made_plane()];
                layout.pick(s, made, y);
            }
        }
    });
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s);
    let taps = Taps::of(s, &layout);
    let (made, rest) = scratch.split_at_mut(layout.input(s));
    let gaps = &mut rest[..layout.output()];
    on_this_cpu(|| {
        gaps.fill(T::ZERO);
        let outputs = s.group_outputs();
        for plane in 0..s.batch * s.groups {
            let dx = &mut dx[plane * s.plane()..][..s.plane()];
            dx.fill(T::ZERO);
            for output in plane * outputs..(plane + 1) * outputs {
                spread(
                    s,
                    &layout,
                    &dy[output * s.made_plane()..][..s.made_plane()],
                    &mut gaps[layout.reach..],
                );
                let w = &w[output % s.outputs * taps.count..][..taps.count];
                for phase in taps.phases(s) {
                    let mut sum = Sum::new();
                    for tap in (0..taps.count).filter(|&tap| taps.phase[tap] == phase) {
                        sum.push(layout.reach - taps.offset[tap], w[tap]);
                    }
                    sum.write(gaps, T::ZERO, layout.phase(), made);
                    add_phase(s, &layout, phase, made, dx);
                }
            }
        }
    });
}

pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s);
    let taps = Taps::of(s, &layout);
    let (padded, rest) = scratch.split_at_mut(layout.input(s));
    let (gaps, lanes) = rest.split_at_mut(layout.output());
    let lanes = &mut lanes.as_chunks_mut::<LANES>().0[..taps.count];
    on_this_cpu(|| {
        padded.fill(T::ZERO);
        gaps.fill(T::ZERO);
        for channel in 0..s.outputs {
            lanes.fill([T::ZERO; LANES]);
            for example in 0..s.batch {
                let plane = example * s.groups + channel / s.group_outputs();
                pad(s, &layout, &taps, &x[plane * s.plane()..][..s.plane()], padded);
                let output = example * s.outputs + channel;
                spread(
                    s,
                    &layout,
                    &dy[output * s.made_plane()..][..s.made_plane()],
                    &mut gaps[layout.reach..],
                );
                let dy = &gaps[layout.reach..];
                for (tap, lanes) in lanes.iter_mut().enumerate() {
                    let from = &padded[taps.place(&layout, tap)..];
                    let vectors = layout.run.div_ceil(LANES);
                    let (from, dy) = (from.as_chunks::<LANES>().0, dy.as_chunks::<LANES>().0);
                    for (x, dy) in from[..vectors].iter().zip(&dy[..vectors]) {
                        for lane in 0..LANES {
                            lanes[lane] += x[lane] * dy[lane];
                        }
                    }
                }
            }
            for (dw, &lanes) in dw[channel * taps.count..][..taps.count].iter_mut().zip(&*lanes) {
                *dw = fold(lanes);
            }
        }
    });
}

/// Lays a plane out with its padding; what is outside is nought already.
#[inline(always)]
pub(super) fn pad<T: Real>(s: &ConvShape, layout: &Layout, taps: &Taps, x: &[T], padded: &mut [T]) {
    for phase in taps.phases(s) {
        let (down, along) = (phase / s.stride[1], phase % s.stride[1]);
        let rows = inside(layout.rows, s.stride[0], down, s.pads[0], s.size[0]);
        let columns = inside(layout.width, s.stride[1], along, s.pads[1], s.size[1]);
        if columns.is_empty() {
            continue;
        }
        let first = columns.start * s.stride[1] + along - s.pads[1];
        for row in rows {
            let to = phase * layout.phase() + row * layout.width;
            let from = (row * s.stride[0] + down - s.pads[0]) * s.size[1] + first;
            read_steps(
                &mut padded[to + columns.start..to + columns.end],
                &x[from..],
                s.stride[1],
                |_, read| read,
            );
        }
    }
}

/// Lays a plane of the output out with gaps; these are nought already.
#[inline(always)]
pub(super) fn spread<T: Real>(s: &ConvShape, layout: &Layout, dy: &[T], gaps: &mut [T]) {
    for (to, from) in gaps.chunks_mut(layout.width).zip(dy.chunks_exact(s.made[1])) {
        to[..s.made[1]].copy_from_slice(from);
    }
}

/// Adds a phase of the padded plane to the plane.
#[inline(always)]
pub(super) fn add_phase<T: Real>(s: &ConvShape, layout: &Layout, phase: usize, made: &[T], dx: &mut [T]) {
    let (down, along) = (phase / s.stride[1], phase % s.stride[1]);
    let rows = inside(layout.rows, s.stride[0], down, s.pads[0], s.size[0]);
    let columns = inside(layout.width, s.stride[1], along, s.pads[1], s.size[1]);
    if columns.is_empty() {
        return;
    }
    let first = columns.start * s.stride[1] + along - s.pads[1];
    for row in rows {
        let from = &made[row * layout.width..][columns.clone()];
        let to = &mut dx[(row * s.stride[0] + down - s.pads[0]) * s.size[1] + first..];
        write_steps(to, from, s.stride[1], |sum, made| sum + made);
    }
}
