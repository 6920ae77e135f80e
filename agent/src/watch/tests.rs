use super::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::baseline::{FeatureBaseline, PredictionBaseline};
use shoal_proto::fact::VersionRecord;
use shoal_proto::id::Incarnation;
use shoal_proto::manifest::Feature;
use shoal_proto::time::Mono;
use shoal_watch::row::{Asked, Truth};

const MANIFEST: &str = include_str!("../../../proto/testdata/v1/model.toml");

fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

type Change = fn(f32) -> f32;

fn window(number: u64) -> WindowId {
    WindowId { incarnation: Incarnation(1), number }
}

/// A version trained on `rows` draws of `width` standard normal features; of a hundred held-out answers
/// a tenth is wrong.
fn version(rng: &mut StdRng, width: usize, rows: usize) -> VersionInfo {
    let features: Vec<_> =
        (0..width).map(|_| FeatureBaseline::of((0..rows).map(|_| f64::from(normal(rng))))).collect();
    let mut counts = vec![0; 2 * CONFIDENCE_BINS];
    for _ in 0..rows {
        counts[cell(rng, 0.95)] += 1;
    }
    let labelled = rows as u64;
    let correct = labelled - labelled / 10;
    let predictions = Some(PredictionBaseline { counts, labelled, correct, ..PredictionBaseline::default() });
    let mut manifest = Manifest::parse(MANIFEST).unwrap();
    manifest.features = (0..width)
        .map(|i| Feature { name: format!("f{i}"), unit: String::new(), min: -4.0, max: 4.0 })
        .collect();
    let baseline = Arc::new(Baseline { rows: labelled, features, predictions, ..Baseline::default() });
    VersionInfo {
        version: Digest([7; 32]),
        record: VersionRecord {
            model: manifest.model.name.clone(),
            name: manifest.display_name(),
            parent: None,
            baseline: baseline.digest(),
            schema: manifest.schema_digest(),
        },
        manifest: Arc::new(manifest),
        reference: Arc::clone(&baseline),
        baseline,
    }
}

fn answer(rng: &mut StdRng, sure: f64) -> (u32, f32) {
    let confidence = if rng.random_bool(sure) { 0.95 } else { rng.random_range(0.5..0.9) };
    (u32::from(rng.random_bool(0.4)), confidence)
}

fn cell(rng: &mut StdRng, sure: f64) -> usize {
    let (class, confidence) = answer(rng, sure);
    prediction_cell(class, confidence)
}

/// A row of which the first feature is `change`d.
fn row(info: &VersionInfo, rng: &mut StdRng, change: impl Fn(f32) -> f32) -> Observation {
    let mut features: Vec<f32> = info.baseline.features.iter().map(|_| normal(rng)).collect();
    features[0] = change(features[0]);
    let (class, confidence) = answer(rng, 0.95);
    Observation {
        model: info.record.model.clone(),
        version: info.version,
        asked: Asked::default(),
        at: Mono::default(),
        features: features.into(),
        class: Some(class),
        confidence,
        values: [].into(),
    }
}

fn label(info: &VersionInfo, correct: bool) -> Labelled {
    Labelled {
        model: info.record.model.clone(),
        version: info.version,
        asked: Asked::default(),
        features: [].into(),
        class: Some(0),
        confidence: 0.9,
        values: [0.9, 0.1].into(),
        truth: Truth::Class(u32::from(!correct)),
    }
}

fn closed(
    info: &VersionInfo,
    rng: &mut StdRng,
    rows: u64,
    change: impl Fn(f32) -> f32,
) -> (WindowSummary, Vec<Finding>) {
    let mut watch = Watch::new(info, window(0), WallMs(0));
    for _ in 0..rows {
        watch.observe(&row(info, rng, &change));
    }
    watch.close(WallMs(1), window(1))
}

