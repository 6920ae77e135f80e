//! Rows brought to a network: read from their source, or computed once and kept.

use shoal_grad::kernel::loss::Loss;
use shoal_grad::{Id, Program};

use crate::dataset::{Source, TargetKind};
use crate::failure::LearnError;
use crate::network::{Network, Plan};
use crate::recipe::{LossKind, Recipe, Statistics};

/// Largest difference of a row's activations beside other rows, relative to the largest of them.
const ROWS_APART: f32 = 1e-4;

/// What stays the same while a run goes on, of all rows: a network whose first layers do not move computes
/// them once, and goes on from there.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where the network is cut, with the numbers of a row.
    cuts: Vec<(Id, usize)>,
    /// For each cut, all rows.
    values: Vec<Vec<f32>>,
}

impl Kept {
    /// Where a network could be cut, with the numbers of a row; `None` when nothing is gained, or rows cannot
    /// be told apart there.
    pub(crate) fn cuts(plan: Plan<'_>, network: &Network) -> Result<Option<Vec<(Id, usize)>>, LearnError> {
        let moving: Vec<Id> = network.moving.iter().map(|moving| moving.id).collect();
        let data = [network.targets, network.weights];
        let mut frontier = network.tape.frontier(&moving, &[network.loss]);
        frontier.retain(|id| !data.contains(id));
        if frontier == [network.features] || plan.recipe.batch_norm == Statistics::Batch {
            return Ok(None);
        }
        // The first axis must be that of the rows: it follows their number.
        let other = Network::new(plan, network.rows + 1)?;
        let mut cuts = Vec::with_capacity(frontier.len());
        for id in frontier {
            let (mine, others) = (network.tape.shape(id), other.tape.shape(id));
            let follows = mine.first() == Some(&network.rows)
                && others.first() == Some(&other.rows)
                && mine.get(1..) == others.get(1..);
            if !follows {
                return Ok(None);
            }
            cuts.push((id, mine[1..].iter().product()));
        }
        Ok(Some(cuts))
    }

    /// Numbers kept of each row.
    pub(crate) fn width(cuts: &[(Id, usize)]) -> usize {
        cuts.iter().map(|(_, width)| width).sum()
    }

