//! How parameters move.

use shoal_grad::kernel::update::{adapt, descend, roll};

use crate::recipe::{Optimizer, Recipe};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// What the optimiser remembers of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Memory {
    /// Velocity, or the running mean of gradients; empty for descent without momentum.
    pub(crate) first: Vec<f32>,
    /// The running mean of squares, of Adam.
    pub(crate) second: Vec<f32>,
    /// Where it began; empty when nothing pulls it back.
    pub(crate) start: Vec<f32>,
    /// How hard each element is pulled back, of elastic weight consolidation; empty for one everywhere.
    pub(crate) stiffness: Vec<f32>,
}

/// Numbers of a step that are the same for all parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub(crate) learning_rate: f64,
    /// Steps made, this one among them.
    pub(crate) step: u64,
    /// Gradients are multiplied by this: clipping by their common length.
    pub(crate) shrink: f64,
}

impl Memory {
    pub(crate) fn new(values: &[f32], recipe: &Recipe) -> Self {
        let noughts = || vec![0.0; values.len()];
        let (first, second) = match recipe.optimizer {
            Optimizer::Sgd { momentum: 0.0 } => (Vec::new(), Vec::new()),
            Optimizer::Sgd { .. } => (noughts(), Vec::new()),
            Optimizer::Adam | Optimizer::AdamW { .. } => (noughts(), noughts()),
        };
        let is_pulled = recipe.l2_to_start > 0.0 || recipe.ewc > 0.0;
        let start = if is_pulled { values.to_vec() } else { Vec::new() };
        Self { first, second, start, stiffness: Vec::new() }
    }

    /// Numbers that it keeps for a parameter of so many elements.
    pub(crate) fn elements(count: usize, recipe: &Recipe) -> usize {
        let kept = match recipe.optimizer {
            Optimizer::Sgd { momentum: 0.0 } => 0,
            Optimizer::Sgd { .. } => 1,
            Optimizer::Adam | Optimizer::AdamW { .. } => 2,
        };
        let pulled =
            usize::from(recipe.l2_to_start > 0.0 || recipe.ewc > 0.0) + usize::from(recipe.ewc > 0.0);
        count * (kept + pulled)
    }

    /// Makes a step.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    pub(crate) fn step(&mut self, values: &mut [f32], gradient: &[f32], recipe: &Recipe, rates: Rates) {
        let exponent = i32::try_from(rates.step).unwrap_or(i32::MAX);
        let (rate, shrink) = (rates.learning_rate as f32, rates.shrink as f32);
        let pulled: Vec<f32>;
        let gradient = if self.start.is_empty() {
            gradient
        } else {
            pulled = self.pulled(values, gradient, recipe, shrink);
            &pulled
        };
        let shrink = if self.start.is_empty() { shrink } else { 1.0 };
        match recipe.optimizer {
            Optimizer::Sgd { momentum: 0.0 } => descend(values, gradient, rate * shrink),
            Optimizer::Sgd { momentum } => {
                roll(values, gradient, &mut self.first, [rate, shrink, momentum as f32]);
            }
            Optimizer::Adam | Optimizer::AdamW { .. } => {
                let decay = match recipe.optimizer {
                    Optimizer::AdamW { weight_decay } => weight_decay,
                    _ => 0.0,
                };
                let root = (1.0 - BETA_2.powi(exponent)).sqrt();
                let scale = rates.learning_rate * root / (1.0 - BETA_1.powi(exponent));
                let kept = 1.0 - rates.learning_rate * decay;
                // ε beside the uncorrected root: the same number, one division less.
                let rates = [shrink, scale as f32, (EPSILON * root) as f32, kept as f32];
                adapt(values, gradient, &mut self.first, &mut self.second, [BETA_1, BETA_2], rates);
            }
        }
    }

    /// The gradient with the pull to the start.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    fn pulled(&self, values: &[f32], gradient: &[f32], recipe: &Recipe, shrink: f32) -> Vec<f32> {
        let (l2, ewc) = (recipe.l2_to_start as f32, recipe.ewc as f32);
        let stiffness = self.stiffness.iter().map(|s| l2 + ewc * s).chain(std::iter::repeat(l2));
        let apart = values.iter().zip(&self.start).map(|(value, start)| value - start);
        gradient
            .iter()
            .zip(apart.zip(stiffness))
            .map(|(g, (apart, pull))| g * shrink + pull * apart)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand() {
        let recipe = |optimizer, l2_to_start| Recipe {
            optimizer,
            l2_to_start,
            learning_rate: 0.1,
            ..Recipe::default()
        };
        let sgd = Optimizer::Sgd { momentum: 0.5 };
        // v: 2, then 0.5·2 + 2 = 3.
        for (recipe, shrink, expected) in [
            (recipe(sgd, 0.0), 1.0, [0.8, 0.5]),
            (recipe(Optimizer::Sgd { momentum: 0.0 }, 1.0), 1.0, [0.8, 0.62]),
            (recipe(Optimizer::Sgd { momentum: 0.0 }, 0.0), 0.5, [0.9, 0.8]),
            (recipe(Optimizer::Adam, 0.0), 1.0, [0.9, 0.8]),
            (recipe(Optimizer::AdamW { weight_decay: 0.1 }, 0.0), 1.0, [0.89, 0.7811]),
        ] {
            let mut values = vec![1.0];
            let mut memory = Memory::new(&values, &recipe);
            for (step, expected) in (1..).zip(expected) {
                let rates = Rates { learning_rate: recipe.learning_rate, step, shrink };
                memory.step(&mut values, &[2.0], &recipe, rates);
                assert!((values[0] - expected).abs() < 1e-6, "{recipe:?} {step}: {values:?}");
            }
        }
    }

    #[test]
    fn what_is_stiff_is_pulled_back_harder() {
        let recipe = Recipe {
            optimizer: Optimizer::Sgd { momentum: 0.0 },
            ewc: 1.0,
            learning_rate: 0.5,
            ..Recipe::default()
        };
        let mut memory = Memory::new(&[0.0, 0.0], &recipe);
        memory.stiffness = vec![0.0, 1.0];
        let mut values = vec![1.0, 1.0];
        memory.step(&mut values, &[0.0, 0.0], &recipe, Rates { learning_rate: 0.5, step: 1, shrink: 1.0 });
        assert_eq!(values, [1.0, 0.5]);
    }
}
