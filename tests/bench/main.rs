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
        Some("agent") => shoal_tests::program::agent(args),
        Some(hop::CHILD) => hop::child(),
        _ => shoal_tests::program::main(args, run),
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let text = match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Hop(args) => hop::run(args),
    }?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(true)
}

fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}")); // a closed terminal cannot be told
}
