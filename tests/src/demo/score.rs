//! How right the fleet is: as served, and as the first version would have been on the same rows.

use std::sync::{Arc, Mutex, PoisonError};

/// Rows over which "the worst" is sought.
const SPAN: usize = 200;

/// One device's answers, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Scores(Arc<Mutex<Vec<(bool, bool)>>>);

/// Shares of right answers.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub(super) struct Accuracy {
    /// As served.
    pub served: f64,
    /// By the first version, which never learned.
    pub untouched: f64,
    /// Rows.
    pub rows: usize,
}

impl Scores {
    pub(super) fn push(&self, served: bool, untouched: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((served, untouched));
    }

    pub(super) fn rows(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn span(&self, from: usize, to: usize) -> Vec<(bool, bool)> {
        let scores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let to = to.min(scores.len());
        scores[from.min(to)..to].to_vec()
    }

    fn worst(&self, to: usize) -> Option<f64> {
        self.span(0, to)
            .windows(SPAN)
            .map(|rows| share(rows.iter().filter(|(served, _)| *served).count(), rows.len()))
            .min_by(f64::total_cmp)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    part / whole
}

/// Over several devices' rows of one span.
pub(super) fn accuracy(devices: &[&Scores], from: usize, to: usize) -> Accuracy {
    let rows: Vec<(bool, bool)> = devices.iter().flat_map(|scores| scores.span(from, to)).collect();
    Accuracy {
        served: share(rows.iter().filter(|(served, _)| *served).count(), rows.len()),
        untouched: share(rows.iter().filter(|(_, untouched)| *untouched).count(), rows.len()),
        rows: rows.len(),
    }
}

/// The mean over devices of each one's worst span before `to`.
pub(super) fn worst(devices: &[&Scores], to: usize) -> f64 {
    let worst: Vec<f64> = devices.iter().filter_map(|scores| scores.worst(to)).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful of devices")]
    let count = worst.len().max(1) as f64;
    worst.iter().sum::<f64>() / count
}
