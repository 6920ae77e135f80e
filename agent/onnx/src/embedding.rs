//! The penultimate activations: what the last layer makes its scores of.
//!
//! They say in a few dozen numbers what the network sees in an input of any shape, so that their drift is
//! watched where the inputs are tensors, and where features move in ways that matter to nobody.

use tract_onnx::pb;

use crate::graph::{Graph, Node};
use crate::model::OnnxModel;
use crate::refusal::{Refusal, named};
use crate::spec::{Datatype, TensorSpec};

/// What may stand between the last layer and the output: neither mixes nor reads other activations.
const AFTER: &[&str] = &[
    "Add",
    "Cast",
    "Clip",
    "Div",
    "Flatten",
    "HardSigmoid",
    "Identity",
    "LogSoftmax",
    "Mul",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Squeeze",
    "Sub",
    "Tanh",
    "Unsqueeze",
];
/// Layers that learn a representation.
const LEARNED: &[&str] = &["Attention", "Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"];

impl Graph {
    /// The tensor that the last dense layer reads, where layers stand before it; `None` of a linear model, of
    /// trees, and of what ends in another way.
    #[must_use]
    pub fn penultimate(&self) -> Option<&str> {
        let mut at = self.float_output()?.name.as_str();
        let last = loop {
            let (_, node) = self.producer(at)?;
            if matches!(node.op.as_str(), "Gemm" | "MatMul") {
                break node;
            }
            if !AFTER.contains(&node.op.as_str()) {
                return None;
            }
            at = self.only_activation(node)?;
        };
        let embedding = self.only_activation(last)?;
        let below = self.depended_on(&[embedding], |_| true);
        let learns = |(node, is_below): (&Node, bool)| is_below && LEARNED.contains(&node.op.as_str());
        let is_output = self.outputs.iter().any(|output| output.name == embedding);
        (!is_output && self.nodes.iter().zip(below).any(learns)).then_some(embedding)
    }

    /// What a node reads that is neither stored nor a constant; `None` where that is not exactly one.
    fn only_activation<'a>(&self, node: &'a Node) -> Option<&'a str> {
        let is_constant = |name: &str| {
            self.initializers.contains_key(name)
                || self.producer(name).is_some_and(|(_, node)| node.constant().is_some())
        };
        let read = node.inputs.iter().map(String::as_str);
        let mut moving = read.filter(|name| !name.is_empty() && !is_constant(name));
        let first = moving.next()?;
        moving.next().is_none().then_some(first)
    }
}

impl OnnxModel {
    /// Has the engine give one more tensor behind the outputs, of single precision; [`OnnxModel::outputs`] stays
    /// what the file says.
    ///
    /// # Errors
    /// When no node makes it, or it is an output already.
    pub fn expose(&mut self, tensor: &str) -> Result<TensorSpec, Refusal> {
        let refuse = |reason: &str| Refusal::BadInterface { value: named(tensor), reason: reason.into() };
        let graph = self.raw_graph();
        if !graph.node.iter().any(|node| node.output.iter().any(|made| made == tensor)) {
            return Err(refuse("no node makes it"));
        }
        if graph.output.iter().any(|output| output.name == tensor) {
            return Err(refuse("it is an output already"));
        }
        let float = pb::type_proto::Tensor {
            elem_type: pb::tensor_proto::DataType::Float as i32,
            ..Default::default()
        };
        let value = Some(pb::type_proto::Value::TensorType(float));
        let kind = pb::TypeProto { value, ..Default::default() };
        let info = pb::ValueInfoProto { name: tensor.into(), r#type: Some(kind), ..Default::default() };
        self.raw_graph_mut().output.push(info);
        let (name, datatype) = (tensor.to_owned(), Datatype::F32);
        Ok(TensorSpec { name, datatype, dims: Vec::new(), ranked: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::network::{DenseLayer, Head, MlpSpec, build_mlp};

    fn mlp(layers: usize) -> OnnxModel {
        let layer = || DenseLayer { weight: vec![0.5; 4], bias: vec![0.1; 2] };
        let layers = (0..layers).map(|_| layer()).collect();
        let spec = MlpSpec { width: 2, normaliser: None, layers, head: Head::Classes };
        OnnxModel::parse(&build_mlp(&spec).unwrap(), &Limits::default()).unwrap()
    }

    #[test]
    fn the_last_layers_input_is_found() {
        assert_eq!(mlp(1).graph().penultimate(), None, "a linear model sees nothing but its inputs");
        let mut model = mlp(2);
        let graph = model.graph();
        let embedding = graph.penultimate().unwrap();
        let (_, node) = graph.producer(embedding).unwrap();
        assert_eq!(node.op, "Relu");
        assert_eq!(model.expose(embedding).unwrap().name, embedding);
        assert_eq!((model.outputs().len(), model.proto().graph.as_ref().unwrap().output.len()), (1, 2));
        assert!(model.expose(embedding).unwrap_err().to_string().contains("already"));
        assert!(model.expose("nothing").unwrap_err().to_string().contains("no node"));
    }
}
