//! Recurrent layers as ONNX defines them (`LSTM`, `GRU`, `RNN`, operator sets 7 to 22), one direction
//! a call.
//!
//! Input x is [steps, batch, input], w [gates · hidden, input], r [gates · hidden, hidden], b
//! [2 · gates · hidden], states [batch, hidden]. The step's work on the states is one product with
//! packed weights and one pass over the gates; the gradients of weights and input are products over
//! all steps at once.

mod gru;
mod lstm;
mod rnn;
#[cfg(test)]
mod tests;

use crate::kernel::gemm::{self, Matrix, MatrixMut};
use crate::kernel::packed::{self, Onto, Rows, RowsMut};
use crate::real::{Real, on_this_cpu};
use std::ops::Range;

/// Inputs up to which the gradient of their weights is computed transposed.
const NARROW: usize = 16;

/// Which recurrent layer, with its choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory; gates in the order input, output, forget, cell.
    Lstm,
    /// Gated recurrent unit; gates in the order update, reset, hidden.
    Gru {
        /// Whether the reset gate multiplies after the product (as in PyTorch) or before.
        linear_before_reset: bool,
    },
    /// One gate without memory.
    Rnn {
        /// Whether it ends in `Relu` instead of `Tanh`.
        relu: bool,
    },
}

/// The sizes of one direction of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Which layer.
    pub cell: Cell,
    /// Steps of the sequence.
    pub steps: usize,
    /// Sequences side by side.
    pub batch: usize,
    /// Numbers of an input.
    pub input: usize,
    /// Numbers of a state.
    pub hidden: usize,
    /// Whether the sequence is walked from its end.
    pub reverse: bool,
}

/// What a layer has learned.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a, T> {
    /// Input weights [gates · hidden, input].
    pub w: &'a [T],
    /// State weights [gates · hidden, hidden].
    pub r: &'a [T],
    /// Input biases and then state biases [2 · gates · hidden].
    pub b: Option<&'a [T]>,
    /// Peepholes of an LSTM [3 · hidden]: input, output, forget.
    pub p: Option<&'a [T]>,
}

/// What a layer is given.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, T> {
    /// The sequences [steps, batch, input].
    pub x: &'a [T],
    /// The weights.
    pub weights: Weights<'a, T>,
    /// The first state [batch, hidden]; noughts when absent.
    pub h0: Option<&'a [T]>,
    /// The first memory of an LSTM [batch, hidden]; noughts when absent.
    pub c0: Option<&'a [T]>,
}

/// Where a layer's results go; all are overwritten.
#[derive(Debug)]
pub struct Outputs<'a, T> {
    /// All states: step t is at `t * y_stride`, [batch, hidden]; starts at this direction's first.
    pub y: Option<&'a mut [T]>,
    /// Elements from one step of `y` to the next.
    pub y_stride: usize,
    /// The last state.
    pub y_h: Option<&'a mut [T]>,
    /// The last memory of an LSTM.
    pub y_c: Option<&'a mut [T]>,
}

/// The gradients that come in; what is absent is nought.
#[derive(Debug, Clone, Copy)]
pub struct OutputGradients<'a, T> {
    /// Of all states, laid out like [`Outputs::y`].
    pub dy: Option<&'a [T]>,
    /// Elements from one step of `dy` to the next.
    pub dy_stride: usize,
    /// Of the last state.
    pub dy_h: Option<&'a [T]>,
    /// Of the last memory.
    pub dy_c: Option<&'a [T]>,
}

/// Where gradients go; all are overwritten, what is absent is not computed.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// Of the input.
    pub dx: Option<&'a mut [T]>,
    /// Of the input weights.
    pub dw: Option<&'a mut [T]>,
    /// Of the state weights.
    pub dr: Option<&'a mut [T]>,
    /// Of the biases.
    pub db: Option<&'a mut [T]>,
    /// Of the peepholes.
    pub dp: Option<&'a mut [T]>,
    /// Of the first state.
    pub dh0: Option<&'a mut [T]>,
    /// Of the first memory.
    pub dc0: Option<&'a mut [T]>,
}

