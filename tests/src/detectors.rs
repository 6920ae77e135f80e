//! `detectors`: the tables of the monitors. One module a group of tables; each says which of its targets
//! were missed.

mod calm;
mod cost;
mod delays;
mod model;
mod published;
mod streams;
mod subject;
mod table;

use clap::Parser;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use table::Table;

/// How soon each monitor finds a change, how rarely it is wrong, and what it costs.
#[derive(Debug, Clone, Parser)]
#[command(name = "detectors", max_term_width = 100)]
struct Args {
    /// Streams of each kind; medians of fewer than twenty say little.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Quiet months of a whole model; without it one for each seed, 20 at most.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    months: Option<u64>,
    /// Only the costs: nanoseconds and bytes.
    #[arg(long)]
    cost: bool,
    /// Writes the streams as text, one value a line, for other programs, and does nothing else.
    #[arg(long, value_name = "DIR")]
    write_streams: Option<PathBuf>,
}

/// The command line. Ends with 1 where a stated target is missed.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    crate::program::main(args, run)
}

fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(folder) = &args.write_streams {
        streams::write(folder, args.seeds)?;
        return Ok(true);
    }
    let mut tables = Vec::new();
    if !args.cost {
        tables.push(delays::table(args.seeds));
        tables.push(calm::steady(args.seeds));
        tables.push(calm::references(args.seeds));
        tables.push(calm::dependent(args.seeds));
        tables.push(model::windows(args.seeds));
        tables.push(model::month(args.months.unwrap_or(args.seeds.min(20))));
    }
    tables.push(cost::table());
    tables.push(model::cost());
    let missed: Vec<&String> = tables.iter().flat_map(|table| &table.missed).collect();
    let mut text = if args.json {
        serde_json::to_string(&serde_json::json!({
            "seeds": args.seeds,
            "tables": tables.iter().map(Table::to_json).collect::<Vec<_>>(),
            "missed": missed,
        }))?
    } else {
        tables.iter().map(|table| format!("{table}\n")).collect()
    };
    if !args.json {
        text += &match missed.as_slice() {
            [] => "every target was reached".into(),
            missed => {
                format!("missed:{}", missed.iter().map(|line| format!("\n  {line}")).collect::<String>())
            }
        };
    }
    std::io::stdout().write_all((text + "\n").as_bytes())?;
    Ok(missed.is_empty())
}
