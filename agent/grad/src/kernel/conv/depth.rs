//! Convolution of groups with one input without a matrix: outputs are sums of shifted runs of it.

use super::layout::{self, Layout};
use super::{ConvShape, LANES, fold};
use crate::real::{Real, on_this_cpu};

/// Elements of scratch at most: 512 KiB in 32 bits.
const MOST_SCRATCH: usize = 128 * 1024;

/// Whether a group has one input and its planes are small enough to lie in scratch.
pub(super) fn suits(s: &ConvShape) -> bool {
    s.group_inputs() == 1 && layout::suits(s) && scratch(s) <= MOST_SCRATCH
}

pub(super) fn scratch(s: &ConvShape) -> usize {
    layout::input(s) + layout::output(s) + s.taps() * LANES
}

/// Taps of one sum: where each reads, and its weight.
#[derive(Debug)]
struct Sum<T> {
    places: [usize; layout::MOST_TAPS],
    weights: [T; layout::MOST_TAPS],
    count: usize,
}

impl<T: Real> Sum<T> {
    fn new() -> Self {
        Self { places: [0; layout::MOST_TAPS], weights: [T::ZERO; layout::MOST_TAPS], count: 0 }
    }

    #[inline(always)]
    fn push(&mut self, place: usize, weight: T) {
        self.places[self.count] = place;
        self.weights[self.count] = weight;
        self.count += 1;
    }

    /// `to[i] = start + Σ weight · from[i + place]`; `to` is written up to the next whole vector.
    #[inline(always)]
    fn write(&self, from: &[T], start: T, length: usize, to: &mut [T]) {
        let to = &mut to.as_chunks_mut::<LANES>().0[..length.div_ceil(LANES)];
        let mut at = 0;
        while at < self.count {
            let first = (at == 0).then_some(start);
            at += match self.count - at {
                9.. => self.add::<9>(at, from, first, to),
                4.. => self.add::<4>(at, from, first, to),
                2.. => self.add::<2>(at, from, first, to),
                _ => self.add::<1>(at, from, first, to),
            };
        }
    }

    /// Adds `N` taps, whose weights stay in registers, to what is there or to `first`.
    #[inline(always)]
    fn add<const N: usize>(&self, at: usize, from: &[T], first: Option<T>, to: &mut [[T; LANES]]) -> usize {
        let runs = runs::<T, N>(from, &self.places[at..], to.len());
        let weights: [T; N] = std::array::from_fn(|tap| self.weights[at + tap]);
        for (place, to) in to.iter_mut().enumerate() {
            let mut sums = first.map_or(*to, |first| [first; LANES]);
            for tap in 0..N {
                let values = &runs[tap][place];
                for lane in 0..LANES {
                    sums[lane] += weights[tap] * values[lane];
                }
            }
            *to = sums;
        }
        N
    }
}

/// What `N` taps read, in vectors.
#[inline(always)]
fn runs<'a, T: Real, const N: usize>(
    from: &'a [T],
    places: &[usize],
    vectors: usize,
) -> [&'a [[T; LANES]]; N] {
    std::array::from_fn(|tap| &from[places[tap]..].as_chunks::<LANES>().0[..vectors])
}

