//! A loaded model.

use serde::{Deserialize, Serialize};
use shoal_onnx::{ClassNames, Datatype, Graph, Limits, OnnxModel, Refusal, TensorSpec};
use thiserror::Error;
use tract_onnx::prelude::{TValue, TVec};

use crate::engine::{self, EngineFailure, Plan, Size};
use crate::plans::{Plans, Shapes, fixed};
use crate::signature::{InferError, arrange};
use crate::tensor::{Tensor, TensorData};

/// Rows tried at load beside one: not a power of two, so that no plan for chunks is met by luck.
const TRIAL_ROWS: usize = 3;

/// What open inner sizes (a sequence's length, an image's side) are tried with at load.
const TRIAL_SIZES: [usize; 3] = [8, 32, 224];

/// Most sizes of stored matrices tried as open sizes: each trial compiles the model.
const MAX_HINTS: usize = 8;

/// Rows run at once when the model needs a plan for each number of rows; a power of two.
const MAX_CHUNK: usize = 32;

/// Operators that look at all rows at once, as most files use them: a row's answer depends on the
/// rows beside it, so that the batch must not be cut.
const COUPLING: [&str; 2] = ["DynamicQuantizeLinear", "MeanVarianceNormalization"];

/// Operators whose plan for an open batch takes up to eight times as long for a row as the plan for
/// one row does (MobileNetV2; 1.3 for small nets): rows go one by one.
const ONE_BY_ONE: [&str; 4] = ["Conv", "ConvInteger", "ConvTranspose", "QLinearConv"];

/// Largest difference between rows run together and alone, relative to max(1, max|y|): beyond,
/// rows depend on one another.
const AGREEMENT: f32 = 1e-3;

/// How a model takes several rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batching {
    /// One plan for any number of rows.
    Open,
    /// A plan for each number of rows; rows are run in chunks of powers of two up to 32.
    PerSize,
    /// Each row alone: more at once fail.
    OneByOne,
    /// The file fixes the number of rows.
    Fixed,
}

/// Why a model could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The pre-check refused the file.
    #[error("the model is refused")]
    Refused(#[from] Refusal),
    /// An input has no shape at all.
    #[error("input `{input}` has no shape")]
    Unranked { input: String },
    /// The engine cannot optimise or run it.
    #[error("the engine cannot serve the model")]
    Engine {
        #[source]
        source: EngineFailure,
    },
}

/// A model ready to predict; `Send + Sync`, without state between calls.
#[derive(Debug)]
pub struct Predictor {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// A tensor from inside, given behind the outputs.
    pub(crate) exposed: Option<TensorSpec>,
    class_names: Vec<ClassNames>,
    batching: Batching,
    couples_rows: bool,
    unsteady_op: Option<String>,
    /// Whether several rows are faster one by one, and the same.
    pub(crate) goes_alone: bool,
    /// Sizes of stored matrices: an input that is open all over is as wide as one of them.
    hints: Vec<usize>,
    /// Output slot for [`Predictor::rows`]: the first of floating point numbers.
    pub(crate) float_output: Option<usize>,
    /// The smallest shapes (one row where that is open), with no open size; the fastest.
    smallest: Option<(Shapes, Plan)>,
    any_rows: Option<Plan>,
    /// Absent when the two above answer everything: it holds a copy of the file.
    plans: Option<Plans>,
}

impl Predictor {
    /// Checks, optimises and tries a model, on one row and on three.
    ///
    /// Runs the engine: on a file from elsewhere only after [`crate::admit`] in a child process.
    ///
    /// # Errors
    /// [`LoadError`] when the pre-check, the optimiser or the trial on one row fails.
    pub fn load(onnx: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        Self::load_exposing(onnx, None, limits)
    }

