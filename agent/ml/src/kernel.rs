//! One operator with its settings, checked and ready.

use thiserror::Error;

use crate::array::{Array, Kind, View};
use crate::distance::{Distance, Reverse};
use crate::encode::OneHot;
use crate::features::{Vectorizer, extract};
use crate::labels::Exchange;
use crate::linear::Linear;
use crate::normalize::{Binarizer, Imputer, Normalizer, Scaler};
use crate::settings::{Settings, SettingsError};
use crate::svm::{SvmClassifier, SvmRegressor};
use crate::trees::{Ensemble, Forest, RefitError, RefitSettings, Refitted, Samples, TreeEnsemble};

/// The operators that are kernels here, sorted: those of `ai.onnx.ml`, and two of other domains.
pub const OPS: &[&str] = &[
    "ArrayFeatureExtractor",
    "Binarizer",
    "CDist",
    "CategoryMapper",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "ReverseSequence",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// Why a kernel could not be run on what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// Too few or too many inputs.
    #[error("expected {expected} inputs, got {got}")]
    Inputs { expected: usize, got: usize },
    /// A row is not as wide as the settings are.
    #[error("expected {expected} features, got {got}")]
    Features { expected: usize, got: usize },
    /// Text where numbers are wanted.
    #[error("expected numbers")]
    NotNumbers,
    /// Fractions or text where whole numbers are wanted.
    #[error("expected whole numbers")]
    NotWhole,
    /// Numbers where text is wanted.
    #[error("expected text")]
    NotText,
    /// A column that does not exist.
    #[error("column {index} of {size} does not exist")]
    Index { index: i64, size: usize },
    /// A category that the encoder does not know and may not pass over.
    #[error("a category is not known")]
    UnknownCategory,
}

/// A size of an output, said by the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// This many.
    Known(usize),
    /// The rows of the first input; one when it has one axis.
    Rows,
    /// The same as this axis of the first input.
    Axis(usize),
    /// The rows of the second input.
    OtherRows,
    /// As many as the second input has elements.
    Indices,
}

/// Kind and sizes of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputShape {
    /// The kind of element.
    pub kind: Kind,
    /// Sizes, outermost first.
    pub extents: Vec<Extent>,
}

/// An operator with its settings.
#[derive(Debug, Clone)]
pub struct Kernel(Form);

#[derive(Debug, Clone)]
enum Form {
    Trees(Box<TreeEnsemble>),
    Linear(Linear),
    SvmClassifier(Box<SvmClassifier>),
    SvmRegressor(SvmRegressor),
    Scaler(Scaler),
    Normalizer(Normalizer),
    Imputer(Imputer),
    Binarizer(Binarizer),
    Exchange(Box<Exchange>),
    OneHot(OneHot),
    Extract,
    Vectorizer(Vectorizer),
    Distance(Distance),
    Reverse(Reverse),
}

impl Kernel {
    /// Parses and checks the settings of one of [`OPS`]. `first` is the kind of the first input
    /// where it is known: f64 features are compared with thresholds as f64.
    ///
    /// # Errors
    /// [`SettingsError`] with the setting's name.
    pub fn parse(op: &str, settings: &Settings, first: Option<Kind>) -> Result<Self, SettingsError> {
        Ok(Self(match op {
            "TreeEnsemble" | "TreeEnsembleClassifier" | "TreeEnsembleRegressor" => {
                Form::Trees(Box::new(TreeEnsemble::parse(op, settings, first == Some(Kind::F64))?))
            }
            "LinearClassifier" => Form::Linear(Linear::classifier(settings)?),
            "LinearRegressor" => Form::Linear(Linear::regressor(settings)?),
            "SVMClassifier" => Form::SvmClassifier(Box::new(SvmClassifier::parse(settings)?)),
            "SVMRegressor" => Form::SvmRegressor(SvmRegressor::parse(settings)?),
            "Scaler" => Form::Scaler(Scaler::parse(settings)?),
            "Normalizer" => Form::Normalizer(Normalizer::parse(settings)?),
            "Imputer" => Form::Imputer(Imputer::parse(settings)?),
            "Binarizer" => Form::Binarizer(Binarizer::parse(settings)?),
            "LabelEncoder" => Form::Exchange(Box::new(Exchange::label_encoder(settings)?)),
            "CategoryMapper" => Form::Exchange(Box::new(Exchange::category_mapper(settings)?)),
            "OneHotEncoder" => Form::OneHot(OneHot::parse(settings)?),
            "ArrayFeatureExtractor" => Form::Extract,
            "CDist" => Form::Distance(Distance::parse(settings)?),
            "ReverseSequence" => Form::Reverse(Reverse::parse(settings)?),
            "FeatureVectorizer" => Form::Vectorizer(Vectorizer::parse(settings)?),
            _ => return Err(SettingsError::UnknownOp { op: op.to_owned() }),
        }))
    }

