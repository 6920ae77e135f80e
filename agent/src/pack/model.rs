//! The model that is packed, held against the data.

use super::calibration::Logits;
use super::score::{balanced_accuracy, rmse};
use super::{PackError, PackReport};
use crate::profile::{self, answer};
use crate::rows::{Rows, Truth};
use crate::table::Table;
use shoal_infer::{LoadError, Predictor};
use shoal_onnx::{Limits, OnnxModel, Servable, inspect};
use shoal_proto::baseline::{FeatureBaseline, JointBaseline, PredictionBaseline};
use shoal_proto::manifest::{Manifest, OutputKind};
use shoal_watch::answer::{probabilities, wilson};
use shoal_watch::joint::sensitivity;
use std::fs;
use std::path::Path;

/// How far probabilities may sum from one.
const SUM_TOLERANCE: f32 = 1e-3;

/// The ONNX file that is given.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PackError> {
    let onnx = fs::read(path).map_err(|source| PackError::Read { path: path.to_owned(), source })?;
    let refused = |source| PackError::Refused { path: path.to_owned(), source };
    inspect(&onnx, &Limits::default()).map_err(refused)?;
    Ok(onnx)
}

/// Loads a model, exposing what its last layer reads where it has one and the engine can.
pub(super) fn load_exposing(onnx: &[u8]) -> Result<(Predictor, Option<String>), LoadError> {
    let graph = OnnxModel::parse(onnx, &Limits::default())?.graph();
    if let Some(embedding) = graph.penultimate()
        && let Ok(predictor) = Predictor::load_exposing(onnx, Some(embedding), &Limits::default())
    {
        return Ok((predictor, Some(embedding.to_owned())));
    }
    Ok((Predictor::load(onnx, &Limits::default())?, None))
}

/// A model that fits the data, and its answers to the held-out rows.
pub(super) struct Model {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) kind: OutputKind,
    /// What stands against training it by gradients.
    pub(super) no_gradients: Vec<String>,
    pub(super) predictor: Predictor,
    /// What its last layer reads, where the predictor exposes it.
    embedding: Option<String>,
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
        let (predictor, embedding) = load_exposing(onnx)?;
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
        let mut no_gradients = inspection.trainable.reasons;
        if let Servable::No { reasons } = inspection.servable {
            no_gradients.extend(reasons);
        }
        let input = predictor.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
        let (width, scores) = (scores.width, scores.values);
        Ok(Self { input, output, kind, no_gradients, predictor, embedding, width, scores })
    }

    fn answers(&self) -> impl Iterator<Item = (u32, f32)> {
        self.scores.chunks_exact(self.width.max(1)).filter_map(|scores| answer(self.kind, scores))
    }

    /// The profile of the answers to the held-out rows.
    pub(super) fn predictions(&self, manifest: &Manifest, held_out: &Rows) -> Option<PredictionBaseline> {
        profile::predictions(manifest, held_out, &self.scores)
    }

    /// The tensor that its last layer reads, and its profile over rows; `None` where there is none, or the rows
    /// do not suffice for one.
    pub(super) fn embedding(&self, rows: &Rows) -> Option<(String, JointBaseline)> {
        let name = self.embedding.clone()?;
        let made = self.predictor.exposed_rows(rows.len(), rows.features()).ok()?;
        Some((name, profile::embedding(made.width, &made.values)?))
    }

    /// How much the answers to rows change when a feature moves by a standard deviation.
    pub(super) fn sensitivity(&self, rows: &Rows, features: &[FeatureBaseline]) -> Option<Vec<f32>> {
        #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
        let deviations: Vec<f32> = features.iter().map(|feature| feature.std as f32).collect();
        let predict = |rows: &[f32]| {
            let values = self.predictor.rows(rows.len() / deviations.len().max(1), rows)?.values;
            Ok::<_, shoal_infer::InferError>(self.as_shares(values))
        };
        sensitivity(rows.features(), &deviations, predict).ok()
    }

    /// Scores as probabilities, so that sensitivities of all classifiers are on one scale.
    fn as_shares(&self, scores: Vec<f32>) -> Vec<f32> {
        let (mut shares, mut all) = (Vec::new(), Vec::new());
        for row in scores.chunks_exact(self.width.max(1)) {
            if !probabilities(self.kind, 1.0, row, &mut shares) {
                return scores;
            }
            all.extend_from_slice(&shares);
        }
        all
    }

    /// The scores of the held-out rows of a classifier.
    pub(super) fn logits(&self) -> Option<Logits> {
        Logits::new(self.kind, self.width, &self.scores)
    }

    /// Writes down how good the answers to the held-out rows are, and how good a constant would be.
    pub(super) fn score(&self, train: &Rows, held_out: &Rows, report: &mut PackReport) {
        if let Truth::Values(truth) = held_out.truth() {
            report.held_out_rmse = Some(rmse(self.scores.iter().copied(), truth));
            let Truth::Values(seen) = train.truth() else { return };
            let mean = seen.iter().map(|value| f64::from(*value)).sum::<f64>() / seen.len().max(1) as f64;
            #[expect(clippy::cast_possible_truncation, reason = "a constant answer is f32 like any other")]
            let constant = std::iter::repeat(mean as f32);
            report.held_out_rmse_of_mean = Some(rmse(constant, truth));
            return;
        }
        let truth = held_out.classes();
        let answers = || self.answers().map(|(class, _)| class);
        let right = answers().zip(truth).filter(|(answer, truth)| answer == *truth).count() as u64;
        let rows = truth.len() as u64;
        report.held_out_accuracy = Some(right as f64 / rows.max(1) as f64);
        report.held_out_interval = Some(wilson(right, rows));
        report.held_out_balanced_accuracy = balanced_accuracy(answers(), truth);
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
