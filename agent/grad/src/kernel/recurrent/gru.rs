//! Gated recurrent unit: `h = (1 - z) · n + z · h'` with z and r sigmoids.
//!
//! n is `tanh(x · wᵀ + r · (h' · rᵀ + b))` when linear before reset, else `tanh(x · wᵀ + (r · h') · rᵀ
//! + b)`. What r multiplies, or what it has made, is saved beside the gates as the inner part.

use super::{
    GateGradients, Gradients, InputPart, Inputs, OutputGradients, Outputs, RecurrentShape, add_step, fill,
    hand_out, leave_step, take, turned,
};
use crate::kernel::blocks::each;
use crate::kernel::gemm::Matrix;
use crate::kernel::packed::{self, Onto, Rows, RowsMut};
use crate::real::{Real, on_this_cpu};

pub(super) fn forward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    outputs: &mut Outputs<'_, T>,
    linear: bool,
    saved: &mut [T],
    mut scratch: &mut [T],
) {
    let (batch, hidden, width) = (shape.batch, shape.hidden, shape.width());
    let input = InputPart::new(shape, inputs, if linear { 2 } else { 3 }, &mut scratch);
    let (first, second) = inputs.weights.r.split_at(2 * hidden * hidden);
    let both = take(&mut scratch, packed::packed_len(hidden, 2 * hidden));
    packed::pack([hidden, 2 * hidden], turned(first, hidden), both);
    let last = take(&mut scratch, packed::packed_len(hidden, hidden));
    packed::pack([hidden, hidden], turned(second, hidden), last);
    let own = inputs.weights.b.map_or(Onto::Nought, |b| Onto::Row(&b[width + 2 * hidden..]));

    let (gates, states) = saved.split_at_mut(shape.steps * batch * width);
    let (hiddens, inner) = states.split_at_mut((shape.steps + 1) * shape.states());
    fill(&mut hiddens[shape.start()], inputs.h0);
    for time in (0..shape.steps).map(|step| shape.time(step)) {
        let gates = &mut gates[time * batch * width..][..batch * width];
        let inner = &mut inner[time * shape.states()..][..shape.states()];
        let (before, h) = shape.around(hiddens, time);
        let states = Rows { data: before, stride: hidden };
        input.run(time * batch..(time + 1) * batch, gates);
        let some = RowsMut { data: &mut *gates, stride: width };
        packed::multiply([batch, 2 * hidden, hidden], states, both, Onto::Itself, some);
        if linear {
            let to = RowsMut { data: &mut *inner, stride: hidden };
            packed::multiply([batch, hidden, hidden], states, last, own, to);
            on_this_cpu(
                #[inline(always)]
                || {
                    sigmoids::<T, true>(hidden, gates, before, inner);
                    state(hidden, gates, before, h);
                },
            );
        } else {
            on_this_cpu(
                #[inline(always)]
                || sigmoids::<T, false>(hidden, gates, before, inner),
            );
            let some = RowsMut { data: &mut gates[2 * hidden..], stride: width };
            let inner = Rows { data: &*inner, stride: hidden };
            packed::multiply([batch, hidden, hidden], inner, last, Onto::Itself, some);
            on_this_cpu(
                #[inline(always)]
                || state(hidden, gates, before, h),
            );
        }
        leave_step(shape, outputs, time, h);
    }
    hand_out(&mut outputs.y_h, &hiddens[shape.end()]);
}

/// Makes z and r of their sums; adds r times the inner part to the sum of n when linear, else makes
/// the inner part.
#[inline(always)]
fn sigmoids<T: Real, const LINEAR: bool>(hidden: usize, gates: &mut [T], before: &[T], inner: &mut [T]) {
    let rows = before.chunks_exact(hidden).zip(inner.chunks_exact_mut(hidden));
    for (gates, (before, inner)) in gates.chunks_exact_mut(3 * hidden).zip(rows) {
        let [z, r, n] = three_mut(gates, hidden);
        if LINEAR {
            each(
                [&*inner],
                [z, r, n],
                #[inline(always)]
                |[inner], [z, r, n]| {
                    let r = r.sigmoid();
                    [z.sigmoid(), r, n + r * inner]
                },
            );
        } else {
            each(
                [before],
                [z, r, inner],
                #[inline(always)]
                |[before], [z, r, _]| {
                    let r = r.sigmoid();
                    [z.sigmoid(), r, r * before]
                },
            );
        }
    }
}

/// Makes n of its sum, and the next state.
#[inline(always)]
fn state<T: Real>(hidden: usize, gates: &mut [T], before: &[T], h: &mut [T]) {
    let rows = before.chunks_exact(hidden).zip(h.chunks_exact_mut(hidden));
    for (gates, (before, h)) in gates.chunks_exact_mut(3 * hidden).zip(rows) {
        let [z, _, n] = three_mut(gates, hidden);
        each(
            [before, z],
            [n, h],
            #[inline(always)]
            |[before, z], [n, _]| {
                let n = n.tanh();
                [n, n + z * (before - n)]
            },
        );
    }
}

