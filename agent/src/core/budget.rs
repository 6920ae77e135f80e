//! What training may cost the device: when a run may go, when it pauses, and what it may use.
//!
//! Everything here follows from what the sensors said last. A sensor that is not there holds nothing: a board
//! without a battery runs on mains, and one without a thermometer is cooled by its maker.

use serde::{Deserialize, Serialize};
use shoal_proto::time::{Now, WallMs};
use std::fmt;
use std::time::Duration;

/// A run held for heat goes on when it is so much cooler, or it would start and stop with each degree.
const COOLER_MC: i32 = 5_000;
/// A run held for an empty battery goes on when it is so much fuller, in percent.
const FULLER: u8 = 5;
/// Shares of the limit at which runs held for room, for bytes written and for latency go on.
const ROOMIER: f64 = 1.1;
const RESTED: f64 = 0.9;
const QUICKER: f64 = 0.8;
/// A wall clock before this moment (2024-01-01) was never set: boards without a battery begin in 1970.
const CLOCK_IS_SET: WallMs = WallMs(1_704_067_200_000);
/// A device whose clock was not set so long after the start has none, and hours of the day mean nothing to it:
/// they hold no run any longer.
const CLOCK_PATIENCE: Duration = Duration::from_secs(3_600);
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// What runs may use, and in what state of the device they may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Time of a run by the clock, without its pauses.
    pub max_run: Duration,
    /// Hottest that the device may be, in thousandths of a degree Celsius.
    pub temperature_mc: Option<i32>,
    /// Least charge of the battery, in percent, where the device does not run on mains.
    pub battery: Option<u8>,
    /// Room that must stay free on the disk of the state folder.
    pub disk_free_bytes: Option<u64>,
    /// Bytes that all runs of a day may write.
    pub written_a_day: Option<u64>,
    /// Most that 99 of 100 requests may take in the server, in microseconds.
    pub latency_us: Option<u64>,
    /// When runs may go; no list, no hold.
    pub hours: Vec<Hours>,
    /// What is added to UTC for the device's local time, in minutes.
    pub utc_offset_min: i16,
}

impl Budget {
    /// No limit but half an hour for a run.
    pub const NONE: Self = Self {
        max_run: Duration::from_secs(1_800),
        temperature_mc: None,
        battery: None,
        disk_free_bytes: None,
        written_a_day: None,
        latency_us: None,
        hours: Vec::new(),
        utc_offset_min: 0,
    };

    /// What a device keeps to unless told otherwise: boards throttle from 80 to 85 °C; a third of a battery is
    /// for what the device is there for; a disk that is full takes no checkpoint and no candidate.
    pub const USUAL: Self = Self {
        temperature_mc: Some(80_000),
        battery: Some(30),
        disk_free_bytes: Some(64 << 20),
        max_run: Duration::from_secs(1_800),
        written_a_day: None,
        latency_us: None,
        hours: Vec::new(),
        utc_offset_min: 0,
    };

    /// Whether anything is to be looked at before and during a run.
    #[must_use]
    pub fn looks(&self) -> bool {
        self.temperature_mc.is_some()
            || self.battery.is_some()
            || self.disk_free_bytes.is_some()
            || self.written_a_day.is_some()
            || self.latency_us.is_some()
            || !self.hours.is_empty()
    }

    /// Why no run may go now; `None`: it may. `before` is what held it until now: it lets go later than it
    /// takes hold.
    #[must_use]
    pub fn hold(&self, now: Now, seen: &Conditions, written: u64, before: Option<Hold>) -> Option<Hold> {
        self.heat(seen, before)
            .or_else(|| self.power(seen, before))
            .or_else(|| self.room(seen, before))
            .or_else(|| self.wear(written, before))
            .or_else(|| self.slow(seen, before))
            .or_else(|| self.closed(now))
    }

    fn heat(&self, seen: &Conditions, before: Option<Hold>) -> Option<Hold> {
        let (is_mc, limit_mc) = (seen.temperature_mc?, self.temperature_mc?);
        let held = matches!(before, Some(Hold::Temperature { .. }));
        let above = if held { limit_mc.saturating_sub(COOLER_MC) } else { limit_mc };
        (is_mc > above).then_some(Hold::Temperature { is_mc, limit_mc, above_mc: above })
    }

