//! A training run, a step at a time.

mod prepare;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shoal_grad::Program;
use shoal_onnx::{Parameter, patch_parameters};

use crate::checkpoint::{Best, Checkpoint, CheckpointError, Saved};
use crate::dataset::Source;
use crate::failure::LearnError;
use crate::feeder::{Feeder, Kept};
use crate::fit::normal;
use crate::lower::THIN;
use crate::model::Model;
use crate::network::{Network, Plan};
use crate::optimizer::{Memory, Rates};
use crate::order::Order;
use crate::recipe::{Recipe, Schedule};
use crate::scope;

pub(crate) use prepare::run_bytes;
use prepare::{Planned, class_weights, classes, fingerprint, fits, planned, writable};

/// Rows that the stiffness of elastic weight consolidation is measured on, at most.
const FISHER_ROWS: usize = 256;
/// The random stream of the first thin matrices.
const THIN_STREAM: u64 = 2;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps made, from one.
    pub step: u64,
    /// Steps to make in all, unless the run stops early.
    pub steps: u64,
    /// Loss of this step's rows before the step.
    pub loss: f64,
    /// Loss of the held-out rows, when they were looked at after this step.
    pub held_out_loss: Option<f64>,
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
    /// The step whose weights these are: an earlier one where held-out rows decided.
    pub best_step: u64,
    /// Loss over all rows before the first step.
    pub first_loss: f64,
    /// Loss over all rows with the new weights.
    pub last_loss: f64,
}

