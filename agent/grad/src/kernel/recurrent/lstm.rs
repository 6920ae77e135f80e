//! Long short-term memory.
//!
//! `c = f · c' + i · g`, `h = o · tanh(c)`; i, o and f are sigmoids, g is a tanh. Peepholes add
//! `p · c'` to i and f and `p · c` to o.

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
    saved: &mut [T],
    mut scratch: &mut [T],
) {
    let (batch, hidden, width) = (shape.batch, shape.hidden, shape.width());
    let input = InputPart::new(shape, inputs, 4, &mut scratch);
    let recurrent = take(&mut scratch, packed::packed_len(hidden, width));
    packed::pack([hidden, width], turned(inputs.weights.r, hidden), recurrent);

    let (gates, states) = saved.split_at_mut(shape.steps * batch * width);
    let (cells, hiddens) = states.split_at_mut(states.len() / 2);
    fill(&mut cells[shape.start()], inputs.c0);
    fill(&mut hiddens[shape.start()], inputs.h0);
    for time in (0..shape.steps).map(|step| shape.time(step)) {
        let gates = &mut gates[time * batch * width..][..batch * width];
        let (before, h) = shape.around(hiddens, time);
        input.run(time * batch..(time + 1) * batch, gates);
        packed::multiply(
            [batch, width, hidden],
            Rows { data: before, stride: hidden },
            recurrent,
            Onto::Itself,
            RowsMut { data: gates, stride: width },
        );
        let (before, c) = shape.around(cells, time);
        match inputs.weights.p {
            Some(p) => on_this_cpu(
                #[inline(always)]
                || gates_forward::<T, true>(hidden, gates, p, before, c, h),
            ),
            None => on_this_cpu(
                #[inline(always)]
                || gates_forward::<T, false>(hidden, gates, &[], before, c, h),
            ),
        }
        leave_step(shape, outputs, time, h);
    }
    hand_out(&mut outputs.y_h, &hiddens[shape.end()]);
    hand_out(&mut outputs.y_c, &cells[shape.end()]);
}

/// Makes gates of sums, in place, and the next memory and state.
#[inline(always)]
fn gates_forward<T: Real, const PEEPHOLES: bool>(
    hidden: usize,
    gates: &mut [T],
    p: &[T],
    before: &[T],
    c: &mut [T],
    h: &mut [T],
) {
    let states = c.chunks_exact_mut(hidden).zip(h.chunks_exact_mut(hidden));
    let rows = gates.chunks_exact_mut(4 * hidden).zip(before.chunks_exact(hidden));
    for ((gates, before), (c, h)) in rows.zip(states) {
        let [i, o, f, g] = four_mut(gates, hidden);
        let written = [i, &mut *o, f, g, &mut *c];
        // The gates first and then the state: what waits for c would stop what does not.
        if PEEPHOLES {
            let [pi, po, pf] = three(p, hidden);
            each(
                [before, pi, pf],
                written,
                #[inline(always)]
                |[before, pi, pf], [i, o, f, g, _]| {
                    let [i, f, g, c] = memory(before, i + pi * before, f + pf * before, g);
                    [i, o, f, g, c]
                },
            );
            each(
                [&*c, po],
                [o, h],
                #[inline(always)]
                |[c, po], [o, _]| {
                    let o = (o + po * c).sigmoid();
                    [o, o * c.tanh()]
                },
            );
        } else {
            each(
                [before],
                written,
                #[inline(always)]
                |[before], [i, o, f, g, _]| {
                    let [i, f, g, c] = memory(before, i, f, g);
                    [i, o.sigmoid(), f, g, c]
                },
            );
            each(
                [&*c, &*o],
                [h],
                #[inline(always)]
                |[c, o], _| [o * c.tanh()],
            );
        }
    }
}

/// The gates i, f and g of their sums, and the memory.
#[inline(always)]
fn memory<T: Real>(before: T, i: T, f: T, g: T) -> [T; 4] {
    let (i, f, g) = (i.sigmoid(), f.sigmoid(), g.tanh());
    [i, f, g, f * before + i * g]
}

pub(super) fn backward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    incoming: &OutputGradients<'_, T>,
    saved: &[T],
    gradients: &mut Gradients<'_, T>,
    mut scratch: &mut [T],
) {
    let (batch, hidden, width) = (shape.batch, shape.hidden, shape.width());
    let recurrent = take(&mut scratch, packed::packed_len(width, hidden));
    packed::pack([width, hidden], Matrix { data: inputs.weights.r, row: hidden, column: 1 }, recurrent);
    let [dh, dc] = [(); 2].map(|()| take(&mut scratch, shape.states()));
    let all = take(&mut scratch, shape.steps * batch * width);
    fill(dh, incoming.dy_h);
    fill(dc, incoming.dy_c);

    let (gates, states) = saved.split_at(shape.steps * batch * width);
    let (cells, hiddens) = states.split_at(states.len() / 2);
    for time in (0..shape.steps).rev().map(|step| shape.time(step)) {
        add_step(shape, incoming, time, dh);
        let now = Step {
            hidden,
            gates: &gates[time * batch * width..][..batch * width],
            p: inputs.weights.p.unwrap_or_default(),
            before: &cells[shape.before(time)],
            c: &cells[shape.after(time)],
            dh,
        };
        let sums = &mut all[time * batch * width..][..batch * width];
        match inputs.weights.p {
            Some(_) => on_this_cpu(
                #[inline(always)]
                || gates_backward::<T, true>(&now, dc, sums),
            ),
            None => on_this_cpu(
                #[inline(always)]
                || gates_backward::<T, false>(&now, dc, sums),
            ),
        }
        packed::multiply(
            [batch, hidden, width],
            Rows { data: sums, stride: width },
            recurrent,
            Onto::Nought,
            RowsMut { data: dh, stride: hidden },
        );
    }
    hand_out(&mut gradients.dh0, dh);
    hand_out(&mut gradients.dc0, dc);
    if let Some(dp) = &mut gradients.dp {
        peepholes_backward(shape, all, cells, dp);
    }
    let all = GateGradients { data: all, stride: width, first: 0, columns: width };
    all.leave(shape, inputs, &hiddens[shape.all_before()], gradients, scratch);
}

