//! What the device says of itself: heat, power, room, and how long applications wait for answers.
//!
//! Linux's own files below a root that is configured, so that tests stand in for a board. What cannot be read is
//! not there: a run waits for what a sensor says, and never for a sensor.

use crate::config::SensorsAt;
use crate::core::{Conditions, Power};
use crate::serve::{LatencyCounts, Models};
use shoal_proto::id::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Heat outside this range is a sensor that is broken or switched off, in thousandths of a degree.
const CREDIBLE_MC: std::ops::RangeInclusive<i32> = -55_000..=150_000;
/// Requests since the last look below which a quantile says nothing.
const MIN_REQUESTS: u64 = 20;
/// A file of `/sys` is a page at most.
const MAX_BYTES: u64 = 4_096;

/// The device's sensors.
#[derive(Debug)]
pub struct Sensors {
    at: SensorsAt,
    state: PathBuf,
    /// How many requests had taken how long at the last look, by model and version.
    seen: BTreeMap<(String, Digest), LatencyCounts>,
}

impl Sensors {
    /// `state` is the folder on whose disk there must be room.
    #[must_use]
    pub fn new(at: SensorsAt, state: PathBuf) -> Self {
        Self { at, state, seen: BTreeMap::new() }
    }

    /// What the device says now; latency and bytes written are known elsewhere.
    #[must_use]
    pub fn look(&self) -> Conditions {
        Conditions {
            temperature_mc: self.temperature_mc(),
            power: self.power(),
            disk_free_bytes: disk_free_bytes(&self.state),
            ..Conditions::default()
        }
    }

    /// What 99 of 100 requests stayed below since the last look, of the slowest model; `None` where too few
    /// came.
    pub fn latency_us(&mut self, models: &Models) -> Option<u64> {
        let mut slowest = None;
        let mut seen = BTreeMap::new();
        for model in models.all() {
            let (key, counts) = ((model.name().to_string(), model.digest()), model.latency_counts());
            let recent = self.seen.get(&key).map_or_else(|| counts.clone(), |before| counts.since(before));
            let p99 = recent.quantile_us(0.99).filter(|_| recent.requests() >= MIN_REQUESTS);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below two to the 36th"
            )]
            let p99 = p99.map(|micros| micros as u64);
            slowest = slowest.max(p99);
            seen.insert(key, counts);
        }
        self.seen = seen;
        slowest
    }

    fn temperature_mc(&self) -> Option<i32> {
        let zones = folders(&self.at.root.join("sys/class/thermal"));
        let counted = zones.iter().filter(|zone| {
            let name = zone.file_name().unwrap_or_default().to_string_lossy();
            match &self.at.zone {
                Some(wanted) => *wanted == name || read(zone, "type").as_ref() == Some(wanted),
                None => name.starts_with("thermal_zone"),
            }
        });
        let read = counted.filter_map(|zone| read(zone, "temp")?.parse::<i32>().ok());
        read.filter(|mc| CREDIBLE_MC.contains(mc)).max()
    }

    /// Mains where any supply from outside is online or a battery is being filled; else the emptiest battery of
    /// the device itself, and not of a mouse.
    fn power(&self) -> Option<Power> {
        let mut emptiest = None;
        for supply in folders(&self.at.root.join("sys/class/power_supply")) {
            if read(&supply, "scope").as_deref() == Some("Device") {
                continue;
            }
            let is_battery = read(&supply, "type").as_deref() == Some("Battery");
            let status = read(&supply, "status");
            let is_filled = matches!(status.as_deref(), Some("Charging" | "Full"));
            if (!is_battery && read(&supply, "online").as_deref() == Some("1")) || (is_battery && is_filled) {
                return Some(Power::Mains);
            }
            let percent = read(&supply, "capacity").and_then(|text| text.parse::<u8>().ok());
            if let Some(percent) = percent.filter(|percent| is_battery && *percent <= 100) {
                emptiest = Some(emptiest.map_or(percent, |other: u8| other.min(percent)));
            }
        }
        emptiest.map(|percent| Power::Battery { percent })
    }
}

/// Room on a disk that a process without privileges may use.
fn disk_free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn read(folder: &Path, name: &str) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(folder.join(name)).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A board: files below `sys/class`, and what is in them.
    fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join("sys/class").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        root
    }

    fn look(root: &tempfile::TempDir, zone: Option<&str>) -> Conditions {
        let at = SensorsAt { root: root.path().to_owned(), zone: zone.map(str::to_owned) };
        Sensors::new(at, root.path().to_owned()).look()
    }

    #[test]
    fn the_hottest_or_the_named_zone_counts() {
        let root = board(&[
            ("thermal/thermal_zone0/temp", "41000\n"),
            ("thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("thermal/thermal_zone1/temp", "63500\n"),
            ("thermal/thermal_zone1/type", "gpu-thermal\n"),
            ("thermal/thermal_zone2/temp", "-274000\n"),
            ("thermal/thermal_zone3/type", "off\n"),
            ("thermal/cooling_device0/temp", "99000\n"),
        ]);
        for (zone, mc) in [
            (None, Some(63_500)),
            (Some("cpu-thermal"), Some(41_000)),
            (Some("thermal_zone1"), Some(63_500)),
            (Some("thermal_zone2"), None),
            (Some("off"), None),
            (Some("none"), None),
        ] {
            assert_eq!(look(&root, zone).temperature_mc, mc, "{zone:?}");
        }
    }

    #[test]
    fn power_is_mains_or_the_emptiest_battery() {
        let battery = ("power_supply/BAT0/type", "Battery\n");
        let level = |text| ("power_supply/BAT0/capacity", text);
        for (files, power) in [
            (vec![], None),
            (vec![battery, level("41\n")], Some(Power::Battery { percent: 41 })),
            (vec![battery, level("41"), ("power_supply/BAT0/status", "Charging")], Some(Power::Mains)),
            (
                vec![
                    battery,
                    level("41"),
                    ("power_supply/AC/type", "Mains"),
                    ("power_supply/AC/online", "1"),
                ],
                Some(Power::Mains),
            ),
            (
                vec![
                    battery,
                    level("41"),
                    ("power_supply/AC/type", "Mains"),
                    ("power_supply/AC/online", "0"),
                ],
                Some(Power::Battery { percent: 41 }),
            ),
            (
                vec![
                    battery,
                    level("41"),
                    ("power_supply/BAT1/type", "Battery"),
                    ("power_supply/BAT1/capacity", "7"),
                    ("power_supply/mouse/type", "Battery"),
                    ("power_supply/mouse/scope", "Device"),
                    ("power_supply/mouse/capacity", "1"),
                ],
                Some(Power::Battery { percent: 7 }),
            ),
            (vec![battery, level("unknown")], None),
            (vec![("power_supply/usb/type", "USB"), ("power_supply/usb/online", "1")], Some(Power::Mains)),
        ] {
            assert_eq!(look(&board(&files), None).power, power, "{files:?}");
        }
    }

    #[test]
    fn a_board_without_sensors_has_a_disk() {
        let seen = look(&board(&[]), None);
        assert!(seen.disk_free_bytes.is_some_and(|free| free > 0));
        assert_eq!(Conditions { disk_free_bytes: None, ..seen }, Conditions::default());
        let nowhere = SensorsAt { root: "/no/such/root".into(), zone: None };
        assert_eq!(Sensors::new(nowhere, "/no/such/folder".into()).look(), Conditions::default());
    }
}
