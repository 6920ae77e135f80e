//! The device: serves models, watches them, trains them again, and can always go back.

pub mod core;
pub mod watch;
pub mod config;
pub mod clock;
pub mod file;
pub mod mqtt;
pub mod store;
pub mod inspect;
pub mod keys;
pub mod pack;
pub mod profile;
pub mod rows;
pub mod table;
pub mod vault;
pub mod worker;
pub mod report;
pub mod serve;
pub mod fetch;
pub mod control;
pub mod run;
pub mod cli;
