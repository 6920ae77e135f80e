//! The databases through power cuts, and the agent through kills.
//!
//! A power cut keeps what was synced, and of the rest any sectors in any order. The production store runs on a
//! folder while every call that reaches the operating system is recorded; then the power goes at a random call,
//! the folder is laid out as a disk could have left it, and the store is opened again. A disk that lies about
//! `fsync` is a mode: nothing acknowledged is safe there, but what is served must be a state that once was.
//!
//! A kill -9 is not a power cut, the page cache survives it: it shows that the process as a whole comes back.

mod disk;
mod history;
pub mod kill;
mod samples;
mod state;
pub mod tap;

pub use disk::Fate;
pub use history::{Counts, play};

use crate::program;
use anyhow::ensure;
use clap::Parser;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Failures that are shown.
const SHOWN: u64 = 5;

/// Cuts the power of the device's databases.
#[derive(Debug, Parser)]
#[command(name = "power")]
struct Args {
    /// Histories to play.
    #[arg(long, default_value_t = 1_000)]
    histories: u64,
    /// The first seed; each history has its own.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The disk may say that it synced and not do it.
    #[arg(long)]
    lying_fsync: bool,
}

/// Runs the program: 0 when no promise is broken.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    program::main::<Args>(args, run)
}

fn run(args: &Args) -> anyhow::Result<bool> {
    sees()?;
    let (mut counts, mut broken) = (Counts::default(), 0);
    let mut out = std::io::stdout();
    for seed in args.seed..args.seed + args.histories {
        let (one, outcome) = play(seed, args.lying_fsync);
        counts.add(&one);
        if let Err(cause) = outcome {
            broken += 1;
            if broken <= SHOWN {
                writeln!(out, "seed {seed}: {cause:#}")?;
            }
        }
    }
    print(&mut out, args, &counts, broken)?;
    Ok(broken == 0 && counts.histories > 0)
}

/// The recorder must be in front of the C library, or all would look well.
fn sees() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    tap::start(folder.path())?;
    let mut file = std::fs::File::create(folder.path().join("state.db"))?;
    file.write_all(b"seen").and_then(|()| file.sync_all())?;
    let events = tap::stop();
    ensure!(events.len() >= 2, "this program does not see its own calls: {events:?}");
    Ok(())
}

fn print(out: &mut impl std::io::Write, args: &Args, counts: &Counts, broken: u64) -> std::io::Result<()> {
    let Counts { fate, .. } = counts;
    let disk = if args.lying_fsync { "lies about fsync" } else { "keeps what was synced" };
    let lines = [
        (format!("histories (the disk {disk})"), counts.histories),
        ("power cuts".into(), counts.cuts),
        ("calls recorded".into(), counts.calls),
        ("unsynced writes dropped".into(), fate.dropped),
        ("  torn".into(), fate.torn),
        ("  kept although an earlier one was not".into(), fate.reordered),
        ("  sectors of noise".into(), fate.scrambled),
        ("  names that came back or did not come".into(), fate.names),
        ("syncs that did nothing".into(), fate.lies),
        ("databases with bad pages".into(), counts.rotten),
        ("boots with the state that was found".into(), counts.opened),
        ("  with a snapshot in its place".into(), counts.restored),
        ("  empty, there being no snapshot".into(), counts.empty),
        ("  either, told by the sum over the rows alone".into(), counts.stale),
        ("boots whose samples began empty".into(), counts.samples_empty),
        ("acknowledged commits, rows and labels looked for".into(), counts.checked),
        ("  commits gone".into(), counts.commits_lost),
        ("  commits newer than a snapshot, after a bad page".into(), counts.commits_rotten),
        ("  rows and labels gone".into(), counts.samples_lost),
        ("states served that never were".into(), counts.half_written),
        ("samples that never were, or unreadable".into(), counts.samples_wrong),
        ("writes of samples that failed".into(), counts.samples_stopped),
        ("folders that did not open".into(), counts.refused),
        ("histories with a broken promise".into(), broken),
    ];
    for (what, number) in lines {
        writeln!(out, "{what:<52}{number:>12}")?;
    }
    Ok(())
}
