//! `bench`: what serving costs, beside the bare call and beside another server, and what a process between
//! server and model would cost. Starts itself again as agents and as the hop's child.

mod case;
mod doors;
mod hop;
mod load;
mod report;
mod rival;
mod serve;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Measurements of a real agent on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Latency, throughput, processor time and memory of serving.
    Serve(serve::Args),
    /// What a worker process would add to a request.
    Hop(hop::Args),
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|part| part.to_str()) {
        Some("agent") => {
            let program = std::env::current_exe().unwrap_or_default();
            return shoal_agent::cli::main(args.into_iter().skip(1), (program, vec!["agent".into()]));
        }
        Some(hop::CHILD) => return hop::child(),
        _ => {}
    }
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(cause) => {
            drop(cause.print()); // a closed terminal cannot be told
            return ExitCode::from(if cause.use_stderr() { 64 } else { 0 });
        }
    };
    let outcome = match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Hop(args) => hop::run(args),
    };
    let written = outcome.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            drop(writeln!(std::io::stderr(), "error: {cause:#}"));
            ExitCode::from(70)
        }
    }
}

fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}")); // a closed terminal cannot be told
}
