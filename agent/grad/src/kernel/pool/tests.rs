//! Pooling against plain loops, and gradients against finite differences.

use super::*;
use crate::real::Real;

/// Planes; size; kernel; stride; dilation; pads; whether windows may hang over.
type Row = (usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 4], bool);

const SHAPES: &[Row] = &[
    (3, [4, 6], [2, 2], [2, 2], [1, 1], [0; 4], false),
    (3, [5, 7], [2, 2], [2, 2], [1, 1], [0; 4], false),
    (3, [5, 7], [2, 2], [2, 2], [1, 1], [0; 4], true),
    (2, [28, 28], [2, 2], [2, 2], [1, 1], [0; 4], false),
    (4, [1, 33], [1, 2], [1, 2], [1, 1], [0; 4], false),
    (4, [1, 128], [1, 2], [1, 2], [1, 1], [0; 4], false),
    (4, [1, 32], [1, 3], [1, 2], [1, 1], [0, 1, 0, 1], false),
    (2, [8, 9], [3, 3], [2, 2], [1, 1], [1; 4], false),
    (2, [8, 9], [3, 3], [2, 2], [1, 1], [1; 4], true),
    (2, [8, 9], [3, 3], [1, 1], [1, 1], [1; 4], false),
    (2, [8, 9], [3, 2], [2, 3], [2, 1], [1, 0, 2, 1], true),
    (2, [9, 12], [3, 3], [1, 2], [2, 3], [2, 1, 0, 3], false),
    (3, [7, 7], [7, 7], [1, 1], [1, 1], [0; 4], false),
    (3, [6, 5], [7, 7], [3, 3], [1, 1], [2, 3, 3, 2], true),
    (2, [6, 6], [2, 2], [3, 4], [1, 1], [0; 4], false),
    (2, [2, 2], [2, 2], [2, 2], [1, 1], [1; 4], false),
    (2, [3, 3], [1, 1], [2, 2], [1, 1], [1; 4], false),
];

fn shapes() -> Vec<PoolShape> {
    let shape = |&(batch, size, kernel, stride, dilation, pads, over): &Row| {
        let made = |axis: usize| {
            let left = size[axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilation[axis] - 1;
            1 + if over { left.div_ceil(stride[axis]) } else { left / stride[axis] }
        };
        PoolShape { batch, size, kernel, stride, dilation, pads, made: [made(0), made(1)] }
    };
    SHAPES.iter().map(shape).collect()
}

/// For each window: the places of its cells inside, and how many are inside the padding.
fn windows(s: &PoolShape) -> Vec<(Vec<usize>, usize)> {
    let mut windows = Vec::new();
    for plane in 0..s.batch {
        for (i, j) in (0..s.made[0]).flat_map(|i| (0..s.made[1]).map(move |j| (i, j))) {
            let (mut places, mut padded) = (Vec::new(), 0);
            for (a, b) in (0..s.kernel[0]).flat_map(|a| (0..s.kernel[1]).map(move |b| (a, b))) {
                let row = i * s.stride[0] + a * s.dilation[0];
                let column = j * s.stride[1] + b * s.dilation[1];
                if row < s.pads[0] + s.size[0] + s.pads[2] && column < s.pads[1] + s.size[1] + s.pads[3] {
                    padded += 1;
                }
                let inside = |place: usize, axis: usize| {
                    place.checked_sub(s.pads[axis]).filter(|&place| place < s.size[axis])
                };
                if let (Some(row), Some(column)) = (inside(row, 0), inside(column, 1)) {
                    places.push((plane * s.size[0] + row) * s.size[1] + column);
                }
            }
            windows.push((places, padded));
        }
    }
    windows
}

/// Few different numbers, so that many are the largest one.
fn ties(count: usize) -> Vec<f64> {
    (0..count).map(|place| f64::from(u32::try_from(place * 7919 % 1009 % 5).unwrap()) - 2.0).collect()
}

/// Different numbers.
fn apart(count: usize) -> Vec<f64> {
    (0..count)
        .map(|place| f64::from(u32::try_from((place * 7919 + 13) % 10007).unwrap()) / 500.0 - 9.0)
        .collect()
}

fn assert_close(got: &[f64], wanted: &[f64], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (place, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() < 1e-6, "{what} at {place}: {got}, expected {wanted}");
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| Real::of(value)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.f64()).collect()
}

