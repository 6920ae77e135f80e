//! The fleet: registry, rollouts, the fleet's view of drift, and the link to every device.

pub mod api;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod courier;
pub mod file;
pub mod link;
pub mod registry;
pub mod report;
pub mod serve;
pub mod store;
#[cfg(test)]
mod testing;
