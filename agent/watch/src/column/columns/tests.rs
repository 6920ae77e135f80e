use super::*;
use crate::column::tests::Draws;
use shoal_proto::baseline::FeatureBaseline;
use std::hint::black_box;

fn seen(columns: &mut Columns, reference: &Reference, row: &[f32]) -> Seen {
    let mut seen = Seen::default();
    columns.observe(reference, row, &mut seen);
    seen
}

#[test]
fn every_kind_of_value_has_its_code_and_its_event() {
    let number = FeatureBaseline::of((0..1_000).map(|row| f64::from(row) / 8.0));
    let whole = FeatureBaseline::of((0..1_000).map(f64::from));
    let category = FeatureBaseline::of((0..1_000).map(|row| f64::from(row % 3)));
    let reference = Reference::new(&[number, whole, category], 1e6);
    use event::{ABOVE, BELOW, FRACTION, INFINITE as INF, MISSING as MISS, UNSEEN};
    let (low, high) = (-f32::MAX, f32::MAX);
    for (value, codes, events) in [
        (f32::NAN, [MISSING; 3], [MISS; 3]),
        (f32::INFINITY, [INFINITE; 3], [INF; 3]),
        (f32::NEG_INFINITY, [INFINITE; 3], [INF; 3]),
        (0.0, [0, 0, 0], [0, 0, 0]),
        (-0.0, [0, 0, 0], [0, 0, 0]),
        (2.0, [0, 0, 2], [0, 0, 0]),
        (3.0, [0, 0, 2], [0, 0, UNSEEN]),
        (0.5, [0, 0, 0], [0, FRACTION, UNSEEN]),
        (124.875, [19, 2, 2], [0, FRACTION, UNSEEN]),
        (124.9, [19, 2, 2], [ABOVE, FRACTION, UNSEEN]),
        (999.0, [19, 19, 2], [ABOVE, 0, UNSEEN]),
        (low, [0, 0, 0], [BELOW, BELOW, UNSEEN]),
        (high, [19, 19, 2], [ABOVE, ABOVE, UNSEEN]),
        (f32::MIN_POSITIVE / 8.0, [0, 0, 0], [0, FRACTION, UNSEEN]),
    ] {
        let mut columns = Columns::new(&reference);
        let told = seen(&mut columns, &reference, &[value; 3]);
        assert_eq!(
            (told.codes.as_slice(), told.events.as_slice()),
            (codes.as_slice(), events.as_slice()),
            "{value}"
        );
        assert_eq!(told.any, events.iter().fold(0, |any, one| any | one), "{value}");
        let tally = &columns.tally().columns[2];
        assert_eq!(tally.categories.iter().sum::<u64>(), tally.finite());
        assert_eq!(tally.missing() + tally.present(), 1);
    }
}

#[test]
fn any_baseline_and_any_row_are_taken() {
    let extremes = [f64::from(f32::MAX), f64::from(f32::MIN), 0.0, 1e-45];
    let features = [
        FeatureBaseline::of([]),
        FeatureBaseline::of([f64::NAN, f64::INFINITY]),
        FeatureBaseline::of([7.0; 50]),
        FeatureBaseline::of([1.0, 2.0]),
        FeatureBaseline::of(extremes.into_iter().cycle().take(200)),
        FeatureBaseline::of([1e300, -1e300, 3.0]),
        FeatureBaseline::of_categories([]),
    ];
    let reference = Reference::new(&features, f64::NAN);
    let (mut columns, mut told) = (Columns::new(&reference), Seen::default());
    let values =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-45, 1.0, 7.0, -3.5];
    for row in 0..2_000 {
        let row: Vec<f32> =
            (0..7).map(|column| values[(row * (column + 3) + row / 7) % values.len()]).collect();
        columns.observe(&reference, &row[..if row[0] == 1.0 { 3 } else { 7 }], &mut told);
        assert!(told.codes.iter().all(|code| usize::from(*code) < crate::column::CELLS));
    }
    assert!(columns.jumps(&reference).all(|(_, jump)| jump.factor.is_finite() && jump.sigmas.is_finite()));
    for (feature, tally) in features.iter().zip(&columns.tally().columns) {
        let all = crate::column::WindowTests::of(feature, tally);
        assert!((0.0..=1.0).contains(&all.p) && all.distances.wasserstein.is_finite(), "{all:?}");
        assert!((0.0..=1.0).contains(&all.range.p) && (0.0..=1.0).contains(&all.unseen.p), "{all:?}");
        assert!((0.0..=1.0).contains(&all.distances.wasserstein_p), "{all:?}");
    }
}

