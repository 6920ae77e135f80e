//! How parameters move, on plain numbers: the same on every build.

use crate::recipe::{Optimizer, Recipe};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// One parameter with what the optimiser remembers of it.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) values: Vec<f32>,
    start: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moved {
    pub(crate) fn new(values: Vec<f32>, optimizer: Optimizer) -> Self {
        let zeros = vec![0.0; values.len()];
        let second = if optimizer == Optimizer::Adam { zeros.clone() } else { Vec::new() };
        Self { start: values.clone(), values, first: zeros, second }
    }

    /// Makes step number `step`, counted from one.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32; only the arithmetic is f64")]
    pub(crate) fn step(&mut self, gradient: &[f32], recipe: &Recipe, step: u64) {
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let (bias_1, bias_2) = (1.0 - BETA_1.powi(exponent), 1.0 - BETA_2.powi(exponent));
        for (at, slope) in gradient.iter().enumerate() {
            let value = f64::from(self.values[at]);
            let pull = recipe.l2_to_start * (value - f64::from(self.start[at]));
            let slope = f64::from(*slope) + pull;
            let change = match recipe.optimizer {
                Optimizer::Sgd { momentum } => {
                    let velocity = momentum * f64::from(self.first[at]) + slope;
                    self.first[at] = velocity as f32;
                    velocity
                }
                Optimizer::Adam => {
                    let first = BETA_1 * f64::from(self.first[at]) + (1.0 - BETA_1) * slope;
                    let second = BETA_2 * f64::from(self.second[at]) + (1.0 - BETA_2) * slope * slope;
                    (self.first[at], self.second[at]) = (first as f32, second as f32);
                    (first / bias_1) / ((second / bias_2).sqrt() + EPSILON)
                }
            };
            self.values[at] = (value - recipe.learning_rate * change) as f32;
        }
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
        for (recipe, expected) in [
            (recipe(sgd, 0.0), [0.8, 0.5]),
            (recipe(Optimizer::Sgd { momentum: 0.0 }, 1.0), [0.8, 0.62]),
            (recipe(Optimizer::Adam, 0.0), [0.9, 0.8]),
        ] {
            let mut moved = Moved::new(vec![1.0], recipe.optimizer);
            for (step, expected) in (1..).zip(expected) {
                moved.step(&[2.0], &recipe, step);
                assert!((moved.values[0] - expected).abs() < 1e-6, "{recipe:?} {step}: {:?}", moved.values);
            }
        }
    }
}
