//! `cargo demo`: one hub with its broker and a handful of agents as real processes on free ports; a
//! sensor process that ages; drift found, retrained, gated; a good rollout and a bad one.

pub mod data;
mod feed;
mod fleet;
mod process;
mod score;
pub mod sensor;
mod source;
mod story;
mod summary;

pub use process::{Part, hub_args, wait_for_file};

use anyhow::Context as _;
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the main job of Shoal on this machine and ends by itself with a summary.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo demo", max_term_width = 100)]
pub struct Args {
    /// Print one JSON object last; the story goes to standard error.
    #[arg(long)]
    json: bool,
    /// Leave hub and agents running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Fewer devices and rows, for checks.
    #[arg(long)]
    quick: bool,
    /// A training file of your own (CSV with a header).
    #[arg(long, requires_all = ["stream", "label"])]
    data: Option<PathBuf>,
    /// A stream of your own, in the order of time; further columns are ignored.
    #[arg(long, requires = "data")]
    stream: Option<PathBuf>,
    /// The column that is predicted.
    #[arg(long, requires = "data")]
    label: Option<String>,
    /// Draws the sensor process, the labels that are told, and the poisoned device's lies.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How many devices.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=20))]
    devices: Option<u8>,
}

/// The demo's own command line.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    crate::program::main(args, run)
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = story::tell(args) => outcome,
            stopped = tokio::signal::ctrl_c() => {
                stopped.context("failed to listen for Ctrl-C")?;
                anyhow::bail!("stopped by Ctrl-C");
            }
        }
    })
}
