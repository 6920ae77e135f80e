//! The one place where the hub reads a clock.

use shoal_proto::time::{Mono, Now, WallMs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The process's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Monotonic time counts from here.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Now { mono: Mono(self.started.elapsed()), wall }
    }

    /// How long until a moment; zero when it is past.
    #[must_use]
    pub fn until(&self, at: Mono) -> Duration {
        at.since(self.now().mono)
    }
}
