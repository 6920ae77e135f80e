//! What the binaries of this crate share: their command line, how they end, and that they are agents too.

use clap::Parser;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Reads the command line and runs: 0 for yes, 1 for no, 64 for a wrong command line, 70 for an error.
#[must_use]
pub fn main<A: Parser>(args: Vec<OsString>, run: impl FnOnce(&A) -> anyhow::Result<bool>) -> ExitCode {
    let args = match A::try_parse_from(args) {
        Ok(args) => args,
        Err(cause) => {
            drop(cause.print()); // a closed terminal cannot be told
            return ExitCode::from(if cause.use_stderr() { 64 } else { 0 });
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(cause) => {
            drop(writeln!(std::io::stderr(), "error: {cause:#}"));
            ExitCode::from(70)
        }
    }
}

/// Runs `PROGRAM agent …` as the agent, whose children are this program again.
#[must_use]
pub fn agent(args: Vec<OsString>) -> ExitCode {
    let program = std::env::current_exe().unwrap_or_default();
    shoal_agent::cli::main(args.into_iter().skip(1), (program, vec!["agent".into()]))
}
