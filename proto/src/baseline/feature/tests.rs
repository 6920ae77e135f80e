use super::*;
use crate::baseline::Baseline;

#[test]
fn bins_have_equal_mass() {
    let profile = FeatureBaseline::of((0..1000).map(f64::from));
    assert_eq!(profile.counts, vec![50; BINS]);
}

#[test]
fn repeated_values_give_fewer_bins() {
    let profile = FeatureBaseline::of([1.0, 1.0, 1.0, 2.0, f64::NAN, f64::INFINITY]);
    assert_eq!((profile.finite(), profile.missing, profile.infinite, profile.rows()), (4, 1, 1, 6));
    assert!(profile.edges.windows(2).all(|pair| pair[0] < pair[1]));
    let constant = FeatureBaseline::of([3.0; 10]);
    assert_eq!(
        (constant.counts.as_slice(), constant.longest_run, constant.repeats),
        ([10].as_slice(), 10, 9)
    );
    let empty = FeatureBaseline::of([]);
    assert_eq!((empty.rows(), empty.kind, empty.magnitude), (0, FeatureKind::Number, None));
}

#[test]
fn kinds_are_told_apart() {
    let gears = FeatureBaseline::of((0..60).map(|row| f64::from(row % 3)));
    let counts: Vec<_> = gears.categories.iter().map(|category| (category.value, category.count)).collect();
    assert_eq!((gears.kind, counts), (FeatureKind::Category, vec![(0.0, 20), (1.0, 20), (2.0, 20)]));
    assert_eq!(FeatureBaseline::of((0..60).map(f64::from)).kind, FeatureKind::Whole);
    assert_eq!(FeatureBaseline::of((0..60).map(|row| f64::from(row % 3) + 0.5)).kind, FeatureKind::Number);
    let ids = FeatureBaseline::of_categories((0..300).map(|row| f64::from(row % 100)));
    assert_eq!((ids.kind, ids.categories.len(), ids.other), (FeatureKind::Category, 64, 108));
}

#[test]
fn order_gives_runs_and_may_be_dropped() {
    let profile = FeatureBaseline::of([1.5, 1.5, f64::NAN, 1.5, 2.5, 2.5, 1.5]);
    assert_eq!((profile.repeats, profile.longest_run), (3, 3), "a missing value ends no run");
    let shuffled = profile.without_order();
    assert_eq!((shuffled.repeats, shuffled.longest_run, shuffled.spacing), (0, 0, 1));
}

#[test]
fn magnitudes_are_of_logarithms() {
    let size = FeatureBaseline::of([0.0, -10.0, 10.0, 1e3, 1e3]).magnitude.unwrap();
    let (mean, spread) = (100f64.ln(), 10f64.ln());
    assert!((size.mean - mean).abs() < 1e-6 && (size.std - spread).abs() < 1e-6, "{size:?}");
    assert_eq!((size.rows, size.negative), (4, 1));
    let near_nought = FeatureBaseline::of([1e-300, 1.0, 1.0, 1.0]).magnitude.unwrap();
    assert_eq!(near_nought.mean, -4.0);
}

#[test]
fn a_file_of_before_reads_and_keeps_its_digest() {
    let old = br#"{"rows":4,"features":[{"edges":[1.0,2.0],"counts":[1,2,1],"missing":3,"min":0.5,"max":2.5,"mean":1.5,"std":0.5}],"predictions":null}"#;
    let baseline = Baseline::parse(old).unwrap();
    let feature = &baseline.features[0];
    assert_eq!((feature.kind, feature.spacing, feature.longest_run), (FeatureKind::Number, 1, 0));
    assert_eq!(String::from_utf8(baseline.to_bytes()).unwrap(), String::from_utf8(old.to_vec()).unwrap());
}

#[test]
fn a_new_file_reads_as_it_was_written_and_an_unsound_one_does_not() {
    let mut feature = FeatureBaseline::of((0..997).map(|row| f64::from(row * row % 89) / 7.0));
    feature.spacing = 7;
    let category = FeatureBaseline::of((0..60).map(|row| f64::from(row % 3)));
    let mut baseline = Baseline { rows: 997, features: vec![feature, category], ..Baseline::default() };
    let back = Baseline::parse(&baseline.to_bytes()).unwrap();
    assert_eq!(back.features[0].magnitude, baseline.features[0].magnitude);
    assert_eq!((back.features[0].spacing, &back.features[1]), (7, &baseline.features[1]));
    baseline.features[1].categories.reverse();
    assert!(Baseline::parse(&baseline.to_bytes()).is_err());
}

#[test]
fn rhythm_counts_duplicates_and_octaves() {
    let nan = f32::NAN;
    let rows: [&[f32]; 7] =
        [&[1.0, nan], &[1.0, nan], &[1.0, 2.0], &[1.0, 2.0], &[nan, nan], &[nan, nan], &[0.0, 1.0]];
    let rhythm = RhythmBaseline::of(rows);
    assert_eq!((rhythm.rows, rhythm.duplicates), (7, 2));
    for (ms, octave) in [(0, 0), (1, 1), (2, 2), (3, 2), (1000, 10), (u64::MAX, 31)] {
        assert_eq!(Intervals::octave(ms), octave, "{ms}");
    }
    let intervals = Intervals::of([1000, 1000, 1010, 990, 100, 1600]).unwrap();
    assert_eq!((intervals.median_ms, intervals.max_ms, intervals.short, intervals.long), (1000, 1600, 1, 1));
    assert_eq!((intervals.count(), Intervals::of([])), (6, None));
    let at_once = Intervals::of([0, 0, 0, 5]).unwrap();
    assert!(!at_once.is_long(5) && !at_once.is_short(0) && !at_once.is_long(u64::MAX));
}
