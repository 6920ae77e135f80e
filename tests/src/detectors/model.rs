//! A whole model's monitors: a quiet month, windows' tests, and what a row costs.

use super::cost::{COLUMNS, SAMPLES, nanoseconds, stored};
use super::streams::normal;
use super::table::{Cell, Table};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_proto::baseline::{Baseline, FeatureBaseline, RhythmBaseline};
use shoal_proto::id::{Digest, Incarnation};
use shoal_proto::manifest::{Feature, Manifest};
use shoal_proto::summary::{DriftLevel, FleetSummary, WindowId, WindowLabels};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_watch::answer::{Groups, of_classes};
use shoal_watch::column::{Reference, Tally, WindowTests};
use shoal_watch::row::{Answer, Asked, Given, Row, Truth};
use shoal_watch::{Watch, Watched, joint};
use std::hint::black_box;
use std::sync::Arc;

const MANIFEST: &str = include_str!("../../../proto/testdata/v1/model.toml");
/// Rows of thirty days at one a second, and of an hour.
const MONTH: u64 = 2_592_000;
const HOUR: u64 = 3_600;
/// Rows of a reference, as a package of a few thousand has them.
const REFERENCE: usize = 5_000;
/// Nanoseconds a row of twenty columns may cost: quality, histogram and CUSUM.
const MOST_NS: f64 = 1_000.0;
/// Bytes of state for twenty columns.
const MOST_BYTES: f64 = 16_384.0;
/// Microseconds of a merge.
const MOST_MERGE_US: f64 = 20.0;

/// A two-class model on independent normal features; the second class has the chance that it says.
struct World {
    rng: ChaCha8Rng,
    watched: Watched,
    row: Vec<f32>,
}

impl World {
    fn new(seed: u64, joint: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | 77);
        let mut manifest = Manifest::parse(MANIFEST).expect("the sample manifest is sound");
        manifest.features = (0..COLUMNS)
            .map(|at| Feature { name: format!("f{at}"), unit: String::new(), min: -5.0, max: 5.0 })
            .collect();
        let (mut flat, mut shares, mut truth, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut row = Vec::new();
        for _ in 0..REFERENCE {
            let (scores, class, is) = draw(&mut rng, &mut row);
            flat.extend_from_slice(&row);
            shares.extend(scores);
            truth.push(is);
            raw.push((class, scores[class as usize]));
        }
        let column = |at: usize| flat.iter().skip(at).step_by(COLUMNS).map(|x| f64::from(*x));
        let baseline = Arc::new(Baseline {
            rows: REFERENCE as u64,
            features: (0..COLUMNS).map(|at| FeatureBaseline::of(column(at))).collect(),
            predictions: Some(of_classes(2, &raw, &shares, &truth, &Groups::default(), &[])),
            rhythm: Some(RhythmBaseline::of(flat.chunks_exact(COLUMNS))),
            joint: joint.then(|| joint::fit(&flat, COLUMNS, 1, joint::Parts::default()).ok()).flatten(),
            ..Baseline::default()
        });
        let watched = Watched {
            version: Digest([1; 32]),
            digest: baseline.digest(),
            reference: Arc::clone(&baseline),
            baseline,
            manifest: Arc::new(manifest),
        };
        Self { rng, watched, row }
    }

    fn watch(&self) -> Watch {
        Watch::new(&self.watched, window(0), WallMs(0))
    }
}

fn draw(rng: &mut ChaCha8Rng, row: &mut Vec<f32>) -> ([f32; 2], u32, u32) {
    row.clear();
    #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
    row.extend((0..COLUMNS).map(|_| normal(rng) as f32));
    let second = 1.0 / (1.0 + (-3.0 * row[0]).exp());
    ([1.0 - second, second], u32::from(second >= 0.5), u32::from(rng.random::<f32>() < second))
}

fn window(number: u64) -> WindowId {
    WindowId { incarnation: Incarnation(1), number }
}

fn now(row: u64) -> Now {
    Now { mono: Mono::from_millis(row * 1_000), wall: WallMs(row * 1_000) }
}

/// All monitors of a model on a month without change.
pub(super) fn month(seeds: u64) -> Table {
    let note = format!(
        "{seeds} models of {COLUMNS} features, a row and a label a second for thirty days, hourly windows; reference {REFERENCE} rows. Stated: at most one Drift in a month, one Warning in a week."
    );
    let mut table = Table::new("a quiet month", &["level", "findings", "a month", "by monitor"], note);
    let (mut drifts, mut warnings) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        let mut world = World::new(seed, true);
        let mut watch = world.watch();
        let mut closed = 0;
        for at in 1..=MONTH {
            let (scores, class, truth) = draw(&mut world.rng, &mut world.row);
            let answer = Answer { class: Some(class), confidence: scores[class as usize], values: &scores };
            let (asked, features) = (Asked { life: 1, number: at }, &world.row[..]);
            let groups = Default::default();
            watch.observe(&Row { asked, at: now(at).mono, features, answer, embedding: &[], groups });
            watch.label(&Given { asked, features, answer, truth: Truth::Class(truth), groups });
            let mut found = if at % 16 == 0 { watch.poll(now(at)) } else { Vec::new() };
            if at % HOUR == 0 {
                closed += 1;
                found.extend(watch.close(now(at), window(closed)).findings);
                black_box(watch.take_label_slots());
            }
            for one in found {
                let kind = if one.level == DriftLevel::Drift { &mut drifts } else { &mut warnings };
                kind.push(one.monitor.to_string());
            }
        }
    }
    for (level, mut found) in [("drift", drifts), ("warning", warnings)] {
        let a_month = found.len() as f64 / seeds as f64;
        let most = if level == "drift" { 1.0 } else { 30.0 / 7.0 };
        table.at_most(&format!("{level} in a month"), Some(a_month), most);
        found.sort_unstable();
        let count = found.len() as u64;
        found.dedup();
        table.rows.push(vec![
            level.into(),
            count.into(),
            Cell::Number(a_month, 2),
            Cell::Text(found.join(", ")),
        ]);
    }
    table
}

