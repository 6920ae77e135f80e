//! Names in a graph: each made once, before it is read. A cycle is a name read before it is made.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::constant;
use crate::limits::Limits;
use crate::refusal::{Refusal, named};
use crate::traps;

/// The stored tensors visible at a node, for the checks that need their values.
pub(crate) type Stored<'a> = BTreeMap<&'a str, &'a TensorProto>;

/// Checks names, tensors and attributes of a graph and those inside it.
pub(crate) fn check(graph: &GraphProto, limits: &Limits) -> Result<(), Refusal> {
    let mut elements = 0;
    check_graph(graph, &BTreeSet::new(), &Stored::new(), &mut elements, limits)
}

fn check_graph<'a>(
    graph: &'a GraphProto,
    outer: &BTreeSet<&'a str>,
    outer_stored: &Stored<'a>,
    elements: &mut u128,
    limits: &Limits,
) -> Result<(), Refusal> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let tensor = named(sparse.values.as_ref().map_or("", |values| &values.name));
        return Err(Refusal::BadTensor { tensor, reason: "sparse tensors are not served".into() });
    }
    let mut own = BTreeSet::new();
    let mut stored = outer_stored.clone();
    for tensor in &graph.initializer {
        constant::check(tensor, elements, limits)?;
        if tensor.name.is_empty() || !own.insert(tensor.name.as_str()) {
            return Err(Refusal::Duplicate { value: named(&tensor.name) });
        }
        stored.insert(&tensor.name, tensor);
    }
    let mut inputs = BTreeSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name.as_str()) {
            return Err(Refusal::Duplicate { value: named(&input.name) });
        }
    }
    own.extend(inputs);
    for node in &graph.node {
        let reads = node.input.iter().map(String::as_str).filter(|value| !value.is_empty());
        if let Some(value) = reads.clone().find(|v| !own.contains(v) && !outer.contains(v)) {
            return Err(Refusal::Dangling { reader: title(node), value: named(value) });
        }
        if node.attribute.iter().any(|attribute| !attribute.ref_attr_name.is_empty()) {
            return Err(traps::bad(node, "an attribute refers to a function's".into()));
        }
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                constant::check(tensor, elements, limits)?;
            }
            if attribute.sparse_tensor.is_some() {
                return Err(traps::bad(node, "sparse tensors are not served".into()));
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                let visible = own.union(outer).copied().collect();
                check_graph(inner, &visible, &stored, elements, limits)?;
            }
        }
        if let (Some(made), Some(tensor)) = (node.output.first(), traps::constant_of(node)) {
            stored.insert(made, tensor);
        }
        traps::check(node, &stored, limits)?;
        for made in node.output.iter().map(String::as_str).filter(|value| !value.is_empty()) {
            if !own.insert(made) {
                return Err(Refusal::Duplicate { value: named(made) });
            }
        }
    }
    match graph
        .output
        .iter()
        .find(|made| !own.contains(made.name.as_str()) && !outer.contains(made.name.as_str()))
    {
        None => Ok(()),
        Some(made) => Err(Refusal::Dangling { reader: "output".into(), value: named(&made.name) }),
    }
}

/// A node's name, or that of what it makes.
pub(crate) fn title(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    named(name.map_or("", |name| name.as_str()))
}
