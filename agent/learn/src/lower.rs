//! An ONNX graph turned into a tape, with every size known.
//!
//! Whole numbers and truths are carried as floating point numbers, which hold them exactly up to 2⁵³ where
//! they are stored (the arithmetic on shapes folds away in 64 bits) and up to 2²⁴ where they are data.

mod activation;
mod arith;
mod conv;
mod einsum;
mod gather;
mod linear;
mod ml;
mod norm;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use shoal_grad::{GradError, Id, Tape};
use shoal_onnx::{Attribute, Constant, ConstantData, Datatype, Graph, Node};
use thiserror::Error;

use crate::failure::LearnError;

/// What the numbers of a tensor mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Float,
    Whole,
    /// Whole, of eight bits, with a sign.
    SignedByte,
    Truth,
}

/// A value of a graph on the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
}

/// Why an operator cannot be trained through.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpError {
    /// The operator has no backward here.
    #[error("it has no backward here")]
    Unknown,
    /// An operand is left out that is needed, or is of the wrong kind.
    #[error("operand {slot}: expected {expected}")]
    Operand { slot: usize, expected: &'static str },
    /// A setting that is not trained through.
    #[error("{reason}")]
    Setting { reason: String },
    /// Shapes that do not fit.
    #[error(transparent)]
    Grad(#[from] GradError),
}

impl OpError {
    pub(crate) fn setting(reason: impl Into<String>) -> Self {
        Self::Setting { reason: reason.into() }
    }
}

pub(crate) type Made = Result<Vec<Value>, OpError>;

/// How normalisations by batch behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BatchNorm {
    /// As the file says: by the running statistics, unless a node is marked as training.
    #[default]
    AsStored,
    /// By the batch at hand.
    Training,
}

/// Statistics of a batch, for the running ones that are stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statistics {
    /// Name of the stored mean or variance.
    pub(crate) name: String,
    pub(crate) value: Id,
    /// Share of the old value that is kept.
    pub(crate) momentum: f64,
}

/// A graph on a tape.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    pub(crate) tape: Tape,
    pub(crate) values: BTreeMap<String, Value>,
    /// Trainable stored tensors.
    pub(crate) parameters: BTreeMap<String, Id>,
    /// Those of them that two thin matrices are added to, whole; the matrices stand among the parameters.
    pub(crate) merged: BTreeMap<String, Id>,
    pub(crate) statistics: Vec<Statistics>,
}

/// What to lower.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Values to be computed.
    pub(crate) values: &'a [&'a str],
    /// Sizes of the inputs, all known.
    pub(crate) inputs: &'a BTreeMap<String, Vec<usize>>,
    /// Stored tensors that become parameters.
    pub(crate) trainable: &'a BTreeSet<String>,
    /// Columns of the thin matrices that are trained in their stead.
    pub(crate) rank: Option<usize>,
    pub(crate) batch_norm: BatchNorm,
    /// Bytes of maps and made-up numbers that the tape holds at most.
    pub(crate) room: usize,
}

