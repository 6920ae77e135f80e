//! Why a request is refused: the same value is logged, answered and asserted on.

use serde::Serialize;
use shoal_proto::id::{DeviceId, ModelName, RolloutId};

/// A typed "no" to an operator.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No such device.
    #[error("device `{device}` is not known")]
    UnknownDevice { device: DeviceId },
    /// No such model.
    #[error("model `{model}` has no version here")]
    UnknownModel { model: ModelName },
    /// No version by this name, digest or prefix.
    #[error("version `{version}` is not in the registry")]
    UnknownVersion { version: String },
    /// A prefix or name that fits several versions.
    #[error("version `{version}` fits {count} versions")]
    AmbiguousVersion { version: String, count: usize },
    /// No such rollout.
    #[error("rollout `{rollout}` is not known")]
    UnknownRollout { rollout: RolloutId },
    /// No such command.
    #[error("device `{device}` has no command {id}, or its place was given to a later one")]
    UnknownCommand { device: DeviceId, id: u64 },
    /// The version belongs to another model.
    #[error("version `{version}` is one of model `{found}`, not `{expected}`")]
    OtherModel { version: String, found: ModelName, expected: ModelName },
    /// It must not serve.
    #[error("version `{version}` is condemned: {reason}")]
    Condemned { version: String, reason: String },
    /// Nobody to move it to.
    #[error("no device has a slot for model `{model}` and the tags asked for")]
    NoDevices { model: ModelName },
    /// One device, one model, one rollout at a time.
    #[error("rollout `{rollout}` is running for model `{model}` on device `{device}`")]
    Overlap { rollout: RolloutId, model: ModelName, device: DeviceId },
    /// It ended before.
    #[error("rollout `{rollout}` has ended: {phase}")]
    Ended { rollout: RolloutId, phase: String },
    /// A number that makes no sense.
    #[error("`{field}` is {found}, expected {expected}")]
    Field { field: &'static str, found: String, expected: &'static str },
    /// A limit of the hub.
    #[error("{what}: at most {limit}")]
    Full { what: &'static str, limit: usize },
}

/// What a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The thing is not there.
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// It contradicts the present state.
    Conflict,
}

impl Refusal {
    /// What a caller branches on.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::UnknownDevice { .. }
            | Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownRollout { .. }
            | Self::UnknownCommand { .. } => RefusalKind::NotFound,
            Self::AmbiguousVersion { .. } | Self::OtherModel { .. } | Self::Field { .. } => {
                RefusalKind::Invalid
            }
            Self::Condemned { .. }
            | Self::NoDevices { .. }
            | Self::Overlap { .. }
            | Self::Ended { .. }
            | Self::Full { .. } => RefusalKind::Conflict,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnknownDevice { .. } => "`shoal-hub device list` shows the devices that ever spoke",
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } => {
                "`shoal-hub model list` shows what is there, `model push` adds to it"
            }
            Self::AmbiguousVersion { .. } => "give more digits of the digest",
            Self::UnknownRollout { .. } => "`shoal-hub rollout list` shows all rollouts",
            Self::UnknownCommand { .. } => "`shoal-hub device show` lists a device's newest commands",
            Self::OtherModel { .. } => "name the model that the version belongs to",
            Self::Condemned { .. } => "`shoal-hub model condemn --lift` takes the word back",
            Self::NoDevices { .. } => {
                "`shoal-hub device list` shows tags and slots; a device must serve some version of the model"
            }
            Self::Overlap { .. } => "wait for it, or `shoal-hub rollout abort` it",
            Self::Ended { .. } => "create a new rollout",
            Self::Field { .. } => "correct the value",
            Self::Full { .. } => "this is a limit of one hub",
        }
    }
}
