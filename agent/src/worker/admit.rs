//! Whether a version may be parsed by the server: in the child.

use super::answer::{AnswerError, Judge};
use super::confine::Confined;
use super::golden::{Golden, GoldenError};
use super::job::{AdmitJob, Answer, Why};
use super::{WorkerError, chain};
use crate::admission::AdmissionReport;
use crate::clock::Clock;
use crate::rows::{Rows, RowsError};
use crate::vault::{Vault, VaultError};
use shoal_infer::{Admission, LoadError, Predictor, Refused, odd_rows, sample_row, trial, warm_up};
use shoal_onnx::{Limits, OnnxModel};
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{GOLDEN, GUARD, MODEL, Package, PackageError};
use std::time::Duration;

/// Runs of one row whose median is told.
const TIMED_RUNS: usize = 21;
/// Time after which no further run is begun.
const TIMED_FOR: Duration = Duration::from_millis(250);

/// Why a version may not be served.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It cannot be had.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It contradicts itself.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The engine cannot serve it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The manifest speaks of another graph.
    #[error("model.toml does not fit the model: {reason}")]
    Manifest { reason: String },
    /// The guard set cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// It does not answer the guard set.
    #[error("guard set")]
    Guard(#[from] AnswerError),
    /// The golden inputs cannot be read.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// It took more memory than it may.
    #[error("the model took {peak_bytes} bytes of memory, {allowed_bytes} are allowed")]
    Memory { peak_bytes: u64, allowed_bytes: u64 },
}

impl AdmitError {
    /// A word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vault(_) | Self::Package(_) => "package",
            Self::Refused(cause) => cause.kind(),
            Self::Manifest { .. } => "manifest",
            Self::Rows(_) | Self::Guard(_) => "guard",
            Self::Golden(_) => "golden",
            Self::Memory { .. } => "memory",
        }
    }
}

/// Reads the package, then confines this process before anything of it is parsed.
pub(super) fn answer(job: &AdmitJob) -> Result<Answer<AdmissionReport>, WorkerError> {
    let no = |cause: AdmitError, peak_bytes| {
        Answer::No(Why { kind: cause.kind().to_owned(), reason: chain(&cause), peak_bytes, search: None })
    };
    let package = match Vault::join(&job.state).get(job.version) {
        Ok(package) => package,
        Err(cause) => return Ok(no(cause.into(), None)),
    };
    warm_up(); // the engine looks at the processor's description once, which is a file
    let confined = Confined::enter(&job.limits)?;
    let outcome = admit_package(&package, confined.start_bytes);
    drop(package);
    let peak_bytes = confined.peak_bytes();
    Ok(match outcome {
        Ok(_) if peak_bytes.is_some_and(|peak| peak > confined.memory_bytes) => {
            let (peak, allowed_bytes) = (peak_bytes.unwrap_or_default(), confined.memory_bytes);
            no(AdmitError::Memory { peak_bytes: peak, allowed_bytes }, peak_bytes)
        }
        Ok(report) => Answer::Yes(AdmissionReport { peak_bytes: peak_bytes.unwrap_or_default(), ..report }),
        Err(cause) => no(cause, peak_bytes),
    })
}

/// Parses, optimises and runs the model, holds the manifest against it, and has it answer the golden
/// inputs and the guard set.
pub(super) fn admit_package(package: &Package, start_bytes: u64) -> Result<AdmissionReport, AdmitError> {
    let manifest = package.manifest()?;
    let onnx = package.file(MODEL).ok_or(PackageError::Lacks { name: MODEL })?;
    let clock = Clock::start();
    let parameters = OnnxModel::parse(onnx, &Limits::default())
        .map_err(|cause| Refused::Load(LoadError::from(cause)))?
        .parameter_count();
    let inside = manifest.output.embedding.as_deref();
    let predictor = Predictor::load_exposing(onnx, inside, &Limits::default()).map_err(Refused::from)?;
    let load_ms = clock.mono().0.as_secs_f64() * 1e3;
    let golden = package.file(GOLDEN).map(Golden::from_npz).transpose()?;
    let pair = golden.as_ref().map(|golden| (golden.inputs.as_slice(), golden.outputs.as_slice()));
    let model = Admission::of(&predictor, parameters, trial(&predictor, pair)?);
    fits(&manifest, &model)?;
    let row_us = row_us(&predictor, &clock);
    for row in odd_rows(&predictor) {
        // An error is an answer, and a panic is caught wherever the model runs: only an end of this child
        // by memory or time counts.
        drop(predictor.infer(&row));
    }
    if !manifest.features.is_empty() {
        guard(package, &manifest, predictor)?;
    }
    Ok(AdmissionReport { model, load_ms, row_us, start_bytes, peak_bytes: 0 })
}

