//! New weights for the leaves from labelled rows; the questions of the trees stay.
//!
//! Boosted trees are gone through in their order, as LightGBM's `refit` and XGBoost's `refresh`
//! do: gradients at what the trees before answer, then one Newton step for each leaf. Forests take
//! each leaf's mean or class frequencies. What a leaf held before is kept in part, by the decay.

mod averaged;
mod boosted;
mod kind;
mod leaves;

use thiserror::Error;

use crate::number::Number;

use super::forest::Forest;
use super::{Aggregate, TreeEnsemble, Trees};

/// What an ensemble is: the file does not say it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ensemble {
    /// Each tree corrects those before it, and all are added up.
    Boosted(Boosting),
    /// Each tree answers by itself, and the answers are averaged.
    Forest,
}

/// How boosted trees were made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boosting {
    /// What the leaves were multiplied with (learning rate, eta); it stands in no file.
    pub shrinkage: f64,
    /// Added to the sum of the second derivatives in each leaf.
    pub lambda_l2: f64,
    /// Whether the first tree of each target holds the average as well, and is refitted without
    /// shrinkage: what LightGBM makes with `boost_from_average`, its default. Others keep the
    /// average in base values, which stay as they are.
    pub holds_average: bool,
    /// Whose second derivative is taken where there are several classes.
    pub library: Library,
}

/// Libraries that differ in the second derivative of several classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `K / (K - 1) · p (1 - p)`.
    LightGbm,
    /// `2 p (1 - p)`.
    XgBoost,
    /// `GradientBoostingClassifier`: as LightGBM.
    ScikitLearn,
    /// `HistGradientBoostingClassifier`: `p (1 - p)`.
    ScikitLearnHistogram,
}

impl Library {
    /// What `p (1 - p)` is multiplied with.
    #[must_use]
    pub fn hessian_factor(self, classes: usize) -> f64 {
        match self {
            Self::LightGbm | Self::ScikitLearn if classes > 1 => classes as f64 / (classes as f64 - 1.0),
            Self::XgBoost => 2.0,
            Self::LightGbm | Self::ScikitLearn | Self::ScikitLearnHistogram => 1.0,
        }
    }
}

/// What boosted trees bring down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// Squared error of each target.
    Squares,
    /// Log loss of one margin.
    Logistic,
    /// Log loss of a margin for each class.
    Softmax,
}

/// How leaves are refitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefitSettings {
    /// What the trees are; `None` takes what can be told from the file: forests mostly can,
    /// boosting cannot, since its shrinkage stands nowhere.
    pub ensemble: Option<Ensemble>,
    /// What boosted trees bring down; `None` reads it from the settings of the operator.
    pub objective: Option<Objective>,
    /// The part of the old weight that is kept, 0 to 1. LightGBM's `refit_decay_rate`.
    pub decay: f64,
    /// Leaves that fewer rows reach keep their weights. Zero is what LightGBM does: leaves that no
    /// row reaches then shrink by the decay.
    pub min_rows_per_leaf: usize,
}

impl Default for RefitSettings {
    fn default() -> Self {
        Self { ensemble: None, objective: None, decay: 0.9, min_rows_per_leaf: 1 }
    }
}

/// Labelled rows.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// Features, row-major; what the trees themselves are given.
    pub features: &'a [f32],
    /// Features of a row.
    pub width: usize,
    /// What should have come out.
    pub labels: Labels<'a>,
    /// What each row counts, not negative; `None` counts each once.
    pub weights: Option<&'a [f32]>,
}

/// What should have come out of each row.
#[derive(Debug, Clone, Copy)]
pub enum Labels<'a> {
    /// Values, row-major, as many for a row as there are targets.
    Values(&'a [f32]),
    /// Classes by their place in the operator's list of labels.
    Classes(&'a [u32]),
}

/// New weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Refitted {
    /// Place in the file's list of weights, and the weight; ascending, every leaf's.
    pub weights: Vec<(u32, f64)>,
    /// Rows that were used.
    pub rows: usize,
    /// Trees.
    pub trees: usize,
    /// Leaves that got new weights.
    pub refitted: usize,
    /// Leaves that too few rows reached.
    pub kept: usize,
    /// Times that a row came to a leaf of a forest that has no weight for the row's class.
    pub unplaced: usize,
    /// The largest change of a weight.
    pub largest_change: f64,
}

/// Why leaves are not refitted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RefitError {
    /// The operator has no trees.
    #[error("the operator is no tree ensemble")]
    NoTrees,
    /// Labels, weights or features are too few or too many.
    #[error("expected {expected} {what}, got {got}")]
    Length { what: &'static str, expected: usize, got: usize },
    /// There is no row.
    #[error("there are no rows to refit on")]
    NoRows,
    /// A label is none, or a weight is negative or no number.
    #[error("row {row}: {reason}")]
    Row { row: usize, reason: &'static str },
    /// A setting is out of range.
    #[error("setting `{name}` is {value}, expected {expected}")]
    Setting { name: &'static str, value: f64, expected: &'static str },
    /// Boosted, but with which shrinkage?
    #[error("the trees are boosted; set `ensemble` to boosted with the shrinkage, which is not in the file")]
    NeedsShrinkage,
    /// Averaged or boosted?
    #[error("whether the trees are averaged or boosted cannot be told from the file; set `ensemble`")]
    Ambiguous,
    /// What is said is not what is there.
    #[error("setting `{name}` contradicts the file: {reason}")]
    Contradiction { name: &'static str, reason: &'static str },
    /// A layout that is served but not refitted.
    #[error("the ensemble is not refitted: {reason}")]
    Layout { reason: &'static str },
    /// A new weight is no number.
    #[error("the new weight at place {place} is no finite number")]
    NotFinite { place: u32 },
}

/// How leaves are refitted, once it is known what the trees are.
enum Method {
    Forest,
    Boosted(boosted::Plan),
}

/// Rows as trees of either precision take them, with labels as numbers.
struct Table<'a, T> {
    features: Vec<T>,
    width: usize,
    rows: usize,
    labels: Labels<'a>,
    weights: Option<&'a [f32]>,
    targets: usize,
}

impl<T: Number> Table<'_, T> {
    fn row(&self, row: usize) -> &[T] {
        &self.features[row * self.width..(row + 1) * self.width]
    }

    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| f64::from(weights[row]))
    }

    /// What a target should be: a value, or whether it is the class; a lone target is the second's.
    fn label(&self, row: usize, target: usize) -> f64 {
        match self.labels {
            Labels::Values(values) => f64::from(values[row * self.targets + target]),
            Labels::Classes(classes) => {
                let class = if self.targets == 1 { 1 } else { target };
                f64::from(u8::from(classes[row] as usize == class))
            }
        }
    }
}

