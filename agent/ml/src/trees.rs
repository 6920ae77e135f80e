//! Tree ensembles: classifiers, regressors, and the operator of opset 5 that is both.

mod build;
mod classes;
mod draft;
mod draft5;
mod forest;
mod refit;
mod walk;

use crate::array::{Array, Data, Kind, View};
use crate::kernel::{Extent, OutputShape, RunError};
use crate::number::narrow;
use crate::post::PostTransform;
use crate::settings::{Settings, SettingsError};

use classes::Classes;
use draft::Draft;
pub use forest::{Forest, Leaf};
pub use refit::{
    Boosting, Ensemble, Labels, Library, Objective, RefitError, RefitSettings, Refitted, Samples,
};

/// How the trees' answers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// Trees in the precision they are run in.
#[derive(Debug, Clone)]
enum Trees {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// A tree ensemble.
#[derive(Debug, Clone)]
pub(crate) struct TreeEnsemble {
    trees: Trees,
    /// Absent for regression.
    classes: Option<Classes>,
    post: PostTransform,
    /// Whether what comes out is f64: opset 5 gives what it is given.
    gives_double: bool,
}

impl TreeEnsemble {
    /// Parses; `is_double` says that the features are f64, which are compared as such.
    pub(crate) fn parse(op: &str, settings: &Settings, is_double: bool) -> Result<Self, SettingsError> {
        let (draft, classes, post) = match op {
            "TreeEnsembleClassifier" => {
                let (draft, classes) = Classes::parse(settings)?;
                (draft, Some(classes), PostTransform::named(settings.text("post_transform", "NONE")?)?)
            }
            "TreeEnsembleRegressor" => {
                let draft = Draft::regressor(settings)?;
                (draft, None, PostTransform::named(settings.text("post_transform", "NONE")?)?)
            }
            _ => {
                let draft = Draft::opset5(settings)?;
                (draft, None, PostTransform::numbered(settings.int("post_transform", 0)?)?)
            }
        };
        let gives_double = op == "TreeEnsemble" && draft.is_wide;
        let trees = if is_double || draft.is_wide {
            Trees::Double(Forest::build(&draft)?)
        } else {
            Trees::Single(Forest::build(&draft)?)
        };
        Ok(Self { trees, classes, post, gives_double })
    }

    pub(crate) fn outputs(&self) -> Vec<OutputShape> {
        let targets = match &self.trees {
            Trees::Single(forest) => forest.targets(),
            Trees::Double(forest) => forest.targets(),
        };
        let kind = if self.gives_double { Kind::F64 } else { Kind::F32 };
        let scores = OutputShape { kind, extents: vec![Extent::Rows, Extent::Known(targets)] };
        match &self.classes {
            None => vec![scores],
            Some(classes) => {
                vec![OutputShape { kind: classes.labels.kind(), extents: vec![Extent::Rows] }, scores]
            }
        }
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Vec<Array>, RunError> {
        let (rows, width) = x.table();
        match &self.trees {
            Trees::Single(forest) => {
                let features = x.data.f32s().ok_or(RunError::NotNumbers)?;
                forest.check_width(width)?;
                Ok(self.finish(forest.targets(), rows, |seen, row| {
                    forest.sums(&features, width, rows, seen, row);
                }))
            }
            Trees::Double(forest) => {
                let features = x.data.f64s().ok_or(RunError::NotNumbers)?;
                forest.check_width(width)?;
                if self.gives_double {
                    return Ok(vec![self.wide(forest, &features, width, rows)]);
                }
                Ok(self.finish(forest.targets(), rows, |seen, row| {
                    forest.sums(&features, width, rows, seen, |at, sums, seen| {
                        let narrowed: Vec<f32> = sums.iter().map(|sum| narrow(*sum)).collect();
                        row(at, &narrowed, seen);
                    });
                }))
            }
        }
    }

    /// Takes the sums of each row through labels and transforms.
    fn finish(
        &self,
        targets: usize,
        rows: usize,
        sums: impl FnOnce(bool, &mut dyn FnMut(usize, &[f32], &[bool])),
    ) -> Vec<Array> {
        let mut scores = vec![0.0f32; rows * targets];
        let out = |shape: Vec<usize>, data| Array { shape, data };
        let Some(classes) = &self.classes else {
            sums(false, &mut |row, sum, _| {
                let place = &mut scores[row * targets..(row + 1) * targets];
                place.copy_from_slice(sum);
                // A single target is only taken through Probit, as onnxruntime does it.
                if targets > 1 || self.post == PostTransform::Probit {
                    self.post.apply(place);
                }
            });
            return vec![out(vec![rows, targets], Data::F32(scores))];
        };
        let mut winners = vec![0usize; rows];
        sums(true, &mut |row, sum, seen| {
            let place = &mut scores[row * targets..(row + 1) * targets];
            winners[row] = classes.decide(sum, seen, self.post, place);
        });
        let labels = classes.labels.pick(&winners);
        vec![out(vec![rows], labels), out(vec![rows, targets], Data::F32(scores))]
    }

    fn wide(&self, forest: &Forest<f64>, features: &[f64], width: usize, rows: usize) -> Array {
        let targets = forest.targets();
        let mut scores = vec![0.0f64; rows * targets];
        forest.sums(features, width, rows, false, |row, sum, _| {
            let place = &mut scores[row * targets..(row + 1) * targets];
            place.copy_from_slice(sum);
            if self.post != PostTransform::None && (targets > 1 || self.post == PostTransform::Probit) {
                let mut narrowed: Vec<f32> = sum.iter().map(|sum| narrow(*sum)).collect();
                self.post.apply(&mut narrowed);
                place.iter_mut().zip(narrowed).for_each(|(wide, single)| *wide = f64::from(single));
            }
        });
        Array { shape: vec![rows, targets], data: Data::F64(scores) }
    }

    /// The trees, when they are run in f32: what leaves are refitted on.
    pub(crate) fn forest(&self) -> Option<&Forest<f32>> {
        match &self.trees {
            Trees::Single(forest) => Some(forest),
            Trees::Double(_) => None,
        }
    }
}
