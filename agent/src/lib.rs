//! The device: serves models, watches them, trains them again, and can always go back.

pub mod core;
pub mod watch;
pub mod config;
