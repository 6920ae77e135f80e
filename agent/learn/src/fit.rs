//! A dense network made from data alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shoal_onnx::{DenseLayer, Head, MlpSpec, Normaliser, build_mlp, patch_initializers};

use crate::dataset::{Dataset, Targets};
use crate::failure::LearnError;
use crate::fine_tune::fine_tune;
use crate::recipe::Recipe;

/// A column that varies less than this, relative to its size, is constant: dividing by its spread
/// would make noise of rounding.
const CONSTANT_COLUMN: f64 = 1e-6;

/// Apart from the order of rows, which uses the recipe's seed itself.
const WEIGHTS_STREAM: u64 = 1;

/// Makes and trains a dense network with rectifiers: for class targets with `classes` outputs
/// behind a Softmax, for values with as many outputs as the targets have (`classes` is not used).
///
/// Features are standardised by their mean and spread and cut at ± `clip`. Values are standardised
/// for training, and the last layer is scaled back after it.
///
/// # Errors
/// [`LearnError`] of the data, the recipe, or the run.
pub fn fit_mlp(
    data: &Dataset,
    hidden: &[usize],
    classes: usize,
    recipe: &Recipe,
    clip: f32,
) -> Result<Vec<u8>, LearnError> {
    recipe.check()?;
    let (mean, std) = spread(data.features(), data.width());
    let (head, outputs) = match data.targets() {
        Targets::Classes(_) => (Head::Classes, classes),
        Targets::Values { width, .. } => (Head::Values, *width),
    };
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(WEIGHTS_STREAM);
    let mut inputs = data.width();
    let mut layers = Vec::new();
    for width in hidden.iter().chain([&outputs]) {
        layers.push(layer(inputs, *width, &mut random));
        inputs = *width;
    }
    let spec =
        MlpSpec { width: data.width(), normaliser: Some(Normaliser { mean, std, clip }), layers, head };
    let start = build_mlp(&spec)?;
    let mut go_on = |_| ControlFlow::Continue(());
    let Targets::Values { width, values } = data.targets() else {
        return Ok(fine_tune(&start, &mut data.clone(), recipe, &mut go_on)?.onnx);
    };
    let (mean, std) = spread(values, *width);
    let columns = || mean.iter().zip(&std).cycle();
    let values = values.iter().zip(columns()).map(|(value, (mean, std))| (value - mean) / std).collect();
    let targets = Targets::Values { width: *width, values };
    let mut scaled = Dataset::new(data.width(), data.features().to_vec(), targets, data.weights().to_vec())?;
    let trained = fine_tune(&start, &mut scaled, recipe, &mut go_on)?;
    scale_back(&trained.onnx, hidden.len(), &mean, &std)
}

/// Folds `y · std + mean` into the last layer.
fn scale_back(onnx: &[u8], last: usize, mean: &[f32], std: &[f32]) -> Result<Vec<u8>, LearnError> {
    let graph = shoal_onnx::OnnxModel::parse(onnx, &shoal_onnx::Limits::default())?.graph();
    let mut new = BTreeMap::new();
    for (name, is_bias) in [(format!("layers.{last}.weight"), false), (format!("layers.{last}.bias"), true)] {
        let stored = graph.initializers.get(&name).map(|constant| &constant.data);
        let Some(shoal_onnx::ConstantData::F32(values)) = stored else { continue };
        let width = values.len().checked_div(std.len()).unwrap_or(0).max(1);
        let rows = values.chunks(width).zip(std.iter().zip(mean));
        let scaled = rows.flat_map(|(row, (std, mean))| {
            let added = if is_bias { *mean } else { 0.0 };
            row.iter().map(move |value| value * std + added)
        });
        new.insert(name, scaled.collect());
    }
    Ok(patch_initializers(onnx, &new)?)
}

/// He initialisation for rectifiers: normal, variance 2 / inputs; no bias.
fn layer(inputs: usize, outputs: usize, random: &mut ChaCha8Rng) -> DenseLayer {
    let scale = (2.0 / inputs.max(1) as f64).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    let weight = (0..inputs * outputs).map(|_| (normal(random) * scale) as f32).collect();
    DenseLayer { weight, bias: vec![0.0; outputs] }
}

/// Box and Muller's transform; its second value is not used.
pub(crate) fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius: f64 = 1.0 - random.random::<f64>();
    let angle: f64 = random.random::<f64>() * std::f64::consts::TAU;
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}

/// Mean and standard deviation of each column; one for a constant column.
fn spread(values: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    (0..width)
        .map(|column| {
            let column = || values.iter().skip(column).step_by(width).map(|value| f64::from(*value));
            let rows = column().count().max(1) as f64;
            let mean = column().sum::<f64>() / rows;
            let std = (column().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
            let std = if std <= CONSTANT_COLUMN * (mean.abs() + CONSTANT_COLUMN) { 1.0 } else { std };
            #[expect(clippy::cast_possible_truncation, reason = "stored as f32")]
            let (mean, std) = (mean as f32, std as f32);
            (mean, if std > 0.0 { std } else { 1.0 })
        })
        .unzip()
}
