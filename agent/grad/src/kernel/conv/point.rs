//! Kernels of one tap: the planes of an example are already the columns.

use super::{ConvShape, fill_bias};
use crate::kernel::gemm::{Matrix, MatrixMut, multiply};
use crate::real::Real;

/// Whether each output is made from the inputs of the same place.
pub(super) fn suits(s: &ConvShape) -> bool {
    s.kernel == [1, 1] && s.stride == [1, 1] && s.pads == [0; 4] && s.made == s.size
}

pub(super) fn scratch(_: &ConvShape) -> usize {
    0
}

pub(super) fn forward<T: Real>(
    s: &ConvShape,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    _: &mut [T],
) {
    let (inputs, outputs, plane) = (s.group_inputs(), s.group_outputs(), s.plane());
    for example in 0..s.batch {
        for group in 0..s.groups {
            let x = Matrix { data: &x[s.input_of(example, group)], row: plane, column: 1 };
            let w = Matrix { data: &w[s.weights_of(group)], row: inputs, column: 1 };
            let y = &mut y[s.output_of(example, group)];
            let beta = match bias {
                Some(bias) => {
                    fill_bias(y, plane, &bias[group * outputs..]);
                    T::ONE
                }
                None => T::ZERO,
            };
            let y = MatrixMut { data: y, row: plane, column: 1 };
            multiply([outputs, plane, inputs], T::ONE, w, x, beta, y);
        }
    }
}

pub(super) fn grad_input<T: Real>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], _: &mut [T]) {
    let (inputs, outputs, plane) = (s.group_inputs(), s.group_outputs(), s.plane());
    for example in 0..s.batch {
        for group in 0..s.groups {
            let dy = Matrix { data: &dy[s.output_of(example, group)], row: plane, column: 1 };
            let w = Matrix { data: &w[s.weights_of(group)], row: 1, column: inputs };
            let dx = MatrixMut { data: &mut dx[s.input_of(example, group)], row: plane, column: 1 };
            multiply([inputs, plane, outputs], T::ONE, w, dy, T::ZERO, dx);
        }
    }
}

pub(super) fn grad_weight<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T], _: &mut [T]) {
    let (inputs, outputs, plane) = (s.group_inputs(), s.group_outputs(), s.plane());
    dw.fill(T::ZERO);
    for example in 0..s.batch {
        for group in 0..s.groups {
            let dy = Matrix { data: &dy[s.output_of(example, group)], row: plane, column: 1 };
            let x = Matrix { data: &x[s.input_of(example, group)], row: 1, column: plane };
            let dw = MatrixMut { data: &mut dw[s.weights_of(group)], row: inputs, column: 1 };
            multiply([outputs, inputs, plane], T::ONE, dy, x, T::ONE, dw);
        }
    }
}
