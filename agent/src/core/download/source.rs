//! A source of chunks: how much it is asked at once, how fast, and how long it is waited for.

use super::share;
use shoal_proto::chunks::CHUNK_SIZES;
use shoal_proto::rate::Bucket;
use shoal_proto::time::Mono;
use shoal_proto::transfer::MAX_WINDOW;
use std::time::Duration;

/// Chunks in flight over MQTT: 256 KiB, which hold up words of control for little and fill a link of 1 MiB/s at a
/// quarter of a second.
const MQTT_WINDOW: u32 = 8;
/// How long an answer is waited for where none has come yet.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Shortest and longest patience.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How many times the slowest answer lately.
const PATIENCE_TIMES: u32 = 3;
/// Times that a source is asked into silence before it is left.
const SILENCES: u32 = 4;

/// How a source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By ranges; the end of an answer is heard of.
    Http,
    /// By a bitmap; whatever does not come in time is asked for again.
    Mqtt,
}

impl Kind {
    /// Most chunks in flight.
    #[must_use]
    pub const fn window(self) -> u32 {
        match self {
            Self::Http => MAX_WINDOW,
            Self::Mqtt => MQTT_WINDOW,
        }
    }
}

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) at: Mono,
    /// When it is given up; `None`: its end is told.
    pub(super) until: Option<Mono>,
}

/// Somebody to ask.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) bucket: Bucket,
    /// Wrong answers.
    pub(super) wrong: u32,
    /// What it did wrong last.
    pub(super) told: Option<String>,
    /// Whether it brought something since it was left last.
    pub(super) brought: bool,
    /// Questions in a row that stayed without any answer.
    pub(super) silences: u32,
    /// The slowest answer lately.
    slowest: Option<Duration>,
}

impl Source {
    /// A source that may be asked for so many bytes a second, `None` for all that it gives. At once it is asked for a
    /// second's worth, and for a chunk at least.
    #[must_use]
    pub fn new(name: String, kind: Kind, bytes_per_s: Option<u64>, now: Mono) -> Self {
        let burst = bytes_per_s.unwrap_or_default().max(u64::from(*CHUNK_SIZES.end()));
        Self {
            name,
            kind,
            bucket: Bucket::new(bytes_per_s, burst, now),
            wrong: 0,
            told: None,
            brought: false,
            silences: 0,
            slowest: None,
        }
    }

    /// What it did wrong, for a person.
    pub(super) fn says(&self) -> Option<String> {
        self.told.as_ref().map(|told| format!("`{}`: {told}", self.name))
    }

    pub(super) const fn is_silent(&self) -> bool {
        self.silences >= SILENCES
    }

    /// An answer came, after so long where that can be told.
    pub(super) fn on_answer(&mut self, after: Option<Duration>) {
        if let Some(after) = after {
            let faded = self.slowest.unwrap_or_default() * 7 / 8;
            self.slowest = Some(after.max(faded));
        }
    }

    /// When a question asked now is given up: after its patience, and a part of as much again that doubles with each
    /// silence and is drawn by lot.
    pub(super) fn until(&self, now: Mono, jitter: u32) -> Option<Mono> {
        if self.kind == Kind::Http {
            return None;
        }
        let slowest = self.slowest.map(|slowest| slowest * PATIENCE_TIMES);
        let patience = slowest.unwrap_or(FIRST_PATIENCE).clamp(PATIENCE.0, PATIENCE.1);
        let more = patience.saturating_mul(1 << self.silences.min(16)).min(PATIENCE.1);
        Some(now.after(patience + share(more, jitter)))
    }
}
