//! `shoal-agent`: see [`shoal_agent::cli`].

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_unknown| PathBuf::from("shoal-agent"));
    shoal_agent::cli::main(std::env::args_os(), (program, Vec::new()))
}
