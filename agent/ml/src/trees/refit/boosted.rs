//! Boosted trees: a Newton step for each leaf, from tree to tree.

use crate::number::Number;

use super::super::forest::Forest;
use super::leaves::Tree;
use super::{Boosting, Objective, RefitSettings, Refitted, Table};

/// Least second derivative of a log loss: a leaf of rows that are all but certain takes no endless
/// step. XGBoost's value.
const LEAST_HESSIAN: f64 = 1e-16;

/// What a step needs to know.
pub(super) struct Plan {
    pub(super) boosting: Boosting,
    pub(super) objective: Objective,
    /// The target with the one margin of two classes, whose label is the second class.
    pub(super) margin: Option<usize>,
    /// What is added to the trees of each target.
    pub(super) bases: Vec<f64>,
}

/// Sums over the rows that reach a leaf's weight.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    gradient: f64,
    hessian: f64,
    rows: usize,
}

pub(super) fn refit<T: Number>(
    plan: &Plan,
    forest: &Forest<T>,
    trees: &[Tree],
    table: &Table<'_, T>,
    settings: &RefitSettings,
    weights: &mut [f64],
) -> Refitted {
    let mut scores: Vec<f64> = (0..table.rows).flat_map(|_| plan.bases.iter().copied()).collect();
    let mut steps = vec![(0.0, 0.0); scores.len()];
    let mut sums = vec![Sum::default(); weights.len()];
    let mut places = vec![0u32; table.rows];
    let mut tally = Refitted::default();
    for (number, round) in rounds(trees).into_iter().enumerate() {
        plan.derive(table, &scores, &mut steps);
        let is_first = number == 0 && plan.boosting.holds_average;
        let shrinkage = if is_first { 1.0 } else { plan.boosting.shrinkage };
        for tree in round {
            for (row, place) in places.iter_mut().enumerate() {
                *place = forest.ask(tree.root, table.row(row));
                for leaf in forest.own(*place) {
                    let (gradient, hessian) = steps[row * table.targets + leaf.target as usize];
                    let sum = &mut sums[leaf.source as usize];
                    sum.gradient += gradient;
                    sum.hessian += hessian;
                    sum.rows += 1;
                }
            }
            for place in &tree.leaves {
                let own = forest.own(*place);
                let rows = own.first().map_or(0, |leaf| sums[leaf.source as usize].rows);
                if own.is_empty() || rows < settings.min_rows_per_leaf {
                    tally.kept += 1;
                    continue;
                }
                tally.refitted += 1;
                for leaf in own {
                    let Sum { gradient, hessian, .. } = sums[leaf.source as usize];
                    let curvature = hessian + plan.boosting.lambda_l2;
                    let new = if curvature > 0.0 { -gradient / curvature * shrinkage } else { 0.0 };
                    let old = leaf.weight.to_f64();
                    weights[leaf.source as usize] = settings.decay * old + (1.0 - settings.decay) * new;
                }
            }
            for (row, place) in places.iter().enumerate() {
                for leaf in forest.own(*place) {
                    scores[row * table.targets + leaf.target as usize] += weights[leaf.source as usize];
                }
            }
        }
    }
    tally
}

/// Trees that were grown on the same gradients: each target comes once in a round.
fn rounds(trees: &[Tree]) -> Vec<&[Tree]> {
    let (mut rounds, mut first) = (Vec::new(), 0);
    let mut seen: std::collections::BTreeSet<u32> = std::collections::BTreeSet::new();
    for (at, tree) in trees.iter().enumerate() {
        if tree.targets.iter().any(|target| seen.contains(target)) {
            rounds.push(&trees[first..at]);
            first = at;
            seen.clear();
        }
        seen.extend(&tree.targets);
    }
    rounds.push(&trees[first..]);
    rounds
}

impl Plan {
    /// First and second derivative of each row's loss by each of its scores, times its weight.
    fn derive<T: Number>(&self, table: &Table<'_, T>, scores: &[f64], steps: &mut [(f64, f64)]) {
        let targets = table.targets;
        let factor = self.boosting.library.hessian_factor(targets);
        for row in 0..table.rows {
            let own = row * targets..(row + 1) * targets;
            let (scores, steps) = (&scores[own.clone()], &mut steps[own]);
            let weight = table.weight(row);
            match self.objective {
                Objective::Squares => {
                    for (target, (step, score)) in steps.iter_mut().zip(scores).enumerate() {
                        *step = (weight * (score - table.label(row, target)), weight);
                    }
                }
                Objective::Logistic => {
                    let at = self.margin.unwrap_or(0);
                    let label = table.label(row, usize::from(self.margin.is_some()));
                    let p = 1.0 / (1.0 + (-scores[at]).exp());
                    steps[at] = (weight * (p - label), weight * (p * (1.0 - p)).max(LEAST_HESSIAN));
                }
                Objective::Softmax => {
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                    for (target, (step, score)) in steps.iter_mut().zip(scores).enumerate() {
                        let p = (score - most).exp() / total;
                        let hessian = (factor * p * (1.0 - p)).max(LEAST_HESSIAN);
                        *step = (weight * (p - table.label(row, target)), weight * hessian);
                    }
                }
            }
        }
    }
}
