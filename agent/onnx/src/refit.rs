//! New weights for the leaves of a file's trees: found by `shoal-ml`, written into the original
//! bytes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use shoal_ml::{Boosting, Data, Ensemble, Kernel, Kind, Library, Objective};
use shoal_ml::{RefitError, RefitSettings, Refitted, RunError, Samples};
use shoal_ml::{Setting, SettingsError, Slice, View};
use thiserror::Error;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, tensor_proto::DataType};

use crate::limits::Limits;
use crate::ml::{ml_settings, setting};
use crate::model::original;
use crate::patch::{AttributePatch, PatchError, patch_attributes};
use crate::refusal::{Refusal, named};

const ML_DOMAIN: &str = "ai.onnx.ml";

/// The settings that hold the weights of leaves; where a list and a tensor are both there, the
/// tensor counts, and comes first here.
const WEIGHTS: [&str; 5] = [
    "class_weights_as_tensor",
    "class_weights",
    "target_weights_as_tensor",
    "target_weights",
    "leaf_weights",
];

/// Operators that do not change a score, or only choose among scores.
const SEEN_THROUGH: [&str; 10] = [
    "ArgMax",
    "ArrayFeatureExtractor",
    "Cast",
    "Flatten",
    "Identity",
    "LabelEncoder",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "ZipMap",
];

/// A file with new leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeRefit {
    /// The file: as long as it was, and different in the leaves' weights only.
    pub onnx: Vec<u8>,
    /// The node that was refitted.
    pub node: String,
    /// What was done.
    pub report: Refitted,
}

/// Why the trees of a file are not refitted.
#[derive(Debug, Error)]
pub enum TreeRefitError {
    /// The file is refused.
    #[error("the file is refused")]
    Refused(#[from] Refusal),
    /// No node is a tree ensemble, or several are.
    #[error("expected one tree ensemble, the graph has {count}")]
    Ensembles { count: usize },
    /// The trees are not given what a caller gives, in a way that is not followed.
    #[error("node `{node}` ({op}) stands before the trees, which is not followed")]
    Before { node: String, op: String },
    /// Something is done to the scores that leaves open what the trees are to bring down.
    #[error("node `{node}` ({op}) changes the scores of the trees; set `objective`")]
    Behind { node: String, op: String },
    /// A node's settings are wrong.
    #[error("node `{node}` has wrong settings")]
    Settings {
        node: String,
        #[source]
        source: SettingsError,
    },
    /// A node before the trees does not take the rows.
    #[error("node `{node}` does not take the rows")]
    Rows {
        node: String,
        #[source]
        source: RunError,
    },
    /// The rows, or what is said of the trees, do not fit.
    #[error("the leaves of node `{node}` are not refitted")]
    Refit {
        node: String,
        #[source]
        source: RefitError,
    },
    /// The weights could not be written.
    #[error("the weights cannot be written")]
    Patch(#[from] PatchError),
}

/// Refits the leaves of the one tree ensemble of a file.
///
/// The features of [`Samples`] are what a caller gives to the file; scalers, imputers and the like
/// between that and the trees are run. Labels are the values of the ensemble's targets, or places
/// in its list of class labels: `ZipMap`, `Cast` and the like behind it do not matter.
///
/// # Errors
/// [`TreeRefitError`], which names the node, or the setting that must be said.
pub fn refit_trees(
    bytes: &[u8],
    samples: &Samples<'_>,
    settings: &RefitSettings,
    limits: &Limits,
) -> Result<TreeRefit, TreeRefitError> {
    let proto = original(bytes, limits)?;
    let empty = GraphProto::default();
    let Found { place, name, before, kernel, settings, attribute, mut values } =
        Found::of(proto.graph.as_ref().unwrap_or(&empty), settings)?;
    let (features, width) = before.run(samples)?;
    let samples = Samples { features: &features, width, ..*samples };
    let report = kernel
        .refit(&samples, &settings)
        .map_err(|source| TreeRefitError::Refit { node: name.clone(), source })?;
    for (source, weight) in &report.weights {
        if let Some(value) = values.get_mut(*source as usize) {
            *value = *weight;
        }
    }
    let patch = AttributePatch { place, node: name.clone(), attribute, values };
    Ok(TreeRefit { onnx: patch_attributes(bytes, &[patch])?, node: name, report })
}

/// Whether the leaves of a file's trees can be refitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    /// As those of a forest: all that is needed stands in the file.
    Forest,
    /// When it is said what the file does not say.
    Unsaid {
        /// What has to be said.
        reason: String,
    },
    /// Not at all.
    Fixed {
        /// Why.
        reason: String,
    },
}

/// Says whether the leaves of a file's trees can be refitted; `None` for a file without trees.
///
/// # Errors
/// A [`Refusal`] when the file cannot be decoded within the limits.
pub fn leaves(bytes: &[u8], limits: &Limits) -> Result<Option<Leaves>, Refusal> {
    let proto = original(bytes, limits)?;
    let Some(graph) = proto.graph.as_ref().filter(|graph| graph.node.iter().any(is_trees)) else {
        return Ok(None);
    };
    let told = |settings: &RefitSettings| Found::of(graph, settings)?.told();
    let Err(open) = told(&RefitSettings::default()) else { return Ok(Some(Leaves::Forest)) };
    let is_open = match &open {
        TreeRefitError::Behind { .. } => true,
        TreeRefitError::Refit { source, .. } => {
            matches!(source, RefitError::NeedsShrinkage | RefitError::Ambiguous)
        }
        _ => false,
    };
    // Any boosting and any objective would do: is there one that the rest of the file bears?
    let boosting =
        Boosting { shrinkage: 1.0, lambda_l2: 0.0, holds_average: false, library: Library::LightGbm };
    let objectives = [None, Some(Objective::Squares), Some(Objective::Logistic), Some(Objective::Softmax)];
    let fails = objectives.map(|objective| {
        let ensemble = Some(Ensemble::Boosted(boosting));
        told(&RefitSettings { ensemble, objective, ..RefitSettings::default() }).err()
    });
    let could = is_open && fails.iter().any(Option::is_none);
    let [as_boosted, ..] = fails;
    Ok(Some(if could {
        Leaves::Unsaid { reason: in_a_line(&open) }
    } else {
        Leaves::Fixed { reason: in_a_line(as_boosted.as_ref().filter(|_| is_open).unwrap_or(&open)) }
    }))
}

/// Says what [`refit_trees`] would take the trees for with these settings, before there are rows.
///
/// # Errors
/// As [`refit_trees`], but for what is wrong with rows.
pub fn refit_as(bytes: &[u8], settings: &RefitSettings, limits: &Limits) -> Result<Ensemble, TreeRefitError> {
    let proto = original(bytes, limits)?;
    Found::of(proto.graph.as_ref().unwrap_or(&GraphProto::default()), settings)?.told()
}

/// An error with its causes.
pub(crate) fn in_a_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |all, cause| format!("{all}: {cause}"))
}

