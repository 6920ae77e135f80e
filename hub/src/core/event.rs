//! What can happen to the hub.

use super::command::CommandWish;
use super::registered::Registered;
use super::rollout::{AbortMode, RolloutWish};
use shoal_proto::id::{DeviceId, ModelName, RolloutId};
use std::collections::BTreeMap;

/// Everything that can happen to the hub.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed; harmless when early or repeated.
    Tick,
    /// The broker took us and our subscription.
    BrokerUp,
    /// The broker is gone.
    BrokerDown,
    /// A message on one of the devices' `up` topics; not yet decoded, topic included. `retained` is a
    /// broker's memory and no sign of life.
    DeviceFrame { topic: String, retained: bool, bytes: Vec<u8> },
    /// An operator asks; answered by [`super::Effect::Reply`] with the same number.
    Request { number: u64, request: Request },
}

/// What an operator can ask.
#[derive(Debug, Clone)]
pub enum Request {
    /// A package is verified, signed and on disk: take it into the registry.
    PushModel(Box<Registered>),
    /// A version must not serve anywhere, or may again.
    CondemnVersion { version: String, reason: String, holds: bool },
    /// Move a version through the fleet.
    CreateRollout(Box<RolloutWish>),
    /// End a rollout.
    AbortRollout { rollout: RolloutId, mode: AbortMode },
    /// Replace the tags that the hub gives to a device.
    TagDevice { device: DeviceId, tags: BTreeMap<String, String> },
    /// Forget a device; one that is alive comes back with its next word.
    RemoveDevice { device: DeviceId },
    /// Have one device do something, once.
    GiveCommand { device: DeviceId, wish: Box<CommandWish> },
    /// Take back what a device has not taken up.
    WithdrawCommand { device: DeviceId, id: u64 },
    /// One command.
    Command { device: DeviceId, id: u64 },
    /// Whether all is well.
    Health,
    /// All devices in short.
    Devices,
    /// One device in full.
    Device(DeviceId),
    /// All versions, those born on devices included; of one model where it is named.
    Versions(Option<ModelName>),
    /// Drift over the fleet.
    Drift(Option<ModelName>),
    /// All rollouts.
    Rollouts,
    /// One rollout.
    Rollout(RolloutId),
}
