//! A tape that runs: nothing is allocated, looked up by name or decided while it does.

use crate::error::GradError;
use crate::layout::{Layout, Place, Placed};
use crate::op::Operands;
use crate::real::Real;
use crate::tape::{Id, Source, Tape};

/// Results of a step and its scratch, at most.
const MAX_CUTS: usize = 8;

/// A planned tape with its memory.
#[derive(Debug, Clone)]
pub struct Program<T> {
    layout: Layout,
    own: Vec<Box<[T]>>,
    shared: Vec<T>,
}

impl<T: Real> Program<T> {
    /// Makes the memory for a tape that gives these results. Fed tensors and parameters are nought.
    ///
    /// # Errors
    /// [`GradError::Size`] when it cannot be addressed.
    pub fn new(tape: &Tape, results: &[Id]) -> Result<Self, GradError> {
        let layout = Layout::new(tape, results)?;
        let fill = |id: &Id| match &tape.values[id.0].source {
            Source::Stored(values) => values.iter().map(|value| T::of(*value)).collect(),
            _ => vec![T::ZERO; tape.len(*id)].into(),
        };
        let own = layout.own.iter().map(fill).collect();
        let shared = vec![T::ZERO; layout.shared];
        Ok(Self { layout, own, shared })
    }

    /// Bytes of its memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layout.bytes(size_of::<T>())
    }

    /// Runs all steps.
    pub fn run(&mut self) {
        for step in &self.layout.steps {
            T::execute(Run { step, own: &self.own, shared: &mut self.shared });
        }
    }

    /// The elements of a fed tensor or parameter, to be written.
    ///
    /// # Panics
    /// When it is neither.
    pub fn own_mut(&mut self, id: Id) -> &mut [T] {
        match self.layout.places[id.0] {
            Some(Place::Own(at)) => &mut self.own[at],
            _ => panic!("tensor {} is not fed, and no parameter", id.0),
        }
    }

    /// The elements of a result, a fed tensor or a parameter.
    ///
    /// # Panics
    /// When it is none of these.
    #[must_use]
    pub fn get(&self, id: Id) -> &[T] {
        match self.layout.places[id.0] {
            Some(Place::Own(at)) => &self.own[at],
            Some(Place::Shared(start, length)) => &self.shared[start..start + length],
            _ => panic!("tensor {} is no result", id.0),
        }
    }

    /// A parameter, to be changed, beside its gradient.
    ///
    /// # Panics
    /// When they are not a parameter and a result of this program.
    pub fn beside(&mut self, parameter: Id, gradient: Id) -> (&mut [T], &[T]) {
        let Some(Place::Own(mine)) = self.layout.places[parameter.0] else {
            panic!("tensor {} is no parameter", parameter.0)
        };
        match self.layout.places[gradient.0] {
            Some(Place::Shared(start, length)) => (&mut self.own[mine], &self.shared[start..start + length]),
            Some(Place::Own(other)) if other != mine => {
                let [mine, other] = self.own.get_disjoint_mut([mine, other]).expect("both exist, and differ");
                (mine, other)
            }
            _ => panic!("tensor {} is no gradient", gradient.0),
        }
    }
}

/// One step with all memory.
///
/// It goes through [`Real::execute`], so that kernels are compiled in this crate and with its settings, not
/// wherever a program is used.
#[derive(Debug)]
pub struct Run<'a, T> {
    step: &'a Placed,
    own: &'a [Box<[T]>],
    shared: &'a mut [T],
}

impl<T: Real> Run<'_, T> {
    #[inline]
    pub(crate) fn go(self) {
        run(self.step, self.own, self.shared);
    }
}

/// Memory around the results of a step, by where it starts.
struct Around<'a, T> {
    inputs: &'a [Option<Place>],
    own: &'a [Box<[T]>],
    gaps: [(usize, &'a [T]); MAX_CUTS + 1],
}

impl<T> Operands<T> for Around<'_, T> {
    fn get(&self, slot: usize) -> Option<&[T]> {
        match self.inputs.get(slot).copied().flatten()? {
            Place::Overwritten => None,
            Place::Own(at) => Some(&self.own[at]),
            Place::Shared(start, length) => {
                let around =
                    self.gaps.iter().find(|(from, gap)| start >= *from && start + length <= from + gap.len());
                let (from, gap) = around.expect("what is read lives beside what is written");
                Some(&gap[start - from..start - from + length])
            }
        }
    }
}

fn run<T: Real>(step: &Placed, own: &[Box<[T]>], shared: &mut [T]) {
    let mut made: [&mut [T]; MAX_CUTS] = std::array::from_fn(|_| &mut [][..]);
    let mut gaps: [(usize, &[T]); MAX_CUTS + 1] = [(0, &[]); MAX_CUTS + 1];
    let (mut rest, mut at) = (shared, 0);
    for (gap, (start, length, slot)) in gaps.iter_mut().zip(&step.cuts) {
        let (before, tail) = rest.split_at_mut(start - at);
        let (cut, tail) = tail.split_at_mut(*length);
        *gap = (at, before);
        made[*slot] = cut;
        (rest, at) = (tail, start + length);
    }
    gaps[step.cuts.len()] = (at, rest);
    let (made, scratch) = made.split_at_mut(step.results);
    let around = Around { inputs: &step.inputs, own, gaps };
    step.op.run(&around, made, scratch.first_mut().map_or(&mut [][..], |scratch| scratch));
}
