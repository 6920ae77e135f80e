//! Bytes, bounds and single values.

use super::*;
use crate::baseline::confidence_bin;
use proptest::prelude::*;

fn key(number: u64) -> LabelKey {
    LabelKey { incarnation: LIFE, number, model: gas(), version: Digest::of(b"version") }
}

fn slot(seq: u64, right: u64, wrong: u64) -> LabelSlot {
    let mut sums = LabelSums::default();
    for answered in std::iter::repeat_n(1, usize::try_from(right).unwrap())
        .chain(std::iter::repeat_n(0, usize::try_from(wrong).unwrap()))
    {
        sums.observe_class(&ClassLabel { truth: 1, answered, confidence: None, scores: &[], groups: &[] });
    }
    LabelSlot { seq, sums, cut: false }
}

/// A feature after so many rows: what a month may bring, or with every count it can have.
fn feature(rows: u64, all: bool) -> FeatureSummary {
    let mut feature = FeatureSummary::numeric(&[rows / 20; 20]);
    (feature.missing, feature.out_of_range, feature.below) = (rows / 100, rows / 1_000, rows / 2_000);
    feature.log_size.add(rows as f64 * 4.6);
    if all {
        (feature.infinite, feature.repeats, feature.zeros) = (rows / 30, rows / 30, rows / 30);
        (feature.missing, feature.out_of_range, feature.below) = (rows / 30, rows / 15, rows / 30);
        feature.log_size.add(rows as f64 * -100.0);
        feature.level = DriftLevel::Stable;
    }
    feature
}

#[test]
fn a_feature_takes_less_than_two_hundred_bytes() {
    for (what, rows) in [("an hour at 1 Hz", 3_600), ("30 days at 1 Hz", 2_592_000)] {
        let features = vec![feature(rows, false); 20];
        let window = WindowSummary { rows, features, ..window(LIFE, 1) };
        let (plain, full) = (to_cbor(&window.features[0]).len(), to_cbor(&feature(rows, true)).len());
        let value = window.to_value();
        let packed = zstd::bulk::compress(&value, 3).unwrap().len();
        println!(
            "{what}: {plain} bytes a feature, {full} with every count above nought; window of 20: {} ({packed} packed)",
            value.len()
        );
        assert!(plain <= 200 && full <= 210, "{what}: {plain}, {full}");
    }
    let classes = to_cbor(&FeatureSummary::categorical(&[100_000; 20], 70_000)).len();
    println!("20 categories in 30 days: {classes} bytes");
    assert!(classes <= 200);
}

#[test]
fn what_is_too_large_for_an_operation_is_cut_and_says_so() {
    for features in [100, 400, 1_000, 65_536] {
        let whole =
            WindowSummary { rows: 9, features: vec![feature(2_592_000, true); features], ..window(LIFE, 1) };
        let value = whole.to_value();
        assert!(value.len() + 8 <= MAX_VALUE_BYTES);
        let read: WindowSummary = from_cbor(&value).unwrap();
        let kept = read.features.len();
        assert_eq!(read.features[..], whole.features[..kept]);
        assert!(if features == 100 { kept == 100 } else { (300..400).contains(&kept) }, "{kept}");
        assert_eq!((read.rows, read.id), (9, whole.id));
    }
    let mut bare = window(LIFE, 1);
    let uneven: Vec<u64> = (0..10_000).map(|class| 70_000 << (class % 20)).collect();
    bare.predictions = Counts::of(&uneven);
    (bare.rows, bare.health) = (7, Some(50));
    let read: WindowSummary = from_cbor(&bare.to_value()).unwrap();
    assert_eq!((read.rows, read.health, read.predictions), (7, Some(50), Counts::default()));

    let mut large = slot(3, 1, 0);
    large.sums.confusion = (0..9_000).map(|cell| (cell * 9, 70_000)).collect::<Vec<_>>().into();
    large.sums.groups.insert(0, Counts::of(&[1, 2]));
    let read = LabelSlot::from_value(&large.to_value()).unwrap();
    assert!(read.cut && read.sums.groups.is_empty() && read.sums.confusion.is_empty());
    assert_eq!((read.seq, read.sums.labelled, read.sums.correct), (3, 1, 1));
}

#[test]
fn a_window_of_an_earlier_build_reads_as_it_was() {
    #[derive(Serialize)]
    struct Earlier {
        c: Vec<(u32, u64)>,
        m: u64,
        l: DriftLevel,
    }
    let bytes = to_cbor(&Earlier { c: vec![(19, 3), (0, 5)], m: 2, l: DriftLevel::Warning });
    let read: FeatureSummary = from_cbor(&bytes).unwrap();
    let expected = FeatureSummary { missing: 2, level: DriftLevel::Warning, ..FeatureSummary::default() };
    assert_eq!(read, FeatureSummary { counts: vec![(0, 5), (19, 3)].into(), ..expected });
    let packed = to_cbor(&read);
    assert!(packed.len() < bytes.len());
    assert_eq!(from_cbor::<FeatureSummary>(&packed).unwrap(), read);
    assert_eq!(serde_json::to_value(&read).unwrap()["c"], serde_json::json!([[0, 5], [19, 3]]), "for people");
}

