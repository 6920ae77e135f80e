//! The derivative of a tape, as more steps on it: reverse mode.

use std::collections::BTreeMap;

use crate::error::GradError;
use crate::kernel::binary::{Binary, Fold};
use crate::kernel::product::Product;
use crate::kernel::recurrent::RecurrentShape;
use crate::kernel::unary::{Saved, Unary};
use crate::op::Op;
use crate::tape::{Id, Step, Tape};

/// Gradients found so far.
#[derive(Default)]
struct Found {
    whole: BTreeMap<Id, Id>,
    /// Gradients of parts of a tensor, with total, start and width; joined when all are known.
    parts: BTreeMap<Id, Vec<([usize; 3], Id)>>,
}

impl Tape {
    /// Adds the steps that compute the gradient of a number by each of `by`; `None` where the number does
    /// not depend on it.
    ///
    /// # Errors
    /// [`GradError::Twice`] when the tape holds steps of a derivative already.
    pub fn differentiate(&mut self, number: Id, by: &[Id]) -> Result<Vec<Option<Id>>, GradError> {
        let needs = self.depends_on(by);
        let alive = self.alive(&[number]);
        let mut found = Found::default();
        let shape = self.shape(number).to_vec();
        let one = self.stored(&shape, vec![1.0; self.len(number)])?;
        found.whole.insert(number, one);
        for place in (0..alive.len()).rev().filter(|place| alive[*place]) {
            let step = self.steps[place].clone();
            if !step.outputs.iter().any(|id| needs[id.0]) {
                continue;
            }
            let mut incoming = Vec::with_capacity(step.outputs.len());
            for id in &step.outputs {
                incoming.push(self.settle(&mut found, *id)?);
            }
            if incoming.iter().all(Option::is_none) {
                continue;
            }
            let wants: Vec<bool> = step.inputs.iter().map(|id| id.is_some_and(|id| needs[id.0])).collect();
            if let (Op::Part(range), [Some(x)], [Some(dy)]) =
                (&step.op, step.inputs.as_slice(), incoming.as_slice())
            {
                found.parts.entry(*x).or_default().push((*range, *dy));
                continue;
            }
            let outgoing = self.backward(&step, &incoming, &wants)?;
            for ((id, gradient), wanted) in step.inputs.iter().zip(outgoing).zip(wants) {
                if let (Some(id), Some(gradient), true) = (id, gradient, wanted) {
                    self.accumulate(&mut found, *id, gradient)?;
                }
            }
        }
        by.iter().map(|id| self.settle(&mut found, *id)).collect()
    }

    fn accumulate(&mut self, found: &mut Found, id: Id, gradient: Id) -> Result<(), GradError> {
        let sum = match found.whole.get(&id) {
            Some(before) => self.add(*before, gradient)?,
            None => gradient,
        };
        found.whole.insert(id, sum);
        Ok(())
    }

    /// The whole gradient of a tensor, with those of its parts put together.
    fn settle(&mut self, found: &mut Found, id: Id) -> Result<Option<Id>, GradError> {
        if let Some(mut parts) = found.parts.remove(&id) {
            parts.sort_unstable_by_key(|([_, start, _], _)| *start);
            let shape = self.shape(id).to_vec();
            let mut end = 0;
            let tiles = parts.iter().all(|([_, start, width], _)| {
                let fits = *start == end;
                end = start + width;
                fits
            });
            let total = parts.first().map_or(0, |([total, ..], _)| *total);
            if tiles && end == total && parts.iter().all(|(range, _)| range[0] == total) {
                let widths = parts.iter().map(|([_, _, width], _)| *width).collect();
                let ids: Vec<Id> = parts.iter().map(|(_, id)| *id).collect();
                let joined = self.one(Op::Join(widths), &ids, shape)?;
                self.accumulate(found, id, joined)?;
            } else {
                for (range, dy) in parts {
                    let placed = self.one(Op::Place(range), &[dy], shape.clone())?;
                    self.accumulate(found, id, placed)?;
                }
            }
        }
        Ok(found.whole.get(&id).copied())
    }

