//! Arithmetic on a tape: functions of numbers, sums over axes, products of matrices.

use super::{Id, Tape, elements};
use crate::error::GradError;
use crate::kernel::binary::{Binary, Broadcast, Fold, Reduction};
use crate::kernel::product::Product;
use crate::kernel::unary::Unary;
use crate::op::Op;

impl Tape {
    /// A function of each element.
    ///
    /// # Errors
    /// [`GradError::Size`].
    pub fn unary(&mut self, function: Unary, x: Id) -> Result<Id, GradError> {
        self.one(Op::Unary(function), &[x], self.shape(x).to_vec())
    }

    /// A function of the elements of two, broadcast.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the shapes are not broadcast together.
    pub fn binary(&mut self, function: Binary, a: Id, b: Id) -> Result<Id, GradError> {
        if let Some(simple) = self.with_number(function, a, b)? {
            return Ok(simple);
        }
        let walk = self.broadcast(a, b)?;
        let made = walk.made().to_vec();
        self.one(Op::Binary(function, walk), &[a, b], made)
    }

    /// Arithmetic with a single stored number, which is cheaper and saves no operands.
    fn with_number(&mut self, function: Binary, a: Id, b: Id) -> Result<Option<Id>, GradError> {
        let single = |id: Id| self.constant(id).filter(|values| values.len() == 1).map(|values| values[0]);
        let (mine, other) = (single(a), single(b));
        let (x, function) = match (function, mine, other) {
            (Binary::Add, _, Some(shift)) => (a, Unary::Affine { scale: 1.0, shift }),
            (Binary::Add, Some(shift), None) => (b, Unary::Affine { scale: 1.0, shift }),
            (Binary::Sub, _, Some(shift)) => (a, Unary::Affine { scale: 1.0, shift: -shift }),
            (Binary::Sub, Some(shift), None) => (b, Unary::Affine { scale: -1.0, shift }),
            (Binary::Mul, _, Some(scale)) => (a, Unary::Affine { scale, shift: 0.0 }),
            (Binary::Mul, Some(scale), None) => (b, Unary::Affine { scale, shift: 0.0 }),
            (Binary::Div, _, Some(divisor)) if divisor != 0.0 => {
                (a, Unary::Affine { scale: 1.0 / divisor, shift: 0.0 })
            }
            (Binary::Pow, _, Some(exponent)) => (a, Unary::Power { exponent }),
            _ => return Ok(None),
        };
        let other = if x == a { b } else { a };
        // The number may have more axes than the tensor.
        let shape = self.broadcast(x, other)?.made().to_vec();
        if shape.iter().product::<usize>() != self.len(x) {
            return Ok(None);
        }
        let made = match function {
            Unary::Affine { scale: 1.0, shift: 0.0 } | Unary::Power { exponent: 1.0 } => x,
            Unary::Power { exponent: 0.5 } => self.unary(Unary::Sqrt, x)?,
            Unary::Power { exponent: -1.0 } => self.unary(Unary::Reciprocal, x)?,
            function => self.unary(function, x)?,
        };
        self.view(made, &shape).map(Some)
    }

    fn broadcast(&self, a: Id, b: Id) -> Result<Broadcast, GradError> {
        Broadcast::new(self.shape(a), self.shape(b)).ok_or_else(|| {
            GradError::shape(format!(
                "sizes {:?} and {:?} are not broadcast together",
                self.shape(a),
                self.shape(b)
            ))
        })
    }

    /// `scale · x + shift`.
    ///
    /// # Errors
    /// [`GradError::Size`].
    pub fn affine(&mut self, x: Id, scale: f64, shift: f64) -> Result<Id, GradError> {
        if (scale, shift) == (1.0, 0.0) { Ok(x) } else { self.unary(Unary::Affine { scale, shift }, x) }
    }

    /// The sum of two.
    ///
    /// # Errors
    /// As [`Tape::binary`].
    pub fn add(&mut self, a: Id, b: Id) -> Result<Id, GradError> {
        self.binary(Binary::Add, a, b)
    }

    /// The product of two, element by element.
    ///
    /// # Errors
    /// As [`Tape::binary`].
    pub fn mul(&mut self, a: Id, b: Id) -> Result<Id, GradError> {
        self.binary(Binary::Mul, a, b)
    }

    /// Takes from `a` where the condition is not nought, else from `b`; all broadcast.
    ///
    /// # Errors
    /// [`GradError::Shape`].
    pub fn select(&mut self, condition: Id, a: Id, b: Id) -> Result<Id, GradError> {
        let inner = self.broadcast(a, b)?.made().to_vec();
        let made = Broadcast::new(&inner, self.shape(condition))
            .ok_or_else(|| {
                GradError::shape(format!("a condition of sizes {:?} for {inner:?}", self.shape(condition)))
            })?
            .made()
            .to_vec();
        let mut whole = [condition, a, b];
        for id in &mut whole {
            *id = self.expand(*id, &made)?;
        }
        self.one(Op::Select, &whole, made)
    }

