//! What a version answers to labelled rows, right or wrong.

use crate::profile::{self, answer};
use crate::rows::{Rows, Truth};
use shoal_infer::{InferError, LoadError, Predictor};
use shoal_onnx::Limits;
use shoal_proto::baseline::JointBaseline;
use shoal_proto::manifest::{Manifest, OutputKind};
use shoal_watch::answer::probabilities;

/// Rows that are answered at once: bounds the memory of an answer.
const ANSWERED_AT_ONCE: usize = 256;
/// A probability below which log-loss grows no more: one row that is surely wrong does not outweigh a thousand.
const LEAST_PROBABILITY: f32 = 1e-3;

/// A version that answers no rows.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It does not load.
    #[error("the model cannot be loaded")]
    Load(#[from] LoadError),
    /// It fails.
    #[error("the model does not answer")]
    Infer(#[from] InferError),
    /// It answers in another width.
    #[error("the model gives {got} scores a row, expected {expected}")]
    Width { expected: usize, got: usize },
}

/// Answers to labelled rows.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The class of each; empty for a regression.
    pub(super) classes: Vec<Option<u32>>,
    /// Which are right.
    pub(super) right: Vec<bool>,
    /// Log-loss of a class, absolute error of a value, infinite where it is no number.
    pub(super) losses: Vec<f64>,
}

/// A loaded version.
#[derive(Debug)]
pub(super) struct Judge {
    predictor: Predictor,
    kind: OutputKind,
    temperature: f64,
    scores: usize,
}

impl Judge {
    pub(super) fn new(onnx: &[u8], manifest: &Manifest) -> Result<Self, AnswerError> {
        let inside = manifest.output.embedding.as_deref();
        Ok(Self::of(Predictor::load_exposing(onnx, inside, &Limits::default())?, manifest))
    }

    pub(super) fn of(predictor: Predictor, manifest: &Manifest) -> Self {
        let (kind, temperature) = (manifest.output.kind, manifest.output.temperature.unwrap_or(1.0));
        Self { predictor, kind, temperature, scores: manifest.output.classes.len().max(1) }
    }

    /// The scores of rows, row-major, with their width.
    fn scores(&self, rows: &Rows) -> Result<(usize, Vec<f32>), AnswerError> {
        if rows.is_empty() {
            return Ok((self.scores, Vec::new()));
        }
        let (mut width, mut values) = (self.scores, Vec::new());
        for features in rows.features().chunks(rows.width() * ANSWERED_AT_ONCE) {
            let scores = self.predictor.rows(features.len() / rows.width(), features)?;
            // One score tells two classes apart.
            if scores.width != self.scores && !(self.scores == 2 && scores.width == 1) {
                return Err(AnswerError::Width { expected: self.scores, got: scores.width });
            }
            width = scores.width;
            values.extend(scores.values);
        }
        Ok((width, values))
    }

    /// The scores or values of each row, row-major.
    pub(super) fn outputs(&self, rows: &Rows) -> Result<Vec<f32>, AnswerError> {
        Ok(self.scores(rows)?.1)
    }

    /// The profile of what its last layer reads of rows, where the manifest names that.
    pub(super) fn embedding(&self, rows: &Rows) -> Result<Option<JointBaseline>, AnswerError> {
        if !self.predictor.is_exposing() {
            return Ok(None);
        }
        let made = self.predictor.exposed_rows(rows.len(), rows.features())?;
        Ok(profile::embedding(made.width, &made.values))
    }

    /// Class and confidence of each row; empty for a regression.
    pub(super) fn answers(&self, rows: &Rows) -> Result<Vec<(u32, f32)>, AnswerError> {
        let (width, scores) = self.scores(rows)?;
        Ok(scores.chunks_exact(width).filter_map(|scores| answer(self.kind, scores)).collect())
    }

    /// Which rows are answered right: the true class, or a value at most `tolerance` off.
    pub(super) fn right(&self, rows: &Rows, tolerance: f32) -> Result<Vec<bool>, AnswerError> {
        match rows.truth() {
            Truth::Classes(truth) => {
                Ok(self.answers(rows)?.iter().zip(truth).map(|((class, _), truth)| class == truth).collect())
            }
            Truth::Values(_) => Ok(self.errors(rows)?.into_iter().map(|error| error <= tolerance).collect()),
        }
    }

    /// What each row is answered: the class, whether it is right, as [`Self::right`] says, and how far off it is.
    pub(super) fn judged(&self, rows: &Rows, tolerance: f32) -> Result<Judged, AnswerError> {
        let truth = match rows.truth() {
            Truth::Classes(truth) => truth,
            Truth::Values(_) => {
                let errors = self.errors(rows)?;
                let off = |error: &f32| if error.is_nan() { f64::INFINITY } else { f64::from(*error) };
                let losses = errors.iter().map(off).collect();
                let right = errors.into_iter().map(|error| error <= tolerance).collect();
                return Ok(Judged { classes: Vec::new(), right, losses });
            }
        };
        let (width, scores) = self.scores(rows)?;
        let (mut shares, mut judged) = (Vec::new(), Judged::default());
        for (scores, truth) in scores.chunks_exact(width).zip(truth) {
            let class = answer(self.kind, scores).map(|(class, _)| class);
            probabilities(self.kind, self.temperature, scores, &mut shares);
            let share = usize::try_from(*truth).ok().and_then(|class| shares.get(class)).copied();
            judged.classes.push(class);
            judged.right.push(class == Some(*truth));
            judged.losses.push(-f64::from(share.unwrap_or(0.0).max(LEAST_PROBABILITY)).ln());
        }
        Ok(judged)
    }

    /// How far each answer of a regression is off; empty for a classifier.
    pub(super) fn errors(&self, rows: &Rows) -> Result<Vec<f32>, AnswerError> {
        let Truth::Values(truth) = rows.truth() else { return Ok(Vec::new()) };
        let (_, scores) = self.scores(rows)?;
        Ok(scores.iter().zip(truth).map(|(score, truth)| (score - truth).abs()).collect())
    }
}