/// Turns what the wanted values depend on into a tape.
pub(crate) fn lower(graph: &Graph, wanted: &Wanted<'_>) -> Result<Lowered, LearnError> {
    let mut state = State { tape: Tape::holding(wanted.room), ..State::default() };
    let (mut parameters, mut merged) = (BTreeMap::new(), BTreeMap::new());
    let whole = |error| LearnError::Program { source: error };
    for input in &graph.inputs {
        let shape = wanted.inputs.get(&input.name).ok_or_else(|| LearnError::Interface {
            reason: format!("no rows are given for its input `{}`", input.name),
        })?;
        let id = state.tape.fed(shape).map_err(whole)?;
        let kind = if input.datatype.is_float() { Kind::Float } else { Kind::Whole };
        state.values.insert(input.name.clone(), Value { id, kind });
    }
    let live = graph.depended_on(wanted.values, |_| true);
    let needed: BTreeSet<&str> = graph
        .nodes
        .iter()
        .zip(&live)
        .filter(|(_, live)| **live)
        .flat_map(|(node, _)| node.inputs.iter().map(String::as_str))
        .chain(wanted.values.iter().copied())
        .collect();
    for (name, constant) in graph.initializers.iter().filter(|(name, _)| needed.contains(name.as_str())) {
        if let (true, Some(rank)) = (wanted.trainable.contains(name), wanted.rank) {
            let sum = thin(&mut state.tape, name, constant, rank, &mut parameters).map_err(whole)?;
            merged.insert(name.clone(), sum);
            state.values.insert(name.clone(), Value { id: sum, kind: Kind::Float });
        } else if wanted.trainable.contains(name) {
            let id = state.tape.parameter(&constant.dims).map_err(whole)?;
            parameters.insert(name.clone(), id);
            state.values.insert(name.clone(), Value { id, kind: Kind::Float });
        } else if let Some(value) = hold(&mut state.tape, constant).map_err(whole)? {
            state.values.insert(name.clone(), value);
        }
    }
    for (node, _) in graph.nodes.iter().zip(&live).filter(|(_, live)| **live) {
        if node.outputs.first().is_some_and(|name| state.values.contains_key(name)) {
            continue; // A constant node that is held already, or is trained.
        }
        state.node(node, graph.opset, wanted.batch_norm)?;
    }
    let State { tape, values, statistics, .. } = state;
    Ok(Lowered { tape, values, parameters, merged, statistics })
}

/// What a thin matrix is called: the parameter's name and this.
pub(crate) const THIN: [&str; 2] = ["#a", "#b"];

/// A stored matrix plus the product of two thin ones, [rows, rank] and [rank, columns].
fn thin(
    tape: &mut Tape,
    name: &str,
    constant: &Constant,
    rank: usize,
    parameters: &mut BTreeMap<String, Id>,
) -> Result<Id, GradError> {
    let rows = constant.dims.first().copied().unwrap_or(1);
    let columns = constant.dims.iter().skip(1).product();
    let stored = hold(tape, constant)?.ok_or(GradError::Independent)?;
    let (a, b) = (tape.parameter(&[rows, rank])?, tape.parameter(&[rank, columns])?);
    parameters.insert(format!("{name}{}", THIN[0]), a);
    parameters.insert(format!("{name}{}", THIN[1]), b);
    let product = tape.product((a, false), (b, false), 1.0, None)?;
    let product = tape.view(product, &constant.dims)?;
    tape.add(stored.id, product)
}

#[derive(Default)]
struct State {
    tape: Tape,
    values: BTreeMap<String, Value>,
    /// Tensors that are another with its last two axes swapped.
    turned: BTreeMap<Id, Id>,
    statistics: Vec<Statistics>,
}

impl State {
    fn node(&mut self, node: &Node, opset: i64, batch_norm: BatchNorm) -> Result<(), LearnError> {
        let failed = |source| LearnError::Op { node: node.name.clone(), op: node.op.clone(), source };
        let mut operands = Vec::with_capacity(node.inputs.len());
        for (slot, name) in node.inputs.iter().enumerate() {
            operands.push(match self.values.get(name) {
                Some(value) => Some(*value),
                None if name.is_empty() => None,
                None => return Err(failed(OpError::Operand { slot, expected: "a tensor of numbers" })),
            });
        }
        let work = table::find(&node.op).ok_or_else(|| failed(OpError::Unknown))?;
        let call = Call {
            node,
            opset,
            operands,
            batch_norm,
            tape: &mut self.tape,
            turned: &mut self.turned,
            statistics: &mut self.statistics,
        };
        let made = run(work, call).map_err(failed)?;
        for (name, value) in node.outputs.iter().zip(made) {
            if !name.is_empty() {
                self.values.insert(name.clone(), value);
            }
        }
        Ok(())
    }
}

fn run(work: table::Work, mut call: Call<'_>) -> Made {
    work(&mut call)
}

/// A node with its operands at hand.
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) opset: i64,
    pub(crate) operands: Vec<Option<Value>>,
    pub(crate) batch_norm: BatchNorm,
    pub(crate) tape: &'a mut Tape,
    turned: &'a mut BTreeMap<Id, Id>,
    statistics: &'a mut Vec<Statistics>,
}

