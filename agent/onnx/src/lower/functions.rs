//! Functions that a file brings along, put in the place of their calls.

use std::collections::BTreeMap;

use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::traps;

type Functions = BTreeMap<(String, String), FunctionProto>;

/// Puts every call in place, functions inside functions too.
pub(super) fn inline(proto: &mut ModelProto, limits: &Limits) -> Result<(), Refusal> {
    if proto.functions.is_empty() {
        return Ok(());
    }
    let key = |f: &FunctionProto| (f.domain.clone().unwrap_or_default(), f.name.clone().unwrap_or_default());
    let functions: Functions = proto.functions.drain(..).map(|f| (key(&f), f)).collect();
    let mut budget = Budget { calls: 0, nodes: 0, most: limits.max_nodes };
    match &mut proto.graph {
        Some(graph) => inline_graph(graph, &functions, limits.max_depth, &mut budget),
        None => Ok(()),
    }
}

/// What bounds functions that call functions.
struct Budget {
    calls: usize,
    nodes: usize,
    most: usize,
}

fn inline_graph(
    graph: &mut GraphProto,
    functions: &Functions,
    depth: usize,
    budget: &mut Budget,
) -> Result<(), Refusal> {
    let nodes = std::mem::take(&mut graph.node);
    graph.node = inline_nodes(nodes, functions, depth, budget)?;
    Ok(())
}

fn inline_nodes(
    nodes: Vec<NodeProto>,
    functions: &Functions,
    depth: usize,
    budget: &mut Budget,
) -> Result<Vec<NodeProto>, Refusal> {
    let mut made = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        budget.nodes += 1;
        if budget.nodes > budget.most {
            return Err(Refusal::TooManyNodes { nodes: budget.nodes, limit: budget.most });
        }
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                inline_graph(inner, functions, depth, budget)?;
            }
        }
        let Some(function) = functions.get(&(node.domain.clone(), node.op_type.clone())) else {
            made.push(node);
            continue;
        };
        let Some(below) = depth.checked_sub(1) else {
            return Err(traps::bad(&node, "functions call one another too deeply".into()));
        };
        budget.calls += 1;
        let body = call(&node, function, budget.calls)?;
        made.extend(inline_nodes(body, functions, below, budget)?);
    }
    Ok(made)
}

/// The nodes of one call: operands by the caller's names, all else by names of its own.
fn call(node: &NodeProto, function: &FunctionProto, number: usize) -> Result<Vec<NodeProto>, Refusal> {
    if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
        return Err(traps::bad(node, "it does not fit its function".into()));
    }
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let formal = function.input.iter().chain(&function.output);
    formal.for_each(|name| {
        names.insert(name, "");
    });
    names.extend(function.input.iter().zip(&node.input).map(|(a, b)| (a.as_str(), b.as_str())));
    let wanted = function.output.iter().zip(&node.output).filter(|(_, name)| !name.is_empty());
    names.extend(wanted.map(|(a, b)| (a.as_str(), b.as_str())));
    // An output nobody wants may still be read inside.
    let given = node.output.iter().map(String::as_str).chain(std::iter::repeat(""));
    let unwanted: Vec<&String> = function
        .output
        .iter()
        .zip(given)
        .filter(|(_, name)| name.is_empty())
        .map(|(formal, _)| formal)
        .collect();
    for formal in unwanted {
        names.remove(formal.as_str());
    }
    let rename = |name: &mut String| {
        if name.is_empty() {
            return;
        }
        *name = match names.get(name.as_str()) {
            Some(outer) => (*outer).to_owned(),
            None => format!("call{number}/{name}"),
        };
    };
    let mut body = function.node.clone();
    for inner in &mut body {
        rename_node(inner, &rename);
        settle(inner, node);
    }
    Ok(body)
}

fn rename_node(node: &mut NodeProto, rename: &impl Fn(&mut String)) {
    node.input.iter_mut().chain(&mut node.output).for_each(rename);
    if !node.name.is_empty() {
        node.name = node.output.first().cloned().unwrap_or_default();
    }
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
            graph.input.iter_mut().chain(&mut graph.output).for_each(|info| rename(&mut info.name));
            graph.value_info.clear();
            graph.node.iter_mut().for_each(|inner| rename_node(inner, rename));
        }
    }
}

/// Gives attributes that refer to the function's the values of the call; those the call leaves
/// out are left out.
fn settle(node: &mut NodeProto, call: &NodeProto) {
    let given = |name: &str| call.attribute.iter().find(|attribute| attribute.name == name);
    let attributes = std::mem::take(&mut node.attribute);
    let settled = attributes.into_iter().filter_map(|attribute| {
        if attribute.ref_attr_name.is_empty() {
            return Some(attribute);
        }
        given(&attribute.ref_attr_name)
            .map(|value| AttributeProto { name: attribute.name.clone(), ..value.clone() })
    });
    node.attribute = settled.collect();
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph.node.iter_mut().for_each(|inner| settle(inner, call));
        }
    }
}
