//! Milliseconds of convolutions and poolings, on one thread: `conv [part of a name]`.
//!
//! One line a case: name, forward, gradient of the input, gradient of the weights, and their sum.

use std::time::Instant;

use shoal_grad::kernel::conv::{self, ConvShape};
use shoal_grad::kernel::pool::{self, PoolShape};

/// Name; batch, groups, inputs, outputs; size; kernel; stride; padding, the same at both ends.
type Row = (&'static str, [usize; 4], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

const CASES: &[Row] = &[
    ("a1 3-32 k5 L128", [32, 1, 3, 32], [1, 128], [1, 5], [1, 1], [0, 2]),
    ("a2 32-64 k5 s2 L128", [32, 1, 32, 64], [1, 128], [1, 5], [1, 2], [0, 2]),
    ("a3 64-64 k5 s2 L64", [32, 1, 64, 64], [1, 64], [1, 5], [1, 2], [0, 2]),
    ("b1 1-8 3x3 28", [32, 1, 1, 8], [28, 28], [3, 3], [1, 1], [1, 1]),
    ("b2 8-16 3x3 14", [32, 1, 8, 16], [14, 14], [3, 3], [1, 1], [1, 1]),
    ("c1 16-48 1x1 48", [32, 1, 16, 48], [48, 48], [1, 1], [1, 1], [0, 0]),
    ("c2 48-8 1x1 24", [32, 1, 48, 8], [24, 24], [1, 1], [1, 1], [0, 0]),
    ("c3 96-24 1x1 12", [32, 1, 96, 24], [12, 12], [1, 1], [1, 1], [0, 0]),
    ("c4 24-144 1x1 6", [32, 1, 24, 144], [6, 6], [1, 1], [1, 1], [0, 0]),
    ("c5 192-32 1x1 6", [32, 1, 192, 32], [6, 6], [1, 1], [1, 1], [0, 0]),
    ("c6 56-336 1x1 3", [32, 1, 56, 336], [3, 3], [1, 1], [1, 1], [0, 0]),
    ("c7 336-112 1x1 3", [32, 1, 336, 112], [3, 3], [1, 1], [1, 1], [0, 0]),
    ("c8 112-1280 1x1 3", [32, 1, 112, 1280], [3, 3], [1, 1], [1, 1], [0, 0]),
    ("c9 336-112 1x1 3 N8", [8, 1, 336, 112], [3, 3], [1, 1], [1, 1], [0, 0]),
    ("d1 dw48 48 s1", [32, 16, 16, 16], [48, 48], [3, 3], [1, 1], [1, 1]),
    ("d2 dw48 48 s2", [32, 48, 48, 48], [48, 48], [3, 3], [2, 2], [1, 1]),
    ("d3 dw48 24 s1", [32, 48, 48, 48], [24, 24], [3, 3], [1, 1], [1, 1]),
    ("d4 dw96 12 s1", [32, 96, 96, 96], [12, 12], [3, 3], [1, 1], [1, 1]),
    ("d5 dw96 12 s2", [32, 96, 96, 96], [12, 12], [3, 3], [2, 2], [1, 1]),
    ("d6 dw192 6 s1", [32, 192, 192, 192], [6, 6], [3, 3], [1, 1], [1, 1]),
    ("d7 dw192 6 s2", [32, 192, 192, 192], [6, 6], [3, 3], [2, 2], [1, 1]),
    ("d8 dw336 3 s1", [32, 336, 336, 336], [3, 3], [3, 3], [1, 1], [1, 1]),
    ("e1 3-16 3x3 s2 96", [32, 1, 3, 16], [96, 96], [3, 3], [2, 2], [1, 1]),
    ("f1 32-32 3x3 16", [32, 1, 32, 32], [16, 16], [3, 3], [1, 1], [1, 1]),
    ("f2 64-64 3x3 8", [32, 1, 64, 64], [8, 8], [3, 3], [1, 1], [1, 1]),
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for case in CASES.iter().filter(|case| case.0.contains(&wanted)) {
        let (ms, name) = (time_conv(case), case.0);
        say(&format!("{name:22} {:7.3} {:7.3} {:7.3} {:7.3}", ms[0], ms[1], ms[2], ms.iter().sum::<f64>()));
    }
    for (name, shape) in poolings().iter().filter(|(name, _)| name.contains(&wanted)) {
        let ms = time_pool(name, shape);
        say(&format!("{name:22} {:7.3} {:7.3} {:7.3} {:7.3}", ms[0], ms[1], 0.0, ms[0] + ms[1]));
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// The shortest of many runs, in milliseconds: others use the machine too.
#[expect(clippy::disallowed_methods, reason = "time is measured")]
fn shortest(mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut shortest = f64::INFINITY;
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        work();
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    shortest * 1e3
}

fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u16;
    let step = |_| {
        state = state.wrapping_mul(25173).wrapping_add(13849);
        f32::from(state) / 32768.0 - 1.0
    };
    (0..count).map(step).collect()
}

fn time_conv(&(_, [batch, groups, inputs, outputs], size, kernel, stride, pad): &Row) -> [f64; 3] {
    let made = |axis: usize| (size[axis] + 2 * pad[axis] - kernel[axis]) / stride[axis] + 1;
    let s = ConvShape {
        batch,
        groups,
        inputs,
        outputs,
        size,
        kernel,
        stride,
        dilation: [1, 1],
        pads: [pad[0], pad[1], pad[0], pad[1]],
        made: [made(0), made(1)],
    };
    let x = noise(batch * inputs * size[0] * size[1]);
    let w = noise(outputs * inputs / groups * kernel[0] * kernel[1]);
    let dy = noise(batch * outputs * s.made[0] * s.made[1]);
    let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), noise(outputs));
    let bias = db.clone();
    let mut scratch = vec![0.0; s.scratch()];
    [
        shortest(|| conv::forward(&s, &x, &w, Some(&bias), &mut y, &mut scratch)),
        shortest(|| conv::grad_input(&s, &dy, &w, &mut dx, &mut scratch)),
        shortest(|| {
            conv::grad_weight(&s, &x, &dy, &mut dw, &mut scratch);
            conv::grad_bias(&s, &dy, &mut db);
        }),
    ]
}