    fn power(&self, seen: &Conditions, before: Option<Hold>) -> Option<Hold> {
        let Power::Battery { percent } = seen.power? else { return None };
        let limit = self.battery?;
        let held = matches!(before, Some(Hold::Battery { .. }));
        let least = if held { limit.saturating_add(FULLER).min(100) } else { limit };
        (percent < least).then_some(Hold::Battery { percent, least })
    }

    fn room(&self, seen: &Conditions, before: Option<Hold>) -> Option<Hold> {
        let (free_bytes, limit) = (seen.disk_free_bytes?, self.disk_free_bytes?);
        let held = matches!(before, Some(Hold::Disk { .. }));
        let least_bytes = if held { share_of(limit, ROOMIER) } else { limit };
        (free_bytes < least_bytes).then_some(Hold::Disk { free_bytes, least_bytes })
    }

    fn wear(&self, bytes: u64, before: Option<Hold>) -> Option<Hold> {
        let limit_bytes = self.written_a_day?;
        let held = matches!(before, Some(Hold::Written { .. }));
        let from = if held { share_of(limit_bytes, RESTED) } else { limit_bytes };
        (bytes >= from).then_some(Hold::Written { bytes, limit_bytes })
    }

    fn slow(&self, seen: &Conditions, before: Option<Hold>) -> Option<Hold> {
        let (p99_us, limit) = (seen.latency_us?, self.latency_us?);
        let held = matches!(before, Some(Hold::Latency { .. }));
        let limit_us = if held { share_of(limit, QUICKER) } else { limit };
        (p99_us > limit_us).then_some(Hold::Latency { p99_us, limit_us })
    }

    fn closed(&self, now: Now) -> Option<Hold> {
        if self.hours.is_empty() {
            return None;
        }
        if now.wall < CLOCK_IS_SET {
            let left = CLOCK_PATIENCE.saturating_sub(now.mono.0);
            return (!left.is_zero()).then_some(Hold::Clock { left_s: left.as_secs() });
        }
        let minute = self.minute(now.wall);
        let next = self.hours.iter().map(|hours| hours.until(minute)).min()?;
        (next > 0).then_some(Hold::Hours { minute, opens: (minute + next) % DAY })
    }

    /// Minute of the device's local day.
    fn minute(&self, wall: WallMs) -> u16 {
        let minutes = i64::try_from(wall.0 / 60_000).unwrap_or(0) + i64::from(self.utc_offset_min);
        u16::try_from(minutes.rem_euclid(i64::from(DAY))).unwrap_or(0)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::NONE
    }
}

fn share_of(limit: u64, share: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a limit is no exact number"
    )]
    let part = (limit as f64 * share) as u64;
    part
}

/// A part of the day, from one minute to another that does not belong to it; over midnight where the end is
/// the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First minute.
    pub from: u16,
    /// The minute after the last.
    pub to: u16,
}

impl Hours {
    /// Minutes until it begins; nought inside it. As long as it is wide, it is the whole day.
    fn until(self, minute: u16) -> u16 {
        let inside = if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        };
        if inside { 0 } else { (self.from + DAY - minute) % DAY }
    }
}

impl std::str::FromStr for Hours {
    type Err = String;

    /// `22:00-06:00`.
    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            let whole = hour * 60 + minute;
            (hour <= 24 && minute < 60 && whole <= DAY).then_some(whole)
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match ends {
            Some((from, to)) if from < DAY && from != to => Ok(Self { from, to }),
            _ => Err(format!("`{text}` is no part of a day")),
        }
    }
}

/// What the sensors say; `None` where there is no such sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The hottest place, or the one that is configured, in thousandths of a degree Celsius.
    pub temperature_mc: Option<i32>,
    /// Where the power comes from.
    pub power: Option<Power>,
    /// Free on the disk of the state folder.
    pub disk_free_bytes: Option<u64>,
    /// What 99 of 100 requests stayed below in the last seconds, of the slowest model, in microseconds.
    pub latency_us: Option<u64>,
    /// What all training children of this life of the process have written to the disk.
    pub written_bytes: u64,
}

/// Where the power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// From outside.
    Mains,
    /// From a battery that is filled to this.
    Battery {
        /// Charge.
        percent: u8,
    },
}

