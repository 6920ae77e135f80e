//! Times softmax and normalisation, forward and backward.
//!
//! Run `taskset -c 1 cargo run --release -p shoal-grad --example rows`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use shoal_grad::kernel::rows::{
    Normalised, log_softmax_backward, log_softmax_forward, normalise_backward, normalise_forward,
    softmax_backward, softmax_forward,
};
use std::time::Instant;

/// Runs of which the fastest counts, since what else the machine does only ever adds.
const RUNS: usize = 300;

#[expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
fn now() -> Instant {
    Instant::now()
}

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|place| (place as f32 * 0.731).sin()).collect()
}

/// Microseconds of the fastest run.
fn time(mut run: impl FnMut()) -> f64 {
    let once = |run: &mut dyn FnMut()| {
        let start = now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..RUNS).map(|_| once(&mut run)).fold(f64::INFINITY, f64::min)
}

fn softmax(sizes: [usize; 3]) {
    let x = noise(sizes.iter().product());
    let (mut y, mut dx) = (x.clone(), x.clone());
    let forth = time(|| softmax_forward(sizes, &x, &mut y));
    let back = time(|| softmax_backward(sizes, &y, &x, &mut dx));
    println!("softmax {sizes:?}: forward {forth:.1} us, backward {back:.1} us");
    let forth = time(|| log_softmax_forward(sizes, &x, &mut y));
    let back = time(|| log_softmax_backward(sizes, &y, &x, &mut dx));
    println!("log softmax {sizes:?}: forward {forth:.1} us, backward {back:.1} us");
}

fn normalise(sizes: [usize; 3]) {
    let x = noise(sizes.iter().product());
    let (mut xhat, mut dx, mut inverse) = (x.clone(), x.clone(), vec![0.0; sizes[1]]);
    let forth = time(|| {
        let out = Normalised { xhat: &mut xhat, inverse: &mut inverse, mean: None, variance: None };
        normalise_forward(sizes, 1e-5, &x, out);
    });
    let back = time(|| normalise_backward(sizes, &x, &xhat, &inverse, &mut dx));
    println!("normalise {sizes:?}: forward {forth:.1} us, backward {back:.1} us");
}

fn main() {
    for sizes in [[32 * 4 * 24, 24, 1], [64, 512, 1], [32, 10, 1], [32, 16, 64]] {
        softmax(sizes);
    }
    for sizes in [[1, 768, 32], [1, 768, 512], [32, 16, 196], [64, 128, 1]] {
        normalise(sizes);
    }
}
