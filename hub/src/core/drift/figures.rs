//! Figures from exact sums: what people read. Floats end here, and nothing is added to them.

use serde::{Deserialize, Serialize};
use shoal_proto::summary::{Cells, Counts, LabelSummary, LabelSums, ONE, SCORE_BINS, unpair};
use std::collections::BTreeMap;

/// The normal distribution's quantile for 95 %, two-sided.
const Z: f64 = 1.959_963_984_540_054;
/// Rows below which a group is not compared: its share is mostly noise.
const MIN_GROUP_ROWS: u64 = 100;

/// A share with the interval that holds it with 95 % confidence (Wilson 1927, without continuity
/// correction). It is that of the rows counted: of labels that are given selectively it says nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Rows that have it.
    pub hits: u64,
    /// Rows looked at; never nought.
    pub rows: u64,
    /// The one by the other.
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Proportion {
    /// `None` without rows. More hits than rows, which only a forged count has, are as many as rows.
    #[must_use]
    pub fn of(hits: u64, rows: u64) -> Option<Self> {
        let hits = hits.min(rows);
        let (share, n) = (ratio(hits, rows)?, rows as f64);
        let scale = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / scale;
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        // At the ends the formula is exact, and its rounding is not.
        let low = if hits == 0 { 0.0 } else { centre - half };
        let high = if hits == rows { 1.0 } else { centre + half };
        Some(Self { hits, rows, share, low, high })
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What labels say beside accuracy; each is `None` without the labels that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Mean over the classes that occur of each one's F1.
    pub macro_f1: Option<f64>,
    /// Mean over the classes of the area under the ROC curve, one against the rest; within a bin of the
    /// score's odds, ties count half.
    pub auc: Option<f64>,
    /// Mean of -ln of the true class's score.
    pub log_loss: Option<f64>,
    /// Mean over rows of the summed squared distances of scores and truth, 0 to 2.
    pub brier: Option<f64>,
    /// Mean distance of confidence and accuracy over ten bins, weighed by rows (ECE).
    pub calibration_error: Option<f64>,
    /// Mean absolute error of a regression.
    pub mae: Option<f64>,
    /// Root of the mean squared error of a regression.
    pub rmse: Option<f64>,
    /// Share of the labels' variance that a regression explains.
    pub r2: Option<f64>,
}

impl Figures {
    /// All that the sums hold.
    #[must_use]
    pub fn of(sums: &LabelSums) -> Self {
        let mean = |sum: f64, rows: u64| (rows > 0).then(|| sum / rows as f64);
        let squared = mean(sums.squared.value(), sums.measured);
        let spread = mean(sums.truth_squared.value(), sums.measured)
            .zip(mean(sums.truth.value(), sums.measured))
            .map(|(squares, mean)| squares - mean * mean)
            .filter(|it| *it > 0.0);
        Self {
            macro_f1: macro_f1(&sums.confusion),
            auc: auc(&sums.scores),
            log_loss: mean(sums.log_loss.value(), sums.scored),
            brier: mean(sums.brier.value(), sums.scored),
            calibration_error: calibration_error(&sums.reliability),
            mae: mean(sums.absolute.value(), sums.measured),
            rmse: squared.map(|it| it.max(0.0).sqrt()),
            r2: squared.zip(spread).map(|(error, spread)| 1.0 - error / spread),
        }
    }

    /// The figures that there are, by name.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("macro F1", self.macro_f1),
            ("AUC", self.auc),
            ("log-loss", self.log_loss),
            ("Brier", self.brier),
            ("calibration error", self.calibration_error),
            ("MAE", self.mae),
            ("RMSE", self.rmse),
            ("R²", self.r2),
        ]
        .into_iter()
        .filter_map(|(name, figure)| Some((name, figure?)))
    }
}