    /// Computes them for all rows; `None` when a row's depend on the rows beside it.
    pub(crate) fn compute(
        cuts: Vec<(Id, usize)>,
        network: &Network,
        source: &mut dyn Source,
    ) -> Result<Option<Self>, LearnError> {
        let ids: Vec<Id> = cuts.iter().map(|(id, _)| *id).collect();
        let mut program = network.program::<f32>(&ids)?;
        let mut values: Vec<Vec<f32>> =
            cuts.iter().map(|(_, width)| Vec::with_capacity(width * source.rows())).collect();
        let per_row = source.targets().width();
        let mut targets = vec![0.0; per_row * network.rows];
        let width = source.width();
        let all: Vec<usize> = (0..source.rows()).collect();
        for rows in all.chunks(network.rows) {
            let features = &mut program.own_mut(network.features)[..rows.len() * width];
            source.read(rows, features, &mut targets[..rows.len() * per_row])?;
            program.run();
            for ((id, width), values) in cuts.iter().zip(&mut values) {
                values.extend_from_slice(&program.get(*id)[..rows.len() * width]);
            }
            // Once: the same rows in other places must give the same.
            if rows[0] == 0 && rows.len() > 1 {
                program.own_mut(network.features)[..rows.len() * width].rotate_left(width);
                program.run();
                for ((id, width), values) in cuts.iter().zip(&values) {
                    let again = program.get(*id)[..rows.len() * width].iter();
                    let first = values.iter().cycle().skip(*width);
                    let most = values.iter().fold(1f32, |most, value| most.max(value.abs()));
                    if again.zip(first).any(|(a, b)| (a - b).abs() > ROWS_APART * most) {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(Self { cuts, values }))
    }
}

/// Fills the fed tensors of a network.
#[derive(Debug)]
pub(crate) struct Feeder {
    /// A weight for each row, of its class too.
    weights: Vec<f32>,
    /// Above nought.
    mean_weight: f64,
    features: Vec<f32>,
    targets: Vec<f32>,
    width: usize,
    per_row: usize,
    is_reconstruction: bool,
}

impl Feeder {
    pub(crate) fn new(source: &dyn Source, recipe: &Recipe, class_weights: &[f32], classes: &[u32]) -> Self {
        let mut weights: Vec<f32> = (0..source.rows()).map(|row| source.weight(row)).collect();
        for (weight, class) in weights.iter_mut().zip(classes) {
            *weight *= class_weights.get(*class as usize).copied().unwrap_or(1.0);
        }
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mean = sum / weights.len().max(1) as f64;
        Self {
            weights,
            mean_weight: if mean > 0.0 { mean } else { 1.0 },
            features: Vec::new(),
            targets: Vec::new(),
            width: source.width(),
            per_row: source.targets().width(),
            is_reconstruction: recipe.loss == LossKind::Reconstruction,
        }
    }

    /// Fills in `rows`, which are some of a batch of `of`; what is left of the network's rows repeats the first
    /// of them with weight nought, or, where a batch is normalised by itself, as it comes.
    pub(crate) fn fill(
        &mut self,
        network: &Network,
        program: &mut Program<f32>,
        (source, kept): (&mut (dyn Source + '_), Option<&Kept>),
        rows: &[usize],
        of: usize,
    ) -> Result<(), LearnError> {
        let (count, width, per_row) = (rows.len(), self.width, self.per_row);
        self.targets.resize(count * per_row, 0.0);
        self.features.resize(count * width, 0.0);
        source.read(rows, &mut self.features, &mut self.targets)?;
        check_indices(network, &self.features)?;
        match kept {
            Some(kept) => {
                for ((id, width), values) in kept.cuts.iter().zip(&kept.values) {
                    let to = program.own_mut(*id).chunks_exact_mut((*width).max(1));
                    for (to, row) in to.zip(rows.iter().cycle()) {
                        to.copy_from_slice(&values[row * width..(row + 1) * width]);
                    }
                }
            }
            None => cycle(&self.features, program.own_mut(network.features)),
        }
        let targets = if self.is_reconstruction { &self.features } else { &self.targets };
        if network.kind == Loss::CrossEntropy {
            check_classes(targets, network.columns)?;
        } else if network.columns == 1
            && per_row == 1
            && source.targets() == TargetKind::Classes
            && !self.is_reconstruction
        {
            check_classes(targets, 2)?;
        }
        cycle(targets, program.own_mut(network.targets));
        let scale = 1.0 / (of as f64 * self.mean_weight);
        let to = program.own_mut(network.weights);
        to.fill(0.0);
        for (to, row) in to.iter_mut().zip(rows) {
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let weight = (f64::from(self.weights[*row]) * scale) as f32;
            *to = weight;
        }
        Ok(())
    }
}

/// Repeats `from` until `to` is full.
fn cycle(from: &[f32], to: &mut [f32]) {
    for to in to.chunks_mut(from.len().max(1)) {
        to.copy_from_slice(&from[..to.len()]);
    }
}

/// What is looked up must be there.
fn check_indices(network: &Network, features: &[f32]) -> Result<(), LearnError> {
    for table in &network.tables {
        if let Some(value) = features.iter().find(|value| !table.holds(f64::from(**value))) {
            return Err(LearnError::Index { value: *value, size: table.axis });
        }
    }
    Ok(())
}

fn check_classes(targets: &[f32], classes: usize) -> Result<(), LearnError> {
    #[expect(clippy::cast_precision_loss, reason = "classes are few")]
    let most = classes as f32;
    match targets.iter().find(|class| !(**class >= 0.0 && **class < most)) {
        None => Ok(()),
        Some(class) => Err(LearnError::Targets {
            expected: format!("classes below {classes}"),
            got: format!("class {class}"),
        }),
    }
}