/// `sums[tap] += from[i + place] · dy[i]` for `N` taps, lane by lane.
#[inline(always)]
fn add_products<T: Real, const N: usize>(
    from: &[T],
    places: &[usize],
    dy: &[[T; LANES]],
    sums: &mut [[T; LANES]],
) -> usize {
    let runs = runs::<T, N>(from, places, dy.len());
    let mut own: [[T; LANES]; N] = std::array::from_fn(|tap| sums[tap]);
    for (place, dy) in dy.iter().enumerate() {
        for tap in 0..N {
            let values = &runs[tap][place];
            for lane in 0..LANES {
                own[tap][lane] += values[lane] * dy[lane];
            }
        }
    }
    sums[..N].copy_from_slice(&own);
    N
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
    let (padded, rest) = scratch.split_at_mut(layout::input(s));
    let made = &mut rest[..layout::output(s)];
    on_this_cpu(|| {
        padded.fill(T::ZERO);
        made.fill(T::ZERO);
        let mut sum = Sum::new();
        for &tap in layout.taps() {
            sum.push(layout.place(tap), T::ZERO);
        }
        let (outputs, taps) = (s.group_outputs(), s.taps());
        for plane in 0..s.batch * s.groups {
            layout.pad(s, &x[plane * s.plane()..][..s.plane()], padded);
            for output in plane * outputs..(plane + 1) * outputs {
                let channel = output % s.outputs;
                sum.weights[..taps].copy_from_slice(&w[channel * taps..][..taps]);
                let start = bias.map_or(T::ZERO, |bias| bias[channel]);
                sum.write(padded, start, layout.run, made);
                layout.pick(s, made, &mut y[output * s.made_plane()..][..s.made_plane()]);
            }
        }
    });
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s);
    let (made, rest) = scratch.split_at_mut(layout::input(s));
    let gaps = &mut rest[..layout::output(s)];
    on_this_cpu(|| {
        gaps.fill(T::ZERO);
        made.fill(T::ZERO);
        dx.fill(T::ZERO);
        let (outputs, taps) = (s.group_outputs(), s.taps());
        for plane in 0..s.batch * s.groups {
            let dx = &mut dx[plane * s.plane()..][..s.plane()];
            for output in plane * outputs..(plane + 1) * outputs {
                let dy = &dy[output * s.made_plane()..][..s.made_plane()];
                layout.spread(s, dy, &mut gaps[layout.reach..]);
                let w = &w[output % s.outputs * taps..][..taps];
                for phase in layout.phases() {
                    let mut sum = Sum::new();
                    for (tap, &w) in layout.taps().iter().zip(w).filter(|(tap, _)| tap.phase == phase) {
                        sum.push(layout.reach - tap.offset, w);
                    }
                    sum.write(gaps, T::ZERO, layout.phase(), &mut made[phase * layout.phase()..]);
                }
                layout.unpad(s, made, dx);
            }
        }
    });
}

pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s);
    let (padded, rest) = scratch.split_at_mut(layout::input(s));
    let (gaps, sums) = rest.split_at_mut(layout::output(s));
    let taps = s.taps();
    let sums = &mut sums.as_chunks_mut::<LANES>().0[..taps];
    let mut places = [0; layout::MOST_TAPS];
    for (place, &tap) in places.iter_mut().zip(layout.taps()) {
        *place = layout.place(tap);
    }
    on_this_cpu(|| {
        padded.fill(T::ZERO);
        gaps.fill(T::ZERO);
        for channel in 0..s.outputs {
            sums.fill([T::ZERO; LANES]);
            for example in 0..s.batch {
                let plane = example * s.groups + channel / s.group_outputs();
                layout.pad(s, &x[plane * s.plane()..][..s.plane()], padded);
                let output = example * s.outputs + channel;
                layout.spread(s, &dy[output * s.made_plane()..][..s.made_plane()], gaps);
                let dy = &gaps.as_chunks::<LANES>().0[..layout.run.div_ceil(LANES)];
                let mut at = 0;
                while at < taps {
                    let (places, sums) = (&places[at..], &mut sums[at..]);
                    at += match taps - at {
                        9.. => add_products::<T, 9>(padded, places, dy, sums),
                        4.. => add_products::<T, 4>(padded, places, dy, sums),
                        2.. => add_products::<T, 2>(padded, places, dy, sums),
                        _ => add_products::<T, 1>(padded, places, dy, sums),
                    };
                }
            }
            for (dw, &sums) in dw[channel * taps..][..taps].iter_mut().zip(&*sums) {
                *dw = fold(sums);
            }
        }
    });
}
