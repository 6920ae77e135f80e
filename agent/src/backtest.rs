//! `backtest PACKAGE --data STREAM --label COLUMN`: the whole on-device loop over a recorded stream, in virtual
//! time and as fast as it goes.
//!
//! The production core decides; monitors, gate and trial are those of a device, samples go to a real database,
//! training and admission run as their children do. Each row is answered before its label is known, and beside
//! the loop stand the package's model as it is, and the last label repeated.

mod choose;
mod feed;
mod html;
mod journal;
mod parts;
mod pass;
mod report;
mod score;
mod world;

pub use choose::{Choosing, LabelBudget};
pub use journal::{EndReport, RunReport, VersionReport};
pub use parts::PartReport;
pub use report::{BacktestReport, FiguresReport, LabelReport, PartMeans, PolicyReport, Spent};
pub use score::{Beside, Course, Figures, Step};

use crate::config::ConfigError;
use crate::file::{FileError, write_atomic};
use crate::store::StoreError;
use crate::table::TableError;
use crate::vault::VaultError;
use clap::Args;
use shoal_infer::InferError;
use shoal_proto::package::PackageError;
use std::io;
use std::path::PathBuf;

/// What `backtest` is asked for.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER)]
pub struct BacktestArgs {
    /// The package that the device begins with.
    pub package: PathBuf,
    /// The stream, CSV with a header, oldest row first.
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// The column with the truth: answers are scored by it, and the loop learns from it what it is given.
    #[arg(long, value_name = "COLUMN")]
    pub label: String,
    /// Rows that come between a row and its label.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    pub label_delay: u64,
    /// Labels that the loop may ask for, at most: N in all, or N/COLUMN for each run of rows with the same value
    /// in a column, such as 20/batch.
    #[arg(long, value_name = "N[/COLUMN]")]
    pub label_budget: Option<LabelBudget>,
    /// By which rule a budget is spent.
    #[arg(long, value_enum, default_value_t = Choosing::Active, requires = "label_budget")]
    pub choose: Choosing,
    /// The loop is given no label at all.
    #[arg(long, conflicts_with = "label_budget")]
    pub no_labels: bool,
    /// A column by whose values results are told; the budget's unless told.
    #[arg(long, value_name = "COLUMN")]
    pub by: Option<String>,
    /// Settings of the loop: `[watch]`, `[retrain]`, `[trial]` and `[samples]` as in agent.toml, or a whole
    /// agent.toml; a device's defaults unless told.
    #[arg(long, value_name = "TOML")]
    pub policy: Option<PathBuf>,
    /// Virtual milliseconds from one row to the next; as the package's rows came unless told, or 1000.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=MAX_INTERVAL_MS))]
    pub interval_ms: Option<u64>,
    /// What choices by lot follow from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop after so many rows.
    #[arg(long, value_name = "ROWS")]
    pub until: Option<u64>,
    /// Write a report for a browser, one file.
    #[arg(long, value_name = "HTML")]
    pub html: Option<PathBuf>,
}

/// A day from one row to the next.
const MAX_INTERVAL_MS: u64 = 86_400_000;

/// What `--help` ends with.
const AFTER: &str = "\
Time is virtual: windows, cool-down and trials are counted in it, so that with a row a second the device's \
default cool-down of an hour is 3,600 rows. Say how rows really come with --interval-ms, or set [watch], \
[retrain] and [trial] with --policy. Training, admission and swaps take no virtual time.";

impl BacktestArgs {
    /// The column that results are told by.
    fn told_by(&self) -> Option<&str> {
        self.by.as_deref().or(self.budget_of())
    }

    /// The column whose runs of rows have a budget each.
    fn budget_of(&self) -> Option<&str> {
        self.label_budget.as_ref()?.column.as_deref()
    }
}

/// A backtest that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The package's file.
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The package.
    #[error("package `{path}` cannot be used")]
    Package {
        path: PathBuf,
        #[source]
        source: PackageError,
    },
    /// It takes tensors.
    #[error("the model of `{path}` has no features, so a table cannot be played to it")]
    NoFeatures { path: PathBuf },
    /// The stream.
    #[error(transparent)]
    Stream(#[from] TableError),
    /// Nothing to play.
    #[error("`{path}` has no rows")]
    Empty { path: PathBuf },
    /// Nothing to score by.
    #[error("column `{column}` holds no label")]
    NoTruth { column: String },
    /// A label that is neither a class nor a number.
    #[error("row {row}: label `{label}` is {expected}")]
    Label { row: u64, label: String, expected: String },
    /// Too many parts.
    #[error("the column that results are told by has more than {} values", parts::MAX_PARTS)]
    Parts,
    /// The settings of the loop.
    #[error(transparent)]
    Policy(#[from] ConfigError),
    /// The package's model is not admitted, or does not load.
    #[error("the package's model does not serve: {reason}")]
    NotServed { reason: String },
    /// A model does not answer.
    #[error("the model does not answer after row {row}")]
    Infer {
        row: u64,
        #[source]
        source: InferError,
    },
    /// The device's folder.
    #[error("failed to make a folder for the device")]
    Folder(#[source] io::Error),
    /// Its samples.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its versions.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A file: its key, or the report.
    #[error(transparent)]
    File(#[from] FileError),
}

impl BacktestError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Stream(cause) => cause.hint(),
            Self::Label { .. } => Some("an empty cell is a row without a label"),
            Self::NoFeatures { .. } => Some("pack the model with --data, so that its features have names"),
            Self::Parts => Some("give a column that stays the same for many rows: a batch, a day, a site"),
            Self::Read { .. }
            | Self::Package { .. }
            | Self::Empty { .. }
            | Self::NoTruth { .. }
            | Self::Policy(_)
            | Self::NotServed { .. }
            | Self::Infer { .. }
            | Self::Folder(_)
            | Self::Store(_)
            | Self::Vault(_)
            | Self::File(_) => None,
        }
    }
}

/// Plays a stream to a device. It blocks, and must not be called from a task.
pub fn run(args: &BacktestArgs) -> Result<BacktestReport, BacktestError> {
    let report = pass::Pass::new(args)?.run(&mut |_outcome| {})?;
    if let Some(path) = &args.html {
        write_atomic(path, html::page(&report).as_bytes())?;
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
