//! Rows to learn from.

use thiserror::Error;

/// Rows of features with a target and a weight each; checked when made.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    width: usize,
    features: Vec<f32>,
    targets: Targets,
    weights: Vec<f32>,
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// A class for each row, counted from zero.
    Classes(Vec<u32>),
    /// `width` numbers for each row, row-major.
    Values {
        /// Numbers of a row.
        width: usize,
        /// All rows.
        values: Vec<f32>,
    },
}

/// Why rows cannot be learnt from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatasetError {
    /// No rows, or rows of nothing.
    #[error("there are no rows, or rows of no features")]
    Empty,
    /// A list has the wrong length.
    #[error("{what}: expected {expected}, got {got}")]
    Length { what: &'static str, expected: usize, got: usize },
    /// A number is infinite or not a number, or a weight is below zero.
    #[error("{what} of row {row} is {value}")]
    Value { what: &'static str, row: usize, value: String },
    /// All weights are zero.
    #[error("all weights are zero")]
    NoWeight,
}

impl Targets {
    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values { width, values } => values.len().checked_div(*width).unwrap_or(0),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Dataset {
    /// Makes a data set: `features` is row-major, rows × `width`; `weights` has one for each row,
    /// or is empty for equal weights.
    ///
    /// # Errors
    /// [`DatasetError`] when lengths do not fit or a number is not finite.
    pub fn new(
        width: usize,
        features: Vec<f32>,
        targets: Targets,
        weights: Vec<f32>,
    ) -> Result<Self, DatasetError> {
        let rows = targets.len();
        if rows == 0 || width == 0 {
            return Err(DatasetError::Empty);
        }
        let length = |what, expected: usize, got: usize| match expected == got {
            true => Ok(()),
            false => Err(DatasetError::Length { what, expected, got }),
        };
        length("features", rows.saturating_mul(width), features.len())?;
        check("feature", &features, width, f32::is_finite)?;
        if let Targets::Values { width, values } = &targets {
            length("target values", rows * width, values.len())?;
            check("target", values, *width, f32::is_finite)?;
        }
        let weights = if weights.is_empty() { vec![1.0; rows] } else { weights };
        length("weights", rows, weights.len())?;
        check("weight", &weights, 1, |weight| weight.is_finite() && weight >= 0.0)?;
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(DatasetError::NoWeight);
        }
        Ok(Self { width, features, targets, weights })
    }

    /// The number of rows, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// All features, row-major.
    #[must_use]
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// All targets.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// A weight for each row.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }
}

/// Why rows cannot be read; whoever keeps them knows.
#[derive(Debug, Error)]
#[error("row {row} cannot be read")]
pub struct SourceError {
    /// Counted from zero.
    pub row: usize,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What the targets of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// One class number a row.
    Classes,
    /// So many values a row.
    Values(usize),
}

impl TargetKind {
    /// Numbers of a row.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::Classes => 1,
            Self::Values(width) => width,
        }
    }
}

/// Rows to learn from, read a few at a time: they need not be in memory.
pub trait Source {
    /// The number of rows; it and the rows stay the same while a run reads them.
    fn rows(&self) -> usize;
    /// Features of a row.
    fn width(&self) -> usize;
    /// What is to be predicted.
    fn targets(&self) -> TargetKind;
    /// The first of the replayed rows, which come last; the number of rows where there are none.
    fn replay_from(&self) -> usize {
        self.rows()
    }
    /// Weight of a row, finite, not below nought.
    fn weight(&self, row: usize) -> f32;
    /// Reads rows: `width` features and [`TargetKind::width`] targets each, classes as numbers.
    ///
    /// # Errors
    /// [`SourceError`] for a row that is gone.
    fn read(&mut self, rows: &[usize], features: &mut [f32], targets: &mut [f32]) -> Result<(), SourceError>;
}

impl Source for Dataset {
    fn rows(&self) -> usize {
        self.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn targets(&self) -> TargetKind {
        match &self.targets {
            Targets::Classes(_) => TargetKind::Classes,
            Targets::Values { width, .. } => TargetKind::Values(*width),
        }
    }

    fn weight(&self, row: usize) -> f32 {
        self.weights[row]
    }

    fn read(&mut self, rows: &[usize], features: &mut [f32], targets: &mut [f32]) -> Result<(), SourceError> {
        let per_row = Source::targets(self).width();
        let to = features.chunks_exact_mut(self.width).zip(targets.chunks_exact_mut(per_row));
        for (row, (features, targets)) in rows.iter().zip(to) {
            features.copy_from_slice(&self.features[row * self.width..(row + 1) * self.width]);
            match &self.targets {
                #[expect(clippy::cast_precision_loss, reason = "classes are few")]
                Targets::Classes(classes) => targets[0] = classes[*row] as f32,
                Targets::Values { width, values } => {
                    targets.copy_from_slice(&values[row * width..(row + 1) * width]);
                }
            }
        }
        Ok(())
    }
}

fn check(
    what: &'static str,
    numbers: &[f32],
    width: usize,
    fits: impl Fn(f32) -> bool,
) -> Result<(), DatasetError> {
    match numbers.iter().position(|number| !fits(*number)) {
        None => Ok(()),
        Some(at) => Err(DatasetError::Value { what, row: at / width, value: numbers[at].to_string() }),
    }
}