fn macro_f1(confusion: &Counts) -> Option<f64> {
    let mut classes: BTreeMap<u16, (u64, u64)> = BTreeMap::new(); // right, and rows of truth or answer
    for (cell, [rows]) in confusion.iter() {
        let (truth, answered) = unpair(cell);
        for class in [truth, answered] {
            let (right, all) = classes.entry(class).or_default();
            *all = all.saturating_add(rows);
            if truth == answered {
                *right = right.saturating_add(rows);
            }
        }
    }
    // A right answer was added twice, on both sides of F1 = 2 right / (rows of truth + rows of answer).
    let sum: f64 = classes.values().filter_map(|(right, all)| ratio(*right, *all)).sum();
    (!classes.is_empty()).then(|| sum / classes.len() as f64)
}

fn auc(scores: &Counts) -> Option<f64> {
    let mut classes: BTreeMap<u32, [[u128; SCORE_BINS as usize]; 2]> = BTreeMap::new();
    for (cell, [rows]) in scores.iter() {
        let (row, bin) = (cell / SCORE_BINS, cell % SCORE_BINS);
        let sides = classes.entry(row / 2).or_insert_with(|| [[0; SCORE_BINS as usize]; 2]);
        sides[(row % 2) as usize][bin as usize] = rows.into();
    }
    let areas: Vec<f64> = classes.values().filter_map(area).collect();
    (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
}

/// Share of (other, own) pairs in which the own has the higher score; ties count half.
fn area([others, own]: &[[u128; SCORE_BINS as usize]; 2]) -> Option<f64> {
    let pairs = others.iter().sum::<u128>() as f64 * own.iter().sum::<u128>() as f64;
    let (mut below, mut won) = (0.0, 0.0);
    for (others, own) in others.iter().zip(own) {
        won += *own as f64 * (below + *others as f64 / 2.0);
        below += *others as f64;
    }
    (pairs > 0.0).then(|| won / pairs)
}

fn calibration_error(reliability: &Cells<3>) -> Option<f64> {
    let [rows, _, _] = reliability.totals();
    let apart: f64 = reliability
        .iter()
        .map(|(_, [_, right, confidence])| (confidence as f64 / ONE as f64 - right as f64).abs())
        .sum();
    (rows > 0).then(|| apart / rows as f64)
}

/// One group of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// The place of the group's name in the package.
    pub name: u16,
    /// The place of its value.
    pub value: u16,
    /// Rows that were given the favourable answer.
    pub favourable: Option<Proportion>,
    /// Its share by that of the most favoured value of the same name (demographic parity; below 0.8 is the
    /// four-fifths rule's alarm); `None` below a hundred rows.
    pub parity: Option<f64>,
    /// Right answers among its labels.
    pub accuracy: Option<Proportion>,
}

/// All groups with a row or a label, in order of name and value.
#[must_use]
pub fn groups(rows: &Cells<2>, labels: &BTreeMap<u32, Counts>) -> Vec<GroupView> {
    let mut views: BTreeMap<(u16, u16), GroupView> = BTreeMap::new();
    let blank = |(name, value)| GroupView { name, value, favourable: None, parity: None, accuracy: None };
    for (cell, [rows, favourable]) in rows.iter() {
        let place = unpair(cell);
        views.entry(place).or_insert_with(|| blank(place)).favourable = Proportion::of(favourable, rows);
    }
    for (cell, confusion) in labels {
        let place = unpair(*cell);
        let counts = confusion.iter().fold(LabelSummary::default(), |mut sum, (cell, [rows])| {
            let (truth, answered) = unpair(cell);
            sum.absorb(LabelSummary { labelled: rows, correct: if truth == answered { rows } else { 0 } });
            sum
        });
        let accuracy = Proportion::of(counts.correct, counts.labelled);
        views.entry(place).or_insert_with(|| blank(place)).accuracy = accuracy;
    }
    let mut most: BTreeMap<u16, f64> = BTreeMap::new();
    let compared = |view: &GroupView| view.favourable.filter(|it| it.rows >= MIN_GROUP_ROWS);
    for view in views.values() {
        let share = most.entry(view.name).or_default();
        *share = share.max(compared(view).map_or(0.0, |it| it.share));
    }
    let mut views: Vec<GroupView> = views.into_values().collect();
    for view in &mut views {
        let most = most.get(&view.name).copied().filter(|it| *it > 0.0);
        view.parity = compared(view).zip(most).map(|(own, most)| own.share / most);
    }
    views
}

#[cfg(test)]
mod tests;
