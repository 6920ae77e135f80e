//! Which rows a step sees.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::recipe::Recipe;

/// The order of rows, the same for the same seed wherever a run begins or goes on.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    rows: usize,
    /// The first replayed row.
    replay_from: usize,
    seed: u64,
    batch: usize,
    /// Replayed rows of a batch, where their share is fixed.
    replayed: usize,
    /// The pass that `order` is of.
    pass: Option<u64>,
    order: Vec<usize>,
}

impl Order {
    pub(crate) fn new(rows: usize, replay_from: usize, recipe: &Recipe) -> Self {
        let has_both = replay_from > 0 && replay_from < rows;
        let batch = recipe.batch.min(rows);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a batch")]
        let share = (batch as f64 * recipe.replay_share).round() as usize;
        let is_fixed = recipe.replay_share > 0.0 && has_both && batch > 1;
        let replayed = if is_fixed { share.clamp(1, batch - 1) } else { 0 };
        Self { rows, replay_from, seed: recipe.seed, batch, replayed, pass: None, order: Vec::new() }
    }

    /// Rows of a step at most.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Steps of a pass.
    pub(crate) fn steps(&self) -> u64 {
        let passed = if self.replayed > 0 { self.replay_from } else { self.rows };
        passed.div_ceil(self.batch - self.replayed) as u64
    }

    /// Rows of a step, counted from nought.
    pub(crate) fn rows_of(&mut self, step: u64) -> &[usize] {
        let (pass, within) = (step / self.steps(), step % self.steps());
        if self.pass != Some(pass) {
            self.shuffle(pass);
        }
        let within = usize::try_from(within).expect("a pass has fewer steps than rows");
        let start = within * self.batch;
        &self.order[start..(start + self.batch).min(self.order.len())]
    }

    fn shuffle(&mut self, pass: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(pass + FIRST_PASS);
        self.pass = Some(pass);
        if self.replayed == 0 {
            self.order = (0..self.rows).collect();
            self.order.shuffle(&mut random);
            return;
        }
        let mut recent: Vec<usize> = (0..self.replay_from).collect();
        let mut replay: Vec<usize> = (self.replay_from..self.rows).collect();
        recent.shuffle(&mut random);
        replay.shuffle(&mut random);
        let mut again = replay.iter().cycle();
        self.order.clear();
        for rows in recent.chunks(self.batch - self.replayed) {
            self.order.extend(rows);
            self.order.extend(again.by_ref().take(self.replayed));
        }
    }
}

/// Streams below it are for first weights.
const FIRST_PASS: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_seen_once_a_pass() {
        let recipe = Recipe { batch: 4, ..Recipe::default() };
        let mut order = Order::new(10, 10, &recipe);
        assert_eq!(order.steps(), 3);
        let pass = |order: &mut Order, pass: u64| -> Vec<usize> {
            (0..3).flat_map(|step| order.rows_of(pass * 3 + step).to_vec()).collect()
        };
        let (first, second) = (pass(&mut order, 0), pass(&mut order, 1));
        assert_ne!(first, second);
        assert_eq!(pass(&mut order, 0), first, "wherever it begins");
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_fixed_share_of_each_batch_is_replayed() {
        let recipe = Recipe { batch: 8, replay_share: 0.25, ..Recipe::default() };
        let mut order = Order::new(23, 20, &recipe);
        assert_eq!(order.steps(), 4);
        for step in 0..4 {
            let replayed = order.rows_of(step).iter().filter(|row| **row >= 20).count();
            assert_eq!(replayed, 2, "{step}");
        }
    }
}
