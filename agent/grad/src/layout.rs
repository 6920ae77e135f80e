//! Where every tensor of a tape is while it runs: one block of memory, planned once.

use crate::error::GradError;
use crate::op::Op;
use crate::tape::{Id, Source, Tape};

/// Elements to which tensors are aligned: a cache line of 32-bit numbers.
const ALIGNMENT: usize = 16;
/// Still needed when the run is over.
const FOREVER: usize = usize::MAX;

/// Where a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory of its own: which.
    Own(usize),
    /// In the common block: start and length.
    Shared(usize, usize),
    /// It is where the first result is.
    Overwritten,
}

/// A step that knows where its tensors are.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Option<Place>>,
    /// Start, length and which result; the last number is scratch. In the order of starts.
    pub(crate) cuts: Vec<(usize, usize, usize)>,
    pub(crate) results: usize,
}

/// The plan of a run.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(crate) steps: Vec<Placed>,
    /// For each tensor of the tape, where it is, if it is anywhere.
    pub(crate) places: Vec<Option<Place>>,
    /// Tensors with memory of their own, by its number.
    pub(crate) own: Vec<Id>,
    /// Elements of the common block.
    pub(crate) shared: usize,
    own_elements: usize,
    map_bytes: usize,
}

/// Memory that is needed from one step to another.
struct Block {
    from: usize,
    to: usize,
    length: usize,
    start: usize,
}

impl Layout {
    /// Plans a run that makes these results.
    ///
    /// # Errors
    /// [`GradError::Size`] when it cannot be addressed.
    pub fn new(tape: &Tape, results: &[Id]) -> Result<Self, GradError> {
        let mut plan = Plan::new(tape, results);
        plan.blocks();
        plan.arrange();
        plan.finish(results)
    }

    /// Bytes that a run in numbers of this size takes.
    #[must_use]
    pub fn bytes(&self, of_a_number: usize) -> usize {
        (self.shared + self.own_elements) * of_a_number + self.map_bytes
    }
}

struct Plan<'a> {
    tape: &'a Tape,
    alive: Vec<bool>,
    /// The tensor whose memory each one is a view of.
    root: Vec<usize>,
    /// The last step that reads a root.
    last: Vec<usize>,
    block: Vec<Option<usize>>,
    scratch: Vec<Option<usize>>,
    overwrites: Vec<bool>,
    blocks: Vec<Block>,
}

impl<'a> Plan<'a> {
    fn new(tape: &'a Tape, results: &[Id]) -> Self {
        let alive = tape.alive(results);
        let mut root: Vec<usize> = (0..tape.values.len()).collect();
        let mut last = vec![0; root.len()];
        for (place, step) in tape.steps.iter().enumerate().filter(|(place, _)| alive[*place]) {
            if let (Op::View, [Some(x)], [y]) = (&step.op, step.inputs.as_slice(), step.outputs.as_slice())
                && tape.values[y.0].source == Source::Step(place)
            {
                root[y.0] = root[x.0];
                continue;
            }
            step.inputs.iter().flatten().for_each(|id| last[root[id.0]] = place);
        }
        results.iter().for_each(|id| last[root[id.0]] = FOREVER);
        let (values, steps) = (root.len(), tape.steps.len());
        Self {
            tape,
            alive,
            root,
            last,
            block: vec![None; values],
            scratch: vec![None; steps],
            overwrites: vec![false; steps],
            blocks: Vec::new(),
        }
    }

    fn is_view(&self, place: usize) -> bool {
        self.tape.steps[place].op == Op::View
    }

    /// Gives every tensor that a step makes a block, or that of its first operand.
    fn blocks(&mut self) {
        for place in (0..self.alive.len()).filter(|place| self.alive[*place]) {
            if self.is_view(place) {
                continue;
            }
            let step = &self.tape.steps[place];
            for (slot, id) in step.outputs.iter().enumerate() {
                let to = self.last[id.0].max(place);
                let length = self.tape.len(*id);
                let reused = if slot == 0 { self.overwritten(place, length) } else { None };
                if let Some(block) = reused {
                    self.blocks[block].to = to;
                    self.overwrites[place] = true;
                }
                self.block[id.0] = Some(reused.unwrap_or(self.blocks.len()));
                if reused.is_none() {
                    self.blocks.push(Block { from: place, to, length, start: 0 });
                }
            }
            let length = step.op.scratch();
            if length > 0 {
                self.scratch[place] = Some(self.blocks.len());
                self.blocks.push(Block { from: place, to: place, length, start: 0 });
            }
        }
    }