impl Call<'_> {
    /// An operand that may be left out.
    pub(crate) fn maybe(&self, slot: usize) -> Option<Value> {
        self.operands.get(slot).copied().flatten()
    }

    pub(crate) fn value(&self, slot: usize) -> Result<Value, OpError> {
        self.maybe(slot).ok_or(OpError::Operand { slot, expected: "a tensor" })
    }

    pub(crate) fn id(&self, slot: usize) -> Result<Id, OpError> {
        Ok(self.value(slot)?.id)
    }

    /// Sizes of an operand.
    pub(crate) fn shape(&self, slot: usize) -> Result<Vec<usize>, OpError> {
        Ok(self.tape.shape(self.id(slot)?).to_vec())
    }

    /// Whole numbers that are known beforehand; `None` when the operand is left out.
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers beyond 2⁵³ mean: to the end")]
    pub(crate) fn ints(&self, slot: usize) -> Result<Option<Vec<i64>>, OpError> {
        let Some(value) = self.maybe(slot) else { return Ok(None) };
        let numbers = self.tape.constant(value.id);
        let numbers = numbers.ok_or(OpError::Operand { slot, expected: "numbers known beforehand" })?;
        Ok(Some(numbers.iter().map(|number| *number as i64).collect()))
    }

    /// A number that is known beforehand; `None` when the operand is left out.
    pub(crate) fn number(&self, slot: usize) -> Result<Option<f64>, OpError> {
        let Some(value) = self.maybe(slot) else { return Ok(None) };
        let numbers = self.tape.constant(value.id).and_then(|numbers| numbers.first().copied());
        numbers.map(Some).ok_or(OpError::Operand { slot, expected: "a number known beforehand" })
    }

    /// A list from an operand, or in older sets of operators from a setting.
    pub(crate) fn list(&self, slot: usize, setting: &str) -> Result<Option<Vec<i64>>, OpError> {
        match self.ints(slot)? {
            Some(list) => Ok(Some(list)),
            None => Ok(self.node.ints(setting).map(<[i64]>::to_vec)),
        }
    }

    /// Whether a setting is there and not nought.
    pub(crate) fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.node.int(name).map_or(otherwise, |value| value != 0)
    }

    pub(crate) fn float(&self, name: &str, otherwise: f64) -> f64 {
        self.node.float(name).map_or(otherwise, f64::from)
    }

    /// An axis counted from the front.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, OpError> {
        let signed =
            if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(i64::MAX)) } else { axis };
        let wrong = || OpError::setting(format!("axis {axis} of rank {rank} does not exist"));
        usize::try_from(signed).ok().filter(|axis| *axis < rank).ok_or_else(wrong)
    }

    /// The result is of floating point numbers.
    pub(crate) fn floats(id: Id) -> Made {
        Ok(vec![Value { id, kind: Kind::Float }])
    }

    /// The result is of the kind of the first operand.
    pub(crate) fn alike(&self, id: Id) -> Made {
        Ok(vec![Value { id, kind: self.value(0)?.kind }])
    }
}

/// Puts stored numbers on a tape; `None` for text.
pub(crate) fn hold(tape: &mut Tape, constant: &Constant) -> Result<Option<Value>, GradError> {
    let (kind, values): (Kind, Vec<f64>) = match &constant.data {
        ConstantData::F32(values) => (Kind::Float, values.iter().map(|value| f64::from(*value)).collect()),
        ConstantData::F64(values) => (Kind::Float, values.clone()),
        ConstantData::I64(values) => (Kind::Whole, values.iter().map(|value| *value as f64).collect()),
        ConstantData::I32(values) => (Kind::Whole, values.iter().map(|value| f64::from(*value)).collect()),
        ConstantData::Bytes(datatype, values) => {
            let kind = match datatype {
                Datatype::Bool => Kind::Truth,
                Datatype::I8 => Kind::SignedByte,
                _ => Kind::Whole,
            };
            (kind, values.iter().map(|value| f64::from(*value)).collect())
        }
        ConstantData::Other(_) => return Ok(None),
    };
    Ok(Some(Value { id: tape.stored(&constant.dims, values)?, kind }))
}

/// A list of text in a setting.
pub(crate) fn texts<'a>(node: &'a Node, name: &str) -> &'a [String] {
    match node.attributes.get(name) {
        Some(Attribute::Texts(texts)) => texts,
        _ => &[],
    }
}
