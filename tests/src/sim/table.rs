//! `sim`: plays histories and says what came of them.

use super::form::Size;
use super::mutant::{MUTANTS, Mutant};
use super::world::{Broken, Counts, World};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use shoal_agent::clock::Clock;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Histories within which a mutant must be caught.
const CATCH: u64 = 200;

/// Histories of whole simulated fleets under faults, on the production cores of agents and hub.
#[derive(Debug, Clone, Parser)]
#[command(name = "sim", max_term_width = 100)]
struct Args {
    /// Histories.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one.
    #[arg(long, conflicts_with_all = ["seeds", "from", "mutants"])]
    seed: Option<u64>,
    /// Prints the trace of it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// A few devices and some minutes, as in the test suite, and not 20 to 50 over days.
    #[arg(long)]
    small: bool,
    /// So many devices; without it the seed draws them.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    devices: Option<u16>,
    /// Plants faults, one after the other, and counts the histories until each is seen.
    #[arg(long)]
    mutants: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Histories at once; without it one a core.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Args {
    const fn size(&self) -> Size {
        if self.small { Size::Small } else { Size::Large }
    }

    fn world(&self, seed: u64, mutant: Mutant) -> World {
        World::new(seed, self.size(), self.devices.map(usize::from), mutant)
    }

    /// The command that plays one of the histories again.
    fn again(&self, seed: u64) -> String {
        let small = if self.small { " --small" } else { "" };
        let devices = self.devices.map(|count| format!(" --devices {count}")).unwrap_or_default();
        format!("cargo run --release -p shoal-tests --bin sim -- --seed {seed}{small}{devices} --trace")
    }
}

/// The command line. Ends with 1 where an invariant broke or a mutant went unseen.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    crate::program::main(args, run)
}

/// What many histories came to.
#[derive(Debug, Default)]
struct Sum {
    counts: Counts,
    /// All traces' hashes, each mixed with its seed: the same on every machine, in whatever order they end.
    hash: u64,
    slowest: (f64, u64),
    broken: Vec<Broken>,
}

/// Plays one history; a panic of a core is a broken invariant too.
fn play(world: World, seed: u64) -> Result<(Counts, u64), Broken> {
    catch_unwind(AssertUnwindSafe(|| world.play())).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind");
        Err(Broken { seed, what: format!("no_panic: {text}"), trace: Vec::new() })
    })
}

fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(seed) = args.seed {
        return one(args, seed);
    }
    if args.mutants {
        return mutants(args);
    }
    let clock = Clock::start();
    let sum = all(args, Mutant::Nothing, args.from..args.from + args.seeds, false);
    let seconds = clock.mono().0.as_secs_f64();
    let text = if args.json { json(&sum, seconds)? } else { table(args, &sum, seconds) };
    say(&text);
    Ok(sum.broken.is_empty())
}

fn one(args: &Args, seed: u64) -> anyhow::Result<bool> {
    let world = args.world(seed, Mutant::Nothing);
    let outcome = play(if args.trace { world.printing() } else { world }, seed);
    match outcome {
        Ok((mut counts, hash)) => {
            let mut text = rows(&mut counts);
            write!(text, "trace hash {hash:016x}\nno invariant broke")?;
            say(&text);
            Ok(true)
        }
        Err(broken) if args.trace => {
            say(&format!("seed {seed}: {}", broken.what));
            Ok(false)
        }
        Err(broken) => {
            say(&format!("{broken}\nagain: {}", args.again(seed)));
            Ok(false)
        }
    }
}

/// Plays a range of seeds on all cores. `first`: ends with the first that breaks.
fn all(args: &Args, mutant: Mutant, seeds: std::ops::Range<u64>, first: bool) -> Sum {
    let clock = Clock::start();
    let (next, ends) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} histories  {msg}");
        ProgressBar::new(seeds.end - seeds.start)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || ends.load(Ordering::Relaxed) {
                return;
            }
            let begun = clock.mono();
            let outcome = play(args.world(seed, mutant), seed);
            let took = clock.mono().since(begun).as_secs_f64();
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            if took > sum.slowest.0 {
                sum.slowest = (took, seed);
            }
            match outcome {
                Ok((counts, hash)) => {
                    sum.counts.add(&counts);
                    sum.hash ^= (hash ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
                }
                Err(broken) => {
                    ends.fetch_or(first, Ordering::Relaxed);
                    sum.broken.push(broken);
                }
            }
            if let Some(bar) = &bar {
                bar.inc(1);
                bar.set_message(format!("{} broken", sum.broken.len()));
            }
        }
    };
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1).max(1) {
            scope.spawn(work);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.broken.sort_by_key(|broken| broken.seed);
    sum
}

