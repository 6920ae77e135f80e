//! A model, its loss and the gradients, laid out for a fixed number of rows.

use std::collections::{BTreeMap, BTreeSet};

use shoal_grad::kernel::loss::Loss;
use shoal_grad::kernel::movement::LookUp;
use shoal_grad::kernel::unary::Unary;
use shoal_grad::{GradError, Id, Layout, MAX_HELD_BYTES, Program, Real, Tape};
use shoal_onnx::Parameter;

use crate::dataset::TargetKind;
use crate::failure::LearnError;
use crate::lower::{BatchNorm, Lowered, Wanted, lower};
use crate::model::{Head, Model};
use crate::recipe::{LossKind, Recipe, Scope, Statistics};

/// Something that moves: a parameter, or one of the two thin matrices that are added to one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moving {
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) id: Id,
    pub(crate) gradient: Id,
}

/// A tape with what is on it.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) tape: Tape,
    pub(crate) rows: usize,
    pub(crate) features: Id,
    /// Tables that features are indices into.
    pub(crate) tables: Vec<LookUp>,
    pub(crate) targets: Id,
    pub(crate) weights: Id,
    pub(crate) loss: Id,
    pub(crate) moving: Vec<Moving>,
    /// Whole weights of parameters that are moved by thin matrices.
    pub(crate) merged: BTreeMap<String, Id>,
    pub(crate) statistics: Vec<crate::lower::Statistics>,
    pub(crate) kind: Loss,
    pub(crate) columns: usize,
}

fn whole(source: GradError) -> LearnError {
    LearnError::Program { source }
}

/// What is lowered into a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) model: &'a Model,
    pub(crate) recipe: &'a Recipe,
    pub(crate) picked: &'a [Parameter],
    pub(crate) targets: TargetKind,
}

impl Network {
    /// Lowers a model for so many rows, with its loss, and no gradients yet.
    pub(crate) fn new(plan: Plan<'_>, rows: usize) -> Result<Self, LearnError> {
        let Plan { model, recipe, picked, targets } = plan;
        let (kind, value) = loss_of(model, recipe.loss, targets)?;
        let inputs = BTreeMap::from([(model.input.clone(), model.shape(rows))]);
        let thin = match recipe.scope {
            Scope::LowRank { rank } => Some(rank),
            _ => None,
        };
        let trainable: BTreeSet<String> = picked.iter().map(|parameter| parameter.name.clone()).collect();
        let batch_norm = match recipe.batch_norm {
            Statistics::Stored => BatchNorm::AsStored,
            Statistics::Batch => BatchNorm::Training,
        };
        let wanted = Wanted {
            values: &[value],
            inputs: &inputs,
            trainable: &trainable,
            rank: thin,
            batch_norm,
            room: room(recipe),
        };
        let Lowered { mut tape, values, parameters, merged, statistics } = lower(&model.graph, &wanted)?;
        let features = values[&model.input].id;
        let tables = tape.look_ups(features);
        let mut scores = per_row(&mut tape, values[value].id, rows)?;
        if model.head == Head::Shares && kind == Loss::CrossEntropy && value == model.scores {
            // The shares are the Softmax of the Sigmoids' logarithms.
            for function in [
                Unary::Affine { scale: -1.0, shift: 0.0 },
                Unary::Softplus,
                Unary::Affine { scale: -1.0, shift: 0.0 },
            ] {
                scores = tape.unary(function, scores).map_err(whole)?;
            }
        }
        if recipe.loss == LossKind::LogLikelihood {
            // Softmax of logarithms of probabilities gives the probabilities back.
            scores = tape.unary(Unary::Log, scores).map_err(whole)?;
        }
        let columns = tape.shape(scores)[1];
        check(model, recipe.loss, kind, targets, columns)?;
        let shape = if kind == Loss::CrossEntropy { vec![rows] } else { vec![rows, columns] };
        let (targets, weights) = (tape.fed(&shape).map_err(whole)?, tape.fed(&[rows]).map_err(whole)?);
        let loss = tape.loss(kind, scores, targets, weights).map_err(whole)?;
        let moving = parameters.into_iter().map(|(name, id)| {
            let dims = tape.shape(id).to_vec();
            Moving { name, dims, id, gradient: id }
        });
        let moving = moving.collect();
        Ok(Self {
            tape,
            rows,
            features,
            tables,
            targets,
            weights,
            loss,
            moving,
            merged,
            statistics,
            kind,
            columns,
        })
    }

    /// Adds the gradients by all that moves.
    ///
    /// A parameter without one is an error: training it would do nothing.
    pub(crate) fn with_gradients(mut self) -> Result<Self, LearnError> {
        let ids: Vec<Id> = self.moving.iter().map(|moving| moving.id).collect();
        let found = self.tape.differentiate(self.loss, &ids).map_err(whole)?;
        for (moving, gradient) in self.moving.iter_mut().zip(found) {
            let missing = || LearnError::NoGradient { parameter: moving.name.clone() };
            moving.gradient = gradient.ok_or_else(missing)?;
        }
        Ok(self)
    }

