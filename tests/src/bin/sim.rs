//! `sim`: histories of whole simulated fleets under faults; see [`shoal_tests::sim`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_tests::sim::main(std::env::args_os().collect())
}
