//! From sums to a label and scores, with the layouts that files with two classes have.

use crate::labels::Labels;
use crate::post::{PostTransform, Second};
use crate::settings::{Settings, SettingsError};

use super::Aggregate;
use super::draft::{Draft, DraftNode, MAX_TARGETS, WeightNames};

const WEIGHTS: WeightNames = WeightNames {
    trees: "class_treeids",
    nodes: "class_nodeids",
    ids: "class_ids",
    weights: "class_weights",
    weights_tensor: "class_weights_as_tensor",
};

/// The classes of an ensemble.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    pub(super) labels: Labels,
    base: Vec<f32>,
    /// Two labels, but weights for one class only: a single score says both.
    is_single: bool,
    /// The first class that has weights.
    spoken: usize,
    /// No weight is negative: the single score is a probability.
    is_positive: bool,
}

impl Classes {
    pub(super) fn parse(settings: &Settings) -> Result<(Draft, Self), SettingsError> {
        let labels = Labels::parse(settings, "classlabels_strings", "classlabels_int64s")?;
        if labels.len() > MAX_TARGETS {
            return Err(SettingsError::value("classlabels_int64s", "there are too many classes"));
        }
        let draft = Draft::of(settings, &WEIGHTS, labels.len(), Aggregate::Sum)?;
        let base: Vec<f32> = draft.base.iter().map(|value| crate::number::narrow(*value)).collect();
        if base.len() > labels.len() {
            let (expected, got) = (labels.len(), base.len());
            return Err(SettingsError::Length { name: "base_values", expected, got });
        }
        let weights = || {
            draft.nodes.iter().flat_map(|node| match node {
                DraftNode::Leaf(weights) => weights.as_slice(),
                DraftNode::Question(_) => &[],
            })
        };
        let first = weights().next().map(|(class, _, _)| *class);
        let is_single = labels.len() == 2 && weights().all(|(class, _, _)| Some(*class) == first);
        let is_positive = weights().all(|(_, weight, _)| *weight >= 0.0);
        let spoken = first.map_or(0, |class| class as usize);
        Ok((draft, Self { labels, base, is_single, spoken, is_positive }))
    }

    /// Whether one score says both of two classes.
    pub(super) fn is_single(&self) -> bool {
        self.is_single
    }

    /// The target of that score.
    pub(super) fn spoken(&self) -> usize {
        self.spoken
    }

    /// Writes the scores of a row and gives the place of its label.
    pub(super) fn decide(
        &self,
        sums: &[f32],
        seen: &[bool],
        post: PostTransform,
        scores: &mut [f32],
    ) -> usize {
        scores.copy_from_slice(sums);
        if self.labels.len() != 2 {
            return self.decide_of_many(seen, post, scores);
        }
        let seen_second = seen[1];
        match self.base.as_slice() {
            // Two base values and a second score: onnxruntime's rule, the first base value unused.
            [_, second] if seen_second => {
                scores[1] = second + scores[0];
                scores[0] = -scores[1];
            }
            [first, second] => {
                scores[0] += first;
                scores[1] += second;
            }
            [only] => scores[0] += only,
            _ => {}
        }
        if seen_second || self.base.len() == 2 {
            let winner = self.winner_of_two(if seen_second { scores[1] } else { scores[0] });
            // A class that no leaf spoke for scores nothing, whatever its base value.
            scores.iter_mut().zip(seen).filter(|(_, seen)| !**seen).for_each(|(score, _)| *score = 0.0);
            post.apply(scores);
            return winner;
        }
        let score = scores[0];
        let second = if self.is_single && !self.is_positive { Second::Mirror } else { Second::Complement };
        if post == PostTransform::Probit {
            scores[0] = crate::post::probit(score);
        } else {
            scores.copy_from_slice(&post.pair(score, second));
        }
        self.winner_of_two(score)
    }

    fn winner_of_two(&self, score: f32) -> usize {
        let bar = if self.is_single && self.is_positive { 0.5 } else { 0.0 };
        usize::from(score > bar)
    }

    fn decide_of_many(&self, seen: &[bool], post: PostTransform, scores: &mut [f32]) -> usize {
        for (score, base) in scores.iter_mut().zip(&self.base) {
            *score += base;
        }
        let mut winner: Option<usize> = None;
        for (class, score) in scores.iter().enumerate() {
            let counts = seen[class] || class < self.base.len();
            if counts && winner.is_none_or(|best| *score > scores[best]) {
                winner = Some(class);
            }
        }
        post.apply(scores);
        winner.unwrap_or(0)
    }
}
