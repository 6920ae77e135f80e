//! The two clocks, read in this one place.

use shoal_proto::time::{Mono, Now, WallMs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads wall time and the time since the process started.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks. Wall time before 1970 reads as 1970.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.mono(), wall: WallMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)) }
    }

    /// Only the monotonic clock: cheap enough to time a request with.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(self.started.elapsed())
    }

    /// How long to sleep until a deadline; zero when it has passed.
    #[must_use]
    pub fn until(&self, deadline: Mono) -> Duration {
        deadline.since(self.mono())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_falls_and_deadlines_pass() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono <= second.mono);
        assert_eq!(clock.until(Mono::default()), Duration::ZERO);
        assert!(clock.until(Mono::from_millis(3_600_000)) > Duration::from_secs(3_000));
    }
}
