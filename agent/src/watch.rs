//! `watch PACKAGE --data STREAM`: all monitors over a recorded stream, in one pass and in virtual time.

use crate::profile::answer;
use crate::stream::{Chunk, Columns, Stream, truth_of};
use crate::table::TableError;
use crate::vault::version_info;
use clap::Args;
use serde::Serialize;
use shoal_infer::{InferError, LoadError, Predictor, Rows as Scores};
use shoal_onnx::Limits;
use shoal_proto::finding::Finding;
use shoal_proto::id::Incarnation;
use shoal_proto::manifest::{Group, Manifest};
use shoal_proto::package::{MODEL, Package, PackageError};
use shoal_proto::summary::{DriftLevel, WindowId};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_watch::row::{Answer, Asked, Given, Row};
use shoal_watch::{Drift, Watch, Watched};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Values of a column that make groups, at most.
const MAX_VALUES: usize = 16;

/// Rows between two looks at the detectors.
const POLL_ROWS: u64 = 4;

/// What `watch` is asked for.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The package whose model and baseline the stream is held against.
    pub package: PathBuf,
    /// The stream, CSV with a header, oldest row first.
    #[arg(long, value_name = "CSV")]
    pub data: PathBuf,
    /// The column with the truth; without it performance is estimated only.
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// How many rows later a label comes.
    #[arg(long, value_name = "ROWS", default_value_t = 0, requires = "label")]
    pub label_delay: usize,
    /// A column whose values are groups that must not be treated differently; it need not be a feature.
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// The favourable answer to `--group`; the second class of two where it is not said.
    #[arg(long, value_name = "CLASS", requires = "group")]
    pub positive: Option<String>,
    /// A column that says where in the stream a row is (a batch, a day): findings name it.
    #[arg(long, value_name = "COLUMN")]
    pub mark: Option<String>,
    /// Rows of a window.
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..))]
    pub window: u64,
    /// Milliseconds from one row to the next.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub interval_ms: u64,
}

/// A stream that was not watched to its end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
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
    /// Its model.
    #[error("the model of `{path}` cannot be loaded")]
    Load {
        path: PathBuf,
        #[source]
        source: LoadError,
    },
    /// It takes tensors.
    #[error("the model of `{path}` has no features, so a table cannot be watched")]
    NoFeatures { path: PathBuf },
    /// The stream.
    #[error(transparent)]
    Stream(#[from] TableError),
    /// The model does not answer.
    #[error("the model does not answer row {row}")]
    Infer {
        row: u64,
        #[source]
        source: InferError,
    },
    /// A label that is neither a class nor a number.
    #[error("row {row}: label `{label}` is {expected}")]
    Label { row: u64, label: String, expected: String },
    /// A group that cannot be.
    #[error("`--group {column}`: {reason}")]
    Group { column: String, reason: String },
}

/// What was found in a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WatchReport {
    /// The model.
    pub model: String,
    /// Rows of the stream.
    pub rows: u64,
    /// Windows that were closed.
    pub windows: u64,
    /// In the order of time.
    pub findings: Vec<Placed>,
    /// The level of each window, in order.
    pub levels: Vec<DriftLevel>,
    /// Cells that held something and no number, by feature: they were taken for missing.
    pub foreign: BTreeMap<String, u64>,
    /// How the stream stands at its end.
    pub drift: Drift,
    /// Bytes of the monitors' state as it is written to disk.
    pub state_bytes: usize,
}

/// A finding, and where in the stream it was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placed {
    /// Rows seen when it was made.
    pub row: u64,
    /// About the row at which it began.
    pub since_row: u64,
    /// Of the row, where `--mark` was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The finding.
    pub finding: Finding,
    /// What a person should do about it.
    pub advice: &'static str,
}

