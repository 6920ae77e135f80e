//! How padded planes lie in scratch, so that windows are runs.
//!
//! A plane of the input is laid out with its padding, and split into one plane for each phase of the
//! stride. Then all windows of an output follow each other as one run with gaps at the ends of rows,
//! and every tap reads one run that is as long.

use super::ConvShape;
use crate::kernel::window::{copy_row, inside, interleave, read_steps, write_steps};
use crate::real::Real;

/// Taps at most: more are better as a matrix.
pub(super) const MOST_TAPS: usize = 64;
/// Phases at most: strides beyond are rare.
const MOST_PHASES: usize = 16;
/// Elements of padded planes that lie beside each other, if one has fewer: half of the first cache.
const TOGETHER: usize = 4096;
/// Planes at most that lie beside each other.
const MOST_TOGETHER: usize = 32;
/// Elements that may be read beyond a run.
pub(super) const SLACK: usize = 64;

/// Sizes of the planes, taps and phases of one convolution.
#[derive(Debug)]
pub(super) struct Layout {
    /// Rows of one phase.
    pub(super) rows: usize,
    /// Elements from one row to the next.
    pub(super) width: usize,
    /// From the first window to the end of the last.
    pub(super) run: usize,
    /// The furthest tap within a phase.
    pub(super) reach: usize,
    /// Planes that lie beside each other: those of a phase of all of them, then of the next phase.
    pub(super) together: usize,
    taps: [Tap; MOST_TAPS],
    count: usize,
    parts: [Part; MOST_PHASES],
    phases: usize,
}

/// Where a tap reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tap {
    /// The phase of the input.
    pub(super) phase: usize,
    /// The element within the phase, for the first window.
    pub(super) offset: usize,
}

/// What a phase holds of a plane: `rows` runs of `columns` elements.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    phase: usize,
    rows: usize,
    columns: usize,
    padded: usize,
    plane: usize,
}

/// Whether the taps and phases are few, and there are windows.
pub(super) fn suits(s: &ConvShape) -> bool {
    s.taps() <= MOST_TAPS && s.stride[0] * s.stride[1] <= MOST_PHASES && !s.made.contains(&0) && s.taps() > 0
}

/// Elements of one phase, and the furthest tap in it.
fn phase_and_reach(s: &ConvShape) -> [usize; 2] {
    let last = |axis: usize| (s.kernel[axis] - 1) * s.dilation[axis] / s.stride[axis];
    let width = s.made[1] + last(1);
    [(s.made[0] + last(0)) * width, last(0) * width + last(1)]
}

/// Small planes that are computed together, so that their runs are one.
pub(super) fn together(s: &ConvShape) -> usize {
    (TOGETHER / (phase_and_reach(s)[0] * s.stride[0] * s.stride[1])).clamp(1, MOST_TOGETHER)
}

/// Elements of padded planes: their phases and what may be read beyond them.
pub(super) fn input(s: &ConvShape, together: usize) -> usize {
    phase_and_reach(s)[0] * s.stride[0] * s.stride[1] * together + SLACK
}

/// Elements of planes of the output with gaps, and noughts before them as far as taps reach.
pub(super) fn output(s: &ConvShape, together: usize) -> usize {
    let [phase, reach] = phase_and_reach(s);
    reach + phase * together + SLACK
}

impl Layout {
    pub(super) fn of(s: &ConvShape, together: usize) -> Self {
        let last = |axis: usize| (s.kernel[axis] - 1) * s.dilation[axis] / s.stride[axis];
        let (rows, width) = (s.made[0] + last(0), s.made[1] + last(1));
        let mut made = Self {
            rows,
            width,
            run: (s.made[0] - 1) * width + s.made[1],
            reach: last(0) * width + last(1),
            together,
            taps: [Tap::default(); MOST_TAPS],
            count: s.taps(),
            parts: [Part::default(); MOST_PHASES],
            phases: 0,
        };
        for tap in 0..made.count {
            let down = tap / s.kernel[1] * s.dilation[0];
            let along = tap % s.kernel[1] * s.dilation[1];
            made.taps[tap] = Tap {
                phase: down % s.stride[0] * s.stride[1] + along % s.stride[1],
                offset: down / s.stride[0] * width + along / s.stride[1],
            };
        }
        for phase in 0..s.stride[0] * s.stride[1] {
            if made.taps().iter().any(|tap| tap.phase == phase) {
                made.parts[made.phases] = made.part(s, phase);
                made.phases += 1;
            }
        }
        made
    }

    fn part(&self, s: &ConvShape, phase: usize) -> Part {
        let (down, along) = (phase / s.stride[1], phase % s.stride[1]);
        let rows = inside(self.rows, s.stride[0], down, s.pads[0], s.size[0]);
        let columns = inside(self.width, s.stride[1], along, s.pads[1], s.size[1]);
        if rows.is_empty() || columns.is_empty() {
            return Part { phase, ..Part::default() };
        }
        let row = rows.start * s.stride[0] + down - s.pads[0];
        let column = columns.start * s.stride[1] + along - s.pads[1];
        Part {
            phase,
            rows: rows.len(),
            columns: columns.len(),
            padded: phase * self.phase() * self.together + rows.start * self.width + columns.start,
            plane: row * s.size[1] + column,
        }
    }

