//! What a step costs.

use super::Kind;
use crate::rig::peak_bytes;
use serde::{Deserialize, Serialize};
use shoal_agent::clock::Clock;
use shoal_learn::{Dataset, Optimizer, Recipe, Session, Source as _, Targets};
use std::time::Duration;

/// Steps before the clock starts, and at least after it.
const STEPS: (usize, usize) = (3, 10);

/// Medians of single steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Timed {
    pub(super) batch: usize,
    pub(super) sgd_ms: f64,
    pub(super) adamw_ms: f64,
    /// What the run said beforehand that it takes.
    pub(super) planned_bytes: u64,
    /// Most memory of the process up to then, its code and the file among it.
    pub(super) peak_bytes: u64,
}

/// Times steps over the rows, repeated until they fill a batch.
pub(super) fn time(
    onnx: &[u8],
    data: &Dataset,
    loss: Kind,
    batch: usize,
    seconds: f64,
) -> anyhow::Result<Timed> {
    let mut rows = repeated(data, batch)?;
    let mut planned = 0;
    let mut median = |optimizer| -> anyhow::Result<f64> {
        let recipe = Recipe {
            optimizer,
            learning_rate: 1e-4,
            batch,
            epochs: u32::MAX,
            max_steps: u64::MAX,
            loss,
            ..Recipe::default()
        };
        let mut session = Session::new(onnx, &mut rows, None, &recipe)?;
        planned = session.bytes() as u64;
        for _ in 0..STEPS.0 {
            session.step()?;
        }
        let clock = Clock::start();
        let begin = clock.mono();
        let mut times: Vec<Duration> = Vec::new();
        while times.len() < STEPS.1 || clock.mono().since(begin).as_secs_f64() < seconds {
            let start = clock.mono();
            session.step()?;
            times.push(clock.mono().since(start));
        }
        times.sort_unstable();
        Ok(times[times.len() / 2].as_secs_f64() * 1e3)
    };
    let sgd_ms = median(Optimizer::Sgd { momentum: 0.0 })?;
    let adamw_ms = median(Optimizer::AdamW { weight_decay: 0.01 })?;
    let peak_bytes = peak_bytes(std::process::id())?;
    Ok(Timed { batch, sgd_ms, adamw_ms, planned_bytes: planned, peak_bytes })
}

fn repeated(data: &Dataset, batch: usize) -> anyhow::Result<Dataset> {
    let order = |width: usize| {
        (0..batch).flat_map(move |row| (0..width).map(move |at| (row % data.rows()) * width + at))
    };
    let features = order(data.width()).map(|at| data.features()[at]).collect();
    let targets = match data.targets() {
        Targets::Classes(classes) => Targets::Classes(order(1).map(|at| classes[at]).collect()),
        Targets::Values { width, values } => {
            Targets::Values { width: *width, values: order(*width).map(|at| values[at]).collect() }
        }
    };
    Ok(Dataset::new(data.width(), features, targets, Vec::new())?)
}
