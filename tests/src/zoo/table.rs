//! What became of all files, as it is printed.

use super::probe::{Answers, PATIENCE};
use crate::hostile::{Expect, Fate, Hostile, Stop};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Most memory of a child.
pub(super) const MAX_BYTES: u64 = 256 << 20;
/// Longest life of a child, and half a second to notice its end on a busy machine.
const MAX_WALL: Duration = Duration::from_millis(10_500);
/// Files of one kind that are named.
const MAX_NAMED: usize = 12;

/// Counts and extremes.
#[derive(Debug, Default)]
pub(super) struct Table {
    files: usize,
    stops: BTreeMap<Stop, usize>,
    panics: BTreeMap<String, (usize, String)>,
    peak: (u64, String),
    longest: (Duration, String),
    slowest_check: (Duration, String),
    /// Most memory of any child, as this process saw it from outside.
    pub(super) seen_bytes: u64,
    named: BTreeMap<Stop, Vec<String>>,
    wrong: Vec<String>,
    /// Files that also went through the running agent: given, taken, then served.
    pub(super) installed: (usize, usize, usize),
}

impl Table {
    pub(super) fn add(&mut self, number: usize, file: &Hostile, fate: &Fate) {
        let name = format!("{number} ({})", file.name);
        self.files += 1;
        *self.stops.entry(fate.stop).or_default() += 1;
        for site in &fate.panics {
            self.panics.entry(site.clone()).or_insert_with(|| (0, name.clone())).0 += 1;
        }
        let most = |best: &mut (Duration, String), now: Duration| {
            if now > best.0 {
                *best = (now, name.clone());
            }
        };
        most(&mut self.longest, fate.wall);
        most(&mut self.slowest_check, fate.pre_check);
        if let Some(peak) = fate.peak_bytes.filter(|peak| *peak > self.peak.0) {
            self.peak = (peak, name.clone());
        }
        if matches!(fate.stop, Stop::Memory | Stop::Cpu | Stop::Wall | Stop::Signal | Stop::Lost) {
            let reason: String = fate.reason.chars().take(160).collect();
            self.named.entry(fate.stop).or_default().push(format!("{name}: {reason}"));
        }
        let is_wrong = match file.expect {
            Expect::PreCheck(word) => fate.stop != Stop::PreCheck || !fate.reason.contains(word),
            Expect::NotAdmitted => fate.stop == Stop::Admitted,
            Expect::Anything => false,
        };
        if is_wrong {
            self.wrong
                .push(format!("{name}: expected {:?}, got {:?} {}", file.expect, fate.stop, fate.reason));
        }
    }

    /// What breaks the promise; empty when nothing does.
    pub(super) fn broken(&self, answers: &Answers, is_running: bool) -> Vec<String> {
        let mut broken = self.wrong.clone();
        let mut no = |is_broken: bool, text: String| {
            if is_broken {
                broken.push(text);
            }
        };
        let peak = self.peak.0.max(self.seen_bytes);
        no(peak > MAX_BYTES, format!("a child took {} MiB: {}", mib(peak), self.peak.1));
        no(
            self.longest.0 > MAX_WALL,
            format!("a child took {:.1} s: {}", self.longest.0.as_secs_f64(), self.longest.1),
        );
        no(
            self.count(Stop::Lost) > 0,
            format!("{} children gave no answer that can be told", self.count(Stop::Lost)),
        );
        no(!is_running, "the agent fell".into());
        let (failed, first) = &answers.failures;
        no(*failed > 0, format!("{failed} good requests failed: {}", first.as_deref().unwrap_or_default()));
        let late = answers.ms.last().is_some_and(|ms| *ms > PATIENCE.as_secs_f64() * 1e3);
        no(late, "a good request took more than a second".into());
        no(answers.ms.is_empty(), "no good request was answered at all".into());
        broken
    }

    fn count(&self, stop: Stop) -> usize {
        self.stops.get(&stop).copied().unwrap_or_default()
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, value: String| writeln!(f, "{what:<34}{value}");
        line("files", self.files.to_string())?;
        for (stop, what) in [
            (Stop::PreCheck, "refused by the pre-check"),
            (Stop::Engine, "refused by the engine"),
            (Stop::Trial, "refused by the trial"),
            (Stop::Manifest, "refused by the manifest"),
            (Stop::Admitted, "admitted"),
            (Stop::Memory, "child ended by memory"),
            (Stop::Cpu, "child ended by processor time"),
            (Stop::Wall, "child ended by wall time"),
            (Stop::Signal, "child ended by another signal"),
            (Stop::Lost, "child lost"),
        ] {
            line(what, self.count(stop).to_string())?;
        }
        let seen = format!("{} MiB by itself, {} MiB from outside", mib(self.peak.0), mib(self.seen_bytes));
        line("largest peak of a child", format!("{seen}: {}", self.peak.1))?;
        line("longest child", format!("{:.2} s: {}", self.longest.0.as_secs_f64(), self.longest.1))?;
        let check = self.slowest_check.0.as_secs_f64() * 1e3;
        line("longest pre-check", format!("{check:.0} ms: {}", self.slowest_check.1))?;
        let (given, taken, served) = self.installed;
        line("through the running agent", format!("{given} given, {taken} taken in, {served} served"))?;
        line(
            "panics inside children",
            self.panics.values().map(|(count, _)| count).sum::<usize>().to_string(),
        )?;
        let mut sites: Vec<_> = self.panics.iter().collect();
        sites.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (site, (count, first)) in sites {
            line("", format!("{count:>5} × {site}, first {first}"))?;
        }
        for (stop, files) in &self.named {
            line(&format!("{stop:?}"), format!("{} files", files.len()))?;
            for file in files.iter().take(MAX_NAMED) {
                line("", file.clone())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.quantile(0.5), self.quantile(0.99));
        let max = self.ms.last().copied().unwrap_or_default();
        let (requests, failed) = (self.ms.len(), self.failures.0);
        write!(
            f,
            "good requests meanwhile           {requests}, {failed} failed, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
        )
    }
}
