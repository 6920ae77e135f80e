//! The tests of answers and labels at a window's close.

use super::bias;
use super::estimate::Estimate;
use super::interval::{above, in_errors};
use super::performance::Performance;
use super::reference::AnswerReference;
use super::window::AnswerWindow;
use crate::column::{Shift, critical_p, join_bins, rate_p, split_cells};
use serde::Serialize;
use shoal_proto::baseline::ONE;
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

/// Rows, or labels, below which a window says nothing.
pub(super) const MIN_ROWS: u64 = 50;
/// PSI above its mean with no change: the lower of the usual bands, and half of it.
const SHIFTED: Material = Material { warning: 0.05, drift: 0.10 };
/// Share of rows in cells that are rare in the reference, above the reference's.
const UNUSUAL: Material = Material { warning: 0.01, drift: 0.05 };
/// Accuracy that is expected to be lost.
const LOST: Material = Material { warning: 0.02, drift: 0.05 };
/// Growth of the expected error, as a share of the reference's.
const GROWN: Material = Material { warning: 0.10, drift: 0.25 };
/// Accuracy lost or won at equal confidence.
const MISJUDGED: Material = Material { warning: 0.02, drift: 0.05 };

/// What a change must measure beyond what chance explains, or huge windows alarm on nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Material {
    /// To be worth a warning.
    pub warning: f64,
    /// To be called drift.
    pub drift: f64,
}

/// The outcome of one test, before it is judged among its like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WindowTest {
    /// Which monitor it belongs to.
    pub monitor: Monitor,
    /// The group and its part, where it is of one.
    pub part: Option<(usize, usize)>,
    /// Probability of such a change, or a greater one, with none.
    pub p: f64,
    /// What a person is shown: PSI, a share, an accuracy, a difference of rates.
    pub statistic: f64,
    /// How large the change is, in the unit of `material`.
    pub effect: f64,
    /// What it must measure.
    pub material: Material,
}

/// Something found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Found {
    /// The test.
    pub test: WindowTest,
    /// How serious.
    pub level: DriftLevel,
    /// The p-value that it had to reach among its like.
    pub critical: f64,
}

/// Judges tests at these probabilities of any false finding a window and a monitor: of Drift, of at least a
/// warning. Tests of one monitor are corrected for their number (Benjamini and Hochberg 1995); of several
/// findings of one monitor, or of one group by it, only the strongest is said.
#[must_use]
pub fn decide(tests: &[WindowTest], drift: f64, warning: f64) -> Vec<Found> {
    let mut monitors: Vec<Monitor> = tests.iter().map(|test| test.monitor).collect();
    monitors.sort_unstable();
    monitors.dedup();
    let mut found = Vec::new();
    for monitor in monitors {
        let alike: Vec<&WindowTest> = tests.iter().filter(|test| test.monitor == monitor).collect();
        let p_values: Vec<f64> = alike.iter().map(|test| test.p).collect();
        let levels = [
            (DriftLevel::Drift, critical_p(&p_values, drift)),
            (DriftLevel::Warning, critical_p(&p_values, warning)),
        ];
        let said = alike.iter().filter_map(|test| {
            levels.iter().find_map(|(level, critical)| {
                let needed =
                    if *level == DriftLevel::Drift { test.material.drift } else { test.material.warning };
                let holds = test.p <= *critical && test.effect >= needed;
                holds.then_some(Found { test: **test, level: *level, critical: *critical })
            })
        });
        let mut said: Vec<Found> = said.collect();
        // The strongest first; when one part of a group falls behind, all others get ahead of the rest.
        said.sort_by(|a, b| {
            let size = |found: &Found| found.test.effect;
            b.level.cmp(&a.level).then(a.test.p.total_cmp(&b.test.p)).then(size(b).total_cmp(&size(a)))
        });
        let mut spoke = Vec::new();
        for one in said {
            let group = one.test.part.map(|(group, _)| group);
            if !spoke.contains(&group) {
                spoke.push(group);
                found.push(one);
            }
        }
    }
    found
}

impl AnswerWindow {
    /// The tests of a window that was counted on a reference: mix of answers, expected performance, parity of
    /// groups. None of fewer than 50 rows, and none of what the package says nothing of.
    #[must_use]
    pub fn tests(&self, reference: &AnswerReference) -> Vec<WindowTest> {
        if self.rows < MIN_ROWS {
            return Vec::new();
        }
        let mut tests = self.predicted(reference);
        tests.extend(self.expected_of(reference));
        tests.extend(bias::parity_tests(self, reference));
        tests
    }

