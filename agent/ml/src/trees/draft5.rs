//! Trees of opset 5: leaves in lists of their own, and sets of values to be a member of.

use crate::settings::{Settings, SettingsError};

use super::Aggregate;
use super::draft::{Draft, DraftNode, Mode, Question, equal, feature, targets};

impl Draft {
    pub(super) fn opset5(settings: &Settings) -> Result<Self, SettingsError> {
        let features = settings.ints("nodes_featureids")?;
        let modes = whole(settings, "nodes_modes")?;
        let (splits, wide_splits) = settings.numbers("", "nodes_splits")?;
        let (yes, no) = (settings.ints("nodes_truenodeids")?, settings.ints("nodes_falsenodeids")?);
        let (yes_leaf, no_leaf) = (settings.ints("nodes_trueleafs")?, settings.ints("nodes_falseleafs")?);
        let missing = settings.ints("nodes_missing_value_tracks_true")?;
        let ids = settings.ints("leaf_targetids")?;
        let (weights, wide_weights) = settings.numbers("", "leaf_weights")?;
        let count = features.len();
        equal("nodes_modes", count, modes.len())?;
        equal("nodes_splits", count, splits.len())?;
        equal("nodes_truenodeids", count, yes.len())?;
        equal("nodes_falsenodeids", count, no.len())?;
        equal("nodes_trueleafs", count, yes_leaf.len())?;
        equal("nodes_falseleafs", count, no_leaf.len())?;
        equal("leaf_weights", ids.len(), weights.len())?;
        if !missing.is_empty() {
            equal("nodes_missing_value_tracks_true", count, missing.len())?;
        }
        let targets = targets(settings.int("n_targets", 1)?)?;
        let aggregate = match settings.int("aggregate_function", 1)? {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            _ => return Err(SettingsError::value("aggregate_function", "it is not known")),
        };
        let (sets, membership) = sets(settings, &modes)?;
        let place = |name, id: i64, is_leaf: i64| {
            let (offset, limit) = if is_leaf == 0 { (0, count) } else { (count, ids.len()) };
            let found = usize::try_from(id).ok().filter(|id| *id < limit);
            found
                .map(|id| id + offset)
                .ok_or_else(|| SettingsError::value(name, format!("{id} does not exist")))
        };
        let mut nodes = Vec::with_capacity(count + ids.len());
        for at in 0..count {
            nodes.push(DraftNode::Question(Question {
                feature: feature(features[at])?,
                mode: mode(modes[at], membership[at])?,
                threshold: splits[at],
                yes: place("nodes_truenodeids", yes[at], yes_leaf[at])?,
                no: place("nodes_falsenodeids", no[at], no_leaf[at])?,
                missing_is_yes: missing.get(at).is_some_and(|tracks| *tracks != 0),
            }));
        }
        for (source, (id, weight)) in ids.iter().zip(&weights).enumerate() {
            let wrong = || SettingsError::value("leaf_targetids", format!("{id} is not below {targets}"));
            let target = u32::try_from(*id).ok().filter(|id| (*id as usize) < targets).ok_or_else(wrong)?;
            nodes.push(DraftNode::Leaf(vec![(target, *weight, u32::try_from(source).unwrap_or(u32::MAX))]));
        }
        let roots = settings.ints("tree_roots")?;
        let roots = roots.iter().map(|root| place("tree_roots", *root, 0)).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() {
            return Err(SettingsError::Missing { name: "tree_roots" });
        }
        let names = (0..nodes.len()).map(|at| (0, i64::try_from(at).unwrap_or(i64::MAX))).collect();
        let is_wide = wide_splits || wide_weights;
        Ok(Self { nodes, names, roots, sets, targets, base: Vec::new(), aggregate, is_wide })
    }
}

fn whole(settings: &Settings, name: &'static str) -> Result<Vec<i64>, SettingsError> {
    let array = settings.tensor(name)?.ok_or(SettingsError::Missing { name })?;
    let values = array.data.as_slice();
    values.i64s().map(std::borrow::Cow::into_owned).ok_or(SettingsError::Type { name, expected: "whole" })
}

/// The sets, and for each node the place of its set. They stand in one list, each ended by NaN.
fn sets(settings: &Settings, modes: &[i64]) -> Result<(Vec<Vec<f64>>, Vec<usize>), SettingsError> {
    let (values, _) = settings.numbers("", "membership_values")?;
    let mut sets: Vec<Vec<f64>> = Vec::new();
    let mut current = Vec::new();
    for value in values {
        if value.is_nan() {
            sets.push(std::mem::take(&mut current));
        } else {
            current.push(value);
        }
    }
    if !current.is_empty() {
        sets.push(current);
    }
    for set in &mut sets {
        set.sort_by(f64::total_cmp);
        // Both zeros are equal, and sorted apart.
        set.dedup();
    }
    let mut next = 0;
    let mut places = Vec::with_capacity(modes.len());
    for mode in modes {
        places.push(next);
        if *mode == 6 {
            next += 1;
        }
    }
    equal("membership_values", next, sets.len())?;
    Ok((sets, places))
}

fn mode(code: i64, set: usize) -> Result<Mode, SettingsError> {
    Ok(match code {
        0 => Mode::Leq,
        1 => Mode::Lt,
        2 => Mode::Gte,
        3 => Mode::Gt,
        4 => Mode::Eq,
        5 => Mode::Neq,
        6 => Mode::Member(set),
        _ => return Err(SettingsError::value("nodes_modes", format!("{code} is not known"))),
    })
}
