//! What a model or a package is, before anything is done with it.

use crate::worker::{By, Golden, chain, check_recipe};
use clap::Args;
use serde::Serialize;
use shoal_onnx::{InputAffine, Inspection, Leaves, Limits, Refusal, Role, Servable, TensorSpec, inspect};
use shoal_proto::id::Digest;
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{GOLDEN, MAX_PACKAGE_BYTES, MODEL, Package, PackageError, REFERENCE};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// Copies of the weights in memory while a model is optimised: the file, its decoded form, the engine's
/// and the optimised one.
const COPIES_AT_LOAD: u64 = 4;
/// The first bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What `inspect` is asked for.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A model (.onnx) or a package (.shoal).
    pub file: PathBuf,
}

/// What a file is.
#[derive(Debug, Clone, Serialize)]
pub struct InspectReport {
    /// Which file.
    pub file: PathBuf,
    /// What the package says, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageReport>,
    /// The model.
    pub model: Inspection,
    /// Memory that loading takes, roughly.
    pub load_bytes: u64,
    /// What training would take; absent where it cannot be trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingReport>,
}

/// What training a model would take.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingReport {
    /// Every stored tensor.
    pub tensors: Vec<TensorReport>,
    /// Bytes of a run over all parameters with Adam, by rows at once.
    pub bytes: BTreeMap<usize, usize>,
}

/// A stored tensor.
#[derive(Debug, Clone, Serialize)]
pub struct TensorReport {
    /// The initialiser's name.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// `weight`, `bias` or `norm` where it is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_as: Option<&'static str>,
    /// Why it is not trained, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_trained: Option<&'static str>,
}

/// Rows at once whose memory is told.
const BATCHES: [usize; 3] = [1, 8, 32];

fn training(onnx: &[u8]) -> Option<TrainingReport> {
    let planned = shoal_learn::plan(onnx, &shoal_learn::Recipe::default(), &BATCHES).ok()?;
    let tensors = planned.tensors.into_iter().map(|tensor| TensorReport {
        name: tensor.name,
        shape: tensor.dims,
        trained_as: tensor.role.ok().map(|role| match role {
            Role::Weight => "weight",
            Role::Bias => "bias",
            Role::Norm => "norm",
        }),
        not_trained: tensor.role.err(),
    });
    Some(TrainingReport { tensors: tensors.collect(), bytes: planned.bytes.into_iter().collect() })
}

/// What a package says.
#[derive(Debug, Clone, Serialize)]
pub struct PackageReport {
    /// For people: `gas@3`.
    pub name: String,
    /// Its identity.
    pub version: Digest,
    /// Files and their sizes.
    pub files: BTreeMap<String, u64>,
    /// Keys that signed it; whether they are trusted is another question.
    pub signed_by: Vec<String>,
    /// Rows of the baseline.
    pub baseline_rows: u64,
    /// Share answered right of the rows that predictions were profiled on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_accuracy: Option<f64>,
    /// Whether it has a reference of its own: it was born on a device.
    pub own_reference: bool,
    /// Rows of golden inputs whose outputs a device must reproduce; absent where there are none, or where
    /// the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub golden_rows: Option<usize>,
    /// How a device retrains it by its recipe, or why it cannot.
    pub retrained: String,
    /// `model.toml`.
    pub manifest: Manifest,
}

/// A file that tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not a package.
    #[error("`{path}` is no package")]
    Package {
        path: PathBuf,
        #[source]
        source: PackageError,
    },
    /// Not a model.
    #[error("`{path}` is no model that can be read")]
    Model {
        path: PathBuf,
        #[source]
        source: Refusal,
    },
}

impl InspectError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Package { .. } => Some("make packages with `shoal-agent pack`"),
            Self::Model { source, .. } => source.hint(),
        }
    }
}

