//! Champion and candidate beside each other on rows that neither was trained on.

use super::answer::{AnswerError, Judge};
use crate::rows::{Rows, Truth};
use shoal_onnx::{ConstantData, Graph, Limits, OnnxModel, parameters};
use shoal_proto::decision::{ErrorEvidence, LogLoss, Measured, PartEvidence};
use shoal_proto::manifest::Manifest;
use shoal_watch::answer::Groups;
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs of one row of each version whose median is told.
const TIMED_RUNS: usize = 41;
/// Time after which no further run is begun.
const TIMED_FOR: Duration = Duration::from_millis(250);

/// What both answered so far.
pub(super) struct Compared<'a> {
    champion: &'a Judge,
    candidate: &'a Judge,
    /// How far off a regression's answer may be to be right.
    tolerance: f32,
    groups: Groups,
    old: Side,
    new: Side,
    /// The true class of each row; empty for a regression.
    truth: Vec<u32>,
    classes: usize,
    /// Rows to which they name different classes.
    differing: u64,
    parts: Vec<PartEvidence>,
}

/// What one of them answered.
#[derive(Default)]
struct Side {
    right: Vec<bool>,
    /// Log-loss of a class, absolute error of a value.
    losses: Vec<f64>,
}

impl<'a> Compared<'a> {
    pub(super) fn new(
        manifest: &Manifest,
        champion: &'a Judge,
        candidate: &'a Judge,
        tolerance: f32,
    ) -> Self {
        let groups = Groups::new(manifest, &[]);
        let name =
            |(group, part)| PartEvidence { name: groups.part_name(group, part), ..PartEvidence::default() };
        let parts = groups.places().map(name).collect();
        let (old, new) = (Side::default(), Side::default());
        let (truth, classes, differing) = (Vec::new(), manifest.output.classes.len(), 0);
        Self { champion, candidate, tolerance, groups, old, new, truth, classes, differing, parts }
    }

    /// Has both answer some rows.
    pub(super) fn take(&mut self, rows: &Rows) -> Result<(), AnswerError> {
        let old = self.champion.judged(rows, self.tolerance)?;
        let new = self.candidate.judged(rows, self.tolerance)?;
        let places: Vec<(usize, usize)> = self.groups.places().collect();
        self.differing += old.classes.iter().zip(&new.classes).filter(|(old, new)| old != new).count() as u64;
        let pairs = old.right.iter().zip(&new.right);
        for (row, (old, new)) in rows.features().chunks_exact(rows.width().max(1)).zip(pairs) {
            let codes = self.groups.codes(row);
            for ((group, part), counted) in places.iter().zip(&mut self.parts) {
                if codes.part(*group) == Some(*part) {
                    counted.rows += 1;
                    counted.champion += u64::from(*old);
                    counted.only_champion += u64::from(*old && !new);
                    counted.only_candidate += u64::from(*new && !old);
                }
            }
        }
        if let Truth::Classes(truth) = rows.truth() {
            self.truth.extend(truth);
        }
        for (side, judged) in [(&mut self.old, old), (&mut self.new, new)] {
            side.right.extend(judged.right);
            side.losses.extend(judged.losses);
        }
        Ok(())
    }

    /// Rows, right by the champion, right by the candidate; right by the champion only, by the candidate only.
    pub(super) fn counts(&self) -> (u64, u64, u64, u64, u64) {
        let pairs = || self.old.right.iter().zip(&self.new.right);
        let count = |which: &dyn Fn(bool, bool) -> bool| {
            pairs().map(|(old, new)| u64::from(which(*old, *new))).sum::<u64>()
        };
        (
            self.old.right.len() as u64,
            count(&|old, _| old),
            count(&|_, new| new),
            count(&|old, new| old && !new),
            count(&|old, new| new && !old),
        )
    }

    /// For each class: rows, right by the champion, right by the candidate.
    pub(super) fn classes(&self) -> Vec<(u64, u64, u64)> {
        let mut classes = vec![(0, 0, 0); self.classes];
        self.each_class(|class, old, new| {
            if let Some(cell) = classes.get_mut(class) {
                *cell = (cell.0 + 1, cell.1 + u64::from(old), cell.2 + u64::from(new));
            }
        });
        classes
    }

    fn each_class(&self, mut see: impl FnMut(usize, bool, bool)) {
        for ((class, old), new) in self.truth.iter().zip(&self.old.right).zip(&self.new.right) {
            see(usize::try_from(*class).unwrap_or(usize::MAX), *old, *new);
        }
    }

    /// What there is beside right and wrong.
    pub(super) fn measured(self) -> Measured {
        let mut class_pairs = vec![(0, 0); self.classes];
        self.each_class(|class, old, new| {
            if let Some(pair) = class_pairs.get_mut(class) {
                *pair = (pair.0 + u64::from(old && !new), pair.1 + u64::from(new && !old));
            }
        });
        let (old, new) = (&self.old.losses, &self.new.losses);
        let parts = self.parts.into_iter().filter(|part| part.rows > 0).collect();
        let is_class = !self.truth.is_empty();
        Measured {
            class_pairs,
            parts,
            log_loss: (is_class && !old.is_empty()).then(|| log_loss(old, new)),
            errors: (!is_class && !old.is_empty()).then(|| errors(old, new)),
            differing: is_class.then_some(self.differing),
            ..Measured::default()
        }
    }
}