/// A training run in progress.
///
/// The same file, rows and recipe give the same bytes on the same build and kind of CPU, also when the run is
/// resumed from a [`Checkpoint`] of it. Memory is planned when the session is made and does not grow.
pub struct Session<'a> {
    onnx: &'a [u8],
    recipe: Recipe,
    model: Model,
    picked: Vec<Parameter>,
    source: &'a mut dyn Source,
    held_out: Option<&'a mut dyn Source>,
    network: Network,
    program: Program<f32>,
    kept: Option<Kept>,
    evaluated: Network,
    evaluation: Program<f32>,
    feeder: Feeder,
    held_out_feeder: Option<Feeder>,
    order: Order,
    memories: Vec<Memory>,
    /// Gradients summed over the parts of a batch, where it is worked on in parts.
    sums: Vec<Vec<f32>>,
    /// Running statistics of normalisations by batch.
    statistics: Vec<Vec<f32>>,
    best: Option<Best>,
    worse: u32,
    is_over: bool,
    step: u64,
    steps: u64,
    first_loss: f64,
    bytes: usize,
    fingerprint: u64,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("step", &self.step)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Makes a run ready: parses the file, plans memory, and measures the loss before the first step.
    ///
    /// Held-out rows are never trained on; with [`Recipe::patience`] they decide when to stop.
    ///
    /// # Errors
    /// [`LearnError`]; the model, the rows or the recipe do not fit, or the memory does not suffice.
    pub fn new(
        onnx: &'a [u8],
        source: &'a mut dyn Source,
        held_out: Option<&'a mut dyn Source>,
        recipe: &Recipe,
    ) -> Result<Self, LearnError> {
        recipe.check()?;
        let model = Model::parse(onnx)?;
        fits(&model, &*source, recipe)?;
        if let Some(held_out) = &held_out {
            fits(&model, &**held_out, recipe)?;
        }
        let picked = scope::select(&model.graph, &recipe.scope)?;
        writable(onnx, &model, &picked)?;
        let plan = Plan { model: &model, recipe, picked: &picked, targets: source.targets() };
        let order = Order::new(source.rows(), source.replay_from(), recipe);
        let planned = planned(plan, order.batch(), source)?;
        let Planned { network, kept, evaluated, bytes } = planned;
        let program = network.program(&network.results())?;
        let evaluation = evaluated.program(&[evaluated.loss])?;
        let classes = classes(source, recipe)?;
        let class_weights = class_weights(recipe, &classes, network.columns);
        let feeder = Feeder::new(&*source, recipe, &class_weights, &classes);
        let held_out_feeder = held_out.as_ref().map(|held_out| Feeder::new(&**held_out, recipe, &[], &[]));
        let fingerprint = fingerprint(onnx, recipe, &*source);
        let is_in_parts = network.rows < order.batch();
        let sum = |moving: &crate::network::Moving| vec![0.0; moving.dims.iter().product()];
        let sums = if is_in_parts { network.moving.iter().map(sum).collect() } else { Vec::new() };
        let statistics = network.statistics.iter().map(|s| model.stored(&s.name).to_vec()).collect();
        let steps = order.steps().saturating_mul(recipe.epochs.into()).min(recipe.max_steps);
        let mut session = Self {
            onnx,
            recipe: recipe.clone(),
            picked,
            source,
            held_out,
            program,
            kept,
            evaluated,
            evaluation,
            feeder,
            held_out_feeder,
            order,
            memories: Vec::new(),
            sums,
            statistics,
            best: None,
            worse: 0,
            is_over: false,
            step: 0,
            steps,
            first_loss: 0.0,
            bytes,
            fingerprint,
            network,
            model,
        };
        session.begin()?;
        Ok(session)
    }

    /// Puts the stored weights in place.
    fn begin(&mut self) -> Result<(), LearnError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.recipe.seed);
        random.set_stream(THIN_STREAM);
        for moving in &self.network.moving {
            let values = self.program.own_mut(moving.id);
            if moving.name.ends_with(THIN[1]) {
                // The first product is nought, since its other factor is.
                let scale = (1.0 / moving.dims[0] as f64).sqrt();
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                values.iter_mut().for_each(|value| *value = (normal(&mut random) * scale) as f32);
            } else if !moving.name.ends_with(THIN[0]) {
                values.copy_from_slice(self.model.stored(&moving.name));
            }
            self.memories.push(Memory::new(values, &self.recipe));
        }
        if self.recipe.ewc > 0.0 {
            self.measure_stiffness()?;
        }
        self.first_loss = finite(self.loss_of_all()?, "the loss", 0)?;
        Ok(())
    }

    /// Bytes that the run takes beside the file and its rows, planned beforehand.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows that are worked on at once.
    #[must_use]
    pub fn rows_at_once(&self) -> usize {
        self.network.rows
    }

    /// Whether the first layers are computed once and kept.
    #[must_use]
    pub fn keeps_activations(&self) -> bool {
        self.kept.is_some()
    }

    /// Makes the next step; `None` when the run is over.
    ///
    /// # Errors
    /// [`LearnError::NotFinite`], or what the source says.
    pub fn step(&mut self) -> Result<Option<Progress>, LearnError> {
        if self.step >= self.steps || self.is_over {
            return Ok(None);
        }
        let loss = self.gradients()?;
        self.step += 1;
        let loss = finite(loss, "the loss", self.step)?;
        self.move_all()?;
        self.follow_statistics();
        let every = match self.recipe.evaluate_every {
            0 => self.order.steps(),
            every => every,
        };
        let is_due = self.recipe.patience > 0 && (self.step.is_multiple_of(every) || self.step == self.steps);
        let held_out_loss = if is_due { self.judge()? } else { None };
        Ok(Some(Progress { step: self.step, steps: self.steps, loss, held_out_loss }))
    }

    /// Loss and gradients of the next batch, by the weights as they are.
    fn gradients(&mut self) -> Result<f64, LearnError> {
        let rows = self.order.rows_of(self.step);
        let count = rows.len();
        let mut loss = 0.0;
        self.sums.iter_mut().for_each(|sum| sum.fill(0.0));
        for part in rows.chunks(self.network.rows) {
            let source: &mut dyn Source = &mut *self.source;
            self.feeder.fill(&self.network, &mut self.program, (source, self.kept.as_ref()), part, count)?;
            self.program.run();
            loss += f64::from(self.program.get(self.network.loss)[0]);
            for (moving, sum) in self.network.moving.iter().zip(&mut self.sums) {
                let gradient = self.program.get(moving.gradient);
                sum.iter_mut().zip(gradient).for_each(|(sum, slope)| *sum += slope);
            }
        }
        Ok(loss)
    }

    fn move_all(&mut self) -> Result<(), LearnError> {
        let learning_rate = self.learning_rate();
        let shrink = self.shrink();
        let rates = Rates { learning_rate, step: self.step, shrink };
        for (place, moving) in self.network.moving.iter().enumerate() {
            let (values, gradient) = self.program.beside(moving.id, moving.gradient);
            let gradient = self.sums.get(place).map_or(gradient, Vec::as_slice);
            self.memories[place].step(values, gradient, &self.recipe, rates);
            if !values.iter().all(|value| value.is_finite()) {
                let what = format!("parameter `{}`", moving.name);
                return Err(LearnError::NotFinite { what, step: self.step });
            }
        }
        Ok(())
    }

    /// The step size now.
    fn learning_rate(&self) -> f64 {
        let warm = self.recipe.warm_up * self.steps as f64;
        let at = (self.step - 1) as f64;
        if at < warm {
            return self.recipe.learning_rate * (at + 1.0) / warm.max(1.0);
        }
        match self.recipe.schedule {
            Schedule::Constant => self.recipe.learning_rate,
            Schedule::Cosine => {
                let share = (at - warm) / (self.steps as f64 - warm).max(1.0);
                self.recipe.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        }
    }

    /// What all gradients are multiplied by, so that together they are no longer than they may be.
    fn shrink(&self) -> f64 {
        if self.recipe.clip_norm == 0.0 {
            return 1.0;
        }
        let squares = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        let sum: f64 = if self.sums.is_empty() {
            self.network.moving.iter().map(|moving| squares(self.program.get(moving.gradient))).sum()
        } else {
            self.sums.iter().map(|sum| squares(sum)).sum()
        };
        (self.recipe.clip_norm / sum.sqrt()).min(1.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "statistics are f32")]
    fn follow_statistics(&mut self) {
        for (stored, statistics) in self.statistics.iter_mut().zip(&self.network.statistics) {
            let kept = statistics.momentum as f32;
            for (stored, batch) in stored.iter_mut().zip(self.program.get(statistics.value)) {
                *stored = kept * *stored + (1.0 - kept) * batch;
            }
        }
    }

    /// Looks at the held-out rows, and stops when they have not become better for too long.
    fn judge(&mut self) -> Result<Option<f64>, LearnError> {
        let Some(loss) = self.held_out_loss()? else { return Ok(None) };
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            let values = self.network.moving.iter().map(|moving| self.program.get(moving.id).to_vec());
            let (values, statistics) = (values.collect(), self.statistics.clone());
            self.best = Some(Best { step: self.step, loss, values, statistics });
            self.worse = 0;
        } else {
            self.worse += 1;
            self.is_over = self.worse >= self.recipe.patience;
        }
        Ok(Some(loss))
    }

    fn held_out_loss(&mut self) -> Result<Option<f64>, LearnError> {
        let (Some(source), Some(feeder)) = (&mut self.held_out, &mut self.held_out_feeder) else {
            return Ok(None);
        };
        give_weights(&self.network, &self.program, &self.evaluated, &mut self.evaluation);
        evaluate(&self.evaluated, &mut self.evaluation, &mut **source, feeder).map(Some)
    }

    fn loss_of_all(&mut self) -> Result<f64, LearnError> {
        give_weights(&self.network, &self.program, &self.evaluated, &mut self.evaluation);
        evaluate(&self.evaluated, &mut self.evaluation, &mut *self.source, &mut self.feeder)
    }

    /// Mean squares of the gradients of single rows: the diagonal of the empirical Fisher information.
    fn measure_stiffness(&mut self) -> Result<(), LearnError> {
        let targets = self.source.targets();
        let plan = Plan { model: &self.model, recipe: &self.recipe, picked: &self.picked, targets };
        let single = Network::new(plan, 1)?.with_gradients()?;
        let mut program = single.program::<f32>(&single.results())?;
        give_weights(&self.network, &self.program, &single, &mut program);
        let (rows, from) = (self.source.rows(), self.source.replay_from());
        let from = if from < rows { from } else { 0 };
        let stride = (rows - from).div_ceil(FISHER_ROWS).max(1);
        let chosen: Vec<usize> = (from..rows).step_by(stride).collect();
        for memory in &mut self.memories {
            memory.stiffness = vec![0.0; memory.start.len()];
        }
        for row in &chosen {
            let source: &mut dyn Source = &mut *self.source;
            self.feeder.fill(&single, &mut program, (source, None), &[*row], 1)?;
            program.run();
            for (moving, memory) in single.moving.iter().zip(&mut self.memories) {
                let gradient = program.get(moving.gradient);
                let squares = gradient.iter().map(|slope| slope * slope / chosen.len() as f32);
                memory.stiffness.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
            }
        }
        Ok(())
    }

    /// The run as it is between two steps.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let moving = self.network.moving.iter().zip(&self.memories).map(|(moving, memory)| Saved {
            values: self.program.get(moving.id).to_vec(),
            first: memory.first.clone(),
            second: memory.second.clone(),
            start: memory.start.clone(),
            stiffness: memory.stiffness.clone(),
        });
        Checkpoint {
            fingerprint: self.fingerprint,
            step: self.step,
            first_loss: self.first_loss,
            moving: moving.collect(),
            statistics: self.statistics.clone(),
            best: self.best.clone(),
            worse: self.worse,
            is_over: self.is_over,
        }
    }

    /// Goes on from where a run with the same file, rows and recipe was.
    ///
    /// # Errors
    /// [`CheckpointError`] when it was another run; then nothing has changed.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if checkpoint.fingerprint != self.fingerprint {
            return Err(CheckpointError::OtherRun);
        }
        let fits = |saved: &Saved, memory: &Memory, elements: usize| {
            saved.values.len() == elements
                && saved.first.len() == memory.first.len()
                && saved.second.len() == memory.second.len()
                && saved.start.len() == memory.start.len()
                && saved.stiffness.len() == memory.stiffness.len()
        };
        let all = checkpoint.moving.iter().zip(self.memories.iter().zip(&self.network.moving));
        let sizes = |lists: &[Vec<f32>]| lists.iter().map(Vec::len).collect::<Vec<_>>();
        let fits = checkpoint.moving.len() == self.memories.len()
            && { all }.all(|(saved, (memory, moving))| fits(saved, memory, moving.dims.iter().product()))
            && sizes(&checkpoint.statistics) == sizes(&self.statistics);
        if !fits {
            return Err(CheckpointError::Sizes);
        }
        for ((saved, memory), moving) in
            checkpoint.moving.iter().zip(&mut self.memories).zip(&self.network.moving)
        {
            let Saved { values, first, second, start, stiffness } = saved.clone();
            self.program.own_mut(moving.id).copy_from_slice(&values);
            *memory = Memory { first, second, start, stiffness };
        }
        self.step = checkpoint.step;
        self.first_loss = checkpoint.first_loss;
        self.statistics.clone_from(&checkpoint.statistics);
        self.best.clone_from(&checkpoint.best);
        (self.worse, self.is_over) = (checkpoint.worse, checkpoint.is_over);
        Ok(())
    }

    /// Writes the weights into the file: the best ones where held-out rows decided, else the last.
    ///
    /// # Errors
    /// [`LearnError`]; then nothing is written.
    pub fn finish(mut self) -> Result<Trained, LearnError> {
        let best_step = self.best.as_ref().map_or(self.step, |best| best.step);
        if let Some(best) = self.best.take() {
            for (moving, values) in self.network.moving.iter().zip(&best.values) {
                self.program.own_mut(moving.id).copy_from_slice(values);
            }
            self.statistics = best.statistics;
        }
        let last_loss = finite(self.loss_of_all()?, "the loss", self.step)?;
        // What only steps need makes room for what is written.
        (self.memories, self.sums) = (Vec::new(), Vec::new());
        let mut new: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        if self.network.merged.is_empty() {
            for moving in &self.network.moving {
                new.insert(moving.name.clone(), self.program.get(moving.id).to_vec());
            }
        } else {
            self.program.run();
            for (name, id) in &self.network.merged {
                new.insert(name.clone(), self.program.get(*id).to_vec());
            }
        }
        let names = self.network.statistics.iter().map(|statistics| statistics.name.clone());
        new.extend(names.zip(self.statistics));
        Ok(Trained {
            onnx: patch_parameters(self.onnx, &new)?,
            parameters: self.picked.into_iter().map(|parameter| parameter.name).collect(),
            steps: self.step,
            best_step,
            first_loss: self.first_loss,
            last_loss,
        })
    }
}

/// Copies the weights of one network's program into another's.
fn give_weights(from: &Network, program: &Program<f32>, to: &Network, other: &mut Program<f32>) {
    for (mine, theirs) in from.moving.iter().zip(&to.moving) {
        other.own_mut(theirs.id).copy_from_slice(program.get(mine.id));
    }
}

/// The mean loss over all rows of a source.
fn evaluate(
    network: &Network,
    program: &mut Program<f32>,
    source: &mut (dyn Source + '_),
    feeder: &mut Feeder,
) -> Result<f64, LearnError> {
    let all: Vec<usize> = (0..source.rows()).collect();
    let mut sum = 0.0;
    for rows in all.chunks(network.rows) {
        feeder.fill(network, program, (&mut *source, None), rows, all.len())?;
        program.run();
        sum += f64::from(program.get(network.loss)[0]);
    }
    Ok(sum)
}

fn finite(value: f64, what: &str, step: u64) -> Result<f64, LearnError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(LearnError::NotFinite { what: what.into(), step })
}
