//! Metrics of a window's labels, each with the rows it rests on and, where there is one, a 95 % interval.

use super::auc::{Auc, aucs, mean_auc};
use super::interval::Measured;
use super::performance::{Performance, WEIGHT_SQUARES};
use super::reference::AnswerReference;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Confusion;

/// What labels say of the predictions of one window. A metric that is not defined is `None`: accuracy of a
/// regression, the recall of a class without labels, the AUC of one class alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Rows predicted.
    pub predicted: u64,
    /// Labels counted.
    pub labelled: u64,
    /// Share of predictions with a label.
    pub coverage: Option<f64>,
    /// Share of right answers (Wilson).
    pub accuracy: Option<Measured>,
    /// The same, each label weighed by the inverse of its chance to be given (Horvitz and Thompson 1952 with
    /// Hájek's denominator); only of labels that say their chance.
    pub weighted_accuracy: Option<Measured>,
    /// Mean recall over the classes with labels.
    pub balanced_accuracy: Option<Measured>,
    /// One a class.
    pub classes: Vec<ClassMetrics>,
    /// Mean precision over the classes with labels; a class that was never answered counts as 0.
    pub precision: Option<Measured>,
    /// Mean recall over the same.
    pub recall: Option<Measured>,
    /// Mean F1 over the same.
    pub f1: Option<Measured>,
    /// Area under the ROC curve: of two classes that of the second, of more the mean of each against the rest.
    pub auc: Option<Measured>,
    /// How far it can be off since scores are counted in bins.
    pub auc_error: Option<f64>,
    /// Mean of `-ln p(truth)`.
    pub log_loss: Option<Measured>,
    /// Mean of the squared distance of all probabilities from the truth, 0 to 2.
    pub brier: Option<Measured>,
    /// Expected calibration error over the bins of the package's table; never below 0, so that few labels
    /// make it too large.
    pub ece: Option<Measured>,
    /// Mean size of an error.
    pub mae: Option<Measured>,
    /// Root of the mean squared error.
    pub rmse: Option<Measured>,
    /// Share of the target's variance that the answers explain.
    pub r2: Option<Measured>,
    /// Errors so large that they were held at 180 times the reference's rmse.
    pub beyond: u64,
}

/// What labels say of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Of the rows answered so, how many were.
    pub precision: Option<Measured>,
    /// Of the rows that were so, how many were answered so.
    pub recall: Option<Measured>,
    /// Their harmonic mean, `2 right / (answered + true)`.
    pub f1: Option<Measured>,
    /// Area under the ROC curve of this class against all others.
    pub auc: Option<Auc>,
}

impl Metrics {
    /// The metrics of labels that were counted on a reference.
    #[must_use]
    pub fn of(labels: &Performance, reference: &AnswerReference) -> Self {
        let mut metrics = Self {
            predicted: labels.predicted,
            labelled: labels.labelled,
            coverage: (labels.predicted > 0).then(|| labels.labelled as f64 / labels.predicted as f64),
            beyond: labels.values.beyond,
            ..Self::default()
        };
        if reference.classes() > 0 {
            metrics.of_classes(labels);
            metrics.of_scores(labels, reference.classes());
        } else {
            metrics.of_values(labels, reference);
        }
        metrics
    }

    fn of_classes(&mut self, labels: &Performance) {
        self.accuracy = Measured::rate(labels.correct, labels.labelled);
        self.weighted_accuracy = weighted(labels);
        self.classes = class_metrics(&labels.confusion);
        let n = labels.labelled;
        let present: Vec<&ClassMetrics> =
            self.classes.iter().filter(|class| class.recall.is_some()).collect();
        let count = present.len().max(1) as f64;
        let mean = |of: fn(&ClassMetrics) -> Option<Measured>| {
            let sum: f64 = present.iter().filter_map(|class| of(class)).map(|measured| measured.value).sum();
            Measured::bare(sum / count, n)
        };
        let variance: f64 = present
            .iter()
            .filter_map(|class| class.recall)
            .map(|recall| {
                let n = recall.n as f64 + 4.0; // two rows of each kind are added, as Agresti and Coull do
                let share = (recall.value * recall.n as f64 + 2.0) / n;
                share * (1.0 - share) / n
            })
            .sum();
        let recall = mean(|class| class.recall);
        self.balanced_accuracy =
            recall.and_then(|recall| Measured::normal(recall.value, n, variance.sqrt() / count, (0.0, 1.0)));
        (self.recall, self.precision, self.f1) =
            (self.balanced_accuracy, mean(|class| class.precision), mean(|class| class.f1));
        let rows: u64 = labels.bins.iter().map(|bin| bin.count).sum();
        let gap: f64 = labels.bins.iter().map(|bin| (bin.promised.value() - bin.correct as f64).abs()).sum();
        self.ece = Measured::bare(gap / rows.max(1) as f64, rows);
    }