#[test]
fn the_state_with_more_labels_stands_whatever_the_order() {
    let states = [slot(1, 0, 0), slot(2, 3, 1), slot(3, 3, 1), slot(4, 300, 7)];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 3], [3, 1, 3, 2]] {
        let mut document = Document::default();
        for state in order {
            apply(&mut document, Fact::Labels(key(7), states[state].clone()));
        }
        assert_eq!(Facts(&document).labels(), vec![(key(7), states[3].clone())], "{order:?}");
    }
}

#[test]
fn label_slots_go_with_the_floor_of_the_windows() {
    let mut document = Document::default();
    for number in 0..4 {
        apply(&mut document, Fact::Window(window(LIFE, number)));
        apply(&mut document, Fact::Labels(key(number), slot(1, 1, 0)));
    }
    let (kind, floor, value) = Fact::WindowFloor(LIFE, 2).into_parts();
    apply_op(&mut document, &Op { seq: 9, hlc: Hlc(1), kind, key: floor, value });
    apply(&mut document, Fact::Labels(key(1), slot(2, 5, 0)));
    let left: Vec<u64> = Facts(&document).labels().iter().map(|(key, _)| key.number).collect();
    assert_eq!((left, Facts(&document).windows().len()), (vec![2, 3], 2));
}

#[test]
fn only_the_form_that_is_written_is_a_label_key() {
    let text = key(0xab).text();
    assert_eq!(LabelKey::parse(&text), Some(key(0xab)));
    assert!(text.len() <= crate::op::MAX_KEY_BYTES);
    for other in [text.replace("ab/", "AB/"), format!("{text}/x"), text.replace("/gas", ""), String::new()] {
        assert_eq!(LabelKey::parse(&other), None, "{other}");
    }
}

#[test]
fn labels_that_came_before_slots_were_kept_are_counted_once() {
    let mut document = Document::default();
    for number in 1..=4 {
        let labels = LabelSummary { labelled: 10, correct: 7 };
        apply(&mut document, Fact::Window(WindowSummary { rows: 50, labels, ..window(LIFE, number) }));
    }
    let counts = |document: &Document| {
        let fleet = [(crate::id::DeviceId::new("a").unwrap(), document.clone())].into();
        let sum = fold(&fleet).into_values().next().unwrap();
        (sum.arrived.labelled, sum.labels.labelled, sum.label_counts().labelled)
    };
    assert_eq!(counts(&document), (40, 0, 40));
    apply(&mut document, Fact::Labels(key(3), slot(1, 4, 1)));
    assert_eq!(counts(&document), (20, 5, 25), "windows 3 and 4 are the slots' now");
    apply(&mut document, Fact::Labels(key(9), slot(1, 4, 1)));
    assert_eq!(counts(&document), (20, 5, 25), "a slot waits for its window");
    let foreign = LabelKey { version: Digest::of(b"another"), ..key(4) };
    apply(&mut document, Fact::Labels(foreign, slot(1, 4, 1)));
    assert_eq!(counts(&document), (20, 5, 25), "a label of another version is not this window's");
}

#[test]
fn one_window_number_is_one_version() {
    // What would be if the invariant were broken: one key, and the larger bytes, never a mixture.
    let (mut a, mut b) = (window(LIFE, 1), window(LIFE, 1));
    (a.rows, b.rows, b.version) = (10, 20, Digest::of(b"after a swap"));
    let mut document = Document::default();
    let mut back = Document::default();
    for (one, other) in [(&a, &b), (&b, &a)] {
        apply(&mut document, Fact::Window(one.clone()));
        apply(&mut back, Fact::Window(other.clone()));
    }
    assert_eq!(document.to_bytes(), back.to_bytes());
    assert_eq!(Facts(&document).windows().len(), 1);
    // Labels are told apart by version even then.
    let other = LabelKey { version: b.version, ..key(1) };
    assert_ne!(other.text(), key(1).text());
}

#[test]
fn pairs_are_small_and_read_back() {
    for (a, b) in [(0, 0), (0, 1), (1, 0), (3, 200), (9_999, 9_999), (u16::MAX, u16::MAX), (u16::MAX, 0)] {
        assert_eq!(unpair(pair(a, b)), (a, b));
    }
    let all: std::collections::BTreeSet<u32> = (0..9).flat_map(|a| (0..9).map(move |b| pair(a, b))).collect();
    assert_eq!(all, (0..81).collect());
}

