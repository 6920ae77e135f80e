//! Whether a version may be parsed by the server: in the child.

use super::answer::{AnswerError, Judge};
use super::job::AdmitJob;
use crate::rows::{Rows, RowsError};
use crate::vault::{Vault, VaultError};
use shoal_infer::{Admission, Refused};
use shoal_onnx::Limits;
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{GUARD, MODEL, Package, PackageError};

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
}

pub(super) fn admit(job: &AdmitJob) -> Result<Admission, AdmitError> {
    admit_package(&Vault::join(&job.state).get(job.version)?)
}

/// Parses, optimises and runs the model, holds the manifest against it, and has it answer the guard set.
pub(super) fn admit_package(package: &Package) -> Result<Admission, AdmitError> {
    let manifest = package.manifest()?;
    let onnx = package.file(MODEL).ok_or(PackageError::Lacks { name: MODEL })?;
    let admission = shoal_infer::admit(onnx, None, &Limits::default())?;
    fits(&manifest, &admission)?;
    let judge = Judge::new(onnx, &manifest)?;
    if let Some(bytes) = package.file(GUARD) {
        let guard = Rows::from_npz(GUARD, bytes, manifest.features.len())?;
        judge.right(&guard, 0.0)?;
    } else {
        let mut zeros = Rows::none(manifest.features.len(), true);
        zeros.push_class(&vec![0.0; manifest.features.len()], 0);
        judge.answers(&zeros)?;
    }
    Ok(admission)
}

fn fits(manifest: &Manifest, admission: &Admission) -> Result<(), AdmitError> {
    let no = |reason: String| Err(AdmitError::Manifest { reason });
    let [input] = admission.inputs.as_slice() else {
        return no(format!("the model has {} inputs, expected 1", admission.inputs.len()));
    };
    if input.name != manifest.input.tensor {
        return no(format!("the model's input is `{}`, expected `{}`", input.name, manifest.input.tensor));
    }
    let features = manifest.features.len();
    if admission.row_width != Some(features) {
        let got = admission.row_width.map_or_else(|| "no plain rows".into(), |width| width.to_string());
        return no(format!("the model takes {got}, model.toml names {features} features"));
    }
    let scores = admission.outputs.iter().find(|output| output.datatype.is_float());
    match scores {
        Some(output) if output.name == manifest.output.tensor => Ok(()),
        Some(output) => {
            no(format!("the model's scores are `{}`, expected `{}`", output.name, manifest.output.tensor))
        }
        None => no("the model has no output of floating point numbers".into()),
    }
}