fn log_loss(old: &[f64], new: &[f64]) -> LogLoss {
    let rows = old.len().max(1) as f64;
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / rows;
    let (champion, candidate) = (mean(old), mean(new));
    let square = |(old, new): (&f64, &f64)| (new - old - (candidate - champion)).powi(2);
    let variance = old.iter().zip(new).map(square).sum::<f64>() / (rows - 1.0).max(1.0);
    LogLoss { champion, candidate, deviation: variance.sqrt() }
}

fn errors(old: &[f64], new: &[f64]) -> ErrorEvidence {
    let rmse = |errors: &[f64]| {
        (errors.iter().map(|error| error * error).sum::<f64>() / errors.len().max(1) as f64).sqrt()
    };
    ErrorEvidence { champion_rmse: rmse(old), candidate_rmse: rmse(new), z: signed_ranks(old, new) }
}

/// Wilcoxon's signed-rank statistic (1945) in standard errors, with mean ranks and the variance of ties, corrected
/// for continuity; above nought where the second errors are the smaller. Equal errors say nothing and are left out.
fn signed_ranks(old: &[f64], new: &[f64]) -> f64 {
    let mut gains: Vec<f64> = old
        .iter()
        .zip(new)
        .map(|(old, new)| old - new)
        .filter(|gain| *gain != 0.0 && !gain.is_nan())
        .collect();
    gains.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let rows = gains.len() as f64;
    let (mut up, mut ties, mut before) = (0.0, 0.0, 0.0);
    for alike in gains.chunk_by(|a, b| a.abs() == b.abs()) {
        let count = alike.len() as f64;
        let rank = before + (count + 1.0) / 2.0;
        up += rank * alike.iter().filter(|gain| **gain > 0.0).count() as f64;
        ties += count * (count * count - 1.0);
        before += count;
    }
    let beyond = up - rows * (rows + 1.0) / 4.0;
    let variance = rows * (rows + 1.0) * (2.0 * rows + 1.0) / 24.0 - ties / 48.0;
    if variance <= 0.0 || beyond.abs() <= 0.5 {
        return 0.0;
    }
    (beyond - 0.5 * beyond.signum()) / variance.sqrt()
}

/// Median microseconds of one row, by turns; `None` where no time passes or the row is not answered.
pub(super) fn row_us(
    champion: &Judge,
    candidate: &Judge,
    row: &Rows,
    elapsed: impl Fn() -> Duration,
) -> Option<(f64, f64)> {
    let (begun, mut times) = (elapsed(), (Vec::new(), Vec::new()));
    let one = |judge: &Judge| {
        let start = elapsed();
        judge.outputs(row).ok()?;
        Some(elapsed().saturating_sub(start))
    };
    while times.0.len() < TIMED_RUNS && elapsed().saturating_sub(begun) < TIMED_FOR {
        times.0.push(one(champion)?);
        times.1.push(one(candidate)?);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e6).filter(|us| *us > 0.0)
    };
    median(times.0).zip(median(times.1))
}

/// How far the weights of the layers that were trained went, as a multiple of the length of those in the parent;
/// `None` where none moved, as in trees, or nothing is there to compare with.
pub(super) fn distance(parent: &[u8], trained: &[u8]) -> Option<f64> {
    let graph = |onnx| OnnxModel::parse(onnx, &Limits::default()).ok().map(|model| model.training_graph());
    let (old, new) = (graph(parent)?, graph(trained)?);
    let mut layers: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for parameter in parameters(&old) {
        let Some((before, after)) = floats(&old, &parameter.name).zip(floats(&new, &parameter.name)) else {
            continue;
        };
        let layer = layers.entry(parameter.node).or_default();
        for (before, after) in before.iter().zip(after).map(|(b, a)| (f64::from(*b), f64::from(*a))) {
            *layer = (layer.0 + (after - before).powi(2), layer.1 + before * before);
        }
    }
    let moved = layers.values().filter(|(moved, _)| *moved != 0.0);
    let (moved, length) = moved.fold((0.0, 0.0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
    (moved != 0.0 && length > 0.0).then(|| (moved / length).sqrt())
}

fn floats<'a>(graph: &'a Graph, name: &str) -> Option<&'a [f32]> {
    match &graph.initializers.get(name)?.data {
        ConstantData::F32(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_ranks_are_those_of_the_books() {
        // Ten differences of one sign: 55 of ranks, 27.5 expected, variance 96.25.
        let old: Vec<f64> = (1..=10).map(f64::from).collect();
        let mut new = vec![0.0; 10];
        assert!((signed_ranks(&old, &new) - 27.0 / 96.25_f64.sqrt()).abs() < 1e-12);
        // The third goes the other way: the ranks of the others are left, and two are alike with none.
        new[2] = 6.0;
        assert!((signed_ranks(&old, &new) - 24.0 / 96.25_f64.sqrt()).abs() < 1e-12);
        assert!((signed_ranks(&old, &new) + signed_ranks(&new, &old)).abs() < 1e-12);
        assert_eq!(signed_ranks(&old, &old), 0.0);
        assert_eq!(signed_ranks(&[], &[]), 0.0);
        assert_eq!(signed_ranks(&[f64::INFINITY], &[f64::INFINITY]), 0.0);
    }

    #[test]
    fn a_paired_loss_has_the_spread_of_its_difference() {
        let loss = log_loss(&[1.0, 2.0, 3.0], &[1.5, 2.5, 3.5]);
        assert_eq!((loss.champion, loss.candidate, loss.deviation), (2.0, 2.5, 0.0));
    }
}