    fn of_scores(&mut self, labels: &Performance, classes: usize) {
        let scores = &labels.scores;
        let n = scores.count;
        let mean = |sum: f64, square: f64| Measured::mean(sum, square, n, (0.0, f64::INFINITY));
        self.log_loss = mean(scores.log_loss.value(), scores.log_loss_square.value());
        self.brier = mean(scores.brier.value(), scores.brier_square.value());
        let found = aucs(&scores.histogram, if labels.confusion.is_full() { classes } else { 0 });
        (self.auc, self.auc_error) = mean_auc(&found, classes);
        for (class, auc) in self.classes.iter_mut().zip(found) {
            class.auc = auc;
        }
    }

    fn of_values(&mut self, labels: &Performance, reference: &AnswerReference) {
        let (values, unit) = (&labels.values, reference.unit());
        let (n, rows) = (values.count, values.count.max(1) as f64);
        let scaled = |measured: Measured, by: fn(f64, f64) -> f64| Measured {
            value: by(measured.value, unit),
            n,
            interval: measured.interval.map(|(low, high)| (by(low, unit), by(high, unit))),
        };
        let bounds = (0.0, f64::INFINITY);
        self.mae = Measured::mean(values.size.value(), values.square.value(), n, bounds)
            .map(|mean| scaled(mean, |value, unit| value * unit));
        self.rmse = Measured::mean(values.square.value(), values.fourth.value(), n, bounds)
            .map(|mean| scaled(mean, |value, unit| value.sqrt() * unit));
        let (mean, std) = (values.target.value() / rows, reference.target().1);
        let variance = (values.target_square.value() / rows - mean * mean) * std * std;
        let error = values.square.value() / rows * unit * unit;
        // The sums are rounded: a target that does not vary has a variance of about nought.
        if variance > 1e-9 * std * std {
            self.r2 = Measured::bare(1.0 - error / variance, n);
        }
    }
}

/// Accuracy over all rows, from labels that were chosen with known chances.
fn weighted(labels: &Performance) -> Option<Measured> {
    let tally = &labels.weighted;
    let (all, right) = (tally.weight.value(), tally.right.value());
    let share = right / all.max(1.0);
    let (square, right_square) =
        (tally.square.value() * WEIGHT_SQUARES, tally.right_square.value() * WEIGHT_SQUARES);
    // Linearised: Σ w² (c - share)² / (Σ w)², with the share drawn a little to the middle.
    let near =
        (right + 2.0 * all / tally.count.max(1) as f64) / (all + 4.0 * all / tally.count.max(1) as f64);
    let spread = right_square * (1.0 - near).powi(2) + (square - right_square).max(0.0) * near.powi(2);
    Measured::normal(share, tally.count, spread.sqrt() / all.max(1.0), (0.0, 1.0))
}

fn class_metrics(confusion: &Confusion) -> Vec<ClassMetrics> {
    let one = |[right, predicted, truth]: [u64; 3]| ClassMetrics {
        precision: Measured::rate(right, predicted),
        recall: Measured::rate(right, truth),
        f1: Measured::bare(2.0 * right as f64 / (predicted + truth).max(1) as f64, predicted + truth),
        auc: None,
    };
    confusion.margins().into_iter().map(one).collect()
}
