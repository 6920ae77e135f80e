//! A model's slot: champion, previous version, and one candidate of either kind, pushed by the hub
//! or born here: staged → on trial → confirmed | rolled back.

use super::shadow::Shadow;
use super::trial::Trial;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{SlotEnd, SlotState, Source};
use shoal_proto::fact::{CandidateReport, EndReport, SlotReport, TrialPolicy};
use shoal_proto::id::Digest;
use shoal_proto::time::WallMs;
use std::time::Duration;

/// A slot as it survives restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// What serves when nothing is on trial.
    pub champion: Digest,
    /// What would serve after a rollback.
    pub previous: Option<Digest>,
    /// What wants to serve.
    pub candidate: Option<Candidate>,
    /// The hub's intent that was last taken up.
    pub applied_generation: u64,
    /// How the last candidate ended.
    pub last_end: Option<EndReport>,
    /// How many versions were born here.
    pub born: u32,
    /// Labels since the last training run.
    pub labels_since_run: u64,
    /// Runs in a row that the gate refused: each doubles the labels that the next one waits for.
    pub refused_in_a_row: u32,
    /// Training runs that ended.
    #[serde(default)]
    pub runs: u64,
    /// Running time of the agent since the last one ended, or since the model is here, up to the last note.
    #[serde(default)]
    pub since_run: Duration,
}

/// What wants to serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which version.
    pub version: Digest,
    /// Who wants it.
    pub source: Source,
    /// Where it stands.
    pub state: SlotState,
    /// How it is judged.
    pub policy: TrialPolicy,
    /// A way back: confirmed as soon as it serves.
    pub revert: bool,
    /// What it has shown in the shadow.
    #[serde(default)]
    pub shadow: Shadow,
    /// What it has shown on trial.
    pub trial: Trial,
}

impl Candidate {
    /// One that is being fetched and admitted.
    #[must_use]
    pub fn staged(version: Digest, source: Source, policy: TrialPolicy, revert: bool) -> Self {
        let (state, shadow, trial) = (SlotState::Staged, Shadow::default(), Trial::default());
        Self { version, source, state, policy, revert, shadow, trial }
    }
}

impl Slot {
    /// A slot with its first champion.
    #[must_use]
    pub const fn new(champion: Digest) -> Self {
        Self {
            champion,
            previous: None,
            candidate: None,
            applied_generation: 0,
            last_end: None,
            born: 0,
            labels_since_run: 0,
            refused_in_a_row: 0,
            runs: 0,
            since_run: Duration::ZERO,
        }
    }

    /// The version that answers requests.
    #[must_use]
    pub fn serving(&self) -> Digest {
        self.on_trial().map_or(self.champion, |candidate| candidate.version)
    }

    /// The candidate, where it serves.
    #[must_use]
    pub fn on_trial(&self) -> Option<&Candidate> {
        self.candidate.as_ref().filter(|candidate| candidate.state == SlotState::OnTrial)
    }

    /// The candidate, where it serves, to count on.
    pub fn on_trial_mut(&mut self) -> Option<&mut Candidate> {
        self.candidate.as_mut().filter(|candidate| candidate.state == SlotState::OnTrial)
    }

    /// The candidate, where it stands in the shadow.
    #[must_use]
    pub fn in_shadow(&self) -> Option<&Candidate> {
        self.candidate.as_ref().filter(|candidate| candidate.state == SlotState::Shadow)
    }

    /// The candidate in the shadow, to count on.
    pub fn in_shadow_mut(&mut self) -> Option<&mut Candidate> {
        self.candidate.as_mut().filter(|candidate| candidate.state == SlotState::Shadow)
    }

    /// Every version that must stay on disk.
    pub fn versions(&self) -> impl Iterator<Item = Digest> + '_ {
        let candidate = self.candidate.as_ref().map(|candidate| candidate.version);
        [Some(self.champion), self.previous, candidate].into_iter().flatten()
    }

    /// Ends the candidate. Confirmed: it becomes the champion and the champion the previous version.
    pub fn end(&mut self, end: SlotEnd, at: WallMs) -> Option<Candidate> {
        let candidate = self.candidate.take()?;
        if end == SlotEnd::Confirmed && candidate.version != self.champion {
            self.previous = Some(std::mem::replace(&mut self.champion, candidate.version));
            self.refused_in_a_row = 0;
        }
        self.last_end = Some(EndReport {
            version: candidate.version,
            source: candidate.source.clone(),
            end,
            at,
            trial_labels: candidate.trial.labels,
            shadow: Some(candidate.shadow.seen).filter(|seen| seen.rows > 0),
        });
        Some(candidate)
    }

    /// What the hub sees.
    #[must_use]
    pub fn report(&self) -> SlotReport {
        SlotReport {
            applied_generation: self.applied_generation,
            champion: self.champion,
            previous: self.previous,
            candidate: self.candidate.as_ref().map(|candidate| CandidateReport {
                version: candidate.version,
                state: candidate.state,
                source: candidate.source.clone(),
            }),
            last_end: self.last_end.clone(),
        }
    }
}
