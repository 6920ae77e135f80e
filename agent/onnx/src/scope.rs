//! Names in a graph: each made once, before it is read. A cycle is a name read before it is made.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use crate::constant;
use crate::limits::Limits;
use crate::refusal::{Refusal, named};
use crate::traps;

/// Longest name of a value: exporters write paths of modules, of some hundred.
const MAX_NAME_BYTES: usize = 4_096;
/// Settings of a node at most: trees have twenty.
const MAX_SETTINGS: usize = 64;

/// The names known at a node: of its own graph, then of those around it. A chain and not a copy, or
/// a million small graphs beside many names would keep the check busy for minutes.
#[derive(Debug, Default)]
pub(crate) struct Scope<'s, 'a> {
    names: BTreeSet<&'a str>,
    stored: BTreeMap<&'a str, &'a TensorProto>,
    given: BTreeMap<&'a str, usize>,
    outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    /// The stored tensor of this name, for the checks that need its values.
    pub(crate) fn stored(&self, name: &str) -> Option<&'a TensorProto> {
        self.stored.get(name).copied().or_else(|| self.outer?.stored(name))
    }

    /// How many axes a value has, where the file says it: stored tensors and inputs.
    pub(crate) fn rank(&self, name: &str) -> Option<usize> {
        let own = self.stored.get(name).map(|tensor| tensor.dims.len());
        own.or_else(|| self.given.get(name).copied()).or_else(|| self.outer?.rank(name))
    }

    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }

    fn make(&mut self, name: &'a str) -> Result<(), Refusal> {
        if name.len() > MAX_NAME_BYTES {
            let reason = format!("its name has {} bytes, {MAX_NAME_BYTES} are the most", name.len());
            return Err(Refusal::BadInterface { value: named(name), reason });
        }
        if self.names.insert(name) {
            return Ok(());
        }
        Err(Refusal::Duplicate { value: named(name) })
    }
}

/// Checks names, tensors and attributes of a graph and those inside it.
pub(crate) fn check(graph: &GraphProto, limits: &Limits) -> Result<(), Refusal> {
    check_graph(graph, None, &mut 0, limits)
}

fn check_graph<'a>(
    graph: &'a GraphProto,
    outer: Option<&Scope<'_, 'a>>,
    elements: &mut u128,
    limits: &Limits,
) -> Result<(), Refusal> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let tensor = named(sparse.values.as_ref().map_or("", |values| &values.name));
        return Err(Refusal::BadTensor { tensor, reason: "sparse tensors are not served".into() });
    }
    let mut scope = Scope { outer, ..Scope::default() };
    for tensor in &graph.initializer {
        constant::check(tensor, elements, limits)?;
        scope.make(&tensor.name)?;
        scope.stored.insert(&tensor.name, tensor);
    }
    let mut inputs = BTreeSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name.as_str()) {
            return Err(Refusal::Duplicate { value: named(&input.name) });
        }
        scope.given.extend(rank_of(input).map(|rank| (input.name.as_str(), rank)));
    }
    if let Some(long) = inputs.iter().find(|name| name.len() > MAX_NAME_BYTES) {
        let reason = format!("its name has {} bytes, {MAX_NAME_BYTES} are the most", long.len());
        return Err(Refusal::BadInterface { value: named(long), reason });
    }
    scope.names.extend(inputs); // an initialiser may be a default for an input
    for node in &graph.node {
        check_node(node, &mut scope, elements, limits)?;
    }
    let mut outputs = BTreeSet::new();
    let is_whole = outer.is_none(); // a body may give one value as state and as part of a sequence
    if let Some(made) = graph.output.iter().find(|made| is_whole && !outputs.insert(made.name.as_str())) {
        return Err(Refusal::Duplicate { value: named(&made.name) });
    }
    match graph.output.iter().find(|made| !scope.knows(&made.name)) {
        None => Ok(()),
        Some(made) => Err(Refusal::Dangling { reader: "output".into(), value: named(&made.name) }),
    }
}

fn check_node<'a>(
    node: &'a NodeProto,
    scope: &mut Scope<'_, 'a>,
    elements: &mut u128,
    limits: &Limits,
) -> Result<(), Refusal> {
    if let Some(value) = node.input.iter().find(|value| !value.is_empty() && !scope.knows(value)) {
        return Err(Refusal::Dangling { reader: title(node), value: named(value) });
    }
    if node.attribute.len() > MAX_SETTINGS {
        let reason = format!("it has {} settings, {MAX_SETTINGS} are the most", node.attribute.len());
        return Err(traps::bad(node, reason));
    }
    for attribute in &node.attribute {
        if !attribute.ref_attr_name.is_empty() {
            return Err(traps::bad(node, "an attribute refers to a function's".into()));
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            constant::check(tensor, elements, limits)?;
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return Err(traps::bad(node, "sparse tensors are not served".into()));
        }
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            check_graph(inner, Some(scope), elements, limits)?;
        }
    }
    traps::check(node, scope, limits)?;
    for made in node.output.iter().filter(|value| !value.is_empty()) {
        scope.make(made)?;
    }
    if let (Some(made), Some(tensor)) = (node.output.first(), traps::constant_of(node)) {
        scope.stored.insert(made, tensor);
    }
    Ok(())
}

fn rank_of(input: &ValueInfoProto) -> Option<usize> {
    match input.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.shape.as_ref()?.dim.len()),
    }
}

/// A node's name, or that of what it makes.
pub(crate) fn title(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    named(name.map_or("", |name| name.as_str()))
}
