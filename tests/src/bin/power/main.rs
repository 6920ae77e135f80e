//! `power`: power cuts at any instant; see [`shoal_tests::power`].

mod calls;

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_tests::power::main(std::env::args_os().collect())
}
