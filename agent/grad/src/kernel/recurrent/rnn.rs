//! The plain recurrent layer: `h = tanh(x · wᵀ + h' · rᵀ + b)`, or `max(0, …)`.

use super::{
    GateGradients, Gradients, InputPart, Inputs, OutputGradients, Outputs, RecurrentShape, add_step, fill,
    hand_out, leave_step, take, turned,
};
use crate::kernel::gemm::Matrix;
use crate::kernel::packed::{self, Onto, Rows, RowsMut};
use crate::real::{Real, on_this_cpu};

pub(super) fn forward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    outputs: &mut Outputs<'_, T>,
    relu: bool,
    hiddens: &mut [T],
    mut scratch: &mut [T],
) {
    let (batch, hidden) = (shape.batch, shape.hidden);
    let input = InputPart::new(shape, inputs, 1, &mut scratch);
    let recurrent = take(&mut scratch, packed::packed_len(hidden, hidden));
    packed::pack([hidden, hidden], turned(inputs.weights.r, hidden), recurrent);
    fill(&mut hiddens[shape.start()], inputs.h0);
    for time in (0..shape.steps).map(|step| shape.time(step)) {
        let (before, h) = shape.around(hiddens, time);
        input.run(time * batch..(time + 1) * batch, h);
        packed::multiply(
            [batch, hidden, hidden],
            Rows { data: before, stride: hidden },
            recurrent,
            Onto::Itself,
            RowsMut { data: h, stride: hidden },
        );
        on_this_cpu(
            #[inline(always)]
            || {
                for h in h.iter_mut() {
                    *h = if relu { h.larger(T::ZERO) } else { h.tanh() };
                }
            },
        );
        leave_step(shape, outputs, time, h);
    }
    hand_out(&mut outputs.y_h, &hiddens[shape.end()]);
}

pub(super) fn backward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    incoming: &OutputGradients<'_, T>,
    relu: bool,
    hiddens: &[T],
    gradients: &mut Gradients<'_, T>,
    mut scratch: &mut [T],
) {
    let (batch, hidden) = (shape.batch, shape.hidden);
    let recurrent = take(&mut scratch, packed::packed_len(hidden, hidden));
    packed::pack([hidden, hidden], Matrix { data: inputs.weights.r, row: hidden, column: 1 }, recurrent);
    let dh = take(&mut scratch, shape.states());
    let all = take(&mut scratch, shape.steps * shape.states());
    fill(dh, incoming.dy_h);
    for time in (0..shape.steps).rev().map(|step| shape.time(step)) {
        add_step(shape, incoming, time, dh);
        let sums = &mut all[time * shape.states()..][..shape.states()];
        let after = &hiddens[shape.after(time)];
        on_this_cpu(
            #[inline(always)]
            || {
                for ((sum, h), dh) in sums.iter_mut().zip(after).zip(dh.iter()) {
                    let slope = match relu {
                        true if *h > T::ZERO => T::ONE,
                        true => T::ZERO,
                        false => T::ONE - *h * *h,
                    };
                    *sum = *dh * slope;
                }
            },
        );
        packed::multiply(
            [batch, hidden, hidden],
            Rows { data: sums, stride: hidden },
            recurrent,
            Onto::Nought,
            RowsMut { data: dh, stride: hidden },
        );
    }
    hand_out(&mut gradients.dh0, dh);
    let all = GateGradients { data: all, stride: hidden, first: 0, columns: hidden };
    all.leave(shape, inputs, &hiddens[shape.all_before()], gradients, scratch);
}
