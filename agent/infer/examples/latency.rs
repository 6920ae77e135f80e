//! Times models as they are served: one row, four, thirty-two, at once and row by row.
//!
//! `cargo run --release -p shoal-infer --example latency -- MODEL.onnx ...`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures time and tells it")]

use std::hint::black_box;
use std::time::Instant;

use shoal_infer::{InferError, Predictor};
use shoal_onnx::Limits;

/// Seconds spent on each figure.
const SPENT: f64 = 0.3;

fn best(mut work: impl FnMut() -> Result<(), InferError>) -> Result<f64, InferError> {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < SPENT {
        let start = Instant::now();
        let mut rounds = 0;
        while rounds < 10 && start.elapsed().as_secs_f64() < SPENT {
            work()?;
            rounds += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    Ok(best * 1e6)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let predictor = Predictor::load(&std::fs::read(&path)?, &Limits::default())?;
        let width = predictor.row_width().ok_or("the model takes no plain rows")?;
        println!("{path}: {:?}", predictor.batching());
        for rows in [1, 4, 32] {
            let features: Vec<f32> = (0..rows * width).map(|at| (at % 17) as f32 / 8.0 - 1.0).collect();
            let together =
                best(|| predictor.rows(rows, black_box(&features)).map(|made| drop(black_box(made))))?;
            let alone = best(|| {
                features
                    .chunks(width)
                    .try_for_each(|row| predictor.rows(1, row).map(|made| drop(black_box(made))))
            })?;
            println!("{rows:5} rows: {together:10.1} us at once, {alone:10.1} us row by row");
        }
    }
    Ok(())
}
