//! Why a model is not looked at any further.

use thiserror::Error;

use crate::ops::UnknownOp;

/// The reason a file is refused before it is given to the engine.
///
/// Names in messages are cut to [`MAX_NAME`] characters, since the file may come from a stranger.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The file is larger than the limit.
    #[error("model is {bytes} bytes, the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// The bytes are no ONNX model, or a damaged one.
    #[error("not an ONNX model: {reason}")]
    NotOnnx { reason: String },
    /// More nodes than the limit.
    #[error("model has {nodes} nodes, the limit is {limit}")]
    TooManyNodes { nodes: usize, limit: usize },
    /// More protobuf submessages than the limit.
    #[error("model has {messages} parts, the limit is {limit}")]
    TooManyParts { messages: usize, limit: usize },
    /// Graphs inside graphs, too deep.
    #[error("graphs are nested deeper than {limit}")]
    TooDeep { limit: usize },
    /// Tensors hold more elements than the limit.
    #[error("tensors up to `{tensor}` hold {elements} elements, the limit is {limit}")]
    TooManyElements { tensor: String, elements: u128, limit: usize },
    /// Operators that this build does not serve.
    #[error("unknown operators: {}", list(.ops))]
    UnknownOps { ops: Vec<UnknownOp> },
    /// A tensor is stored outside of the file.
    #[error("tensor `{tensor}` is stored in another file")]
    ExternalData { tensor: String },
    /// A stored tensor contradicts itself.
    #[error("tensor `{tensor}`: {reason}")]
    BadTensor { tensor: String, reason: String },
    /// An attribute or constant operand that would make the engine panic, hang or eat all memory.
    #[error("node `{node}` ({op}): {reason}")]
    BadNode { node: String, op: String, reason: String },
    /// A node or output reads a value that nothing before it makes.
    #[error("`{reader}` reads `{value}`, which nothing before it makes")]
    Dangling { reader: String, value: String },
    /// Two values have the same name.
    #[error("two values are named `{value}`")]
    Duplicate { value: String },
    /// An input or output is no tensor, or of a type that is not served.
    #[error("`{value}`: {reason}")]
    BadInterface { value: String, reason: String },
}

impl Refusal {
    /// Says what a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::TooLarge { .. } | Self::TooManyElements { .. } => {
                "use a smaller or quantised model, or raise the limit"
            }
            Self::NotOnnx { .. } => "check that the file is complete and exported as .onnx",
            Self::TooManyNodes { .. } | Self::TooManyParts { .. } | Self::TooDeep { .. } => {
                "simplify the model (onnxsim), or export it without unrolled loops"
            }
            Self::UnknownOps { .. } => {
                "export with opset 9 to 18, without ZipMap and without functions of the exporter"
            }
            Self::ExternalData { .. } => "export with external_data=False: one file, weights inside",
            Self::Dangling { .. } | Self::Duplicate { .. } | Self::BadTensor { .. } => {
                "check the file with onnx.checker.check_model"
            }
            Self::BadNode { .. } => return None,
            Self::BadInterface { .. } => "only dense tensors of numbers, booleans and text are served",
        })
    }
}

/// Longest name repeated in a message, in characters.
const MAX_NAME: usize = 80;

/// Cuts a name from a file to what a log line can bear.
pub(crate) fn named(name: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if name.chars().count() <= MAX_NAME {
        return name.chars().map(clean).collect();
    }
    name.chars().take(MAX_NAME).map(clean).chain("…".chars()).collect()
}

/// At most this many operators are listed in a message; all are in the value.
const MAX_LISTED: usize = 8;

fn list(ops: &[UnknownOp]) -> String {
    let mut text: Vec<String> = ops.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    if ops.len() > MAX_LISTED {
        text.push(format!("and {} more", ops.len() - MAX_LISTED));
    }
    text.join(", ")
}
