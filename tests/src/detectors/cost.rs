//! What a sample costs: nanoseconds and bytes.

use super::streams::{Kind, normal};
use super::subject::{RUN_LENGTH, Subject};
use super::table::{Cell, Table};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use shoal_agent::clock::Clock;
use shoal_proto::baseline::FeatureBaseline;
use shoal_watch::sequential::{Adwin, Bernoulli, BernoulliBets, Conformal, ConformalBets, Shape};
use std::hint::black_box;

/// Samples of a measurement, and how often it is repeated: the least of all is told, since only other
/// programs make it longer.
pub(super) const SAMPLES: usize = 65_536;
const REPEATS: usize = 25;
/// Columns of a table, as others measure theirs.
pub(super) const COLUMNS: usize = 20;

pub(super) fn nanoseconds(mut run: impl FnMut()) -> f64 {
    let clock = Clock::start();
    let once = |run: &mut dyn FnMut()| {
        let start = clock.mono();
        run();
        clock.mono().since(start).as_secs_f64() * 1e9 / SAMPLES as f64
    };
    (0..REPEATS).map(|_| once(&mut run)).fold(f64::INFINITY, f64::min)
}

pub(super) fn stored<T: Serialize>(state: &T) -> u64 {
    shoal_proto::wire::to_cbor(state).len() as u64
}

pub(super) fn table() -> Table {
    let note = format!(
        "Wall time of a sample, least of {REPEATS} repeats of {SAMPLES}; bytes in memory and as written to disk."
    );
    let mut table = Table::new("cost", &["detector", "ns / sample", "bytes", "bytes on disk"], note);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f64> = (0..SAMPLES).map(|_| normal(&mut rng)).collect();
    let marks: Vec<bool> = (0..SAMPLES).map(|_| rng.random_bool(0.1)).collect();
    let mut row = |name: &str, ns: f64, bytes: usize, disk: u64| {
        table.rows.push(vec![name.into(), Cell::Number(ns, 1), (bytes as u64).into(), disk.into()]);
    };

    for (name, marked) in [("Bernoulli CUSUM, rate 0.1", 500), ("Bernoulli CUSUM, rate 0", 0)] {
        let bets = BernoulliBets::new(marked, 5_000, 1, RUN_LENGTH.ln());
        let mut state = Bernoulli::default();
        let ns = nanoseconds(|| marks.iter().for_each(|mark| state.observe(&bets, *mark && marked > 0)));
        row(name, ns, size_of_val(&state), stored(black_box(&state)));
    }
    let base = FeatureBaseline::of(values.iter().copied());
    let bets = ConformalBets::new(&base.counts, Shape::Values, 1, RUN_LENGTH.ln());
    let bins: Vec<usize> = values.iter().map(|x| base.bin(*x)).collect();
    let mut state = Conformal::default();
    let ns = nanoseconds(|| bins.iter().for_each(|bin| state.observe(&bets, *bin)));
    row("conformal CUSUM, bin given", ns, size_of_val(&state), stored(black_box(&state)));
    let mut window = Adwin::default();
    let ns = nanoseconds(|| {
        marks.iter().for_each(|mark| {
            black_box(window.observe(f64::from(u8::from(*mark))));
        });
    });
    row("ADWIN", ns, window.bytes(), stored(black_box(&window)));
    let mut checked = Subject::all(Kind::Normal(0.0, 1.0), &values[..5_000]);
    let ns = nanoseconds(|| {
        values.iter().for_each(|x| {
            black_box(checked[0].1.observe(*x));
        });
    });
    row(
        "conformal CUSUM, bin found and threshold asked every sample",
        ns,
        size_of_val(&state),
        stored(&state),
    );

    // A row of a table: every column's bin is found and its sums are moved on.
    let mut columns = vec![Conformal::default(); COLUMNS];
    let ns = nanoseconds(|| {
        for (at, x) in values.iter().enumerate() {
            columns[at % COLUMNS].observe(&bets, base.bin(*x));
        }
    });
    let bytes = COLUMNS * size_of::<Conformal>();
    row(
        "row of 20 columns, bins and conformal CUSUMs",
        ns * COLUMNS as f64,
        bytes,
        stored(black_box(&columns)),
    );
    let clock = Clock::start();
    let start = clock.mono();
    black_box(ConformalBets::new(black_box(&base.counts), Shape::Values, 1, RUN_LENGTH.ln()));
    let made = clock.mono().since(start).as_secs_f64() * 1e9;
    row("making the bets of one column, once", made, base.counts.len() * 32, 0);
    table
}
