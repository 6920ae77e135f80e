//! Trees as the settings of an operator say them, before anything is checked about their shape.

use std::collections::BTreeMap;

use crate::settings::{Settings, SettingsError};

use super::Aggregate;

/// Largest number of targets or classes: the output of a row is this long.
pub(super) const MAX_TARGETS: usize = 1 << 16;

/// How a node asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// Membership in a set, by its place.
    Member(usize),
}

/// A node that asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) feature: u32,
    pub(super) mode: Mode,
    pub(super) threshold: f64,
    pub(super) yes: usize,
    pub(super) no: usize,
    /// Whether a missing value is a yes.
    pub(super) missing_is_yes: bool,
}

#[derive(Debug, Clone)]
pub(super) enum DraftNode {
    Question(Question),
    /// Weights by target, with their places in the settings.
    Leaf(Vec<(u32, f64, u32)>),
}

/// Trees that may yet be cyclic.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) nodes: Vec<DraftNode>,
    /// Tree and node numbers in the file, for messages.
    pub(super) names: Vec<(i64, i64)>,
    pub(super) roots: Vec<usize>,
    pub(super) sets: Vec<Vec<f64>>,
    pub(super) targets: usize,
    pub(super) base: Vec<f64>,
    pub(super) aggregate: Aggregate,
    /// Whether thresholds or weights are stored as f64.
    pub(super) is_wide: bool,
}

/// The names of the settings that give leaves their weights.
pub(super) struct WeightNames {
    pub(super) trees: &'static str,
    pub(super) nodes: &'static str,
    pub(super) ids: &'static str,
    pub(super) weights: &'static str,
    pub(super) weights_tensor: &'static str,
}

const TARGETS: WeightNames = WeightNames {
    trees: "target_treeids",
    nodes: "target_nodeids",
    ids: "target_ids",
    weights: "target_weights",
    weights_tensor: "target_weights_as_tensor",
};

impl Draft {
    pub(super) fn regressor(settings: &Settings) -> Result<Self, SettingsError> {
        let targets = targets(settings.int("n_targets", 1)?)?;
        let aggregate = match settings.text("aggregate_function", "SUM")? {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            _ => return Err(SettingsError::value("aggregate_function", "it is not known")),
        };
        Self::of(settings, &TARGETS, targets, aggregate)
    }

    /// Reads the trees of opsets 1 and 3.
    pub(super) fn of(
        settings: &Settings,
        names: &WeightNames,
        targets: usize,
        aggregate: Aggregate,
    ) -> Result<Self, SettingsError> {
        let trees = settings.ints("nodes_treeids")?;
        let ids = settings.ints("nodes_nodeids")?;
        let features = settings.ints("nodes_featureids")?;
        let modes = settings.texts("nodes_modes")?;
        let yes = settings.ints("nodes_truenodeids")?;
        let no = settings.ints("nodes_falsenodeids")?;
        let missing = settings.ints("nodes_missing_value_tracks_true")?;
        let (values, wide_values) = settings.numbers("nodes_values", "nodes_values_as_tensor")?;
        let count = ids.len();
        let same = |name, got| equal(name, count, got);
        same("nodes_treeids", trees.len())?;
        same("nodes_featureids", features.len())?;
        same("nodes_modes", modes.len())?;
        same("nodes_truenodeids", yes.len())?;
        same("nodes_falsenodeids", no.len())?;
        same("nodes_values", values.len())?;
        if !missing.is_empty() {
            same("nodes_missing_value_tracks_true", missing.len())?;
        }
        if count == 0 || u32::try_from(count).is_err() {
            return Err(SettingsError::value("nodes_nodeids", format!("{count} nodes")));
        }
        let mut places = BTreeMap::new();
        for (place, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            if places.insert(key, place).is_some() {
                return Err(SettingsError::Tree { tree: key.0, node: key.1, reason: "it is there twice" });
            }
        }
        let mut nodes = Vec::with_capacity(count);
        for at in 0..count {
            let child = |id: i64| {
                let reason = "it has a child that does not exist";
                places.get(&(trees[at], id)).copied().ok_or(SettingsError::Tree {
                    tree: trees[at],
                    node: ids[at],
                    reason,
                })
            };
            nodes.push(match mode(&modes[at])? {
                None => DraftNode::Leaf(Vec::new()),
                Some(mode) => DraftNode::Question(Question {
                    feature: feature(features[at])?,
                    mode,
                    threshold: values[at],
                    yes: child(yes[at])?,
                    no: child(no[at])?,
                    missing_is_yes: missing.get(at).is_some_and(|tracks| *tracks != 0),
                }),
            });
        }
        let wide_weights = weigh(settings, names, targets, &places, &mut nodes)?;
        let (base, wide_base) = settings.numbers("base_values", "base_values_as_tensor")?;
        let roots = roots(trees, &nodes)?;
        let names = trees.iter().copied().zip(ids.iter().copied()).collect();
        let is_wide = wide_values || wide_weights || wide_base;
        Ok(Self { nodes, names, roots, sets: Vec::new(), targets, base, aggregate, is_wide })
    }
}

