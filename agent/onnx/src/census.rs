//! Counts what is in a file before anything is decoded, so that decoding is bounded.

use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::wire::{Broken, Fields, Value};

/// The ONNX messages, as far as they contain one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    /// Counted, and not looked into: their parts are as small decoded as encoded.
    Leaf,
}

impl Kind {
    /// Says what a length-delimited field is, `None` for text, bytes and packed numbers.
    fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 8 | 14 | 20 | 25) => Self::Leaf,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 15) => Self::Sparse,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Graph, 14) => Self::Leaf,
            (Self::Node, 1 | 2) => Self::Leaf,
            (Self::Node, 5) => Self::Attribute,
            (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Attribute, 9 | 15) => Self::Leaf,
            (Self::Tensor, 6 | 13) => Self::Leaf,
            (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::ValueInfo, 2) => Self::Leaf,
            _ => return None,
        })
    }
}

#[derive(Debug, Default)]
struct Census {
    nodes: usize,
    messages: usize,
    graphs: usize,
}

/// Walks the file once, without recursion into what is not ONNX.
///
/// # Errors
/// [`Refusal::NotOnnx`] for a damaged file or one without a graph (a training file or a function
/// library among them), and the limits on nodes, parts and depth.
pub(crate) fn take(bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let mut census = Census::default();
    walk(&mut census, Fields::of(bytes), bytes, Kind::Model, 0, limits)?;
    match census.graphs {
        1 => Ok(()),
        0 => Err(Refusal::NotOnnx { reason: "it holds no graph".into() }),
        n => Err(Refusal::NotOnnx { reason: format!("it holds {n} graphs") }),
    }
}

fn walk(
    census: &mut Census,
    fields: Fields<'_>,
    bytes: &[u8],
    kind: Kind,
    depth: usize,
    limits: &Limits,
) -> Result<(), Refusal> {
    if depth > limits.max_depth {
        return Err(Refusal::TooDeep { limit: limits.max_depth });
    }
    for field in fields {
        let field =
            field.map_err(|Broken { at }| Refusal::NotOnnx { reason: format!("damaged at byte {at}") })?;
        let Value::Bytes { start, end } = field.value else { continue };
        let Some(child) = kind.child(field.number) else { continue };
        census.messages += 1;
        if census.messages > limits.max_messages {
            return Err(Refusal::TooManyParts { messages: census.messages, limit: limits.max_messages });
        }
        if child == Kind::Node {
            census.nodes += 1;
            if census.nodes > limits.max_nodes {
                return Err(Refusal::TooManyNodes { nodes: census.nodes, limit: limits.max_nodes });
            }
        }
        census.graphs += usize::from(kind == Kind::Model && child == Kind::Graph);
        if child != Kind::Leaf {
            let deeper = depth + usize::from(child == Kind::Graph);
            walk(census, Fields::within(bytes, start, end), bytes, child, deeper, limits)?;
        }
    }
    Ok(())
}