    /// Two tests of the answers: the mix of the usual cells, and the share of the rare and the odd.
    fn predicted(&self, reference: &AnswerReference) -> Vec<WindowTest> {
        let (usual, now, (rest, rest_now), n);
        if let Some(answers) = reference.answers() {
            (usual, now) = join_bins(&answers.counts, &self.cells, 1.0);
            (rest, rest_now) = (0, 0);
            n = answers.counts.iter().sum();
        } else {
            let counts = &reference.baseline().counts;
            (usual, now, (rest, rest_now)) = split_cells(counts, &self.cells);
            n = counts.iter().sum();
        }
        let mut tests: Vec<WindowTest> = Shift::between(&usual, &now, 1.0).map(shifted).into_iter().collect();
        if n > 0 {
            let rest_now = rest_now + self.odd;
            let (before, share) = (rest as f64 / n as f64, rest_now as f64 / self.rows as f64);
            tests.push(WindowTest {
                monitor: Monitor::Prediction,
                part: None,
                p: rate_p(rest, n, rest_now, self.rows),
                statistic: share,
                effect: share - before,
                material: UNUSUAL,
            });
        }
        tests
    }

    fn expected_of(&self, reference: &AnswerReference) -> Option<WindowTest> {
        let estimate = Estimate::of(self, reference);
        let (p, before) = (estimate.p?, estimate.reference?);
        let (statistic, effect, material) = match (estimate.accuracy, estimate.mae) {
            (Some(accuracy), _) => (accuracy.value, before - accuracy.value, LOST),
            (None, Some(mae)) => (mae.value, mae.value / before.max(f64::MIN_POSITIVE) - 1.0, GROWN),
            (None, None) => return None,
        };
        Some(WindowTest { monitor: Monitor::Estimate, part: None, p, statistic, effect, material })
    }
}

fn shifted(shift: Shift) -> WindowTest {
    let (monitor, effect) = (Monitor::Prediction, shift.psi - shift.bias);
    WindowTest { monitor, part: None, p: shift.p, statistic: shift.psi, effect, material: SHIFTED }
}

impl Performance {
    /// The tests of labels that were counted on a reference: right answers at equal confidence, and the rates
    /// of groups. None of fewer than 50 labels.
    #[must_use]
    pub fn tests(&self, reference: &AnswerReference) -> Vec<WindowTest> {
        if self.labelled < MIN_ROWS {
            return Vec::new();
        }
        let mut tests: Vec<WindowTest> = self.calibrated(reference).into_iter().collect();
        tests.extend(bias::opportunity_tests(self, reference));
        tests
    }

    /// Whether answers of one confidence are right as often as they were (Cochran, Mantel and Haenszel over
    /// the bins of the calibration table, two-sided): unlike accuracy it does not move when inputs merely
    /// become harder, so that it tells concept drift from drift of the data.
    fn calibrated(&self, reference: &AnswerReference) -> Option<WindowTest> {
        let table = &reference.baseline().classes.as_ref()?.reliability;
        if table.bins.len() != self.bins.len() {
            return None;
        }
        let (mut more, mut variance, mut gap, mut rows) = (0.0, 0.0, 0.0, 0.0);
        for (before, now) in table.bins.iter().zip(&self.bins) {
            let (n, m) = (before.count as f64, now.count as f64);
            let (right, right_now) = (before.outcome as f64 / ONE as f64, now.correct as f64);
            if n == 0.0 || m == 0.0 {
                continue;
            }
            let (all, hits) = (n + m, right + right_now);
            more += right_now - m * hits / all;
            variance += n * m * hits * (all - hits) / (all * all * (all - 1.0));
            gap += right_now - m * right / n;
            rows += m;
        }
        let z = in_errors(more, variance);
        let statistic = if rows > 0.0 { gap / rows } else { 0.0 };
        Some(WindowTest {
            monitor: Monitor::Calibration,
            part: None,
            p: (2.0 * above(z.abs())).min(1.0),
            statistic,
            effect: statistic.abs(),
            material: MISJUDGED,
        })
    }
}
