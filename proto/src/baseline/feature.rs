//! The reference of one feature, and of how rows follow each other.

use super::BINS;
use serde::{Deserialize, Serialize};

/// Different whole numbers up to which a feature is taken for a category, as in `pack`'s schema.
pub const FEW_CATEGORIES: usize = 20;
/// Rows for each of them, on the average, below which it may as well hold measurements.
const ROWS_A_CATEGORY: usize = 5;
/// Categories that are listed with their counts; rows of rarer ones are counted together.
pub const MAX_CATEGORIES: usize = 64;
/// How far from its median a value's logarithm counts: a factor of nine million. Values next to nought
/// would outweigh all others.
pub const LOG_REACH: f64 = 16.0;

/// The reference of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureBaseline {
    /// Inner edges, strictly rising: bin `i` holds `edges[i-1] <= x < edges[i]`. At most
    /// [`BINS`]` - 1`, fewer where values repeat.
    pub edges: Vec<f64>,
    /// Rows in each bin, one more than edges.
    pub counts: Vec<u64>,
    /// Rows without a value. Files made before `infinite` was told apart hold those too.
    pub missing: u64,
    /// Least finite value.
    pub min: f64,
    /// Greatest finite value.
    pub max: f64,
    /// Mean of the finite values.
    pub mean: f64,
    /// Standard deviation of the finite values.
    pub std: f64,
    /// What its numbers are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: FeatureKind,
    /// The commonest categories, rising by value; at most [`MAX_CATEGORIES`], none unless it is a category.
    #[serde(default, skip_serializing_if = "is_default")]
    pub categories: Vec<Category>,
    /// Rows of categories that are not listed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub other: u64,
    /// Rows with an infinite value.
    #[serde(default, skip_serializing_if = "is_default")]
    pub infinite: u64,
    /// Rows whose value is that of the last row that had one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repeats: u64,
    /// Most rows in a row with one value; nought where the order of rows says nothing or is not known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub longest_run: u64,
    /// How large its values are; `None` where it was not measured, or no value differs from nought.
    #[serde(default, skip_serializing_if = "is_default")]
    pub magnitude: Option<Magnitude>,
    /// Rows from one to the next that is nearly independent of it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub spacing: u32,
}

/// What a feature's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureKind {
    /// Numbers.
    #[default]
    Number,
    /// Whole numbers.
    Whole,
    /// A few whole numbers, whose order may mean nothing.
    Category,
}

/// One category.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Its number.
    #[serde(rename = "v")]
    pub value: f64,
    /// Rows of it.
    #[serde(rename = "n")]
    pub count: u64,
}

/// How large a feature's values are: of `ln |x|` of those that are not nought, no farther than
/// [`LOG_REACH`] from its median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magnitude {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Rows of it.
    pub rows: u64,
    /// Of those, how many are below nought.
    #[serde(default, skip_serializing_if = "is_default")]
    pub negative: u64,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Six digits after the point: such a number is read from JSON as it was written.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A count as a factor.
#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
fn real(count: usize) -> f64 {
    count as f64
}

impl FeatureBaseline {
    /// The bin of a finite value.
    #[must_use]
    pub fn bin(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// Rows with a finite value.
    #[must_use]
    pub fn finite(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Rows of all kinds.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.finite() + self.infinite + self.missing
    }

    /// A profile of one column, its rows in the order of time. Missing and infinite values are counted
    /// apart. Where rows were shuffled, say [so](Self::without_order).
    #[must_use]
    pub fn of(column: impl IntoIterator<Item = f64>) -> Self {
        let (mut missing, mut infinite) = (0, 0);
        let mut values: Vec<f64> = Vec::new();
        for value in column {
            if value.is_finite() {
                values.push(value);
            } else if value.is_nan() {
                missing += 1;
            } else {
                infinite += 1;
            }
        }
        let longest = values.chunk_by(|a, b| a == b).map(<[f64]>::len).max().unwrap_or_default();
        let repeats = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
        values.sort_by(f64::total_cmp);
        let rows = values.len();
        let mut edges: Vec<f64> =
            (1..BINS).filter_map(|cut| values.get(rows * cut / BINS).copied()).collect();
        edges.dedup();
        if edges.first() == values.first() {
            edges.drain(..edges.len().min(1)); // an edge at the least value would leave the first bin empty
        }
        let count = real(rows.max(1));
        let mean = values.iter().sum::<f64>() / count;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        let mut profile = Self {
            counts: vec![0; edges.len() + 1],
            edges,
            missing,
            min: values.first().copied().unwrap_or_default(),
            max: values.last().copied().unwrap_or_default(),
            mean,
            std,
            kind: FeatureKind::Number,
            categories: Vec::new(),
            other: 0,
            infinite,
            repeats: repeats as u64,
            longest_run: longest as u64,
            magnitude: Magnitude::of(&values),
            spacing: 1,
        };
        for value in &values {
            let bin = profile.bin(*value);
            profile.counts[bin] += 1;
        }
        if values.iter().all(|value| value.fract() == 0.0) && rows > 0 {
            let distinct = values.chunk_by(|a, b| a == b).count();
            let few = (2..=FEW_CATEGORIES).contains(&distinct) && rows >= distinct * ROWS_A_CATEGORY;
            profile.kind = if few { FeatureKind::Category } else { FeatureKind::Whole };
            if few {
                profile.list(&values);
            }
        }
        profile
    }

    /// A profile of one column of which it is known that its numbers are categories, however many.
    #[must_use]
    pub fn of_categories(column: impl IntoIterator<Item = f64>) -> Self {
        let column: Vec<f64> = column.into_iter().collect();
        let mut profile = Self::of(column.iter().copied());
        let mut values: Vec<f64> = column.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        profile.kind = FeatureKind::Category;
        profile.list(&values);
        profile
    }

    /// The same without what only the order of rows tells: for rows that were shuffled.
    #[must_use]
    pub fn without_order(self) -> Self {
        Self { repeats: 0, longest_run: 0, spacing: 1, ..self }
    }

    /// Lists the commonest categories of sorted values.
    fn list(&mut self, sorted: &[f64]) {
        let groups = sorted.chunk_by(|a, b| a == b);
        let mut all: Vec<Category> =
            groups.map(|group| Category { value: group[0] + 0.0, count: group.len() as u64 }).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then(a.value.total_cmp(&b.value)));
        let rare = all.split_off(all.len().min(MAX_CATEGORIES));
        all.sort_by(|a, b| a.value.total_cmp(&b.value));
        (self.categories, self.other) = (all, rare.iter().map(|category| category.count).sum());
    }

