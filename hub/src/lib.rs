//! The fleet: registry, rollouts, the fleet's view of drift, and the link to every device.

pub mod core;
pub mod clock;
pub mod file;
pub mod report;
pub mod store;
pub mod registry;
pub mod broker;
pub mod link;
pub mod config;
pub mod api;
pub mod serve;
//pub mod cli;
