//! Convolutions against plain loops, and gradients against their definition.

use super::*;

/// Batch, groups, inputs, outputs; size; kernel; stride; dilation; pads; cells the output has more
/// than fit, below and on the right.
type Row = ([usize; 4], [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 4]);

const SHAPES: &[Row] = &[
    ([1, 1, 1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([2, 1, 3, 4], [1, 20], [1, 5], [1, 1], [1, 1], [0, 2, 0, 2]),
    ([3, 1, 3, 5], [1, 33], [1, 5], [1, 2], [1, 1], [0, 2, 0, 2]),
    ([2, 1, 3, 5], [1, 64], [1, 4], [1, 3], [1, 2], [0, 1, 0, 3]),
    ([2, 1, 4, 6], [7, 9], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([2, 1, 4, 6], [8, 9], [3, 3], [2, 2], [1, 1], [1; 4]),
    ([2, 1, 4, 6], [9, 11], [3, 2], [2, 3], [2, 1], [0, 1, 2, 3]),
    ([2, 2, 4, 6], [9, 8], [3, 3], [1, 2], [2, 2], [2, 1, 0, 3]),
    ([2, 3, 3, 3], [7, 6], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([2, 3, 3, 3], [8, 7], [3, 3], [2, 2], [1, 1], [1; 4]),
    ([2, 3, 3, 3], [48, 48], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([1, 2, 2, 6], [30, 31], [5, 3], [1, 1], [1, 2], [2, 1, 2, 3]),
    ([2, 2, 2, 6], [9, 10], [3, 3], [3, 2], [2, 3], [4, 5, 3, 2]),
    ([1, 2, 2, 2], [5, 5], [1, 1], [2, 2], [1, 1], [0; 4]),
    ([2, 1, 1, 8], [28, 28], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([2, 1, 3, 16], [17, 16], [3, 3], [2, 2], [1, 1], [1; 4]),
    ([2, 1, 5, 7], [3, 3], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([35, 1, 5, 7], [3, 3], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([3, 2, 6, 4], [6, 6], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([2, 1, 5, 7], [5, 5], [1, 1], [2, 2], [1, 1], [0; 4]),
    ([2, 1, 5, 7], [4, 4], [1, 1], [1, 1], [1, 1], [1, 0, 0, 1]),
    ([2, 1, 2, 3], [2, 2], [5, 5], [1, 1], [1, 1], [2; 4]),
    ([2, 2, 2, 2], [2, 3], [5, 5], [2, 2], [1, 1], [3; 4]),
    ([2, 2, 2, 4], [10, 10], [2, 2], [4, 3], [1, 1], [0; 4]),
    ([2, 1, 3, 4], [10, 11], [2, 2], [4, 5], [1, 1], [0; 4]),
    ([35, 3, 3, 3], [3, 3], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([37, 2, 2, 4], [5, 6], [3, 3], [2, 2], [1, 1], [1; 4]),
    ([9, 2, 2, 2], [12, 12], [3, 3], [1, 2], [1, 1], [1; 4]),
    ([2, 1, 16, 17], [7, 9], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([2, 1, 20, 16], [8, 9], [3, 3], [2, 2], [1, 1], [1; 4]),
    ([2, 2, 32, 36], [9, 8], [3, 2], [1, 2], [2, 3], [2, 1, 0, 3]),
    ([2, 1, 16, 32], [1, 33], [1, 5], [1, 2], [1, 1], [0, 2, 0, 2]),
    ([2, 1, 17, 16], [11, 10], [2, 2], [3, 4], [1, 1], [0; 4]),
    ([2, 1, 16, 16], [3, 2], [5, 5], [1, 1], [1, 1], [3; 4]),
    ([1, 1, 2, 3], [12, 12], [9, 9], [1, 1], [1, 1], [4; 4]),
    ([1, 2, 2, 2], [12, 12], [9, 9], [1, 1], [1, 1], [4; 4]),
    ([1, 1, 130, 3], [3, 700], [3, 3], [1, 1], [1, 1], [1; 4]),
    ([1, 2, 2, 2], [1, 140_000], [1, 3], [1, 1], [1, 1], [0, 1, 0, 1]),
];

/// The shapes of the table; one in three is a window wider and higher than fits.
fn shapes() -> Vec<ConvShape> {
    let mut shapes = Vec::new();
    for (place, &([batch, groups, inputs, outputs], size, kernel, stride, dilation, pads)) in
        SHAPES.iter().enumerate()
    {
        let made = |axis: usize| {
            let reach = (kernel[axis] - 1) * dilation[axis] + 1;
            (size[axis] + pads[axis] + pads[axis + 2] - reach) / stride[axis] + 1
        };
        let made = [made(0), made(1)];
        let shape = ConvShape { batch, groups, inputs, outputs, size, kernel, stride, dilation, pads, made };
        if place % 3 == 1 {
            shapes.push(ConvShape { made: [made[0] + 1, made[1] + 2], ..shape.clone() });
        }
        if place % 3 == 2 && made[0] > 1 {
            shapes.push(ConvShape { made: [made[0] - 1, made[1]], ..shape.clone() });
        }
        shapes.push(shape);
    }
    shapes
}

/// Every product of a convolution: places in y, x and w.
fn for_each_product(s: &ConvShape, mut work: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (s.inputs / s.groups, s.outputs / s.groups);
    let tap = |window: usize, tap: usize, axis: usize| {
        let place = window * s.stride[axis] + tap * s.dilation[axis];
        place.checked_sub(s.pads[axis]).filter(|&place| place < s.size[axis])
    };
    for (n, m) in (0..s.batch).flat_map(|n| (0..s.outputs).map(move |m| (n, m))) {
        for (i, j) in (0..s.made[0]).flat_map(|i| (0..s.made[1]).map(move |j| (i, j))) {
            for c in 0..inputs {
                for (a, b) in (0..s.kernel[0]).flat_map(|a| (0..s.kernel[1]).map(move |b| (a, b))) {
                    let (Some(row), Some(column)) = (tap(i, a, 0), tap(j, b, 1)) else { continue };
                    let channel = n * s.inputs + m / outputs * inputs + c;
                    work(
                        ((n * s.outputs + m) * s.made[0] + i) * s.made[1] + j,
                        (channel * s.size[0] + row) * s.size[1] + column,
                        ((m * inputs + c) * s.kernel[0] + a) * s.kernel[1] + b,
                    );
                }
            }
        }
    }
}

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, seed: u32) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    (0..count).map(step).collect()
}

fn assert_close(got: &[f64], wanted: &[f64], most: f64, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let size = wanted.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
    for (place, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() <= most * size, "{what} at {place}: {got}, expected {wanted}");
    }
}

/// y, dx, dw and db of a convolution of noise, in T. What is overwritten holds NaN before.
fn run<T: Real>(s: &ConvShape, [x, w, bias, dy]: [&[f64]; 4]) -> [Vec<f64>; 4] {
    let narrow = |values: &[f64]| values.iter().map(|&value| T::of(value)).collect::<Vec<_>>();
    let (x, w, bias, dy) = (narrow(x), narrow(w), narrow(bias), narrow(dy));
    let unset = |count: usize| vec![T::of(f64::NAN); count];
    let (mut y, mut dx, mut dw, mut db) =
        (unset(dy.len()), unset(x.len()), unset(w.len()), unset(bias.len()));
    let mut scratch = unset(s.scratch());
    forward(s, &x, &w, Some(&bias), &mut y, &mut scratch);
    scratch.fill(T::of(f64::NAN));
    grad_input(s, &dy, &w, &mut dx, &mut scratch);
    scratch.fill(T::of(f64::NAN));
    grad_weight(s, &x, &dy, &mut dw, &mut scratch);
    grad_bias(s, &dy, &mut db);
    [y, dx, dw, db].map(|values| values.iter().map(|value| value.f64()).collect())
}

fn sizes(s: &ConvShape) -> [usize; 4] {
    [
        s.batch * s.inputs * s.size[0] * s.size[1],
        s.outputs * s.inputs / s.groups * s.kernel[0] * s.kernel[1],
        s.outputs,
        s.batch * s.outputs * s.made[0] * s.made[1],
    ]
}

#[test]
fn every_shape_is_what_plain_loops_make() {
    for s in shapes() {
        let mut seed = 0;
        let [x, w, bias, dy] = sizes(&s).map(|count| {
            seed += 1;
            noise(count, seed)
        });
        let mut wanted = sizes(&s).map(|count| vec![0.0; count]);
        let plane = s.made[0] * s.made[1];
        for place in 0..dy.len() {
            wanted[3][place] = bias[place / plane % s.outputs];
            wanted[2][place / plane % s.outputs] += dy[place];
        }
        for_each_product(&s, |at_y, at_x, at_w| {
            wanted[3][at_y] += x[at_x] * w[at_w];
            wanted[0][at_x] += dy[at_y] * w[at_w];
            wanted[1][at_w] += dy[at_y] * x[at_x];
        });
        let [dx, dw, db, y] = wanted;
        let wide = run::<f64>(&s, [&x, &w, &bias, &dy]);
        let narrow = run::<f32>(&s, [&x, &w, &bias, &dy]);
        for (kind, got, most) in [("f64", wide, 1e-12), ("f32", narrow, 1e-5)] {
            for (name, got, wanted) in
                [("y", &got[0], &y), ("dx", &got[1], &dx), ("dw", &got[2], &dw), ("db", &got[3], &db)]
            {
                assert_close(got, wanted, most, &format!("{kind} {name} of {s:?}"));
            }
        }
    }
}

#[test]
fn gradients_are_adjoint_to_the_convolution() {
    for s in shapes() {
        let [x, w, bias, dy] = sizes(&s).map(|count| noise(count, u32::try_from(count).unwrap() + 7));
        let none = vec![0.0; bias.len()];
        let [y, dx, dw, _] = run::<f64>(&s, [&x, &w, &none, &dy]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let wanted = dot(&y, &dy);
        for (name, got) in [("dx", dot(&x, &dx)), ("dw", dot(&w, &dw))] {
            assert!((got - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{name} of {s:?}: {got} {wanted}");
        }
    }
}

#[test]
fn without_a_bias_it_is_nought() {
    for s in shapes() {
        let [x, w, _, _] = sizes(&s).map(|count| noise(count, 3));
        let none = vec![0.0; s.outputs];
        let [wanted, ..] = run::<f64>(&s, [&x, &w, &none, &noise(sizes(&s)[3], 1)]);
        let mut y = vec![f64::NAN; wanted.len()];
        forward(&s, &x, &w, None, &mut y, &mut vec![0.0; s.scratch()]);
        assert_close(&y, &wanted, 1e-12, &format!("{s:?}"));
    }
}

#[test]
fn scratch_is_bounded_and_does_not_grow_with_the_batch() {
    for s in shapes() {
        let large = ConvShape { batch: 1000, ..s.clone() };
        assert_eq!(large.scratch(), s.scratch(), "{s:?}");
        assert!(s.scratch() * 4 <= 1 << 20, "{s:?}: {}", s.scratch());
    }
}

#[test]
fn nothing_in_makes_the_bias_and_nothing_out_makes_nought() {
    let s = ConvShape {
        batch: 1,
        groups: 1,
        inputs: 0,
        outputs: 2,
        size: [1, 3],
        kernel: [1, 2],
        stride: [1, 1],
        dilation: [1, 1],
        pads: [0; 4],
        made: [1, 2],
    };
    let [y, dx, dw, db] = run::<f64>(&s, [&[], &[], &[1.0, 2.0], &[1.0, 2.0, 3.0, 4.0]]);
    assert_eq!((y, dx, dw, db), (vec![1.0, 1.0, 2.0, 2.0], vec![], vec![], vec![3.0, 7.0]));
    let s = ConvShape { inputs: 1, outputs: 1, made: [0, 0], ..s };
    let [y, dx, dw, db] = run::<f64>(&s, [&[1.0; 3], &[1.0; 2], &[1.0], &[]]);
    assert_eq!((y, dx, dw, db), (vec![], vec![0.0; 3], vec![0.0; 2], vec![0.0]));
}

#[test]
#[should_panic(expected = "elements of the weights")]
fn weights_of_another_size_are_seen() {
    let s = shapes().remove(1);
    let mut scratch = vec![0f32; s.scratch()];
    forward(&s, &vec![0.0; sizes(&s)[0]], &[0.0; 3], None, &mut vec![0.0; sizes(&s)[3]], &mut scratch);
}