fn rows(counts: &mut Counts) -> String {
    let mut text = String::new();
    for (name, value) in counts.rows_mut() {
        let (name, value) = match name {
            "virtual_ms" => ("virtual hours", (*value / 3_600_000).to_string()),
            name => (name, value.to_string()),
        };
        writeln!(text, "{name:<34} {value:>14}").expect("a string takes all text");
    }
    text
}

fn table(args: &Args, sum: &Sum, seconds: f64) -> String {
    let mut text = rows(&mut { sum.counts });
    let mut line = |out: std::fmt::Arguments<'_>| writeln!(text, "{out}").expect("a string takes all text");
    line(format_args!("slowest history: seed {}, {:.1} s", sum.slowest.1, sum.slowest.0));
    line(format_args!("hash of all traces {:016x}", sum.hash));
    for broken in sum.broken.iter().take(20) {
        line(format_args!("\nseed {}: {}\n  again: {}", broken.seed, broken.what, args.again(broken.seed)));
    }
    if let Some(broken) = sum.broken.first() {
        line(format_args!("\nthe last of the trace of seed {}:", broken.seed));
        broken.trace.iter().for_each(|entry| line(format_args!("{entry}")));
    }
    let (of, bad) = (args.seeds, sum.broken.len());
    let verdict =
        if bad == 0 { "no invariant broke".to_owned() } else { format!("{bad} broke an invariant") };
    line(format_args!("\n{of} histories in {seconds:.0} s: {verdict}"));
    text.trim_end().to_owned()
}

fn json(sum: &Sum, seconds: f64) -> anyhow::Result<String> {
    let mut counts = sum.counts;
    let counts: serde_json::Map<String, serde_json::Value> = counts
        .rows_mut()
        .into_iter()
        .map(|(name, value)| (name.replace(' ', "_"), (*value).into()))
        .collect();
    let broken: Vec<_> = sum
        .broken
        .iter()
        .map(|broken| serde_json::json!({ "seed": broken.seed, "what": broken.what, "trace": broken.trace }))
        .collect();
    Ok(serde_json::to_string(&serde_json::json!({
        "counts": counts,
        "seconds": seconds,
        "slowest": { "seed": sum.slowest.1, "seconds": sum.slowest.0 },
        "hash": format!("{:016x}", sum.hash),
        "broken": broken,
    }))?)
}

/// Each mutant against fresh seeds until it is seen.
fn mutants(args: &Args) -> anyhow::Result<bool> {
    let mut unseen = 0;
    let mut rows = Vec::new();
    // A mutant that panics is seen; what it says while it does is of no interest.
    std::panic::set_hook(Box::new(|_| {}));
    for (mutant, what) in MUTANTS {
        let sum = all(args, mutant, args.from..args.from + CATCH, true);
        let seen = sum.broken.first();
        unseen += usize::from(seen.is_none());
        let (seeds, by) = match seen {
            Some(broken) => {
                let by = broken.what.split(':').next().unwrap_or_default().to_owned();
                (Some(broken.seed - args.from + 1), by)
            }
            None => (None, "UNSEEN".to_owned()),
        };
        if !args.json {
            let seeds = seeds.map_or_else(|| format!("> {CATCH}"), |seeds| seeds.to_string());
            say(&format!("{what:<32} {seeds:>6}  {by}"));
        }
        rows.push(serde_json::json!({ "mutant": what, "seeds": seeds, "seen_by": by }));
    }
    drop(std::panic::take_hook());
    let all = MUTANTS.len();
    if args.json {
        say(&serde_json::to_string(&rows)?);
    } else {
        say(&format!("\n{} of {all} mutants seen within {CATCH} histories each", all - unseen));
    }
    Ok(unseen == 0)
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}")); // a closed terminal cannot be told
}
