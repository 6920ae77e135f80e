//! What was measured, as a table and as JSON.

use serde::Serialize;
use shoal_tests::rig::Memory;
use std::fmt;

/// Latency of one row over one way in: quantiles of each round.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) model: String,
    pub(crate) way: &'static str,
    /// The middle of the rounds' medians.
    pub(crate) p50_us: f64,
    /// The quietest round's median.
    pub(crate) best_p50_us: f64,
    /// The middle of the rounds' 99th percentiles.
    pub(crate) p99_us: f64,
}

/// Throughput at a number of clients: the middle of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) server: &'static str,
    pub(crate) model: String,
    pub(crate) clients: usize,
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Memory of a server's process.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) server: &'static str,
    pub(crate) model: String,
    pub(crate) when: &'static str,
    pub(crate) memory: Memory,
}

/// Something of ours beside something else.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    /// Ours over theirs, or less theirs where `is_difference`.
    pub(crate) value: f64,
    pub(crate) is_difference: bool,
    /// What is promised; `None` where a number is only told.
    pub(crate) at_most: Option<f64>,
}

impl Ratio {
    pub(crate) fn share(what: String, ours: f64, theirs: f64, at_most: Option<f64>) -> Self {
        Self { what, ours, theirs, value: ours / theirs, is_difference: false, at_most }
    }

    pub(crate) fn difference(what: String, ours: f64, theirs: f64, at_most: f64) -> Self {
        Self { what, ours, theirs, value: ours - theirs, is_difference: true, at_most: Some(at_most) }
    }

    fn verdict(&self) -> &'static str {
        match self.at_most {
            None => "",
            Some(most) if self.value <= most => "reached",
            Some(_) => "MISSED",
        }
    }
}

/// All of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    /// Load average at the begin and at the end: beyond our own client and server, others were at work.
    pub(crate) load_average: (f64, f64),
    pub(crate) notes: Vec<String>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) sizes: Vec<Size>,
    pub(crate) ratios: Vec<Ratio>,
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = self.load_average;
        writeln!(f, "{} cores, load average {begin:.1} at the begin and {end:.1} at the end", self.cores)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "\n{:<10} {:<22} {:>9} {:>9} {:>9}", "one row", "way", "p50 µs", "best p50", "p99 µs")?;
        for line in &self.latencies {
            let Latency { model, way, p50_us, best_p50_us, p99_us } = line;
            writeln!(f, "{model:<10} {way:<22} {p50_us:>9.1} {best_p50_us:>9.1} {p99_us:>9.1}")?;
        }
        writeln!(
            f,
            "\n{:<10} {:<9} {:>7} {:>11} {:>11} {:>9} {:>9}",
            "throughput", "server", "clients", "requests/s", "CPU µs/req", "p50 µs", "p99 µs"
        )?;
        for line in &self.rates {
            let Rate { server, model, clients, per_second, cpu_us, p50_us, p99_us } = line;
            writeln!(
                f,
                "{model:<10} {server:<9} {clients:>7} {per_second:>11.0} {cpu_us:>11.1} {p50_us:>9.0} {p99_us:>9.0}"
            )?;
        }
        writeln!(
            f,
            "\n{:<10} {:<9} {:<16} {:>8} {:>8} {:>14}",
            "memory", "server", "when", "RSS MiB", "PSS MiB", "anonymous MiB"
        )?;
        for Size { server, model, when, memory } in &self.sizes {
            let [rss, pss, own] = [memory.rss_bytes, memory.pss_bytes, memory.anonymous_bytes].map(mib);
            writeln!(f, "{model:<10} {server:<9} {when:<16} {rss:>8.1} {pss:>8.1} {own:>14.1}")?;
        }
        writeln!(
            f,
            "\n{:<52} {:>9} {:>9} {:>10} {:>9}",
            "ours beside theirs", "ours", "theirs", "value", "promised"
        )?;
        for ratio in &self.ratios {
            let Ratio { what, ours, theirs, value, is_difference, at_most } = ratio;
            let value = if *is_difference { format!("+{value:.1} µs") } else { format!("× {value:.3}") };
            let promised = at_most.map_or_else(String::new, |most| format!("≤ {most}"));
            let line =
                format!("{what:<52} {ours:>9.1} {theirs:>9.1} {value:>10} {promised:>9} {}", ratio.verdict());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