/// What a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The sensors have not been looked at yet.
    Sensors,
    /// The device is too hot; it must come down to `above_mc`.
    Temperature { is_mc: i32, limit_mc: i32, above_mc: i32 },
    /// The battery is too empty.
    Battery { percent: u8, least: u8 },
    /// The disk is too full.
    Disk { free_bytes: u64, least_bytes: u64 },
    /// Runs have written what they may in a day.
    Written { bytes: u64, limit_bytes: u64 },
    /// Applications wait too long for answers.
    Latency { p99_us: u64, limit_us: u64 },
    /// It is not the time of day.
    Hours { minute: u16, opens: u16 },
    /// It may not be the time of day: the clock is not set, and is waited for.
    Clock { left_s: u64 },
}

/// Celsius, with a digit where it is needed.
fn degrees(mc: i32) -> String {
    if mc % 1_000 == 0 { format!("{} °C", mc / 1_000) } else { format!("{:.1} °C", f64::from(mc) / 1e3) }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        let time = |minute: &u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        match self {
            Self::Sensors => f.write_str("a look at the sensors"),
            Self::Temperature { is_mc, limit_mc, above_mc } if is_mc > limit_mc || limit_mc == above_mc => {
                write!(f, "temperature {} > {}", degrees(*is_mc), degrees(*limit_mc))
            }
            Self::Temperature { is_mc, limit_mc, above_mc } => {
                let (is, limit, above) = (degrees(*is_mc), degrees(*limit_mc), degrees(*above_mc));
                write!(f, "temperature {is} > {above} (was above {limit})")
            }
            Self::Battery { percent, least } => write!(f, "battery {percent} % < {least} %"),
            Self::Disk { free_bytes, least_bytes } => {
                write!(f, "free disk {} MiB < {} MiB", free_bytes / MIB, least_bytes / MIB)
            }
            Self::Written { bytes, limit_bytes } => {
                write!(f, "bytes written: {} of {} MiB a day", bytes / MIB, limit_bytes / MIB)
            }
            Self::Latency { p99_us, limit_us } => write!(f, "latency p99 {p99_us} µs > {limit_us} µs"),
            Self::Hours { minute, opens } => {
                write!(f, "quiet hours: {} now, from {}", time(minute), time(opens))
            }
            Self::Clock { left_s } => {
                write!(f, "quiet hours: the clock is not set, waited for {left_s} s more")
            }
        }
    }
}

/// Bytes that runs have written, with what a day allows taken off as it passes: no calendar is needed, and what
/// may be written at once is a day's allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Written {
    /// Not yet worn off.
    pub bytes: u64,
}