    /// Gradients by the operands of a step, from those by its results.
    fn backward(
        &mut self,
        step: &Step,
        incoming: &[Option<Id>],
        wants: &[bool],
    ) -> Result<Vec<Option<Id>>, GradError> {
        let input =
            |slot: usize| step.inputs[slot].expect("the tape gives every operand that is not optional");
        let wanted = |slot: usize| wants.get(slot).copied().unwrap_or(false);
        let Some(dy) = incoming[0] else { return self.backward_by_others(step, incoming, wants) };
        let shape = |tape: &Self, slot: usize| tape.shape(input(slot)).to_vec();
        let of_x = shape(self, 0);
        let only = |id: Id| Ok(vec![Some(id)]);
        match &step.op {
            Op::View => only(self.view(dy, &of_x)?),
            Op::Unary(f) if f.is_flat() => Ok(vec![None]),
            Op::Unary(Unary::Affine { scale, .. }) => only(self.affine(dy, *scale, 0.0)?),
            Op::Unary(f) => {
                let inputs = match f.saved() {
                    Saved::Nothing => vec![dy],
                    Saved::Input => vec![dy, input(0)],
                    Saved::Output => vec![dy, step.outputs[0]],
                };
                only(self.one(Op::UnaryGradient(*f), &inputs, of_x)?)
            }
            Op::Binary(f, _) => self.backward_binary(*f, [input(0), input(1)], step.outputs[0], dy, wants),
            Op::Expand(_) => only(self.sum_to(dy, &of_x)?),
            Op::Select => {
                let b = self.unary(Unary::Not, input(0))?;
                let a = self.unary(Unary::Not, b)?;
                Ok(vec![None, Some(self.mul(dy, a)?), Some(self.mul(dy, b)?)])
            }
            Op::Reduce(fold, _) => only(self.backward_reduce(*fold, input(0), step.outputs[0], dy)?),
            Op::Product(p) => self.backward_product(p, [input(0), input(1)], dy, wants),
            Op::Convolve(s) => {
                let (weights, outputs) = (shape(self, 1), s.outputs);
                let dx = wanted(0).then(|| self.one(Op::ConvolveBack(s.clone()), &[dy, input(1)], of_x));
                let dw = wanted(1).then(|| self.one(Op::ConvolveWeight(s.clone()), &[input(0), dy], weights));
                let db = wanted(2).then(|| self.one(Op::ConvolveBias(s.clone()), &[dy], vec![outputs]));
                Ok(vec![dx.transpose()?, dw.transpose()?, db.transpose()?])
            }
            Op::ConvolveBack(s) => {
                let weights = shape(self, 1);
                let dx = wanted(0).then(|| self.one(Op::Convolve(s.clone()), &[dy, input(1)], of_x));
                let dw = wanted(1).then(|| self.one(Op::ConvolveWeight(s.clone()), &[dy, input(0)], weights));
                Ok(vec![dx.transpose()?, dw.transpose()?])
            }
            Op::MaxPool(s) => {
                only(self.one(Op::MaxPoolGradient(s.clone()), &[input(0), step.outputs[0], dy], of_x)?)
            }
            Op::MeanPool(s, padding) => {
                only(self.one(Op::MeanPoolGradient(s.clone(), *padding), &[dy], of_x)?)
            }
            Op::Channels(inner) => {
                let count = self.len(input(1));
                let shapes = vec![shape(self, 1), shape(self, 2)];
                let dx = if wanted(0) {
                    let nought = self.stored(&[count], vec![0.0; count])?;
                    Some(self.channels(dy, input(1), nought)?)
                } else {
                    None
                };
                if !wanted(1) && !wanted(2) {
                    return Ok(vec![dx, None, None]);
                }
                let made = self.step(Op::ChannelsGradient(*inner), vec![Some(input(0)), Some(dy)], shapes)?;
                Ok(vec![dx, Some(made[0]), Some(made[1])])
            }
            Op::Normalise(groups, _) if incoming[2].is_none() && incoming[3].is_none() => {
                let inputs = [step.outputs[0], step.outputs[1], dy];
                only(self.one(Op::NormaliseGradient(*groups), &inputs, of_x)?)
            }
            Op::Softmax(s, is_log) => {
                only(self.one(Op::SoftmaxGradient(*s, *is_log), &[step.outputs[0], dy], of_x)?)
            }
            Op::Take(places) => only(self.one(Op::GiveBack(places.clone()), &[dy], of_x)?),
            Op::Join(widths) => {
                let total: usize = widths.iter().sum();
                let mut start = 0;
                let mut made = Vec::with_capacity(widths.len());
                for (slot, width) in widths.iter().enumerate() {
                    let part = Op::Part([total, start, *width]);
                    let of_part = shape(self, slot);
                    made.push(if wanted(slot) { Some(self.one(part, &[dy], of_part)?) } else { None });
                    start += width;
                }
                Ok(made)
            }
            Op::LookUp(sizes) => {
                let made = self.one(Op::LookUpGradient(sizes.clone()), &[input(1), dy], of_x)?;
                Ok(vec![Some(made), None])
            }
            Op::RunningSum(sizes, from_end, before) => {
                only(self.one(Op::RunningSum(*sizes, !from_end, *before), &[dy], of_x)?)
            }
            Op::Recurrent(s) => self.backward_recurrent(s, step, incoming, wants),
            Op::Loss(_) => {
                let is_one = self.constant(dy).is_some_and(|values| **values == [1.0]);
                let slope = step.outputs[1];
                Ok(vec![Some(if is_one { slope } else { self.mul(slope, dy)? }), None, None])
            }
            op => Err(GradError::Twice { op: op.name() }),
        }
    }