/// The one tree ensemble of a graph, with all that is known of it before there are rows.
struct Found {
    place: usize,
    name: String,
    before: Before,
    kernel: Kernel,
    settings: RefitSettings,
    /// The setting with the weights, and all of them.
    attribute: String,
    values: Vec<f64>,
}

impl Found {
    fn of(graph: &GraphProto, settings: &RefitSettings) -> Result<Self, TreeRefitError> {
        let mut trees = graph.node.iter().enumerate().filter(|(_, node)| is_trees(node));
        let (place, node) = match (trees.next(), trees.count()) {
            (Some(only), 0) => only,
            (first, others) => {
                return Err(TreeRefitError::Ensembles { count: others + usize::from(first.is_some()) });
            }
        };
        let name = called(node);
        let before = Before::of(graph, node)?;
        let link = if settings.objective.is_some() { None } else { behind(graph, node)? };
        let settings = RefitSettings { objective: settings.objective.or(link), ..*settings };
        let kernel = Kernel::parse(&node.op_type, &ml_settings(node), Some(before.kind))
            .map_err(|source| TreeRefitError::Settings { node: name.clone(), source })?;
        let (attribute, values) = weights(node).ok_or_else(|| TreeRefitError::Refit {
            node: name.clone(),
            source: RefitError::Layout { reason: "its leaves have no weights" },
        })?;
        Ok(Self { place, name, before, kernel, settings, attribute, values })
    }

    fn told(self) -> Result<Ensemble, TreeRefitError> {
        let told = self.kernel.refit_as(&self.settings);
        told.map_err(|source| TreeRefitError::Refit { node: self.name, source })
    }
}

/// What messages call a node.
pub(crate) fn called(node: &NodeProto) -> String {
    let first = node.output.first().map_or("", String::as_str);
    named(if node.name.is_empty() { first } else { &node.name })
}

fn is_trees(node: &NodeProto) -> bool {
    node.domain == ML_DOMAIN && node.op_type.starts_with("TreeEnsemble")
}

/// The setting with the weights, and all of them.
fn weights(node: &NodeProto) -> Option<(String, Vec<f64>)> {
    let held = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    WEIGHTS.iter().filter_map(|name| held(name)).find_map(|attribute: &AttributeProto| {
        let values = match setting(attribute)? {
            Setting::Floats(values) => values.into_iter().map(f64::from).collect(),
            Setting::Tensor(array) => match array.data {
                Data::F32(values) => values.into_iter().map(f64::from).collect(),
                Data::F64(values) => values,
                _ => return None,
            },
            _ => return None,
        };
        Some((attribute.name.clone(), values))
    })
}

