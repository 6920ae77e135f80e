//! Integer counts of a window on frozen edges: they add up exactly over a fleet.

use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{Baseline, CONFIDENCE_BINS, FeatureBaseline};
use shoal_proto::summary::{Counts, FeatureSummary};

/// Where a prediction is counted: its class's row, its confidence's column.
#[must_use]
pub(crate) fn prediction_cell(class: u32, confidence: f32) -> usize {
    let bin = (1..CONFIDENCE_BINS).take_while(|bin| confidence * 10.0 >= *bin as f32).count();
    usize::try_from(class).unwrap_or(usize::MAX / CONFIDENCE_BINS - 1) * CONFIDENCE_BINS + bin
}

/// The counts of one window on one baseline's edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) columns: Vec<Column>,
}

/// The counts of one feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    /// Finite values by bin.
    #[serde(rename = "c")]
    pub(super) counts: Vec<u64>,
    /// NaN.
    #[serde(rename = "m")]
    pub(super) missing: u64,
    #[serde(rename = "i")]
    pub(super) infinite: u64,
    /// Finite, below the least or above the greatest value of the baseline.
    #[serde(rename = "r")]
    pub(super) out_of_range: u64,
}

impl Tally {
    pub(super) fn new(baseline: &Baseline) -> Self {
        let columns = baseline.features.iter().map(|f| Column {
            counts: vec![0; f.counts.len()],
            missing: 0,
            infinite: 0,
            out_of_range: 0,
        });
        Self { columns: columns.collect() }
    }

    /// Whether these counts are on a baseline with this many bins a feature.
    pub(super) fn fits(&self, baseline: &Baseline) -> bool {
        self.columns.len() == baseline.features.len()
            && self.columns.iter().zip(&baseline.features).all(|(c, f)| c.counts.len() == f.counts.len())
    }

    /// Counts one row; allocates nothing.
    pub(super) fn observe(&mut self, baseline: &Baseline, row: &[f32]) {
        for ((column, reference), value) in self.columns.iter_mut().zip(&baseline.features).zip(row) {
            column.observe(reference, f64::from(*value));
        }
    }

    pub(super) fn reset(&mut self) {
        for column in &mut self.columns {
            column.counts.fill(0);
            (column.missing, column.infinite, column.out_of_range) = (0, 0, 0);
        }
    }

    pub(super) fn summaries(&self) -> Vec<FeatureSummary> {
        let one = |column: &Column| FeatureSummary {
            counts: sparse(&column.counts),
            missing: column.missing,
            infinite: column.infinite,
            out_of_range: column.out_of_range,
            ..FeatureSummary::default()
        };
        self.columns.iter().map(one).collect()
    }
}

impl Column {
    fn observe(&mut self, reference: &FeatureBaseline, value: f64) {
        if value.is_nan() {
            self.missing += 1;
        } else if value.is_infinite() {
            self.infinite += 1;
        } else {
            self.counts[reference.bin(value)] += 1;
            self.out_of_range += u64::from(value < reference.min || value > reference.max);
        }
    }

    /// Rows with a number, infinities among them.
    pub(super) fn present(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.infinite
    }
}

/// The counts as they travel.
pub(super) fn sparse(counts: &[u64]) -> Counts {
    (0..).zip(counts.iter().copied()).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_falls_into_its_tenth() {
        for (class, confidence, cell) in [
            (0, 0.0, 0),
            (0, 0.09, 0),
            (0, 0.1, 1),
            (1, 0.55, 15),
            (2, 1.0, 29),
            (0, f32::NAN, 0),
            (0, 7.0, 9),
        ] {
            assert_eq!(prediction_cell(class, confidence), cell, "{class} {confidence}");
        }
    }

    #[test]
    fn every_kind_of_value_is_counted_once() {
        let reference = FeatureBaseline::of((0..100).map(f64::from));
        let baseline =
            Baseline { rows: 100, features: vec![reference], predictions: None, ..Baseline::default() };
        let mut tally = Tally::new(&baseline);
        for value in [f32::NAN, f32::INFINITY, -1.0, 0.0, 99.0, 100.0] {
            tally.observe(&baseline, &[value]);
        }
        let column = &tally.columns[0];
        assert_eq!((column.missing, column.infinite, column.out_of_range, column.present()), (1, 1, 2, 5));
        assert_eq!((column.counts[0], column.counts[19]), (2, 2));
        tally.reset();
        assert_eq!(tally, Tally::new(&baseline));
    }
}
