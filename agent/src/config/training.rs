//! `[retrain]`, `[budget]`, `[sensors]` and `[versions]`: what starts runs, what they may cost, what stays.

use super::reader::Reader;
use crate::core::budget::{Budget, Hours};
use crate::core::{Keep, Policy, Rebase};
use shoal_proto::decision::{MAX_SOURCE_RULES, SourceRule};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3_600);
/// The table of the sources that are not named.
const OTHER_SOURCES: &str = "default";

/// Where the sensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorsAt {
    /// What `/sys` lies in.
    pub root: PathBuf,
    /// The thermal zone that counts, by its type or its folder; else the hottest.
    pub zone: Option<String>,
}

pub(super) fn read_triggers(read: &mut Reader<'_>, policy: &mut Policy) {
    let triggers = &mut policy.triggers;
    triggers.goal = read.share("retrain", "goal", 0.01, 0.999);
    triggers.labels = read.whole("retrain", "labels", 0, 10_000_000).filter(|labels| *labels > 0);
    let every = read.whole("retrain", "every_h", 0, 24 * 366).filter(|hours| *hours > 0);
    triggers.every = every.and_then(|hours| u32::try_from(hours).ok()).map(|hours| HOUR * hours);
    if let Some(rebase) = read.parsed::<Rebase>("retrain", "rebase", "\"retrain\" or \"drop\"") {
        triggers.rebase = rebase;
    }
}

/// What labels count for, by their source: `[retrain.sources.NAME]`, and `default` for those that are not named.
pub(super) fn read_sources(read: &mut Reader<'_>, policy: &mut Policy) {
    let known = [("weight", 0.0, 1.0), ("max_share", 0.0, 1.0)];
    let tables = read.numbers_by_name("retrain", "sources", known);
    let rules = &mut policy.sources;
    for (line, name, [weight, max_share]) in tables {
        let usual = SourceRule::default();
        let rule = SourceRule {
            weight: weight.unwrap_or(usual.weight),
            max_share: max_share.unwrap_or(usual.max_share),
        };
        if name == OTHER_SOURCES {
            rules.others = rule;
        } else if rules.named.len() < MAX_SOURCE_RULES {
            rules.named.insert(name, rule);
        } else {
            let what = format!("is one of more than {MAX_SOURCE_RULES}");
            read.problem(line, &format!("retrain.sources.{name}"), what, "name fewer, and set `default`");
        }
    }
}

pub(super) fn read_budget(read: &mut Reader<'_>, policy: &mut Policy) {
    let usual = Budget::USUAL;
    let some = |value: Option<u64>, usual: Option<u64>, unit: u64| match value {
        Some(0) => None,
        Some(value) => Some(value * unit),
        None => usual,
    };
    let max_run = read.whole("retrain", "max_run_s", 1, 86_400).map_or(usual.max_run, Duration::from_secs);
    let temperature_mc = match read.whole("budget", "temperature_c", 0, 150) {
        Some(0) => None,
        Some(celsius) => i32::try_from(celsius * 1_000).ok(),
        None => usual.temperature_mc,
    };
    let battery = match read.whole("budget", "battery_percent", 0, 100) {
        Some(0) => None,
        Some(percent) => u8::try_from(percent).ok(),
        None => usual.battery,
    };
    let free = read.whole("budget", "disk_free_mib", 0, 1 << 30);
    let written = read.whole("budget", "written_mib_a_day", 0, 1 << 30);
    let latency = read.whole("budget", "latency_us", 0, 600_000_000);
    let mut hours = Vec::new();
    for (line, text) in read.texts("budget", "hours") {
        match text.parse::<Hours>() {
            Ok(part) => hours.push(part),
            Err(what) => {
                read.problem(line, "budget.hours", what, "write parts of the day such as \"22:00-06:00\"");
            }
        }
    }
    let offset =
        read.parsed::<Offset>("budget", "utc_offset", "what local time is ahead of UTC, such as \"+02:00\"");
    policy.budget = Budget {
        max_run,
        temperature_mc,
        battery,
        disk_free_bytes: some(free, usual.disk_free_bytes, MIB),
        written_a_day: some(written, usual.written_a_day, MIB),
        latency_us: some(latency, usual.latency_us, 1),
        hours,
        utc_offset_min: offset.map_or(0, |offset| offset.0),
    };
}

/// Share of one core that a training child gets.
pub(super) fn read_cpu_share(read: &mut Reader<'_>) -> f64 {
    let percent = read.whole("budget", "cpu_percent", 1, 100).unwrap_or(100);
    u32::try_from(percent).map_or(1.0, f64::from) / 100.0
}

pub(super) fn read_sensors(read: &mut Reader<'_>, base: &Path) -> SensorsAt {
    let root = read.path("sensors", "root", base).unwrap_or_else(|| "/".into());
    let zone = read.parsed::<String>("sensors", "zone", "a thermal zone such as \"cpu-thermal\"");
    SensorsAt { root, zone: zone.filter(|zone| !zone.is_empty()) }
}