/// Runs all monitors over a stream.
pub fn run(args: &WatchArgs) -> Result<WatchReport, WatchError> {
    let path = || args.package.clone();
    let bytes = std::fs::read(&args.package).map_err(|source| WatchError::Read { path: path(), source })?;
    let bad = |source| WatchError::Package { path: path(), source };
    let package = Package::from_archive(&bytes).map_err(bad)?;
    let mut manifest = package.manifest().map_err(bad)?;
    if manifest.features.is_empty() {
        return Err(WatchError::NoFeatures { path: path() });
    }
    if let Some(column) = &args.group {
        manifest.groups = vec![group(args, &manifest, column)?];
        let text = manifest.to_text();
        manifest = Manifest::parse(&text)
            .map_err(|cause| WatchError::Group { column: column.clone(), reason: cause.to_string() })?;
    }
    let onnx = package.file(MODEL).unwrap_or_default();
    let predictor = Predictor::load_exposing(onnx, manifest.output.embedding.as_deref(), &Limits::default())
        .map_err(|source| WatchError::Load { path: path(), source })?;
    let version = package.version().map_err(bad)?;
    let info = version_info(version, &package).map_err(bad)?;
    let watched = Watched { manifest: Arc::new(manifest), ..info.watched() };
    Pass::new(args, watched, predictor).run()
}

/// The group of a column: its values, which are found out first.
fn group(args: &WatchArgs, manifest: &Manifest, column: &str) -> Result<Group, WatchError> {
    if let Some(known) = manifest.groups.iter().find(|group| group.name == column) {
        return Ok(known.clone());
    }
    let others = [column.to_owned()];
    let mut stream = Stream::open(&args.data, Columns { others: &others, ..Columns::default() })?;
    let mut values: Vec<String> = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        for value in chunk.others {
            if !value.is_empty()
                && let Err(place) = values.binary_search(&value)
            {
                values.insert(place, value);
            }
        }
        if values.len() > MAX_VALUES {
            let reason = format!(
                "more than {MAX_VALUES} values; cut a feature in the package instead: `pack --group`"
            );
            return Err(WatchError::Group { column: column.to_owned(), reason });
        }
    }
    Ok(Group { name: column.to_owned(), values, positive: args.positive.clone(), ..Group::default() })
}

/// A row whose label has not come yet.
struct Pending {
    asked: Asked,
    features: Vec<f32>,
    class: Option<u32>,
    confidence: f32,
    values: Vec<f32>,
    named: Option<String>,
    label: String,
}

/// One pass over a stream.
struct Pass<'a> {
    args: &'a WatchArgs,
    watched: Watched,
    predictor: Predictor,
    watch: Watch,
    pending: VecDeque<Pending>,
    row: u64,
    report: Vec<Placed>,
    levels: Vec<DriftLevel>,
}

impl<'a> Pass<'a> {
    fn new(args: &'a WatchArgs, watched: Watched, predictor: Predictor) -> Self {
        let watch = Watch::new(&watched, window(0), WallMs(0));
        let (pending, report, levels) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { args, watched, predictor, watch, pending, row: 0, report, levels }
    }

    fn run(mut self) -> Result<WatchReport, WatchError> {
        let names: Vec<String> =
            self.watched.manifest.features.iter().map(|feature| feature.name.clone()).collect();
        let others: Vec<String> = self.args.mark.iter().chain(&self.args.group).cloned().collect();
        let columns = Columns { features: &names, label: self.args.label.as_deref(), others: &others };
        let mut stream = Stream::open(&self.args.data, columns)?;
        while let Some(chunk) = stream.next_chunk()? {
            self.take(&chunk, others.len())?;
        }
        while let Some(pending) = self.pending.pop_front() {
            self.label(&pending)?;
        }
        self.find(None);
        if self.watch.rows() > 0 {
            self.close(None);
        }
        let foreign = names.into_iter().zip(stream.foreign().iter().copied()).filter(|(_, cells)| *cells > 0);
        Ok(WatchReport {
            model: self.watched.manifest.display_name(),
            rows: self.row,
            windows: self.levels.len() as u64,
            findings: self.report,
            levels: self.levels,
            foreign: foreign.collect(),
            drift: self.watch.drift(),
            state_bytes: shoal_proto::wire::to_cbor(&self.watch).len(),
        })
    }

