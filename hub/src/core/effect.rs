//! What the hub can do.

use super::command::CommandView;
use super::device::Memory;
use super::drift::DriftView;
use super::refusal::Refusal;
use super::registered::Registered;
use super::rollout::{Phase, Rollout};
use super::view::{DeviceRow, DeviceView, HealthView, RolloutView, VersionView};
use serde::Serialize;
use shoal_proto::id::{DeviceId, Incarnation, RolloutId};
use shoal_proto::sync;
use shoal_proto::topic::Topic;
use shoal_proto::transfer::{self, Need};

/// Everything the hub can do. The shell runs them in order, and none before the `Persist` ahead of it
/// is on disk.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Write to `hub.db`, in one transaction.
    Persist(Vec<Record>),
    /// Send a frame to a device.
    Publish { topic: Topic, frame: Vec<u8> },
    /// Send a device what it needs of an archive, or why it gets nothing; in turn with others, and no faster than
    /// allowed.
    Carry { device: DeviceId, need: Need, refused: Option<transfer::Refusal> },
    /// Answer a request: what was found or done, or why not.
    Reply { number: u64, outcome: Result<Answer, Refusal> },
    /// For the log: a transition, said once.
    Note(Note),
}

/// What is written to `hub.db`.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A device's document begins, under this incarnation of ours.
    Born(DeviceId, Incarnation),
    /// Log, document and cursors of a device's link.
    Link(DeviceId, sync::Record),
    /// What the hub remembers of a device beside its document.
    Memory(DeviceId, Memory),
    /// A device and all that belongs to it goes.
    Gone(DeviceId),
    /// The last generation given.
    Generation(u64),
    /// A rollout as it stands.
    Rollout(Box<Rollout>),
    /// A registry row.
    Model(Box<Registered>),
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `Health`.
    Health(Box<HealthView>),
    /// To `Devices`.
    Devices(Vec<DeviceRow>),
    /// To `Device` and `TagDevice`.
    Device(Box<DeviceView>),
    /// To `Versions`.
    Versions(Vec<VersionView>),
    /// To `PushModel` and `CondemnVersion`; `created` is false when the version was there already.
    Version {
        /// Whether it is new.
        created: bool,
        /// The version.
        #[serde(flatten)]
        version: Box<VersionView>,
    },
    /// To `Drift`.
    Drift(Vec<DriftView>),
    /// To `Rollouts`.
    Rollouts(Vec<RolloutView>),
    /// To `CreateRollout`, `AbortRollout` and `Rollout`.
    Rollout(Box<RolloutView>),
    /// To `GiveCommand`, `WithdrawCommand` and `Command`.
    Command(Box<CommandView>),
    /// To `RemoveDevice`.
    Removed {
        /// Which.
        device: DeviceId,
    },
}

/// A transition, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A device spoke for the first time.
    DeviceJoined { device: DeviceId },
    /// A device opened a conversation.
    DeviceOnline { device: DeviceId, boot: u64 },
    /// A device's last will came.
    DeviceOffline { device: DeviceId },
    /// A device was forgotten.
    DeviceRemoved { device: DeviceId },
    /// A command waits for its device.
    CommandGiven { device: DeviceId, id: u64, what: String },
    /// Nobody took it up, and nobody shall.
    CommandWithdrawn { device: DeviceId, id: u64, reason: String },
    /// A version is in the registry.
    ModelPushed { name: String },
    /// A version was condemned everywhere, or the word was taken back.
    Condemned { name: String, holds: bool, reason: String },
    /// A wave of a rollout was assigned.
    WaveStarted { rollout: RolloutId, wave: u32, devices: usize, generation: u64 },
    /// A wave did well and is watched.
    SoakStarted { rollout: RolloutId, wave: u32 },
    /// A rollout ended.
    RolloutEnded { rollout: RolloutId, phase: Phase },
    /// Devices of a rollout are sent back to what they had.
    Reverting { rollout: RolloutId, devices: usize },
    /// Something from outside that should not be.
    Alarm { device: Option<DeviceId>, reason: String },
}
