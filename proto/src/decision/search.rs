//! Which recipes a run tried before it trained by one of them.

use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// A score for each rung that it came to, the lower the better; a run that went out of bounds has none.
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
            let scores: Vec<String> = tried.scores.iter().map(|score| format!("{score:.4}")).collect();
            let sign = if best == Some(place) { "*" } else { "" };
            let scores = if scores.is_empty() { "went out of bounds".to_owned() } else { scores.join(" → ") };
            write!(f, "; {}@{}{sign} {scores}", tried.scope, tried.learning_rate)?;
        }
        Ok(())
    }
}
