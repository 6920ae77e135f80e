//! Gradients in 32 bits against 64, 64 against the reference and against differences of the loss.

use super::{Kind, Reference};
use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shoal_infer::{Predictor, Tensor, TensorData};
use shoal_learn::{Gradients, LossKind, Slopes, Targets};
use shoal_onnx::{Limits, OnnxModel};
use std::collections::BTreeMap;

/// Norm-wise error of a gradient that is right in any case.
const TOLERANCE: f64 = 1e-4;
/// A multiple of PyTorch's own rounding that is right as well: bends of a network fall on either side.
const ROUNDINGS: f64 = 3.0;
/// The same in 64 bits, where the reference is of 64 bits too.
const WIDE_TOLERANCE: f64 = 1e-6;
/// The loss in 32 bits, relative.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Differences of the loss along a direction, relative.
const ALONG_TOLERANCE: f64 = 1e-4;
/// Lengths of the steps along them.
const STEPS: [f64; 3] = [1e-6, 1e-8, 1e-10];
/// Directions that are tried.
const DIRECTIONS: usize = 3;
/// A gradient this much shorter than all together is nought, but for rounding.
const SHARE_OF_ALL: f64 = 1e-4;

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checked {
    pub(super) loss_difference: f64,
    /// The worst of all parameters in 32 bits, against the engine's own in 64.
    pub(super) worst: f64,
    pub(super) worst_parameter: String,
    /// Each parameter's.
    pub(super) errors: BTreeMap<String, f64>,
    /// Parameters whose gradient in 64 bits stands in the reference under the same name, and the worst
    /// distance from it.
    pub(super) compared: usize,
    pub(super) from_reference: f64,
    /// The worst relative distance of the slope along a random direction.
    pub(super) along: f64,
    pub(super) wrong: Vec<String>,
}

pub(super) fn numbers(tensor: &Tensor) -> anyhow::Result<Vec<f64>> {
    Ok(match &tensor.data {
        TensorData::F64(values) => values.clone(),
        TensorData::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        TensorData::I64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        other => anyhow::bail!("array `{}` is of {other:?}", tensor.name),
    })
}

/// Class targets of a model whose output is probabilities that no Softmax is seen behind mean their
/// logarithms.
pub(super) fn loss_kind(onnx: &[u8], reference: &Reference) -> anyhow::Result<Kind> {
    let Targets::Classes(_) = reference.data.targets() else { return Ok(LossKind::Auto) };
    let inspection = shoal_onnx::inspect(onnx, &Limits::default())?;
    if inspection.output_kind != shoal_onnx::OutputKind::Values {
        return Ok(LossKind::Auto);
    }
    let Ok(predictor) = Predictor::load(onnx, &Limits::default()) else { return Ok(LossKind::Auto) };
    let Ok(made) = predictor.rows(reference.data.len(), reference.data.features()) else {
        return Ok(LossKind::Auto);
    };
    let is_share = |row: &[f32]| {
        row.iter().all(|p| (0.0..=1.0).contains(p)) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-4
    };
    Ok(if made.width > 1 && made.iter().all(is_share) { LossKind::LogLikelihood } else { LossKind::Auto })
}

fn norm<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Whether a number is larger, or none.
fn beyond(value: f64, most: f64) -> bool {
    value.is_nan() || value > most
}

