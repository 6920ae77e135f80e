//! A first model, made here from the training rows alone.

use super::calibration::Logits;
use super::{PackArgs, PackError};
use crate::rows::Rows;
use serde::Serialize;
use shoal_infer::Predictor;
use shoal_learn::{Architecture, FitPlan, Fitted, Optimizer, Progress, Recipe};
use shoal_onnx::Limits;
use shoal_proto::manifest::OutputKind;
use std::ops::ControlFlow;

/// Share of the training rows that decide when to stop and how sure to be.
const VALIDATION: f64 = 0.2;
/// Rows for that below which all are trained on, for a fixed number of steps.
const MIN_VALIDATION: usize = 10;
/// Keeps those rows from being drawn as the held-out ones were.
const VALIDATION_SEED: u64 = 0x7661_6c69_6461_7465;
/// Standard deviations at which a dense network cuts its inputs: far enough for drift to be seen, near enough that
/// one broken sensor does not decide alone. Bent features have short tails: 3, 5 and 10 scored the same.
const CLIP: f32 = 5.0;
/// The same of windows, which are not bent and may hold single spikes.
const WINDOW_CLIP: f32 = 10.0;
/// Standard deviation of the noise on the scaled inputs of each step, for classes: small changes of a sensor are
/// not learned by heart, nor columns leant on that never varied. 0.1 cost no accuracy anywhere, 0.3 up to 0.4
/// points. For values it would flatten the answer.
const NOISE: f64 = 0.1;
/// Decay of dense networks' weights, beside the gradient.
const WEIGHT_DECAY: f64 = 1e-4;
/// Steps of a fit, whatever the rows: about a minute for a small network.
const FIT_STEPS: u32 = 3_000;
/// Rows in a step of a fit.
const FIT_BATCH: usize = 32;
/// Passes at most where no row says when to stop: beyond it a small table is learned by heart.
const FIT_EPOCHS: u32 = 100;
/// Passes at most where rows do.
const MAX_EPOCHS: u32 = 300;
/// Passes without a better one after which to stop.
const PATIENCE: u32 = 20;

/// How a model was fitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FitReport {
    /// What it looks like, as written.
    pub architecture: String,
    /// Rows that weights were moved by.
    pub trained_rows: usize,
    /// Rows of the training part that only said when to stop and how sure to be.
    pub validation_rows: usize,
    /// Steps made.
    pub steps: u64,
    /// The step whose weights were kept.
    pub best_step: u64,
}

/// A model that was fitted.
pub(super) struct Made {
    pub(super) onnx: Vec<u8>,
    pub(super) report: FitReport,
    /// Folded into the file, where it could be measured.
    pub(super) temperature: Option<f64>,
}

/// Fits a model of the architecture that is asked for.
pub(super) fn fit(
    args: &PackArgs,
    train: &Rows,
    classes: usize,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Made, PackError> {
    let architecture: Architecture = args.fit.as_deref().unwrap_or_default().parse()?;
    if let Some(takes) = architecture.width().filter(|width| *width != train.width()) {
        return Err(PackError::Windows { fit: architecture.to_string(), takes, data: train.width() });
    }
    let (most, validation) = train.split(VALIDATION, args.seed ^ VALIDATION_SEED);
    let validation = (validation.len() >= MIN_VALIDATION).then_some(validation);
    let moved = if validation.is_some() { &most } else { train };
    let recipe = recipe(&architecture, moved.len(), args.seed, validation.is_some());
    let (clip, noise) = match architecture {
        Architecture::Cnn1d { .. } => (WINDOW_CLIP, 0.0),
        Architecture::Linear | Architecture::Mlp { .. } => (CLIP, if classes > 0 { NOISE } else { 0.0 }),
    };
    let plan = FitPlan { architecture: &architecture, classes, clip, noise, recipe: &recipe };
    let held = validation.as_ref().map(|rows| rows.dataset(Vec::new())).transpose()?;
    let fitted = shoal_learn::fit(&moved.dataset(Vec::new())?, held.as_ref(), &plan, &mut |progress| {
        on_progress(progress);
        ControlFlow::Continue(())
    })?;
    let report = FitReport {
        architecture: architecture.to_string(),
        trained_rows: moved.len(),
        validation_rows: validation.as_ref().map_or(0, Rows::len),
        steps: fitted.steps,
        best_step: fitted.best_step,
    };
    let temperature = match &validation {
        Some(rows) if classes > 0 => temperature(&fitted, rows)?,
        _ => None,
    };
    let onnx = match temperature {
        Some(temperature) => fitted.at_temperature(temperature)?,
        None => fitted.onnx,
    };
    Ok(Made { onnx, report, temperature })
}

fn recipe(architecture: &Architecture, rows: usize, seed: u64, stops_early: bool) -> Recipe {
    let a_pass = u32::try_from(rows.div_ceil(FIT_BATCH)).unwrap_or(u32::MAX).max(1);
    let most = if stops_early { MAX_EPOCHS } else { FIT_EPOCHS };
    let dense = Optimizer::AdamW { weight_decay: WEIGHT_DECAY };
    let (optimizer, learning_rate) = match architecture {
        // A flat bowl: large steps find its ground, and the best pass is kept.
        Architecture::Linear => (dense, 1e-2),
        // With 1e-3 large tables were not learned within the steps: a point less.
        Architecture::Mlp { .. } => (dense, 2e-3),
        // Few weights, each used at every sample.
        Architecture::Cnn1d { .. } => (Optimizer::Adam, 3e-3),
    };
    Recipe {
        optimizer,
        learning_rate,
        batch: FIT_BATCH,
        epochs: (FIT_STEPS / a_pass).clamp(5, most),
        patience: if stops_early { PATIENCE } else { 0 },
        seed,
        ..Recipe::default()
    }
}

fn temperature(fitted: &Fitted, rows: &Rows) -> Result<Option<f64>, PackError> {
    let scores = Predictor::load(&fitted.onnx, &Limits::default())?.rows(rows.len(), rows.features())?;
    let logits = Logits::new(OutputKind::Probabilities, scores.width, &scores.values);
    Ok(logits.and_then(|logits| logits.temperature(rows.classes())))
}
