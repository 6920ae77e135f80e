//! What passes between a training run and its parent while it goes on: lines of progress out, and a stop in.
//!
//! The job's file says that the run is wanted: when the parent removes it, the run stops within a step. No
//! second thread waits for a word, and no signal can come at the wrong time.

use super::job::{Said, Spent};
use super::resume::{Outside, Pace};
use crate::clock::Clock;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What Linux tells processor time in, on every kind of processor.
const TICK_MS: u64 = 10;
/// The text of `/proc/self/io` at most.
const MAX_IO_BYTES: usize = 1_024;

/// The parent, as a training child sees it.
#[derive(Debug)]
pub(super) struct Parent {
    job: PathBuf,
    clock: Clock,
    every: Duration,
    said: Option<Duration>,
    meter: Meter,
}

impl Parent {
    pub(super) fn new(job: &Path, pace: Pace, meter: Meter) -> Self {
        let every = Duration::from_millis(pace.said_ms);
        Self { job: job.to_owned(), clock: Clock::start(), every, said: None, meter }
    }
}

/// Says what this process takes.
#[derive(Debug)]
pub(super) struct Meter {
    io: Option<File>,
}

impl Meter {
    /// To be called before the process is made one that nobody may look into: then its own account of bytes is
    /// no longer to be opened either.
    pub(super) fn open() -> Self {
        Self { io: File::open("/proc/self/io").ok() }
    }

    fn read(&self) -> Spent {
        let written = self.io.as_ref().and_then(written_bytes);
        Spent { cpu_ms: cpu_ms().unwrap_or(0), written_bytes: written.unwrap_or(0) }
    }
}

/// Processor time of this process, in user and kernel mode.
fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may hold anything; the two times are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(ticks.saturating_mul(TICK_MS))
}

fn written_bytes(io: &File) -> Option<u64> {
    let mut text = [0; MAX_IO_BYTES];
    let read = io.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..read)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

impl Outside for Parent {
    fn elapsed(&self) -> Duration {
        self.clock.mono().0
    }

    fn is_stopped(&self) -> bool {
        // Only a file that is surely gone: a disk that does not answer is no word.
        matches!(self.job.try_exists(), Ok(false))
    }

    fn spent(&self) -> Spent {
        self.meter.read()
    }

    fn on_step(&mut self, line: Said) {
        let now = self.elapsed();
        if self.said.is_some_and(|said| now.saturating_sub(said) < self.every) {
            return;
        }
        self.said = Some(now);
        if let Ok(mut line) = serde_json::to_vec(&Said { spent: self.spent(), ..line }) {
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