/// Runs the sequence and keeps in `saved` what [`backward`] needs.
///
/// `saved` has [`RecurrentShape::saved`] elements, `scratch` at least [`RecurrentShape::scratch`];
/// what they hold before is not read.
///
/// # Panics
/// When a slice has not the size that the shape gives.
pub fn forward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    mut outputs: Outputs<'_, T>,
    saved: &mut [T],
    scratch: &mut [T],
) {
    shape.check(inputs);
    assert_eq!(saved.len(), shape.saved(), "saved elements of {shape:?}");
    match shape.cell {
        Cell::Lstm => lstm::forward(shape, inputs, &mut outputs, saved, scratch),
        Cell::Gru { linear_before_reset } => {
            gru::forward(shape, inputs, &mut outputs, linear_before_reset, saved, scratch);
        }
        Cell::Rnn { relu } => rnn::forward(shape, inputs, &mut outputs, relu, saved, scratch),
    }
}

/// Turns gradients of the results into gradients of inputs and weights, with what [`forward`] saved.
///
/// # Panics
/// When a slice has not the size that the shape gives.
pub fn backward<T: Real>(
    shape: &RecurrentShape,
    inputs: &Inputs<'_, T>,
    incoming: &OutputGradients<'_, T>,
    saved: &[T],
    mut gradients: Gradients<'_, T>,
    scratch: &mut [T],
) {
    shape.check(inputs);
    assert_eq!(saved.len(), shape.saved(), "saved elements of {shape:?}");
    match shape.cell {
        Cell::Lstm => lstm::backward(shape, inputs, incoming, saved, &mut gradients, scratch),
        Cell::Gru { linear_before_reset: true } => {
            gru::backward_linear(shape, inputs, incoming, saved, &mut gradients, scratch);
        }
        Cell::Gru { linear_before_reset: false } => {
            gru::backward_reset(shape, inputs, incoming, saved, &mut gradients, scratch);
        }
        Cell::Rnn { relu } => rnn::backward(shape, inputs, incoming, relu, saved, &mut gradients, scratch),
    }
}

impl RecurrentShape {
    /// Elements that the forward run keeps for the backward run.
    #[must_use]
    pub fn saved(&self) -> usize {
        let slots = (self.steps + 1) * self.states();
        let all = self.steps * self.batch * self.width();
        match self.cell {
            Cell::Lstm => all + 2 * slots,
            Cell::Gru { .. } => all + slots + self.steps * self.states(),
            Cell::Rnn { .. } => slots,
        }
    }

    /// Elements that either run needs for itself.
    #[must_use]
    pub fn scratch(&self) -> usize {
        let states = self.states();
        let (forth, back_width) = match self.cell {
            Cell::Lstm => (0, 4 * self.hidden),
            Cell::Gru { linear_before_reset: true } => (0, 4 * self.hidden),
            Cell::Gru { linear_before_reset: false } => (0, 3 * self.hidden),
            Cell::Rnn { .. } => (states, self.hidden),
        };
        let forth = forth + self.packed_forth() + self.width();
        let back = self.packed_back() + self.steps * self.batch * back_width + 2 * states;
        let back = back + NARROW.min(self.input) * self.width();
        forth.max(back)
    }

    fn gates(&self) -> usize {
        match self.cell {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn { .. } => 1,
        }
    }

    /// Numbers of all gates of one sequence.
    fn width(&self) -> usize {
        self.gates() * self.hidden
    }

    /// Numbers of all states at one step.
    fn states(&self) -> usize {
        self.batch * self.hidden
    }

    /// Packed weights forward: of the input, and of the states in up to two parts.
    fn packed_forth(&self) -> usize {
        let hidden = self.hidden;
        packed::packed_len(self.input, self.width())
            + match self.cell {
                Cell::Gru { .. } => {
                    packed::packed_len(hidden, 2 * hidden) + packed::packed_len(hidden, hidden)
                }
                Cell::Lstm | Cell::Rnn { .. } => packed::packed_len(hidden, self.width()),
            }
    }

    /// Packed state weights backward; parts are packed one after another in the same columns.
    fn packed_back(&self) -> usize {
        packed::packed_len(self.width(), self.hidden)
    }

    /// Which place in the sequence the walk has reached after `step` steps.
    fn time(&self, step: usize) -> usize {
        if self.reverse { self.steps - 1 - step } else { step }
    }

    /// Where the state before a time is, among `steps + 1` of them; in the order of time.
    fn before(&self, time: usize) -> Range<usize> {
        let slot = time + usize::from(self.reverse);
        slot * self.states()..(slot + 1) * self.states()
    }

    /// Where the state after a time is.
    fn after(&self, time: usize) -> Range<usize> {
        let slot = time + usize::from(!self.reverse);
        slot * self.states()..(slot + 1) * self.states()
    }

    /// Where the first state is.
    fn start(&self) -> Range<usize> {
        let slot = if self.reverse { self.steps } else { 0 };
        slot * self.states()..(slot + 1) * self.states()
    }

