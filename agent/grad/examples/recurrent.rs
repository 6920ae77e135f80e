//! Times one training step (forward and backward) of recurrent layers.
//!
//! Run `taskset -c 1 cargo run --release -p shoal-grad --example recurrent`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use shoal_grad::kernel::recurrent::{
    Cell, Gradients, Inputs, OutputGradients, Outputs, RecurrentShape, Weights, backward, forward,
};
use std::time::{Duration, Instant};

/// Runs of which the fastest counts, since what else the machine does only ever adds.
const RUNS: usize = 60;

#[expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
fn now() -> Instant {
    Instant::now()
}

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|place| (place as f32 * 0.731).sin() * 0.1).collect()
}

fn fastest(times: &[Duration]) -> f64 {
    times.iter().min().map_or(0.0, Duration::as_secs_f64) * 1e3
}

fn time(name: &str, shape: RecurrentShape) {
    let gates = match shape.cell {
        Cell::Lstm => 4,
        Cell::Gru { .. } => 3,
        Cell::Rnn { .. } => 1,
    };
    let (width, states) = (gates * shape.hidden, shape.batch * shape.hidden);
    let x = noise(shape.steps * shape.batch * shape.input);
    let [w, r, b] = [width * shape.input, width * shape.hidden, 2 * width].map(noise);
    let mut y = vec![0.0; shape.steps * states];
    let dy = noise(y.len());
    let mut saved = vec![0.0; shape.saved()];
    let mut scratch = vec![0.0; shape.scratch()];
    let [mut dx, mut dw, mut dr, mut db] = [&x, &w, &r, &b].map(|part| vec![0.0; part.len()]);
    let inputs =
        Inputs { x: &x, weights: Weights { w: &w, r: &r, b: Some(&b), p: None }, h0: None, c0: None };
    let incoming = OutputGradients { dy: Some(&dy), dy_stride: states, dy_h: None, dy_c: None };
    let (mut forth, mut back) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = now();
        let outputs = Outputs { y: Some(&mut y), y_stride: states, y_h: None, y_c: None };
        forward(&shape, &inputs, outputs, &mut saved, &mut scratch);
        let half = now();
        let gradients = Gradients {
            dx: Some(&mut dx),
            dw: Some(&mut dw),
            dr: Some(&mut dr),
            db: Some(&mut db),
            dp: None,
            dh0: None,
            dc0: None,
        };
        backward(&shape, &inputs, &incoming, &saved, gradients, &mut scratch);
        back.push(half.elapsed());
        forth.push(half - start);
    }
    let (forth, back) = (fastest(&forth), fastest(&back));
    println!("{name}: forward {forth:.3} ms, backward {back:.3} ms, both {:.3} ms", forth + back);
}

fn main() {
    let cells = [
        ("LSTM", Cell::Lstm),
        ("GRU linear", Cell::Gru { linear_before_reset: true }),
        ("GRU reset", Cell::Gru { linear_before_reset: false }),
        ("RNN", Cell::Rnn { relu: false }),
    ];
    for [batch, steps, input, hidden] in
        [[32, 50, 8, 64], [1, 50, 8, 64], [32, 50, 512, 64], [8, 20, 4, 20], [64, 30, 128, 256]]
    {
        println!("batch {batch}, steps {steps}, input {input}, hidden {hidden}");
        for (name, cell) in cells {
            time(name, RecurrentShape { cell, steps, batch, input, hidden, reverse: false });
        }
    }
}
