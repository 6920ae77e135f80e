//! The device: serves models, watches them, trains them again, and can always go back.

pub mod adapting;
pub mod admission;
pub mod backtest;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod fetch;
pub mod file;
pub mod inspect;
pub mod keys;
pub mod mqtt;
pub mod pack;
pub mod profile;
pub mod report;
pub mod rows;
pub mod run;
pub mod sensors;
pub mod serve;
pub mod store;
pub mod stream;
pub mod table;
pub mod vault;
pub mod watch;
pub mod worker;