impl Written {
    /// Adds what was written since, and takes off what the time allows.
    pub fn pass(&mut self, added: u64, passed: Duration, a_day: Option<u64>) {
        let day = u128::from(DAY) * 60_000;
        let allowed = u128::from(a_day.unwrap_or(0)) * passed.as_millis() / day;
        let left = u128::from(self.bytes).saturating_sub(allowed) + u128::from(added);
        self.bytes = u64::try_from(left).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::time::Mono;

    const NOON: WallMs = WallMs(1_752_580_800_000); // 2025-07-15 12:00 UTC

    fn at(wall: WallMs, mono_s: u64) -> Now {
        Now { mono: Mono(Duration::from_secs(mono_s)), wall }
    }

    #[test]
    fn each_limit_takes_hold_and_lets_go_later() {
        let budget = Budget {
            temperature_mc: Some(75_000),
            battery: Some(30),
            disk_free_bytes: Some(100 << 20),
            written_a_day: Some(200 << 20),
            latency_us: Some(1_000),
            ..Budget::NONE
        };
        let none = Conditions::default();
        let hot = |mc| (Conditions { temperature_mc: Some(mc), ..none }, 0);
        let battery = |percent| (Conditions { power: Some(Power::Battery { percent }), ..none }, 0);
        let free = |mib: u64| (Conditions { disk_free_bytes: Some(mib << 20), ..none }, 0);
        let wrote = |mib: u64| (none, mib << 20);
        let took = |us| (Conditions { latency_us: Some(us), ..none }, 0);
        for (steps, words) in [
            // What is seen, and whether it holds: one after the other.
            (
                vec![(hot(75_000), false), (hot(81_000), true), (hot(71_000), true), (hot(70_000), false)],
                "temperature 81 °C > 75 °C",
            ),
            (
                vec![
                    (battery(30), false),
                    (battery(29), true),
                    (battery(34), true),
                    (battery(35), false),
                    (battery(34), false),
                ],
                "battery 29 % < 30 %",
            ),
            (
                vec![(free(100), false), (free(99), true), (free(109), true), (free(110), false)],
                "free disk 99 MiB < 100 MiB",
            ),
            (
                vec![(wrote(199), false), (wrote(200), true), (wrote(181), true), (wrote(179), false)],
                "bytes written: 200 of 200 MiB a day",
            ),
            (
                vec![(took(1_000), false), (took(1_001), true), (took(801), true), (took(800), false)],
                "latency p99 1001 µs > 1000 µs",
            ),
        ] {
            let (mut before, mut first) = (None, None);
            for ((seen, written), holds) in steps {
                let hold = budget.hold(at(NOON, 0), &seen, written, before);
                assert_eq!(hold.is_some(), holds, "{seen:?} {written} after {before:?}");
                first = first.or(hold);
                before = hold;
            }
            assert_eq!(first.unwrap().to_string(), words);
        }
        let mains = Conditions { power: Some(Power::Mains), ..none };
        let empty = Some(Hold::Battery { percent: 1, least: 35 });
        assert_eq!(budget.hold(at(NOON, 0), &mains, 0, empty), None, "plugged in");
        assert_eq!(budget.hold(at(NOON, 0), &none, 0, empty), None, "no such sensor");
        assert!(budget.looks() && Budget::USUAL.looks() && !Budget::NONE.looks());
        let warm = budget.hold(
            at(NOON, 0),
            &hot(72_500).0,
            0,
            Some(Hold::Temperature { is_mc: 0, limit_mc: 0, above_mc: 0 }),
        );
        assert_eq!(warm.unwrap().to_string(), "temperature 72.5 °C > 70 °C (was above 75 °C)");
    }

    #[test]
    fn hours_hold_by_local_time_and_an_unset_clock_not_for_ever() {
        let night: Hours = "22:00-06:00".parse().unwrap();
        let lunch: Hours = "12:00-13:30".parse().unwrap();
        let budget = |hours: &[Hours], utc_offset_min| Budget {
            hours: hours.to_vec(),
            utc_offset_min,
            ..Budget::NONE
        };
        let none = Conditions::default();
        for (hours, offset, wall, words) in [
            (vec![lunch], 0, NOON, None),
            (vec![night], 0, NOON, Some("quiet hours: 12:00 now, from 22:00")),
            (vec![night], 600, NOON, None),
            (vec![night], -361, NOON, None),
            (vec![night], -360, NOON, Some("quiet hours: 06:00 now, from 22:00")),
            (vec![night, lunch], -30, NOON, Some("quiet hours: 11:30 now, from 12:00")),
            (vec![lunch], 90, NOON, Some("quiet hours: 13:30 now, from 12:00")),
            (
                vec![night],
                0,
                WallMs(5_000),
                Some("quiet hours: the clock is not set, waited for 3540 s more"),
            ),
        ] {
            let hold = budget(&hours, offset).hold(at(wall, 60), &none, 0, None);
            assert_eq!(hold.map(|hold| hold.to_string()).as_deref(), words, "{hours:?} {offset}");
        }
        assert_eq!(
            budget(&[night], 0).hold(at(WallMs(5_000), 3_600), &none, 0, None),
            None,
            "it has no clock"
        );
        for text in ["", "22:00", "25:00-03:00", "10:60-11:00", "10:00-10:00", "24:00-01:00", "a:b-c:d"] {
            assert!(text.parse::<Hours>().is_err(), "{text}");
        }
        assert_eq!("00:00-24:00".parse(), Ok(Hours { from: 0, to: DAY }));
    }

    #[test]
    fn what_is_written_wears_off_in_a_day() {
        let (hour, mib) = (Duration::from_secs(3_600), 1_u64 << 20);
        let mut written = Written::default();
        for (added, hours, left) in [(240, 0, 240), (0, 1, 230), (10, 1, 230), (0, 23, 0), (5, 100, 5)] {
            written.pass(added * mib, hour * hours, Some(240 * mib));
            assert_eq!(written.bytes / mib, left);
        }
        written.pass(0, hour * 1_000, None);
        assert_eq!(written.bytes / mib, 5, "where nothing is allowed in a day, nothing is held against it");
    }
}
