//! Half-space trees: how thick the reference stands around a row.
//!
//! Tan, Ting and Liu, IJCAI 2011. The trees are drawn from the seed alone: a node halves the range of one
//! input drawn at random. What is learned is the share of the reference's rows in each node. Here it is learned once, from the
//! reference, and not again in windows on the device: a profile that follows the stream calls
//! everything usual after one window.

use super::draw::Draw;
use super::space::CLIP;
use shoal_proto::baseline::TreesBaseline;

/// Rows below which a node is not divided further (the paper's 10 % of a window of 250).
const LEAF_ROWS: f64 = 25.0;
const STREAM: u64 = 1_000;

/// Trees ready for rows. Six bytes a split and two a node: 25 trees of depth 8 take 63 KiB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forest {
    depth: usize,
    splits: usize,
    input: Vec<u16>,
    at: Vec<f32>,
    /// Shares of 65,535, each tree a heap whose root is at its beginning.
    mass: Vec<u16>,
    leaf: f64,
    floor: f64,
}

impl Forest {
    /// Draws the trees and takes their masses from the baseline.
    pub(super) fn new(seed: u64, inverse: &[f32], rows: u64, trees: &TreesBaseline) -> Self {
        let (count, depth) = (trees.trees as usize, trees.depth as usize);
        let mut forest = Self::empty(seed, inverse, &trees.ranges, count, depth, rows);
        forest.mass = trees.mass.iter().map(|share| quantised(f64::from(*share))).collect();
        forest
    }

    /// Draws trees over the inputs that vary; `ranges` are their least and then their greatest values.
    fn empty(seed: u64, inverse: &[f32], ranges: &[f32], count: usize, depth: usize, rows: u64) -> Self {
        let live: Vec<usize> = (0..inverse.len()).filter(|input| inverse[*input] > 0.0).collect();
        let live = &live[..live.len().min(usize::from(u16::MAX) + 1)];
        let all = ranges.len() / 2;
        let splits = (1 << depth) - 1;
        let (mut input, mut at) = (Vec::new(), Vec::new());
        for tree in 0..count {
            let mut draw = Draw::new(seed, STREAM + tree as u64);
            // A working range around a point drawn inside, so that trees cut at different places.
            let mut work: Vec<(f32, f32)> = (0..live.len())
                .map(|place| {
                    let (low, high) = (ranges[place], ranges[all + place]);
                    #[expect(clippy::cast_possible_truncation, reason = "a number in 0 … 1")]
                    let middle = low + (high - low) * draw.unit() as f32;
                    let half = 2.0 * (middle - low).max(high - middle);
                    (middle - half, middle + half)
                })
                .collect();
            let (mut inputs, mut ats) = (vec![0_u16; splits], vec![0.0; splits]);
            let mut grow = Grow { draw, work: &mut work, inputs: &mut inputs, ats: &mut ats, live };
            grow.node(0);
            input.extend(inputs);
            at.extend(ats);
        }
        let n = rows.max(1) as f64;
        let mass = vec![0; count * (2 * splits + 1)];
        Self { depth, splits, input, at, mass, leaf: LEAF_ROWS / n, floor: 1.0 / n }
    }

    /// Strangeness of a standardised row: minus the logarithm of the mean over the trees of a node's share times
    /// `2^depth` of the node, which is one where the reference is even.
    pub(super) fn score(&self, z: &[f32]) -> f64 {
        self.score_without(z, 0.0)
    }

    /// The score, had each node on the way this share of rows less.
    pub(super) fn score_without(&self, z: &[f32], own: f64) -> f64 {
        let nodes = 2 * self.splits + 1;
        let trees = self.mass.len() / nodes;
        let mut sum = 0.0;
        for tree in 0..trees {
            let mass = &self.mass[tree * nodes..][..nodes];
            let share = |node: usize| (f64::from(mass[node]) / f64::from(u16::MAX) - own).max(0.0);
            let (mut node, mut volume) = (0, 1.0);
            for _ in 0..self.depth {
                if share(node) < self.leaf {
                    break;
                }
                node = self.child(tree, node, z);
                volume *= 2.0;
            }
            sum += share(node) * volume;
        }
        -(sum / trees as f64 + self.floor).ln()
    }

    fn child(&self, tree: usize, node: usize, z: &[f32]) -> usize {
        let split = tree * self.splits + node;
        2 * node + 1 + usize::from(z[usize::from(self.input[split])] >= self.at[split])
    }

    /// Where a row goes in every tree, the root included: indexes of the masses.
    fn path(&self, z: &[f32], mut to: impl FnMut(usize)) {
        let nodes = 2 * self.splits + 1;
        for tree in 0..self.mass.len() / nodes {
            let mut node = 0;
            to(tree * nodes);
            for _ in 0..self.depth {
                node = self.child(tree, node, z);
                to(tree * nodes + node);
            }
        }
    }
}

/// The trees of standardised rows, without ranks, and each row's score without its own mass.
pub(super) fn grow(
    seed: u64,
    inverse: &[f32],
    rows: &[f32],
    (count, depth): (usize, usize),
) -> (Vec<f32>, Vec<f32>, Vec<f64>) {
    let width = inverse.len();
    let live = (0..width).filter(|input| inverse[*input] > 0.0);
    let range = |input: usize| {
        let column = rows.iter().skip(input).step_by(width);
        column.fold((CLIP, -CLIP), |(low, high), z| (low.min(*z), high.max(*z)))
    };
    let (low, high): (Vec<f32>, Vec<f32>) = live.map(range).unzip();
    let ranges = [low, high].concat();
    let n = rows.len() / width;
    let mut forest = Forest::empty(seed, inverse, &ranges, count, depth, n as u64);
    let mut counts = vec![0_u64; forest.mass.len()];
    for row in rows.chunks_exact(width) {
        forest.path(row, |node| counts[node] += 1);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a share")]
    let mass: Vec<f32> = counts.iter().map(|count| (*count as f64 / n as f64) as f32).collect();
    forest.mass = mass.iter().map(|share| quantised(f64::from(*share))).collect();
    let scores = rows.chunks_exact(width).map(|row| forest.score_without(row, 1.0 / n as f64)).collect();
    (ranges, mass, scores)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn quantised(share: f64) -> u16 {
    (share * f64::from(u16::MAX)).round().clamp(0.0, f64::from(u16::MAX)) as u16
}

struct Grow<'a> {
    draw: Draw,
    work: &'a mut [(f32, f32)],
    inputs: &'a mut [u16],
    ats: &'a mut [f32],
    live: &'a [usize],
}

impl Grow<'_> {
    fn node(&mut self, node: usize) {
        if node >= self.ats.len() || self.live.is_empty() {
            return;
        }
        let place = self.draw.below(self.live.len());
        let (low, high) = self.work[place];
        let middle = low + (high - low) / 2.0;
        self.inputs[node] = u16::try_from(self.live[place]).unwrap_or(u16::MAX);
        self.ats[node] = middle;
        self.work[place] = (low, middle);
        self.node(2 * node + 1);
        self.work[place] = (middle, high);
        self.node(2 * node + 2);
        self.work[place] = (low, high);
    }
}
