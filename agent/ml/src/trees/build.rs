//! From what a file says to what is walked; here a cycle, a shared node or a lost child is found.

use crate::number::Number;
use crate::settings::SettingsError;

use super::draft::{Draft, DraftNode, Mode, Question};
use super::forest::{Forest, Leaf, Node, Rule, RuleKind};
use super::walk::LANES;

impl<T: Number> Forest<T> {
    pub(super) fn build(draft: &Draft) -> Result<Self, SettingsError> {
        let mut forest = Self {
            nodes: Vec::with_capacity(draft.nodes.len()),
            rules: Vec::with_capacity(draft.nodes.len()),
            sets: draft.sets.iter().map(|set| set.iter().map(|v| T::from_f64(*v)).collect()).collect(),
            roots: Vec::with_capacity(draft.roots.len()),
            depths: Vec::new(),
            spans: Vec::new(),
            leaves: Vec::new(),
            values: Vec::new(),
            targets: draft.targets,
            base: draft.base.iter().map(|value| T::from_f64(*value)).collect(),
            aggregate: draft.aggregate,
            features: 1,
            is_plain: true,
        };
        let mut depths = Vec::with_capacity(draft.roots.len());
        let mut is_laid = vec![false; draft.nodes.len()];
        let mut weights: Vec<&[(u32, f64, u32)]> = Vec::with_capacity(draft.nodes.len());
        for root in &draft.roots {
            let place = forest.room(1, &mut weights)?;
            forest.roots.push(place);
            let mut waiting = vec![(*root, place, 0u32)];
            let mut deepest = 0;
            while let Some((at, place, depth)) = waiting.pop() {
                deepest = deepest.max(depth);
                let question = match &draft.nodes[at] {
                    DraftNode::Leaf(leaf) => {
                        weights[place as usize] = leaf;
                        continue;
                    }
                    DraftNode::Question(question) => question,
                };
                if std::mem::replace(&mut is_laid[at], true) {
                    let (tree, node) = draft.names[at];
                    return Err(SettingsError::Tree { tree, node, reason: "it is reached on two ways" });
                }
                let next = forest.room(2, &mut weights)?;
                let (yes, no) = forest.lay(question, place, next);
                // The "yes" child is laid next: its own children follow close by.
                waiting.push((question.no, no, depth + 1));
                waiting.push((question.yes, yes, depth + 1));
            }
            depths.push(deepest);
        }
        let lost = draft
            .nodes
            .iter()
            .zip(&is_laid)
            .position(|(node, laid)| matches!(node, DraftNode::Question(_)) && !laid);
        if let Some((tree, node)) = lost.and_then(|at| draft.names.get(at)) {
            let (tree, node) = (*tree, *node);
            return Err(SettingsError::Tree { tree, node, reason: "it is not reached from a root" });
        }
        forest.depths = depths.chunks(LANES).map(|group| group.iter().copied().max().unwrap_or(0)).collect();
        forest.hang(&weights);
        Ok(forest)
    }

    /// Makes room for leaves, to be turned into what they shall be.
    fn room(&mut self, count: usize, weights: &mut Vec<&[(u32, f64, u32)]>) -> Result<u32, SettingsError> {
        let first = self.nodes.len();
        let too_many = || SettingsError::value("nodes_nodeids", "there are too many nodes");
        for place in first..first + count {
            let next = u32::try_from(place).ok().ok_or_else(too_many)?;
            self.nodes.push(Node { threshold: T::INFINITY, feature: 0, next });
            self.rules.push(Rule { kind: RuleKind::Leaf, missing_is_yes: false });
            weights.push(&[]);
        }
        u32::try_from(first).ok().ok_or_else(too_many)
    }

    /// Lays a question down as `≤` where that says the same; gives the places of its children.
    fn lay(&mut self, question: &Question, place: u32, next: u32) -> (u32, u32) {
        let given = T::from_f64(question.threshold);
        let (kind, threshold, is_turned) = match question.mode {
            Mode::Leq => (RuleKind::Leq, given, false),
            Mode::Gt => (RuleKind::Leq, given, true),
            Mode::Lt => (RuleKind::Leq, given.below(), false),
            Mode::Gte => (RuleKind::Leq, given.below(), true),
            Mode::Eq => (RuleKind::Eq, given, false),
            Mode::Neq => (RuleKind::Eq, given, true),
            Mode::Member(set) => (RuleKind::Member(u32::try_from(set).unwrap_or(u32::MAX)), given, false),
        };
        // A missing value is unequal to everything, which for "unequal" is a yes.
        let missing_is_yes = question.missing_is_yes || question.mode == Mode::Neq;
        self.is_plain &= kind == RuleKind::Leq && !threshold.nan();
        self.nodes[place as usize] = Node { threshold, feature: question.feature, next };
        self.rules[place as usize] = Rule { kind, missing_is_yes: missing_is_yes != is_turned };
        self.features = self.features.max(question.feature as usize + 1);
        if is_turned { (next + 1, next) } else { (next, next + 1) }
    }

    fn hang(&mut self, weights: &[&[(u32, f64, u32)]]) {
        self.spans.push(0);
        for own in weights {
            let leaf = |(target, weight, source): &(u32, f64, u32)| Leaf {
                target: *target,
                weight: T::from_f64(*weight),
                source: *source,
            };
            self.leaves.extend(own.iter().map(leaf));
            self.spans.push(u32::try_from(self.leaves.len()).unwrap_or(u32::MAX));
        }
        self.index();
    }

    /// Replaces all weights, in the order of [`Forest::leaves`]; false when there are too few or
    /// too many. What a refit of the leaves ends in.
    pub fn refit(&mut self, weights: &[T]) -> bool {
        if weights.len() != self.leaves.len() {
            return false;
        }
        self.leaves.iter_mut().zip(weights).for_each(|(leaf, weight)| leaf.weight = *weight);
        self.index();
        true
    }

    /// Sums each node's weights, for the walk that has one target.
    pub(super) fn index(&mut self) {
        self.values.clear();
        if self.targets != 1 {
            return;
        }
        for span in self.spans.windows(2) {
            let own = &self.leaves[span[0] as usize..span[1] as usize];
            self.values.push(own.iter().fold(T::default(), |sum, leaf| sum + leaf.weight));
        }
    }
}