    /// Only results after the first have gradients.
    fn backward_by_others(
        &mut self,
        step: &Step,
        incoming: &[Option<Id>],
        wants: &[bool],
    ) -> Result<Vec<Option<Id>>, GradError> {
        match &step.op {
            Op::Recurrent(s) => self.backward_recurrent(s, step, incoming, wants),
            op => Err(GradError::Twice { op: op.name() }),
        }
    }

    fn backward_recurrent(
        &mut self,
        s: &RecurrentShape,
        step: &Step,
        incoming: &[Option<Id>],
        wants: &[bool],
    ) -> Result<Vec<Option<Id>>, GradError> {
        let wants: [bool; 7] = std::array::from_fn(|slot| wants[slot]);
        let (saved, states) = step.outputs.split_last().expect("a recurrent layer makes several results");
        let mut inputs = step.inputs.clone();
        inputs.push(Some(*saved));
        let of_state = |place: usize| states.get(place).and_then(|_| incoming[place]);
        inputs.extend([incoming[0], of_state(1), of_state(2)]);
        let shapes = step.inputs.iter().zip(wants).filter(|(_, wanted)| *wanted);
        let shapes = shapes.filter_map(|(id, _)| id.map(|id| self.shape(id).to_vec())).collect();
        let mut made = self.step(Op::RecurrentGradient(*s, wants), inputs, shapes)?.into_iter();
        Ok(wants.iter().map(|wanted| if *wanted { made.next() } else { None }).collect())
    }

    fn backward_binary(
        &mut self,
        function: Binary,
        [a, b]: [Id; 2],
        y: Id,
        dy: Id,
        wants: &[bool],
    ) -> Result<Vec<Option<Id>>, GradError> {
        let shapes = [self.shape(a).to_vec(), self.shape(b).to_vec()];
        let mut made = Vec::with_capacity(2);
        for (slot, shape) in shapes.iter().enumerate() {
            let gradient = if wants[slot] { self.by_operand(function, slot, [a, b], y, dy)? } else { None };
            made.push(match gradient {
                Some(gradient) => Some(self.sum_to(gradient, shape)?),
                None => None,
            });
        }
        Ok(made)
    }

