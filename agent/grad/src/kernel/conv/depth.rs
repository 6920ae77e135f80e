//! Convolution of groups with one input without a matrix: outputs are sums of shifted runs of it.

use std::ops::Range;

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
    let together = layout::together(s);
    layout::input(s, together) + layout::output(s, together) + s.taps() * LANES
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

    /// `to[i] = first + Σ weight · from[i + place]`, or added to what is there; `to` is written up to the next whole vector.
    #[inline(always)]
    fn write(&self, from: &[T], first: Option<T>, length: usize, to: &mut [T]) {
        let to = &mut to.as_chunks_mut::<LANES>().0[..length.div_ceil(LANES)];
        let mut at = match first {
            Some(first) => self.step::<true>(0, from, first, to),
            None => 0,
        };
        while at < self.count {
            at = self.step::<false>(at, from, T::ZERO, to);
        }
    }

    /// Adds the next taps, as many as there are registers for; the number of those that are done.
    #[inline(always)]
    fn step<const FRESH: bool>(&self, at: usize, from: &[T], first: T, to: &mut [[T; LANES]]) -> usize {
        match self.count - at {
            9.. => self.add::<9, FRESH>(at, from, first, to),
            4.. => self.add::<4, FRESH>(at, from, first, to),
            2.. => self.add::<2, FRESH>(at, from, first, to),
            _ => self.add::<1, FRESH>(at, from, first, to),
        }
    }

    /// Adds `N` taps, whose weights stay in registers, to `first` when `FRESH`, or to what is there.
    #[inline(always)]
    fn add<const N: usize, const FRESH: bool>(
        &self,
        at: usize,
        from: &[T],
        first: T,
        to: &mut [[T; LANES]],
    ) -> usize {
        let runs = runs::<T, N>(from, &self.places[at..], to.len());
        let weights: [T; N] = std::array::from_fn(|tap| self.weights[at + tap]);
        for (place, to) in to.iter_mut().enumerate() {
            let mut sums = if FRESH { [first; LANES] } else { *to };
            for tap in 0..N {
                let values = &runs[tap][place];
                for lane in 0..LANES {
                    sums[lane] += weights[tap] * values[lane];
                }
            }
            *to = sums;
        }
        at + N
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
    let layout = Layout::of(s, layout::together(s));
    let (padded, rest) = scratch.split_at_mut(layout::input(s, layout.together));
    let made = &mut rest[..layout::output(s, layout.together)];
    on_this_cpu(
        #[inline(always)]
        || {
            padded.fill(T::ZERO);
            made.fill(T::ZERO);
            let mut sum = Sum::new();
            for &tap in layout.taps() {
                sum.push(layout.place(tap), T::ZERO);
            }
            let (outputs, taps) = (s.group_outputs(), s.taps());
            for (group, examples) in groups_and_examples(s, &layout) {
                for (place, example) in examples.clone().enumerate() {
                    let padded = &mut padded[place * layout.phase()..];
                    layout.pad(s, &x[s.input_plane(example, group)], padded);
                }
                for channel in group * outputs..(group + 1) * outputs {
                    sum.weights[..taps].copy_from_slice(&w[channel * taps..][..taps]);
                    let first = bias.map_or(T::ZERO, |bias| bias[channel]);
                    sum.write(padded, Some(first), layout.run_of(examples.len()), made);
                    for (place, example) in examples.clone().enumerate() {
                        let made = &made[place * layout.phase()..];
                        layout.pick(s, made, &mut y[s.output_plane(example, channel)]);
                    }
                }
            }
        },
    );
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s, layout::together(s));
    let (made, rest) = scratch.split_at_mut(layout::input(s, layout.together));
    let gaps = &mut rest[..layout::output(s, layout.together)];
    on_this_cpu(
        #[inline(always)]
        || {
            gaps.fill(T::ZERO);
            if !layout.covers(s) {
                dx.fill(T::ZERO);
            }
            let (outputs, taps) = (s.group_outputs(), s.taps());
            for (group, examples) in groups_and_examples(s, &layout) {
                for channel in group * outputs..(group + 1) * outputs {
                    for (place, example) in examples.clone().enumerate() {
                        let gaps = &mut gaps[layout.reach + place * layout.phase()..];
                        layout.spread(s, &dy[s.output_plane(example, channel)], gaps);
                    }
                    let first = (channel == group * outputs).then_some(T::ZERO);
                    let w = &w[channel * taps..][..taps];
                    for phase in layout.phases() {
                        let mut sum = Sum::new();
                        for (tap, &w) in layout.taps().iter().zip(w).filter(|(tap, _)| tap.phase == phase) {
                            sum.push(layout.reach - tap.offset, w);
                        }
                        let length = examples.len() * layout.phase();
                        sum.write(gaps, first, length, &mut made[layout.start(phase)..]);
                    }
                }
                for (place, example) in examples.enumerate() {
                    let made = &made[place * layout.phase()..];
                    layout.unpad(s, made, &mut dx[s.input_plane(example, group)]);
                }
            }
        },
    );
}

pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]) {
    let layout = Layout::of(s, layout::together(s));
    let (padded, rest) = scratch.split_at_mut(layout::input(s, layout.together));
    let (gaps, sums) = rest.split_at_mut(layout::output(s, layout.together));
    let taps = s.taps();
    let sums = &mut sums.as_chunks_mut::<LANES>().0[..taps];
    let mut places = [0; layout::MOST_TAPS];
    for (place, &tap) in places.iter_mut().zip(layout.taps()) {
        *place = layout.place(tap);
    }
    on_this_cpu(
        #[inline(always)]
        || {
            padded.fill(T::ZERO);
            gaps.fill(T::ZERO);
            for channel in 0..s.outputs {
                sums.fill([T::ZERO; LANES]);
                let group = channel / s.group_outputs();
                for examples in examples(s, &layout) {
                    for (place, example) in examples.clone().enumerate() {
                        let start = place * layout.phase();
                        layout.pad(s, &x[s.input_plane(example, group)], &mut padded[start..]);
                        let dy = &dy[s.output_plane(example, channel)];
                        layout.spread(s, dy, &mut gaps[start..]);
                    }
                    let run = layout.run_of(examples.len());
                    // What planes before left in the last vector is no part of this run.
                    let vectors = run.div_ceil(LANES);
                    gaps[run..vectors * LANES].fill(T::ZERO);
                    let dy = &gaps.as_chunks::<LANES>().0[..vectors];
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
        },
    );
}

/// Examples that are computed together, in order.
fn examples(s: &ConvShape, layout: &Layout) -> impl Iterator<Item = Range<usize>> {
    let (batch, together) = (s.batch, layout.together);
    (0..batch).step_by(together).map(move |first| first..(first + together).min(batch))
}

fn groups_and_examples(s: &ConvShape, layout: &Layout) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..s.groups).flat_map(move |group| examples(s, layout).map(move |examples| (group, examples)))
}