/// Gives leaves their weights; says whether they are stored as f64.
fn weigh(
    settings: &Settings,
    names: &WeightNames,
    targets: usize,
    places: &BTreeMap<(i64, i64), usize>,
    nodes: &mut [DraftNode],
) -> Result<bool, SettingsError> {
    let trees = settings.ints(names.trees)?;
    let ids = settings.ints(names.nodes)?;
    let to = settings.ints(names.ids)?;
    let (weights, is_wide) = settings.numbers(names.weights, names.weights_tensor)?;
    equal(names.trees, weights.len(), trees.len())?;
    equal(names.nodes, weights.len(), ids.len())?;
    equal(names.ids, weights.len(), to.len())?;
    for (source, weight) in weights.iter().enumerate() {
        let key = (trees[source], ids[source]);
        let wrong = |reason| SettingsError::Tree { tree: key.0, node: key.1, reason };
        let place =
            places.get(&key).ok_or_else(|| wrong("a weight is given to a node that does not exist"))?;
        let target = u32::try_from(to[source]).ok().filter(|target| (*target as usize) < targets);
        let target = target.ok_or_else(|| {
            SettingsError::value(names.ids, format!("{} is not below {targets}", to[source]))
        })?;
        let source = u32::try_from(source).ok().ok_or_else(|| wrong("there are too many weights"))?;
        // Some exporters give inner nodes weights too; they are never reached as leaves.
        if let DraftNode::Leaf(weights) = &mut nodes[*place] {
            weights.push((target, *weight, source));
        }
    }
    Ok(is_wide)
}

/// The node of each tree that is no child, in the order in which the trees are first named.
fn roots(trees: &[i64], nodes: &[DraftNode]) -> Result<Vec<usize>, SettingsError> {
    let mut is_child = vec![false; nodes.len()];
    for node in nodes {
        if let DraftNode::Question(question) = node {
            is_child[question.yes] = true;
            is_child[question.no] = true;
        }
    }
    let mut order = Vec::new();
    let mut found: BTreeMap<i64, Option<usize>> = BTreeMap::new();
    for (place, tree) in trees.iter().enumerate() {
        let root = found.entry(*tree).or_insert_with(|| {
            order.push(*tree);
            None
        });
        if is_child[place] {
            continue;
        }
        if root.replace(place).is_some() {
            let node = i64::try_from(place).unwrap_or(i64::MAX);
            return Err(SettingsError::Tree { tree: *tree, node, reason: "its tree has two roots" });
        }
    }
    let root = |tree: i64| {
        let reason = "every node of its tree is the child of another";
        found[&tree].ok_or(SettingsError::Tree { tree, node: 0, reason })
    };
    order.into_iter().map(root).collect()
}

/// A mode by name, `None` for a leaf.
fn mode(name: &str) -> Result<Option<Mode>, SettingsError> {
    Ok(Some(match name {
        "BRANCH_LEQ" => Mode::Leq,
        "BRANCH_LT" => Mode::Lt,
        "BRANCH_GTE" => Mode::Gte,
        "BRANCH_GT" => Mode::Gt,
        "BRANCH_EQ" => Mode::Eq,
        "BRANCH_NEQ" => Mode::Neq,
        "LEAF" => return Ok(None),
        _ => return Err(SettingsError::value("nodes_modes", "a mode is not known")),
    }))
}

pub(super) fn feature(id: i64) -> Result<u32, SettingsError> {
    let wrong = || SettingsError::value("nodes_featureids", format!("{id} is no feature"));
    u32::try_from(id).ok().filter(|id| *id < u32::MAX).ok_or_else(wrong)
}

pub(super) fn targets(count: i64) -> Result<usize, SettingsError> {
    let wrong = || SettingsError::value("n_targets", format!("{count}, expected 1 to {MAX_TARGETS}"));
    usize::try_from(count).ok().filter(|count| (1..=MAX_TARGETS).contains(count)).ok_or_else(wrong)
}

pub(super) fn equal(name: &'static str, expected: usize, got: usize) -> Result<(), SettingsError> {
    if expected == got { Ok(()) } else { Err(SettingsError::Length { name, expected, got }) }
}
