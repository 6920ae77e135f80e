//! The memory that is told beforehand is the memory that a run takes.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::io::Write as _;
use std::process::Command;

use shoal_learn::*;
use shoal_onnx::{CnnSpec, ConvLayer, DenseLayer, Head, MlpSpec, build_cnn, build_mlp};

/// Names the case to the child that runs it.
const CASE: &str = "SHOAL_MEMORY_CASE";
/// Copies of the file while it is read and written, its own apart: decoded, as a graph, with new values.
const COPIES: u64 = 3;
/// What the allocator, the stacks and the rest of the program may take besides.
const SLACK_BYTES: u64 = 6 << 20;
const ROWS: usize = 64;

fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7_919) % 1_000) as f32 / 50_000.0 - 0.01).collect()
}

fn dense(inputs: usize, outputs: usize) -> DenseLayer {
    DenseLayer { weight: weights(inputs * outputs), bias: weights(outputs) }
}

/// A file and the width of its rows.
fn model(case: &str) -> (Vec<u8>, usize) {
    if case == "mlp" {
        let layers = vec![dense(256, 1024), dense(1024, 1024), dense(1024, 10)];
        let spec = MlpSpec { width: 256, normaliser: None, layers, head: Head::Classes };
        return (build_mlp(&spec).unwrap(), 256);
    }
    let layer = |channels: usize, filters: usize, stride| ConvLayer {
        weight: weights(filters * channels * 5),
        bias: weights(filters),
        kernel: 5,
        stride,
    };
    let convolutions = vec![layer(4, 32, 1), layer(32, 64, 2), layer(64, 64, 1)];
    let spec = CnnSpec {
        channels: 4,
        length: 512,
        normaliser: None,
        convolutions,
        dense: dense(64, 10),
        head: Head::Classes,
    };
    (build_cnn(&spec).unwrap(), 4 * 512)
}

fn of_status(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Prints what was planned and what was taken.
fn child(case: &str, memory_bytes: u64) {
    let (onnx, width) = model(case);
    let classes = Targets::Classes((0..u32::try_from(ROWS).unwrap()).map(|row| row % 10).collect());
    let mut rows = Dataset::new(width, weights(ROWS * width), classes, vec![]).unwrap();
    let recipe = Recipe { batch: ROWS, epochs: 2, memory_bytes, ..Recipe::default() };
    // From here on the peak counts.
    let mut peak = std::fs::File::options().write(true).open("/proc/self/clear_refs").unwrap();
    peak.write_all(b"5").unwrap();
    let before = of_status("VmRSS:");
    let mut session = Session::new(&onnx, &mut rows, None, &recipe).unwrap();
    let (planned, at_once) = (session.bytes(), session.rows_at_once());
    while session.step().unwrap().is_some() {}
    let trained = session.finish().unwrap();
    let peak = of_status("VmHWM:") - before;
    let told = format!("\nmemory {planned} {peak} {} {at_once}\n", onnx.len());
    std::io::stdout().write_all(told.as_bytes()).unwrap();
    assert!(trained.last_loss.is_finite());
}

#[test]
fn a_run_takes_what_was_planned() {
    if let Ok(case) = std::env::var(CASE) {
        let (case, budget) = case.split_once(' ').unwrap();
        return child(case, budget.parse().unwrap());
    }
    let run = |case: &str, budget: u64| -> [u64; 4] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_run_takes_what_was_planned", "--nocapture", "--test-threads=1"]);
        let done = command.env(CASE, format!("{case} {budget}")).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{case}: {text}{}", String::from_utf8_lossy(&done.stderr));
        let line = text.lines().find_map(|line| line.strip_prefix("memory ")).unwrap();
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    };
    for case in ["mlp", "cnn"] {
        let [planned, peak, file, at_once] = run(case, 0);
        println!("{case}: planned {planned}, taken {peak}, file {file}, {at_once} rows at once");
        assert_eq!(at_once, ROWS as u64);
        assert!(planned > 8 << 20, "{case}: {planned} bytes are no larger model");
        assert!(peak <= planned + COPIES * file + SLACK_BYTES, "{case}: planned {planned}, taken {peak}");
        // Nothing is planned that is not taken.
        assert!(peak + SLACK_BYTES >= planned, "{case}: planned {planned}, taken {peak}");
        if case == "mlp" {
            continue; // Its weights take the most: fewer rows at once would not help.
        }
        // Within less memory the batch is cut, and the run keeps to it.
        let budget = planned * 9 / 10;
        let [planned, peak, file, at_once] = run(case, budget);
        println!("{case}: planned {planned} of {budget}, taken {peak}, {at_once} rows at once");
        assert!(planned <= budget && peak <= budget + COPIES * file + SLACK_BYTES, "{case}: {peak}");
        assert!(at_once < ROWS as u64, "{case}");
    }
}
