//! The fleet's decisions, pure: no clock, no disk, no network, no thread.
//!
//! Everything that happens is an [`Event`], everything that shall happen an [`Effect`]; the shell
//! ([`crate::serve`]) turns the world into the one and the other into the world.

pub mod command;
#[cfg(test)]
mod command_tests;
pub mod courier;
pub mod device;
pub mod drift;
mod drive;
pub mod effect;
pub mod event;
pub mod hub;
pub mod policy;
pub mod refusal;
pub mod registered;
mod requests;
pub mod rollout;
#[cfg(test)]
mod tests;
pub mod view;

pub use effect::{Answer, Effect, Note, Record};
pub use event::{Event, Request};
pub use hub::{Hub, Saved};
pub use policy::Policy;
pub use refusal::Refusal;
