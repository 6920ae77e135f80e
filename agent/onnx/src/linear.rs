//! Linear models of `ai.onnx.ml`: weights that stand in the node, taken out for training and written back.
//!
//! A weight is called `NODE/coefficients` or `NODE/intercepts`, by the node's own name, or by that of what it
//! makes first where it has none or another linear model has the same.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::GraphProto;

use crate::constant::{Constant, ConstantData};
use crate::graph::{Attribute, Graph, Node};
use crate::patch::{self, AttributePatch, PatchError, patch_attributes, patch_initializers};

const DOMAIN: &str = "ai.onnx.ml";
const CLASSIFIER: &str = "LinearClassifier";
const REGRESSOR: &str = "LinearRegressor";
const COEFFICIENTS: &str = "coefficients";
const INTERCEPTS: &str = "intercepts";

/// Whether a node is a linear model.
pub(crate) fn is_linear(domain: &[u8], op: &[u8]) -> bool {
    domain == DOMAIN.as_bytes() && (op == CLASSIFIER.as_bytes() || op == REGRESSOR.as_bytes())
}

/// Names of the linear models among nodes, given as name and first output.
pub(crate) fn names<'a>(models: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    models.iter().for_each(|(name, _)| *seen.entry(name).or_default() += 1);
    let is_own = |name: &str| !name.is_empty() && seen.get(name) == Some(&1);
    models.iter().map(|(name, made)| if is_own(name) { *name } else { *made }).collect()
}

/// Puts a product and what follows it in the place of each linear model, with its weights among the stored
/// tensors. `raw` are the same nodes with their names. A model whose labels are needed, or whose scores go
/// through what has no gradient here, stays as it is.
pub(crate) fn expand(graph: &mut Graph, raw: &GraphProto) {
    let linear: Vec<bool> =
        raw.node.iter().map(|node| is_linear(node.domain.as_bytes(), node.op_type.as_bytes())).collect();
    let models = raw.node.iter().zip(&linear).filter(|(_, is_linear)| **is_linear);
    let models: Vec<(&str, &str)> = models
        .map(|(node, _)| (node.name.as_str(), node.output.first().map_or("", String::as_str)))
        .collect();
    let mut names = names(&models).into_iter();
    let taken: BTreeSet<String> = graph.nodes.iter().flat_map(|node| node.outputs.clone()).collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (node, is_linear) in std::mem::take(&mut graph.nodes).into_iter().zip(linear) {
        let name = if is_linear { names.next() } else { None };
        let parts = name.and_then(|name| Parts::read(&node, name));
        let is_free = |name: &String| !taken.contains(name) && !graph.initializers.contains_key(name);
        match parts.filter(|parts| parts.weights.iter().all(|(name, _)| is_free(name))) {
            Some(parts) => {
                nodes.extend(parts.nodes);
                graph.initializers.extend(parts.weights);
            }
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
}

/// A linear model taken apart.
struct Parts {
    nodes: Vec<Node>,
    weights: Vec<(String, Constant)>,
}

impl Parts {
    fn read(node: &Node, name: &str) -> Option<Self> {
        let floats = |setting: &str| match node.attributes.get(setting) {
            Some(Attribute::Floats(values)) => values.clone(),
            _ => Vec::new(),
        };
        let is_classifier = node.op.ends_with(CLASSIFIER);
        let labels = ["classlabels_ints", "classlabels_strings"].iter().find_map(|list| {
            match node.attributes.get(*list) {
                Some(Attribute::Ints(labels)) => Some(labels.len()),
                Some(Attribute::Texts(labels)) => Some(labels.len()),
                _ => None,
            }
        });
        let labels = labels.filter(|_| is_classifier).unwrap_or(0);
        let (coefficients, intercepts) = (floats(COEFFICIENTS), floats(INTERCEPTS));
        let targets = match intercepts.len() {
            0 if is_classifier => labels,
            0 => usize::try_from(node.int("targets").unwrap_or(1)).ok()?,
            count => count,
        };
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return None;
        }
        let scores = node.outputs.get(usize::from(is_classifier)).filter(|name| !name.is_empty())?;
        let mut inputs = vec![node.operand(0)?.to_owned()];
        let features = coefficients.len() / targets;
        let mut weights = Vec::new();
        for (setting, dims, values) in
            [(COEFFICIENTS, vec![targets, features], coefficients), (INTERCEPTS, vec![targets], intercepts)]
        {
            if !values.is_empty() {
                inputs.push(format!("{name}/{setting}"));
                weights
                    .push((format!("{name}/{setting}"), Constant { dims, data: ConstantData::F32(values) }));
            }
        }
        let made = |step: &str| format!("{scores}#{step}");
        let part = |op: &str, inputs: Vec<String>, output: String| Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs,
            outputs: vec![output],
            attributes: BTreeMap::new(),
        };
        let mut product = part("Gemm", inputs, made("product"));
        product.attributes.insert("transB".into(), Attribute::Int(1));
        let mut nodes = vec![product];
        let is_pair = targets == 1 && labels == 2;
        let last = match node.text("post_transform").unwrap_or("NONE") {
            "PROBIT" => return None,
            // Softmax of nought and the score is one minus its Sigmoid, and that.
            "LOGISTIC" if is_pair => {
                nodes.push(part("Sub", vec![made("product"); 2], made("other")));
                nodes.push(both(part("Concat", vec![made("other"), made("product")], made("both"))));
                part("Softmax", vec![made("both")], scores.clone())
            }
            _ if is_pair => {
                weights
                    .push((made("one"), Constant { dims: Vec::new(), data: ConstantData::F32(vec![1.0]) }));
                nodes.push(part("Sub", vec![made("one"), made("product")], made("other")));
                both(part("Concat", vec![made("other"), made("product")], scores.clone()))
            }
            // A single score is not transformed.
            _ if targets == 1 => part("Identity", vec![made("product")], scores.clone()),
            "NONE" => part("Identity", vec![made("product")], scores.clone()),
            "LOGISTIC" => part("Sigmoid", vec![made("product")], scores.clone()),
            // The second leaves out scores that are nought to the last bit; no gradient tells them apart.
            "SOFTMAX" | "SOFTMAX_ZERO" => part("Softmax", vec![made("product")], scores.clone()),
            _ => return None,
        };
        nodes.push(last);
        Some(Self { nodes, weights })
    }
}

