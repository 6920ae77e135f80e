//! Rows that applications on the device's own broker are asked about, so many a day.

use super::Asks;
use super::local::Local;
use super::models::Models;
use crate::asking::Day;
use crate::clock::Clock;
use crate::file::{FileError, write_atomic};
use crate::report::chain;
use shoal_proto::time::Mono;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the time that passed is written beside what was asked: what a crash loses of it only makes a day longer.
const KEEP_EVERY: Duration = Duration::from_secs(600);
/// The file of the day's budget, in the state folder.
const FILE: &str = "ask.json";

/// The budget of all models together: it is a person's time.
#[derive(Debug)]
pub struct Questions {
    asks: Arc<Asks>,
    models: Arc<Models>,
    clock: Clock,
    file: PathBuf,
    day: Day,
    since: Mono,
    per_day: u64,
}

impl Questions {
    /// Goes on with the day that the process before had begun.
    #[must_use]
    pub fn new(asks: Arc<Asks>, models: Arc<Models>, clock: Clock, state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let kept = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let per_day = asks.settings().per_day;
        Self { asks, models, clock, file, day: kept.unwrap_or_default(), since: clock.mono(), per_day }
    }

    /// Asks over `local` until `cancel`.
    pub async fn run(mut self, local: Local, cancel: CancellationToken) {
        loop {
            let until = self.pass();
            if until.is_zero() {
                self.ask(&local);
            }
            let until = self.pass();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(until.min(KEEP_EVERY)), if !until.is_zero() => {}
                () = self.asks.more(), if until.is_zero() => {}
            }
            if until > KEEP_EVERY {
                self.keep_or_tell();
            }
        }
        self.pass();
        self.keep_or_tell();
    }

    /// Counts the time that passed; how long until the next row may be offered.
    fn pass(&mut self) -> Duration {
        let now = self.clock.mono();
        self.day.run(now.since(self.since));
        self.since = now;
        self.day.until_offer(self.per_day)
    }

    /// Offers each model's first row. What was asked is on disk before the world sees it, so that no restart asks
    /// again.
    fn ask(&mut self, local: &Local) {
        if !local.is_up() {
            return;
        }
        for served in self.models.all() {
            let Some(chosen) = self.asks.choose(&served, self.day.left(self.per_day), self.per_day) else {
                continue;
            };
            self.day.offered(chosen.is_some());
            if let Some(ask) = chosen
                && self.keep_or_tell()
            {
                local.tell_ask(&ask);
            }
        }
    }

    fn keep_or_tell(&self) -> bool {
        let kept = self.keep();
        if let Err(cause) = &kept {
            tracing::warn!(error = %chain(cause), "the budget of questions was not kept, so nobody is asked");
        }
        kept.is_ok()
    }

    fn keep(&self) -> Result<(), FileError> {
        write_atomic(&self.file, &serde_json::to_vec(&self.day).unwrap_or_default())
    }
}
