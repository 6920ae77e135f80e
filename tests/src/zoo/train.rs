//! `zoo train`: gradients of every model of a folder, and what its steps cost.
//!
//! The reference of a gradient is the engine's own in 64 bits, which is held against the `.grad.npz` where
//! names agree, and against differences of the loss along random directions in any case: exporters rename,
//! fold and transpose what they train.

mod check;
mod time;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use shoal_infer::read_npz;
use shoal_learn::{Dataset, LearnError, LossKind, Targets};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use check::Checked;
use time::Timed;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// A folder of `NAME.onnx` with `NAME.grad.npz`; `NAME.DIALECT.onnx` is checked with those of `NAME`,
    /// where it has none of its own.
    dir: PathBuf,
    /// Print JSON objects, one a line, instead of the table.
    #[arg(long)]
    json: bool,
    /// Only models whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// Do not time steps.
    #[arg(long)]
    no_times: bool,
    /// Seconds of each measurement of steps.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rows of a timed step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Work on this model only, in this process: what each child is told.
    #[arg(long, hide = true)]
    alone: Option<PathBuf>,
}

/// What became of a model.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    model: String,
    /// Why it has no numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<String>,
    /// A quantised dialect of a float model, which alone is trained.
    #[serde(default)]
    is_quantised: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    checked: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timed: Option<Timed>,
}

/// Whether all models have the gradients they must.
pub(super) fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(onnx) = &args.alone {
        let line = alone(onnx, args);
        std::io::stdout().write_all((serde_json::to_string(&line)? + "\n").as_bytes())?;
        return Ok(line.is_right());
    }
    let mut models: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&args.dir).with_context(|| args.dir.display().to_string())? {
        let path = entry?.path();
        let is_wanted = args.only.as_ref().is_none_or(|only| name_of(&path).contains(only.as_str()));
        if path.extension().is_some_and(|end| end == "onnx") && is_wanted {
            models.push(path);
        }
    }
    models.sort();
    let (models, others): (Vec<PathBuf>, Vec<PathBuf>) =
        models.into_iter().partition(|path| reference_of(path).is_some());
    ensure!(!models.is_empty(), "no .onnx file with a .grad.npz in `{}`", args.dir.display());
    let width = models.iter().map(|path| name_of(path).len()).max().unwrap_or(0).max(5);
    let mut out = std::io::stdout();
    if !args.json {
        out.write_all(heading(width).as_bytes())?;
    }
    let mut wrong = Vec::new();
    for onnx in &models {
        let line = child(onnx, args)?;
        let text = if args.json { serde_json::to_string(&line)? + "\n" } else { line.text(width) };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if !line.is_right() {
            wrong.push(line.model);
        }
    }
    if !args.json {
        let others: Vec<String> = others.iter().map(|path| name_of(path)).collect();
        if !others.is_empty() {
            writeln!(out, "without a .grad.npz, skipped: {}", others.join(", "))?;
        }
        let right = models.len() - wrong.len();
        writeln!(out, "{} models: {right} right, {} wrong {}", models.len(), wrong.len(), wrong.join(" "))?;
    }
    Ok(wrong.is_empty())
}

/// Checks and times a model in a process of its own, whose memory can be told.
fn child(onnx: &Path, args: &Args) -> anyhow::Result<Line> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["train", "--alone"]).arg(onnx).arg(&args.dir);
    command.args(["--seconds", &args.seconds.to_string(), "--batch", &args.batch.to_string()]);
    if args.no_times {
        command.arg("--no-times");
    }
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let last = String::from_utf8_lossy(&done.stdout).lines().last().unwrap_or_default().to_owned();
    Ok(serde_json::from_str(&last).unwrap_or_else(|_| Line {
        model: name_of(onnx),
        error: Some(format!("the process ended with {}", done.status)),
        is_quantised: false,
        checked: None,
        timed: None,
    }))
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The gradients of a model, or of what it is a dialect of.
fn reference_of(onnx: &Path) -> Option<PathBuf> {
    let name = name_of(onnx);
    let base = name.split('.').next().unwrap_or_default().to_owned();
    let found = [name.clone(), base].into_iter().map(|name| onnx.with_file_name(format!("{name}.grad.npz")));
    found.into_iter().find(|path| path.exists())
}

