//! A file looked at by training: what goes in, what comes out, and what may move.

use shoal_onnx::{
    Constant, ConstantData, Graph, Limits, OnnxModel, Parameter, TensorSpec, parameters, untrainable_ops,
};

use crate::failure::LearnError;

/// What the last step of a classifier was, taken off for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// The output as it is.
    Plain,
    /// Scores before a Softmax.
    Softmax,
    /// Scores before a Sigmoid.
    Sigmoid,
    /// Scores before Sigmoids that are divided by their sum.
    Shares,
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    /// Name and sizes of a row of the only input.
    pub(crate) input: String,
    pub(crate) row: Vec<usize>,
    pub(crate) output: String,
    /// The value before the last Softmax or Sigmoid, or the output itself.
    pub(crate) scores: String,
    pub(crate) head: Head,
}

impl Model {
    /// Parses a file.
    pub(crate) fn parse(onnx: &[u8]) -> Result<Self, LearnError> {
        let graph = OnnxModel::parse(onnx, &Limits::default())?.training_graph();
        let ops: Vec<String> = untrainable_ops(&graph).into_iter().collect();
        if !ops.is_empty() {
            return Err(LearnError::NotTrainable { ops });
        }
        let interface = |reason: &str| LearnError::Interface { reason: reason.into() };
        let [input] = graph.inputs.as_slice() else {
            return Err(interface("it has not exactly one input"));
        };
        let row = row_of(input).ok_or_else(|| interface("an inner size of its input is open"))?;
        let output = graph.float_output().ok_or_else(|| interface("no output is of floats"))?.name.clone();
        let (scores, head) = head_of(&graph, &output);
        Ok(Self { input: input.name.clone(), row, output, scores, head, graph })
    }

    /// Features of a row.
    pub(crate) fn width(&self) -> usize {
        self.row.iter().product()
    }

    /// Sizes of so many rows.
    pub(crate) fn shape(&self, rows: usize) -> Vec<usize> {
        [rows].into_iter().chain(self.row.iter().copied()).collect()
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        parameters(&self.graph)
    }

    /// The stored values of a parameter.
    pub(crate) fn stored(&self, name: &str) -> &[f32] {
        match self.graph.initializers.get(name) {
            Some(Constant { data: ConstantData::F32(values), .. }) => values,
            _ => &[],
        }
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
            "Identity" | "Cast" => value = inner,
            // What adds up to one already is divided by one.
            "ai.onnx.ml.Normalizer" if node.text("norm") == Some("L1") => {
                return match head_of(graph, inner) {
                    (scores, Head::Softmax) => (scores, Head::Softmax),
                    (scores, Head::Sigmoid) => (scores, Head::Shares),
                    _ => (output.to_owned(), Head::Plain),
                };
            }
            "Softmax" | "LogSoftmax" => return (inner.to_owned(), Head::Softmax),
            "Sigmoid" => return (inner.to_owned(), Head::Sigmoid),
            _ => break,
        }
    }
    (output.to_owned(), Head::Plain)
}
