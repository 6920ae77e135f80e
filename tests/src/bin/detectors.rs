//! `detectors`: how soon each monitor finds a change, and how rarely it is wrong; see
//! [`shoal_tests::detectors`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_tests::detectors::main(std::env::args_os().collect())
}
