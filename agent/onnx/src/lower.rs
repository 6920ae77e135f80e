//! Rewrites what the engine does not take into what it does, where that changes no answer.

mod functions;
mod half;
mod nodes;
mod zip_map;

use tract_onnx::pb::{GraphProto, ModelProto};

use crate::limits::Limits;
use crate::refusal::Refusal;

pub(crate) use half::widen;
pub(crate) use nodes::is_reverse;
pub use zip_map::ClassNames;

/// Rewrites that change what a file is made of: local functions are put in place, `ZipMap` gives
/// way to the matrix that it would take apart. Gives the class names that went with the latter.
///
/// # Errors
/// [`Refusal::TooManyNodes`] when functions in functions grow beyond all bounds, and
/// [`Refusal::BadNode`] for a call that does not fit its function.
pub(crate) fn lower(proto: &mut ModelProto, limits: &Limits) -> Result<Vec<ClassNames>, Refusal> {
    functions::inline(proto, limits)?;
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = proto.opset_import.iter().find(|set| own(&set.domain)).map_or(0, |set| set.version);
    if let Some(graph) = &mut proto.graph {
        each_graph(graph, &mut |graph| nodes::rewrite(graph, opset));
    }
    Ok(proto.graph.as_mut().map(zip_map::strip).unwrap_or_default())
}

/// Calls on a graph and on all graphs inside it.
fn each_graph(graph: &mut GraphProto, work: &mut impl FnMut(&mut GraphProto)) {
    work(graph);
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                each_graph(inner, work);
            }
        }
    }
}
