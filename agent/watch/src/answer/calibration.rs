//! From a score to what is to be expected of it: isotonic calibration on the table of a package.
//!
//! Pool-adjacent-violators (Ayer et al. 1955; Zadrozny and Elkan 2002) over the bins of
//! [`Reliability`], with straight lines between their mean scores. Beyond the outermost bins the line goes on
//! at slope one: less confidence than was ever seen is not worth as much as the least that was.

use shoal_proto::baseline::{ONE, Reliability};

/// A fitted calibration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// (mean score, expected outcome) of each bin with rows, both rising.
    points: Vec<(f64, f64)>,
    /// Every bin of the table.
    bins: Vec<Bin>,
    edges: Vec<f32>,
    most: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bin {
    /// Variance of an outcome, and of their mean.
    outcome: f64,
    mean: f64,
    /// Share of the table's rows.
    share: f64,
}

impl Calibration {
    /// The calibration of a table, for outcomes of at most `most` (1 for right answers).
    #[must_use]
    pub fn new(table: &Reliability, most: f64) -> Self {
        let one = ONE as f64;
        let rows: u64 = table.bins.iter().map(|bin| bin.count).sum();
        let bins = table.bins.iter().map(|bin| {
            let count = bin.count as f64;
            // One row of outcome 0 and one of 1 are added (Agresti), so that a bin without errors is not
            // taken to be without doubt.
            let mean = (bin.outcome as f64 / one + 1.0) / (count + 2.0);
            let square = (bin.square as f64 / one + 1.0) / (count + 2.0);
            let outcome = (square - mean * mean).max(0.0);
            Bin { outcome, mean: outcome / (count + 2.0), share: count / rows.max(1) as f64 }
        });
        let used: Vec<_> = table.bins.iter().filter(|bin| bin.count > 0).collect();
        let means: Vec<(f64, f64)> =
            used.iter().map(|bin| (bin.outcome as f64 / one / bin.count as f64, bin.count as f64)).collect();
        let scores = used.iter().map(|bin| bin.score as f64 / one / bin.count as f64);
        let points = scores.zip(pool_adjacent(&means)).collect();
        Self { points, bins: bins.collect(), edges: table.edges.clone(), most }
    }

    /// Whether there was a table to fit it to; where not, a score is taken at its word.
    #[must_use]
    pub fn is_fitted(&self) -> bool {
        !self.points.is_empty()
    }

    /// How many bins its table has, one where there is none.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.edges.len() + 1
    }

    /// The bin of a score.
    #[must_use]
    pub fn bin(&self, score: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= score)
    }

    /// What is to be expected of a score; of one that is not a number, what is expected of 0.
    #[must_use]
    pub fn expect(&self, score: f32) -> f64 {
        let score = if score.is_nan() { 0.0 } else { f64::from(score).clamp(0.0, self.most) };
        let above = self.points.partition_point(|(x, _)| *x <= score);
        let outcome = match (above.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(above)) {
            (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (score - x0) / (x1 - x0),
            (Some((x, y)), None) | (None, Some((x, y))) => y + score - x,
            (None, None) => score,
        };
        outcome.clamp(0.0, self.most)
    }

    /// Variance, by the few rows that the table was fitted to, of the mean over rows that lie in the bins as
    /// `window` counts them; with `against`, of its difference to the mean over the table's own rows.
    #[must_use]
    pub fn variance(&self, window: &[u64], against: bool) -> f64 {
        let rows = window.iter().sum::<u64>().max(1) as f64;
        let terms = self.bins.iter().zip(window).map(|(bin, count)| {
            let share = *count as f64 / rows - if against { bin.share } else { 0.0 };
            share * share * bin.mean
        });
        terms.sum()
    }

    /// Variance of an outcome around what was to be expected, over rows that lie in the bins as `window`
    /// counts them.
    #[must_use]
    pub fn scatter(&self, window: &[u64]) -> f64 {
        let rows = window.iter().sum::<u64>().max(1) as f64;
        self.bins.iter().zip(window).map(|(bin, count)| *count as f64 / rows * bin.outcome).sum()
    }
}

/// The rising sequence that is nearest to `means`, by weight, in squares.
fn pool_adjacent(means: &[(f64, f64)]) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (mean, weight) in means {
        let mut block = (*mean, *weight, 1);
        while let Some(last) = blocks.last().copied().filter(|last| last.0 >= block.0) {
            let weight = last.1 + block.1;
            block = ((last.0 * last.1 + block.0 * block.1) / weight, weight, last.2 + block.2);
            blocks.pop();
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|(mean, _, bins)| std::iter::repeat_n(*mean, *bins)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violators_are_pooled() {
        for (means, expected) in [
            (vec![], vec![]),
            (vec![(0.1, 1.0), (0.2, 1.0)], vec![0.1, 0.2]),
            (vec![(0.3, 1.0), (0.1, 1.0), (0.5, 2.0)], vec![0.2, 0.2, 0.5]),
            (vec![(0.1, 1.0), (0.6, 1.0), (0.3, 3.0)], vec![0.1, 0.375, 0.375]),
            (vec![(0.9, 1.0), (0.6, 1.0), (0.3, 1.0)], vec![0.6, 0.6, 0.6]),
        ] {
            let got = pool_adjacent(&means);
            assert_eq!(got.len(), expected.len());
            assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{means:?}: {got:?}");
        }
    }

    #[test]
    fn an_overconfident_score_is_taken_down_and_never_rises_out_of_turn() {
        // Right answers come half as often over 0.5 as the score says.
        let rows = (0..10_000_u32).map(|i| {
            let score = 0.5 + f32::from(u8::try_from(i % 100).unwrap()) / 200.0;
            let truth = 0.5 + (f64::from(score) - 0.5) / 2.0;
            (score, f64::from(u8::from(f64::from(i / 100) / 100.0 < truth)))
        });
        let calibration = Calibration::new(&Reliability::of(rows), 1.0);
        for score in [0.55, 0.7, 0.85, 0.95] {
            let expected = 0.5 + (f64::from(score) - 0.5) / 2.0;
            assert!((calibration.expect(score) - expected).abs() < 0.02, "{score}");
        }
        let mut last = 0.0;
        for step in 0..=1_000_u16 {
            let now = calibration.expect(f32::from(step) / 1_000.0);
            assert!(now >= last - 1e-12 && now <= 1.0);
            last = now;
        }
        assert!(calibration.expect(0.2) < 0.3, "confidence below all that was seen");
    }

    #[test]
    fn odd_tables_give_numbers() {
        let none = Calibration::new(&Reliability::default(), 1.0);
        assert!(!none.is_fitted() && none.expect(0.4) > 0.39 && none.bins() == 1);
        for table in [Reliability::of([]), Reliability::of([(0.5, 1.0); 3]), Reliability::of([(0.0, 0.0)])] {
            let calibration = Calibration::new(&table, 1.0);
            for score in [f32::NAN, f32::NEG_INFINITY, 0.0, 0.5, 1.0, f32::INFINITY] {
                assert!((0.0..=1.0).contains(&calibration.expect(score)), "{score}");
                assert!(calibration.bin(score) < calibration.bins());
            }
            assert!(calibration.variance(&[3], false).is_finite());
        }
    }
}
