//! The demo's own parts.

pub mod data;
pub mod sensor;
