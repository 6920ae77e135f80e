//! The model that is packed: read or fitted, and held against the data.

use super::{PackArgs, PackError};
use crate::profile::{self, answer};
use crate::rows::{Rows, Truth};
use crate::table::Table;
use shoal_infer::Predictor;
use shoal_learn::{Optimizer, Recipe};
use shoal_onnx::{Limits, Servable, inspect};
use shoal_proto::baseline::PredictionBaseline;
use shoal_proto::manifest::OutputKind;
use std::fs;

/// Standard deviations at which a fitted model cuts its inputs: far enough for drift to be seen, near
/// enough that one broken sensor does not decide alone.
const CLIP: f32 = 10.0;
/// Steps of a fit, whatever the rows: about a minute for a small network.
const FIT_STEPS: u32 = 3_000;
/// Rows in a step of a fit.
const FIT_BATCH: usize = 32;
/// Passes at most: beyond it a small table is learned by heart.
const FIT_EPOCHS: u32 = 100;
/// Widest hidden layer that `--fit` makes.
const MAX_HIDDEN: usize = 4_096;
/// How far probabilities may sum from one.
const SUM_TOLERANCE: f32 = 1e-3;

/// The ONNX file, read or fitted.
pub(super) fn bytes(args: &PackArgs, train: &Rows, classes: usize) -> Result<Vec<u8>, PackError> {
    if let Some(path) = &args.onnx {
        let fail = |source| PackError::Read { path: path.clone(), source };
        let onnx = fs::read(path).map_err(fail)?;
        let refused = |source| PackError::Refused { path: path.clone(), source };
        inspect(&onnx, &Limits::default()).map_err(refused)?;
        return Ok(onnx);
    }
    let fit = args.fit.clone().unwrap_or_default();
    let hidden = hidden(&fit).ok_or(PackError::Fit { fit })?;
    let an_epoch = u32::try_from(train.len().div_ceil(FIT_BATCH)).unwrap_or(u32::MAX).max(1);
    let recipe = Recipe {
        optimizer: Optimizer::Adam,
        learning_rate: 1e-3,
        batch: FIT_BATCH,
        epochs: (FIT_STEPS / an_epoch).clamp(5, FIT_EPOCHS),
        seed: args.seed,
        ..Recipe::default()
    };
    Ok(shoal_learn::fit_mlp(&train.dataset(Vec::new())?, &hidden, classes, &recipe, CLIP)?)
}

fn hidden(fit: &str) -> Option<Vec<usize>> {
    let widths = fit.strip_prefix("mlp:")?.split(',').map(|width| width.trim().parse().ok());
    let widths: Vec<usize> = widths.collect::<Option<_>>()?;
    widths.iter().all(|width| (1..=MAX_HIDDEN).contains(width)).then_some(widths)
}

/// A model that fits the data, and its answers to the held-out rows.
pub(super) struct Model {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) kind: OutputKind,
    pub(super) not_trainable: Vec<String>,
    width: usize,
    scores: Vec<f32>,
}

impl Model {
    pub(super) fn check(
        onnx: &[u8],
        table: &Table,
        classes: &[String],
        held_out: &Rows,
    ) -> Result<Self, PackError> {
        let predictor = Predictor::load(onnx, &Limits::default())?;
        if predictor.row_width() != Some(table.width()) {
            let model = predictor.row_width().map_or_else(|| "no plain rows of".into(), |w| w.to_string());
            let shown: Vec<_> = table.names.iter().take(8).map(String::as_str).collect();
            return Err(PackError::Width { model, data: table.width(), columns: shown.join(", ") });
        }
        let float = predictor.outputs().iter().find(|output| output.datatype.is_float());
        let output = float.ok_or(PackError::NoScores)?.name.clone();
        let scores = predictor.rows(held_out.len(), held_out.features())?;
        let fits = match classes.len() {
            0 => scores.width == 1,
            2 => scores.width == 1 || scores.width == 2,
            several => scores.width == several,
        };
        if !fits {
            let needed = classes.len().max(1);
            return Err(PackError::Scores { output, scores: scores.width, needed });
        }
        let inspection = inspect(onnx, &Limits::default()).map_err(shoal_infer::LoadError::from)?;
        let kind = if classes.is_empty() {
            OutputKind::Values
        } else {
            match inspection.output_kind {
                shoal_onnx::OutputKind::Logits => OutputKind::Logits,
                shoal_onnx::OutputKind::Probabilities => OutputKind::Probabilities,
                shoal_onnx::OutputKind::Values => guess(scores.iter()),
            }
        };
        let mut not_trainable = inspection.trainable.reasons;
        if let Servable::No { reasons } = inspection.servable {
            not_trainable.extend(reasons);
        }
        let input = predictor.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
        Ok(Self { input, output, kind, not_trainable, width: scores.width, scores: scores.values })
    }

    fn answers(&self) -> impl Iterator<Item = (u32, f32)> {
        self.scores.chunks_exact(self.width.max(1)).filter_map(|scores| answer(self.kind, scores))
    }

    /// The profile of the answers to the held-out rows.
    pub(super) fn predictions(&self, classes: usize, held_out: &Rows) -> Option<PredictionBaseline> {
        (classes > 0).then(|| profile::predictions(classes, self.answers(), held_out.classes()))
    }

    pub(super) fn accuracy(&self, held_out: &Rows) -> Option<f64> {
        let profile = self.predictions(usize::from(self.kind != OutputKind::Values), held_out)?;
        Some(profile.correct as f64 / profile.labelled.max(1) as f64)
    }

    pub(super) fn rmse(&self, held_out: &Rows) -> Option<f64> {
        let Truth::Values(truth) = held_out.truth() else { return None };
        let squares = self.scores.iter().zip(truth).map(|(y, t)| f64::from(y - t).powi(2));
        Some((squares.sum::<f64>() / truth.len().max(1) as f64).sqrt())
    }
}

/// Whether scores of an unknown last operator are probabilities.
pub(super) fn guess<'a>(mut rows: impl Iterator<Item = &'a [f32]>) -> OutputKind {
    let is_share = |scores: &[f32]| {
        let inside = scores.iter().all(|score| (0.0..=1.0).contains(score));
        inside && (scores.len() == 1 || (scores.iter().sum::<f32>() - 1.0).abs() < SUM_TOLERANCE)
    };
    if rows.all(is_share) { OutputKind::Probabilities } else { OutputKind::Logits }
}
