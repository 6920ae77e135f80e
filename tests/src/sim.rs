//! The seeded fleet simulator: the production cores of hub and agents under a hostile world.
//!
//! One seed draws the fleet, its schedule and its faults: messages are lost, doubled and delayed out of
//! order, links go, processes crash and come back from what they had persisted. Invariants are looked
//! at after every event; then the world heals, and everything must come to rest within a bound.

mod disk;
mod invariant;
mod models;
mod net;
mod rest;
mod world;

pub use world::{Outcome, Sabotage, World};
