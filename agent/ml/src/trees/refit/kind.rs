//! What can be told about an ensemble from its settings, and what must be said.

use crate::number::Number;
use crate::post::PostTransform;

use super::super::classes::Classes;
use super::super::forest::Forest;
use super::super::{Aggregate, TreeEnsemble, Trees};
use super::leaves::Tree;
use super::{Boosting, Ensemble, Objective, RefitError, RefitSettings, boosted};

/// How far a leaf's class weights may be from a share of one to count as frequencies.
const SHARE_TOLERANCE: f64 = 1e-3;

impl TreeEnsemble {
    /// Tells a forest from boosted trees, and holds against the file what was said.
    pub(super) fn kind<T: Number>(
        &self,
        forest: &Forest<T>,
        trees: &[Tree],
        said: Option<Ensemble>,
    ) -> Result<Ensemble, RefitError> {
        let against = |reason| RefitError::Contradiction { name: "ensemble", reason };
        if matches!(self.aggregate(), Aggregate::Min | Aggregate::Max) {
            return Err(RefitError::Layout { reason: "it gives the least or the largest of its trees" });
        }
        let is_average = self.aggregate() == Aggregate::Average;
        let has_link = matches!(self.post, PostTransform::Logistic | PostTransform::Softmax);
        match said {
            Some(Ensemble::Boosted(_)) if is_average => Err(against("its trees are averaged")),
            Some(Ensemble::Boosted(_)) if self.holds_shares(forest, trees) => {
                Err(against("its leaves hold class frequencies"))
            }
            Some(Ensemble::Forest) if self.classes.is_some() && has_link => {
                Err(against("its scores are made probabilities"))
            }
            Some(said) => Ok(said),
            None if is_average || self.holds_shares(forest, trees) => Ok(Ensemble::Forest),
            None if has_link => Err(RefitError::NeedsShrinkage),
            None => Err(RefitError::Ambiguous),
        }
    }

    /// Whether every leaf holds class frequencies, divided by the number of trees.
    fn holds_shares<T: Number>(&self, forest: &Forest<T>, trees: &[Tree]) -> bool {
        let Some(classes) = &self.classes else { return false };
        if self.post != PostTransform::None || !forest.base.is_empty() {
            return false;
        }
        let share = 1.0 / trees.len() as f64;
        let most = share * (1.0 + SHARE_TOLERANCE);
        trees.iter().flat_map(|tree| &tree.leaves).all(|place| {
            let own = forest.own(*place);
            let sum: f64 = own.iter().map(|leaf| leaf.weight.to_f64()).sum();
            let is_positive = own.iter().all(|leaf| leaf.weight.to_f64() >= 0.0);
            let is_share =
                if classes.is_single() { sum <= most } else { (sum / share - 1.0).abs() <= SHARE_TOLERANCE };
            is_positive && is_share
        })
    }

    pub(super) fn plan<T: Number>(
        &self,
        forest: &Forest<T>,
        boosting: Boosting,
        settings: &RefitSettings,
    ) -> Result<boosted::Plan, RefitError> {
        let range = |name, value: f64, is_good, expected| match is_good {
            true => Ok(()),
            false => Err(RefitError::Setting { name, value, expected }),
        };
        let (shrinkage, lambda) = (boosting.shrinkage, boosting.lambda_l2);
        range("shrinkage", shrinkage, shrinkage > 0.0 && shrinkage <= 1.0, "above 0, at most 1")?;
        range("lambda_l2", lambda, (0.0..f64::INFINITY).contains(&lambda), "not negative")?;
        let objective = self.objective(forest, settings.objective)?;
        Ok(boosted::Plan { boosting, objective, margin: self.margin(), bases: self.bases(forest)? })
    }

    /// The target that holds the one margin of two classes.
    pub(super) fn margin(&self) -> Option<usize> {
        self.classes.as_ref().filter(|classes| classes.is_single()).map(Classes::spoken)
    }

    fn objective<T>(&self, forest: &Forest<T>, said: Option<Objective>) -> Result<Objective, RefitError> {
        let against = |reason| Err(RefitError::Contradiction { name: "objective", reason });
        let is_single = forest.targets == 1 || self.margin().is_some();
        let told = match (&self.classes, self.post) {
            (_, PostTransform::Probit | PostTransform::SoftmaxZero) => {
                return Err(RefitError::Layout { reason: "its scores go through Probit or SoftmaxZero" });
            }
            (Some(_), PostTransform::Logistic) if !is_single => {
                return Err(RefitError::Layout { reason: "each class has a margin of its own" });
            }
            (Some(_), _) if is_single => Some(Objective::Logistic),
            (Some(_), _) => Some(Objective::Softmax),
            (None, PostTransform::None) => None,
            (None, PostTransform::Logistic) => Some(Objective::Logistic),
            (None, PostTransform::Softmax) => Some(Objective::Softmax),
        };
        match (said, told) {
            (Some(said), Some(told)) if said != told => {
                against("its scores are made probabilities otherwise")
            }
            (Some(Objective::Logistic), None) if !is_single => against("it has several targets"),
            (Some(Objective::Softmax), None) if is_single => against("it has one target"),
            (said, told) => Ok(said.or(told).unwrap_or(Objective::Squares)),
        }
    }

    /// What is added to the trees of each target, where the kernel does add it.
    pub(super) fn bases<T: Number>(&self, forest: &Forest<T>) -> Result<Vec<f64>, RefitError> {
        let targets = forest.targets;
        let mut bases = vec![0.0; targets];
        let is_odd = match (&self.classes, forest.base.len()) {
            (_, 0) => false,
            (None, count) => count != targets,
            (Some(_), _) if targets > 2 => false,
            // Of two classes the kernel, as onnxruntime, adds the base only in this layout.
            (Some(_), count) => self.margin() != Some(0) || count != 1,
        };
        if is_odd {
            return Err(RefitError::Layout { reason: "its base values do not go with its targets" });
        }
        bases.iter_mut().zip(&forest.base).for_each(|(base, given)| *base = given.to_f64());
        Ok(bases)
    }

    fn aggregate(&self) -> Aggregate {
        match &self.trees {
            Trees::Single(forest) => forest.aggregate,
            Trees::Double(forest) => forest.aggregate,
        }
    }
}
