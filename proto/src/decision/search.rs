//! Which recipes a run tried before it trained by one of them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The score of a recipe that fails or goes out of bounds: a number, since JSON knows no infinity.
pub const OUT_OF_BOUNDS: f64 = 1e9;

/// A search by successive halving: every recipe is trained for some steps, the better half for twice as many, and
/// so on; all are scored on the newest of the training rows, which they were not trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// Steps of the first rung.
    pub steps: u64,
    /// Rows that they were scored on.
    pub rows: u64,
    /// The parent's score on them: mean log-loss of a classifier, mean squared error of a regression.
    pub parent: f64,
    /// What was tried, the cheapest first.
    pub tried: Vec<Tried>,
}

/// One recipe of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// What moves.
    pub scope: String,
    /// Step size.
    pub learning_rate: f64,
    /// A score for each rung that it came to, the lower the better, at most [`OUT_OF_BOUNDS`].
    pub scores: Vec<f64>,
}

impl Searched {
    /// The recipe that came farthest, and of those on one rung the best, the cheapest where they are alike.
    #[must_use]
    pub fn best(&self) -> Option<(usize, f64)> {
        let far = self.tried.iter().map(|tried| tried.scores.len()).max().filter(|rungs| *rungs > 0)?;
        let there = self.tried.iter().enumerate().filter(|(_, tried)| tried.scores.len() == far);
        there
            .filter_map(|(place, tried)| tried.scores.last().map(|score| (place, *score)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "search on {} rows, the parent at {:.4}", self.rows, self.parent)?;
        let best = self.best().map(|(place, _)| place);
        for (place, tried) in self.tried.iter().enumerate() {
            let told = |score: &f64| {
                if *score < OUT_OF_BOUNDS { format!("{score:.4}") } else { "fails".to_owned() }
            };
            let scores: Vec<String> = tried.scores.iter().map(told).collect();
            let sign = if best == Some(place) { "*" } else { "" };
            write!(f, "; {}@{}{sign} {}", tried.scope, tried.learning_rate, scores.join(" → "))?;
        }
        Ok(())
    }
}