/// What stands between a caller's rows and the trees.
struct Before {
    /// Kernels in the order in which they are run, with their nodes.
    kernels: Vec<(String, Kernel)>,
    /// What the trees compare.
    kind: Kind,
}

impl Before {
    fn of(graph: &GraphProto, trees: &NodeProto) -> Result<Self, TreeRefitError> {
        let mut kernels = Vec::new();
        let mut kind = None;
        let mut reader = trees;
        // Each step goes to another node; more than there are would be a cycle.
        for _ in 0..=graph.node.len() {
            let value = reader.input.first().map_or("", String::as_str);
            let Some(node) = graph.node.iter().find(|node| node.output.iter().any(|made| made == value))
            else {
                let is_wide = graph.input.iter().any(|info| info.name == value && is_double(info));
                kernels.reverse();
                let given = if is_wide { Kind::F64 } else { Kind::F32 };
                return Ok(Self { kernels, kind: kind.unwrap_or(given) });
            };
            let refused = || TreeRefitError::Before { node: called(node), op: named(&node.op_type) };
            match (node.domain.as_str(), node.op_type.as_str()) {
                ("" | "ai.onnx", "Identity") => {}
                ("" | "ai.onnx", "Cast") => {
                    let to = node.attribute.iter().find(|attribute| attribute.name == "to").map(|to| to.i);
                    if to == Some(i64::from(DataType::Double as i32)) {
                        kind.get_or_insert(Kind::F64);
                    } else if to == Some(i64::from(DataType::Float as i32)) {
                        kind.get_or_insert(Kind::F32);
                    } else {
                        return Err(refused());
                    }
                }
                (ML_DOMAIN, op) => {
                    let parsed = Kernel::parse(op, &ml_settings(node), None);
                    let kernel =
                        parsed.map_err(|source| TreeRefitError::Settings { node: called(node), source })?;
                    if kernel.inputs() != 1 || node.output.first().map(String::as_str) != Some(value) {
                        return Err(refused());
                    }
                    kind.get_or_insert(Kind::F32);
                    kernels.push((called(node), kernel));
                }
                _ => return Err(refused()),
            }
            reader = node;
        }
        Err(TreeRefitError::Before { node: called(trees), op: named(&trees.op_type) })
    }

    /// Features as the trees get them, and how many a row has.
    fn run<'a>(&self, samples: &Samples<'a>) -> Result<(Cow<'a, [f32]>, usize), TreeRefitError> {
        let (mut features, mut width) = (Cow::Borrowed(samples.features), samples.width);
        for (name, kernel) in &self.kernels {
            let failed = |source| TreeRefitError::Rows { node: name.clone(), source };
            if width == 0 || !features.len().is_multiple_of(width) {
                return Err(failed(RunError::Features { expected: width, got: features.len() }));
            }
            let shape = [features.len() / width, width];
            let made = kernel.run(&[View { shape: &shape, data: Slice::F32(&features) }]).map_err(failed)?;
            let Some(made) = made.into_iter().next() else { continue };
            let Data::F32(values) = made.data else { return Err(failed(RunError::NotNumbers)) };
            width = made.shape.iter().skip(1).product();
            features = Cow::Owned(values);
        }
        Ok((features, width))
    }
}

fn is_double(info: &tract_onnx::pb::ValueInfoProto) -> bool {
    use tract_onnx::pb::type_proto::Value;
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    matches!(value, Some(Value::TensorType(tensor)) if tensor.elem_type == DataType::Double as i32)
}

/// What is done to the scores behind the trees, where that says what they are.
fn behind(graph: &GraphProto, trees: &NodeProto) -> Result<Option<Objective>, TreeRefitError> {
    let mut values: Vec<&str> = trees.output.iter().map(String::as_str).collect();
    let mut link = None;
    let mut is_seen = vec![false; graph.node.len()];
    while let Some(value) = values.pop() {
        for (place, node) in graph.node.iter().enumerate() {
            let is_reader = !value.is_empty() && node.input.iter().any(|read| read == value);
            if !is_reader || std::mem::replace(&mut is_seen[place], true) {
                continue;
            }
            match node.op_type.as_str() {
                "Sigmoid" => link = Some(Objective::Logistic),
                "Softmax" => link = Some(Objective::Softmax),
                op if SEEN_THROUGH.contains(&op) => values.extend(node.output.iter().map(String::as_str)),
                op => return Err(TreeRefitError::Behind { node: called(node), op: named(op) }),
            }
        }
    }
    Ok(link)
}
