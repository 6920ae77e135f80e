//! How rarely a detector is wrong.

use super::published;
use super::streams::{ALL, REFERENCE, STEADY, normal};
use super::subject::{RUN_LENGTH, Subject, split};
use super::table::{Cell, Table};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_watch::sequential::{Bernoulli, BernoulliBets, spacing};

/// Alarms in 100,000 samples with no change that each detector may raise.
const MOST: f64 = 1.0;

/// Every detector on streams that do not change.
pub(super) fn steady(seeds: u64) -> Table {
    let note = format!(
        "Alarms on {seeds} streams of {STEADY} samples with no change; reference {REFERENCE} samples. River's: {}.",
        published::SOURCE
    );
    let mut table =
        Table::new("no change", &["stream", "detector", "false alarms / 100k", "most in a stream"], note);
    for stream in ALL.iter().filter(|stream| !stream.has_change) {
        let mut all = [("", 0, 0); 2];
        for seed in 0..seeds {
            let samples = stream.samples(seed);
            let (reference, rest) = split(&samples);
            for ((name, mut subject), total) in Subject::all(stream.kind, reference).into_iter().zip(&mut all)
            {
                let alarms = rest.iter().filter(|x| subject.observe(**x)).count() as u64;
                *total = (name, total.1 + alarms, total.2.max(alarms));
            }
        }
        for (name, alarms, most) in all {
            let rate = alarms as f64 * 1e5 / (seeds * STEADY as u64) as f64;
            table.rows.push(vec![stream.name.into(), name.into(), Cell::Number(rate, 2), most.into()]);
            table.at_most(&format!("{} on {}", name, stream.name), Some(rate), MOST);
        }
        for (name, _, _, _, _, rate) in published::ROWS.iter().filter(|row| row.1 == stream.name) {
            let name = Cell::Text(format!("River {name}"));
            table.rows.push(vec![stream.name.into(), name, Cell::Number(*rate, 2), Cell::Nothing]);
        }
    }
    table
}

/// References of every size: their own chance may raise no alarm, and what that caution costs.
pub(super) fn references(seeds: u64) -> Table {
    let note = format!(
        "{seeds} references of each size, {STEADY} samples each; stated: at most one false alarm in {RUN_LENGTH:.0} for each of two sides, {:.2} together. Delay: the median to a mean higher by one standard deviation, or to errors of 0.3.",
        2e5 / RUN_LENGTH
    );
    let columns =
        &["detector", "reference rows", "false alarms / 100k", "most in a stream", "delay", "missed"];
    let mut table = Table::new("references", columns, note);
    for rows in [100_usize, 200, 445, 2_000, 10_000] {
        for is_rate in [true, false] {
            let name = if is_rate { "Bernoulli CUSUM, 0.1" } else { "conformal CUSUM" };
            let (mut total, mut most, mut delays) = (0, 0, Vec::new());
            for seed in 0..seeds {
                let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | 200);
                let (alarms, delay) = if is_rate { rate(&mut rng, rows) } else { ranks(&mut rng, rows) };
                total += alarms;
                most = most.max(alarms);
                delays.extend(delay);
            }
            let missed = seeds - delays.len() as u64;
            delays.sort_unstable();
            let delay = delays.get(delays.len() / 2).copied();
            let alarms = total as f64 * 1e5 / (seeds * STEADY as u64) as f64;
            table.rows.push(vec![
                name.into(),
                (rows as u64).into(),
                Cell::Number(alarms, 2),
                most.into(),
                delay.into(),
                missed.into(),
            ]);
            table.at_most(&format!("{name}, {rows} rows"), Some(alarms), MOST);
        }
    }
    table
}

/// Samples after which a change is missed.
const PATIENCE: u64 = 5_000;

fn ranks(rng: &mut ChaCha8Rng, rows: usize) -> (u64, Option<u64>) {
    let reference: Vec<f64> = (0..rows).map(|_| normal(rng)).collect();
    let mut subject = Subject::ranks(&reference, 1);
    let alarms = (0..STEADY).filter(|_| subject.observe(normal(rng))).count() as u64;
    (alarms, (1..=PATIENCE).find(|_| subject.observe(normal(rng) + 1.0)))
}

fn rate(rng: &mut ChaCha8Rng, rows: usize) -> (u64, Option<u64>) {
    let marked = (0..rows).filter(|_| rng.random_bool(0.1)).count() as u64;
    let bets = BernoulliBets::new(marked, rows as u64, 1, RUN_LENGTH.ln());
    let mut subject = Subject::Rate(Box::new(bets), Bernoulli::default());
    let alarms =
        (0..STEADY).filter(|_| subject.observe(f64::from(u8::from(rng.random_bool(0.1))))).count() as u64;
    (alarms, (1..=PATIENCE).find(|_| subject.observe(f64::from(u8::from(rng.random_bool(0.3))))))
}

/// Samples that depend on each other.
pub(super) fn dependent(seeds: u64) -> Table {
    let note = format!(
        "First-order autoregressive samples, {seeds} streams of {STEADY}, reference 20,000. Spacing: the smallest lag of less than a tenth's correlation in the reference. Delay: to a mean higher by one standard deviation."
    );
    let columns = &["correlation", "spacing", "false alarms / 100k without", "with", "delay with", "missed"];
    let mut table = Table::new("dependent samples", columns, note);
    for rho in [0.5_f64, 0.9, 0.95] {
        let (mut alarms, mut delays, mut apart) = ([0_u64; 2], Vec::new(), 0);
        for seed in 0..seeds {
            let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | 201);
            let mut last = 0.0;
            let mut next = |shift: f64| {
                last = rho * last + (1.0 - rho * rho).sqrt() * normal(&mut rng);
                last + shift
            };
            let reference: Vec<f64> = (0..20_000).map(|_| next(0.0)).collect();
            let found = spacing(&reference);
            apart += u64::from(found);
            let (mut all, mut spaced) = (Subject::ranks(&reference, 1), Subject::ranks(&reference, found));
            for _ in 0..STEADY {
                let x = next(0.0);
                alarms[0] += u64::from(all.observe(x));
                alarms[1] += u64::from(spaced.observe(x));
            }
            delays.extend((1..=PATIENCE).find(|_| spaced.observe(next(1.0))));
        }
        let missed = seeds - delays.len() as u64;
        delays.sort_unstable();
        let rate = alarms.map(|n| n as f64 * 1e5 / (seeds * STEADY as u64) as f64);
        table.rows.push(vec![
            Cell::Number(rho, 2),
            Cell::Number(apart as f64 / seeds as f64, 1),
            Cell::Number(rate[0], 1),
            Cell::Number(rate[1], 2),
            delays.get(delays.len() / 2).copied().into(),
            missed.into(),
        ]);
        table.at_most(&format!("correlation {rho}"), Some(rate[1]), MOST);
    }
    table
}