    fn take(&mut self, chunk: &Chunk, others: usize) -> Result<(), WatchError> {
        let width = self.watched.manifest.features.len();
        let answers = self
            .predictor
            .rows(chunk.rows, &chunk.features)
            .map_err(|source| WatchError::Infer { row: self.row, source })?;
        let embeddings = if self.predictor.is_exposing() {
            let made = self.predictor.exposed_rows(chunk.rows, &chunk.features);
            made.map_err(|source| WatchError::Infer { row: self.row, source })?
        } else {
            Scores { width: 0, values: Vec::new() }
        };
        for at in 0..chunk.rows {
            let embedding = &embeddings.values[at * embeddings.width..(at + 1) * embeddings.width];
            let features = &chunk.features[at * width..(at + 1) * width];
            let values = &answers.values[at * answers.width..(at + 1) * answers.width];
            let judged = answer(self.watched.manifest.output.kind, values);
            let (class, confidence) = judged.map_or((None, 0.0), |(class, sure)| (Some(class), sure));
            let named = |place: usize| chunk.others.get(at * others + place).cloned();
            let mark = self.args.mark.as_ref().and_then(|_| named(0));
            let group = self.args.group.as_ref().and_then(|_| named(others - 1));
            self.row += 1;
            let asked = Asked { life: 1, number: self.row };
            let answer = Answer { class, confidence, values };
            let groups =
                group.as_deref().map_or_else(Default::default, |value| self.watch.named(&[(0, value)]));
            let at_ms = Mono::from_millis(self.row * self.args.interval_ms);
            self.watch.observe(&Row { asked, at: at_ms, features, answer, embedding, groups });
            if let Some(label) = chunk.labels.get(at) {
                self.pending.push_back(Pending {
                    asked,
                    features: features.to_vec(),
                    class,
                    confidence,
                    values: values.to_vec(),
                    named: group,
                    label: label.clone(),
                });
                if self.pending.len() > self.args.label_delay {
                    let due = self.pending.pop_front().expect("one was pushed just now");
                    self.label(&due)?;
                }
            }
            if self.row.is_multiple_of(POLL_ROWS) {
                self.find(mark.as_ref());
            }
            if self.watch.rows() >= self.args.window {
                self.close(mark.as_ref());
            }
        }
        Ok(())
    }

    fn label(&mut self, pending: &Pending) -> Result<(), WatchError> {
        if pending.label.is_empty() {
            return Ok(());
        }
        let truth =
            truth_of(&self.watched.manifest, &pending.label).map_err(|expected| WatchError::Label {
                row: pending.asked.number,
                label: pending.label.chars().take(80).collect(),
                expected,
            })?;
        let (class, confidence) = (pending.class, pending.confidence);
        let answer = Answer { class, confidence, values: &pending.values };
        let named: Vec<(usize, &str)> = pending.named.iter().map(|value| (0, value.as_str())).collect();
        let groups = self.watch.named(&named);
        self.watch.label(&Given { asked: pending.asked, features: &pending.features, answer, truth, groups });
        Ok(())
    }

    fn now(&self) -> Now {
        let ms = self.row * self.args.interval_ms;
        Now { mono: Mono::from_millis(ms), wall: WallMs(ms) }
    }

    fn find(&mut self, mark: Option<&String>) {
        let findings = self.watch.poll(self.now());
        self.place(findings, mark);
    }

    fn close(&mut self, mark: Option<&String>) {
        let next = window(self.levels.len() as u64 + 1);
        let closed = self.watch.close(self.now(), next);
        self.levels.push(closed.summary.level);
        self.place(closed.findings, mark);
    }

    fn place(&mut self, findings: Vec<Finding>, mark: Option<&String>) {
        for finding in findings {
            let since = finding.since.map_or(self.row, |since| since.0 / self.args.interval_ms.max(1));
            self.report.push(Placed {
                row: self.row,
                since_row: since.min(self.row),
                mark: mark.cloned(),
                advice: finding.monitor.advice(),
                finding,
            });
        }
    }
}

fn window(number: u64) -> WindowId {
    WindowId { incarnation: Incarnation(1), number }
}

impl WatchError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Stream(cause) => cause.hint(),
            Self::Label { .. } => Some("an empty cell is a row without a label"),
            Self::NoFeatures { .. } => Some("pack the model with --data to watch its features"),
            Self::Read { .. }
            | Self::Package { .. }
            | Self::Load { .. }
            | Self::Infer { .. }
            | Self::Group { .. } => None,
        }
    }
}