    /// Whether edges and categories rise, and counts fit them.
    #[must_use]
    pub(super) fn is_sound(&self) -> bool {
        let rising = self.edges.windows(2).all(|pair| pair[0] < pair[1]);
        let listed = self.categories.windows(2).all(|pair| pair[0].value < pair[1].value)
            && self.categories.len() <= MAX_CATEGORIES;
        rising && listed && self.counts.len() == self.edges.len() + 1 && self.edges.len() < BINS
    }
}

impl Magnitude {
    fn of(values: &[f64]) -> Option<Self> {
        let mut logs: Vec<f64> = values.iter().filter(|v| **v != 0.0).map(|v| v.abs().ln()).collect();
        logs.sort_by(f64::total_cmp);
        let median = *logs.get(logs.len() / 2)?;
        let near = |log: &f64| log.clamp(median - LOG_REACH, median + LOG_REACH);
        let count = real(logs.len());
        let mean = logs.iter().map(near).sum::<f64>() / count;
        let std = (logs.iter().map(|log| (near(log) - mean).powi(2)).sum::<f64>() / count).sqrt();
        let negative = values.iter().filter(|value| **value < 0.0).count() as u64;
        Some(Self { mean: rounded(mean), std: rounded(std), rows: logs.len() as u64, negative })
    }
}

/// Octaves of time between rows that are told apart, from below a millisecond: the last holds all pauses
/// of 12 days and more.
pub const OCTAVES: usize = 32;

/// How rows follow each other: what is repeated, and how long one waits for the next. Times are known where
/// the training data has them, or are learned on the device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RhythmBaseline {
    /// Rows it was taken from.
    pub rows: u64,
    /// Rows that are the same as the one before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub duplicates: u64,
    /// Times between rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
}

/// Times between one row and the next, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// The middle one.
    pub median_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// How many are shorter than two thirds of the median.
    #[serde(default, skip_serializing_if = "is_default")]
    pub short: u64,
    /// How many are longer than one and a half of the median.
    #[serde(default, skip_serializing_if = "is_default")]
    pub long: u64,
    /// How many lie in each octave: `octaves[i]` holds `2^(i-1) <= ms < 2^i`, the first those below one
    /// millisecond. At most [`OCTAVES`]; no nought at the end.
    pub octaves: Vec<u64>,
    /// Learned on the device and not from training data.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learned: bool,
}

impl RhythmBaseline {
    /// The rhythm of rows, each as the model is given it. A row is a duplicate when it has a value, all its
    /// values are those of the row before, and what one lacks the other lacks.
    #[must_use]
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Self {
        let (mut baseline, mut before): (Self, Option<&[f32]>) = (Self::default(), None);
        for row in rows {
            let same = |(a, b): (&f32, &f32)| a == b || (!a.is_finite() && !b.is_finite());
            let repeats = row.iter().any(|value| value.is_finite())
                && before.is_some_and(|last| last.len() == row.len() && last.iter().zip(row).all(same));
            baseline.rows += 1;
            baseline.duplicates += u64::from(repeats);
            before = Some(row);
        }
        baseline
    }
}

impl Intervals {
    /// The times between rows; `None` where there is none.
    #[must_use]
    pub fn of(intervals_ms: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut all: Vec<u64> = intervals_ms.into_iter().collect();
        all.sort_unstable();
        let (median_ms, max_ms) = (*all.get(all.len() / 2)?, *all.last()?);
        let mut of = Self { median_ms, max_ms, short: 0, long: 0, octaves: Vec::new(), learned: false };
        for ms in all {
            let octave = Self::octave(ms);
            of.octaves.resize(of.octaves.len().max(octave + 1), 0);
            of.octaves[octave] += 1;
            of.short += u64::from(of.is_short(ms));
            of.long += u64::from(of.is_long(ms));
        }
        Some(of)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.octaves.iter().sum()
    }

    /// The octave of a time, below [`OCTAVES`].
    #[must_use]
    pub fn octave(ms: u64) -> usize {
        (u64::BITS - ms.leading_zeros()).min(31) as usize
    }

    /// Whether a time is shorter than two thirds of the median; never where the median is nought.
    #[must_use]
    pub fn is_short(&self, ms: u64) -> bool {
        ms.saturating_mul(3) < self.median_ms.saturating_mul(2)
    }

    /// Whether a time is longer than one and a half of the median; never where the median is nought.
    #[must_use]
    pub fn is_long(&self, ms: u64) -> bool {
        self.median_ms > 0 && ms.saturating_mul(2) > self.median_ms.saturating_mul(3)
    }
}

#[cfg(test)]
mod tests;