    /// [`Predictor::load`], and [`Predictor::infer`] gives one more tensor behind the outputs: an activation
    /// such as [`Graph::penultimate`](shoal_onnx::Graph::penultimate), in single precision.
    ///
    /// # Errors
    /// [`LoadError`], also when no node makes the tensor.
    pub fn load_exposing(onnx: &[u8], inside: Option<&str>, limits: &Limits) -> Result<Self, LoadError> {
        let mut model = OnnxModel::parse(onnx, limits)?;
        if let Some(input) = model.inputs().iter().find(|input| !input.ranked) {
            return Err(LoadError::Unranked { input: input.name.clone() });
        }
        let class_names = model.class_names().to_vec();
        let (inputs, outputs) = (model.inputs().to_vec(), model.outputs().to_vec());
        let graph = model.graph();
        let exposed = inside.map(|tensor| model.expose(tensor)).transpose()?;
        let hints = hints(&graph);
        let is_slow_together = graph.nodes.iter().any(|node| ONE_BY_ONE.contains(&node.op.as_str()));
        let couples_rows = graph.nodes.iter().any(|node| COUPLING.contains(&node.op.as_str()));
        let unsteady_op = model.unsteady_op().map(str::to_owned);
        let datatypes: Vec<Datatype> = inputs.iter().map(|input| engine::held_as(input.datatype)).collect();
        let plans = Plans::new(model.into_proto(), datatypes);
        let mut loaded = Self {
            inputs,
            outputs,
            exposed,
            class_names,
            batching: Batching::Fixed,
            couples_rows,
            unsteady_op,
            goes_alone: false,
            hints,
            float_output: None,
            smallest: None,
            any_rows: None,
            plans: Some(plans),
        };
        loaded.settle().map_err(|source| LoadError::Engine { source })?;
        loaded.goes_alone = is_slow_together && loaded.agrees_alone();
        Ok(loaded)
    }

    /// What a caller must give.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What comes out, as the file says it.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Whether the last of the tensors that it gives is from inside the graph.
    #[must_use]
    pub fn is_exposing(&self) -> bool {
        self.exposed.is_some()
    }

    /// What the columns of an output are called, where the file zips them with class names.
    #[must_use]
    pub fn class_names(&self) -> &[ClassNames] {
        &self.class_names
    }

    /// How several rows are taken.
    #[must_use]
    pub fn batching(&self) -> Batching {
        self.batching
    }

    /// Whether a row's answer depends on the rows beside it: scales of `DynamicQuantizeLinear` are
    /// taken over the whole batch.
    #[must_use]
    pub fn couples_rows(&self) -> bool {
        self.couples_rows
    }

    /// The first operator whose work depends on the values fed, `None` when the shapes alone decide how
    /// long a call takes.
    #[must_use]
    pub fn unsteady_op(&self) -> Option<&str> {
        self.unsteady_op.as_deref()
    }

    /// Runs the model on named tensors, in any order.
    ///
    /// # Errors
    /// [`InferError`] with the input's name, what was expected and what came.
    pub fn infer(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let arranged = arrange(&self.inputs, tensors)?;
        let chunk = match self.batching {
            Batching::Open if self.goes_alone => Some(1),
            Batching::Open | Batching::Fixed => None,
            Batching::PerSize => Some(MAX_CHUNK),
            Batching::OneByOne => Some(1),
        };
        let rows = self.row_count(&arranged)?;
        match chunk {
            Some(most) if rows > 1 => self.in_chunks(&arranged, rows, most),
            _ => self.at_once(&arranged),
        }
    }

    /// Rows of all inputs; one when the file fixes them.
    fn row_count(&self, arranged: &[&Tensor]) -> Result<usize, InferError> {
        if self.batching == Batching::Fixed {
            return Ok(1);
        }
        let rows = |tensor: &Tensor| tensor.shape.first().copied().unwrap_or(1);
        let expected = arranged.first().map_or(1, |tensor| rows(tensor));
        match arranged.iter().find(|tensor| rows(tensor) != expected) {
            None => Ok(expected),
            Some(odd) => Err(InferError::RowCount { input: odd.name.clone(), expected, got: rows(odd) }),
        }
    }

    fn at_once(&self, arranged: &[&Tensor]) -> Result<Vec<Tensor>, InferError> {
        let shapes: Shapes = arranged.iter().map(|tensor| tensor.shape.clone()).collect();
        let values = arranged
            .iter()
            .zip(&self.inputs)
            .map(|(tensor, spec)| engine::give(tensor, engine::held_as(spec.datatype)))
            .collect::<Result<TVec<TValue>, _>>()?;
        let made = self.run(shapes, values)?;
        let named = self.outputs.iter().chain(&self.exposed).zip(&made);
        Ok(named.map(|(spec, value)| engine::take(spec, value)).collect::<Result<_, _>>()?)
    }