/// Looks at a file; nothing in it is run.
pub fn run(args: &InspectArgs) -> Result<InspectReport, InspectError> {
    let path = || args.file.clone();
    let mut bytes = Vec::new();
    File::open(&args.file)
        .and_then(|file| file.take(MAX_PACKAGE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| InspectError::Read { path: path(), source })?;
    let no_package = |source| InspectError::Package { path: path(), source };
    let package = if bytes.starts_with(&ZSTD_MAGIC) {
        Some(Package::from_archive(&bytes).map_err(no_package)?)
    } else {
        None
    };
    let report = package.as_ref().map(describe).transpose().map_err(no_package)?;
    let onnx = package.as_ref().map_or(Some(bytes.as_slice()), |package| package.file(MODEL));
    let model = inspect(onnx.unwrap_or_default(), &Limits::default())
        .map_err(|source| InspectError::Model { path: path(), source })?;
    let load_bytes = model.parameters.size_bytes.saturating_mul(COPIES_AT_LOAD);
    let training = training(onnx.unwrap_or_default());
    Ok(InspectReport { file: path(), package: report, model, load_bytes, training })
}

fn describe(package: &Package) -> Result<PackageReport, PackageError> {
    let (manifest, baseline) = (package.manifest()?, package.baseline()?);
    let files = package.to_files().into_iter().map(|(name, bytes)| (name, bytes.len() as u64));
    let signatures = package.signature.iter().flat_map(|envelope| &envelope.signatures);
    let right = |p: &shoal_proto::baseline::PredictionBaseline| p.correct as f64 / p.labelled.max(1) as f64;
    Ok(PackageReport {
        name: manifest.display_name(),
        version: package.version()?,
        files: files.collect(),
        signed_by: signatures.map(|signature| signature.keyid.clone()).collect(),
        baseline_rows: baseline.rows,
        baseline_accuracy: baseline.predictions.as_ref().map(right),
        own_reference: package.file(REFERENCE).is_some(),
        retrained: retrained(package, &manifest),
        golden_rows: package.file(GOLDEN).and_then(|bytes| Some(Golden::from_npz(bytes).ok()?.rows())),
        manifest,
    })
}

fn retrained(package: &Package, manifest: &Manifest) -> String {
    if manifest.features.is_empty() {
        return "no: it takes tensors".into();
    }
    match check_recipe(&manifest.recipe, package.file(MODEL).unwrap_or_default()) {
        Ok(By::Gradients) => format!("by gradients, scope {}, where it is trainable", manifest.recipe.scope),
        Ok(by) => format!("by {by}"),
        Err(cause) => format!("no: {}", chain(&cause)),
    }
}

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(package) = &self.package {
            write!(f, "{package}")?;
        }
        let model = &self.model;
        for (what, specs) in [("input", &model.inputs), ("output", &model.outputs)] {
            for spec in specs {
                writeln!(f, "{what:<12}{}", shape(spec))?;
            }
        }
        let ops: Vec<String> = model.ops.iter().map(|(op, count)| format!("{op} ×{count}")).collect();
        writeln!(f, "{:<13}{}", "operators", ops.join(", "))?;
        let (count, stored) = (model.parameters.count, size(model.parameters.size_bytes));
        writeln!(f, "{:<13}{count} ({stored}), about {} while loading", "parameters", size(self.load_bytes))?;
        let servable = match &model.servable {
            Servable::Yes => "yes, as far as it can be told without running it".into(),
            Servable::No { reasons } => format!("no: {}", reasons.join("; ")),
        };
        writeln!(f, "{:<13}{servable}", "servable")?;
        let trainable = &model.trainable;
        if trainable.reasons.is_empty() {
            writeln!(
                f,
                "{:<13}{} tensors: {}",
                "trainable",
                trainable.parameters.len(),
                some(&trainable.parameters)
            )?;
            self.training.as_ref().map_or(Ok(()), |training| write!(f, "{training}"))?;
        } else {
            writeln!(f, "{:<13}no: {}", "trainable", trainable.reasons.join("; "))?;
        }
        if let Some(leaves) = &model.leaves {
            let said = match leaves {
                Leaves::Forest => "can be refitted".into(),
                Leaves::Unsaid { reason } => format!("can be refitted once the recipe says how: {reason}"),
                Leaves::Fixed { reason } => format!("cannot be refitted: {reason}"),
            };
            writeln!(f, "{:<13}{said}", "leaves")?;
        }
        let said = match &model.input_affine {
            InputAffine::Yes { features } => format!("a map of {features} features can be folded in"),
            InputAffine::No { reason } => format!("no map can be folded in: {reason}"),
            InputAffine::Unknown => return Ok(()),
        };
        writeln!(f, "{:<13}{said}", "input-affine")
    }
}

