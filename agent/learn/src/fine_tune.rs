//! Training: steps of gradient descent on a file's weights, written back into the file.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use shoal_onnx::{Parameter, parameters, patch_initializers};

use crate::dataset::{Dataset, Targets};
use crate::failure::{LearnError, at};
use crate::loss;
use crate::optimizer::Moved;
use crate::program::Program;
use crate::recipe::{Recipe, Scope};
use crate::scope;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps made, from one.
    pub step: u64,
    /// Steps to make in all.
    pub steps: u64,
    /// Loss of this step's rows before the step.
    pub loss: f64,
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The file with the new weights; all other bytes are the old ones.
    pub onnx: Vec<u8>,
    /// The parameters that moved.
    pub parameters: Vec<String>,
    /// Steps made.
    pub steps: u64,
    /// Loss over all rows before the first step.
    pub first_loss: f64,
    /// Loss over all rows after the last step.
    pub last_loss: f64,
}

/// Lists what could be trained, in the order of the layers.
///
/// # Errors
/// [`LearnError`] when the model cannot be trained at all.
pub fn trainable_parameters(onnx: &[u8]) -> Result<Vec<String>, LearnError> {
    let program = Program::new(onnx)?;
    Ok(parameters(program.graph()).into_iter().map(|parameter| parameter.name).collect())
}

/// The loss over all rows and its gradient by every trainable parameter, flattened row-major.
///
/// # Errors
/// [`LearnError`]; a parameter without a gradient is one.
pub fn gradients(onnx: &[u8], data: &Dataset) -> Result<(f64, BTreeMap<String, Vec<f32>>), LearnError> {
    one_thread();
    let program = Program::new(onnx)?;
    fits(&program, data)?;
    let picked = scope::select(program.graph(), &Scope::All)?;
    let variables = program.variables(&picked)?;
    let order: Vec<usize> = (0..data.len()).collect();
    let loss = loss::of_rows(&program, &variables, data, &data.pick(&order))?;
    let slopes = loss.backward().map_err(at("the backward pass"))?;
    let mut found = BTreeMap::new();
    for (name, variable) in &variables {
        found.insert(name.clone(), slope(&slopes, name, variable)?);
    }
    Ok((loss::value(&loss)?, found))
}

/// Trains a copy of the file: cross-entropy on the scores before a last Softmax (or Sigmoid of one
/// column) for classes, squared error on the output for values.
///
/// The same file, data and recipe give the same bytes on the same build and kind of CPU. The
/// progress callback is asked before each step is made and may stop the run.
///
/// # Errors
/// [`LearnError`]; then nothing is written.
pub fn fine_tune(
    onnx: &[u8],
    data: &Dataset,
    recipe: &Recipe,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    one_thread();
    recipe.check()?;
    let program = Program::new(onnx)?;
    fits(&program, data)?;
    let picked = scope::select(program.graph(), &recipe.scope)?;
    let variables = program.variables(&picked)?;
    let first_loss = finite(loss::of_all(&program, &variables, data)?, "the loss", 0)?;
    let mut run = Run::new(&program, data, recipe, &picked, &variables)?;
    run.all(on_progress)?;
    let steps = run.step;
    let new: BTreeMap<String, Vec<f32>> =
        run.moved.into_iter().map(|(name, moved)| (name, moved.values)).collect();
    let last_loss = finite(loss::of_all(&program, &variables, data)?, "the loss", steps)?;
    Ok(Trained {
        onnx: patch_initializers(onnx, &new)?,
        parameters: picked.into_iter().map(|parameter| parameter.name).collect(),
        steps,
        first_loss,
        last_loss,
    })
}

/// A run in progress.
struct Run<'a> {
    program: &'a Program,
    data: &'a Dataset,
    recipe: &'a Recipe,
    variables: &'a BTreeMap<String, Var>,
    moved: BTreeMap<String, Moved>,
    dims: BTreeMap<String, Vec<usize>>,
    step: u64,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(
        program: &'a Program,
        data: &'a Dataset,
        recipe: &'a Recipe,
        picked: &[Parameter],
        variables: &'a BTreeMap<String, Var>,
    ) -> Result<Self, LearnError> {
        let mut moved = BTreeMap::new();
        for (name, variable) in variables {
            let values = flat(variable.as_tensor()).map_err(at("reading weights"))?;
            moved.insert(name.clone(), Moved::new(values, recipe.optimizer));
        }
        let an_epoch = data.len().div_ceil(recipe.batch) as u64;
        let steps = an_epoch.saturating_mul(recipe.epochs.into()).min(recipe.max_steps);
        let dims = picked.iter().map(|p| (p.name.clone(), p.dims.clone())).collect();
        Ok(Self { program, data, recipe, variables, moved, dims, step: 0, steps })
    }

    fn all(&mut self, on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<(), LearnError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.recipe.seed);
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        while self.step < self.steps {
            order.shuffle(&mut random);
            for rows in order.chunks(self.recipe.batch) {
                if self.step == self.steps {
                    break;
                }
                self.one(rows, on_progress)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        rows: &[usize],
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), LearnError> {
        self.step += 1;
        let loss = loss::of_rows(self.program, self.variables, self.data, &self.data.pick(rows))?;
        let value = finite(loss::value(&loss)?, "the loss", self.step)?;
        if on_progress(Progress { step: self.step, steps: self.steps, loss: value }).is_break() {
            return Err(LearnError::Stopped { step: self.step });
        }
        let slopes = loss.backward().map_err(at("the backward pass"))?;
        for (name, variable) in self.variables {
            let gradient = slope(&slopes, name, variable)?;
            let Some(moved) = self.moved.get_mut(name) else { continue };
            moved.step(&gradient, self.recipe, self.step);
            if !moved.values.iter().all(|value| value.is_finite()) {
                return Err(LearnError::NotFinite { what: format!("parameter `{name}`"), step: self.step });
            }
            let dims = self.dims.get(name).map_or(&[][..], Vec::as_slice);
            let new =
                Tensor::from_slice(&moved.values, dims, &Device::Cpu).and_then(|new| variable.set(&new));
            new.map_err(at("setting weights"))?;
        }
        Ok(())
    }
}

/// The gradient by a parameter. None at all is an error: some operators of candle lose it in
/// silence.
fn slope(slopes: &GradStore, name: &str, variable: &Var) -> Result<Vec<f32>, LearnError> {
    let slope = slopes.get(variable.as_tensor());
    let slope = slope.ok_or_else(|| LearnError::NoGradient { parameter: name.to_owned() })?;
    flat(slope).map_err(at("reading gradients"))
}

fn flat(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn finite(value: f64, what: &str, step: u64) -> Result<f64, LearnError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(LearnError::NotFinite { what: what.into(), step })
}

fn fits(program: &Program, data: &Dataset) -> Result<(), LearnError> {
    let (expected, got) = (program.width(), data.width());
    if expected != got {
        return Err(LearnError::Width { expected, got });
    }
    match data.targets() {
        Targets::Classes(_) => Ok(()),
        Targets::Values { width: 0, .. } => {
            Err(LearnError::Targets { expected: "at least one value a row".into(), got: "none".into() })
        }
        Targets::Values { .. } => Ok(()),
    }
}

/// Keeps matrix products on this thread: on a busy board two threads were six times slower, and
/// results must not depend on their number.
fn one_thread() {
    gemm::set_threading_threshold(usize::MAX);
}
