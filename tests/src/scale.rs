//! `scale`: how many devices a hub and its broker carry on this machine, and what limits them.
//!
//! A real hub process and a real broker; every device is a connection of its own that speaks MQTT 3.1.1 and the
//! production protocol. Then the hub's core alone.

mod apply;
mod crowd;
mod device;
mod fleet;
mod mqtt;

use clap::Parser;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Measures the hub with many devices on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "scale", max_term_width = 100)]
struct Args {
    /// How many devices connect.
    #[arg(long, default_value_t = 10_000)]
    devices: u64,
    /// How many devices the core alone holds; 0: not measured.
    #[arg(long, default_value_t = 100_000)]
    held: u64,
    /// Which brokers: `embedded`, `mosquitto`.
    #[arg(long, value_delimiter = ',', default_value = "embedded,mosquitto")]
    brokers: Vec<fleet::Kind>,
    /// Seconds from one heartbeat of a device to the next; in production it is 300.
    #[arg(long, default_value_t = 10)]
    beat_s: u64,
    /// Seconds of steady state.
    #[arg(long, default_value_t = 60)]
    steady_s: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    profile: &'static str,
    load_average: f64,
    fleets: Vec<fleet::Measured>,
    rates: Vec<apply::Rate>,
    held: Option<apply::Held>,
}

/// The command line; `scale hub …` is the hub.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    crate::program::main(args, run)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program's output")]
fn run(args: &Args) -> anyhow::Result<bool> {
    // In one thread and before all others: what they leave in the allocator is no device's.
    let held = match args.held {
        0 => None,
        count => Some(apply::hold(count)?),
    };
    let folder = tempfile::tempdir()?;
    let rates = apply::rates(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut fleets = Vec::new();
    for kind in &args.brokers {
        let pace = (Duration::from_secs(args.beat_s), Duration::from_secs(args.steady_s));
        match runtime.block_on(fleet::measure(*kind, args.devices, pace))? {
            Some(measured) => fleets.push(measured),
            None => eprintln!("skipped: {} is not there", kind.name()),
        }
    }
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let report = Report { profile, load_average: crate::rig::load_average(), fleets, rates, held };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table(&report)?);
    }
    Ok(true)
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "profile {}, load average {:.1}\n", report.profile, report.load_average)?;
    for fleet in &report.fleets {
        writeln!(text, "{} devices, broker: {}", fleet.devices, fleet.broker)?;
        for phase in &fleet.phases {
            writeln!(text, "  {phase}")?;
        }
    }
    writeln!(text, "\nthe hub's core")?;
    for rate in &report.rates {
        let apply::Rate { what, frames, ops, seconds, ops_per_second } = rate;
        writeln!(
            text,
            "  {what:<34} {ops_per_second:>9.0} ops/s  ({ops} ops in {frames} frames, {seconds:.2} s)"
        )?;
    }
    if let Some(held) = &report.held {
        writeln!(
            text,
            "  {} devices: told in {:.1} s, {:.0} MB ({} bytes a device), then {:.0} ops/s",
            held.devices,
            held.joined_seconds,
            held.rss_bytes as f64 / 1e6,
            held.bytes_per_device,
            held.ops_per_second
        )?;
    }
    Ok(text)
}
