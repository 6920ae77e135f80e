//! The device: serves models, watches them, trains them again, and can always go back.

pub mod clock;
pub mod core;
pub mod file;
pub mod mqtt;
pub mod serve;
pub mod store;
