//! A computation as a list of steps, with shapes known, and its derivative as more steps.

mod arith;
mod layers;
mod movement;
mod room;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::GradError;
use crate::kernel::binary::MAX_AXES;
use crate::kernel::movement::LookUp;
use crate::op::{Op, Operands};
use room::Room;

pub use room::MAX_HELD_BYTES;

pub use layers::{LayerInputs, Normalised, States};

/// Elements of a tensor at most: what 32-bit places reach.
const MAX_ELEMENTS: usize = u32::MAX as usize - 1;
/// Results of stored numbers above this many are computed again in each run instead of being stored.
const MAX_FOLDED: usize = 1 << 20;

/// A tensor of a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub(crate) usize);

/// Where a tensor comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Given for each run.
    Fed,
    /// Kept between runs and changed by the trainer.
    Parameter,
    /// Never changes.
    Stored(Arc<[f64]>),
    /// A step makes it: its place.
    Step(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) shape: Vec<usize>,
    pub(crate) source: Source,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Option<Id>>,
    pub(crate) outputs: Vec<Id>,
}

/// Steps over tensors. Tensors are made by its methods, which check shapes; a method called with stored
/// numbers only computes at once.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    pub(crate) values: Vec<Value>,
    pub(crate) steps: Vec<Step>,
    room: Room,
}

impl Tape {
    /// An empty tape.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty tape that holds no more than this many bytes of maps and of numbers made up beforehand, and
    /// never more than [`MAX_HELD_BYTES`]; what is given to [`Tape::stored`] does not count.
    #[must_use]
    pub fn holding(bytes: usize) -> Self {
        Self { room: Room::of(bytes), ..Self::default() }
    }

    /// A tensor given for each run.
    ///
    /// # Errors
    /// [`GradError::Size`].
    pub fn fed(&mut self, shape: &[usize]) -> Result<Id, GradError> {
        self.value(shape.to_vec(), Source::Fed)
    }

    /// A tensor that the trainer changes.
    ///
    /// # Errors
    /// [`GradError::Size`].
    pub fn parameter(&mut self, shape: &[usize]) -> Result<Id, GradError> {
        self.value(shape.to_vec(), Source::Parameter)
    }

    /// A tensor that never changes.
    ///
    /// # Errors
    /// [`GradError::Length`] when the values do not fill the shape.
    pub fn stored(&mut self, shape: &[usize], values: impl Into<Arc<[f64]>>) -> Result<Id, GradError> {
        let values = values.into();
        let expected = elements(shape).ok_or_else(|| GradError::Size { shape: shape.to_vec() })?;
        if values.len() != expected {
            return Err(GradError::Length { expected, got: values.len() });
        }
        self.value(shape.to_vec(), Source::Stored(values))
    }

    /// A tensor that never changes, made up from the place of each element; memory is taken when it is sure
    /// that there is enough.
    ///
    /// # Errors
    /// [`GradError::Size`], [`GradError::Room`].
    pub fn filled(&mut self, shape: &[usize], value: impl FnMut(usize) -> f64) -> Result<Id, GradError> {
        let length = self.room.take(shape, size_of::<f64>())?;
        self.value(shape.to_vec(), Source::Stored((0..length).map(value).collect()))
    }

    /// A number that never changes.
    ///
    /// # Errors
    /// None in fact.
    pub fn number(&mut self, value: f64) -> Result<Id, GradError> {
        self.stored(&[], vec![value])
    }

    /// Sizes of a tensor.
    #[must_use]
    pub fn shape(&self, id: Id) -> &[usize] {
        &self.values[id.0].shape
    }

    /// Elements of a tensor.
    #[must_use]
    pub fn len(&self, id: Id) -> usize {
        self.shape(id).iter().product()
    }

    /// Whether nothing is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The numbers of a tensor that never changes.
    #[must_use]
    pub fn constant(&self, id: Id) -> Option<&Arc<[f64]>> {
        match &self.values[id.0].source {
            Source::Stored(values) => Some(values),
            _ => None,
        }
    }

    /// Whether each tensor depends on any of these.
    #[must_use]
    pub fn depends_on(&self, these: &[Id]) -> Vec<bool> {
        let mut depends = vec![false; self.values.len()];
        these.iter().for_each(|id| depends[id.0] = true);
        for step in &self.steps {
            if step.inputs.iter().flatten().any(|id| depends[id.0]) {
                step.outputs.iter().for_each(|id| depends[id.0] = true);
            }
        }
        depends
    }

    /// Tables that a tensor's elements are looked up in.
    #[must_use]
    pub fn look_ups(&self, indices: Id) -> Vec<LookUp> {
        let mut same = vec![indices];
        let mut found = Vec::new();
        for step in &self.steps {
            match (&step.op, step.inputs.as_slice()) {
                (Op::View, [Some(x)]) if same.contains(x) => same.push(step.outputs[0]),
                (Op::LookUp(sizes), [_, Some(x)]) if same.contains(x) => found.push(sizes.clone()),
                _ => {}
            }
        }
        found
    }