/// Rows and gradients of a `.grad.npz`.
pub(super) struct Reference {
    pub(super) data: Dataset,
    pub(super) loss: f64,
    pub(super) gradients: BTreeMap<String, Vec<f64>>,
    /// How far 32 bits of PyTorch are from 64.
    pub(super) rounding: BTreeMap<String, f64>,
}

impl Reference {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let arrays = read_npz(&std::fs::read(path)?)?;
        let find = |name: &str| {
            arrays.iter().find(|array| array.name == name).with_context(|| format!("no array `{name}`"))
        };
        let (x, t) = (find("x")?, find("t")?);
        let width = x.shape.get(1..).unwrap_or_default().iter().product();
        #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
        let features = check::numbers(x)?.into_iter().map(|value| value as f32).collect();
        let targets = match t.i64s() {
            Some(classes) => {
                Targets::Classes(classes.iter().map(|c| u32::try_from(*c)).collect::<Result<_, _>>()?)
            }
            None => {
                #[expect(clippy::cast_possible_truncation, reason = "targets are f32")]
                let values: Vec<f32> = check::numbers(t)?.into_iter().map(|value| value as f32).collect();
                Targets::Values { width: t.shape.get(1..).unwrap_or_default().iter().product(), values }
            }
        };
        let named = |prefix: &str| -> anyhow::Result<BTreeMap<String, Vec<f64>>> {
            let with =
                arrays.iter().filter_map(|array| Some((array.name.strip_prefix(prefix)?.to_owned(), array)));
            with.map(|(name, array)| Ok((name, check::numbers(array)?))).collect()
        };
        let first = |values: Vec<f64>| values.first().copied().unwrap_or(0.0);
        Ok(Self {
            data: Dataset::new(width, features, targets, Vec::new())?,
            loss: first(check::numbers(find("loss")?)?),
            gradients: named("g:")?,
            rounding: named("e:")?.into_iter().map(|(name, values)| (name, first(values))).collect(),
        })
    }
}

fn alone(onnx: &Path, args: &Args) -> Line {
    let mut line =
        Line { model: name_of(onnx), error: None, is_quantised: false, checked: None, timed: None };
    let work = || -> anyhow::Result<(Checked, Option<Timed>)> {
        let path = reference_of(onnx).context("no .grad.npz")?;
        let is_own = name_of(&path.with_extension("")) == name_of(onnx);
        let bytes = std::fs::read(onnx)?;
        let reference = Reference::read(&path)?;
        let loss = check::loss_kind(&bytes, &reference)?;
        let timed = if args.no_times {
            None
        } else {
            Some(time::time(&bytes, &reference.data, loss, args.batch, args.seconds)?)
        };
        Ok((check::check(&bytes, &reference, loss, is_own)?, timed))
    };
    match work() {
        Ok((checked, timed)) => (line.checked, line.timed) = (Some(checked), timed),
        Err(cause) => {
            let quantised = LearnError::NoParameters { is_quantised: true }.to_string();
            line.is_quantised = cause.chain().any(|cause| cause.to_string() == quantised);
            line.error = Some(format!("{cause:#}"));
        }
    }
    line
}

fn heading(width: usize) -> String {
    format!(
        "{:<width$}  loss diff  worst gradient error           by difference  SGD ms  AdamW ms  plan MiB  peak MiB\n",
        "model"
    )
}

impl Line {
    fn is_right(&self) -> bool {
        self.is_quantised || self.checked.as_ref().is_some_and(|checked| checked.wrong.is_empty())
    }

    fn text(&self, width: usize) -> String {
        let model = &self.model;
        let Some(checked) = &self.checked else {
            let word = if self.is_quantised { "refused" } else { "FAIL" };
            return format!("{model:<width$}  {word}  {}\n", self.error.as_deref().unwrap_or_default());
        };
        let worst = format!("{:.1e} {}", checked.worst, checked.worst_parameter);
        let mut text = format!(
            "{model:<width$}  {:>9.1e}  {worst:<29.29}  {:>13.1e}",
            checked.loss_difference, checked.along
        );
        if let Some(timed) = &self.timed {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            text += &format!(
                "  {:>6.3}  {:>8.3}  {:>8.1}  {:>8.1}",
                timed.sgd_ms,
                timed.adamw_ms,
                mib(timed.planned_bytes),
                mib(timed.peak_bytes)
            );
        }
        for wrong in &checked.wrong {
            text += &format!("\n{:<width$}  WRONG {wrong}", "");
        }
        text + "\n"
    }
}

/// The loss that the reference means.
pub(super) type Kind = LossKind;