    fn in_chunks(&self, arranged: &[&Tensor], rows: usize, most: usize) -> Result<Vec<Tensor>, InferError> {
        let mut whole: Vec<Tensor> = Vec::new();
        let mut done = 0;
        while done < rows {
            let size = chunk(rows - done, most);
            let parts: Vec<Tensor> = arranged.iter().map(|tensor| part(tensor, done, size, rows)).collect();
            let made = self.at_once(&parts.iter().collect::<Vec<_>>())?;
            for (place, mut tensor) in made.into_iter().enumerate() {
                if tensor.shape.first() != Some(&size) {
                    let (output, got) = (tensor.name, tensor.shape);
                    return Err(InferError::OutputRows { output, rows: size, got });
                }
                match whole.get_mut(place) {
                    None => {
                        tensor.shape[0] = rows;
                        whole.push(tensor);
                    }
                    Some(before) => {
                        before.data.append(tensor.data);
                    }
                }
            }
            done += size;
        }
        Ok(whole)
    }

    /// Runs the engine with the best plan there is for these shapes.
    pub(crate) fn run(&self, shapes: Shapes, values: TVec<TValue>) -> Result<TVec<TValue>, EngineFailure> {
        if let Some((fitting, plan)) = &self.smallest
            && *fitting == shapes
        {
            return engine::run(plan, values);
        }
        if let Some(plan) = &self.any_rows {
            return engine::run(plan, values);
        }
        match &self.plans {
            Some(plans) => engine::run(&plans.get(&shapes)?, values),
            None => Err(EngineFailure::Error { message: "no plan fits these shapes".into() }),
        }
    }

