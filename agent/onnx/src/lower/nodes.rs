//! Single nodes that the engine gets wrong or refuses, in other words.

use std::collections::BTreeMap;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

/// First version of `Slice` that takes its settings as operands, and steps.
const SLICE_HAS_STEPS: i64 = 10;

/// An end before the first element; not the smallest number, which has overflowed in places.
const BEFORE_ALL: i64 = -(1 << 31);

/// Rewrites what can be, in one graph.
pub(super) fn rewrite(graph: &mut GraphProto, opset: i64) {
    let conditions = conditions(graph);
    let nodes = std::mem::take(&mut graph.node);
    for node in nodes {
        match node.op_type.as_str() {
            "LSTM" | "GRU" | "RNN" if opset >= SLICE_HAS_STEPS && is_reverse(&node) => {
                graph.node.extend(turned(node));
            }
            "Upsample" => graph.node.extend(scaled(node)),
            "Compress" => match node.input.get(1).and_then(|name| conditions.get(name)) {
                Some(chosen) => graph.node.extend(gathered(node, chosen)),
                None => graph.node.push(node),
            },
            _ => graph.node.push(node),
        }
    }
}

/// Whether a recurrent layer runs backwards. The engine passes over this setting and runs it
/// forwards.
pub(crate) fn is_reverse(node: &NodeProto) -> bool {
    attribute(node, "direction").is_some_and(|direction| direction.s == b"reverse")
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// A backward layer: the sequence turned, a forward layer, and its outputs turned back. With
/// lengths for each sequence this would not do, and the pre-check refuses it.
fn turned(mut node: NodeProto) -> Vec<NodeProto> {
    if node.input.get(4).is_some_and(|lengths| !lengths.is_empty()) {
        return vec![node];
    }
    let axis = attribute(&node, "layout").map_or(0, |layout| layout.i).clamp(0, 1);
    node.attribute.retain(|attribute| attribute.name != "direction");
    let tag = node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
    let (Some(x), Some(y)) = (node.input.first().cloned(), node.output.first().cloned()) else {
        return vec![node];
    };
    let turned = format!("{tag}/turned");
    let mut made = flip(&x, &turned, axis);
    node.input[0] = turned;
    if y.is_empty() {
        made.push(node);
        return made;
    }
    let back = format!("{tag}/forward");
    node.output[0].clone_from(&back);
    made.push(node);
    made.extend(flip(&back, &y, axis));
    made
}

/// Turns a tensor round along an axis.
fn flip(from: &str, to: &str, axis: i64) -> Vec<NodeProto> {
    let settings = [("starts", -1), ("ends", BEFORE_ALL), ("axes", axis), ("steps", -1)];
    let mut operands = vec![from.to_owned()];
    let mut made = Vec::with_capacity(settings.len() + 1);
    for (name, value) in settings {
        let name = format!("{to}/{name}");
        made.push(constant(&name, &[value]));
        operands.push(name);
    }
    made.push(node("Slice", operands, to));
    made
}

fn node(op: &str, input: Vec<String>, output: &str) -> NodeProto {
    NodeProto { op_type: op.into(), input, output: vec![output.to_owned()], ..NodeProto::default() }
}

/// A `Constant` node with a list of whole numbers.
fn constant(name: &str, values: &[i64]) -> NodeProto {
    let data_type = DataType::Int64 as i32;
    stored(
        name,
        values.len(),
        TensorProto { data_type, int64_data: values.to_vec(), ..TensorProto::default() },
    )
}

fn stored(name: &str, length: usize, tensor: TensorProto) -> NodeProto {
    let tensor = TensorProto { dims: vec![i64::try_from(length).unwrap_or(i64::MAX)], ..tensor };
    let mut made = node("Constant", Vec::new(), name);
    made.attribute.push(AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor),
        ..AttributeProto::default()
    });
    made
}

/// `Upsample` of opset 7 has its scales as a setting; those after it as an operand.
fn scaled(mut given: NodeProto) -> Vec<NodeProto> {
    let Some(place) = given.attribute.iter().position(|attribute| attribute.name == "scales") else {
        return vec![given];
    };
    let scales = given.attribute.remove(place).floats;
    let name = format!("{}/scales", given.output.first().map_or("", String::as_str));
    let data_type = DataType::Float as i32;
    let tensor = TensorProto { data_type, float_data: scales.clone(), ..TensorProto::default() };
    given.input.push(name.clone());
    vec![stored(&name, scales.len(), tensor), given]
}

/// The places that stored lists of booleans choose.
fn conditions(graph: &GraphProto) -> BTreeMap<String, Vec<i64>> {
    if !graph.node.iter().any(|node| node.op_type == "Compress") {
        return BTreeMap::new();
    }
    let stored = graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor));
    let inline = graph.node.iter().filter_map(|node| {
        let tensor = crate::traps::constant_of(node)?;
        Some((node.output.first()?.clone(), tensor))
    });
    stored.chain(inline).filter_map(|(name, tensor)| Some((name, chosen(tensor)?))).collect()
}

fn chosen(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != DataType::Bool as i32 || tensor.dims.len() != 1 {
        return None;
    }
    let flags: Vec<bool> = match tensor.raw_data.as_slice() {
        [] => tensor.int32_data.iter().map(|flag| *flag != 0).collect(),
        raw => raw.iter().map(|flag| *flag != 0).collect(),
    };
    Some((0..).zip(flags).filter(|(_, flag)| *flag).map(|(place, _)| place).collect())
}

/// `Compress` by a stored condition chooses places that are known.
fn gathered(given: NodeProto, chosen: &[i64]) -> Vec<NodeProto> {
    let (Some(x), Some(y)) = (given.input.first(), given.output.first()) else { return vec![given] };
    let places = format!("{y}/places");
    let mut made = vec![constant(&places, chosen)];
    let mut from = x.clone();
    if attribute(&given, "axis").is_none() {
        let (flat, shape) = (format!("{y}/flat"), format!("{y}/shape"));
        made.push(constant(&shape, &[-1]));
        made.push(node("Reshape", vec![from, shape], &flat));
        from = flat;
    }
    let mut gather = node("Gather", vec![from, places], y);
    gather.attribute = given.attribute.clone();
    made.push(gather);
    made
}
