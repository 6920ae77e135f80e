//! The tests at a window's close, at a stated rate of false alarms.

use super::shift::{Shift, critical_p, join_bins, outside_p, rate_p, split_cells, total};
use super::tally::{Column, Tally};
use shoal_proto::baseline::{Baseline, FeatureBaseline, PredictionBaseline};
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

/// Hourly windows in thirty days.
const WINDOWS_A_MONTH: f64 = 720.0;
/// Hourly windows in a week.
const WINDOWS_A_WEEK: f64 = 168.0;
/// False findings of all input and prediction monitors of a model together: at most 0.8 Drift in thirty
/// days (the error monitor has the rest of one), at most 0.8 Warning in a week; per monitor here. The
/// rates hold for rows that are independent draws of the reference: a window shorter than the
/// period of its signal truly differs from the reference, and is said to.
const SHARES: [(Monitor, f64); 4] =
    [(Monitor::Feature, 0.4), (Monitor::Missing, 0.1), (Monitor::Range, 0.1), (Monitor::Prediction, 0.2)];
/// Rows below which a window says nothing.
pub(super) const MIN_ROWS: u64 = 50;
/// What a change must measure, beyond what chance explains, so that huge windows do not alarm on nothing.
struct Material {
    /// PSI above its mean under no change: 0.1 is a third of a standard deviation of a normal feature
    /// and the lower of the usual bands; half of it is worth a warning.
    psi: f64,
    /// Share of rows that are missing, out of range or in unusual prediction cells, above the reference's.
    rate: f64,
}
const DRIFT: Material = Material { psi: 0.10, rate: 0.05 };
const WARNING: Material = Material { psi: 0.05, rate: 0.01 };

/// One test's outcome, before it is judged among its like.
struct Test {
    feature: Option<usize>,
    p: f64,
    kind: Kind,
}

enum Kind {
    Shift(Shift),
    Rate { reference: f64, rate: f64 },
}

/// Something found: monitor, feature, level, statistic, threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) monitor: Monitor,
    pub(super) feature: Option<usize>,
    pub(super) level: DriftLevel,
    pub(super) statistic: f64,
    pub(super) threshold: f64,
}

/// Holds a window against the reference whose edges it was counted on.
pub(super) fn judge(reference: &Baseline, tally: &Tally, predictions: &[u64]) -> Vec<Found> {
    let features = || reference.features.iter().zip(&tally.columns).enumerate();
    let test = |feature| move |(p, kind)| Test { feature, p, kind };
    let mut found = Vec::new();
    for (monitor, share) in SHARES {
        let tests: Vec<Test> = match monitor {
            Monitor::Feature => {
                features().filter_map(|(i, (r, c))| shifted(r, c).map(test(Some(i)))).collect()
            }
            Monitor::Missing => features().map(|(i, (r, c))| test(Some(i))(missing(r, c))).collect(),
            Monitor::Range => features().map(|(i, (r, c))| test(Some(i))(range(r, c))).collect(),
            Monitor::Prediction => {
                let reference = reference.predictions.as_ref();
                reference
                    .map(|r| predicted(r, predictions))
                    .unwrap_or_default()
                    .into_iter()
                    .map(test(None))
                    .collect()
            }
            _ => Vec::new(), // judged elsewhere
        };
        decide(monitor, share, &tests, &mut found);
    }
    found
}

fn decide(monitor: Monitor, share: f64, tests: &[Test], found: &mut Vec<Found>) {
    let p_values: Vec<f64> = tests.iter().map(|test| test.p).collect();
    let levels = [
        (DriftLevel::Drift, critical_p(&p_values, share / WINDOWS_A_MONTH), DRIFT),
        (DriftLevel::Warning, critical_p(&p_values, share / WINDOWS_A_WEEK), WARNING),
    ];
    for test in tests {
        let said = levels.iter().find_map(|(level, critical, material)| {
            let (statistic, threshold) = match &test.kind {
                Kind::Shift(shift) => (shift.psi, shift.psi_at(*critical).max(shift.bias + material.psi)),
                Kind::Rate { reference, rate } => (*rate, reference + material.rate),
            };
            let holds = test.p <= *critical && statistic >= threshold;
            holds.then_some(Found { monitor, feature: test.feature, level: *level, statistic, threshold })
        });
        // One feature, or one of the two tests of predictions, speaks once.
        if let Some(said) = said
            && !found
                .iter()
                .any(|f| monitor == Monitor::Prediction && f.monitor == monitor && f.level >= said.level)
        {
            found.push(said);
        }
    }
}

fn shifted(reference: &FeatureBaseline, column: &Column) -> Option<(f64, Kind)> {
    let (reference, window) = join_bins(&reference.counts, &column.counts);
    Shift::between(&reference, &window).map(|shift| (shift.p, Kind::Shift(shift)))
}

fn missing(reference: &FeatureBaseline, column: &Column) -> (f64, Kind) {
    let n = reference.counts.iter().sum::<u64>() + reference.missing;
    rate((reference.missing, n), (column.missing, column.missing + column.present()))
}

fn range(reference: &FeatureBaseline, column: &Column) -> (f64, Kind) {
    let (n, k, m) =
        (reference.counts.iter().sum::<u64>(), column.out_of_range + column.infinite, column.present());
    (outside_p(n, k, m), Kind::Rate { reference: 0.0, rate: share_of(k, m) })
}

fn rate((k0, n): (u64, u64), (k, m): (u64, u64)) -> (f64, Kind) {
    (rate_p(k0, n, k, m), Kind::Rate { reference: share_of(k0, n), rate: share_of(k, m) })
}

fn share_of(k: u64, m: u64) -> f64 {
    k as f64 / m.max(1) as f64
}

/// Two tests: the mix of the usual (class, confidence) cells, and the share of all unusual ones.
fn predicted(reference: &PredictionBaseline, window: &[u64]) -> Vec<(f64, Kind)> {
    let (n, m) = (reference.counts.iter().sum(), window.iter().sum());
    let (usual, now, (rest, rest_now)) = split_cells(&reference.counts, window);
    let mut tests: Vec<_> =
        Shift::between(&usual, &now).map(|shift| (shift.p, Kind::Shift(shift))).into_iter().collect();
    if m > 0 && total(&reference.counts) > 0.0 {
        tests.push(rate((rest, n), (rest_now, m)));
    }
    tests
}
