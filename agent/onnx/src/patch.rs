//! New values for stored tensors and for settings of nodes, written into the original bytes.
//!
//! Decoding and encoding again would drop what the decoder does not know (metadata of newer
//! exporters), so only the elements are overwritten: all other bytes, and the length, stay.

mod slots;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::refusal::named;
use crate::wire::{Broken, Fields, Value};

use slots::{Misfit, Range, Slots};

const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const NODE_OUTPUT: u64 = 2;
const NODE_NAME: u64 = 3;
const NODE_OP_TYPE: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOMAIN: u64 = 7;

/// The settings of a `Constant` that may hold floating point numbers.
const CONSTANT_VALUES: [&[u8]; 3] = [b"value", b"value_float", b"value_floats"];

/// Why values could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: damaged at byte {at}")]
    NotOnnx { at: usize },
    /// No stored tensor has this name.
    #[error("no stored tensor is named `{name}`")]
    Unknown { name: String },
    /// Two stored tensors have this name.
    #[error("two stored tensors are named `{name}`")]
    Duplicate { name: String },
    /// The stored tensor's values cannot be overwritten.
    #[error("stored tensor `{name}` {reason}")]
    NotFloat { name: String, reason: &'static str },
    /// The number of values differs.
    #[error("stored tensor `{name}` holds {expected} values, got {got}")]
    Length { name: String, expected: usize, got: usize },
    /// A value is too large for the kind of number that is stored.
    #[error("stored tensor `{name}` cannot hold value {place}: it is too large for its type")]
    TooLarge { name: String, place: usize },
    /// The graph has fewer nodes.
    #[error("node `{node}` would be at place {place}, the graph has {nodes} nodes")]
    NoNode { node: String, place: usize, nodes: usize },
    /// The node's setting is not there, twice there, of another type, or of another length.
    #[error("setting `{attribute}` of node `{node}` {reason}")]
    Attribute { node: String, attribute: String, reason: String },
}

impl From<Broken> for PatchError {
    fn from(Broken { at }: Broken) -> Self {
        Self::NotOnnx { at }
    }
}

/// New values for one setting of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributePatch {
    /// The node's place in the node list of the file as it stands, nothing inlined or rewritten.
    pub place: usize,
    /// What messages call the node.
    pub node: String,
    /// The setting: a number, a list of numbers or a tensor.
    pub attribute: String,
    /// All its values; rounded to what is stored, to even where two are as near.
    pub values: Vec<f64>,
}

/// Writes new values over stored tensors of floating point numbers, and over what `Constant`
/// nodes hold, by the name of their output.
///
/// Tensors of 64, 32 and 16 bits (both kinds) take the values, rounded to even; sixteen bits only
/// as raw bytes, since their other form changes its length with the value. Graphs inside nodes are
/// not looked into.
///
/// # Errors
/// [`PatchError`], which names the tensor; then nothing is written.
pub fn patch_initializers(bytes: &[u8], new: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>, PatchError> {
    let mut patched = bytes.to_vec();
    let mut left: BTreeMap<&[u8], (&str, &[f32])> =
        new.iter().map(|(name, values)| (name.as_bytes(), (name.as_str(), values.as_slice()))).collect();
    let mut done: Vec<&str> = Vec::new();
    let mut write = |name: &[u8], slots: Result<Slots, Misfit>| {
        if let Some((name, values)) = left.remove(name) {
            done.push(name);
            let written =
                slots.and_then(|slots| slots.write(&mut patched, values.iter().copied().map(f64::from)));
            return written.map_err(|misfit| misfit.of_tensor(name));
        }
        match done.iter().find(|done| done.as_bytes() == name) {
            Some(name) => Err(PatchError::Duplicate { name: (*name).into() }),
            None => Ok(()),
        }
    };
    for graph in submessages(Fields::of(bytes), MODEL_GRAPH)? {
        for tensor in submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_INITIALIZER)? {
            let (name, slots) = slots::tensor(bytes, tensor)?;
            write(name, slots)?;
        }
        for node in submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_NODE)? {
            if let Some((name, slots)) = constant(bytes, node)? {
                write(name, slots)?;
            }
        }
    }
    match left.into_values().next() {
        None => Ok(patched),
        Some((name, _)) => Err(PatchError::Unknown { name: name.into() }),
    }
}