    /// Finds out what works, and keeps the plans for it.
    fn settle(&mut self) -> Result<(), EngineFailure> {
        let is_free = self.inputs.iter().any(|input| input.dims.iter().skip(1).any(Option::is_none));
        let batches = !self.inputs.is_empty() && self.inputs.iter().all(TensorSpec::batches);
        let sizes: Vec<usize> = match is_free {
            true => TRIAL_SIZES.iter().chain(&self.hints).copied().collect(),
            false => TRIAL_SIZES[..1].to_vec(),
        };
        let mut failure = None;
        for free in &sizes {
            match self.try_rows(1, *free) {
                Ok(made) => {
                    failure = None;
                    self.float_output = made.iter().position(is_float);
                    if !is_free {
                        self.smallest = self.smallest_plan(*free).ok();
                    }
                    if batches {
                        self.batching = self.try_batches(is_free, *free)?;
                    }
                    break;
                }
                Err(cause) => failure = failure.or(Some(cause)),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        // With these, every shape that is let through has its plan already.
        let is_fixed = self.inputs.iter().all(|input| input.dims.iter().all(Option::is_some));
        let is_settled = match self.batching {
            Batching::Open | Batching::OneByOne => !is_free,
            Batching::Fixed => is_fixed,
            Batching::PerSize => false,
        };
        if is_settled && self.smallest.is_some() {
            self.plans = None;
        }
        Ok(())
    }

    fn try_batches(&mut self, is_free: bool, free: usize) -> Result<Batching, EngineFailure> {
        if !is_free {
            let failure = match self.open_plan() {
                Ok(plan) => {
                    self.any_rows = Some(plan);
                    match self.try_rows(TRIAL_ROWS, free) {
                        Ok(_) => return Ok(Batching::Open),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            tracing::info!(%failure, "no plan for any number of rows, one is made for each");
            self.any_rows = None;
        }
        let per_size = self
            .try_rows(2, free)
            .is_ok_and(|made| made.iter().all(|value| value.shape().first() == Some(&2)));
        Ok(if per_size { Batching::PerSize } else { Batching::OneByOne })
    }

    fn open_plan(&self) -> Result<Plan, EngineFailure> {
        let facts: Vec<_> = self
            .inputs
            .iter()
            .map(|input| {
                let mut sizes = fixed(&shape(input, 1, 1));
                sizes[0] = Size::Batch;
                (engine::held_as(input.datatype), sizes)
            })
            .collect();
        match &self.plans {
            Some(plans) => plans.compile(&facts),
            None => Err(EngineFailure::Error { message: "the file is no longer held".into() }),
        }
    }

    fn smallest_plan(&self, free: usize) -> Result<(Shapes, Plan), EngineFailure> {
        let shapes: Shapes = self.inputs.iter().map(|input| shape(input, 1, free)).collect();
        match &self.plans {
            Some(plans) => plans.get(&shapes).map(|plan| (shapes, plan)),
            None => Err(EngineFailure::Error { message: "the file is no longer held".into() }),
        }
    }

    fn try_rows(&self, rows: usize, free: usize) -> Result<TVec<TValue>, EngineFailure> {
        let shapes: Shapes = self.inputs.iter().map(|input| shape(input, rows, free)).collect();
        let values = self
            .inputs
            .iter()
            .zip(&shapes)
            .map(|(input, shape)| {
                engine::give(
                    &engine::sample(&input.name, input.datatype, shape),
                    engine::held_as(input.datatype),
                )
            })
            .collect::<Result<TVec<TValue>, _>>()?;
        let made = self.run(shapes, values)?;
        // Sizes that the plan left open show only when an output is taken.
        made.iter().try_for_each(|value| engine::taken("", value).map(drop))?;
        Ok(made)
    }

    /// Whether rows that differ give the same answers alone as together.
    fn agrees_alone(&self) -> bool {
        if self.batching != Batching::Open || self.couples_rows || self.smallest.is_none() {
            return false;
        }
        let mut samples = self.samples(TRIAL_ROWS);
        for sample in &mut samples {
            if let TensorData::F32(values) = &mut sample.data {
                let vary = |(at, value): (usize, &mut f32)| *value = ((at * 7 % 11) as f32 - 5.0) / 8.0;
                values.iter_mut().enumerate().for_each(vary);
            }
        }
        let arranged: Vec<&Tensor> = samples.iter().collect();
        match (self.at_once(&arranged), self.in_chunks(&arranged, TRIAL_ROWS, 1)) {
            (Ok(together), Ok(alone)) => together.iter().zip(&alone).all(|(a, b)| agree(a, b)),
            _ => false,
        }
    }

    /// Sample inputs of a number of rows, for admission.
    pub(crate) fn samples(&self, rows: usize) -> Vec<Tensor> {
        let rows = if self.batching == Batching::Fixed { 1 } else { rows };
        let sample = |input: &TensorSpec| {
            engine::sample(&input.name, input.datatype, &shape(input, rows, TRIAL_SIZES[0]))
        };
        self.inputs.iter().map(sample).collect()
    }
}

fn agree(a: &Tensor, b: &Tensor) -> bool {
    let (Some(x), Some(y)) = (a.f32s(), b.f32s()) else { return a == b };
    let scale = x.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    a.shape == b.shape && x.iter().zip(y).all(|(x, y)| (x - y).abs() <= AGREEMENT * scale)
}

/// Sizes of stored matrices, each once, the first few.
fn hints(graph: &Graph) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    for matrix in graph.initializers.values().filter(|constant| constant.dims.len() == 2) {
        for size in matrix.dims.iter().filter(|size| **size > 0) {
            if sizes.len() < MAX_HINTS && !sizes.contains(size) && !TRIAL_SIZES.contains(size) {
                sizes.push(*size);
            }
        }
    }
    sizes
}

fn is_float(value: &TValue) -> bool {
    value.datum_type().is_float()
}

/// A concrete shape: `rows` for an open first size, `free` for other open ones.
fn shape(spec: &TensorSpec, rows: usize, free: usize) -> Vec<usize> {
    let sizes = spec.dims.iter().enumerate();
    sizes
        .map(|(place, dim)| match dim {
            Some(size) => usize::try_from(*size).unwrap_or(usize::MAX),
            None if place == 0 => rows,
            None => free,
        })
        .collect()
}

/// The largest power of two that is at most `left` and `most`.
fn chunk(left: usize, most: usize) -> usize {
    let left = left.min(most);
    1 << left.ilog2()
}

fn part(tensor: &Tensor, start: usize, size: usize, rows: usize) -> Tensor {
    let row = tensor.data.len() / rows;
    let mut shape = tensor.shape.clone();
    shape[0] = size;
    let data = tensor.data.slice(start * row..(start + size) * row);
    Tensor { name: tensor.name.clone(), shape, data }
}
