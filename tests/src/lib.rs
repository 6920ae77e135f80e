//! The proof: the demo, the seeded fleet simulator, the zoo of models and the files made to hurt. The
//! tests themselves are in `it/`, the benchmarks in `bench/`.

pub mod demo;
pub mod hostile;
pub mod program;
pub mod rig;
pub mod sim;
pub mod zoo;
