//! Half precision widened to single: the engine's matrix products do not take the half kind, and
//! single precision holds every half exactly. Only roundings between the layers are left out.

use half::f16;
use tract_onnx::pb::{
    GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataType, type_proto,
};

use super::each_graph;

const HALF: i32 = DataType::Float16 as i32;
const SINGLE: i32 = DataType::Float as i32;

/// Widens all tensors, casts and interfaces of a model.
pub(crate) fn widen(proto: &mut ModelProto) {
    if let Some(graph) = &mut proto.graph {
        each_graph(graph, &mut widen_graph);
    }
}

fn widen_graph(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(widen_tensor);
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(widen_info);
    for node in &mut graph.node {
        // What is left are casts to themselves, whose names the engine would give twice.
        node.name.clear();
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(widen_tensor);
            if ["to", "dtype"].contains(&attribute.name.as_str()) && attribute.i == i64::from(HALF) {
                attribute.i = i64::from(SINGLE);
            }
        }
    }
}

fn widen_info(info: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        && tensor.elem_type == HALF
    {
        tensor.elem_type = SINGLE;
    }
}

fn widen_tensor(tensor: &mut TensorProto) {
    if tensor.data_type != HALF {
        return;
    }
    let halves: Vec<u16> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|bits| u16::try_from(*bits).unwrap_or_default()).collect()
    } else {
        tensor.raw_data.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
    };
    tensor.raw_data = halves.iter().flat_map(|bits| f16::from_bits(*bits).to_f32().to_le_bytes()).collect();
    tensor.int32_data.clear();
    tensor.data_type = SINGLE;
}
