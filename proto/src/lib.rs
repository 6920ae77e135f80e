//! The words that devices and the hub share: ids, time, topics, wire, operations, lattices,
//! manifests and summaries.
//!
//! Everything here is pure: no clock is read, no file opened, no random number drawn.

#[cfg(feature = "schema")]
pub mod asyncapi;
pub mod baseline;
pub mod chunks;
pub mod command;
pub mod decision;
pub mod describe;
pub mod document;
pub mod fact;
pub mod finding;
pub mod grpc;
pub mod id;
pub mod infer;
pub mod lattice;
pub mod manifest;
pub mod message;
pub mod op;
pub mod package;
pub mod rate;
pub mod statement;
pub mod summary;
pub mod sync;
pub mod time;
pub mod topic;
pub mod transfer;
pub mod wire;

#[cfg(test)]
mod tests;
