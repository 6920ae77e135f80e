//! Area under the ROC curve from binned scores, which add up exactly where sorted scores do not.
//!
//! Pairs of a positive and a negative in one bin count a half; how far that can be off is half of their share
//! among all pairs, and is reported.

use super::interval::{Measured, Z95};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::SCORE_BINS;
use shoal_proto::summary::Counts;

/// An area under the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Auc {
    /// The area.
    pub value: f64,
    /// Rows of the class, and of all others.
    pub rows: (u64, u64),
    /// How far it can be off by the bins.
    pub error: f64,
    /// Variance by the rows (Hanley and McNeil 1982).
    pub variance: f64,
}

/// The area of each class against the rest; `None` where one side has no rows. Of two classes, the first's is
/// the second's.
#[must_use]
pub fn aucs(histogram: &Counts, classes: usize) -> Vec<Option<Auc>> {
    let bins = usize::try_from(SCORE_BINS).unwrap_or(usize::MAX);
    let counts = histogram.dense(classes * 2 * bins);
    let mut found: Vec<Option<Auc>> =
        counts.chunks_exact(2 * bins).map(|class| auc(&class[bins..], &class[..bins])).collect();
    if let [first, second] = &mut found[..] {
        *first = second.map(|auc| Auc { rows: (auc.rows.1, auc.rows.0), ..auc });
    }
    found
}

/// The one number of all classes, and how far it can be off by the bins.
#[must_use]
pub(super) fn mean_auc(found: &[Option<Auc>], classes: usize) -> (Option<Measured>, Option<f64>) {
    if classes == 2 {
        let auc = found.get(1).copied().flatten();
        return (auc.and_then(|auc| auc.measured()), auc.map(|auc| auc.error));
    }
    let known: Vec<&Auc> = found.iter().flatten().collect();
    let count = known.len() as f64;
    let n = known.first().map_or(0, |auc| auc.rows.0 + auc.rows.1);
    let mean = |of: fn(&Auc) -> f64| known.iter().map(|auc| of(auc)).sum::<f64>() / count;
    let value = Measured::bare(mean(|auc| auc.value), n);
    (value, value.map(|_| mean(|auc| auc.error)))
}

impl Auc {
    /// With its interval.
    #[must_use]
    pub fn measured(&self) -> Option<Measured> {
        let reach = Z95 * self.variance.sqrt() + self.error;
        let interval = Some(((self.value - reach).max(0.0), (self.value + reach).min(1.0)));
        Measured::bare(self.value, self.rows.0 + self.rows.1).map(|bare| Measured { interval, ..bare })
    }
}

fn auc(positives: &[u64], negatives: &[u64]) -> Option<Auc> {
    let (p, n): (u64, u64) = (positives.iter().sum(), negatives.iter().sum());
    if p == 0 || n == 0 {
        return None;
    }
    let (mut below, mut won, mut tied) = (0.0, 0.0, 0.0);
    for (positive, negative) in positives.iter().zip(negatives) {
        let (positive, negative) = (*positive as f64, *negative as f64);
        won += positive * below;
        tied += positive * negative;
        below += negative;
    }
    let (rows, pairs) = ((p, n), p as f64 * n as f64);
    let value = (won + tied / 2.0) / pairs;
    let (q1, q2) = (value / (2.0 - value), 2.0 * value * value / (1.0 + value));
    let (p, n) = (p as f64, n as f64);
    let spread = value * (1.0 - value) + (p - 1.0) * (q1 - value * value) + (n - 1.0) * (q2 - value * value);
    Some(Auc { value, rows, error: tied / 2.0 / pairs, variance: (spread / pairs).max(0.0) })
}
