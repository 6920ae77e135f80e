//! Times the tree walker on settings dumped as text: a line `NAME KIND VALUE ...` for each.
//!
//! `cargo run --release -p shoal-ml --example walk -- OP DUMP FEATURES`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures time and tells it")]

use std::hint::black_box;
use std::time::Instant;

use shoal_ml::{Kernel, Setting, Settings, Slice, View};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let op = arguments.next().ok_or("name an operator")?;
    let dump = std::fs::read_to_string(arguments.next().ok_or("name a dump")?)?;
    let width: usize = arguments.next().ok_or("say how many features")?.parse()?;
    let mut settings = Settings::default();
    for line in dump.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        let value = match kind {
            "floats" => Setting::Floats(words.map(str::parse).collect::<Result<_, _>>()?),
            "ints" => Setting::Ints(words.map(str::parse).collect::<Result<_, _>>()?),
            "int" => Setting::Int(words.next().ok_or("no value")?.parse()?),
            "text" => Setting::Text(words.next().ok_or("no value")?.to_owned()),
            _ => Setting::Texts(words.map(str::to_owned).collect()),
        };
        settings.insert(name, value);
    }
    let kernel = Kernel::parse(&op, &settings, None)?;
    let values: Vec<f32> = (0..1024 * width).map(|at| ((at * 7919 % 2003) as f32) / 500.0 - 2.0).collect();
    for rows in [1, 32, 1024] {
        let shape = [rows, width];
        let rounds = 200_000 / rows + 20;
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            for round in 0..rounds {
                let first = (round * rows) % (1024 - rows + 1) * width;
                let view = View { shape: &shape, data: Slice::F32(&values[first..first + rows * width]) };
                black_box(kernel.run(&[black_box(view)])?);
            }
            best = best.min(start.elapsed().as_secs_f64() / rounds as f64);
        }
        println!("{rows:5} rows: {:9.2} us, {:.3} us each", best * 1e6, best * 1e6 / rows as f64);
    }
    Ok(())
}
