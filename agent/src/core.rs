//! The device's decisions, pure: no clock, no disk, no network, no thread.
//!
//! Everything that happens is an [`Event`], everything that shall happen an [`Effect`]; the shell
//! ([`crate::run`]) turns the world into the one and the other into the world.

pub mod agent;
pub mod budget;
pub mod download;
pub mod effect;
pub mod event;
pub mod gate;
pub mod policy;
pub mod shadow;
pub mod slot;
pub mod trial;
mod worse;

pub use agent::{Agent, Boot};
pub use budget::{Budget, Conditions, Power};
pub use effect::{Effect, Record, RemoteTask, TrainJob};
pub use event::{Command, Event, How, Labelled, Observation, Trained, Untrained, VersionInfo};
pub use policy::{Keep, Policy, Rebase, Triggers};
pub use shoal_watch::row::{Asked, Truth};
