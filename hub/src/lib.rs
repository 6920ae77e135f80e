//! The fleet: registry, rollouts, the fleet's view of drift, and the link to every device.

pub mod broker;
pub mod core;
