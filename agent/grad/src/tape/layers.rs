//! Layers of networks, on a tape.

use super::{Id, Tape};
use crate::error::GradError;
use crate::kernel::conv::ConvShape;
use crate::kernel::loss::Loss;
use crate::kernel::pool::PoolShape;
use crate::kernel::recurrent::{Cell, RecurrentShape};
use crate::op::Op;

/// What a recurrent layer gives, for one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    /// All states [steps, batch, hidden].
    pub all: Id,
    /// The last state [batch, hidden].
    pub last: Id,
    /// The last memory of an LSTM.
    pub memory: Option<Id>,
}

/// What a recurrent layer takes, for one direction; shapes as [`crate::kernel::recurrent`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's documentation says it")]
pub struct LayerInputs {
    pub x: Id,
    pub w: Id,
    pub r: Id,
    pub b: Option<Id>,
    pub p: Option<Id>,
    pub h0: Option<Id>,
    pub c0: Option<Id>,
}

/// Results of [`Tape::normalise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normalised {
    /// Mean nought, variance one.
    pub y: Id,
    /// Of each group.
    pub mean: Id,
    /// Of each group, divided by the number of elements.
    pub variance: Id,
}

impl Tape {
    /// Convolves planes; sizes are taken from the shape, and operands must fit it.
    ///
    /// # Errors
    /// [`GradError::Shape`] when they do not.
    pub fn convolve(&mut self, s: ConvShape, x: Id, w: Id, bias: Option<Id>) -> Result<Id, GradError> {
        let made = vec![s.batch, s.outputs, s.made[0], s.made[1]];
        self.check_convolution(
            &s,
            (x, s.inputs * s.size[0] * s.size[1]),
            w,
            bias.map(|bias| (bias, s.outputs)),
        )?;
        let inputs = [Some(x), Some(w)].into_iter().chain(bias.map(Some)).collect();
        Ok(self.step(Op::Convolve(s), inputs, vec![made])?[0])
    }

    /// Convolves backwards: what [`Tape::convolve`] of this shape would do to a gradient. `x` is of the
    /// sizes it makes, the result of those it takes.
    ///
    /// # Errors
    /// [`GradError::Shape`] when operands do not fit.
    pub fn convolve_back(&mut self, s: ConvShape, x: Id, w: Id) -> Result<Id, GradError> {
        let made = vec![s.batch, s.inputs, s.size[0], s.size[1]];
        self.check_convolution(&s, (x, s.outputs * s.made[0] * s.made[1]), w, None)?;
        self.one(Op::ConvolveBack(s), &[x, w], made)
    }

    fn check_convolution(
        &self,
        s: &ConvShape,
        (x, row): (Id, usize),
        w: Id,
        bias: Option<(Id, usize)>,
    ) -> Result<(), GradError> {
        let groups = s.groups;
        let divides = groups > 0 && s.inputs.is_multiple_of(groups) && s.outputs.is_multiple_of(groups);
        let weights = s.outputs * (s.inputs / groups.max(1)) * s.kernel[0] * s.kernel[1];
        let fits = divides
            && self.len(x) == s.batch * row
            && self.len(w) == weights
            && bias.is_none_or(|(bias, size)| self.len(bias) == size)
            && s.stride.iter().chain(&s.dilation).all(|step| *step > 0);
        if fits {
            return Ok(());
        }
        Err(GradError::shape(format!(
            "no convolution of sizes {:?} with weights {:?} in {groups} groups",
            self.shape(x),
            self.shape(w)
        )))
    }

    /// The largest of each window; [planes, height, width] in `s`.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the sizes do not fit.
    pub fn max_pool(&mut self, s: PoolShape, x: Id, shape: &[usize]) -> Result<Id, GradError> {
        self.check_pool(&s, x, shape)?;
        self.one(Op::MaxPool(s), &[x], shape.to_vec())
    }

    /// The mean of each window.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the sizes do not fit.
    pub fn mean_pool(
        &mut self,
        s: PoolShape,
        count_padding: bool,
        x: Id,
        shape: &[usize],
    ) -> Result<Id, GradError> {
        self.check_pool(&s, x, shape)?;
        self.one(Op::MeanPool(s, count_padding), &[x], shape.to_vec())
    }

    fn check_pool(&self, s: &PoolShape, x: Id, shape: &[usize]) -> Result<(), GradError> {
        let fits = self.len(x) == s.batch * s.size[0] * s.size[1]
            && shape.iter().product::<usize>() == s.batch * s.made[0] * s.made[1]
            && s.stride.iter().chain(&s.dilation).all(|step| *step > 0);
        if fits {
            return Ok(());
        }
        Err(GradError::shape(format!("windows {:?} over sizes {:?}", s.kernel, self.shape(x))))
    }

