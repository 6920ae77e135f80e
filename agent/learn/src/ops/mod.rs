//! Operators with a forward and, by candle, a backward. One file for each family; a new operator
//! is a line here, a function in its family, and its name in `shoal_onnx::TRAINABLE_OPS`.

mod activation;
mod arith;
mod linear;
mod norm;
pub(crate) use norm::log_softmax_of;
mod shape;

use candle_core::{Device, Tensor};
use shoal_onnx::{Constant, ConstantData, Node};
use thiserror::Error;

/// A value in a graph.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Floats, which gradients flow through.
    Float(Tensor),
    /// Whole numbers: shapes and axes, all of them constant.
    Ints(Vec<i64>),
}

/// Why an operator failed.
#[derive(Debug, Error)]
pub enum OpError {
    /// The operator has no backward here.
    #[error("it has no backward here")]
    Unknown,
    /// An operand is left out that is needed, or is of the wrong type.
    #[error("operand {slot}: expected {expected}")]
    Operand { slot: usize, expected: &'static str },
    /// A setting that is not trained through.
    #[error("{reason}")]
    Setting { reason: String },
    /// The tensor library failed, mostly for shapes that do not fit.
    #[error("the tensor library failed")]
    Engine(#[source] Box<candle_core::Error>),
}

impl From<candle_core::Error> for OpError {
    fn from(source: candle_core::Error) -> Self {
        Self::Engine(Box::new(source))
    }
}

/// A node with its operands at hand.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) opset: i64,
    pub(crate) operands: Vec<Option<Value>>,
}

impl Call<'_> {
    fn float(&self, slot: usize) -> Result<&Tensor, OpError> {
        self.float_or_none(slot)?.ok_or(OpError::Operand { slot, expected: "floats" })
    }

    fn float_or_none(&self, slot: usize) -> Result<Option<&Tensor>, OpError> {
        match self.operands.get(slot) {
            Some(Some(Value::Float(tensor))) => Ok(Some(tensor)),
            Some(Some(Value::Ints(_))) => Err(OpError::Operand { slot, expected: "floats" }),
            Some(None) | None => Ok(None),
        }
    }

    fn ints_or_none(&self, slot: usize) -> Result<Option<&[i64]>, OpError> {
        match self.operands.get(slot) {
            Some(Some(Value::Ints(values))) => Ok(Some(values)),
            Some(Some(Value::Float(_))) => Err(OpError::Operand { slot, expected: "whole numbers" }),
            Some(None) | None => Ok(None),
        }
    }

    /// A scalar operand.
    fn scalar(&self, slot: usize) -> Result<Option<f32>, OpError> {
        let Some(tensor) = self.float_or_none(slot)? else { return Ok(None) };
        Ok(Some(tensor.flatten_all()?.get(0)?.to_scalar()?))
    }
}

/// Runs one node.
pub(crate) fn apply(call: &Call<'_>) -> Result<Value, OpError> {
    Ok(Value::Float(match call.node.op.as_str() {
        "Gemm" => linear::gemm(call)?,
        "MatMul" => linear::matmul(call)?,
        "Add" | "Sub" | "Mul" | "Div" => arith::binary(call)?,
        "Neg" | "Sqrt" => arith::unary(call)?,
        "Relu" | "LeakyRelu" => activation::rectify(call)?,
        "Sigmoid" => activation::sigmoid(call.float(0)?)?,
        "Tanh" => call.float(0)?.tanh()?,
        "Erf" => call.float(0)?.erf()?,
        "Gelu" => activation::gelu(call)?,
        "Clip" => activation::clip(call)?,
        "Softmax" => norm::softmax(call)?,
        "LogSoftmax" => norm::log_softmax(call)?,
        "BatchNormalization" => norm::batch(call)?,
        "Flatten" => shape::flatten(call)?,
        "Reshape" => shape::reshape(call)?,
        "Squeeze" => shape::squeeze(call)?,
        "Unsqueeze" => shape::unsqueeze(call)?,
        "Transpose" => shape::transpose(call)?,
        "Identity" | "Dropout" | "Cast" => return shape::pass(call),
        "Constant" => {
            return call
                .node
                .constant()
                .and_then(|c| hold(&c))
                .ok_or(OpError::Setting { reason: "its value is not of numbers".into() });
        }
        _ => return Err(OpError::Unknown),
    }))
}

/// Holds a stored tensor as a value; `None` for types that are not computed with.
pub(crate) fn hold(constant: &Constant) -> Option<Value> {
    let tensor = |values: Vec<f32>| {
        Tensor::from_vec(values, constant.dims.as_slice(), &Device::Cpu).ok().map(Value::Float)
    };
    match &constant.data {
        ConstantData::F32(values) => tensor(values.clone()),
        #[expect(clippy::cast_possible_truncation, reason = "training is in f32")]
        ConstantData::F64(values) => tensor(values.iter().map(|value| *value as f32).collect()),
        ConstantData::I64(_) | ConstantData::I32(_) => constant.ints().map(Value::Ints),
        ConstantData::Other(_) => None,
    }
}

/// An axis counted from the front.
fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(i64::MAX)) } else { axis };
    let wrong = OpError::Setting { reason: format!("axis {axis} of rank {rank} does not exist") };
    usize::try_from(signed).ok().filter(|axis| *axis < rank).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_op_called_trainable_is_known_here() {
        for op in shoal_onnx::TRAINABLE_OPS {
            let node = Node {
                name: String::new(),
                op: (*op).into(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                attributes: BTreeMap::new(),
            };
            let made = apply(&Call { node: &node, opset: 17, operands: Vec::new() });
            assert!(!matches!(made, Err(OpError::Unknown)), "{op}");
        }
        assert!(shoal_onnx::TRAINABLE_OPS.is_sorted());
    }
}