impl TreeEnsemble {
    /// Finds new weights; nothing is changed.
    pub(crate) fn refit(
        &self,
        samples: &Samples<'_>,
        settings: &RefitSettings,
    ) -> Result<Refitted, RefitError> {
        match &self.trees {
            Trees::Single(forest) => self.refit_in(forest, samples, settings),
            Trees::Double(forest) => self.refit_in(forest, samples, settings),
        }
    }

    /// What the trees would be refitted as.
    pub(crate) fn refit_as(&self, settings: &RefitSettings) -> Result<Ensemble, RefitError> {
        let method = match &self.trees {
            Trees::Single(forest) => self.method(forest, &forest.each_tree()?, settings)?,
            Trees::Double(forest) => self.method(forest, &forest.each_tree()?, settings)?,
        };
        Ok(match method {
            Method::Forest => Ensemble::Forest,
            Method::Boosted(plan) => Ensemble::Boosted(plan.boosting),
        })
    }

    fn method<T: Number>(
        &self,
        forest: &Forest<T>,
        trees: &[leaves::Tree],
        settings: &RefitSettings,
    ) -> Result<Method, RefitError> {
        let decay = settings.decay;
        if !(0.0..=1.0).contains(&decay) {
            return Err(RefitError::Setting { name: "decay", value: decay, expected: "0 to 1" });
        }
        match self.kind(forest, trees, settings.ensemble)? {
            Ensemble::Forest => averaged::check(self, forest).map(|()| Method::Forest),
            Ensemble::Boosted(boosting) => self.plan(forest, boosting, settings).map(Method::Boosted),
        }
    }

    fn refit_in<T: Number>(
        &self,
        forest: &Forest<T>,
        samples: &Samples<'_>,
        settings: &RefitSettings,
    ) -> Result<Refitted, RefitError> {
        let trees = forest.each_tree()?;
        let method = self.method(forest, &trees, settings)?;
        let table = self.table(forest, samples)?;
        let mut weights = forest.weights();
        let mut tally = match &method {
            Method::Forest => averaged::refit(self, forest, &trees, &table, settings, &mut weights)?,
            Method::Boosted(plan) => boosted::refit(plan, forest, &trees, &table, settings, &mut weights),
        };
        tally.rows = table.rows;
        tally.trees = trees.len();
        tally.largest_change = 0.0;
        for leaf in &forest.leaves {
            let new = weights[leaf.source as usize];
            if !crate::number::narrow(new).is_finite() {
                return Err(RefitError::NotFinite { place: leaf.source });
            }
            tally.largest_change = tally.largest_change.max((new - leaf.weight.to_f64()).abs());
            tally.weights.push((leaf.source, new));
        }
        tally.weights.sort_by_key(|(source, _)| *source);
        tally.weights.dedup_by_key(|(source, _)| *source);
        Ok(tally)
    }

    /// Checks the rows, and brings them to the precision of the trees.
    fn table<'a, T: Number>(
        &self,
        forest: &Forest<T>,
        samples: &Samples<'a>,
    ) -> Result<Table<'a, T>, RefitError> {
        let length = |what, expected, got| match expected == got {
            true => Ok(()),
            false => Err(RefitError::Length { what, expected, got }),
        };
        if samples.features.is_empty() || samples.width == 0 {
            return Err(RefitError::NoRows);
        }
        let rows = samples.features.len() / samples.width;
        length("features", rows * samples.width, samples.features.len())?;
        if samples.width < forest.features {
            return Err(RefitError::Length {
                what: "features",
                expected: forest.features,
                got: samples.width,
            });
        }
        let targets = forest.targets;
        let bad = |row, reason| RefitError::Row { row, reason };
        match samples.labels {
            Labels::Values(_) if self.classes.is_some() => {
                return Err(RefitError::Layout { reason: "a classifier's labels are classes" });
            }
            Labels::Values(values) => {
                length("labels", rows * targets, values.len())?;
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    return Err(bad(at / targets, "its label is no finite number"));
                }
            }
            Labels::Classes(classes) => {
                length("labels", rows, classes.len())?;
                let known = if targets == 1 { 2 } else { targets };
                if let Some(row) = classes.iter().position(|class| *class as usize >= known) {
                    return Err(bad(row, "its class does not exist"));
                }
            }
        }
        if let Some(weights) = samples.weights {
            length("weights", rows, weights.len())?;
            if let Some(row) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
                return Err(bad(row, "its weight is negative or no finite number"));
            }
        }
        Ok(Table {
            features: samples.features.iter().map(|value| T::from_f64(f64::from(*value))).collect(),
            width: samples.width,
            rows,
            labels: samples.labels,
            weights: samples.weights,
            targets,
        })
    }
}

#[cfg(test)]
mod tests;
