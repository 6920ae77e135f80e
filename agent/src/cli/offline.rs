//! `predict --package`: one package, no agent.

use super::args::PredictArgs;
use crate::report::chain;
use crate::table::{Features, Table};
use serde_json::{Value, json};
use shoal_infer::Predictor;
use shoal_onnx::Limits;
use shoal_proto::infer::Prediction;
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{MODEL, Package};
use std::path::{Path, PathBuf};

/// A prediction that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The package.
    #[error("package `{path}` cannot be used: {reason}")]
    Package {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The rows.
    #[error("{reason}")]
    Rows {
        /// Why.
        reason: String,
    },
}

/// Predicts with a package of a file.
pub(super) fn predict(args: &PredictArgs) -> Result<Value, OfflineError> {
    let path = args.package.clone().unwrap_or_default();
    let fail = |reason: String| OfflineError::Package { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|cause| fail(cause.to_string()))?;
    let package = Package::from_archive(&bytes).map_err(|cause| fail(chain(&cause)))?;
    let manifest = package.manifest().map_err(|cause| fail(chain(&cause)))?;
    let predictor = Predictor::load(package.file(MODEL).unwrap_or_default(), &Limits::default())
        .map_err(|cause| fail(chain(&cause)))?;
    let names: Vec<String> = manifest.features.iter().map(|feature| feature.name.clone()).collect();
    let rows = rows(args, &names).map_err(|reason| OfflineError::Rows { reason })?;
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let answer = predictor.rows(rows.len(), &flat).map_err(|cause| fail(chain(&cause)))?;
    let predictions: Vec<Prediction> =
        answer.values.chunks(answer.width.max(1)).map(|row| prediction(&manifest, row)).collect();
    Ok(json!({ "model": manifest.model.name, "name": manifest.display_name(), "predictions": predictions }))
}

pub(super) fn prediction(manifest: &Manifest, row: &[f32]) -> Prediction {
    let answer = crate::profile::answer(manifest.output.kind, row);
    let class =
        answer.and_then(|(class, _)| manifest.output.classes.get(usize::try_from(class).ok()?).cloned());
    Prediction { class, confidence: answer.map(|(_, confidence)| confidence), values: row.to_vec() }
}

/// The rows of `--row` or `--data`, in the order of the features.
pub(super) fn rows(args: &PredictArgs, names: &[String]) -> Result<Vec<Vec<f32>>, String> {
    if let Some(text) = &args.row {
        return row(text, names.len()).map(|row| vec![row]);
    }
    let path = args.data.as_deref().unwrap_or(Path::new(""));
    let table = Table::read(path, Features::Named(names), None).map_err(|cause| chain(&cause))?;
    Ok(table.features.chunks(names.len().max(1)).map(<[f32]>::to_vec).collect())
}

fn row(text: &str, width: usize) -> Result<Vec<f32>, String> {
    let cells: Result<Vec<f32>, String> = text
        .split(',')
        .enumerate()
        .map(|(column, cell)| match cell.trim() {
            "" => Ok(f32::NAN),
            cell => cell.parse().map_err(|_cause| format!("column {}: `{cell}` is not a number", column + 1)),
        })
        .collect();
    let cells = cells?;
    if cells.len() != width {
        return Err(format!("--row has {} numbers, the model has {width} features", cells.len()));
    }
    Ok(cells)
}