impl fmt::Display for TrainingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.bytes.iter().map(|(rows, bytes)| format!("{} with {rows} rows", size(*bytes as u64)));
        let all: Vec<String> = all.collect();
        writeln!(f, "{:<13}{} at once, beside file and rows", "to train", all.join(", "))?;
        let width = self.tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
        for TensorReport { name, shape, trained_as, not_trained } in &self.tensors {
            let what =
                trained_as.map_or_else(|| format!("no: {}", not_trained.unwrap_or_default()), str::to_owned);
            writeln!(f, "  {name:<width$}  {:<18}  {what}", format!("{shape:?}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for PackageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<13}{}  {}", "package", self.name, self.version)?;
        let signed = if self.signed_by.is_empty() { "no".into() } else { self.signed_by.join(", ") };
        writeln!(f, "{:<13}{signed}", "signed by")?;
        let files: Vec<String> = self.files.iter().map(|(name, size)| format!("{name} {size} B")).collect();
        writeln!(f, "{:<13}{}", "files", files.join(", "))?;
        let names: Vec<String> = self.manifest.features.iter().map(|feature| feature.name.clone()).collect();
        if names.is_empty() {
            writeln!(f, "{:<13}none: it takes tensors", "features")?;
        } else {
            writeln!(f, "{:<13}{}: {}", "features", names.len(), some(&names))?;
        }
        if self.files.contains_key(GOLDEN) {
            let rows =
                self.golden_rows.map_or_else(|| "cannot be read".into(), |rows| format!("{rows} rows"));
            writeln!(f, "{:<13}{rows}", "golden")?;
        }
        writeln!(f, "{:<13}{}", "retrained", self.retrained)?;
        if !self.manifest.output.classes.is_empty() {
            writeln!(f, "{:<13}{}", "classes", some(&self.manifest.output.classes))?;
        }
        write!(f, "{:<13}{} rows", "baseline", self.baseline_rows)?;
        if let Some(accuracy) = self.baseline_accuracy {
            write!(f, ", {:.1} % right of those held out", accuracy * 100.0)?;
        }
        writeln!(f)
    }
}

fn shape(spec: &TensorSpec) -> String {
    let dims: Vec<String> =
        spec.dims.iter().map(|dim| dim.map_or("?".into(), |size| size.to_string())).collect();
    format!("{} {} [{}]", spec.name, spec.datatype, dims.join(", "))
}

fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    if kib < 1024.0 { format!("{kib:.1} KiB") } else { format!("{:.1} MiB", kib / 1024.0) }
}

fn some(names: &[String]) -> String {
    const MOST: usize = 10;
    let more = names.len().saturating_sub(MOST);
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_said_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.onnx");
        let look = || run(&InspectArgs { file: file.clone() });
        assert!(matches!(look(), Err(InspectError::Read { .. })));
        for (bytes, word) in [(&b"not a model"[..], "no model"), (&ZSTD_MAGIC[..], "no package")] {
            io::Write::write_all(&mut File::create(&file).unwrap(), bytes).unwrap();
            let error = look().unwrap_err();
            assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
        }
    }
}
