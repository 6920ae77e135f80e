//! What a package promises of its answers, ready to hold live ones against.

use super::calibration::Calibration;
use super::error_model::expected_error;
use super::group::Groups;
use shoal_proto::baseline::{CONFIDENCE_BINS, ErrorModel, Histogram, PredictionBaseline, Spread};
use shoal_proto::manifest::{Manifest, Task};

/// Errors are summed in units of the reference's rmse, and held within this many of them: its fourth power
/// still fits a [`Sum`](super::fixed::Sum).
pub(super) const MOST_ERROR: f64 = 180.0;
/// Expected sizes of errors, in the same unit.
const MOST_EXPECTED: f64 = 256.0;

/// The reference of one version's answers. Not part of any state: it is made again from the package.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerReference {
    /// 0 for a regression.
    classes: usize,
    /// Groups of rows.
    groups: Groups,
    calibration: Calibration,
    baseline: PredictionBaseline,
    /// What errors of a regression are measured in; 1 where the package does not say.
    unit: f64,
    /// Mean and standard deviation of the target.
    target: (f64, f64),
}

impl AnswerReference {
    /// The reference of a manifest and what was packed beside it. Parts that do not fit the manifest are left
    /// out, and what would be held against them is not tested.
    #[must_use]
    pub fn new(manifest: &Manifest, predictions: Option<&PredictionBaseline>) -> Self {
        let mut baseline = predictions.cloned().unwrap_or_default();
        let classes = match manifest.model.task {
            Task::Classification => manifest.output.classes.len(),
            Task::Regression => 0,
        };
        if baseline.counts.len() != classes * CONFIDENCE_BINS {
            baseline.counts.clear();
        }
        baseline.classes = baseline.classes.filter(|known| {
            classes > 0 && usize::try_from(known.confusion.classes()).is_ok_and(|k| k == classes)
        });
        baseline.values = baseline.values.filter(|_| classes == 0);
        let (mut calibration, mut unit, mut target) = (Calibration::default(), 1.0, (0.0, 1.0));
        if let Some(known) = &baseline.classes {
            calibration = Calibration::new(&known.reliability, 1.0);
        } else if classes > 0 {
            calibration = Calibration::new(&shoal_proto::baseline::Reliability::default(), 1.0);
        }
        if let Some(known) = &baseline.values {
            calibration = Calibration::new(&known.reliability, MOST_EXPECTED);
            let positive = |number: f32| if number.is_normal() { f64::from(number.abs()) } else { 1.0 };
            unit = positive(known.rmse);
            target = (f64::from(known.target_mean), positive(known.target_std));
        }
        let groups = Groups::new(manifest, &baseline.groups);
        Self { classes, groups, calibration, baseline, unit, target }
    }

    /// How many classes; 0 for a regression.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The groups of the package.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// From confidence, or the expected size of an error, to what became of it in the held-out rows.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// As it was packed.
    #[must_use]
    pub fn baseline(&self) -> &PredictionBaseline {
        &self.baseline
    }

    /// What errors of a regression are measured in.
    #[must_use]
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// Mean and standard deviation of a regression's target.
    pub(super) fn target(&self) -> (f64, f64) {
        self.target
    }

    /// What was to be expected of the held-out rows.
    pub(super) fn expected(&self) -> Option<Spread> {
        let classes = self.baseline.classes.as_ref().map(|known| known.expected);
        classes.or_else(|| self.baseline.values.as_ref().map(|known| known.expected))
    }

    /// The bin of the size of an error among those of the held-out rows, of [`residual_bins`](Self::residual_bins):
    /// what a detector ranks it by. `None` without a reference, or of an error that is not a number.
    #[must_use]
    pub fn residual_bin(&self, error: f32) -> Option<usize> {
        let residuals = &self.baseline.values.as_ref()?.residuals;
        (!residuals.counts.is_empty() && !error.is_nan()).then(|| residuals.bin(error.abs()))
    }

    /// Held-out rows by the size of their error.
    #[must_use]
    pub fn residual_bins(&self) -> &[u64] {
        self.baseline.values.as_ref().map(|known| &known.residuals.counts[..]).unwrap_or_default()
    }

    pub(super) fn answers(&self) -> Option<&Histogram> {
        self.baseline.values.as_ref().map(|known| &known.answers).filter(|known| !known.counts.is_empty())
    }

    fn error_model(&self) -> Option<&ErrorModel> {
        self.baseline.values.as_ref().map(|known| &known.model)
    }

    /// The size of error that is expected of a row, in units of the rmse, before calibration.
    pub(super) fn expected_error(&self, answer: f32, features: &[f32]) -> Option<f32> {
        self.error_model().map(|model| expected_error(model, answer, features))
    }
}
