//! The leaves of each tree, and what holds them apart.

use crate::number::Number;

use super::super::forest::{Forest, Leaf, RuleKind};
use super::RefitError;

/// A tree's leaves.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) root: u32,
    /// Places of its leaves.
    pub(super) leaves: Vec<u32>,
    /// The targets that they speak for, sorted.
    pub(super) targets: Vec<u32>,
}

impl<T: Number> Forest<T> {
    /// The leaves of each tree; each weight of the file belongs to one tree.
    pub(super) fn each_tree(&self) -> Result<Vec<Tree>, RefitError> {
        let mut owner = vec![usize::MAX; self.sources()];
        let mut trees = Vec::with_capacity(self.roots.len());
        for (number, root) in self.roots.iter().enumerate() {
            let mut tree = Tree { root: *root, leaves: Vec::new(), targets: Vec::new() };
            let mut waiting = vec![*root];
            while let Some(place) = waiting.pop() {
                if self.rules[place as usize].kind == RuleKind::Leaf {
                    tree.leaves.push(place);
                } else {
                    let next = self.nodes[place as usize].next;
                    waiting.extend([next, next + 1]);
                }
            }
            for place in &tree.leaves {
                let mut own: Vec<u32> = self.own(*place).iter().map(|leaf| leaf.target).collect();
                own.sort_unstable();
                if own.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(RefitError::Layout { reason: "a leaf has two weights for one target" });
                }
                tree.targets.extend(own);
                for leaf in self.own(*place) {
                    let before = std::mem::replace(&mut owner[leaf.source as usize], number);
                    if before != usize::MAX && before != number {
                        return Err(RefitError::Layout { reason: "two trees share a leaf" });
                    }
                }
            }
            tree.targets.sort_unstable();
            tree.targets.dedup();
            trees.push(tree);
        }
        Ok(trees)
    }

    /// The weights of the leaf at a place.
    pub(super) fn own(&self, place: u32) -> &[Leaf<T>] {
        self.span(place).map_or(&[], |span| &self.leaves[span])
    }

    /// All weights by their places in the file; zero where a place is no leaf's.
    pub(super) fn weights(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.sources()];
        self.leaves.iter().for_each(|leaf| weights[leaf.source as usize] = leaf.weight.to_f64());
        weights
    }

    fn sources(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.source as usize + 1).max().unwrap_or(0)
    }
}
