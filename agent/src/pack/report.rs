//! What is said of a package that was made.

use super::calibration::Calibration;
use super::fit::FitReport;
use super::schema::Column;
use super::{PackArgs, PackError};
use crate::file::write_atomic;
use crate::keys::read_key;
use crate::worker::By;
use serde::Serialize;
use shoal_proto::id::Digest;
use shoal_proto::package::Package;
use std::path::PathBuf;

/// What was packed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackReport {
    /// Where it is.
    pub file: PathBuf,
    /// For people: `gas@1`.
    pub name: String,
    /// Its identity.
    pub version: Digest,
    /// Size of the archive.
    pub size_bytes: u64,
    /// How many features it takes.
    pub features: usize,
    /// The classes; empty for a regression.
    pub classes: Vec<String>,
    /// Rows of the data, and how many of them have a label and no missing value.
    pub rows: usize,
    /// See `rows`.
    pub complete_rows: usize,
    /// Rows held out.
    pub held_out_rows: usize,
    /// Share answered right of those (classification).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_accuracy: Option<f64>,
    /// What that share says of all such rows, with 95 % confidence (Wilson).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_interval: Option<(f64, f64)>,
    /// Mean over the classes of the share answered right of each: a rare class counts like a frequent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_balanced_accuracy: Option<f64>,
    /// Root mean square error on those (regression).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_rmse: Option<f64>,
    /// The same of answering the training rows' mean, whatever the features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_rmse_of_mean: Option<f64>,
    /// Whether confidences are what they claim (classification, rows enough).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How the model was fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitReport>,
    /// What the columns are.
    pub columns: Vec<Column>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Whether the model was fitted here: a model from elsewhere may have seen the held-out rows.
    pub fitted: bool,
    /// How a device retrains it; absent where something stands against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrained_by: Option<By>,
    /// What stands against training it on a device; empty when nothing does.
    pub not_trainable: Vec<String>,
    /// Rows in the guard set.
    pub guard_rows: usize,
    /// Rows in the replay set.
    pub replay_rows: usize,
    /// Rows of golden inputs.
    pub golden_rows: usize,
    /// Whether it is signed.
    pub signed: bool,
}

/// Signs and writes a package, and says what any package says of itself.
pub(super) fn finish(args: &PackArgs, package: &mut Package) -> Result<PackReport, PackError> {
    if let Some(path) = &args.sign_key {
        package.sign(&read_key(path)?)?;
    }
    let archive = package.to_archive()?;
    let manifest = package.manifest()?;
    let file = args.output.clone().unwrap_or_else(|| format!("{}.shoal", manifest.model.name).into());
    write_atomic(&file, &archive)?;
    Ok(PackReport {
        file,
        name: manifest.display_name(),
        version: package.version()?,
        size_bytes: archive.len() as u64,
        features: 0,
        classes: manifest.output.classes,
        rows: 0,
        complete_rows: 0,
        held_out_rows: 0,
        held_out_accuracy: None,
        held_out_interval: None,
        held_out_balanced_accuracy: None,
        held_out_rmse: None,
        held_out_rmse_of_mean: None,
        calibration: None,
        fit: None,
        columns: Vec::new(),
        warnings: Vec::new(),
        fitted: false,
        retrained_by: None,
        not_trainable: Vec::new(),
        guard_rows: 0,
        replay_rows: 0,
        golden_rows: 0,
        signed: package.signature.is_some(),
    })
}
