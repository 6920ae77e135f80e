//! How candidates are judged on a device.

use serde::{Deserialize, Serialize};

/// How a candidate is judged: in the shadow of the version that serves, and on trial, where it serves itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrialPolicy {
    /// Requests that it must answer.
    pub min_requests: u64,
    /// Labels that must have come for its answers; zero where labels are rare.
    pub min_labels: u64,
    /// Serving time after which it is confirmed with what there is, in seconds.
    pub max_s: u64,
    /// Failed requests, as a share, that end it.
    pub max_failure_share: f64,
    /// How sure it must be that its labelled accuracy is worse than before, as a one-sided normal quantile: the
    /// chance that a trial of a version as good as the one before ever ends by it is the tail beyond, 1 % at 2.33,
    /// however often one looks. The same level holds for labels that come in the shadow.
    pub max_z: f64,
    /// Live rows that it answers unheard before it serves; nought for no shadow.
    #[serde(skip_serializing_if = "is_usual_shadow")]
    pub shadow_requests: u64,
    /// Time after which the shadow is over with what there is, in seconds.
    #[serde(skip_serializing_if = "is_usual_shadow_time")]
    pub shadow_max_s: u64,
    /// Share of answers in the shadow that may name another class than the served version's: one for all, since a
    /// version that is to mend answers must give others.
    #[serde(skip_serializing_if = "is_whole")]
    pub shadow_max_differing: f64,
}

const SHADOW_REQUESTS: u64 = 50;
const SHADOW_MAX_S: u64 = 600;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_usual_shadow(requests: &u64) -> bool {
    *requests == SHADOW_REQUESTS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_usual_shadow_time(seconds: &u64) -> bool {
    *seconds == SHADOW_MAX_S
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_whole(share: &f64) -> bool {
    *share >= 1.0
}

impl Default for TrialPolicy {
    fn default() -> Self {
        Self {
            min_requests: 100,
            min_labels: 20,
            max_s: 3_600,
            max_failure_share: 0.01,
            max_z: 2.33,
            shadow_requests: SHADOW_REQUESTS,
            shadow_max_s: SHADOW_MAX_S,
            shadow_max_differing: 1.0,
        }
    }
}