/// Tests of windows of 250 rows without change and with one.
pub(super) fn windows(seeds: u64) -> Table {
    const ROWS: usize = 250;
    const WINDOWS: u64 = 40;
    let note = format!(
        "{seeds} references of {REFERENCE} rows, {WINDOWS} windows of {ROWS} rows of each; share of windows that are said to have drifted. The test at 1 % is what decides before correction; the other rules are those of the rivals."
    );
    let columns = &["rule", "no change", "mean + 0.25 sd", "mean + 0.5 sd", "sd × 1.5"];
    let mut table = Table::new("windows of 250 rows", columns, note);
    type Rule = fn(&WindowTests) -> bool;
    let rules: [(&str, Rule); 5] = [
        ("ours, p < 0.01", |it| it.p < 0.01),
        ("ours, p < 0.001", |it| it.p < 0.001),
        ("PSI > 0.1", |it| it.shift.is_some_and(|shift| shift.psi > 0.1)),
        ("Wasserstein > 0.1 sd", |it| it.distances.wasserstein > 0.1),
        ("Jensen–Shannon > 0.1", |it| it.distances.jensen_shannon > 0.1),
    ];
    let changes: [fn(f64) -> f64; 4] = [|x| x, |x| x + 0.25, |x| x + 0.5, |x| x * 1.5];
    let mut said = [[0_u64; 4]; 5];
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | 78);
        let profile = FeatureBaseline::of((0..REFERENCE).map(|_| normal(&mut rng)));
        let reference = Reference::new(std::slice::from_ref(&profile), 1e9);
        for (at, change) in changes.iter().enumerate() {
            for _ in 0..WINDOWS {
                let mut columns = shoal_watch::column::Columns::new(&reference);
                let mut seen = shoal_watch::column::Seen::default();
                for _ in 0..ROWS {
                    #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
                    let value = change(normal(&mut rng)) as f32;
                    columns.observe(&reference, &[value], &mut seen);
                }
                let tally: &Tally = columns.tally();
                let tests = WindowTests::of(&profile, &tally.columns[0]);
                for ((_, rule), said) in rules.iter().zip(&mut said) {
                    said[at] += u64::from(rule(&tests));
                }
            }
        }
    }
    for ((name, _), said) in rules.iter().zip(said) {
        let share = |count: u64| count as f64 / (seeds * WINDOWS) as f64;
        let mut row: Vec<Cell> = vec![(*name).into()];
        row.extend(said.iter().map(|count| Cell::Number(share(*count), 4)));
        table.rows.push(row);
        if *name == "ours, p < 0.001" {
            table.at_most("false alarms at 250 rows", Some(share(said[0])), 0.01);
        }
    }
    table
}

/// What a row costs a whole model.
pub(super) fn cost() -> Table {
    let note = format!(
        "Wall time of one row of {COLUMNS} features, least of repeats; bytes of the state as written to disk; microseconds to add one window's summary to a fleet's."
    );
    let mut table = Table::new("cost of a model", &["what", "ns / row", "bytes on disk", "merge µs"], note);
    for (name, with_joint, with_answers) in [
        ("quality, histograms and CUSUMs", false, false),
        ("and predictions", false, true),
        ("and all features together", true, true),
    ] {
        let mut world = World::new(1, with_joint);
        if !with_answers {
            world.watched.reference =
                Arc::new(Baseline { predictions: None, ..(*world.watched.reference).clone() });
            world.watched.baseline = Arc::clone(&world.watched.reference);
        }
        let rows: Vec<(Vec<f32>, [f32; 2], u32)> = (0..1_024)
            .map(|_| {
                let (scores, class, _) = draw(&mut world.rng, &mut world.row);
                (world.row.clone(), scores, class)
            })
            .collect();
        let mut watch = world.watch();
        let (mut at, groups) = (0_u64, Default::default());
        let ns = nanoseconds(|| {
            for place in 0..SAMPLES {
                at += 1;
                let (features, scores, class) = &rows[place % rows.len()];
                let values = if with_answers { &scores[..] } else { &[] };
                let confidence = scores[*class as usize];
                let answer = Answer { class: Some(*class), confidence, values };
                let asked = Asked { life: 1, number: at };
                watch.observe(&Row { asked, at: now(at).mono, features, answer, embedding: &[], groups });
            }
        });
        let summary = watch.open_summary(now(at).wall);
        let (mut sum, labels) = (FleetSummary::default(), WindowLabels::default());
        sum.absorb(&summary, &labels);
        let merge = nanoseconds(|| {
            for _ in 0..SAMPLES / 64 {
                black_box(&mut sum).absorb(&summary, &labels);
            }
        }) * 64.0
            / 1e3;
        let bytes = stored(&watch);
        table.rows.push(vec![name.into(), Cell::Number(ns, 0), bytes.into(), Cell::Number(merge, 2)]);
        table.at_most(&format!("{name}: merge µs"), Some(merge), MOST_MERGE_US);
        if !with_answers {
            table.at_most(&format!("{name}: ns a row"), Some(ns), MOST_NS);
            table.at_most(&format!("{name}: bytes"), Some(bytes as f64), MOST_BYTES);
        }
    }
    table
}
