//! Whose labels a run trains on, and what became of them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Sources of labels that a device may have rules for: the rules travel with the record of each run.
pub const MAX_SOURCE_RULES: usize = 16;
/// Sources that a record tells one by one; the rest are told together.
pub const MAX_TOLD_SOURCES: usize = 8;

/// What the labels of a source count for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceRule {
    /// Weight of its rows, from 0 (neither trained on nor held out) to 1.
    pub weight: f64,
    /// Share of a run's rows of the device that may be its, at most; 1 for no bound.
    pub max_share: f64,
}

impl Default for SourceRule {
    fn default() -> Self {
        Self { weight: 1.0, max_share: 1.0 }
    }
}

/// What labels count for, by who gave them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceRules {
    /// Of sources that are not named.
    pub others: SourceRule,
    /// By name.
    pub named: BTreeMap<String, SourceRule>,
}

impl SourceRules {
    /// The rule of a source.
    #[must_use]
    pub fn of(&self, source: &str) -> SourceRule {
        self.named.get(source).copied().unwrap_or(self.others)
    }

    /// Whether all labels count alike.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Which labelled rows a run was given, and which were left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RowsRecord {
    /// By source, the one with most rows first; those beyond [`MAX_TOLD_SOURCES`] together, under no name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRows>,
    /// Rows of the training set that are kept of older times, the classes alike.
    #[serde(skip_serializing_if = "is_none")]
    pub older: u64,
    /// Left out: their source has weight nought.
    #[serde(skip_serializing_if = "is_none")]
    pub weightless: u64,
    /// Left out: their sources contradict each other.
    #[serde(skip_serializing_if = "is_none")]
    pub contradicted: u64,
    /// Left out: the same features stand there with another label.
    #[serde(skip_serializing_if = "is_none")]
    pub twins: u64,
    /// Left out: their source was set apart.
    #[serde(skip_serializing_if = "is_none")]
    pub distrusted: u64,
    /// Left out: their source has more than its share.
    #[serde(skip_serializing_if = "is_none")]
    pub over_share: u64,
    /// Left out: held out they would judge, and there are enough rows of sources that weigh more.
    #[serde(skip_serializing_if = "is_none")]
    pub unjudged: u64,
    /// Left out: incomplete, or labelled with what the model does not answer.
    #[serde(skip_serializing_if = "is_none")]
    pub unusable: u64,
    /// Sources that were set apart for this run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_apart: Vec<SetApart>,
}

/// Rows of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceRows {
    /// Who labelled them.
    pub source: String,
    /// Trained on.
    pub trained: u64,
    /// Held out.
    pub held_out: u64,
}

/// A source whose labels disagree with what was answered more than those of others do, under like conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetApart {
    /// Which.
    pub source: String,
    /// Its labels that could be compared.
    pub labels: u64,
    /// By how much its share of disagreements is above the others'.
    pub difference: f64,
    /// That in standard errors.
    pub z: f64,
}

impl RowsRecord {
    /// Rows that were left out, with the reason.
    #[must_use]
    pub fn left_out(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("of sources without weight", self.weightless),
            ("contradicted by another source", self.contradicted),
            ("alike with other labels", self.twins),
            ("of sources set apart", self.distrusted),
            ("beyond their source's share", self.over_share),
            ("too light to judge by", self.unjudged),
            ("of no use to the model", self.unusable),
        ];
        all.into_iter().filter(|(_, rows)| *rows > 0).collect()
    }
}

impl fmt::Display for RowsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |source: &str| if source.is_empty() { "others".to_owned() } else { source.to_owned() };
        let sources: Vec<String> = self
            .sources
            .iter()
            .map(|one| format!("{} {} + {} held out", of(&one.source), one.trained, one.held_out))
            .collect();
        write!(f, "rows by source: {}", sources.join(", "))?;
        if self.older > 0 {
            write!(f, "; {} of older times", self.older)?;
        }
        for (reason, rows) in self.left_out() {
            write!(f, "; left out {rows} {reason}")?;
        }
        for SetApart { source, labels, difference, z } in &self.set_apart {
            let points = difference * 100.0;
            write!(
                f,
                "; `{source}` is set apart: its {labels} labels disagree by {points:.0} points more than others' (z = {z:.1})"
            )?;
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_none(rows: &u64) -> bool {
    *rows == 0
}
