//! Trees laid out for walking.

use crate::kernel::RunError;

use super::Aggregate;

/// A node: children stand side by side, the one for "no" second.
///
/// A leaf leads to itself: its threshold is infinite, so that a walk may go on past it until the
/// slowest of several walks has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<T> {
    pub(super) threshold: T,
    pub(super) feature: u32,
    pub(super) next: u32,
}

/// What a node asks when the features hold NaN, or when `≤` does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) kind: RuleKind,
    pub(super) missing_is_yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    Leaf,
    Leq,
    Eq,
    /// Membership in the set at this place.
    Member(u32),
}

/// What one weight of a leaf is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leaf<T> {
    /// Target or class.
    pub target: u32,
    /// What the leaf adds to it.
    pub weight: T,
    /// Its place in the list of weights in the file.
    pub source: u32,
}

/// Trees ready to be walked, in `f32` or `f64`.
#[derive(Debug, Clone)]
pub struct Forest<T> {
    pub(super) nodes: Vec<Node<T>>,
    pub(super) rules: Vec<Rule>,
    pub(super) sets: Vec<Vec<T>>,
    pub(super) roots: Vec<u32>,
    /// For each group of trees walked at once the depth of the deepest.
    pub(super) depths: Vec<u32>,
    /// For each node the first of its weights; one more than there are nodes.
    pub(super) spans: Vec<u32>,
    pub(super) leaves: Vec<Leaf<T>>,
    /// For each node the sum of its weights, when there is one target: saves a step.
    pub(super) values: Vec<T>,
    pub(super) targets: usize,
    pub(super) base: Vec<T>,
    pub(super) aggregate: Aggregate,
    pub(super) features: usize,
    /// Whether every node asks `≤`, so that rows without NaN need no rules.
    pub(super) is_plain: bool,
}

impl<T> Forest<T> {
    /// Targets or classes.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// All weights of all leaves.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf<T>] {
        &self.leaves
    }

    /// The weights of the leaf at a place that [`Forest::arrive`] gave, as a range of
    /// [`Forest::leaves`].
    #[must_use]
    pub fn span(&self, place: u32) -> Option<std::ops::Range<usize>> {
        let at = place as usize;
        Some(*self.spans.get(at)? as usize..*self.spans.get(at + 1)? as usize)
    }

    pub(crate) fn check_width(&self, width: usize) -> Result<(), RunError> {
        if width < self.features {
            return Err(RunError::Features { expected: self.features, got: width });
        }
        Ok(())
    }
}
