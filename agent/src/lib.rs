//! The device: serves models, watches them, trains them again, and can always go back.

pub mod clock;
pub mod core;
pub mod file;
pub mod inspect;
pub mod keys;
pub mod mqtt;
pub mod pack;
pub mod profile;
pub mod rows;
pub mod store;
pub mod table;
pub mod vault;
pub mod watch;
pub mod worker;
