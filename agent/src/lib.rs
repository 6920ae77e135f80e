//! The device: serves models, watches them, trains them again, and can always go back.

pub mod core;
pub mod watch;
pub mod config;
pub mod clock;
pub mod file;
pub mod report;
pub mod mqtt;
pub mod store;
pub mod vault;
pub mod serve;
pub mod fetch;
pub mod control;
pub mod run;
pub mod keys;
pub mod rows;
pub mod table;
pub mod profile;
pub mod pack;
pub mod inspect;
pub mod worker;
pub mod cli;
