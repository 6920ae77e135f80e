//! Finite differences, definitions, and 32 against 64 bits.

use super::*;

const SIZES: [[usize; 3]; 9] =
    [[1, 1, 1], [3, 5, 1], [2, 24, 1], [2, 40, 1], [2, 3, 5], [1, 4, 16], [2, 7, 37], [0, 3, 2], [5, 19, 1]];

fn draw(len: usize, seed: u32) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f64::from(state >> 8) / f64::from(1 << 23) - 1.0
        })
        .collect()
}

fn narrow(wide: &[f64]) -> Vec<f32> {
    wide.iter().map(|v| f32::of(*v)).collect()
}

fn close<T: Real>(got: &[T], wanted: &[f64], most: f64, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let size = wanted.iter().fold(1e-2f64, |most, v| most.max(v.abs()));
    for (place, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got.f64() - wanted).abs() <= most * size, "{what} at {place}: {got:?}, expected {wanted}");
    }
}

/// Gradients of `Σ weights · run(x)` by differences right to the fourth power of the step.
fn differences(x: &[f64], weights: &[f64], run: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    (0..x.len())
        .map(|place| {
            let value = |step: f64| -> f64 {
                let mut moved = x.to_vec();
                moved[place] += step * 1e-3;
                run(&moved).iter().zip(weights).map(|(y, weight)| y * weight).sum()
            };
            (8.0 * (value(1.0) - value(-1.0)) - (value(2.0) - value(-2.0))) / 12e-3
        })
        .collect()
}

type Forward<T> = fn([usize; 3], &[T], &mut [T]);
type Backward<T> = fn([usize; 3], &[T], &[T], &mut [T]);

fn both<T: Real>() -> [(Forward<T>, Backward<T>); 2] {
    [(softmax_forward, softmax_backward), (log_softmax_forward, log_softmax_backward)]
}

fn applied<T: Real>(len: usize, run: impl Fn(&mut [T])) -> Vec<T> {
    let mut made = vec![T::of(f64::NAN); len];
    run(&mut made);
    made
}

#[test]
fn softmax_is_its_definition() {
    for sizes @ [outer, axis, inner] in SIZES {
        let x: Vec<f64> = draw(outer * axis * inner, 1).iter().map(|v| v * 300.0).collect();
        let mut wanted = [vec![0.0; x.len()], vec![0.0; x.len()]];
        for (row, column) in (0..outer).flat_map(|row| (0..inner).map(move |column| (row, column))) {
            let at = |place: usize| (row * axis + place) * inner + column;
            let most = (0..axis).fold(f64::NEG_INFINITY, |most, place| most.max(x[at(place)]));
            let sum: f64 = (0..axis).map(|place| (x[at(place)] - most).exp()).sum();
            for place in (0..axis).map(at) {
                wanted[0][place] = (x[place] - most).exp() / sum;
                wanted[1][place] = x[place] - most - sum.ln();
            }
        }
        for (((forward, _), (narrow_forward, _)), wanted) in both().into_iter().zip(both()).zip(&wanted) {
            let y = applied(x.len(), |y| forward(sizes, &x, y));
            close(&y, wanted, 1e-13, &format!("{sizes:?}"));
            let y = applied(x.len(), |y| narrow_forward(sizes, &narrow(&x), y));
            close(&y, wanted, 1e-5, &format!("{sizes:?} in 32 bits"));
        }
    }
}

#[test]
fn softmax_gradients_are_finite_differences() {
    for sizes in SIZES {
        let len = sizes.iter().product();
        let (x, dy) = (draw(len, 2), draw(len, 3));
        for ((forward, backward), (narrow_forward, narrow_backward)) in both().into_iter().zip(both()) {
            let run = |x: &[f64]| applied(len, |y| forward(sizes, x, y));
            let y = run(&x);
            let dx = applied(len, |dx| backward(sizes, &y, &dy, dx));
            close(&dx, &differences(&x, &dy, run), 1e-8, &format!("{sizes:?}"));
            let y = applied(len, |y| narrow_forward(sizes, &narrow(&x), y));
            let short = applied(len, |dx| narrow_backward(sizes, &y, &narrow(&dy), dx));
            close(&short, &dx, 1e-5, &format!("{sizes:?} in 32 bits"));
        }
    }
}