/// The state weights as the backward run wants them: those of z and r, and those of n.
fn packed_back<'a, T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    scratch: &mut &'a mut [T],
) -> [&'a [T]; 2] {
    let hidden = shape.hidden;
    let (first, second) = inputs.weights.r.split_at(2 * hidden * hidden);
    [(first, 2 * hidden), (second, hidden)].map(|(r, rows)| {
        let part = take(scratch, packed::packed_len(rows, hidden));
        packed::pack([rows, hidden], Matrix { data: r, row: hidden, column: 1 }, part);
        &*part
    })
}

/// Splits what was saved into gates, states and the inner part.
fn parts<'a, T>(shape: &RecurrentShape, saved: &'a [T]) -> [&'a [T]; 3] {
    let (gates, states) = saved.split_at(shape.steps * shape.batch * shape.width());
    let (hiddens, inner) = states.split_at((shape.steps + 1) * shape.states());
    [gates, hiddens, inner]
}

pub(super) fn backward_linear<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    incoming: &OutputGradients<'_, T>,
    saved: &[T],
    gradients: &mut Gradients<'_, T>,
    mut scratch: &mut [T],
) {
    let (batch, hidden, width) = (shape.batch, shape.hidden, shape.width());
    let [both, last] = packed_back(shape, inputs, &mut scratch);
    let dh = take(&mut scratch, shape.states());
    // Sums of z, r and n, and the inner part of n.
    let stride = 4 * hidden;
    let all = take(&mut scratch, shape.steps * batch * stride);
    let [gates, hiddens, inner] = parts(shape, saved);
    fill(dh, incoming.dy_h);
    for time in (0..shape.steps).rev().map(|step| shape.time(step)) {
        add_step(shape, incoming, time, dh);
        let gates = &gates[time * batch * width..][..batch * width];
        let inner = &inner[time * shape.states()..][..shape.states()];
        let before = &hiddens[shape.before(time)];
        let sums = &mut all[time * batch * stride..][..batch * stride];
        on_this_cpu(
            #[inline(always)]
            || linear_gates_backward(hidden, (gates, before, inner), dh, sums),
        );
        for (first, k, weights) in [(0, 2 * hidden, both), (3 * hidden, hidden, last)] {
            let some = Rows { data: &sums[first..], stride };
            let to = RowsMut { data: &mut *dh, stride: hidden };
            packed::multiply([batch, hidden, k], some, weights, Onto::Itself, to);
        }
    }
    hand_out(&mut gradients.dh0, dh);
    let cut = |first: usize, columns: usize| GateGradients { data: all, stride, first, columns };
    cut(0, width).leave_input(shape, inputs, gradients, scratch);
    let before = &hiddens[shape.all_before()];
    if let Some(dr) = &mut gradients.dr {
        let (first, second) = dr.split_at_mut(2 * hidden * hidden);
        cut(0, 2 * hidden).weights(before, hidden, first);
        cut(3 * hidden, hidden).weights(before, hidden, second);
    }
    if let Some(db) = &mut gradients.db {
        let (inputs, states) = db.split_at_mut(width);
        cut(0, width).bias(inputs);
        states[..2 * hidden].copy_from_slice(&inputs[..2 * hidden]);
        cut(3 * hidden, hidden).bias(&mut states[2 * hidden..]);
    }
}

/// The gradients of all sums, and in place of `dh` the part of it that passes by the gates.
#[inline(always)]
fn linear_gates_backward<T: Real>(
    hidden: usize,
    (gates, before, inner): (&[T], &[T], &[T]),
    dh: &mut [T],
    sums: &mut [T],
) {
    let rows = gates.chunks_exact(3 * hidden).zip(before.chunks_exact(hidden));
    let others = inner.chunks_exact(hidden).zip(dh.chunks_exact_mut(hidden));
    for (((gates, before), (inner, dh)), sums) in rows.zip(others).zip(sums.chunks_exact_mut(4 * hidden)) {
        let [z, r, n] = three(gates, hidden);
        let (sums, dq) = sums.split_at_mut(3 * hidden);
        let [dz, dr, dn] = three_mut(sums, hidden);
        let dq = &mut dq[..hidden];
        let read = [z, r, n, before, inner];
        each(
            read,
            [dz, dr, dn, dq, dh],
            #[inline(always)]
            |[z, r, n, before, inner], [.., dh]| {
                let dz = dh * (before - n) * z * (T::ONE - z);
                let dn = dh * (T::ONE - z) * (T::ONE - n * n);
                [dz, dn * inner * r * (T::ONE - r), dn, dn * r, dh * z]
            },
        );
    }
}

