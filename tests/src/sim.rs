//! The seeded fleet simulator: the production cores of hub and agents under a hostile world.
//!
//! One seed draws the fleet, its pace and its faults: messages are lost, doubled, garbled, forged and held back
//! for hours, links go one way or both, brokers forget, processes crash between any two effects and come back
//! from what was on their disks, disks fill up, clocks jump, cards are cloned, databases are lost or restored,
//! runs fail, hang or bring what is worse, and operators meddle. Invariants are looked at after every event; then
//! the world heals, and everything must come to rest within a bound.

mod act;
mod board;
mod builds;
mod child;
mod disk;
mod fault;
mod fleet;
mod form;
mod invariant;
mod load;
mod models;
mod mutant;
mod net;
mod rest;
mod table;
mod world;

pub use form::Size;
pub use mutant::{MUTANTS, Mutant};
pub use table::main;
pub use world::{Broken, Counts, World};