#[test]
fn false_alarms_keep_to_the_stated_rate() {
    let mut rng = StdRng::seed_from_u64(11);
    let (mut windows, mut drifts, mut warnings) = (0, 0, 0);
    for (reference, rows) in [(150, 200), (450, 500), (2_000, 500), (2_000, 3_600), (10_000, 100), (445, 60)]
    {
        let (mut drift, mut warning) = (0, 0);
        for _ in 0..6 {
            let info = version(&mut rng, 8, reference);
            for _ in 0..50 {
                let (summary, _) = closed(&info, &mut rng, rows, |x| x);
                drift += u64::from(summary.level == DriftLevel::Drift);
                warning += u64::from(summary.level == DriftLevel::Warning);
            }
        }
        println!("reference {reference}, window {rows}: {drift} Drift, {warning} Warning in 300 windows");
        (windows, drifts, warnings) = (windows + 300, drifts + drift, warnings + warning);
    }
    println!("{drifts} Drift and {warnings} Warning in {windows} windows; stated: at most 2.0 and 8.6");
    assert!(drifts <= 5 && warnings <= 22, "{drifts} Drift, {warnings} Warning");
}

#[test]
fn shifts_are_found_within_a_window_of_500() {
    let mut rng = StdRng::seed_from_u64(12);
    let info = version(&mut rng, 20, 2_000);
    let changes: [(&str, Change); 4] =
        [("+0.5 sd", |x| x + 0.5), ("-1 sd", |x| x - 1.0), ("sd x 2", |x| x * 2.0), ("sd / 2", |x| x / 2.0)];
    for (name, change) in changes {
        let mut found = 0;
        for _ in 0..20 {
            let (summary, findings) = closed(&info, &mut rng, 500, change);
            let first = findings.first();
            let named = first.is_some_and(|f| {
                f.monitor == Monitor::Feature
                    && f.feature.as_deref() == Some("f0")
                    && f.statistic >= f.threshold
            });
            found += u64::from(named && summary.features[0].level == DriftLevel::Drift);
        }
        println!("{name}: {found} of 20");
        assert!(found >= 19, "{name}: {found} of 20");
    }
}

#[test]
fn what_is_immaterial_is_not_said_however_many_rows() {
    let mut rng = StdRng::seed_from_u64(13);
    let info = version(&mut rng, 2, 20_000);
    let (summary, findings) = closed(&info, &mut rng, 50_000, |x| x + 0.1);
    assert_eq!((summary.level, findings), (DriftLevel::Stable, Vec::new()));
}

#[test]
fn each_monitor_finds_its_own() {
    let mut rng = StdRng::seed_from_u64(14);
    let info = version(&mut rng, 4, 2_000);
    type Break = fn(&mut Observation, u64);
    let cases: [(Monitor, Break); 4] = [
        (Monitor::Missing, |row, i| {
            if i % 8 == 0 {
                row.features = vec![f32::NAN, 0.1, 0.2, -0.1].into();
            }
        }),
        (Monitor::Range, |row, i| {
            if i % 8 == 0 {
                row.features = vec![9.0, 0.1, 0.2, f32::NEG_INFINITY].into();
            }
        }),
        (Monitor::Prediction, |row, i| row.class = Some(u32::from(i % 10 == 0))),
        (Monitor::Prediction, |row, i| row.confidence = if i % 4 == 0 { 0.35 } else { row.confidence }),
    ];
    for (monitor, change) in cases {
        let mut watch = Watch::new(&info, window(0), WallMs(0));
        for i in 0..500 {
            let mut one = row(&info, &mut rng, |x| x);
            change(&mut one, i);
            watch.observe(&one);
        }
        assert_eq!(watch.level(), DriftLevel::Stable, "nothing is said before the close");
        let (summary, findings) = watch.close(WallMs(1), window(1));
        assert_eq!(summary.level, DriftLevel::Drift, "{monitor}");
        assert!(
            findings.iter().any(|f| f.monitor == monitor && f.level == DriftLevel::Drift),
            "{findings:?}"
        );
        assert_eq!((watch.level(), watch.rows()), (DriftLevel::Drift, 0));
    }
}

#[test]
fn errors_raise_the_level_at_once() {
    let mut rng = StdRng::seed_from_u64(15);
    let info = version(&mut rng, 2, 2_000);
    let mut watch = Watch::new(&info, window(0), WallMs(0));
    for i in 0..100 {
        watch.label(&label(&info, i % 10 != 0));
    }
    assert_eq!(watch.level(), DriftLevel::Stable);
    for i in 0..100 {
        watch.label(&label(&info, i % 2 != 0));
    }
    assert_eq!((watch.level(), watch.recent_accuracy()), (DriftLevel::Drift, (200, 140)));
    let (summary, findings) = watch.close(WallMs(1), window(1));
    assert_eq!((summary.labels.labelled, summary.labels.correct), (200, 140));
    assert_eq!(findings[0].monitor, Monitor::Error);
    assert_eq!(summary.level, DriftLevel::Drift);
}