#[test]
fn the_largest_of_every_shape_is_what_plain_loops_find() {
    for s in shapes() {
        for x in [ties(s.batch * s.plane()), apart(s.batch * s.plane())] {
            let dy = apart(s.batch * s.made_plane());
            let (mut y, mut dx) = (vec![f64::NAN; dy.len()], vec![f64::NAN; x.len()]);
            max_forward(&s, &x, &mut y);
            max_backward(&s, &x, &y, &dy, &mut dx);
            let (mut wanted, mut given) = (Vec::new(), vec![0.0; x.len()]);
            for (at, (places, _)) in windows(&s).into_iter().enumerate() {
                let most = places.iter().fold(f64::NEG_INFINITY, |most, &place| most.max(x[place]));
                wanted.push(most);
                if let Some(&first) = places.iter().find(|&&place| x[place] == most) {
                    given[first] += dy[at];
                }
            }
            assert_eq!(y, wanted, "y of {s:?}");
            assert_close(&dx, &given, &format!("dx of {s:?}"));
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            max_forward(&s, &narrow(&x), &mut y);
            max_backward(&s, &narrow(&x), &y, &narrow(&dy), &mut dx);
            assert_eq!(y, narrow(&wanted), "y of {s:?}");
            assert!(dx.iter().zip(&given).all(|(got, wanted)| (got.f64() - wanted).abs() < 1e-4), "{s:?}");
        }
    }
}

#[test]
fn the_average_of_every_shape_is_what_plain_loops_find() {
    for (s, count_padding) in shapes().into_iter().flat_map(|s| [(s.clone(), false), (s, true)]) {
        let (x, dy) = (apart(s.batch * s.plane()), apart(s.batch * s.made_plane()));
        let (mut y, mut dx) = (vec![f64::NAN; dy.len()], vec![f64::NAN; x.len()]);
        average_forward(&s, count_padding, &x, &mut y);
        average_backward(&s, count_padding, &dy, &mut dx);
        let (mut wanted, mut given) = (Vec::new(), vec![0.0; x.len()]);
        for (at, (places, padded)) in windows(&s).into_iter().enumerate() {
            let count = if count_padding { padded } else { places.len() };
            let weight = if places.is_empty() { 0.0 } else { 1.0 / f64::from(u32::try_from(count).unwrap()) };
            wanted.push(places.iter().map(|&place| x[place] * weight).sum());
            for place in places {
                given[place] += dy[at] * weight;
            }
        }
        assert_close(&y, &wanted, &format!("y of {s:?}, {count_padding}"));
        assert_close(&dx, &given, &format!("dx of {s:?}, {count_padding}"));
        let mut narrow_y = vec![f32::NAN; dy.len()];
        average_forward(&s, count_padding, &narrow(&x), &mut narrow_y);
        assert!(
            wide(&narrow_y).iter().zip(&wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-4),
            "{s:?}"
        );
    }
}

/// The gradient of `Σ dy · y` by central differences.
fn differences(x: &[f64], dy: &[f64], forward: impl Fn(&[f64], &mut [f64])) -> Vec<f64> {
    let (mut x, mut y) = (x.to_vec(), vec![0.0; dy.len()]);
    let mut loss = |x: &[f64]| {
        forward(x, &mut y);
        y.iter().zip(dy).filter(|(y, _)| y.is_finite()).map(|(y, dy)| y * dy).sum::<f64>()
    };
    let step = 1e-4;
    let mut slopes = Vec::new();
    for place in 0..x.len() {
        let here = x[place];
        x[place] = here + step;
        let above = loss(&x);
        x[place] = here - step;
        let below = loss(&x);
        x[place] = here;
        slopes.push((above - below) / (2.0 * step));
    }
    slopes
}

#[test]
fn gradients_are_slopes() {
    for s in shapes() {
        let (x, dy) = (apart(s.batch * s.plane()), ties(s.batch * s.made_plane()));
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        max_forward(&s, &x, &mut y);
        max_backward(&s, &x, &y, &dy, &mut dx);
        assert_close(&dx, &differences(&x, &dy, |x, y| max_forward(&s, x, y)), &format!("max of {s:?}"));
        for padding in [false, true] {
            average_backward(&s, padding, &dy, &mut dx);
            let wanted = differences(&x, &dy, |x, y| average_forward(&s, padding, x, y));
            assert_close(&dx, &wanted, &format!("average of {s:?}"));
        }
    }
}

#[test]
fn what_is_not_a_number_is_passed_on() {
    for s in shapes() {
        let mut x = apart(s.batch * s.plane());
        x[0] = f64::NAN;
        let dy = vec![1.0; s.batch * s.made_plane()];
        let (mut y, mut dx) = (dy.clone(), x.clone());
        max_forward(&s, &x, &mut y);
        max_backward(&s, &x, &y, &dy, &mut dx);
        for (y, (places, _)) in y.iter().zip(windows(&s)) {
            assert_eq!(y.is_nan(), places.contains(&0), "{s:?}");
        }
        assert!(dx.iter().all(|dx| dx.is_finite()), "{s:?}");
    }
}
