//! A package of a model that takes tensors: no table, no features, nothing to train on.

use super::model::{guess, load_exposing};
use super::report::finish;
use super::{PackArgs, PackError, PackReport, TaskArg, name};
use crate::profile;
use crate::worker::Golden;
use shoal_infer::{Predictor, Tensor, TensorData, read_npz, sample_row, trial};
use shoal_onnx::{Inspection, Limits, Servable, TensorSpec, inspect};
use shoal_proto::manifest::{
    FORMAT, GatePolicy, InputInfo, Manifest, ModelInfo, OutputInfo, OutputKind, Recipe,
};
use shoal_proto::package::{BASELINE, GOLDEN, MANIFEST, MODEL, Package};
use std::fs;
use std::path::Path;

/// Makes a package of a model alone, after it has passed the trial of an admission.
pub(super) fn run(args: &PackArgs) -> Result<PackReport, PackError> {
    let path = args.onnx.clone().unwrap_or_default(); // one of --data and --onnx is there
    let onnx = fs::read(&path).map_err(|source| PackError::Read { path: path.clone(), source })?;
    let refused = |source| PackError::Refused { path: path.clone(), source };
    let inspection = inspect(&onnx, &Limits::default()).map_err(refused)?;
    let (predictor, embedding) = load_exposing(&onnx)?;
    let golden = args.golden.as_deref().map(|path| golden(path, &predictor)).transpose()?;
    let pair = golden.as_ref().map(|golden| (golden.inputs.as_slice(), golden.outputs.as_slice()));
    trial(&predictor, pair)?;
    let output = OutputInfo { embedding, ..output(args, &predictor, golden.as_ref(), &inspection)? };

    let baseline = profile::baseline(0, &[], profile::Order::None, None);
    let mut files = vec![
        (MODEL, onnx),
        (MANIFEST, manifest(args, &predictor, output)?.to_text().into_bytes()),
        (BASELINE, baseline.to_bytes()),
    ];
    if let Some(golden) = &golden {
        files.push((GOLDEN, golden.to_npz()?));
    }
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let made = finish(args, &mut Package::new(files)?)?;
    let mut not_trainable = vec!["it takes tensors and no features".to_owned()];
    if let Servable::No { reasons } = inspection.servable {
        not_trainable.extend(reasons);
    }
    Ok(PackReport { not_trainable, golden_rows: golden.as_ref().map_or(0, Golden::rows), ..made })
}

/// Arrays by the model's own names, or by place: `x`, `x1` … for inputs and `y`, `y1` … for outputs.
/// Outputs that are not there are not compared; one must be.
fn golden(path: &Path, predictor: &Predictor) -> Result<Golden, PackError> {
    let fail = |source| PackError::Golden { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(|source| PackError::Read { path: path.to_owned(), source })?;
    let arrays = read_npz(&bytes).map_err(fail)?;
    let short = |letter, place: usize| match place {
        0 => format!("{letter}"),
        place => format!("{letter}{place}"),
    };
    let find = |spec: &TensorSpec, short: &str| {
        let named = |name: &str| arrays.iter().find(|array| array.name == name);
        let found = named(&spec.name).or_else(|| named(short))?;
        Some(Tensor { name: spec.name.clone(), ..found.clone() })
    };
    let lacks = |what, spec: Option<&TensorSpec>, short: &str| PackError::GoldenLacks {
        path: path.to_owned(),
        wanted: format!("{what} (`{}` or `{short}`)", spec.map_or("", |spec| &spec.name)),
        arrays: arrays.iter().map(|array| array.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let mut golden = Golden { inputs: Vec::new(), outputs: Vec::new() };
    for (place, spec) in predictor.inputs().iter().enumerate() {
        let short = short('x', place);
        golden.inputs.push(find(spec, &short).ok_or_else(|| lacks("an input", Some(spec), &short))?);
    }
    for (place, spec) in predictor.outputs().iter().enumerate() {
        golden.outputs.extend(find(spec, &short('y', place)));
    }
    if golden.outputs.is_empty() {
        return Err(lacks("an output", predictor.outputs().first(), "y"));
    }
    Ok(golden)
}

/// The output that is watched, and what its numbers are.
fn output(
    args: &PackArgs,
    predictor: &Predictor,
    golden: Option<&Golden>,
    inspection: &Inspection,
) -> Result<OutputInfo, PackError> {
    let specs = predictor.outputs();
    let float = specs.iter().position(|spec| spec.datatype.is_float()).ok_or(PackError::NoScores)?;
    let tensor = specs[float].name.clone();
    let has_label = specs.iter().any(|spec| !spec.datatype.is_float());
    let guessed =
        if has_label || !args.classes.is_empty() { TaskArg::Classification } else { TaskArg::Regression };
    if args.task.unwrap_or(guessed) == TaskArg::Regression {
        return Ok(OutputInfo {
            tensor,
            kind: OutputKind::Values,
            classes: Vec::new(),
            temperature: None,
            embedding: None,
        });
    }
    let inputs = golden.map_or_else(|| sample_row(predictor), |golden| golden.inputs.clone());
    let made = predictor.infer(&inputs)?;
    let scores = made.get(float).ok_or(PackError::NoScores)?;
    let width = match scores.shape.as_slice() {
        [] | [_] => 1,
        [_, inner @ ..] => inner.iter().product(),
    };
    let classes: Vec<String> = if args.classes.is_empty() {
        (0..width.max(2)).map(|class| class.to_string()).collect()
    } else {
        args.classes.clone()
    };
    // One score tells two classes apart.
    if classes.len() != width && !(width == 1 && classes.len() == 2) {
        return Err(PackError::Classes { output: tensor, named: classes.len(), scores: width });
    }
    let kind = match inspection.output_kind {
        shoal_onnx::OutputKind::Logits => OutputKind::Logits,
        shoal_onnx::OutputKind::Probabilities => OutputKind::Probabilities,
        shoal_onnx::OutputKind::Values => guess(floats(&scores.data).chunks(width.max(1))),
    };
    Ok(OutputInfo { tensor, kind, classes, temperature: None, embedding: None })
}

fn floats(data: &TensorData) -> Vec<f32> {
    match data {
        TensorData::F32(values) => values.clone(),
        #[expect(clippy::cast_possible_truncation, reason = "only looked at as shares of one")]
        TensorData::F64(values) => values.iter().map(|value| *value as f32).collect(),
        _ => Vec::new(),
    }
}

fn manifest(args: &PackArgs, predictor: &Predictor, output: OutputInfo) -> Result<Manifest, PackError> {
    let task = if output.kind == OutputKind::Values { TaskArg::Regression } else { TaskArg::Classification };
    let tensor = predictor.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
    Ok(Manifest {
        format: FORMAT,
        requires: Vec::new(),
        model: ModelInfo {
            name: name(args)?,
            version: args.version,
            task: task.into(),
            description: args.description.clone(),
        },
        input: InputInfo { tensor },
        output,
        recipe: Recipe::default(),
        gate: GatePolicy::default(),
        goal: None,
        lineage: None,
        features: Vec::new(),
        groups: Vec::new(),
    })
}
