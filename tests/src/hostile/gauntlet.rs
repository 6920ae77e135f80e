//! The way of a file through the production admission: pre-check here, then the real child.

use super::{Hostile, package};
use anyhow::Context as _;
use shoal_agent::clock::Clock;
use shoal_agent::vault::Vault;
use shoal_agent::worker::{Attempt, ChildError, Limits, Workers};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the engine says when a tensor does not fit in the memory that is left.
const NO_MEMORY: [&str; 3] = ["failed to allocate", "memory allocation of", "capacity overflow"];

/// Who stopped a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The pre-check: no parser saw it.
    PreCheck,
    /// The engine, while it parsed and optimised.
    Engine,
    /// The trial run, or an output that is no number.
    Trial,
    /// The manifest does not fit it.
    Manifest,
    /// Nobody.
    Admitted,
    /// The memory limit.
    Memory,
    /// The processor time limit.
    Cpu,
    /// The parent's patience.
    Wall,
    /// The kernel: a stack used up, or memory that is not the child's.
    Signal,
    /// A bug of ours.
    Lost,
}

/// What became of a file.
#[derive(Debug, Clone)]
pub struct Fate {
    /// Who stopped it.
    pub stop: Stop,
    /// In words.
    pub reason: String,
    /// Where the engine panicked.
    pub panics: BTreeSet<String>,
    /// The child's own count of its memory, where it could still give it.
    pub peak_bytes: Option<u64>,
    /// The child's life, from its start to its end.
    pub wall: Duration,
    /// How long the pre-check took, in this process.
    pub pre_check: Duration,
}

/// A vault and the children on it.
#[derive(Debug)]
pub struct Gauntlet {
    workers: Workers,
    vault: Vault,
    clock: Clock,
}

impl Gauntlet {
    /// Children are started as `program`; the vault is below the folder.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(program: (PathBuf, Vec<String>), folder: &Path) -> anyhow::Result<Self> {
        let vault = Vault::open(folder)?;
        let workers = Workers::new(program, folder.to_owned(), Limits::ADMIT, Limits::TRAIN)?;
        Ok(Self { workers, vault, clock: Clock::start() })
    }

    /// Has a file admitted, or not.
    ///
    /// # Errors
    /// When the file could not be brought before a child at all.
    pub async fn run(&self, file: &Arc<Hostile>) -> anyhow::Result<Fate> {
        let (vault, clock, shared) = (self.vault.clone(), self.clock, Arc::clone(file));
        let (version, pre_check) = tokio::task::spawn_blocking(move || {
            let start = clock.mono();
            let package = package("zoo", &shared.bytes)?;
            let pre_check = clock.mono().since(start);
            anyhow::Ok((vault.put(&package)?.version, pre_check))
        })
        .await
        .context("the pre-check panicked")??;
        let start = self.clock.mono();
        let attempt = self.workers.attempt(version).await;
        let wall = self.clock.mono().since(start);
        self.vault.remove(version)?;
        Ok(fate(attempt, wall, pre_check))
    }
}

fn fate(attempt: Attempt, wall: Duration, pre_check: Duration) -> Fate {
    let panics = attempt.said.lines().filter_map(site).collect();
    let (stop, reason, peak_bytes) = match attempt.outcome {
        Ok(report) => (Stop::Admitted, String::new(), Some(report.peak_bytes)),
        Err(cause) => {
            let (reason, peak) = (cause.to_string(), peak(&cause));
            (stop(&cause, &reason), reason, peak)
        }
    };
    Fate { stop, reason, panics, peak_bytes, wall, pre_check }
}

fn peak(cause: &ChildError) -> Option<u64> {
    match cause {
        ChildError::No(why) => why.peak_bytes,
        _ => None,
    }
}

fn stop(cause: &ChildError, reason: &str) -> Stop {
    let is_memory = NO_MEMORY.iter().any(|words| reason.contains(words));
    match cause {
        ChildError::No(_) | ChildError::Killed { signal: 6, .. } if is_memory => Stop::Memory,
        ChildError::No(why) => match why.kind.as_str() {
            "refused" => Stop::PreCheck,
            "load" => Stop::Engine,
            "trial" | "not_finite" => Stop::Trial,
            "manifest" => Stop::Manifest,
            "memory" => Stop::Memory,
            _ => Stop::Lost,
        },
        ChildError::Late { .. } => Stop::Wall,
        ChildError::Killed { signal: 24, .. } => Stop::Cpu,
        ChildError::Killed { .. } => Stop::Signal,
        _ => Stop::Lost,
    }
}

/// The file and line of a panic: `tract-core-0.23.9/src/ops/nn/reduce.rs:76`.
fn site(line: &str) -> Option<String> {
    let (_, place) = line.split_once("panicked at ")?;
    let place = place.trim_end_matches(':');
    let place = place.rsplit_once(':').map_or(place, |(line, _column)| line);
    let shown = place.split_once("/registry/src/").map_or(place, |(_, inside)| inside);
    Some(
        shown
            .split_once('/')
            .filter(|(index, _)| index.contains("index"))
            .map_or(shown, |(_, file)| file)
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_short() {
        let line = "thread 'main' (7) panicked at /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tract-core-0.23.9/src/x.rs:76:5:";
        assert_eq!(site(line).unwrap(), "tract-core-0.23.9/src/x.rs:76");
        assert_eq!(site("thread 'main' panicked at agent/src/x.rs:7:1:").unwrap(), "agent/src/x.rs:7");
        assert_eq!(site("memory allocation of 7 bytes failed"), None);
    }
}