/// Writes new values over settings of nodes.
///
/// # Errors
/// [`PatchError`], which names node and setting; then nothing is written.
pub fn patch_attributes(bytes: &[u8], new: &[AttributePatch]) -> Result<Vec<u8>, PatchError> {
    let mut patched = bytes.to_vec();
    let mut nodes = Vec::new();
    for graph in submessages(Fields::of(bytes), MODEL_GRAPH)? {
        nodes.extend(submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_NODE)?);
    }
    for patch in new {
        let node = named(&patch.node);
        let Some((start, end)) = nodes.get(patch.place).copied() else {
            return Err(PatchError::NoNode { node, place: patch.place, nodes: nodes.len() });
        };
        let attribute = named(&patch.attribute);
        let failed = |reason: String| PatchError::Attribute { node, attribute, reason };
        let mut found = Vec::new();
        for attribute in submessages(Fields::within(bytes, start, end), NODE_ATTRIBUTE)? {
            let (name, slots) = slots::attribute(bytes, attribute)?;
            if name == patch.attribute.as_bytes() {
                found.push(slots);
            }
        }
        let slots = match (found.pop(), found.is_empty()) {
            (Some(slots), true) => slots,
            (None, _) => return Err(failed("is missing".into())),
            (Some(_), false) => return Err(failed("is there twice".into())),
        };
        let written = slots.and_then(|slots| slots.write(&mut patched, patch.values.iter().copied()));
        if let Err(misfit) = written {
            return Err(failed(misfit.to_string()));
        }
    }
    Ok(patched)
}

/// What a node is called, does and makes first, as its bytes say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeHead<'a> {
    /// Its place in the node list of the file.
    pub(crate) place: usize,
    pub(crate) name: &'a [u8],
    pub(crate) op: &'a [u8],
    pub(crate) domain: &'a [u8],
    pub(crate) output: &'a [u8],
}

/// The nodes of a file as it stands.
pub(crate) fn heads(bytes: &[u8]) -> Result<Vec<NodeHead<'_>>, PatchError> {
    let mut found = Vec::new();
    for graph in submessages(Fields::of(bytes), MODEL_GRAPH)? {
        for (start, end) in submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_NODE)? {
            let mut head = NodeHead { place: found.len(), ..NodeHead::default() };
            let mut outputs = 0;
            for field in Fields::within(bytes, start, end) {
                let field = field?;
                let Value::Bytes { start, end } = field.value else { continue };
                match field.number {
                    NODE_NAME => head.name = &bytes[start..end],
                    NODE_OP_TYPE => head.op = &bytes[start..end],
                    NODE_DOMAIN => head.domain = &bytes[start..end],
                    NODE_OUTPUT => {
                        if outputs == 0 {
                            head.output = &bytes[start..end];
                        }
                        outputs += 1;
                    }
                    _ => {}
                }
            }
            found.push(head);
        }
    }
    Ok(found)
}

/// Names of the stored tensors of a file.
pub(crate) fn tensor_names(bytes: &[u8]) -> Result<BTreeSet<&[u8]>, PatchError> {
    let mut found = BTreeSet::new();
    for graph in submessages(Fields::of(bytes), MODEL_GRAPH)? {
        for tensor in submessages(Fields::within(bytes, graph.0, graph.1), GRAPH_INITIALIZER)? {
            found.insert(slots::tensor(bytes, tensor)?.0);
        }
    }
    Ok(found)
}

fn submessages(fields: Fields<'_>, number: u64) -> Result<Vec<Range>, Broken> {
    let mut found = Vec::new();
    for field in fields {
        let field = field?;
        if let (true, Value::Bytes { start, end }) = (field.number == number, field.value) {
            found.push((start, end));
        }
    }
    Ok(found)
}

/// What a `Constant` makes and where its numbers lie; `None` for other nodes.
#[expect(clippy::type_complexity, reason = "a name would be used once")]
fn constant(bytes: &[u8], (start, end): Range) -> Result<Option<(&[u8], Result<Slots, Misfit>)>, Broken> {
    let (mut output, mut op, mut domain): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
    let mut found = None;
    for field in Fields::within(bytes, start, end) {
        let field = field?;
        let Value::Bytes { start, end } = field.value else { continue };
        match field.number {
            NODE_OUTPUT => output = &bytes[start..end],
            NODE_OP_TYPE => op = &bytes[start..end],
            NODE_DOMAIN => domain = &bytes[start..end],
            NODE_ATTRIBUTE => {
                let (name, slots) = slots::attribute(bytes, (start, end))?;
                if CONSTANT_VALUES.contains(&name) {
                    found = Some(slots);
                }
            }
            _ => {}
        }
    }
    let is_own = domain.is_empty() || domain == b"ai.onnx";
    Ok(found.filter(|_| is_own && op == b"Constant").map(|slots| (output, slots)))
}