/// What the gates of one step were, and the gradient of its state.
struct Step<'a, T> {
    hidden: usize,
    gates: &'a [T],
    p: &'a [T],
    before: &'a [T],
    c: &'a [T],
    dh: &'a [T],
}

/// The gradients of the sums that went into the gates, and of the memory before, in place of `dc`.
#[inline(always)]
fn gates_backward<T: Real, const PEEPHOLES: bool>(step: &Step<'_, T>, dc: &mut [T], sums: &mut [T]) {
    let hidden = step.hidden;
    let states = step.before.chunks_exact(hidden).zip(step.c.chunks_exact(hidden));
    let steps = step.dh.chunks_exact(hidden).zip(dc.chunks_exact_mut(hidden));
    let gates = step.gates.chunks_exact(4 * hidden).zip(sums.chunks_exact_mut(4 * hidden));
    for (((before, c), (dh, dc)), (gates, sums)) in states.zip(steps).zip(gates) {
        let [i, o, f, g] = four(gates, hidden);
        let [di, d_o, df, dg] = four_mut(sums, hidden);
        let written = [di, d_o, df, dg, dc];
        if PEEPHOLES {
            let [pi, po, pf] = three(step.p, hidden);
            let read = [i, o, f, g, before, c, dh, pi, po, pf];
            each(
                read,
                written,
                #[inline(always)]
                |[i, o, f, g, before, c, dh, pi, po, pf], [.., dc]| {
                    let [di, d_o, df, dg, dc] = last(
                        [i, o, f, g],
                        before,
                        c,
                        dh,
                        #[inline(always)]
                        |d_o| dc + d_o * po,
                    );
                    [di, d_o, df, dg, dc + di * pi + df * pf]
                },
            );
        } else {
            each(
                [i, o, f, g, before, c, dh],
                written,
                #[inline(always)]
                |[i, o, f, g, before, c, dh], [.., dc]| {
                    last(
                        [i, o, f, g],
                        before,
                        c,
                        dh,
                        #[inline(always)]
                        |_| dc,
                    )
                },
            );
        }
    }
}

/// Gradients of the four sums and of the memory before; `carried` is the gradient of the memory that
/// comes from elsewhere, given that of the output gate's sum.
#[inline(always)]
fn last<T: Real>([i, o, f, g]: [T; 4], before: T, c: T, dh: T, carried: impl Fn(T) -> T) -> [T; 5] {
    let bent = c.tanh();
    let d_o = dh * bent * o * (T::ONE - o);
    let dc = carried(d_o) + dh * o * (T::ONE - bent * bent);
    let di = dc * g * i * (T::ONE - i);
    let df = dc * before * f * (T::ONE - f);
    let dg = dc * i * (T::ONE - g * g);
    [di, d_o, df, dg, dc * f]
}

fn peepholes_backward<T: Real>(shape: &RecurrentShape, all: &[T], cells: &[T], dp: &mut [T]) {
    let (hidden, width) = (shape.hidden, shape.width());
    dp.fill(T::ZERO);
    for time in 0..shape.steps {
        let sums = all[time * shape.batch * width..].chunks_exact(width);
        let before = cells[shape.before(time)].chunks_exact(hidden);
        let after = cells[shape.after(time)].chunks_exact(hidden);
        for ((sums, before), c) in sums.zip(before).zip(after) {
            for j in 0..hidden {
                dp[j] += sums[j] * before[j];
                dp[hidden + j] += sums[hidden + j] * c[j];
                dp[2 * hidden + j] += sums[2 * hidden + j] * before[j];
            }
        }
    }
}

#[inline(always)]
fn four<T>(row: &[T], hidden: usize) -> [&[T]; 4] {
    let (a, row) = row.split_at(hidden);
    let (b, row) = row.split_at(hidden);
    let (c, row) = row.split_at(hidden);
    [a, b, c, &row[..hidden]]
}

#[inline(always)]
fn four_mut<T>(row: &mut [T], hidden: usize) -> [&mut [T]; 4] {
    let (a, row) = row.split_at_mut(hidden);
    let (b, row) = row.split_at_mut(hidden);
    let (c, row) = row.split_at_mut(hidden);
    [a, b, c, &mut row[..hidden]]
}

#[inline(always)]
fn three<T>(row: &[T], hidden: usize) -> [&[T]; 3] {
    let (a, row) = row.split_at(hidden);
    let (b, row) = row.split_at(hidden);
    [a, b, &row[..hidden]]
}
