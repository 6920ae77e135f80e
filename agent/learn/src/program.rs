//! A graph made ready to be run forward and backward.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use shoal_onnx::{Graph, Limits, Node, OnnxModel, Parameter, TensorSpec, untrainable_ops};

use crate::failure::{LearnError, at};
use crate::ops::{self, Call, OpError, Value};

/// What the last step of a classifier was, taken off for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// Scores as they are, or before a Softmax.
    Scores,
    /// One score before a Sigmoid: of class one against class zero.
    Binary,
}

/// A graph with everything needed to run it.
#[derive(Debug)]
pub(crate) struct Program {
    graph: Graph,
    /// Sizes of a row.
    row: Vec<usize>,
    constants: BTreeMap<String, Value>,
    output: String,
    /// The value before the last Softmax or Sigmoid, or the output itself.
    scores: String,
    head: Head,
}

impl Program {
    /// Prepares a file for training.
    pub(crate) fn new(onnx: &[u8]) -> Result<Self, LearnError> {
        let graph = OnnxModel::parse(onnx, &Limits::default())?.graph();
        let ops: Vec<String> = untrainable_ops(&graph).into_iter().collect();
        if !ops.is_empty() {
            return Err(LearnError::NotTrainable { ops });
        }
        let interface = |reason: &str| LearnError::Interface { reason: reason.into() };
        let [input] = graph.inputs.as_slice() else {
            return Err(interface("it has not exactly one input"));
        };
        if !input.is_f32() {
            return Err(LearnError::Interface { reason: format!("its input is of {}", input.datatype) });
        }
        let row = row_of(input).ok_or_else(|| interface("an inner size of its input is open"))?;
        let output = graph.float_output().ok_or_else(|| interface("no output is of floats"))?.name.clone();
        let (scores, head) = head_of(&graph, &output);
        let constants = graph
            .initializers
            .iter()
            .filter_map(|(name, constant)| Some((name.clone(), ops::hold(constant)?)))
            .collect();
        Ok(Self { row, constants, output, scores, head, graph })
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// Features of a row.
    pub(crate) fn width(&self) -> usize {
        self.row.iter().product()
    }

    /// A variable for each parameter, with the values of the file.
    pub(crate) fn variables(&self, parameters: &[Parameter]) -> Result<BTreeMap<String, Var>, LearnError> {
        let mut variables = BTreeMap::new();
        for parameter in parameters {
            if let Some(Value::Float(tensor)) = self.constants.get(&parameter.name) {
                let variable = Var::from_tensor(tensor).map_err(at("making variables"))?;
                variables.insert(parameter.name.clone(), variable);
            }
        }
        Ok(variables)
    }

    /// Scores [N, k] of a classifier, before any Softmax or Sigmoid.
    pub(crate) fn scores(
        &self,
        variables: &BTreeMap<String, Var>,
        features: &[f32],
    ) -> Result<Tensor, LearnError> {
        self.run(variables, features, &self.scores)
    }

    /// The output [N, k] as it is served.
    pub(crate) fn output(
        &self,
        variables: &BTreeMap<String, Var>,
        features: &[f32],
    ) -> Result<Tensor, LearnError> {
        self.run(variables, features, &self.output)
    }

    fn run(
        &self,
        variables: &BTreeMap<String, Var>,
        features: &[f32],
        wanted: &str,
    ) -> Result<Tensor, LearnError> {
        let rows = features.len().checked_div(self.width()).unwrap_or(0);
        let shape: Vec<usize> = [rows].iter().chain(&self.row).copied().collect();
        let input = Tensor::from_slice(features, shape, &Device::Cpu).map_err(at("feeding rows"))?;
        let mut made: BTreeMap<&str, Value> = BTreeMap::new();
        if let Some(spec) = self.graph.inputs.first() {
            made.insert(&spec.name, Value::Float(input));
        }
        for node in &self.graph.nodes {
            if made.contains_key(wanted) {
                break;
            }
            // A node whose operands were not made is beside the way to the output.
            let Some(operands) = self.operands(node, variables, &made) else { continue };
            let value = ops::apply(&Call { node, opset: self.graph.opset, operands });
            if let (Some(name), value) = (node.outputs.first(), value) {
                match value {
                    Ok(value) => drop(made.insert(name, value)),
                    Err(OpError::Unknown) => {}
                    Err(source) => {
                        let (node, op) = (node.name.clone(), node.op.clone());
                        return Err(LearnError::Op { node, op, source });
                    }
                }
            }
        }
        match made.remove(wanted) {
            Some(Value::Float(scores)) => per_row(scores, rows),
            _ => Err(LearnError::Interface { reason: format!("`{wanted}` could not be computed") }),
        }
    }

    fn operands(
        &self,
        node: &Node,
        variables: &BTreeMap<String, Var>,
        made: &BTreeMap<&str, Value>,
    ) -> Option<Vec<Option<Value>>> {
        let find = |name: &String| {
            let variable = || variables.get(name).map(|variable| Value::Float(variable.as_tensor().clone()));
            let known = || made.get(name.as_str()).or_else(|| self.constants.get(name)).cloned();
            variable().or_else(known)
        };
        node.inputs
            .iter()
            .map(|name| if name.is_empty() { Some(None) } else { find(name).map(Some) })
            .collect()
    }
}

fn row_of(input: &TensorSpec) -> Option<Vec<usize>> {
    input.row_elements()?;
    input.dims.iter().skip(1).map(|dim| dim.and_then(|size| usize::try_from(size).ok())).collect()
}

/// Looks behind the output for a Softmax or Sigmoid.
fn head_of(graph: &Graph, output: &str) -> (String, Head) {
    let mut value = output;
    while let Some((_, node)) = graph.producer(value) {
        let Some(inner) = node.operand(0) else { break };
        match node.op.as_str() {
            "Identity" => value = inner,
            "Softmax" | "LogSoftmax" => return (inner.to_owned(), Head::Scores),
            "Sigmoid" => return (inner.to_owned(), Head::Binary),
            _ => break,
        }
    }
    (output.to_owned(), Head::Scores)
}

fn per_row(scores: Tensor, rows: usize) -> Result<Tensor, LearnError> {
    let dims = scores.dims().to_vec();
    match dims.as_slice() {
        [first, _] if *first == rows => Ok(scores),
        [first] if *first == rows => scores.reshape((rows, 1)).map_err(at("shaping scores")),
        [first, ..] if *first == rows => scores.flatten_from(1).map_err(at("shaping scores")),
        _ => Err(LearnError::Interface { reason: format!("its output has shape {dims:?} for {rows} rows") }),
    }
}