    /// Repeats axes of size one until the shape is reached.
    ///
    /// # Errors
    /// [`GradError::Shape`].
    pub fn expand(&mut self, x: Id, shape: &[usize]) -> Result<Id, GradError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let walk =
            Broadcast::new(self.shape(x), shape).filter(|walk| walk.made() == shape).ok_or_else(|| {
                GradError::shape(format!("sizes {:?} do not expand to {shape:?}", self.shape(x)))
            })?;
        if Some(self.len(x)) == elements(shape) {
            return self.view(x, shape);
        }
        self.one(Op::Expand(walk), &[x], shape.to_vec())
    }

    /// Folds these axes, counted from the front, and leaves them with size one.
    ///
    /// # Errors
    /// [`GradError::Shape`] when an axis is not there.
    pub fn reduce(&mut self, fold: Fold, x: Id, axes: &[usize]) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        if let Some(axis) = axes.iter().find(|axis| **axis >= shape.len()) {
            return Err(GradError::shape(format!("axis {axis} of sizes {shape:?}")));
        }
        let vanishes = |axis: usize| axes.contains(&axis);
        let kept: Vec<usize> =
            (0..shape.len()).map(|axis| if vanishes(axis) { 1 } else { shape[axis] }).collect();
        if kept == shape {
            return match fold {
                Fold::Sum { scale } => self.affine(x, scale, 0.0),
                _ => Ok(x),
            };
        }
        let how = Reduction::new(&shape, vanishes)
            .ok_or_else(|| GradError::shape(format!("axes {axes:?} of sizes {shape:?}")))?;
        self.one(Op::Reduce(fold, how), &[x], kept)
    }

    /// Sums what was repeated until the shape is reached: the gradient of broadcasting.
    pub(crate) fn sum_to(&mut self, x: Id, shape: &[usize]) -> Result<Id, GradError> {
        let from = self.shape(x).to_vec();
        if from == shape {
            return Ok(x);
        }
        let new = from.len() - shape.len();
        let axes: Vec<usize> =
            (0..from.len()).filter(|axis| *axis < new || shape[axis - new] != from[*axis]).collect();
        let summed = self.reduce(Fold::Sum { scale: 1.0 }, x, &axes)?;
        self.view(summed, shape)
    }

    /// `alpha · a · b + bias`, of the last two axes, with the others broadcast. `a_turned` and `b_turned`:
    /// the last two axes are swapped first. The bias is one row.
    ///
    /// # Errors
    /// [`GradError::Shape`].
    pub fn product(
        &mut self,
        (a, a_turned): (Id, bool),
        (b, b_turned): (Id, bool),
        alpha: f64,
        bias: Option<Id>,
    ) -> Result<Id, GradError> {
        let (shape_a, shape_b) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let wrong = || {
            let turned = |is: bool| if is { " turned" } else { "" };
            GradError::shape(format!(
                "no product of {shape_a:?}{} and {shape_b:?}{}",
                turned(a_turned),
                turned(b_turned)
            ))
        };
        let ([stack_a @ .., a0, a1], [stack_b @ .., b0, b1]) = (shape_a.as_slice(), shape_b.as_slice())
        else {
            return Err(wrong());
        };
        let (m, k) = if a_turned { (*a1, *a0) } else { (*a0, *a1) };
        let (k_b, n) = if b_turned { (*b1, *b0) } else { (*b0, *b1) };
        if k != k_b || bias.is_some_and(|bias| self.shape(bias) != [n]) {
            return Err(wrong());
        }
        let walk = Broadcast::new(stack_a, stack_b).ok_or_else(wrong)?;
        let mut made = walk.made().to_vec();
        made.extend([m, n]);
        let of_b: usize = stack_b.iter().product();
        let stack: usize = stack_a.iter().product();
        if of_b == 1 && !a_turned && stack != 1 {
            // One matrix for the whole stack: one product of all rows.
            let rows = self.view(a, &[stack * m, k])?;
            let single = self.view(b, &[*b0, *b1])?;
            let flat = self.product((rows, false), (single, b_turned), alpha, bias)?;
            return self.view(flat, &made);
        }
        let inner = walk.inner();
        // Where each matrix of the stack begins.
        self.room.take(walk.made(), size_of::<[usize; 2]>())?;
        let mut starts = Vec::new();
        walk.runs(|a, b, _, length| {
            for step in 0..length {
                starts.push([(a + step * inner[0]) * m * k, (b + step * inner[1]) * k * n]);
            }
        });
        let op = Op::Product(Product { sizes: [m, n, k], a_turned, b_turned, alpha, starts });
        let inputs = [Some(a), Some(b), bias].into_iter().take(2 + usize::from(bias.is_some())).collect();
        Ok(self.step(op, inputs, vec![made])?[0])
    }
}
