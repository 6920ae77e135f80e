//! The proof: the demo and the seeded fleet simulator. The tests themselves are in `it/`.

pub mod demo;
pub mod hostile;
pub mod rig;
pub mod sim;
pub mod zoo;
