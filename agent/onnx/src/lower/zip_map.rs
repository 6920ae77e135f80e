//! `ZipMap`: a list of maps from class to score. The scores come out as the matrix they were.

use serde::{Deserialize, Serialize};
use tract_onnx::pb::{
    GraphProto, NodeProto, TensorShapeProto, TypeProto, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

/// What the columns of an output are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassNames {
    /// The output.
    pub output: String,
    /// A name for each column.
    pub names: Vec<String>,
}

/// Puts `Identity` in the place of each `ZipMap`.
pub(super) fn strip(graph: &mut GraphProto) -> Vec<ClassNames> {
    let mut found = Vec::new();
    for node in &mut graph.node {
        if node.op_type != "ZipMap" || node.domain != "ai.onnx.ml" {
            continue;
        }
        let names = names(node);
        node.op_type = "Identity".into();
        node.domain.clear();
        node.attribute.clear();
        let Some(output) = node.output.first().cloned() else { continue };
        graph.value_info.retain(|info| info.name != output);
        for info in graph.output.iter_mut().filter(|info| info.name == output) {
            info.r#type = Some(matrix(names.len()));
        }
        found.push(ClassNames { output, names });
    }
    found
}

fn names(node: &NodeProto) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in &node.attribute {
        match attribute.name.as_str() {
            "classlabels_strings" => {
                names.extend(attribute.strings.iter().map(|name| String::from_utf8_lossy(name).into_owned()));
            }
            "classlabels_int64s" => names.extend(attribute.ints.iter().map(ToString::to_string)),
            _ => {}
        }
    }
    names
}

fn matrix(columns: usize) -> TypeProto {
    let columns = i64::try_from(columns).ok().map(dimension::Value::DimValue);
    let dim = [None, columns].map(|value| Dimension { value, ..Dimension::default() }).to_vec();
    let shape = Some(TensorShapeProto { dim });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }
}