    /// The gradient by one of two operands, before what was repeated is summed.
    fn by_operand(
        &mut self,
        function: Binary,
        slot: usize,
        [a, b]: [Id; 2],
        y: Id,
        dy: Id,
    ) -> Result<Option<Id>, GradError> {
        let times = |tape: &mut Self, function: Binary, a: Id, b: Id| {
            let slope = tape.binary(function, a, b)?;
            tape.mul(dy, slope)
        };
        Ok(Some(match (function, slot) {
            (Binary::Add, _) | (Binary::Sub, 0) => dy,
            (Binary::Sub, _) => self.unary(Unary::Neg, dy)?,
            (Binary::Mul, 0) => self.mul(dy, b)?,
            (Binary::Mul, _) => self.mul(dy, a)?,
            (Binary::Div, 0) => self.binary(Binary::Div, dy, b)?,
            (Binary::Div, _) => {
                let quotient = self.binary(Binary::Div, y, b)?;
                let product = self.mul(dy, quotient)?;
                self.unary(Unary::Neg, product)?
            }
            (Binary::Max, 0) | (Binary::Min, 1) => times(self, Binary::IsLarger, a, b)?,
            (Binary::Max, _) | (Binary::Min, 0) => times(self, Binary::IsLarger, b, a)?,
            (Binary::Pow, 0) => times(self, Binary::PowByBase, a, b)?,
            (Binary::Pow, _) => times(self, Binary::PowByExponent, a, b)?,
            (Binary::PRelu, 0) => times(self, Binary::PReluByInput, a, b)?,
            (Binary::PRelu, _) => times(self, Binary::PReluBySlope, a, b)?,
            _ => return Ok(None),
        }))
    }

    fn backward_reduce(&mut self, fold: Fold, x: Id, y: Id, dy: Id) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        match fold {
            Fold::Sum { scale } => {
                let scaled = self.affine(dy, scale, 0.0)?;
                self.expand(scaled, &shape)
            }
            Fold::Product => {
                let whole = self.mul(dy, y)?;
                self.binary(Binary::Div, whole, x)
            }
            Fold::Max | Fold::Min => {
                let chosen = self.binary(Binary::Equal, x, y)?;
                let kept = self.shape(y).to_vec();
                let vanishes = |axis: usize| kept[axis] != shape[axis];
                let axes: Vec<usize> = (0..shape.len()).filter(|axis| vanishes(*axis)).collect();
                let count = self.reduce(Fold::Sum { scale: 1.0 }, chosen, &axes)?;
                let each = self.binary(Binary::Div, dy, count)?;
                self.mul(chosen, each)
            }
        }
    }

    fn backward_product(
        &mut self,
        p: &Product,
        [a, b]: [Id; 2],
        dy: Id,
        wants: &[bool],
    ) -> Result<Vec<Option<Id>>, GradError> {
        let (turned_a, turned_b) = (p.a_turned, p.b_turned);
        let mut made = vec![None; wants.len()];
        if wants[0] {
            let da = if turned_a {
                self.product((b, turned_b), (dy, true), p.alpha, None)?
            } else {
                self.product((dy, false), (b, !turned_b), p.alpha, None)?
            };
            let shape = self.shape(a).to_vec();
            made[0] = Some(self.sum_to(da, &shape)?);
        }
        if wants[1] {
            let db = if turned_b {
                self.product((dy, true), (a, turned_a), p.alpha, None)?
            } else {
                self.product((a, !turned_a), (dy, false), p.alpha, None)?
            };
            let shape = self.shape(b).to_vec();
            made[1] = Some(self.sum_to(db, &shape)?);
        }
        if wants.get(2) == Some(&true) {
            made[2] = Some(self.sum_to(dy, &[p.sizes[1]])?);
        }
        Ok(made)
    }
}
