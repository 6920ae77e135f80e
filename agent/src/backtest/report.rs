//! What a backtest came to.

use super::choose::Choosing;
use super::journal::{RunReport, VersionReport};
use super::parts::PartReport;
use super::score::{Beside, Course, Figures};
use super::world::Took;
use crate::adapting::Adapted;
use crate::core::Policy;
use crate::watch::Placed;
use crate::worker::resident_bytes;
use serde::Serialize;
use shoal_proto::fact::TrialPolicy;
use shoal_proto::manifest::Task;
use std::collections::BTreeMap;
use std::time::Duration;

/// Ticks of the kernel's clock in a second, as `/proc` counts processor time: the same on every Linux that we
/// build for.
const TICKS_PER_S: f64 = 100.0;
/// Fields of `/proc/self/stat` after the name: time in the program, and time in the kernel for it.
const CPU_FIELDS: std::ops::Range<usize> = 11..13;

/// The whole of it. The same package, stream, options and seed give the same on the same build and kind of
/// CPU, but for `spent`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BacktestReport {
    /// The model.
    pub model: String,
    /// What it answers.
    pub task: Task,
    /// Rows of the stream.
    pub rows: u64,
    /// Virtual milliseconds from one row to the next.
    pub interval_ms: u64,
    /// What choices by lot follow from.
    pub seed: u64,
    /// What the loop was run by.
    pub policy: PolicyReport,
    /// The labels that it was given.
    pub labels: LabelReport,
    /// How right it was.
    pub figures: FiguresReport,
    /// The column that results are told by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The same for each of its values, in the order in which they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartReport>,
    /// What the monitors found, in order.
    pub findings: Vec<Placed>,
    /// Findings beyond those that are kept.
    pub more_findings: u64,
    /// Training runs, in order.
    pub runs: Vec<RunReport>,
    /// Versions that served, in the order in which they first did.
    pub versions: Vec<VersionReport>,
    /// What training waits for at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What adaptation of the version that serves at the end has come to; none where its package does not say what
    /// inputs looked like, or it is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adapted>,
    /// What should not have been.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Cells that held something and no number, by feature: they were taken for missing.
    pub foreign: BTreeMap<String, u64>,
    /// How it went over time.
    pub course: Course,
    /// What it took, on this machine.
    pub spent: Spent,
}

/// Settings of the loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyReport {
    /// Rows after which a window closes.
    pub window_rows: u64,
    /// Virtual seconds after which it closes, however few rows it has.
    pub window_s: u64,
    /// Whether the loop trains.
    pub retrain: bool,
    /// Labels since the last run that the next one waits for, at least.
    pub min_labels: u64,
    /// Virtual seconds of rest between two runs.
    pub cooldown_s: u64,
    /// Share of the newest labelled rows that are never trained on.
    pub holdout_share: f64,
    /// How a version born here is judged on trial.
    pub trial: TrialPolicy,
}

impl PolicyReport {
    pub(super) fn of(policy: &Policy) -> Self {
        Self {
            window_rows: policy.window_rows,
            window_s: policy.window.as_secs(),
            retrain: policy.retrain,
            min_labels: policy.min_labels,
            cooldown_s: policy.cooldown.as_secs(),
            holdout_share: policy.holdout_share,
            trial: policy.trial,
        }
    }
}

/// Labels that the loop was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LabelReport {
    /// Rows from a prediction to its label.
    pub delay_rows: u64,
    /// At most so many, of the stream or of each run of rows; absent where all were given, nought where none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// The column whose runs of rows the budget is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_of: Option<String>,
    /// By which rule they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<&'static str>,
    /// Asked for.
    pub asked: u64,
    /// Given before the stream was over.
    pub used: u64,
}

impl LabelReport {
    pub(super) fn set(&mut self, args: &super::BacktestArgs) {
        self.delay_rows = args.label_delay;
        if args.no_labels {
            self.budget = Some(0);
        }
        if let Some(budget) = &args.label_budget {
            self.budget = Some(budget.labels);
            self.budget_of.clone_from(&budget.column);
            self.chosen = Some(match args.choose {
                Choosing::Active => "active",
                Choosing::First => "first",
                Choosing::Random => "random",
            });
        }
    }
}

/// How right the answers were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FiguresReport {
    /// Every row with a label in the stream, answered when it came and before its label (prequential).
    pub all: Beside,
    /// Of these, the rows whose label the loop did not ask for.
    pub unasked: Beside,
    /// Those rows again, answered by the version that served when their part ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Figures>,
    /// Means over parts, each of the same weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_means: Option<PartMeans>,
}

/// Means over parts of accuracy, or of the mean absolute error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartMeans {
    /// Of the loop.
    #[serde(rename = "loop")]
    pub looped: Option<f64>,
    /// Of the package's model.
    #[serde(rename = "static")]
    pub fixed: Option<f64>,
    /// Of the last label, repeated.
    pub no_change: Option<f64>,
    /// Of the loop, where it did not ask for the label.
    pub unasked: Option<f64>,
    /// Of the loop as it was at the end of the part, where it did not ask for the label.
    pub after: Option<f64>,
}

impl PartMeans {
    pub(super) fn of(parts: &[PartReport]) -> Option<Self> {
        let mean = |of: &dyn Fn(&PartReport) -> Option<f64>| {
            let all: Vec<f64> = parts.iter().filter_map(of).collect();
            #[expect(clippy::cast_precision_loss, reason = "parts are few")]
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        (!parts.is_empty()).then(|| Self {
            looped: mean(&|part| part.all.looped.first()),
            fixed: mean(&|part| part.all.fixed.first()),
            no_change: mean(&|part| part.all.no_change.first()),
            unasked: mean(&|part| part.unasked.looped.first()),
            after: mean(&|part| part.after.and_then(|after| after.first())),
        })
    }
}

/// What a backtest took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spent {
    /// By the clock.
    pub wall_s: f64,
    /// Of processors, the whole process.
    pub cpu_s: f64,
    /// Most memory that was resident, the whole process, in bytes.
    pub peak_bytes: u64,
    /// Microseconds a row, in all.
    pub row_us: f64,
    /// Of these, the model that served.
    pub predict_us: f64,
    /// The core: monitors, triggers, trials.
    pub monitor_us: f64,
    /// Adaptation: the inputs' moments, the head.
    pub adapt_us: f64,
    /// Samples to disk.
    pub store_us: f64,
    /// Training and measuring candidates.
    pub train_us: f64,
    /// Admission of candidates.
    pub admit_us: f64,
}

impl Spent {
    pub(super) fn of(took: &Took, wall: Duration, rows: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
        let a_row = |time: Duration| time.as_secs_f64() * 1e6 / rows.max(1) as f64;
        Self {
            wall_s: wall.as_secs_f64(),
            cpu_s: cpu_s(),
            peak_bytes: resident_bytes("VmHWM:"),
            row_us: a_row(wall),
            predict_us: a_row(took.predict),
            monitor_us: a_row(took.core),
            adapt_us: a_row(took.adapt),
            store_us: a_row(took.store),
            train_us: a_row(took.train),
            admit_us: a_row(took.admit),
        }
    }
}

/// Processor time of this process; nought where `/proc` is not to be had.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks =
        fields.get(CPU_FIELDS).unwrap_or_default().iter().filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_S
}