    /// Elements of one phase.
    pub(super) fn phase(&self) -> usize {
        self.rows * self.width
    }

    pub(super) fn taps(&self) -> &[Tap] {
        &self.taps[..self.count]
    }

    /// Where a tap reads in the padded plane.
    #[inline(always)]
    pub(super) fn place(&self, tap: Tap) -> usize {
        self.start(tap.phase) + tap.offset
    }

    /// Where a phase begins.
    #[inline(always)]
    pub(super) fn start(&self, phase: usize) -> usize {
        phase * self.phase() * self.together
    }

    /// Whether every element of a plane is read.
    pub(super) fn covers(&self, s: &ConvShape) -> bool {
        self.parts[..self.phases].iter().map(|part| part.rows * part.columns).sum::<usize>() == s.plane()
    }

    /// From the first window of the first of `planes` to the end of the last.
    pub(super) fn run_of(&self, planes: usize) -> usize {
        (planes - 1) * self.phase() + self.run
    }

    /// The phases that are read.
    pub(super) fn phases(&self) -> impl Iterator<Item = usize> {
        self.parts[..self.phases].iter().map(|part| part.phase)
    }

    /// Lays a plane out with its padding; what is outside is nought already.
    #[inline(always)]
    pub(super) fn pad<T: Real>(&self, s: &ConvShape, x: &[T], padded: &mut [T]) {
        for part in &self.parts[..self.phases] {
            for row in 0..part.rows {
                let to = &mut padded[part.padded + row * self.width..][..part.columns];
                let from = &x[part.plane + row * s.stride[0] * s.size[1]..];
                if s.stride[1] == 1 {
                    copy_row(to, from);
                } else {
                    read_steps(to, from, s.stride[1], |_, read| read);
                }
            }
        }
    }

    /// Writes what the padded plane holds to the plane, where it is read.
    #[inline(always)]
    pub(super) fn unpad<T: Real>(&self, s: &ConvShape, padded: &[T], dx: &mut [T]) {
        let mut parts = &self.parts[..self.phases];
        while let [part, rest @ ..] = parts {
            if let Some((even, odd)) = rest.first().and_then(|next| pair(s, part, next)) {
                self.unpad_pair(s, (even, odd), padded, dx);
                parts = &rest[1..];
                continue;
            }
            for row in 0..part.rows {
                let from = &padded[part.padded + row * self.width..][..part.columns];
                let to = &mut dx[part.plane + row * s.stride[0] * s.size[1]..];
                if s.stride[1] == 1 {
                    copy_row(&mut to[..part.columns], from);
                } else {
                    write_steps(to, from, s.stride[1], |_, made| made);
                }
            }
            parts = rest;
        }
    }

    /// Writes two phases that alternate in the rows of the plane: single stores are slow.
    #[inline(always)]
    fn unpad_pair<T: Real>(&self, s: &ConvShape, (even, odd): (&Part, &Part), padded: &[T], dx: &mut [T]) {
        for row in 0..even.rows {
            let to = &mut dx[even.plane + row * s.stride[0] * s.size[1]..][..even.columns + odd.columns];
            let even = &padded[even.padded + row * self.width..][..even.columns];
            let odd = &padded[odd.padded + row * self.width..][..odd.columns];
            interleave(to, even, odd);
        }
    }

    /// Lays a plane of the output out with gaps; these are nought already.
    #[inline(always)]
    pub(super) fn spread<T: Real>(&self, s: &ConvShape, y: &[T], run: &mut [T]) {
        let [rows, columns] = s.made;
        for row in 0..rows {
            copy_row(&mut run[row * self.width..][..columns], &y[row * columns..]);
        }
    }

    /// Copies the windows out of a run, without the gaps.
    #[inline(always)]
    pub(super) fn pick<T: Real>(&self, s: &ConvShape, run: &[T], y: &mut [T]) {
        let [rows, columns] = s.made;
        for row in 0..rows {
            copy_row(&mut y[row * columns..][..columns], &run[row * self.width..]);
        }
    }
}

/// The two phases, the one of the first column first, when they alternate in the same rows.
#[inline(always)]
fn pair<'a>(s: &ConvShape, part: &'a Part, next: &'a Part) -> Option<(&'a Part, &'a Part)> {
    let (even, odd) = if part.plane < next.plane { (part, next) } else { (next, part) };
    let alternate = s.stride[1] == 2
        && part.phase / 2 == next.phase / 2
        && odd.plane == even.plane + 1
        && even.rows == odd.rows
        && (even.columns == odd.columns || even.columns == odd.columns + 1);
    alternate.then_some((even, odd))
}