    /// Cuts the tape: these tensors are fed from now on, whatever made them.
    pub fn feed(&mut self, these: &[Id]) {
        these.iter().for_each(|id| self.values[id.0].source = Source::Fed);
    }

    /// Tensors that do not depend on `these` and are read, directly, by what does; fed and made ones only.
    /// `results` count as read.
    #[must_use]
    pub fn frontier(&self, these: &[Id], results: &[Id]) -> Vec<Id> {
        let depends = self.depends_on(these);
        let alive = self.alive(results);
        let mut found: Vec<Id> = Vec::new();
        for (step, _) in self.steps.iter().zip(&alive).filter(|(_, alive)| **alive) {
            if step.outputs.iter().any(|id| depends[id.0]) {
                found.extend(step.inputs.iter().flatten().filter(|id| !depends[id.0]));
            }
        }
        found.retain(|id| matches!(self.values[id.0].source, Source::Fed | Source::Step(_)));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Marks the steps that results depend on.
    pub(crate) fn alive(&self, results: &[Id]) -> Vec<bool> {
        let mut needed = vec![false; self.values.len()];
        results.iter().for_each(|id| needed[id.0] = true);
        let mut alive = vec![false; self.steps.len()];
        for (place, step) in self.steps.iter().enumerate().rev() {
            // A tensor that is fed since the tape was cut needs its step no more.
            let is_needed = |id: &Id| needed[id.0] && self.values[id.0].source == Source::Step(place);
            if step.outputs.iter().any(is_needed) {
                alive[place] = true;
                step.inputs.iter().flatten().for_each(|id| needed[id.0] = true);
            }
        }
        alive
    }

    fn value(&mut self, shape: Vec<usize>, source: Source) -> Result<Id, GradError> {
        if shape.len() > MAX_AXES || elements(&shape).is_none_or(|elements| elements > MAX_ELEMENTS) {
            return Err(GradError::Size { shape });
        }
        self.values.push(Value { shape, source });
        Ok(Id(self.values.len() - 1))
    }

    /// Adds a step with results of these shapes.
    pub(crate) fn step(
        &mut self,
        op: Op,
        inputs: Vec<Option<Id>>,
        shapes: Vec<Vec<usize>>,
    ) -> Result<Vec<Id>, GradError> {
        if let Some(folded) = self.fold(&op, &inputs, &shapes)? {
            return Ok(folded);
        }
        let place = self.steps.len();
        let outputs = shapes
            .into_iter()
            .map(|shape| self.value(shape, Source::Step(place)))
            .collect::<Result<Vec<Id>, GradError>>()?;
        self.steps.push(Step { op, inputs, outputs: outputs.clone() });
        Ok(outputs)
    }

    /// [`Self::step`] with one result.
    pub(crate) fn one(&mut self, op: Op, inputs: &[Id], shape: Vec<usize>) -> Result<Id, GradError> {
        let inputs = inputs.iter().map(|id| Some(*id)).collect();
        Ok(self.step(op, inputs, vec![shape])?[0])
    }

    /// Computes at once what depends on stored numbers only, in 64 bits.
    fn fold(
        &mut self,
        op: &Op,
        inputs: &[Option<Id>],
        shapes: &[Vec<usize>],
    ) -> Result<Option<Vec<Id>>, GradError> {
        let stored: Option<Vec<Option<Arc<[f64]>>>> = inputs
            .iter()
            .map(|id| id.map_or(Some(None), |id| self.constant(id).cloned().map(Some)))
            .collect();
        let Some(stored) = stored else { return Ok(None) };
        if let (Op::View, [Some(values)], [shape]) = (op, stored.as_slice(), shapes) {
            return Ok(Some(vec![self.value(shape.clone(), Source::Stored(values.clone()))?]));
        }
        let Some(sizes) = shapes.iter().map(|shape| elements(shape)).collect::<Option<Vec<usize>>>() else {
            return Ok(None); // Refused with its sizes when it is put on the tape.
        };
        if sizes
            .iter()
            .try_fold(op.scratch(), |all, size| all.checked_add(*size))
            .is_none_or(|all| all > MAX_FOLDED)
        {
            return Ok(None);
        }
        for shape in shapes {
            self.room.take(shape, size_of::<f64>())?;
        }
        let mut made: Vec<Vec<f64>> = sizes.iter().map(|size| vec![0.0; *size]).collect();
        let mut slices: Vec<&mut [f64]> = made.iter_mut().map(Vec::as_mut_slice).collect();
        op.run(&Constants(&stored), &mut slices, &mut vec![0.0; op.scratch()]);
        let made = made.into_iter().zip(shapes);
        made.map(|(values, shape)| self.value(shape.clone(), Source::Stored(values.into())))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// Elements of a tensor of these sizes; `None` when they cannot be counted, or those along some of its axes
/// cannot.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let along = shape.iter().try_fold(1usize, |all, size| all.checked_mul((*size).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { along })
}

struct Constants<'a>(&'a [Option<Arc<[f64]>>]);

impl Operands<f64> for Constants<'_> {
    fn get(&self, slot: usize) -> Option<&[f64]> {
        self.0.get(slot)?.as_deref()
    }
}
