//! How soon a change is found.

use super::published;
use super::streams::{ALL, CHANGE, REFERENCE};
use super::subject::{RUN_LENGTH, Subject, split};
use super::table::{Cell, Table};

/// A change not found by then is missed.
const PATIENCE: usize = 2_500;
/// Median delays that are promised.
const TARGETS: [(&str, f64); 4] = [
    ("bern_abrupt_.1_.3", 90.0),
    ("bern_abrupt_.1_.2", 220.0),
    ("gauss_mean+0.5", 125.0),
    ("gauss_std_x2", 70.0),
];
/// Streams whose change comes slowly, and the multiple of ADWIN's delay on them that is promised.
const GRADUAL: ([&str; 2], f64) = (["bern_gradual1k_.1_.3", "gauss_mean+1_gradual1k"], 1.3);

/// What a detector did on all seeds of a stream.
#[derive(Debug, Default)]
struct Found {
    delays: Vec<f64>,
    missed: u64,
    false_alarms: u64,
    samples: u64,
}

impl Found {
    fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.delays.len().checked_sub(1)? as f64 * share;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (below, above) = (self.delays[last.floor() as usize], self.delays[last.ceil() as usize]);
        Some(below + (above - below) * last.fract())
    }
}

fn watch(subject: &mut Subject, rest: &[f64], found: &mut Found) {
    let before = CHANGE - REFERENCE;
    found.samples += before as u64;
    found.false_alarms += rest[..before].iter().filter(|x| subject.observe(**x)).count() as u64;
    let changed = &rest[before..before + PATIENCE];
    match changed.iter().position(|x| subject.observe(*x)) {
        Some(at) => found.delays.push((at + 1) as f64),
        None => found.missed += 1,
    }
}

pub(super) fn table(seeds: u64) -> Table {
    let note = format!(
        "Samples from the change at {CHANGE} to the alarm, medians over {seeds} streams; reference the first {REFERENCE}; a change not found within {PATIENCE} is missed. Ours at one false alarm in {RUN_LENGTH} samples for each side. River's: {}, 20 streams.",
        published::SOURCE
    );
    let columns = &["stream", "detector", "median", "p95", "missed", "false alarms / 100k"];
    let mut table = Table::new("delays", columns, note);
    for stream in ALL.iter().filter(|stream| stream.has_change) {
        let mut all: [(&str, Found); 2] = Default::default();
        for seed in 0..seeds {
            let samples = stream.samples(seed);
            let (reference, rest) = split(&samples);
            for ((name, mut subject), found) in Subject::all(stream.kind, reference).into_iter().zip(&mut all)
            {
                found.0 = name;
                if let Subject::Mean(window) = &mut subject {
                    for x in reference {
                        window.observe(*x); // it has no reference: it sees all
                    }
                }
                watch(&mut subject, rest, &mut found.1);
            }
        }
        for (name, found) in &mut all {
            found.delays.sort_by(f64::total_cmp);
            let rate = found.false_alarms as f64 * 1e5 / found.samples as f64;
            let cell = |x: Option<f64>| x.map_or(Cell::Nothing, |x| Cell::Number(x, 1));
            table.rows.push(vec![
                stream.name.into(),
                (*name).into(),
                cell(found.quantile(0.5)),
                cell(found.quantile(0.95)),
                found.missed.into(),
                Cell::Number(rate, 2),
            ]);
        }
        for (name, _, median, p95, missed, rate) in published::ROWS.iter().filter(|row| row.1 == stream.name)
        {
            let cell = |x: &Option<f64>| x.map_or(Cell::Nothing, |x| Cell::Number(x, 1));
            let name = Cell::Text(format!("River {name}"));
            table.rows.push(vec![
                stream.name.into(),
                name,
                cell(median),
                cell(p95),
                (*missed).into(),
                Cell::Number(*rate, 2),
            ]);
        }
        let [ours, adwin] = all.each_ref().map(|(_, found)| found.quantile(0.5));
        if let Some((_, most)) = TARGETS.iter().find(|(name, _)| *name == stream.name) {
            table.at_most(stream.name, ours, *most);
        }
        if GRADUAL.0.contains(&stream.name) {
            table.at_most(
                &format!("{} beside our ADWIN", stream.name),
                ours,
                GRADUAL.1 * adwin.unwrap_or(0.0),
            );
        }
        table.at_most(&format!("{} missed", stream.name), Some(all[0].1.missed as f64), 0.0);
    }
    table
}