fn poolings() -> Vec<(&'static str, PoolShape)> {
    let shape = |name, batch, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]| {
        let made = |axis: usize| (size[axis] + 2 * pad[axis] - kernel[axis]) / stride[axis] + 1;
        let pads = [pad[0], pad[1], pad[0], pad[1]];
        let made = [made(0), made(1)];
        (name, PoolShape { batch, size, kernel, stride, dilation: [1, 1], pads, made })
    };
    vec![
        shape("pool max 2x2 28", 256, [28, 28], [2, 2], [2, 2], [0, 0]),
        shape("pool max 2x2 14", 512, [14, 14], [2, 2], [2, 2], [0, 0]),
        shape("pool max 2 L128", 1024, [1, 128], [1, 2], [1, 2], [0, 0]),
        shape("pool max 3x3 s2 32", 512, [32, 32], [3, 3], [2, 2], [1, 1]),
        shape("pool avg 2x2 28", 256, [28, 28], [2, 2], [2, 2], [0, 0]),
        shape("pool avg 7x7 all", 4096, [7, 7], [7, 7], [1, 1], [0, 0]),
        shape("pool avg 3x3 s1 14", 512, [14, 14], [3, 3], [1, 1], [1, 1]),
    ]
}

fn time_pool(name: &str, s: &PoolShape) -> [f64; 2] {
    let x = noise(s.batch * s.size[0] * s.size[1]);
    let dy = noise(s.batch * s.made[0] * s.made[1]);
    let (mut y, mut dx) = (dy.clone(), x.clone());
    let largest = name.contains("max");
    if largest {
        let forward = shortest(|| pool::max_forward(s, &x, &mut y));
        return [forward, shortest(|| pool::max_backward(s, &x, &y, &dy, &mut dx))];
    }
    let forward = shortest(|| pool::average_forward(s, false, &x, &mut y));
    [forward, shortest(|| pool::average_backward(s, false, &dy, &mut dx))]
}
