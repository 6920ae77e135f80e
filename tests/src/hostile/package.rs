//! A package around a hostile file, made without the checks of `pack`.

use anyhow::Context as _;
use shoal_onnx::{Limits, OnnxModel};
use shoal_proto::baseline::Baseline;
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};

/// A package of the model as it is: of tensors, with the names of its own first input and its own first
/// output of floating point numbers, as far as the pre-check lets them be read.
///
/// # Errors
/// When the names have no place in a manifest.
pub fn package(model: &str, onnx: &[u8]) -> anyhow::Result<Package> {
    let parsed = OnnxModel::parse(onnx, &Limits::default()).ok();
    let name = |found: Option<String>, otherwise: &str| found.unwrap_or_else(|| otherwise.to_owned());
    let input = parsed.as_ref().and_then(|model| Some(model.inputs().first()?.name.clone()));
    let output = parsed.as_ref().and_then(|model| {
        Some(model.outputs().iter().find(|output| output.datatype.is_float())?.name.clone())
    });
    let quoted = |name: String| serde_json::to_string(&name).context("a name has a JSON form");
    let manifest = format!(
        "format = 1\n[model]\nname = \"{model}\"\nversion = 1\ntask = \"regression\"\n\
         [input]\ntensor = {}\n[output]\ntensor = {}\nkind = \"values\"\n",
        quoted(name(input, "x"))?,
        quoted(name(output, "y"))?
    );
    let baseline = Baseline { rows: 0, features: Vec::new(), predictions: None, ..Baseline::default() };
    let files = [(MODEL, onnx.to_vec()), (MANIFEST, manifest.into_bytes()), (BASELINE, baseline.to_bytes())];
    Ok(Package::new(files.map(|(name, bytes)| (name.to_owned(), bytes)).into())?)
}
