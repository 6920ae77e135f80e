//! How well a model shall do where it serves.

use serde::{Deserialize, Serialize};

/// What a device holds labelled answers against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Share of labelled answers that are right, above 0 and below 1: where it is surely lower, a device trains.
    pub accuracy: f64,
}

impl Goal {
    pub(super) fn fault(self) -> Option<String> {
        let Self { accuracy } = self;
        let is_share = accuracy > 0.0 && accuracy < 1.0;
        (!is_share).then(|| format!("goal of accuracy {accuracy}, expected a share above 0 and below 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn a_goal_is_a_share() {
        let text = include_str!("../../testdata/v1/model.toml");
        assert_eq!(Manifest::parse(text).unwrap().goal, None);
        for (accuracy, is_taken) in
            [("0.9", true), ("0.0", false), ("1.0", false), ("90.0", false), ("nan", false)]
        {
            let parsed = Manifest::parse(&format!("{text}\n[goal]\naccuracy = {accuracy}\n"));
            assert_eq!(parsed.is_ok(), is_taken, "{accuracy}");
            if let Ok(manifest) = parsed {
                assert_eq!(manifest.goal, Some(Goal { accuracy: 0.9 }));
                assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
            }
        }
    }
}
