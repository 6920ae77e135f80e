//! Three kinds of time that must not be mixed.
//!
//! Wall time labels records and may jump (boards boot in 1970). Monotonic time carries deadlines.
//! The hybrid clock orders what one replica wrote; it never decides between two writers.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Wall time in milliseconds since 1970-01-01 UTC. A label, never a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct WallMs(pub u64);

/// Monotonic time since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// A moment this many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// The moment `later` after this one.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read once at the edge and handed to a core as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For labels.
    pub wall: WallMs,
}

/// How far a foreign stamp may lie ahead of our own wall clock before it is clamped.
pub const MAX_AHEAD_MS: u64 = 10 * 60 * 1000;

/// Bits of the logical counter in an [`Hlc`]: 65,536 events in a millisecond.
const LOGICAL_BITS: u32 = 16;
/// The last millisecond that an [`Hlc`] can name.
const MAX_STAMP_MS: u64 = u64::MAX >> LOGICAL_BITS;

/// A hybrid logical stamp: 48 bits of milliseconds, 16 bits of counter (Kulkarni et al., 2014).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The milliseconds in a stamp.
    #[must_use]
    pub const fn wall(self) -> WallMs {
        WallMs(self.0 >> LOGICAL_BITS)
    }

    /// The first stamp of a millisecond. Wall times past the 48 bits (the year 10889) stand at the end.
    #[must_use]
    pub const fn from_wall(wall: WallMs) -> Self {
        let ms = if wall.0 > MAX_STAMP_MS { MAX_STAMP_MS } else { wall.0 };
        Self(ms << LOGICAL_BITS)
    }

    /// The next stamp of this clock: past every stamp it gave or saw, and not before the wall clock.
    pub fn tick(&mut self, wall: WallMs) -> Self {
        self.0 = self.0.saturating_add(1).max(Self::from_wall(wall).0);
        *self
    }

    /// Takes notice of a foreign stamp. One that lies more than [`MAX_AHEAD_MS`] ahead of the wall
    /// clock is clamped, so that one device in 2099 does not drag the others along.
    pub fn observe(&mut self, seen: Self, wall: WallMs) {
        let limit = Self::from_wall(WallMs(wall.0.saturating_add(MAX_AHEAD_MS)));
        self.0 = self.0.max(seen.0.min(limit.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_rise_even_when_the_wall_clock_falls() {
        let mut clock = Hlc::default();
        let first = clock.tick(WallMs(1_000));
        let second = clock.tick(WallMs(0));
        let third = clock.tick(WallMs(2_000));
        assert!(first < second && second < third);
        assert_eq!(third.wall(), WallMs(2_000));
    }

    #[test]
    fn hostile_stamps_neither_wrap_nor_panic() {
        let mut clock = Hlc::default();
        clock.observe(Hlc(u64::MAX), WallMs(u64::MAX));
        let last = clock;
        assert!(clock.tick(WallMs(0)) >= last);
        assert!(clock.tick(WallMs(u64::MAX)) >= last);
        assert_eq!(Hlc::from_wall(WallMs(u64::MAX)).wall(), WallMs(MAX_STAMP_MS));
    }

    #[test]
    fn a_stamp_from_2099_is_clamped() {
        let mut clock = Hlc::default();
        clock.observe(Hlc(4_070_908_800_000 << LOGICAL_BITS), WallMs(1_000));
        assert_eq!(clock.wall(), WallMs(1_000 + MAX_AHEAD_MS));
    }
}