    /// Where the last state is.
    fn end(&self) -> Range<usize> {
        let slot = if self.reverse { 0 } else { self.steps };
        slot * self.states()..(slot + 1) * self.states()
    }

    /// Where the states before all times are.
    fn all_before(&self) -> Range<usize> {
        let first = usize::from(self.reverse) * self.states();
        first..first + self.steps * self.states()
    }

    /// Splits the states around a time into the one before it and the one after it.
    fn around<'a, T>(&self, slots: &'a mut [T], time: usize) -> (&'a [T], &'a mut [T]) {
        let (first, second) = slots[time * self.states()..][..2 * self.states()].split_at_mut(self.states());
        if self.reverse { (second, first) } else { (first, second) }
    }

    fn check<T: Real>(&self, inputs: &Inputs<'_, T>) {
        let Inputs { x, weights, h0, c0 } = inputs;
        assert!(self.hidden > 0, "hidden of {self:?}");
        assert_eq!(x.len(), self.steps * self.batch * self.input, "x of {self:?}");
        assert_eq!(weights.w.len(), self.width() * self.input, "w of {self:?}");
        assert_eq!(weights.r.len(), self.width() * self.hidden, "r of {self:?}");
        assert!(weights.b.is_none_or(|b| b.len() == 2 * self.width()), "b of {self:?}");
        assert!(weights.p.is_none_or(|p| p.len() == 3 * self.hidden), "p of {self:?}");
        assert!(h0.is_none_or(|h| h.len() == self.states()), "h0 of {self:?}");
        assert!(c0.is_none_or(|c| c.len() == self.states()), "c0 of {self:?}");
    }
}

/// Cuts the next `len` elements off.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    rest.split_off_mut(..len).expect("`RecurrentShape::scratch` elements are given")
}

/// Writes a state or noughts.
fn fill<T: Real>(to: &mut [T], from: Option<&[T]>) {
    match from {
        Some(from) => to.copy_from_slice(from),
        None => to.fill(T::ZERO),
    }
}

/// Writes where something is wanted.
fn hand_out<T: Real>(to: &mut Option<&mut [T]>, from: &[T]) {
    if let Some(to) = to {
        to.copy_from_slice(from);
    }
}

/// Adds one step of a gradient of all states to the gradient of the state.
fn add_step<T: Real>(shape: &RecurrentShape, incoming: &OutputGradients<'_, T>, time: usize, dh: &mut [T]) {
    if let Some(dy) = incoming.dy {
        let dy = &dy[time * incoming.dy_stride..][..shape.states()];
        on_this_cpu(
            #[inline(always)]
            || {
                for (sum, more) in dh.iter_mut().zip(dy) {
                    *sum += *more;
                }
            },
        );
    }
}

/// Copies the state after a time to the results.
fn leave_step<T: Real>(shape: &RecurrentShape, outputs: &mut Outputs<'_, T>, time: usize, state: &[T]) {
    if let Some(y) = &mut outputs.y {
        y[time * outputs.y_stride..][..shape.states()].copy_from_slice(state);
    }
}

/// The input's part of the gates, ready for every step.
struct InputPart<'i, 's, T> {
    x: &'i [T],
    packed: &'s [T],
    bias: &'s [T],
    width: usize,
    input: usize,
}

impl<'i, 's, T: Real> InputPart<'i, 's, T> {
    /// Packs the weights and sums the biases of the first `summed` gates; the rest has its own alone.
    fn new(shape: &RecurrentShape, inputs: &Inputs<'i, T>, summed: usize, scratch: &mut &'s mut [T]) -> Self {
        let (width, input) = (shape.width(), shape.input);
        let weights = take(scratch, packed::packed_len(input, width));
        packed::pack([input, width], turned(inputs.weights.w, input), weights);
        let bias = take(scratch, width);
        bias.fill(T::ZERO);
        if let Some(b) = inputs.weights.b {
            bias.copy_from_slice(&b[..width]);
            for (sum, more) in bias.iter_mut().zip(&b[width..][..summed * shape.hidden]) {
                *sum += *more;
            }
        }
        Self { x: inputs.x, packed: weights, bias, width, input }
    }

    /// `gates = bias + x · wᵀ` for some rows of x.
    fn run(&self, rows: Range<usize>, gates: &mut [T]) {
        let sizes = [rows.len(), self.width, self.input];
        let x = Rows { data: &self.x[rows.start * self.input..rows.end * self.input], stride: self.input };
        let gates = RowsMut { data: gates, stride: self.width };
        packed::multiply(sizes, x, self.packed, Onto::Row(self.bias), gates);
    }
}

