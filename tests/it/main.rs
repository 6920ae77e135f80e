//! The one test binary over the whole tree.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapting;
mod applications;
mod archives;
mod brokers;
mod center;
mod commands;
mod e2e;
mod hostile;
mod learning;
mod link;
mod netem;
mod power;
mod serving;
mod sim;
mod tidy;
mod watching;