#[test]
fn scores_and_confidences_fall_into_their_bins() {
    for (confidence, bin) in [(0.0, 0), (0.1, 1), (0.55, 5), (1.0, 9), (7.0, 9), (f32::NAN, 0), (-1.0, 0)] {
        assert_eq!(confidence_bin(confidence), bin, "{confidence}");
    }
    for (score, bin) in [(0.0, 0), (0.001, 0), (0.5, 32), (2.0 / 3.0 + 1e-9, 36), (0.999, 63), (1.0, 63)] {
        assert_eq!(score_cell(0, false, score), bin, "{score}");
        assert_eq!(score_cell(2, true, score), 5 * SCORE_BINS + bin, "{score}");
    }
    let bins: Vec<u32> = (0..=1_000).map(|it| score_cell(0, false, f64::from(it) / 1_000.0)).collect();
    assert!(bins.is_sorted());
}

#[test]
fn odd_numbers_add_nothing_that_is_none() {
    let mut sum = Fixed::default();
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN] {
        sum.add(odd);
    }
    assert!(sum.is_zero());
    let mut sums = LabelSums::default();
    for (answer, truth) in [(f64::NAN, 1.0), (1.0, f64::INFINITY), (1e300, -1e300), (2.0, 1.5)] {
        sums.observe_value(answer, truth);
    }
    assert_eq!((sums.labelled, sums.measured), (4, 2));
    assert!(sums.squared.value().is_finite() && sums.truth.value().is_finite());
    let label =
        |truth, scores| ClassLabel { truth, answered: 0, confidence: Some(f32::NAN), scores, groups: &[] };
    sums.observe_class(&label(9, &[0.5, 0.5]));
    sums.observe_class(&label(0, &[f32::NAN, 0.5]));
    assert_eq!((sums.labelled, sums.scored, sums.correct), (6, 0, 1));
    assert!(sums.reliability.is_empty());
    sums.observe_class(&label(1, &[1.0, 0.0]));
    assert!((sums.log_loss.value() - 13.8155).abs() < 1e-3 && (sums.brier.value() - 2.0).abs() < 1e-9);
    for (share, units) in [(0.5, ONE / 2), (-1.0, 0), (2.0, ONE), (f64::NAN, 0)] {
        assert_eq!(units_of_share(share), units);
    }
}

proptest! {
    #[test]
    fn cells_are_canonical_whatever_they_were_built_from(
        rows in proptest::collection::vec((0u32..40, 0u64..4, 0u64..4), 0..80),
        cut in 0usize..80,
    ) {
        let by_hand = |rows: &[(u32, u64, u64)]| {
            let mut cells = Cells::<2>::default();
            for (index, a, b) in rows {
                cells.add_all(*index, [*a, *b]);
            }
            cells
        };
        let all = by_hand(&rows);
        let read: Cells<2> = from_cbor(&to_cbor(&rows)).unwrap();
        prop_assert_eq!(&read, &all);
        prop_assert_eq!(from_cbor::<Cells<2>>(&to_cbor(&all)).unwrap(), all.clone());
        let (left, right) = rows.split_at(cut.min(rows.len()));
        let mut sum = by_hand(right);
        sum.absorb(&by_hand(left));
        prop_assert_eq!(to_cbor(&sum), to_cbor(&all));
        prop_assert!(all.iter().is_sorted_by_key(|(index, _)| index));
    }

    #[test]
    fn fixed_sums_read_back(values in proptest::collection::vec(-1e18f64..1e18, 0..20)) {
        let mut sum = Fixed::default();
        values.iter().for_each(|value| sum.add(*value));
        prop_assert_eq!(from_cbor::<Fixed>(&to_cbor(&sum)).unwrap(), sum);
        let mut back = Fixed::default();
        values.iter().rev().for_each(|value| back.add(*value));
        prop_assert_eq!(back, sum);
    }

    #[test]
    fn garbage_in_a_slot_is_nothing_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut document = Document::default();
        apply(&mut document, Fact::Window(window(LIFE, 7)));
        let op = Op { seq: 1, hlc: Hlc(1), kind: crate::fact::LABELS, key: key(7).text(), value: bytes };
        apply_op(&mut document, &op);
        let labels = LabelBook::of(&document).labels_of(&window(LIFE, 7));
        prop_assert_eq!(labels.arrived, LabelSummary::default());
    }
}

#[test]
fn the_kind_folds_as_windows_do() {
    assert_eq!(Kind(0x0402).class(), Some(crate::op::Class::Window));
    assert_eq!(crate::fact::LABELS, Kind(0x0402));
}
