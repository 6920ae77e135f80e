//! How large a model may be before it is refused unread.

use serde::{Deserialize, Serialize};

/// 128 MiB: the largest models that make sense on a board with 512 MB of memory, since parsing
/// and optimising hold about four copies of the weights at once.
const MAX_BYTES: usize = 128 << 20;

/// 10,000 nodes: the optimiser's work grows with their square (a chain of 20,000 kept it busy for 8 s, one
/// of 100,000 for more than 40 s), while the largest exported model seen has about 2,000.
const MAX_NODES: usize = 10_000;

/// 64 Mi elements over all tensors, 256 MiB as f32: follows from [`MAX_BYTES`] for stored tensors,
/// and bounds those that a constant shape asks for (`Expand`, `Tile`, `ConstantOfShape`).
const MAX_TENSOR_ELEMENTS: usize = 64 << 20;

/// 1,000,000 submessages: a two-byte empty attribute becomes 600 bytes once decoded, so the number
/// of messages is bounded before decoding. A real model has some twenty for each node.
const MAX_MESSAGES: usize = 1_000_000;

/// 16 levels of graphs inside graphs: `If` and `Scan` nest two or three deep in practice.
const MAX_DEPTH: usize = 16;

/// Bounds a model must keep to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of the file in bytes.
    pub max_bytes: usize,
    /// Nodes over all graphs.
    pub max_nodes: usize,
    /// Elements over all stored tensors, and of each tensor a constant shape asks for.
    pub max_tensor_elements: usize,
    /// Protobuf submessages over the whole file.
    pub max_messages: usize,
    /// Depth of graphs inside graphs.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: MAX_BYTES,
            max_nodes: MAX_NODES,
            max_tensor_elements: MAX_TENSOR_ELEMENTS,
            max_messages: MAX_MESSAGES,
            max_depth: MAX_DEPTH,
        }
    }
}
