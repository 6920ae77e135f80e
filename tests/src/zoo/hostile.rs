//! `zoo hostile`: thousands of files that were made to hurt, against a real agent.

use super::probe::Probe;
use super::stage::{FEATURES, Stage, program};
use super::table::Table;
use crate::hostile::{Corpus, Gauntlet, Seeds, package};
use anyhow::Context as _;
use shoal_agent::clock::Clock;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Every so many files one is also given to the running agent.
const SAMPLE: usize = 50;
/// How often the memory of the children is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the agent may take to be done with what it was given.
const SETTLE: Duration = Duration::from_secs(60);
/// Files between two lines that say how far it is.
const TELL_EVERY: usize = 500;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// How many files; those made by hand come first.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// The first number, to look at one file again.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Decides which files are changed, and how.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Children at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Write each file there as well, named by its number.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Say what became of each file.
    #[arg(long)]
    verbose: bool,
}

/// Whether the promise held.
pub(super) async fn run(args: &Args) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let corpus = Arc::new(Corpus::new(args.seed, Seeds::find()));
    let (good, skipped) = (corpus.seeds().files().len(), corpus.seeds().skipped());
    say(&format!("{} files by hand, {good} good files to change; not here: {skipped:?}", corpus.handmade()));
    let mut stage = Stage::start(folder.path()).await?;
    let vault = folder.path().join("gauntlet");
    std::fs::create_dir_all(&vault)?;
    let gauntlet = Arc::new(Gauntlet::new(program()?, &vault)?);
    let probe = Probe::start(stage.http.clone(), stage.good(), vec![0.5; FEATURES]);
    let table = Arc::new(Mutex::new(Table::default()));
    let watched = CancellationToken::new();
    let watching = watch(Arc::clone(&table), watched.clone());

    let slots = Arc::new(Semaphore::new(args.jobs.max(1)));
    let mut running = JoinSet::new();
    for number in args.from..args.from + args.count {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let file = Arc::new(corpus.file(number));
        if let Some(folder) = &args.keep {
            keep(folder, number, &file.bytes)?;
        }
        if number % SAMPLE == 0 {
            let archive = package(&format!("zoo-{number}"), &file.bytes)?.to_archive()?;
            let taken = stage.install(archive).await?;
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.installed.0 += 1;
            table.installed.1 += usize::from(taken);
        }
        let (gauntlet, table, verbose) = (Arc::clone(&gauntlet), Arc::clone(&table), args.verbose);
        running.spawn(async move {
            let fate = gauntlet.run(&file).await.with_context(|| format!("file {number} ({})", file.name))?;
            if verbose {
                let (stop, ms, peak) = (fate.stop, fate.wall.as_millis(), fate.peak_bytes.unwrap_or(0) >> 20);
                say(&format!("{number} {}: {stop:?} {ms} ms {peak} MiB {}", file.name, fate.reason));
            }
            table.lock().unwrap_or_else(PoisonError::into_inner).add(number, &file, &fate);
            drop(slot);
            anyhow::Ok(())
        });
        while let Some(done) = running.try_join_next() {
            done??;
        }
        if (number + 1) % TELL_EVERY == 0 {
            say(&format!("{} files", number + 1));
        }
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    let served = settle(&stage).await?;
    let mut asked = Vec::new();
    for model in &served {
        asked.push((model, stage.ask(model, &Clock::start()).await?));
    }
    let answers = probe.stop().await?;
    watched.cancel();
    watching.await?;
    let is_running = stage.part.is_running();
    let mut table = std::mem::take(&mut *table.lock().unwrap_or_else(PoisonError::into_inner));
    table.installed.2 = served.len();
    let broken = table.broken(&answers, is_running);
    let mut text = format!("{table}{answers}\n");
    let slowest = asked.iter().map(|(_, answer)| answer.ms).fold(0.0, f64::max);
    text += &format!("hostile models that are served     asked once each, slowest {slowest:.1} ms\n");
    for (model, answer) in &asked {
        if let Some(failure) = &answer.failure {
            text += &format!("{:<34}{model}: {failure}\n", "");
        }
    }
    for what in &broken {
        text += &format!("BROKEN: {what}\n");
    }
    std::io::stdout().write_all(text.as_bytes())?;
    if is_running {
        stage.part.stop().await?;
    }
    Ok(broken.is_empty())
}

/// Waits until the agent has no admission under way, and gives the hostile models that it serves.
async fn settle(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let settled = async {
        let mut before = None;
        loop {
            let now = stage.others().await?;
            if before.as_ref() == Some(&now) {
                return anyhow::Ok(now.0);
            }
            before = Some(now);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    tokio::time::timeout(SETTLE, settled).await.context("the agent did not settle")?
}

fn keep(folder: &std::path::Path, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::File::create(folder.join(format!("{number}.onnx")))?.write_all(bytes)?;
    Ok(())
}

/// Looks at the memory of this process's children, whatever they say of themselves.
#[expect(clippy::disallowed_methods, reason = "the task is awaited at its end")]
fn watch(table: Arc<Mutex<Table>>, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            let most = children().iter().filter_map(|pid| peak_of_admission(pid)).max().unwrap_or_default();
            {
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                table.seen_bytes = table.seen_bytes.max(most);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
}

fn children() -> Vec<String> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// `None` for the agent itself, which is a child of this process too.
fn peak_of_admission(pid: &str) -> Option<u64> {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    words.split('\0').any(|word| word == "worker").then_some(())?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}")); // a closed terminal cannot be told
}