pub(super) fn backward_reset<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    incoming: &OutputGradients<'_, T>,
    saved: &[T],
    gradients: &mut Gradients<'_, T>,
    mut scratch: &mut [T],
) {
    let (batch, hidden, width) = (shape.batch, shape.hidden, shape.width());
    let [both, last] = packed_back(shape, inputs, &mut scratch);
    let [dh, d_inner] = [(); 2].map(|()| take(&mut scratch, shape.states()));
    let all = take(&mut scratch, shape.steps * batch * width);
    let [gates, hiddens, inner] = parts(shape, saved);
    fill(dh, incoming.dy_h);
    for time in (0..shape.steps).rev().map(|step| shape.time(step)) {
        add_step(shape, incoming, time, dh);
        let gates = &gates[time * batch * width..][..batch * width];
        let before = &hiddens[shape.before(time)];
        let sums = &mut all[time * batch * width..][..batch * width];
        on_this_cpu(
            #[inline(always)]
            || state_backward(hidden, (gates, before), dh, sums),
        );
        let some = Rows { data: &sums[2 * hidden..], stride: width };
        let to = RowsMut { data: &mut *d_inner, stride: hidden };
        packed::multiply([batch, hidden, hidden], some, last, Onto::Nought, to);
        on_this_cpu(
            #[inline(always)]
            || reset_backward(hidden, (gates, before, d_inner), dh, sums),
        );
        let some = Rows { data: &*sums, stride: width };
        let to = RowsMut { data: &mut *dh, stride: hidden };
        packed::multiply([batch, hidden, 2 * hidden], some, both, Onto::Itself, to);
    }
    hand_out(&mut gradients.dh0, dh);
    let cut = |first: usize, columns: usize| GateGradients { data: all, stride: width, first, columns };
    cut(0, width).leave_input(shape, inputs, gradients, scratch);
    if let Some(dr) = &mut gradients.dr {
        let (first, second) = dr.split_at_mut(2 * hidden * hidden);
        cut(0, 2 * hidden).weights(&hiddens[shape.all_before()], hidden, first);
        cut(2 * hidden, hidden).weights(inner, hidden, second);
    }
    if let Some(db) = &mut gradients.db {
        let (inputs, states) = db.split_at_mut(width);
        cut(0, width).bias(inputs);
        states.copy_from_slice(inputs);
    }
}

/// The gradients of the sums of z and n, and in place of `dh` the part that passes by the gates.
#[inline(always)]
fn state_backward<T: Real>(hidden: usize, (gates, before): (&[T], &[T]), dh: &mut [T], sums: &mut [T]) {
    let rows = gates.chunks_exact(3 * hidden).zip(before.chunks_exact(hidden));
    let written = dh.chunks_exact_mut(hidden).zip(sums.chunks_exact_mut(3 * hidden));
    for ((gates, before), (dh, sums)) in rows.zip(written) {
        let [z, _, n] = three(gates, hidden);
        let [dz, _, dn] = three_mut(sums, hidden);
        each(
            [z, n, before],
            [dz, dn, dh],
            #[inline(always)]
            |[z, n, before], [.., dh]| {
                let dz = dh * (before - n) * z * (T::ONE - z);
                [dz, dh * (T::ONE - z) * (T::ONE - n * n), dh * z]
            },
        );
    }
}

/// The gradients of the sum of r, and what goes through the inner part to the state before.
#[inline(always)]
fn reset_backward<T: Real>(
    hidden: usize,
    (gates, before, d_inner): (&[T], &[T], &[T]),
    dh: &mut [T],
    sums: &mut [T],
) {
    let rows = gates.chunks_exact(3 * hidden).zip(before.chunks_exact(hidden));
    let written = dh.chunks_exact_mut(hidden).zip(sums.chunks_exact_mut(3 * hidden));
    for (((gates, before), d_inner), (dh, sums)) in rows.zip(d_inner.chunks_exact(hidden)).zip(written) {
        let [_, r, _] = three(gates, hidden);
        let [_, dr, _] = three_mut(sums, hidden);
        each(
            [r, before, d_inner],
            [dr, dh],
            #[inline(always)]
            |[r, before, d_inner], [_, dh]| [d_inner * before * r * (T::ONE - r), dh + d_inner * r],
        );
    }
}

#[inline(always)]
fn three<T>(row: &[T], hidden: usize) -> [&[T]; 3] {
    let (a, row) = row.split_at(hidden);
    let (b, row) = row.split_at(hidden);
    [a, b, &row[..hidden]]
}

#[inline(always)]
fn three_mut<T>(row: &mut [T], hidden: usize) -> [&mut [T]; 3] {
    let (a, row) = row.split_at_mut(hidden);
    let (b, row) = row.split_at_mut(hidden);
    [a, b, &mut row[..hidden]]
}