#[test]
fn a_stuck_sensor_and_duplicate_rows_are_told_once_a_run() {
    let mut rng = Draws::new(3);
    let features: Vec<_> = (0..3).map(|_| rng.baseline(2_000)).collect();
    let reference = Reference::new(&features, 1e6);
    let (mut columns, mut told) = (Columns::new(&reference), Seen::default());
    let limit = reference.stuck_at(1).unwrap();
    assert!((3..10).contains(&limit), "{limit}");
    let mut stuck = Vec::new();
    for row in 0..100 {
        let values = [rng.normal(), if row < 20 { rng.normal() } else { 0.25 }, rng.normal()];
        columns.observe(&reference, &values, &mut told);
        assert!(!told.duplicate);
        stuck.extend((told.events[1] & event::STUCK != 0).then_some(row));
    }
    assert_eq!(stuck, [20 + limit as usize - 1]);
    assert_eq!((columns.stuck(&reference).collect::<Vec<_>>(), columns.run(1)), (vec![1], 80));
    let row = [f32::NAN, 0.25, f32::NAN];
    assert!(!seen(&mut columns, &reference, &row).duplicate, "the row before had more");
    assert!(seen(&mut columns, &reference, &row).duplicate);
    assert!(!seen(&mut columns, &reference, &[f32::NAN; 3]).duplicate, "nothing repeats nothing");
    assert_eq!((columns.tally().duplicates, columns.tally().rows), (1, 103));
}

#[test]
fn a_stuck_sensor_is_a_false_alarm_no_oftener_than_stated() {
    let (mut alarms, rows, wanted) = (0_u32, 400_000, 20_000.0);
    for share in [0.0_f32, 0.3, 0.8] {
        let mut rng = Draws::new(share.to_bits().into());
        let mut hold = 0.0;
        let mut next = |rng: &mut Draws| {
            if rng.uniform() >= share {
                hold = rng.normal();
            }
            hold
        };
        let feature = FeatureBaseline::of((0..2_000).map(|_| f64::from(next(&mut rng))));
        let reference = Reference::new(&[feature], wanted);
        let (mut columns, mut told, mut of) = (Columns::new(&reference), Seen::default(), 0);
        for _ in 0..rows {
            columns.observe(&reference, &[next(&mut rng)], &mut told);
            of += u32::from(told.any & event::STUCK != 0);
        }
        println!(
            "{share} repeat: {of} false in {rows} rows, stuck at {:?}; stated: 20",
            reference.stuck_at(0)
        );
        alarms += of;
    }
    assert!(alarms <= 60, "{alarms}");
}

#[test]
fn state_of_twenty_columns_is_small_and_goes_on_from_the_disk() {
    let mut rng = Draws::new(5);
    let mut features: Vec<_> = (0..20).map(|_| rng.baseline(2_000)).collect();
    let numbers = Reference::new(&features, 1e6);
    features[19] = FeatureBaseline::of((0..1_000).map(|row| f64::from(row % 5)));
    let reference = Reference::new(&features, 1e6);
    let (mut columns, mut told) = (Columns::new(&reference), Seen::default());
    let mut plain = Columns::new(&numbers);
    for row in 0..5_000 {
        let mut values = rng.normals(20);
        plain.observe(&numbers, &values, &mut told);
        values[19] = (row % 6) as f32;
        columns.observe(&reference, &values, &mut told);
    }
    let (size, plain_size) =
        (shoal_proto::wire::to_cbor(&columns).len(), shoal_proto::wire::to_cbor(&plain).len());
    println!("state of 20 numeric columns: {plain_size} bytes; one of them a category: {size} bytes");
    assert!(size <= 6 * 1024 && plain_size <= 4 * 1024);
    let mut back: Columns = shoal_proto::wire::from_cbor(&shoal_proto::wire::to_cbor(&columns)).unwrap();
    assert!(back.fits(&reference) && back == columns && !back.fits(&numbers));
    let mut other = Seen::default();
    for _ in 0..200 {
        let values = rng.normals(20);
        columns.observe(&reference, &values, &mut told);
        back.observe(&reference, &values, &mut other);
        assert_eq!(told, other);
    }
    assert_eq!(columns, back);
    columns.reset();
    assert_eq!(
        (columns.tally(), columns.novel(&reference, 19).unwrap().rows()),
        (&Tally::new(&reference), 0)
    );
    assert_eq!(columns.novel(&reference, 3), None);
}

/// The least time of a row in nanoseconds, of a few passes.
#[expect(clippy::disallowed_methods, reason = "the clock is what is measured")]
fn nanoseconds_a_row(width: usize) -> f64 {
    let mut rng = Draws::new(9);
    let features: Vec<_> = (0..width).map(|_| rng.baseline(2_000)).collect();
    let reference = Reference::new(&features, 1e6);
    let rows: Vec<Vec<f32>> = (0..1_000).map(|_| rng.normals(width)).collect();
    let (mut columns, mut told) = (Columns::new(&reference), Seen::default());
    let mut pass = || {
        let start = std::time::Instant::now();
        for row in &rows {
            columns.observe(&reference, black_box(row), &mut told);
        }
        black_box(&told);
        start.elapsed().as_secs_f64() * 1e9 / rows.len() as f64
    };
    (0..50).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

#[test]
fn a_row_is_seen_in_little_time() {
    for width in [20, 128] {
        let (row, columns) = (nanoseconds_a_row(width), width as f64);
        println!("{width} columns: {row:.0} ns a row, {:.1} ns a column", row / columns);
        assert!(row / columns < 500.0);
    }
}
