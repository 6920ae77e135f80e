//! Makes a package from a table and a model, from a table alone, or from a model that takes tensors.

mod build;
mod calibration;
mod fit;
mod golden;
mod model;
mod report;
mod schema;
mod score;
mod tensors;
mod units;

pub use calibration::Calibration;
pub use fit::FitReport;
pub use report::PackReport;
pub use schema::{Column, ColumnKind, Schema};

use crate::file::FileError;
use crate::keys::KeyError;
use crate::profile;
use crate::rows::Rows;
use crate::table::{Features, Label, Table, TableError, Targets};
use crate::worker::{By, TrainError, chain, check_recipe};
use clap::{Args, ValueEnum};
use report::finish;
use shoal_infer::{InferError, LoadError, NpzError};
use shoal_learn::{ArchitectureError, DatasetError, LearnError, Progress};
use shoal_onnx::Refusal;
use shoal_proto::id::ModelName;
use shoal_proto::manifest::{Recipe, Task};
use shoal_proto::package::PackageError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Share of the labelled rows that the model is not fitted on: predictions are profiled on them, and the
/// guard set is drawn from them.
pub const HELD_OUT: f64 = 0.2;
/// Labelled rows below which there is nothing to hold out.
pub const MIN_ROWS: usize = 20;

/// Rows that a feature stays near itself for, from which on that is said: monitors then look at few rows.
const SLOW: u32 = 20;

/// What `pack` is asked for.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// Training data, CSV with a header. Without it the model takes tensors (images, sequences, several
    /// inputs): it is served as it is, its inputs are not watched, and it is not trained on a device.
    #[arg(long, value_name = "CSV", requires = "label")]
    pub data: Option<PathBuf>,
    /// The column that is to be predicted.
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub label: Option<String>,
    /// The rows of --data are in no order of time: then nothing is learned of stuck sensors, repeated rows and how
    /// long a value stays near itself.
    #[arg(long, requires = "data")]
    pub shuffled: bool,
    /// Watch that no range of a feature is treated worse than the others: `age:30,60`, or `age:30,60=granted`
    /// with the favourable class, which two classes need not have told. Of what is no feature, the values that
    /// requests name in a parameter: `site:north,south`. May be given several times.
    #[arg(long = "group", value_name = "NAME:PART,…[=CLASS]", requires = "data")]
    pub groups: Vec<String>,
    /// Columns that are no features, by comma.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', requires = "data")]
    pub drop: Vec<String>,
    /// Inputs and the outputs that a device must get for them, before it serves the model. Arrays have the
    /// model's own names, or are x, x1, x2 … and y, y1, y2 … in the model's order.
    #[arg(long, value_name = "NPZ", conflicts_with = "data")]
    pub golden: Option<PathBuf>,
    /// The classes in the order of the scores, by comma; without them 0, 1, 2 …
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',', conflicts_with = "data")]
    pub classes: Vec<String>,
    /// The model's name; without it, the data's or the model's file name.
    #[arg(long)]
    pub name: Option<String>,
    /// The version's number.
    #[arg(long, default_value_t = 1)]
    pub version: u32,
    /// One sentence for people.
    #[arg(long, default_value = "")]
    pub description: String,
    /// A trained model.
    #[arg(long, value_name = "FILE", required_unless_present = "fit", conflicts_with = "fit")]
    pub onnx: Option<PathBuf>,
    /// Train a first model here: `linear`; `mlp:64,32` with two hidden layers; or `cnn1d:3x128:32,64` with
    /// two layers of convolutions over windows, whose columns are the 128 samples of the first channel, then
    /// those of the second, and so on.
    #[arg(long, value_name = "NETWORK", requires = "data")]
    pub fit: Option<String>,
    /// How a device is to retrain the model: TOML with the keys of `[recipe]` in `model.toml`, such as
    /// `scope = "input-affine"` or `ensemble = "lightgbm:0.1"`. Without it all weights, or leaves, move.
    #[arg(long, value_name = "TOML", requires = "data")]
    pub recipe: Option<PathBuf>,
    /// What the model answers. Without it: a class where there is data, or where the model gives a label
    /// beside its scores or classes are named; else numbers.
    #[arg(long, value_enum)]
    pub task: Option<TaskArg>,
    /// Where the package goes; without it, `NAME.shoal`.
    #[arg(long, short, value_name = "FILE.shoal")]
    pub output: Option<PathBuf>,
    /// Decides which rows are held out, and the first weights of a fitted model.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Sign with this ed25519 key, PEM or hex; without it the hub signs when the package is pushed.
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
}

/// What a model answers, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TaskArg {
    /// One class of several.
    Classification,
    /// A number.
    Regression,
}

impl From<TaskArg> for Task {
    fn from(task: TaskArg) -> Self {
        match task {
            TaskArg::Classification => Self::Classification,
            TaskArg::Regression => Self::Regression,
        }
    }
}

