//! Operators with one stored operand that is added or multiplied, feature by feature.

use tract_onnx::pb::NodeProto;

use crate::constant::{Constant, ConstantData};
use crate::refusal::named;

use super::fold::{Carry, Fold, FoldError, readers, refused};

/// A stored tensor of 32-bit floats.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl Stored {
    /// The number for a feature: its own, or the one for all.
    pub(super) fn at(&self, feature: usize) -> f64 {
        self.values[if self.values.len() == 1 { 0 } else { feature }]
    }
}

impl Fold<'_> {
    /// Reads a stored operand of a node.
    pub(super) fn stored(&self, node: &NodeProto, slot: usize) -> Result<Stored, FoldError> {
        let name = node.input.get(slot).map_or("", String::as_str);
        let other = || refused(node, format!("its operand `{}` is not stored in the file", named(name)));
        if self.graph.input.iter().any(|input| input.name == name) {
            return Err(refused(node, format!("its operand `{}` may be given by the caller", named(name))));
        }
        let constant = match self.graph.initializer.iter().find(|tensor| tensor.name == name) {
            Some(tensor) => Constant::read(tensor),
            None => {
                let makes = |node: &&NodeProto| node.output.iter().any(|made| made == name);
                let maker =
                    self.graph.node.iter().find(makes).filter(|_| !name.is_empty()).ok_or_else(other)?;
                crate::graph::Node::of(maker).constant()
            }
        };
        let Constant { dims, data } = constant.ok_or_else(other)?;
        let ConstantData::F32(values) = data else {
            return Err(refused(node, format!("its operand `{}` is not of f32", named(name))));
        };
        let values = values.into_iter().map(f64::from).collect();
        Ok(Stored { name: name.into(), dims, values })
    }

    /// Notes new values for a stored operand, unless they are the old ones.
    pub(super) fn store(&mut self, node: &NodeProto, old: &Stored, new: &[f64]) -> Result<(), FoldError> {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
        let new: Vec<f32> = new.iter().map(|value| *value as f32).collect();
        if new.iter().zip(&old.values).all(|(new, old)| f64::from(*new) == *old) {
            return Ok(());
        }
        if new.iter().any(|value| !value.is_finite()) {
            return Err(refused(node, format!("`{}` would not stay finite", named(&old.name))));
        }
        let readers = readers(self.graph, &old.name);
        if readers != 1 {
            let reason = format!("its operand `{}` is shared by {readers} readers", named(&old.name));
            return Err(refused(node, reason));
        }
        self.tensors.insert(old.name.clone(), new);
        Ok(())
    }

    /// A stored operand with one number for each feature, or one for all when all are mapped alike.
    fn beside(&self, node: &NodeProto, slot: usize, carry: &Carry) -> Result<Stored, FoldError> {
        let stored = self.stored(node, slot)?;
        let ahead = self.axis.rank.checked_sub(stored.dims.len());
        let fits = ahead.is_some_and(|ahead| {
            stored
                .dims
                .iter()
                .enumerate()
                .all(|(at, size)| *size == 1 || (ahead + at == self.axis.place && *size == carry.width()))
        });
        if !fits || stored.values.is_empty() {
            return Err(refused(
                node,
                format!("`{}` is not one number for each feature", named(&stored.name)),
            ));
        }
        if stored.values.len() == 1 && !carry.is_uniform() {
            return Err(refused(node, format!("`{}` is one number for all features", named(&stored.name))));
        }
        Ok(stored)
    }

    /// `a x + c + b` is `a (x + (b + c) / a)`.
    pub(super) fn add(&mut self, node: &NodeProto, slot: usize, carry: &Carry) -> Result<Carry, FoldError> {
        self.shift(node, 1 - slot.min(1), carry, 1.0)
    }

    /// `a x + c - m` is `a (x - (m - c) / a)`.
    pub(super) fn subtract(&mut self, node: &NodeProto, carry: &Carry) -> Result<Carry, FoldError> {
        self.shift(node, 1, carry, -1.0)
    }

    fn shift(&mut self, node: &NodeProto, slot: usize, carry: &Carry, sign: f64) -> Result<Carry, FoldError> {
        let old = self.beside(node, slot, carry)?;
        let new: Vec<f64> = old
            .values
            .iter()
            .enumerate()
            .map(|(at, value)| (value + sign * carry.shift[at]) / carry.scale[at])
            .collect();
        self.store(node, &old, &new)?;
        Ok(Carry { scale: carry.scale.clone(), shift: vec![0.0; carry.width()] })
    }

    /// `(a x + c) s` is `x (a s) + c s`.
    pub(super) fn multiply(
        &mut self,
        node: &NodeProto,
        slot: usize,
        carry: &Carry,
    ) -> Result<Carry, FoldError> {
        let old = self.beside(node, 1 - slot.min(1), carry)?;
        let new: Vec<f64> = old.values.iter().zip(&carry.scale).map(|(value, scale)| value * scale).collect();
        self.store(node, &old, &new)?;
        let shift = carry.shift.iter().enumerate().map(|(at, shift)| shift * old.at(at)).collect();
        Ok(Carry::shifted(shift))
    }

    /// `(a x + c) / s` is `x / (s / a) + c / s`.
    pub(super) fn divide(&mut self, node: &NodeProto, carry: &Carry) -> Result<Carry, FoldError> {
        let old = self.beside(node, 1, carry)?;
        let new: Vec<f64> = old.values.iter().zip(&carry.scale).map(|(value, scale)| value / scale).collect();
        self.store(node, &old, &new)?;
        let shift = carry.shift.iter().enumerate().map(|(at, shift)| shift / old.at(at)).collect();
        Ok(Carry::shifted(shift))
    }
}
