//! What a process costs, as the kernel counts it.

use anyhow::Context as _;
use serde::Serialize;
use std::fs::read_to_string;
use std::time::Duration;

/// A clock tick of `/proc/PID/stat`: a hundredth of a second on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// Memory of a process.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    /// All pages that are in memory.
    pub rss_bytes: u64,
    /// The same, pages shared with others counted by their share.
    pub pss_bytes: u64,
    /// Pages that are of no file: what the process made itself.
    pub anonymous_bytes: u64,
}

/// Most memory that a process ever had.
pub fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .with_context(|| format!("`{path}` has no VmHWM"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

impl Memory {
    /// Reads `/proc/PID/smaps_rollup`.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
        let bytes = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        let field = |word: &str| bytes(word).with_context(|| format!("`{path}` has no {word}"));
        Ok(Self {
            rss_bytes: field("Rss:")?,
            pss_bytes: field("Pss:")?,
            anonymous_bytes: field("Anonymous:")?,
        })
    }
}

/// Processor time of a process since its start, in user and kernel mode, of all its threads; in steps of
/// ten milliseconds.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks = ticks.sum::<Result<u32, _>>().with_context(|| format!("`{path}` is not understood"))?;
    Ok(TICK * ticks)
}

/// Processes that ran or waited for a processor in the last minute, on average.
#[must_use]
pub fn load_average() -> f64 {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_worked() {
        let me = std::process::id();
        let memory = Memory::of(me).unwrap();
        assert!(memory.rss_bytes >= memory.pss_bytes && memory.anonymous_bytes > 0);
        let before = cpu(me).unwrap();
        let mut sum = 0u64;
        while cpu(me).unwrap() <= before {
            sum = (0..1_000_000u64).fold(sum, |sum, next| sum.wrapping_mul(31) ^ next);
        }
        assert!(cpu(me).unwrap() > before, "{sum}");
    }
}