/// The median run of one row, as far as it can be fed one.
fn row_us(predictor: &Predictor, clock: &Clock) -> Option<f64> {
    let row = sample_row(predictor);
    let begun = clock.mono();
    let mut runs = Vec::with_capacity(TIMED_RUNS);
    while runs.len() < TIMED_RUNS && (runs.is_empty() || clock.mono().since(begun) < TIMED_FOR) {
        let start = clock.mono();
        predictor.infer(&row).ok()?;
        runs.push(clock.mono().since(start));
    }
    runs.sort_unstable();
    Some(runs.get(runs.len() / 2)?.as_secs_f64() * 1e6)
}

fn guard(package: &Package, manifest: &Manifest, predictor: Predictor) -> Result<(), AdmitError> {
    let judge = Judge::of(predictor, manifest);
    if let Some(bytes) = package.file(GUARD) {
        let guard = Rows::from_npz(GUARD, bytes, manifest.features.len())?;
        judge.right(&guard, 0.0)?;
    } else {
        let mut zeros = Rows::none(manifest.features.len(), true);
        zeros.push_class(&vec![0.0; manifest.features.len()], 0);
        judge.answers(&zeros)?;
    }
    Ok(())
}

fn fits(manifest: &Manifest, model: &Admission) -> Result<(), AdmitError> {
    let no = |reason: String| Err(AdmitError::Manifest { reason });
    if manifest.features.is_empty() {
        return fits_tensors(manifest, model);
    }
    let [input] = model.inputs.as_slice() else {
        return no(format!("the model has {} inputs, expected 1", model.inputs.len()));
    };
    if input.name != manifest.input.tensor {
        return no(format!("the model's input is `{}`, expected `{}`", input.name, manifest.input.tensor));
    }
    let features = manifest.features.len();
    if model.row_width != Some(features) {
        let got = model.row_width.map_or_else(|| "no plain rows".into(), |width| width.to_string());
        return no(format!("the model takes {got}, model.toml names {features} features"));
    }
    let scores = model.outputs.iter().find(|output| output.datatype.is_float());
    match scores {
        Some(output) if output.name == manifest.output.tensor => Ok(()),
        Some(output) => {
            no(format!("the model's scores are `{}`, expected `{}`", output.name, manifest.output.tensor))
        }
        None => no("the model has no output of floating point numbers".into()),
    }
}

/// A model that takes tensors may take several, of any shape: only the names must be right.
fn fits_tensors(manifest: &Manifest, model: &Admission) -> Result<(), AdmitError> {
    let no = |reason: String| Err(AdmitError::Manifest { reason });
    match model.inputs.first() {
        Some(input) if input.name == manifest.input.tensor => {}
        Some(input) => {
            let (got, expected) = (&input.name, &manifest.input.tensor);
            return no(format!("the model's first input is `{got}`, expected `{expected}`"));
        }
        None => return no("the model has no input".into()),
    }
    let expected = &manifest.output.tensor;
    match model.outputs.iter().find(|output| output.name == *expected) {
        Some(output) if output.datatype.is_float() => Ok(()),
        Some(output) => {
            no(format!("output `{expected}` is {}, expected floating point numbers", output.datatype))
        }
        None => no(format!("the model has no output `{expected}`")),
    }
}
