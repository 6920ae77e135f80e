//! A network made from data alone.

mod noise;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shoal_onnx::{
    CnnSpec, ConstantData, ConvLayer, DenseLayer, Head, Limits, MlpSpec, Normaliser, OnnxModel, build_cnn,
    build_mlp, patch_initializers,
};

use crate::architecture::Architecture;
use crate::bend::bends;
use crate::dataset::{Dataset, Source, Targets};
use crate::failure::LearnError;
use crate::recipe::{Recipe, RecipeError};
use crate::session::{Progress, Session};

use noise::Noisy;

/// A column that varies less than this, relative to its size, is constant: dividing by its spread
/// would make noise of rounding.
const CONSTANT_COLUMN: f64 = 1e-6;

/// Apart from the order of rows, which uses the recipe's seed itself.
const WEIGHTS_STREAM: u64 = 1;

/// Length of a convolution's kernel.
const KERNEL: usize = 5;

/// How a network is made and trained.
#[derive(Debug, Clone)]
pub struct FitPlan<'a> {
    /// What it looks like.
    pub architecture: &'a Architecture,
    /// Its outputs where targets are classes, behind a Softmax; not used for values, where it has as many
    /// outputs as the targets.
    pub classes: usize,
    /// Standard deviations at which features are cut.
    pub clip: f32,
    /// Standard deviation of the noise that is added to the scaled features of each step; nought for none.
    pub noise: f64,
    /// How it is trained. With patience, rows that are not trained on decide when to stop.
    pub recipe: &'a Recipe,
}

/// A network that was made from data.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The file.
    pub onnx: Vec<u8>,
    /// Steps made.
    pub steps: u64,
    /// The step whose weights these are.
    pub best_step: u64,
    /// Place of the last dense layer.
    last: usize,
}

impl Fitted {
    /// The file with all scores before the Softmax divided by a temperature above zero: the same classes, other
    /// confidences. Guo et al. 2017.
    ///
    /// # Errors
    /// [`LearnError::Patch`] when the numbers do not stay finite.
    pub fn at_temperature(&self, temperature: f64) -> Result<Vec<u8>, LearnError> {
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let scale = (1.0 / temperature) as f32;
        rescale(&self.onnx, self.last, &[0.0], &[scale])
    }
}

/// Makes and trains a network on `train`; the rows of `validation` only decide when to stop.
///
/// Features are standardised by the mean and spread of the training rows (of a whole channel, where there are
/// channels) and cut at ± `clip`; those of dense networks are bent before, where the training rows ask for it
/// ([`Normaliser`]). Values are standardised for training, and the last layer is scaled back after it. The same
/// rows and plan give the same bytes on the same build and kind of CPU.
///
/// # Errors
/// [`LearnError`] of the data, the recipe, or the run.
pub fn fit(
    train: &Dataset,
    validation: Option<&Dataset>,
    plan: &FitPlan<'_>,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Fitted, LearnError> {
    plan.recipe.check()?;
    if !(plan.noise.is_finite() && plan.noise >= 0.0) {
        let (setting, value) = ("noise", plan.noise.to_string());
        return Err(RecipeError { setting, value, expected: "0 or above" }.into());
    }
    let normaliser = normaliser(train, plan)?;
    // Rows are scaled once, not at each step: only what comes behind the scaling is trained.
    let (bare, last) = first_network(train, plan, None)?;
    let (whole, _) = first_network(train, plan, Some(normaliser.clone()))?;
    let scale = match train.targets() {
        Targets::Classes(_) => None,
        Targets::Values { width, values } => Some(spread(values, *width)),
    };
    let standardised = |rows| standardised(rows, &normaliser, scale.as_ref());
    let mut source = Noisy::new(standardised(train)?, plan.noise, plan.recipe.seed);
    let mut held_out = validation.map(standardised).transpose()?;
    let held_out = held_out.as_mut().map(|rows| rows as &mut dyn Source);
    let mut session = Session::new(&bare, &mut source, held_out, plan.recipe)?;
    while let Some(progress) = session.step()? {
        if on_progress(progress).is_break() {
            return Err(LearnError::Stopped { step: progress.step });
        }
    }
    let trained = session.finish()?;
    let whole = patch_initializers(&whole, &stored(&trained.onnx, &trained.parameters)?)?;
    let onnx = match &scale {
        None => whole,
        Some((mean, std)) => rescale(&whole, last, mean, std)?,
    };
    Ok(Fitted { onnx, steps: trained.steps, best_step: trained.best_step, last })
}

/// How features are scaled, by the training rows.
fn normaliser(data: &Dataset, plan: &FitPlan<'_>) -> Result<Normaliser, LearnError> {
    let got = data.width();
    let expected = plan.architecture.width().unwrap_or(got);
    if expected != got {
        return Err(LearnError::Width { expected, got });
    }
    let clip = plan.clip;
    if let Architecture::Cnn1d { channels, length, .. } = plan.architecture {
        let (mean, std) = spread_of_channels(data.features(), *channels, *length);
        return Ok(Normaliser { bend: Vec::new(), mean, std, clip });
    }
    let bend = bends(data.features(), got);
    let mut normaliser = Normaliser { bend, mean: Vec::new(), std: Vec::new(), clip };
    let mut bent = data.features().to_vec();
    normaliser.bend_rows(&mut bent);
    (normaliser.mean, normaliser.std) = spread(&bent, got);
    Ok(normaliser)
}