    /// What a training step computes.
    pub(crate) fn results(&self) -> Vec<Id> {
        let gradients = self.moving.iter().map(|moving| moving.gradient);
        let statistics = self.statistics.iter().map(|statistics| statistics.value);
        gradients.chain([self.loss]).chain(statistics).chain(self.merged.values().copied()).collect()
    }

    /// Bytes that [`Network::program`] takes for these results, in 32 bits.
    pub(crate) fn bytes(&self, results: &[Id]) -> Result<usize, LearnError> {
        Ok(Layout::new(&self.tape, results).map_err(whole)?.bytes(size_of::<f32>()))
    }

    pub(crate) fn program<T: Real>(&self, results: &[Id]) -> Result<Program<T>, LearnError> {
        Program::new(&self.tape, results).map_err(whole)
    }
}

/// Bytes that may be held before a run: no more than the run may take, but for the smallest budgets.
fn room(recipe: &Recipe) -> usize {
    /// 16 MiB: what the program itself takes, so that a small budget is refused for what is missing.
    const LEAST: usize = 16 << 20;
    match usize::try_from(recipe.memory_bytes).unwrap_or(usize::MAX) {
        0 => MAX_HELD_BYTES,
        // Numbers that are made up are held in 64 bits and trained with in 32.
        bytes => bytes.saturating_mul(2).clamp(LEAST, MAX_HELD_BYTES),
    }
}

/// Which loss, and of which value.
fn loss_of(model: &Model, kind: LossKind, targets: TargetKind) -> Result<(Loss, &str), LearnError> {
    let (scores, output) = (model.scores.as_str(), model.output.as_str());
    let classes = || match model.head {
        Head::Sigmoid => (Loss::Binary, scores),
        Head::Plain | Head::Softmax | Head::Shares => (Loss::CrossEntropy, scores),
    };
    let values = |loss| (loss, output);
    Ok(match (kind, targets) {
        (LossKind::Auto | LossKind::CrossEntropy, TargetKind::Classes) => classes(),
        (LossKind::LogLikelihood, TargetKind::Classes) => values(Loss::CrossEntropy),
        (LossKind::Auto | LossKind::MeanSquared, TargetKind::Values(_)) => values(Loss::MeanSquared),
        (LossKind::Huber { delta }, TargetKind::Values(_)) => values(Loss::Huber { delta }),
        (LossKind::Quantile { quantile }, TargetKind::Values(_)) => values(Loss::Quantile { quantile }),
        (LossKind::MultiLabel, TargetKind::Values(_)) => (Loss::Binary, scores),
        (LossKind::Reconstruction, _) => values(Loss::MeanSquared),
        (LossKind::CrossEntropy | LossKind::LogLikelihood, TargetKind::Values(_)) => {
            return Err(targets_error("classes", "values"));
        }
        (_, TargetKind::Classes) => return Err(targets_error("values", "classes")),
    })
}

fn targets_error(expected: impl Into<String>, got: impl Into<String>) -> LearnError {
    LearnError::Targets { expected: expected.into(), got: got.into() }
}

fn check(
    model: &Model,
    recipe: LossKind,
    kind: Loss,
    targets: TargetKind,
    columns: usize,
) -> Result<(), LearnError> {
    match targets {
        TargetKind::Classes if recipe == LossKind::Reconstruction => reconstructs(model, columns),
        TargetKind::Classes if kind == Loss::Binary && columns != 1 => {
            Err(targets_error("values: each column has its own Sigmoid", "classes"))
        }
        TargetKind::Classes => Ok(()),
        TargetKind::Values(_) if recipe == LossKind::Reconstruction => reconstructs(model, columns),
        TargetKind::Values(width) if width == columns && width > 0 => Ok(()),
        TargetKind::Values(width) => {
            Err(targets_error(format!("{columns} values a row"), format!("{width} values a row")))
        }
    }
}

fn reconstructs(model: &Model, columns: usize) -> Result<(), LearnError> {
    if columns == model.width() {
        return Ok(());
    }
    Err(targets_error(format!("an output of {} values, as the input", model.width()), format!("{columns}")))
}

/// Scores as [rows, columns].
fn per_row(tape: &mut Tape, scores: Id, rows: usize) -> Result<Id, LearnError> {
    let shape = tape.shape(scores).to_vec();
    let columns = tape.len(scores).checked_div(rows).unwrap_or(0);
    if shape.first() != Some(&rows) || columns == 0 {
        let reason = format!("its output has shape {shape:?} for {rows} rows");
        return Err(LearnError::Interface { reason });
    }
    tape.view(scores, &[rows, columns]).map_err(whole)
}
