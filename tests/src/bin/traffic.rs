//! `traffic`: what a device-day costs on the link; see [`shoal_tests::traffic`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_tests::traffic::main()
}
