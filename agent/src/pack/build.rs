//! The files of a package.

use super::calibration::Calibration;
use super::golden::golden;
use super::model::Model;
use super::schema::Schema;
use super::{PackArgs, PackError, TaskArg, profile};
use crate::profile::Order;
use crate::rows::Rows;
use crate::table::Table;
use shoal_adapt::profile as profile_inputs;
use shoal_proto::baseline::{Baseline, FeatureKind, InputProfile};
use shoal_proto::id::ModelName;
use shoal_proto::manifest::{
    FORMAT, Feature, GatePolicy, Group, InputInfo, Manifest, ModelInfo, OutputInfo, Recipe,
};
use shoal_proto::package::{BASELINE, GOLDEN, GUARD, MANIFEST, MODEL, Package, REPLAY};

/// Rows of the guard set at most: a candidate answers them in well under a second.
pub(super) const MAX_GUARD_ROWS: usize = 500;
/// Rows of the replay set at most: 1 MiB for 128 features.
pub(super) const MAX_REPLAY_ROWS: usize = 2_000;

/// What a package is made from.
pub(super) struct Parts<'a> {
    pub(super) name: ModelName,
    pub(super) table: &'a Table,
    pub(super) classes: &'a [String],
    pub(super) train: &'a Rows,
    pub(super) held_out: &'a Rows,
    pub(super) schema: &'a Schema,
    pub(super) calibration: Option<&'a Calibration>,
    pub(super) recipe: Recipe,
}

/// A package, and how many rows its sets have.
pub(super) struct Built {
    pub(super) package: Package,
    pub(super) guard_rows: usize,
    pub(super) replay_rows: usize,
    /// Or why there are none.
    pub(super) golden_rows: Result<usize, String>,
    /// The rows that the middle feature stays near itself for.
    pub(super) spacing: u32,
}

/// The package. The guard set is a class-balanced part
/// of the held-out rows, right or wrong: no version may get more of it wrong than its parent.
pub(super) fn package(
    args: &PackArgs,
    parts: &Parts<'_>,
    onnx: Vec<u8>,
    model: &Model,
) -> Result<Built, PackError> {
    let order = if args.shuffled { Order::None } else { Order::Time };
    let mut baseline = profile::baseline(parts.table.width(), &parts.table.features, order, None);
    let groups =
        args.groups.iter().map(|given| group(given, &parts.table.names)).collect::<Result<_, _>>()?;
    let mut manifest = Manifest { groups, ..manifest(args, parts, model, &baseline) };
    if let Some((tensor, profile)) = model.embedding(parts.held_out).or_else(|| model.embedding(parts.train))
    {
        (manifest.output.embedding, baseline.embedding) = (Some(tensor), Some(profile));
    }
    let manifest = Manifest::parse(&manifest.to_text())?; // says what of it does not fit
    baseline.inputs = input_profile(parts, &baseline);
    baseline.predictions = model.predictions(&manifest, parts.held_out);
    baseline.sensitivity = model.sensitivity(parts.held_out, &baseline.features);
    let guard = parts.held_out.coreset(MAX_GUARD_ROWS, args.seed);
    let replay = parts.train.coreset(MAX_REPLAY_ROWS, args.seed);
    let golden = golden(&model.predictor, parts.held_out, &baseline.features, args.seed);
    let mut files = vec![
        (MODEL, onnx),
        (MANIFEST, manifest.to_text().into_bytes()),
        (BASELINE, baseline.to_bytes()),
        (GUARD, guard.to_npz()?),
        (REPLAY, replay.to_npz()?),
    ];
    if let Ok(golden) = &golden {
        files.push((GOLDEN, golden.to_npz()?));
    }
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    Ok(Built {
        package: Package::new(files)?,
        guard_rows: guard.len(),
        replay_rows: replay.len(),
        golden_rows: golden.map(|golden| golden.rows()),
        spacing: median(baseline.features.iter().map(|feature| feature.spacing).collect()),
    })
}

/// The moments of the training rows by class, for the adapter of inputs.
fn input_profile(parts: &Parts<'_>, baseline: &Baseline) -> Option<InputProfile> {
    let width = parts.train.width();
    let mut bend = shoal_learn::bends(parts.train.features(), width);
    bend.resize(width, 0.0);
    let fixed: Vec<bool> =
        baseline.features.iter().map(|feature| feature.kind == FeatureKind::Category).collect();
    profile_inputs(parts.train.features(), parts.train.classes(), parts.classes.len(), &bend, &fixed)
}

fn median(mut spacings: Vec<u32>) -> u32 {
    spacings.sort_unstable();
    spacings.get(spacings.len() / 2).copied().unwrap_or(1)
}

/// `FEATURE:CUT,CUT…[=CLASS]`, or `NAME:VALUE,VALUE…[=CLASS]` of what is no feature.
fn group(given: &str, features: &[String]) -> Result<Group, PackError> {
    let fail = || PackError::Group { given: given.to_owned() };
    let (name, rest) = given.split_once(':').ok_or_else(fail)?;
    let (parts, positive) = rest.split_once('=').map_or((rest, None), |(cuts, class)| (cuts, Some(class)));
    let group = Group { name: name.into(), positive: positive.map(str::to_owned), ..Group::default() };
    let parts = parts.split(',').map(str::trim);
    if features.iter().all(|feature| feature != name) {
        return Ok(Group { values: parts.map(str::to_owned).collect(), ..group });
    }
    let cuts: Option<Vec<f64>> = parts.map(|cut| cut.parse().ok()).collect();
    Ok(Group { feature: Some(name.to_owned()), cuts: cuts.ok_or_else(fail)?, ..group })
}

fn manifest(args: &PackArgs, parts: &Parts<'_>, model: &Model, baseline: &Baseline) -> Manifest {
    let features = parts.schema.columns.iter().zip(&baseline.features);
    let unfolded = parts.calibration.filter(|calibration| !calibration.folded);
    Manifest {
        format: FORMAT,
        requires: Vec::new(),
        model: ModelInfo {
            name: parts.name.clone(),
            version: args.version,
            task: args.task.unwrap_or(TaskArg::Classification).into(),
            description: args.description.clone(),
        },
        input: InputInfo { tensor: model.input.clone() },
        output: OutputInfo {
            tensor: model.output.clone(),
            kind: model.kind,
            classes: parts.classes.to_vec(),
            temperature: unfolded.map(|calibration| calibration.temperature),
            embedding: None,
        },
        recipe: parts.recipe.clone(),
        gate: GatePolicy::default(),
        goal: None,
        lineage: None,
        features: features
            .map(|(column, profile)| Feature {
                name: column.name.clone(),
                unit: column.unit.clone(),
                min: profile.min,
                max: profile.max,
            })
            .collect(),
        groups: Vec::new(),
    }
}
