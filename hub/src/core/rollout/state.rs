//! The state of one device in a rollout, read from its own report.

use super::Assigned;
use super::plan::Sight;
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{Rejection, RollbackReason, SlotEnd, SlotState, Source};
use shoal_proto::id::Digest;
use std::fmt;
use std::time::Duration;

/// What every device of a rollout is sorted into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Its wave has not begun, or it has not taken the assignment up.
    Pending,
    /// It fetches, checks or tries the version; `None`: taken up, nothing staged yet.
    InProgress(Option<SlotState>),
    /// It confirmed the version after its own trial.
    Succeeded,
    /// It tried the version and took it back.
    Failed(RollbackReason),
    /// It never served the version.
    Rejected(Rejection),
    /// No word from it: neither failure nor success.
    Unreachable { silent_s: u64 },
    /// Reachable, but the wave's deadline passed without a verdict.
    NotEnoughEvidence,
}

impl DeviceState {
    /// One word, as the API says it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress(_) => "in_progress",
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
            Self::Unreachable { .. } => "unreachable",
            Self::NotEnoughEvidence => "not_enough_evidence",
        }
    }

    /// Whether the device has given its verdict.
    #[must_use]
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Rejected(_))
    }
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("not taken up yet"),
            Self::InProgress(None) => f.write_str("taken up"),
            Self::InProgress(Some(SlotState::Staged)) => f.write_str("being fetched and admitted"),
            Self::InProgress(Some(SlotState::Shadow)) => f.write_str("in the shadow of the served version"),
            Self::InProgress(Some(SlotState::OnTrial)) => f.write_str("on trial"),
            Self::Succeeded => f.write_str("confirmed"),
            Self::Failed(reason) => reason.fmt(f),
            Self::Rejected(reason) => reason.fmt(f),
            Self::Unreachable { silent_s } => write!(f, "silent for {silent_s} s"),
            Self::NotEnoughEvidence => f.write_str("no verdict before the wave's deadline"),
        }
    }
}

/// A device's state with the labels behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it stands.
    pub state: DeviceState,
    /// Labels, and right answers among them, while the version was on trial there.
    pub trial_labels: (u64, u64),
}

impl From<DeviceState> for Seen {
    fn from(state: DeviceState) -> Self {
        Self { state, trial_labels: (0, 0) }
    }
}

/// Sorts one device. `verdict`: what it said before, since its slot may have gone on to other things;
/// `overdue`: its wave's deadline has passed.
#[must_use]
pub fn sort(
    version: Digest,
    assigned: Option<Assigned>,
    verdict: Option<&Seen>,
    sight: &Sight<'_>,
    unreachable_after: Duration,
    overdue: bool,
) -> Seen {
    let Some(Assigned { generation, .. }) = assigned else { return DeviceState::Pending.into() };
    if let Some(seen) = ended(sight, version, generation).or_else(|| verdict.cloned()) {
        return seen;
    }
    let open = match sight.slot {
        None => DeviceState::Pending,
        Some(slot) => {
            let candidate = slot.candidate.as_ref().filter(|it| is_ours(&it.source, generation));
            if let Some(candidate) = candidate {
                DeviceState::InProgress(Some(candidate.state))
            } else if slot.applied_generation < generation {
                DeviceState::Pending
            } else if slot.champion == version || slot.previous == Some(version) || sight.descends {
                return DeviceState::Succeeded.into();
            } else {
                DeviceState::InProgress(None)
            }
        }
    };
    if sight.silent > unreachable_after {
        return DeviceState::Unreachable { silent_s: sight.silent.as_secs() }.into();
    }
    if overdue { DeviceState::NotEnoughEvidence.into() } else { open.into() }
}

fn is_ours(source: &Source, expected: u64) -> bool {
    matches!(source, Source::Hub { generation, .. } if *generation == expected)
}

/// The verdict in a slot's last end, where it is about this generation and version: a hub that was restored may
/// give a generation again that a device knows from before.
fn ended(sight: &Sight<'_>, version: Digest, generation: u64) -> Option<Seen> {
    let end = sight.slot?.last_end.as_ref()?;
    if end.version != version || !is_ours(&end.source, generation) {
        return None;
    }
    let state = match &end.end {
        SlotEnd::Confirmed => DeviceState::Succeeded,
        SlotEnd::RolledBack(reason) => DeviceState::Failed(reason.clone()),
        SlotEnd::Rejected(reason) => DeviceState::Rejected(reason.clone()),
    };
    Some(Seen { state, trial_labels: end.trial_labels })
}