pub(super) fn read_keep(read: &mut Reader<'_>, policy: &mut Policy) {
    let usual = Keep::default();
    let versions = read.whole("versions", "keep", 0, 10_000).and_then(|keep| usize::try_from(keep).ok());
    let bytes = read.whole("versions", "keep_mib", 0, 1 << 30).map(|mib| mib * MIB);
    policy.keep = Keep { versions: versions.unwrap_or(usual.versions), bytes: bytes.unwrap_or(usual.bytes) };
}

/// What local time is ahead of UTC, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset(i16);

impl FromStr for Offset {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (sign, rest) = match text.split_at_checked(1).ok_or(())? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return Err(()),
        };
        let (hours, minutes) = rest.split_once(':').ok_or(())?;
        let number = |text: &str| text.parse::<u8>().map(i16::from).map_err(drop);
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        if hours > 14 || minutes > 59 { Err(()) } else { Ok(Self(sign * (hours * 60 + minutes))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        let parsed = Config::parse(&format!("[device]\nid = \"a\"\n{text}"), Path::new("/etc/shoal"));
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_is_kept_to() {
        let config = parse(
            "[retrain]\ngoal = 0.9\nlabels = 500\nevery_h = 48\nrebase = \"drop\"\nmax_run_s = 60\n\
             [budget]\ncpu_percent = 25\ntemperature_c = 75\nbattery_percent = 0\ndisk_free_mib = 10\n\
             written_mib_a_day = 200\nlatency_us = 5000\nhours = [\"22:00-06:00\", \"12:00-13:00\"]\n\
             utc_offset = \"-03:30\"\n[sensors]\nroot = \"sys\"\nzone = \"cpu-thermal\"\n\
             [versions]\nkeep = 0\nkeep_mib = 7\n",
        )
        .unwrap();
        let triggers = config.policy.triggers;
        assert_eq!((triggers.goal, triggers.labels, triggers.every), (Some(0.9), Some(500), Some(HOUR * 48)));
        assert_eq!(triggers.rebase, Rebase::Drop);
        let budget = Budget {
            max_run: Duration::from_secs(60),
            temperature_mc: Some(75_000),
            battery: None,
            disk_free_bytes: Some(10 * MIB),
            written_a_day: Some(200 * MIB),
            latency_us: Some(5_000),
            hours: vec![Hours { from: 22 * 60, to: 6 * 60 }, Hours { from: 12 * 60, to: 13 * 60 }],
            utc_offset_min: -210,
        };
        assert_eq!(config.policy.budget, budget);
        assert_eq!(config.policy.keep, Keep { versions: 0, bytes: 7 * MIB });
        assert!((config.cpu_share - 0.25).abs() < 1e-9);
        let sensors = SensorsAt { root: "/etc/shoal/sys".into(), zone: Some("cpu-thermal".into()) };
        assert_eq!(config.sensors, sensors);
        let bare = parse("").unwrap();
        assert_eq!((bare.policy.budget, bare.policy.triggers.labels), (Budget::USUAL, None));
    }

    #[test]
    fn labels_count_by_their_source() {
        let text = "[retrain.sources.vision]\nweight = 0.3\nmax_share = 0.5\n[retrain.sources.\"line 2\"]\nweight = 0\n\
                    [retrain.sources.default]\nmax_share = 0.75\n";
        let rules = parse(text).unwrap().policy.sources;
        let rule = |weight, max_share| SourceRule { weight, max_share };
        for (source, expected) in
            [("vision", rule(0.3, 0.5)), ("line 2", rule(0.0, 1.0)), ("person", rule(1.0, 0.75))]
        {
            assert_eq!(rules.of(source), expected, "{source}");
        }
        assert!(parse("").unwrap().policy.sources.are_usual());
        let many: String = (0..17).map(|n| format!("[retrain.sources.s{n}]\nweight = 1\n")).collect();
        for (text, told) in [
            ("[retrain.sources.a]\nweight = 2", "line 4: `retrain.sources.a.weight`"),
            ("[retrain.sources.a]\nwieght = 1", "did you mean `weight`"),
            ("[retrain.sources]\na = 1", "tables such as [retrain.sources.NAME]"),
            ("[retrain]\nsources = 1", "tables such as [retrain.sources.NAME]"),
            (&many, "is one of more than 16"),
        ] {
            let problems = parse(text).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(told), "{text}: {problems:?}");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_told_with_line_and_fix() {
        for (text, told) in [
            ("[retrain]\ngoal = 90", "line 4: `retrain.goal`"),
            ("[retrain]\nrebase = \"keep\"", "\"retrain\" or \"drop\""),
            ("[retrain]\nevery_h = -1", "whole number from 0 to"),
            (
                "[budget]\nhours = [\"22:00-06:00\", \"late\"]",
                "line 4: `budget.hours`: `late` is no part of a day",
            ),
            ("[budget]\nhours = \"22:00-06:00\"", "a list of texts"),
            ("[budget]\nutc_offset = 2", "such as \"+02:00\""),
            ("[budget]\nutc_offset = \"+15:00\"", "such as \"+02:00\""),
            ("[budget]\nbattery_percent = 101", "from 0 to 100"),
            ("[budget]\ntemprature_c = 70", "did you mean `temperature_c`"),
            ("[versions]\nkeep = \"all\"", "line 4: `versions.keep`"),
        ] {
            let problems = parse(text).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(told), "{text}: {problems:?}");
        }
    }
}