pub(super) fn check(onnx: &[u8], reference: &Reference, loss: Kind, is_own: bool) -> anyhow::Result<Checked> {
    let still = BTreeMap::new();
    let mut data = reference.data.clone();
    let narrow = Slopes::<f32>::new(onnx, &mut data, loss)?.at(&still, 0.0);
    let mut wide = Slopes::<f64>::new(onnx, &mut data, loss)?;
    let exact = wide.at(&still, 0.0);
    let all = norm(exact.by.values().flatten());
    let size = |values: &[f64]| norm(values.iter()).max(SHARE_OF_ALL * all).max(f64::MIN_POSITIVE);
    let mut checked = Checked {
        loss_difference: (narrow.loss - reference.loss).abs() / reference.loss.abs().max(1e-6),
        worst: 0.0,
        worst_parameter: String::new(),
        errors: BTreeMap::new(),
        compared: 0,
        from_reference: 0.0,
        along: 0.0,
        wrong: Vec::new(),
    };
    if beyond(checked.loss_difference, LOSS_TOLERANCE) {
        checked.wrong.push(format!("the loss is {}, not {}", narrow.loss, reference.loss));
    }
    for (name, exact) in &exact.by {
        let error = apart(&narrow.by[name], exact) / size(exact);
        let given = reference.gradients.get(name).filter(|given| given.len() == exact.len() && is_own);
        let mut rounding = reference.rounding.get(name).copied().unwrap_or(0.0);
        if let Some(given) = given {
            checked.compared += 1;
            let distance = apart(given, exact) / size(exact);
            checked.from_reference = checked.from_reference.max(distance);
            // A reference of 32 bits is its own rounding away; one of 64 bits is not.
            #[expect(clippy::cast_possible_truncation, reason = "whether it does is the question")]
            let is_wide = given.iter().any(|value| f64::from(*value as f32) != *value);
            if is_wide && beyond(distance, WIDE_TOLERANCE) {
                checked.wrong.push(format!("{name} is {distance:.1e} from the reference in 64 bits"));
            }
            if !is_wide {
                rounding = rounding.max(distance);
                let from_narrow = apart(&narrow.by[name], given) / size(exact);
                if beyond(from_narrow, ROUNDINGS * distance.max(TOLERANCE)) {
                    checked.wrong.push(format!("{name} is far from the reference in 32 bits"));
                }
            }
        }
        if beyond(error, TOLERANCE.max(ROUNDINGS * rounding)) {
            checked.wrong.push(format!("{name} is off by {error:.1e}, PyTorch by {rounding:.1e}"));
        }
        if error >= checked.worst {
            (checked.worst, checked.worst_parameter) = (error, name.clone());
        }
        checked.errors.insert(name.clone(), error);
    }
    missing(onnx, reference, &exact, is_own, &mut checked)?;
    checked.along = along(&mut wide, &exact, onnx)?;
    if beyond(checked.along, ALONG_TOLERANCE) {
        checked.wrong.push(format!("slopes along random directions differ by {:.1e}", checked.along));
    }
    Ok(checked)
}

/// Stored tensors that the reference has a gradient for and the engine does not train.
fn missing(
    onnx: &[u8],
    reference: &Reference,
    exact: &Gradients,
    is_own: bool,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    let graph = OnnxModel::parse(onnx, &Limits::default()).context("the file")?.training_graph();
    for (name, given) in reference.gradients.iter().filter(|_| is_own) {
        let is_there = graph.initializers.get(name).is_some_and(|constant| !constant.dims.is_empty());
        let matters = given.iter().any(|value| *value != 0.0);
        if is_there && matters && !exact.by.contains_key(name) {
            checked.wrong.push(format!("{name} is not trained"));
        }
    }
    Ok(())
}

/// The worst relative distance between the slope along a direction and the difference of the loss.
fn along(wide: &mut Slopes<f64>, exact: &Gradients, onnx: &[u8]) -> anyhow::Result<f64> {
    let graph = OnnxModel::parse(onnx, &Limits::default())?.training_graph();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut worst = 0.0f64;
    for _ in 0..DIRECTIONS {
        let direction: BTreeMap<String, Vec<f64>> = exact
            .by
            .iter()
            .map(|(name, slopes)| {
                let stored = graph.initializers.get(name).map(|constant| &constant.data);
                let largest = match stored {
                    Some(shoal_onnx::ConstantData::F32(values)) => {
                        values.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())))
                    }
                    _ => 0.0,
                };
                let scale = largest.max(1e-2);
                (name.clone(), slopes.iter().map(|_| scale * random.random_range(-1.0..1.0)).collect())
            })
            .collect();
        let pairs = direction.iter().flat_map(|(name, along)| along.iter().zip(&exact.by[name]));
        let slope: f64 = pairs.clone().map(|(along, slope)| along * slope).sum();
        let size: f64 = pairs.map(|(along, slope)| (along * slope).powi(2)).sum::<f64>().sqrt();
        // Small enough to cross no bend, large enough to stand out of rounding: which one, each network says.
        let off = |step: f64| {
            let difference =
                (wide.at(&direction, step).loss - wide.at(&direction, -step).loss) / (2.0 * step);
            (difference - slope).abs() / slope.abs().max(size).max(f64::MIN_POSITIVE)
        };
        worst = worst.max(STEPS.map(off).into_iter().fold(f64::INFINITY, f64::min));
    }
    Ok(worst)
}