    /// `x · scale + shift` with one of each for every index of axis one.
    ///
    /// # Errors
    /// [`GradError::Shape`] when there are not as many as channels.
    pub fn channels(&mut self, x: Id, scale: Id, shift: Id) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        let count = shape.get(1).copied().unwrap_or(0);
        if count == 0 || self.len(scale) != count || self.len(shift) != count {
            let got = [self.len(scale), self.len(shift)];
            return Err(GradError::shape(format!("{got:?} values for the channels of sizes {shape:?}")));
        }
        let inner = shape[2..].iter().product();
        self.one(Op::Channels(inner), &[x, scale, shift], shape)
    }

    /// Subtracts the mean and divides by the deviation, for each group of [outer, groups, inner].
    ///
    /// # Errors
    /// [`GradError::Shape`] when the sizes are not those of `x`.
    pub fn normalise(&mut self, x: Id, [a, b, c]: [usize; 3], epsilon: f64) -> Result<Normalised, GradError> {
        let shape = self.shape(x).to_vec();
        if a * b * c != self.len(x) || a * c == 0 {
            return Err(GradError::shape(format!("groups {:?} of sizes {shape:?}", [a, b, c])));
        }
        let op = Op::Normalise([a, b, c], epsilon);
        let made = self.step(op, vec![Some(x)], vec![shape, vec![b], vec![b], vec![b]])?;
        Ok(Normalised { y: made[0], mean: made[2], variance: made[3] })
    }

    /// Softmax over [outer, axis, inner], or its logarithm.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the sizes are not those of `x`.
    pub fn softmax(
        &mut self,
        x: Id,
        [outer, axis, inner]: [usize; 3],
        is_logarithm: bool,
    ) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        if outer * axis * inner != self.len(x) {
            return Err(GradError::shape(format!("{:?} of sizes {shape:?}", [outer, axis, inner])));
        }
        self.one(Op::Softmax([outer, axis, inner], is_logarithm), &[x], shape)
    }

    /// Runs a recurrent layer in one direction.
    ///
    /// # Errors
    /// [`GradError::Shape`] when an operand has not the size that the shape gives.
    pub fn recurrent(&mut self, s: RecurrentShape, from: &LayerInputs) -> Result<States, GradError> {
        let gates = match s.cell {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn { .. } => 1,
        };
        let states = s.batch * s.hidden;
        for (what, id, size) in [
            ("x", Some(from.x), s.steps * s.batch * s.input),
            ("W", Some(from.w), gates * s.hidden * s.input),
            ("R", Some(from.r), gates * s.hidden * s.hidden),
            ("B", from.b, 2 * gates * s.hidden),
            ("P", from.p, 3 * s.hidden),
            ("initial_h", from.h0, states),
            ("initial_c", from.c0, states),
        ] {
            if let Some(id) = id.filter(|id| self.len(*id) != size) {
                return Err(GradError::shape(format!(
                    "{what} has sizes {:?}, not {size} elements",
                    self.shape(id)
                )));
            }
        }
        let state = vec![s.batch, s.hidden];
        let is_lstm = s.cell == Cell::Lstm;
        let mut shapes = vec![vec![s.steps, s.batch, s.hidden], state.clone()];
        shapes.extend(is_lstm.then_some(state));
        shapes.push(vec![s.saved()]);
        let inputs = vec![Some(from.x), Some(from.w), Some(from.r), from.b, from.p, from.h0, from.c0];
        let made = self.step(Op::Recurrent(s), inputs, shapes)?;
        Ok(States { all: made[0], last: made[1], memory: is_lstm.then(|| made[2]) })
    }

    /// The loss of scores [rows, k], a number: the sum over the rows of weight times loss. Targets are
    /// class numbers [rows] for [`Loss::CrossEntropy`], else [rows, k].
    ///
    /// # Errors
    /// [`GradError::Shape`] when they do not fit.
    pub fn loss(&mut self, kind: Loss, scores: Id, targets: Id, weights: Id) -> Result<Id, GradError> {
        let shape = self.shape(scores).to_vec();
        let rows = self.len(weights);
        let expected = if kind == Loss::CrossEntropy { rows } else { self.len(scores) };
        if shape.first() != Some(&rows)
            || rows == 0
            || self.len(targets) != expected
            || self.is_hollow(scores)
        {
            let got = self.shape(targets);
            return Err(GradError::shape(format!("targets {got:?} and {rows} weights for scores {shape:?}")));
        }
        let inputs = vec![Some(scores), Some(targets), Some(weights)];
        Ok(self.step(Op::Loss(kind), inputs, vec![Vec::new(), shape])?[0])
    }

    fn is_hollow(&self, id: Id) -> bool {
        self.len(id) == 0
    }
}