    /// The block of the first operand, when nothing else needs it any more.
    fn overwritten(&self, place: usize, length: usize) -> Option<usize> {
        let step = &self.tape.steps[place];
        let first = (*step.inputs.first()?)?;
        let root = self.root[first.0];
        let others = step.inputs[1..].iter().flatten().any(|id| self.root[id.0] == root);
        let fits = step.op.may_overwrite()
            && self.last[root] == place
            && !others
            && self.tape.len(first) == length
            && matches!(self.tape.values[root].source, Source::Step(_));
        if fits { self.block[root] } else { None }
    }

    /// Gives every block a start: the largest first, each at the lowest place that is free while it lives.
    fn arrange(&mut self) {
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        order.sort_by_key(|block| (std::cmp::Reverse(self.blocks[*block].length), *block));
        let mut placed: Vec<usize> = Vec::with_capacity(order.len());
        for block in order {
            let (from, to) = (self.blocks[block].from, self.blocks[block].to);
            let length = self.blocks[block].length.next_multiple_of(ALIGNMENT);
            let mut start = 0;
            // `placed` is in the order of starts.
            for other in placed.iter().map(|other| &self.blocks[*other]) {
                if other.from <= to && from <= other.to {
                    if other.start >= start + length {
                        break;
                    }
                    start = start.max(other.start + other.length.next_multiple_of(ALIGNMENT));
                }
            }
            self.blocks[block].start = start;
            let at = placed.partition_point(|other| self.blocks[*other].start <= start);
            placed.insert(at, block);
        }
    }

    fn finish(self, results: &[Id]) -> Result<Layout, GradError> {
        let tape = self.tape;
        let mut own: Vec<Id> = Vec::new();
        let mut places: Vec<Option<Place>> = vec![None; self.root.len()];
        let mut steps = Vec::new();
        let mut place_of = |id: Id| {
            let root = self.root[id.0];
            if let Some(place) = places[root] {
                places[id.0] = Some(place);
                return place;
            }
            let made = matches!(tape.values[root].source, Source::Step(_));
            let place = match self.block[root].filter(|_| made) {
                Some(block) => Place::Shared(self.blocks[block].start, tape.len(id)),
                None => {
                    own.push(Id(root));
                    Place::Own(own.len() - 1)
                }
            };
            (places[root], places[id.0]) = (Some(place), Some(place));
            place
        };
        for (place, step) in tape.steps.iter().enumerate() {
            if !self.alive[place] || self.is_view(place) {
                continue;
            }
            let mut inputs: Vec<Option<Place>> = step.inputs.iter().map(|id| id.map(&mut place_of)).collect();
            if self.overwrites[place] {
                inputs[0] = Some(Place::Overwritten);
            }
            let mut cuts = Vec::with_capacity(step.outputs.len() + 1);
            for (slot, id) in step.outputs.iter().enumerate() {
                let block = self.block[id.0].ok_or_else(|| GradError::shape("a result has no memory"))?;
                places_of_output(&mut cuts, &self.blocks[block], tape.len(*id), slot);
                place_of(*id);
            }
            if let Some(block) = self.scratch[place] {
                let block = &self.blocks[block];
                places_of_output(&mut cuts, block, block.length, step.outputs.len());
            }
            cuts.sort_unstable();
            steps.push(Placed { op: step.op.clone(), inputs, cuts, results: step.outputs.len() });
        }
        for id in results {
            place_of(*id);
        }
        let fed = (0..tape.values.len())
            .filter(|at| matches!(tape.values[*at].source, Source::Fed | Source::Parameter));
        for at in fed {
            place_of(Id(at));
        }
        let shared = self.blocks.iter().map(|block| block.start + block.length).max().unwrap_or(0);
        let own_elements = own.iter().map(|id| tape.len(*id)).sum();
        let map_bytes = steps.iter().map(|step| step.op.map_bytes()).sum();
        Ok(Layout { steps, places, own, shared, own_elements, map_bytes })
    }
}

fn places_of_output(cuts: &mut Vec<(usize, usize, usize)>, block: &Block, length: usize, slot: usize) {
    cuts.push((block.start, length, slot));
}