/// A package that was not made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The data.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The name given or taken from the file.
    #[error("`{name}` is no model name")]
    Name {
        name: String,
        #[source]
        source: shoal_proto::id::IdError,
    },
    /// `--group`.
    #[error("`--group {given}` is not FEATURE:CUT,CUT… with rising numbers, or NAME:VALUE,VALUE…")]
    Group { given: String },
    /// What was asked for does not fit the data.
    #[error(transparent)]
    Manifest(#[from] shoal_proto::manifest::ManifestError),
    /// `--fit`.
    #[error(transparent)]
    Fit(#[from] ArchitectureError),
    /// Windows that are not those of the data.
    #[error("`--fit {fit}` takes CHANNELS × LENGTH = {takes} features, the data has {data}")]
    Windows { fit: String, takes: usize, data: usize },
    /// The model's file.
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not TOML, or not of a recipe.
    #[error("`{path}` is no recipe")]
    NoRecipe {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A recipe by which this model cannot be trained.
    #[error("the model cannot be trained by `{path}`")]
    Recipe {
        path: PathBuf,
        #[source]
        source: Box<TrainError>,
    },
    /// The package's file.
    #[error(transparent)]
    Write(#[from] FileError),
    /// Too few rows to learn from and to test on.
    #[error("`{file}` has {rows} rows with a label and no missing value, {MIN_ROWS} are needed")]
    TooFewRows { file: PathBuf, rows: usize },
    /// A label with nothing to tell apart.
    #[error("column `{column}` holds {classes} class(es), at least 2 are needed")]
    OneClass { column: String, classes: usize },
    /// The model is not even looked at.
    #[error("`{path}` cannot be served")]
    Refused {
        path: PathBuf,
        #[source]
        source: Refusal,
    },
    /// The model does not run.
    #[error("the model cannot be loaded")]
    Load(#[from] LoadError),
    /// The model does not answer.
    #[error("the model does not answer the held-out rows")]
    Infer(#[from] InferError),
    /// The model and the data do not fit.
    #[error("the model takes {model} features, the data has {data}: {columns}")]
    Width { model: String, data: usize, columns: String },
    /// The model and the label do not fit.
    #[error("the model's output `{output}` has {scores} scores a row, the label needs {needed}")]
    Scores { output: String, scores: usize, needed: usize },
    /// The model gives no numbers.
    #[error("the model has no output of floating point numbers")]
    NoScores,
    /// No model could be fitted.
    #[error("no model could be fitted")]
    Learn(#[from] LearnError),
    /// The rows cannot be learned from.
    #[error("the rows cannot be learned from")]
    Dataset(#[from] DatasetError),
    /// The sets of rows.
    #[error("the guard or replay set cannot be written")]
    Npz(#[from] NpzError),
    /// The golden inputs and outputs.
    #[error("`{path}` holds no golden inputs and outputs")]
    Golden {
        path: PathBuf,
        #[source]
        source: NpzError,
    },
    /// An array that is neither the model's nor by the convention.
    #[error("`{path}` has no array for {wanted}; it has {arrays}")]
    GoldenLacks { path: PathBuf, wanted: String, arrays: String },
    /// The model does not run, or gives other outputs than the golden ones.
    #[error("the model does not pass its trial")]
    Trial(#[from] shoal_infer::Refused),
    /// More or fewer names than scores.
    #[error("--classes names {named} classes, output `{output}` has {scores} scores a row")]
    Classes { output: String, named: usize, scores: usize },
    /// The package contradicts itself.
    #[error("the package is not consistent")]
    Package(#[from] PackageError),
    /// The key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl PackError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Table(cause) => cause.hint(),
            Self::Name { .. } => Some("give one with --name"),
            Self::Windows { .. } => Some("columns are channel after channel; leave others out with --drop"),
            Self::OneClass { .. } => Some("use --task regression for a number, or another --label"),
            Self::Refused { source, .. } => source.hint(),
            Self::Width { .. } => {
                Some("leave columns out with --drop; the order of columns is the model's order")
            }
            Self::Scores { .. } => Some("check --label and --task, and which output the model gives first"),
            Self::TooFewRows { .. } => Some("fill missing cells, or collect more rows"),
            Self::Load(shoal_infer::LoadError::Refused(source)) => source.hint(),
            Self::GoldenLacks { .. } => Some("write the arrays with numpy.savez(file, x=…, y=…)"),
            _ => None,
        }
    }
}

/// Makes a package and writes it.
pub fn run(args: &PackArgs) -> Result<PackReport, PackError> {
    run_with(args, &mut |_progress| {})
}

/// The same, and says after each step of a fit how far it is.
pub fn run_with(args: &PackArgs, on_progress: &mut dyn FnMut(Progress)) -> Result<PackReport, PackError> {
    let Some(path) = &args.data else { return tensors::run(args) };
    let name = name(args)?;
    let (table, rows, classes) = data(args, path)?;
    let schema = Schema::of(&table);
    let (train, held_out) = rows.split(HELD_OUT, args.seed);
    let (onnx, fitted) = match &args.onnx {
        Some(path) => (model::read(path)?, None),
        None => {
            let made = fit::fit(args, &train, classes.len(), on_progress)?;
            (made.onnx, Some((made.report, made.temperature)))
        }
    };
    let model = model::Model::check(&onnx, &table, &classes, &held_out)?;
    let recipe = recipe(args)?;
    let (by, not_trainable) = match (check_recipe(&recipe, &onnx), &args.recipe) {
        (Ok(By::Gradients), _) => (By::Gradients, model.no_gradients.clone()),
        (Ok(by), _) => (by, Vec::new()),
        (Err(cause), None) => (By::Gradients, vec![chain(&cause)]),
        (Err(cause), Some(path)) => {
            return Err(PackError::Recipe { path: path.clone(), source: Box::new(cause) });
        }
    };
    let calibration = match &fitted {
        None => Calibration::of_given(&model, &held_out),
        Some((_, temperature)) => temperature.and_then(|one| Calibration::folded(&model, &held_out, one)),
    };
    let parts = build::Parts {
        name,
        table: &table,
        classes: &classes,
        train: &train,
        held_out: &held_out,
        schema: &schema,
        calibration: calibration.as_ref(),
        recipe,
    };
    let mut built = build::package(args, &parts, onnx, &model)?;
    let mut report = finish(args, &mut built.package)?;
    model.score(&train, &held_out, &mut report);
    let mut warnings = schema.warnings;
    if built.spacing >= SLOW {
        warnings.push(format!(
            "most features stay near themselves for {} rows, so that monitors will take one row in so many: pack with --shuffled where the rows are sorted or clustered, and not in the order of time",
            built.spacing
        ));
    }
    let golden_rows = built.golden_rows.unwrap_or_else(|reason| {
        warnings.push(format!("no golden rows: {reason}"));
        0
    });
    Ok(PackReport {
        features: table.width(),
        rows: table.rows(),
        complete_rows: rows.len(),
        held_out_rows: held_out.len(),
        fitted: args.fit.is_some(),
        retrained_by: not_trainable.is_empty().then_some(by),
        not_trainable,
        guard_rows: built.guard_rows,
        replay_rows: built.replay_rows,
        golden_rows,
        calibration,
        fit: fitted.map(|(report, _)| report),
        columns: schema.columns,
        warnings,
        classes,
        ..report
    })
}

fn recipe(args: &PackArgs) -> Result<Recipe, PackError> {
    let Some(path) = &args.recipe else { return Ok(Recipe::default()) };
    let text = fs::read_to_string(path).map_err(|source| PackError::Read { path: path.clone(), source })?;
    toml::from_str(&text)
        .map_err(|source| PackError::NoRecipe { path: path.clone(), source: Box::new(source) })
}

fn name(args: &PackArgs) -> Result<ModelName, PackError> {
    let file = args.data.as_ref().or(args.onnx.as_ref());
    let stem = || Some(file?.file_stem()?.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(stem).unwrap_or_default();
    ModelName::new(name.clone()).map_err(|source| PackError::Name { name, source })
}

fn data(args: &PackArgs, path: &Path) -> Result<(Table, Rows, Vec<String>), PackError> {
    let (task, column) = (args.task.unwrap_or(TaskArg::Classification), args.label.as_deref());
    let column = column.unwrap_or_default(); // --data asks for it
    let label = match task {
        TaskArg::Classification => Label::Classes(column),
        TaskArg::Regression => Label::Values(column),
    };
    let table = Table::read(path, Features::AllBut(&args.drop), Some(label))?;
    let (rows, classes) = complete(&table);
    if rows.len() < MIN_ROWS {
        return Err(PackError::TooFewRows { file: path.to_owned(), rows: rows.len() });
    }
    if task == TaskArg::Classification && classes.len() < 2 {
        return Err(PackError::OneClass { column: column.to_owned(), classes: classes.len() });
    }
    Ok((table, rows, classes))
}

/// The rows of a table that have a label and no missing value, and its classes.
#[must_use]
pub fn complete(table: &Table) -> (Rows, Vec<String>) {
    let mut rows = Rows::none(table.width(), matches!(table.targets, Targets::Classes { .. }));
    match &table.targets {
        Targets::None => (rows, Vec::new()),
        Targets::Classes { classes, rows: labels } => {
            for (at, class) in labels.iter().enumerate() {
                if let Some(class) = class {
                    rows.push_class(table.row(at), *class);
                }
            }
            (rows, classes.clone())
        }
        Targets::Values(labels) => {
            for (at, value) in labels.iter().enumerate() {
                if let Some(value) = value {
                    rows.push_value(table.row(at), *value);
                }
            }
            (rows, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests;
