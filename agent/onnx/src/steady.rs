//! Whether a model's work depends on what it is fed, or on the shapes alone.

use std::collections::BTreeSet;

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::model::OnnxModel;

/// Operators whose work or output grows with the values of an operand: the operand's place.
const SIZED_BY: &[(&str, &[usize])] = &[
    ("BlackmanWindow", &[0]),
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Reshape", &[1]),
    ("Resize", &[1, 2, 3]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Upsample", &[1]),
];

/// Operators that take as long as their values want, or give as many.
const UNSTEADY: &[&str] = &["Compress", "Loop", "NonMaxSuppression", "NonZero", "Unique"];

/// Operators that give a shape, whatever the values.
const SHAPES: &[&str] = &["Shape", "Size"];

impl OnnxModel {
    /// The first operator whose work depends on the values fed, `None` when the shapes alone decide
    /// how long a call takes: what was measured once then holds for all data of that shape.
    #[must_use]
    pub fn unsteady_op(&self) -> Option<&str> {
        let graph = self.raw_graph();
        let stored: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let fed = graph.input.iter().map(|input| input.name.as_str());
        first(graph, fed.filter(|name| !stored.contains(name)).collect())
    }
}

/// `fed` are the names whose values come from a caller.
fn first<'a>(graph: &'a GraphProto, mut fed: BTreeSet<&'a str>) -> Option<&'a str> {
    for node in &graph.node {
        let op = node.op_type.as_str();
        if UNSTEADY.contains(&op) || is_sized_by_data(node, &fed) {
            return Some(op);
        }
        let mut is_fed = !SHAPES.contains(&op) && node.input.iter().any(|name| fed.contains(name.as_str()));
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            // What a body takes may come from a caller: everything in it counts as fed.
            let mut within = fed.clone();
            within.extend(inner.input.iter().map(|input| input.name.as_str()));
            if let Some(op) = first(inner, within) {
                return Some(op);
            }
            is_fed = true;
        }
        if is_fed {
            fed.extend(node.output.iter().map(String::as_str));
        }
    }
    None
}

fn is_sized_by_data(node: &NodeProto, fed: &BTreeSet<&str>) -> bool {
    let places = SIZED_BY.iter().find(|(op, _)| *op == node.op_type).map_or(&[][..], |(_, places)| places);
    places.iter().any(|place| node.input.get(*place).is_some_and(|name| fed.contains(name.as_str())))
}