#[test]
fn softmax_of_masked_elements_is_nought() {
    let x = [f32::NEG_INFINITY, 0.0, 1000.0, 1000.0];
    assert_eq!(applied(4, |y| softmax_forward([1, 4, 1], &x, y)), [0.0, 0.0, 0.5, 0.5]);
    assert_eq!(applied(4, |y| softmax_forward([1, 2, 2], &x, y)), [0.0, 0.0, 1.0, 1.0]);
}

struct Made<T> {
    xhat: Vec<T>,
    inverse: Vec<T>,
    mean: Vec<T>,
    variance: Vec<T>,
}

fn normalised<T: Real>(sizes: [usize; 3], x: &[T]) -> Made<T> {
    let rubbish = T::of(f64::NAN);
    let group = vec![rubbish; sizes[1]];
    let mut made =
        Made { xhat: vec![rubbish; x.len()], inverse: group.clone(), mean: group.clone(), variance: group };
    let out = Normalised {
        xhat: &mut made.xhat,
        inverse: &mut made.inverse,
        mean: Some(&mut made.mean),
        variance: Some(&mut made.variance),
    };
    normalise_forward(sizes, T::of(1e-3), x, out);
    made
}

const GROUPS: [[usize; 3]; 8] =
    [[1, 3, 5], [1, 2, 32], [1, 2, 50], [4, 3, 6], [3, 2, 17], [6, 5, 1], [4, 37, 1], [2, 1, 1]];

#[test]
fn normalised_groups_have_their_moments() {
    for sizes @ [a, groups, c] in GROUPS {
        // A mean far from nought would spoil a variance in one pass.
        let x: Vec<f64> = draw(a * groups * c, 4).iter().map(|v| f64::from(f32::of(v + 100.0))).collect();
        let (made, short) = (normalised(sizes, &x), normalised(sizes, &narrow(&x)));
        for group in 0..groups {
            let places = (0..a).flat_map(|row| (0..c).map(move |place| (row * groups + group) * c + place));
            let count = (a * c) as f64;
            let mean = places.clone().map(|place| x[place]).sum::<f64>() / count;
            let variance = places.clone().map(|place| (x[place] - mean).powi(2)).sum::<f64>() / count;
            let inverse = 1.0 / (variance + 1e-3).sqrt();
            let wanted = [mean, variance, inverse];
            let got = [&made.mean, &made.variance, &made.inverse].map(|part| part[group]);
            close(&got, &wanted, 1e-12, &format!("{sizes:?}"));
            let got = [&short.mean, &short.variance, &short.inverse].map(|part| part[group]);
            close(&got, &wanted, 1e-5, &format!("{sizes:?} in 32 bits"));
            for place in places {
                close(&[short.xhat[place]], &[(x[place] - mean) * inverse], 1e-2, &format!("{sizes:?} xhat"));
            }
        }
    }
}

#[test]
fn normalisation_gradients_are_finite_differences() {
    for sizes in GROUPS {
        let len = sizes.iter().product();
        let (x, dy) = (draw(len, 5), draw(len, 6));
        let made = normalised(sizes, &x);
        let dx = applied(len, |dx| normalise_backward(sizes, &dy, &made.xhat, &made.inverse, dx));
        let wanted = differences(&x, &dy, |x| normalised(sizes, x).xhat);
        close(&dx, &wanted, 1e-7, &format!("{sizes:?}"));
        let made = normalised(sizes, &narrow(&x));
        close(&made.xhat, &normalised(sizes, &x).xhat, 1e-5, &format!("{sizes:?} xhat in 32 bits"));
        let short = applied(len, |dx| normalise_backward(sizes, &narrow(&dy), &made.xhat, &made.inverse, dx));
        close(&short, &dx, 2e-5, &format!("{sizes:?} in 32 bits"));
    }
}
