//! What passes between a training run and its parent while it goes on: lines of progress out, and a stop in.
//!
//! The job's file says that the run is wanted: when the parent removes it, the run stops within a step. No
//! second thread waits for a word, and no signal can come at the wrong time.

use super::job::Said;
use super::resume::{Outside, Pace};
use crate::clock::Clock;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The parent, as a training child sees it.
#[derive(Debug)]
pub(super) struct Parent {
    job: PathBuf,
    clock: Clock,
    every: Duration,
    said: Option<Duration>,
}

impl Parent {
    pub(super) fn new(job: &Path, pace: Pace) -> Self {
        let every = Duration::from_millis(pace.said_ms);
        Self { job: job.to_owned(), clock: Clock::start(), every, said: None }
    }
}

impl Outside for Parent {
    fn elapsed(&self) -> Duration {
        self.clock.mono().0
    }

    fn is_stopped(&self) -> bool {
        // Only a file that is surely gone: a disk that does not answer is no word.
        matches!(self.job.try_exists(), Ok(false))
    }

    fn on_step(&mut self, line: Said) {
        let now = self.elapsed();
        if self.said.is_some_and(|said| now.saturating_sub(said) < self.every) {
            return;
        }
        self.said = Some(now);
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            let mut out = io::stdout().lock();
            // Nobody listens any more: then the run ends by other means.
            out.write_all(&line).and_then(|()| out.flush()).ok();
        }
    }
}

/// Nobody: no word is heard and none is said. Time stands still, so that no checkpoint is written.
#[derive(Debug)]
pub(super) struct Nobody;

impl Outside for Nobody {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn on_step(&mut self, _said: Said) {}
}