#[test]
fn another_versions_rows_and_labels_are_passed_over() {
    let mut rng = StdRng::seed_from_u64(16);
    let info = version(&mut rng, 2, 200);
    let mut watch = Watch::new(&info, window(0), WallMs(0));
    let mut other = row(&info, &mut rng, |x| x);
    other.version = Digest([8; 32]);
    watch.observe(&other);
    watch.label(&Labelled { version: Digest([8; 32]), ..label(&info, true) });
    assert_eq!((watch.rows(), watch.recent_accuracy()), (0, (0, 0)));
}

#[test]
fn a_window_with_few_rows_keeps_the_level() {
    let mut rng = StdRng::seed_from_u64(17);
    let info = version(&mut rng, 2, 2_000);
    let mut watch = Watch::new(&info, window(0), WallMs(0));
    for (rows, shift, level) in [
        (500, 1.0, DriftLevel::Drift),
        (MIN_ROWS - 1, 0.0, DriftLevel::Drift),
        (500, 0.0, DriftLevel::Stable),
        (0, 0.0, DriftLevel::Stable),
    ] {
        for _ in 0..rows {
            watch.observe(&row(&info, &mut rng, |x| x + shift));
        }
        let next = window(watch.window().number + 1);
        assert_eq!((watch.close(WallMs(1), next).0.level, watch.level()), (level, level), "{rows} rows");
    }
}

#[test]
fn own_reference_decides_and_the_baseline_counts() {
    let mut rng = StdRng::seed_from_u64(18);
    let mut info = version(&mut rng, 2, 2_000);
    let mut features = info.baseline.features.clone();
    features[0] = FeatureBaseline::of((0..2_000).map(|_| f64::from(normal(&mut rng) + 1.0)));
    info.reference = Arc::new(Baseline { features, ..(*info.baseline).clone() });
    let (summary, findings) = closed(&info, &mut rng, 500, |x| x + 1.0);
    assert_eq!((summary.level, findings), (DriftLevel::Stable, Vec::new()));
    let low: u64 = summary.features[0].counts.dense(10).iter().sum();
    assert!(low < 150, "{low} of 500 below the baseline's median");
    assert_eq!(summary.baseline, info.baseline.digest());
}

#[test]
fn merged_summaries_equal_a_single_stream() {
    let mut rng = StdRng::seed_from_u64(19);
    let info = version(&mut rng, 3, 500);
    let rows: Vec<_> = (0..300).map(|_| row(&info, &mut rng, |x| x * 1.5)).collect();
    let of = |rows: &[Observation]| {
        let mut watch = Watch::new(&info, window(0), WallMs(0));
        rows.iter().for_each(|row| watch.observe(row));
        watch.open_summary(WallMs(1))
    };
    let (mut sum, other, all) = (of(&rows[..100]), of(&rows[100..]), of(&rows));
    sum.predictions.absorb(&other.predictions);
    for (mine, theirs) in sum.features.iter_mut().zip(&other.features) {
        mine.counts.absorb(&theirs.counts);
        mine.out_of_range += theirs.out_of_range;
    }
    sum.rows += other.rows;
    assert_eq!(sum, all);
}

#[test]
fn state_is_small_and_survives_the_disk() {
    let mut rng = StdRng::seed_from_u64(20);
    let info = version(&mut rng, 20, 2_000);
    let mut watch = Watch::new(&info, window(0), WallMs(0));
    let empty = shoal_proto::wire::to_cbor(&watch).len();
    for i in 0..20_000 {
        watch.observe(&row(&info, &mut rng, |x| x));
        watch.label(&label(&info, i % 11 != 0));
    }
    let bytes = shoal_proto::wire::to_cbor(&watch);
    println!("{empty} bytes empty, {} bytes after 20,000 rows of 20 features", bytes.len());
    assert!(bytes.len() <= 2 * empty && bytes.len() <= 4 * 1024);
    let mut back: Watch = shoal_proto::wire::from_cbor(&bytes).unwrap();
    assert!(back.attach(&info));
    assert_eq!(back.open_summary(WallMs(5)), watch.open_summary(WallMs(5)));
    let mut other = info.clone();
    other.version = Digest([9; 32]);
    assert!(!back.attach(&other));
}