fn both(mut node: Node) -> Node {
    node.attributes.insert("axis".into(), Attribute::Int(1));
    node
}

/// Writes new values for parameters as [`crate::parameters`] names them: over stored tensors, as
/// [`patch_initializers`] does, and over the weights that linear models of `ai.onnx.ml` keep in their nodes.
///
/// # Errors
/// [`PatchError`], which names the tensor, or node and setting; then nothing is written.
pub fn patch_parameters(bytes: &[u8], new: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>, PatchError> {
    let heads = patch::heads(bytes)?;
    let models: Vec<&patch::NodeHead<'_>> =
        heads.iter().filter(|head| is_linear(head.domain, head.op)).collect();
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let pairs: Vec<(&str, &str)> = models.iter().map(|head| (text(head.name), text(head.output))).collect();
    let mut of_nodes = BTreeSet::new();
    let mut patches = Vec::new();
    let stored = patch::tensor_names(bytes)?;
    for (head, name) in models.iter().zip(names(&pairs)) {
        for setting in [COEFFICIENTS, INTERCEPTS] {
            let parameter = format!("{name}/{setting}");
            if stored.contains(parameter.as_bytes()) {
                continue;
            }
            if let Some(values) = new.get(&parameter) {
                let values = values.iter().copied().map(f64::from).collect();
                of_nodes.insert(parameter);
                let (node, attribute) = (name.to_owned(), setting.to_owned());
                patches.push(AttributePatch { place: head.place, node, attribute, values });
            }
        }
    }
    if patches.is_empty() {
        return patch_initializers(bytes, new); // Without another copy of a large file.
    }
    let tensors = new.iter().filter(|(name, _)| !of_nodes.contains(*name));
    let tensors = tensors.map(|(name, values)| (name.clone(), values.clone())).collect();
    patch_initializers(&patch_attributes(bytes, &patches)?, &tensors)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_model_is_called_by_what_it_alone_is_called() {
        let models = [("a", "y0"), ("b", "y1"), ("", "y2"), ("b", "y3")];
        assert_eq!(names(&models), ["a", "y1", "y2", "y3"]);
    }
}