    /// How many inputs it takes.
    #[must_use]
    pub fn inputs(&self) -> usize {
        match &self.0 {
            Form::Extract | Form::Distance(_) | Form::Reverse(_) => 2,
            Form::Vectorizer(vectorizer) => vectorizer.inputs(),
            _ => 1,
        }
    }

    /// How many outputs it gives.
    #[must_use]
    pub fn output_count(&self) -> usize {
        self.outputs(Kind::F32, 2).len()
    }

    /// What it gives for a first input of this kind and number of axes.
    #[must_use]
    pub fn outputs(&self, first: Kind, rank: usize) -> Vec<OutputShape> {
        let axes = |count: usize| (0..count).map(Extent::Axis);
        let same = |kind| vec![OutputShape { kind, extents: axes(rank).collect() }];
        match &self.0 {
            Form::Trees(trees) => trees.outputs(),
            Form::Linear(linear) => linear.outputs(),
            Form::SvmClassifier(svm) => svm.outputs(),
            Form::SvmRegressor(_) => SvmRegressor::outputs(),
            Form::Scaler(_) | Form::Normalizer(_) => same(Kind::F32),
            Form::Imputer(Imputer::Ints { .. }) => same(Kind::I64),
            Form::Imputer(Imputer::Floats { .. }) => {
                same(if first == Kind::F64 { Kind::F64 } else { Kind::F32 })
            }
            Form::Binarizer(_) => same(match first {
                Kind::F64 | Kind::I64 | Kind::I32 => first,
                _ => Kind::F32,
            }),
            Form::Exchange(exchange) => same(exchange.gives(first)),
            Form::OneHot(one_hot) => {
                let extents = axes(rank).chain([Extent::Known(one_hot.categories())]).collect();
                vec![OutputShape { kind: Kind::F32, extents }]
            }
            Form::Extract => {
                let outer = if rank < 2 { vec![Extent::Known(1)] } else { axes(rank - 1).collect() };
                let extents = outer.into_iter().chain([Extent::Indices]).collect();
                vec![OutputShape { kind: first, extents }]
            }
            Form::Reverse(_) => same(first),
            Form::Distance(_) => {
                let kind = if first == Kind::F64 { Kind::F64 } else { Kind::F32 };
                vec![OutputShape { kind, extents: vec![Extent::Rows, Extent::OtherRows] }]
            }
            Form::Vectorizer(vectorizer) => {
                let extents = vec![Extent::Rows, Extent::Known(vectorizer.width())];
                vec![OutputShape { kind: Kind::F32, extents }]
            }
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`RunError`] when the inputs do not fit the settings.
    pub fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Array>, RunError> {
        let (expected, got) = (self.inputs(), inputs.len());
        let Some(x) = inputs.first().filter(|_| expected == got) else {
            return Err(RunError::Inputs { expected, got });
        };
        Ok(match &self.0 {
            Form::Trees(trees) => trees.run(x)?,
            Form::Linear(linear) => linear.run(x)?,
            Form::SvmClassifier(svm) => svm.run(x)?,
            Form::SvmRegressor(svm) => svm.run(x)?,
            Form::Scaler(scaler) => vec![scaler.run(x)?],
            Form::Normalizer(normalizer) => vec![normalizer.run(x)?],
            Form::Imputer(imputer) => vec![imputer.run(x)?],
            Form::Binarizer(binarizer) => vec![binarizer.run(x)?],
            Form::Exchange(exchange) => vec![exchange.run(x)?],
            Form::OneHot(one_hot) => vec![one_hot.run(x)?],
            Form::Extract => vec![extract(x, &inputs[1])?],
            Form::Distance(distance) => vec![distance.run(x, &inputs[1])?],
            Form::Reverse(reverse) => vec![reverse.run(x, &inputs[1])?],
            Form::Vectorizer(vectorizer) => vec![vectorizer.run(inputs)?],
        })
    }

    /// Finds new weights for the leaves of a tree ensemble; the kernel itself stays.
    ///
    /// # Errors
    /// [`RefitError`]: no trees, rows that do not fit, or a kind of ensemble that must be said.
    pub fn refit(&self, samples: &Samples<'_>, settings: &RefitSettings) -> Result<Refitted, RefitError> {
        match &self.0 {
            Form::Trees(trees) => trees.refit(samples, settings),
            _ => Err(RefitError::NoTrees),
        }
    }

    /// What [`Kernel::refit`] would take the trees for with these settings, before there are rows.
    ///
    /// # Errors
    /// As [`Kernel::refit`], but for what is wrong with rows.
    pub fn refit_as(&self, settings: &RefitSettings) -> Result<Ensemble, RefitError> {
        match &self.0 {
            Form::Trees(trees) => trees.refit_as(settings),
            _ => Err(RefitError::NoTrees),
        }
    }

    /// The trees of a tree ensemble that is run in f32.
    #[must_use]
    pub fn forest(&self) -> Option<&Forest<f32>> {
        match &self.0 {
            Form::Trees(trees) => trees.forest(),
            _ => None,
        }
    }
}
