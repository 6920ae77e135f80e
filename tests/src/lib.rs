//! The proof: the demo, the seeded fleet simulator, the zoo of models, the files made to hurt, the bad network and the
//! tables of the monitors. The tests themselves are in `it/`, the benchmarks in `bench/`.

pub mod demo;
pub mod detectors;
pub mod hostile;
pub mod netem;
pub mod power;
pub mod program;
pub mod rig;
pub mod scale;
pub mod sim;
pub mod traffic;
pub mod zoo;
