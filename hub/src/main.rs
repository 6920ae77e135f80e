//! `shoal-hub`: see [`shoal_hub::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_hub::cli::run(std::env::args_os())
}
