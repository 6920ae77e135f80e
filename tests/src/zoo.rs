//! `zoo`: what models of all kinds do to an agent. One module a subcommand.

mod hostile;
mod probe;
mod sample;
mod serve;
mod stage;
mod table;
mod train;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Models of all kinds against a real agent.
#[derive(Debug, Clone, Parser)]
#[command(name = "zoo", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Files that were made to hurt: none may end, stall or bloat anything.
    Hostile(hostile::Args),
    /// A folder of models: each must answer over the real server what its `.io.npz` says.
    Serve(serve::Args),
    /// A folder of models: each must have the gradients that its `.grad.npz` says; steps are timed.
    Train(train::Args),
}

/// The command line.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    crate::program::main(args, run)
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match &args.command {
            Command::Hostile(args) => hostile::run(args).await,
            Command::Train(args) => tokio::task::block_in_place(|| train::run(args)),
            Command::Serve(args) => tokio::task::block_in_place(|| serve::run(args)),
        }
    })
}