/// The transpose of a matrix without gaps whose rows have `length` elements.
fn turned<T>(data: &[T], length: usize) -> Matrix<'_, T> {
    Matrix { data, row: 1, column: length }
}

/// Gradients of gates at all times: some columns of rows of `stride`.
#[derive(Clone, Copy)]
struct GateGradients<'a, T> {
    data: &'a [T],
    stride: usize,
    first: usize,
    columns: usize,
}

impl<T: Real> GateGradients<'_, T> {
    /// `out = gatesᵀ · right` over all times, with right [times · batch, n], by its transpose, which
    /// is faster when n is small and goes through `scratch`.
    fn narrow_weights(&self, right: &[T], n: usize, scratch: &mut [T], out: &mut [T]) {
        let scratch = &mut scratch[..n * self.columns];
        let rows = self.data.len() / self.stride;
        let gates = Matrix { data: &self.data[self.first..], row: self.stride, column: 1 };
        let to = MatrixMut { data: &mut *scratch, row: self.columns, column: 1 };
        gemm::multiply([n, self.columns, rows], T::ONE, turned(right, n), gates, T::ZERO, to);
        for (i, row) in out.chunks_exact_mut(n).enumerate() {
            for (j, out) in row.iter_mut().enumerate() {
                *out = scratch[j * self.columns + i];
            }
        }
    }

    /// `out = gatesᵀ · right` over all times, with right [times · batch, n].
    fn weights(&self, right: &[T], n: usize, out: &mut [T]) {
        if self.data.is_empty() {
            out.fill(T::ZERO);
            return;
        }
        let rows = self.data.len() / self.stride;
        let gates = Matrix { data: &self.data[self.first..], row: 1, column: self.stride };
        let right = Matrix { data: right, row: n, column: 1 };
        let out = MatrixMut { data: out, row: n, column: 1 };
        gemm::multiply([self.columns, n, rows], T::ONE, gates, right, T::ZERO, out);
    }

    /// `dx = gates · w`.
    fn input(&self, w: &[T], n: usize, dx: &mut [T]) {
        if self.data.is_empty() {
            return;
        }
        let rows = self.data.len() / self.stride;
        let gates = Matrix { data: &self.data[self.first..], row: self.stride, column: 1 };
        let w = Matrix { data: w, row: n, column: 1 };
        gemm::multiply(
            [rows, n, self.columns],
            T::ONE,
            gates,
            w,
            T::ZERO,
            MatrixMut { data: dx, row: n, column: 1 },
        );
    }

    /// Sums over all times.
    fn bias(&self, out: &mut [T]) {
        out.fill(T::ZERO);
        if self.data.is_empty() {
            return;
        }
        on_this_cpu(
            #[inline(always)]
            || {
                for row in self.data.chunks_exact(self.stride) {
                    for (sum, more) in out.iter_mut().zip(&row[self.first..][..self.columns]) {
                        *sum += *more;
                    }
                }
            },
        );
    }
}

impl<T: Real> GateGradients<'_, T> {
    /// All gradients of a layer whose state sums and input sums are the same.
    fn leave(
        &self,
        shape: &RecurrentShape,
        inputs: &Inputs<'_, T>,
        before: &[T],
        gradients: &mut Gradients<'_, T>,
        scratch: &mut [T],
    ) {
        self.leave_input(shape, inputs, gradients, scratch);
        if let Some(dr) = &mut gradients.dr {
            self.weights(before, shape.hidden, dr);
        }
        if let Some(db) = &mut gradients.db {
            let (inputs, states) = db.split_at_mut(shape.width());
            self.bias(inputs);
            states.copy_from_slice(inputs);
        }
    }

    /// The gradients of the input and its weights.
    fn leave_input(
        &self,
        shape: &RecurrentShape,
        inputs: &Inputs<'_, T>,
        gradients: &mut Gradients<'_, T>,
        scratch: &mut [T],
    ) {
        if let Some(dw) = &mut gradients.dw {
            if (1..=NARROW).contains(&shape.input) && !self.data.is_empty() {
                self.narrow_weights(inputs.x, shape.input, scratch, dw);
            } else {
                self.weights(inputs.x, shape.input, dw);
            }
        }
        if let Some(dx) = &mut gradients.dx {
            self.input(inputs.weights.w, shape.input, dx);
        }
    }
}