/// The network before training, and the place of its last dense layer.
fn first_network(
    data: &Dataset,
    plan: &FitPlan<'_>,
    normaliser: Option<Normaliser>,
) -> Result<(Vec<u8>, usize), LearnError> {
    let (head, outputs) = match data.targets() {
        Targets::Classes(_) => (Head::Classes, plan.classes),
        Targets::Values { width, .. } => (Head::Values, *width),
    };
    let mut random = ChaCha8Rng::seed_from_u64(plan.recipe.seed);
    random.set_stream(WEIGHTS_STREAM);
    let hidden: &[usize] = match plan.architecture {
        Architecture::Linear => &[],
        Architecture::Mlp { hidden } => hidden,
        Architecture::Cnn1d { channels, length, filters } => {
            let (mut inputs, mut convolutions) = (*channels, Vec::new());
            for (place, filters) in filters.iter().enumerate() {
                let DenseLayer { weight, bias } = layer(inputs * KERNEL, *filters, &mut random);
                let stride = if place == 0 { 1 } else { 2 };
                convolutions.push(ConvLayer { weight, bias, kernel: KERNEL, stride });
                inputs = *filters;
            }
            let dense = layer(inputs, outputs, &mut random);
            let (channels, length) = (*channels, *length);
            let spec = CnnSpec { channels, length, normaliser, convolutions, dense, head };
            return Ok((build_cnn(&spec)?, 0));
        }
    };
    let (mut inputs, mut layers) = (data.width(), Vec::new());
    for width in hidden.iter().chain([&outputs]) {
        layers.push(small_layer(inputs, *width, &mut random));
        inputs = *width;
    }
    let spec = MlpSpec { width: data.width(), normaliser, layers, head };
    Ok((build_mlp(&spec)?, hidden.len()))
}

/// The rows with scaled features, and with their values, where they have some, at mean zero and spread one.
fn standardised(
    data: &Dataset,
    normaliser: &Normaliser,
    scale: Option<&(Vec<f32>, Vec<f32>)>,
) -> Result<Dataset, LearnError> {
    let mut features = data.features().to_vec();
    normaliser.apply(&mut features);
    let targets = match (data.targets(), scale) {
        (Targets::Values { width, values }, Some((mean, std))) => {
            let columns = mean.iter().zip(std).cycle();
            let values = values.iter().zip(columns).map(|(value, (mean, std))| (value - mean) / std);
            Targets::Values { width: *width, values: values.collect() }
        }
        (targets, _) => targets.clone(),
    };
    Ok(Dataset::new(data.width(), features, targets, data.weights().to_vec())?)
}

/// The numbers of stored tensors.
fn stored(onnx: &[u8], names: &[String]) -> Result<BTreeMap<String, Vec<f32>>, LearnError> {
    let mut graph = OnnxModel::parse(onnx, &Limits::default())?.graph();
    let values = |name: &String| match graph.initializers.remove(name)?.data {
        ConstantData::F32(values) => Some((name.clone(), values)),
        _ => None,
    };
    Ok(names.iter().filter_map(values).collect())
}

/// Folds `y · std + mean` into the last layer; one number of each holds for all outputs.
fn rescale(onnx: &[u8], last: usize, mean: &[f32], std: &[f32]) -> Result<Vec<u8>, LearnError> {
    let (weight, bias) = (format!("layers.{last}.weight"), format!("layers.{last}.bias"));
    let mut tensors = stored(onnx, &[weight.clone(), bias.clone()])?;
    let mut take = |name: &str| tensors.remove(name).unwrap_or_default();
    let (mut weights, mut biases) = (take(&weight), take(&bias));
    let inputs = weights.len().checked_div(biases.len()).unwrap_or(0).max(1);
    let columns = || mean.iter().zip(std).cycle();
    for (row, (_, std)) in weights.chunks_mut(inputs).zip(columns()) {
        row.iter_mut().for_each(|value| *value *= std);
    }
    for (value, (mean, std)) in biases.iter_mut().zip(columns()) {
        *value = *value * std + mean;
    }
    Ok(patch_initializers(onnx, &BTreeMap::from([(weight, weights), (bias, biases)]))?)
}

/// He initialisation for rectifiers: normal, variance 2 / inputs; no bias.
fn layer(inputs: usize, outputs: usize, random: &mut ChaCha8Rng) -> DenseLayer {
    drawn((2.0 / inputs.max(1) as f64).sqrt(), inputs, outputs, random)
}

/// The same with variance 1 / (3 · inputs), as PyTorch starts dense layers: over 20 seeds networks of tables
/// that begin so small are right more often on rows that have drifted, and no less often on others.
fn small_layer(inputs: usize, outputs: usize, random: &mut ChaCha8Rng) -> DenseLayer {
    drawn((1.0 / (3.0 * inputs.max(1) as f64)).sqrt(), inputs, outputs, random)
}

fn drawn(scale: f64, inputs: usize, outputs: usize, random: &mut ChaCha8Rng) -> DenseLayer {
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

/// The same of whole channels, for each of their samples: a convolution sees all of them alike.
fn spread_of_channels(values: &[f32], channels: usize, length: usize) -> (Vec<f32>, Vec<f32>) {
    let channel = |channel: usize| {
        let rows = values.chunks_exact(channels * length);
        let samples = rows.flat_map(|row| &row[channel * length..(channel + 1) * length]).copied();
        let (mean, std) = spread(&samples.collect::<Vec<_>>(), 1);
        [(mean[0], std[0])].repeat(length)
    };
    (0..channels).flat_map(channel).unzip()
}
