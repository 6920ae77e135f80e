//! Down the trees, several at once: steps of one walk wait for memory, those of sixteen overlap.

use crate::number::Number;

use super::Aggregate;
use super::forest::{Forest, Rule, RuleKind};

/// Walks at once: eight are as fast for a single row and slower for many.
pub(super) const LANES: usize = 16;

/// Nodes, of 12 bytes, that stay in the second cache with all else: below, a row goes through all
/// trees before the next row does, which has the shorter loop; above, a tree is read once for a
/// block of rows.
const NEAR_NODES: usize = 1 << 14;

/// Depth up to which trees are walked to their depth without looking whether all have
/// arrived: a look costs a third of a step, a step too many a whole one.
const SHALLOW: u32 = 12;

/// Rows that go through a tree together: their sums stay in the nearest cache.
const BLOCK: usize = 64;

impl<T: Number> Forest<T> {
    /// Adds the trees up for each row, and hands on the row's number, its sums with the base
    /// values (for regression only) and which targets any leaf spoke for (when `wants_seen`).
    pub(super) fn sums(
        &self,
        features: &[T],
        width: usize,
        rows: usize,
        wants_seen: bool,
        mut each: impl FnMut(usize, &[T], &[bool]),
    ) {
        let targets = self.targets;
        let held = rows.min(BLOCK);
        let has_bases = targets > 1 && !self.base.is_empty();
        let needs_seen = wants_seen || has_bases || matches!(self.aggregate, Aggregate::Min | Aggregate::Max);
        let mut sums = vec![T::default(); held * targets];
        let mut seen = vec![false; if needs_seen { held * targets } else { 0 }];
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(BLOCK);
            let block = &features[first * width..(first + count) * width];
            sums.fill(T::default());
            seen.fill(false);
            let is_plain = self.is_plain && !block.iter().any(|value| value.nan());
            self.block(
                block,
                width,
                count,
                is_plain,
                &mut Sums { targets, sums: &mut sums, seen: &mut seen },
            );
            for row in 0..count {
                let own = row * targets..(row + 1) * targets;
                let (sum, seen) = (&mut sums[own.clone()], seen.get(own).unwrap_or(&[]));
                if !wants_seen {
                    self.close(sum, seen);
                }
                each(first + row, sum, seen);
            }
            first += count;
        }
    }

    /// The places of the leaves that a row arrives at, one for each tree.
    #[must_use]
    pub fn arrive(&self, row: &[T]) -> Option<Vec<u32>> {
        (row.len() >= self.features).then(|| self.roots.iter().map(|root| self.ask(*root, row)).collect())
    }

    fn block(&self, block: &[T], width: usize, rows: usize, is_plain: bool, into: &mut Sums<'_, T>) {
        if rows < LANES || (is_plain && self.nodes.len() <= NEAR_NODES) {
            for (row, features) in block.chunks_exact(width).enumerate() {
                self.one_row(features, row, is_plain, into);
            }
            return;
        }
        for root in &self.roots {
            let mut row = 0;
            if is_plain {
                while row + LANES <= rows {
                    let mut at = [*root; LANES];
                    self.settle_rows(&mut at, &block[row * width..(row + LANES) * width], width);
                    for (lane, place) in at.iter().enumerate() {
                        self.add(*place, row + lane, into);
                    }
                    row += LANES;
                }
            }
            for (row, features) in block.chunks_exact(width).enumerate().skip(row) {
                let place = if is_plain { self.descend(*root, features) } else { self.ask(*root, features) };
                self.add(place, row, into);
            }
        }
    }

    fn one_row(&self, features: &[T], row: usize, is_plain: bool, into: &mut Sums<'_, T>) {
        if !is_plain {
            for root in &self.roots {
                self.add(self.ask(*root, features), row, into);
            }
            return;
        }
        for (roots, depth) in self.roots.chunks(LANES).zip(&self.depths) {
            // Lanes without a tree walk the last one again; nobody asks where they arrive.
            let mut at = [roots[roots.len() - 1]; LANES];
            at[..roots.len()].copy_from_slice(roots);
            if *depth <= SHALLOW {
                (0..*depth).for_each(|_| {
                    self.step(&mut at, features);
                });
            } else {
                while self.step(&mut at, features) {}
            }
            for place in &at[..roots.len()] {
                self.add(*place, row, into);
            }
        }
    }

    /// Several trees on one row, one step down; tells whether any had a step to go.
    #[inline]
    fn step(&self, at: &mut [u32; LANES], features: &[T]) -> bool {
        let mut moved = 0;
        for place in at.iter_mut() {
            let node = &self.nodes[*place as usize];
            let next = node.next + u32::from(features[node.feature as usize] > node.threshold);
            moved |= next ^ *place;
            *place = next;
        }
        moved != 0
    }

    /// One tree on several rows, until all have arrived.
    fn settle_rows(&self, at: &mut [u32; LANES], block: &[T], width: usize) {
        loop {
            let mut moved = 0;
            for (place, features) in at.iter_mut().zip(block.chunks_exact(width)) {
                let node = &self.nodes[*place as usize];
                let is_no = u32::from(features[node.feature as usize] > node.threshold);
                let next = node.next + is_no;
                moved |= next ^ *place;
                *place = next;
            }
            if moved == 0 {
                return;
            }
        }
    }

    fn descend(&self, root: u32, features: &[T]) -> u32 {
        let mut place = root;
        loop {
            let node = &self.nodes[place as usize];
            let next = node.next + u32::from(features[node.feature as usize] > node.threshold);
            if next == place {
                return place;
            }
            place = next;
        }
    }

    /// One tree on one row by its rules: NaN, equality and membership included.
    pub(super) fn ask(&self, root: u32, features: &[T]) -> u32 {
        let mut place = root;
        loop {
            let node = &self.nodes[place as usize];
            let rule = self.rules[place as usize];
            if rule.kind == RuleKind::Leaf {
                return place;
            }
            let value = features[node.feature as usize];
            let is_yes = self.answer(rule, value, node.threshold);
            place = node.next + u32::from(!is_yes);
        }
    }

    fn answer(&self, rule: Rule, value: T, threshold: T) -> bool {
        if value.nan() {
            return rule.missing_is_yes;
        }
        match rule.kind {
            RuleKind::Leaf => true,
            RuleKind::Leq => value <= threshold,
            RuleKind::Eq => value == threshold,
            RuleKind::Member(set) => self.sets.get(set as usize).is_some_and(|set| {
                let place = set.partition_point(|member| *member < value);
                set.get(place) == Some(&value)
            }),
        }
    }

    fn add(&self, place: u32, row: usize, into: &mut Sums<'_, T>) {
        if into.targets == 1 && self.aggregate != Aggregate::Min && self.aggregate != Aggregate::Max {
            into.sums[row] += self.values[place as usize];
            if let Some(seen) = into.seen.get_mut(row) {
                *seen = true;
            }
            return;
        }
        let span = self.spans[place as usize] as usize..self.spans[place as usize + 1] as usize;
        for leaf in &self.leaves[span] {
            let at = row * into.targets + leaf.target as usize;
            let sum = &mut into.sums[at];
            let is_first = into.seen.get_mut(at).is_none_or(|seen| !std::mem::replace(seen, true));
            *sum = match self.aggregate {
                Aggregate::Sum | Aggregate::Average => *sum + leaf.weight,
                Aggregate::Min if is_first || leaf.weight < *sum => leaf.weight,
                Aggregate::Max if is_first || leaf.weight > *sum => leaf.weight,
                Aggregate::Min | Aggregate::Max => *sum,
            };
        }
    }

    /// Averages and adds the base values, as regression wants it: of several targets only those
    /// that a leaf spoke for get theirs, as onnxruntime does it.
    fn close(&self, sums: &mut [T], seen: &[bool]) {
        if self.aggregate == Aggregate::Average {
            let trees = T::from_f64(self.roots.len() as f64);
            sums.iter_mut().for_each(|sum| *sum = *sum / trees);
        }
        if self.base.len() != sums.len() {
            return;
        }
        for (target, (sum, base)) in sums.iter_mut().zip(&self.base).enumerate() {
            if self.targets == 1 || seen.get(target) == Some(&true) {
                *sum += *base;
            }
        }
    }
}

/// Where the trees' answers are added up.
struct Sums<'a, T> {
    targets: usize,
    sums: &'a mut [T],
    /// Empty when nobody asks.
    seen: &'a mut [bool],
}
