//! Forests: each leaf's class frequencies, or the mean of its rows.

use crate::number::Number;

use super::super::TreeEnsemble;
use super::super::forest::Forest;
use super::leaves::Tree;
use super::{Aggregate, RefitError, RefitSettings, Refitted, Table};

/// Sums over the rows that reach a leaf's weight.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    label: f64,
    weight: f64,
    rows: usize,
}

/// Whether the leaves hold nothing but frequencies or means.
pub(super) fn check<T: Number>(ensemble: &TreeEnsemble, forest: &Forest<T>) -> Result<(), RefitError> {
    let bases = ensemble.bases(forest)?;
    if ensemble.classes.is_some() && bases.iter().any(|base| *base != 0.0) {
        return Err(RefitError::Layout { reason: "class frequencies have base values beside them" });
    }
    Ok(())
}

pub(super) fn refit<T: Number>(
    ensemble: &TreeEnsemble,
    forest: &Forest<T>,
    trees: &[Tree],
    table: &Table<'_, T>,
    settings: &RefitSettings,
    weights: &mut [f64],
) -> Result<Refitted, RefitError> {
    let margin = ensemble.margin();
    let bases = ensemble.bases(forest)?;
    let is_classifier = ensemble.classes.is_some();
    // An averaging operator divides by itself; otherwise the leaves are divided already.
    let divisor = if forest.aggregate == Aggregate::Average { 1.0 } else { trees.len() as f64 };
    let mut sums = vec![Sum::default(); weights.len()];
    let mut tally = Refitted::default();
    for tree in trees {
        for row in 0..table.rows {
            let own = forest.own(forest.ask(tree.root, table.row(row)));
            let weight = table.weight(row);
            let mut has_place = margin.is_some() || !is_classifier;
            for leaf in own {
                let target = leaf.target as usize;
                // One probability for two classes is that of the second.
                let label = table.label(row, if margin.is_some() { 1 } else { target });
                let sum = &mut sums[leaf.source as usize];
                sum.label += weight * (label - bases[target]);
                sum.weight += weight;
                sum.rows += 1;
                has_place |= label > 0.0;
            }
            tally.unplaced += usize::from(!has_place);
        }
        for place in &tree.leaves {
            let own = forest.own(*place);
            let Some(Sum { rows, weight, .. }) = own.first().map(|leaf| sums[leaf.source as usize]) else {
                tally.kept += 1;
                continue;
            };
            let is_shared = is_classifier && margin.is_none();
            let placed: f64 = own.iter().map(|leaf| sums[leaf.source as usize].label).sum();
            let whole = if is_shared { placed } else { weight };
            if rows < settings.min_rows_per_leaf.max(1) || whole <= 0.0 {
                tally.kept += 1;
                continue;
            }
            tally.refitted += 1;
            // Frequencies are shared out over what the leaf held in all.
            let held: f64 = own.iter().map(|leaf| leaf.weight.to_f64()).sum();
            let scale = if is_shared { held } else { 1.0 / divisor };
            for leaf in own {
                let new = sums[leaf.source as usize].label / whole * scale;
                let old = leaf.weight.to_f64();
                weights[leaf.source as usize] = settings.decay * old + (1.0 - settings.decay) * new;
            }
        }
    }
    Ok(tally)
}
