use super::*;
use shoal_proto::wire::{from_cbor, to_cbor};

#[test]
fn metrics_are_those_of_the_textbook() {
    // Confusion (true × answered): [[3, 1], [2, 4]]; scores of class 1 by hand.
    let rows = [
        (0.1, 0),
        (0.2, 0),
        (0.3, 0),
        (0.9, 0),
        (0.05, 1),
        (0.4, 1),
        (0.6, 1),
        (0.7, 1),
        (0.8, 1),
        (0.99, 1),
    ]
    .map(|(score, truth)| Row {
        probabilities: vec![1.0 - score, score],
        truth,
        codes: GroupCodes::default(),
    });
    let reference = AnswerReference::new(&manifest(2, Vec::new()), None);
    let metrics = Metrics::of(&labelled(&reference, &rows), &reference);
    let near = |measured: Option<Measured>, expected: f64| {
        let value = measured.unwrap().value;
        assert!((value - expected).abs() < 1e-6, "{value} and not {expected}");
    };
    near(metrics.accuracy, 0.7);
    near(metrics.balanced_accuracy, (3.0 / 4.0 + 4.0 / 6.0) / 2.0);
    near(metrics.classes[1].precision, 0.8);
    near(metrics.classes[1].f1, 8.0 / 11.0);
    near(metrics.f1, (6.0 / 9.0 + 8.0 / 11.0) / 2.0);
    // Pairs won by a positive: .05: 0, .4 .6 .7 .8: 3 each, .99: 4 of 4.
    near(metrics.auc, 16.0 / 24.0);
    assert!(metrics.auc_error.unwrap() < 1e-12, "no two scores share a bin");
    let truth = |row: &Row| f64::from(row.probabilities[row.truth as usize]);
    near(metrics.log_loss, rows.iter().map(|row| -truth(row).ln()).sum::<f64>() / 10.0);
    near(metrics.brier, rows.iter().map(|row| 2.0 * (1.0 - truth(row)).powi(2)).sum::<f64>() / 10.0);
    assert_eq!((metrics.coverage, metrics.mae, metrics.r2), (Some(1.0), None, None));
    let (low, high) = metrics.accuracy.unwrap().interval.unwrap();
    assert!((low - 0.3968).abs() < 1e-3 && (high - 0.8922).abs() < 1e-3, "{low} {high}");
}

#[test]
fn the_area_of_bins_is_that_of_sorted_scores_within_its_error() {
    for seed in 0..20 {
        let mut stream = Stream::new(seed, 2);
        stream.spread = 0.5 + 0.1 * seed as f64;
        let rows = stream.rows(600);
        let reference = AnswerReference::new(&manifest(2, Vec::new()), None);
        let metrics = Metrics::of(&labelled(&reference, &rows), &reference);
        let (mut won, mut pairs) = (0.0, 0.0);
        for one in rows.iter().filter(|row| row.truth == 1) {
            for other in rows.iter().filter(|row| row.truth == 0) {
                pairs += 1.0;
                won += match one.probabilities[1].total_cmp(&other.probabilities[1]) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
        let (exact, got, error) = (won / pairs, metrics.auc.unwrap().value, metrics.auc_error.unwrap());
        println!("AUC {exact:.5}, of bins {got:.5}, stated error {error:.5}");
        assert!((exact - got).abs() <= error + 1e-12 && error < 0.02);
        assert!((exact - got).abs() < 0.002);
    }
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let reference = AnswerReference::new(&manifest(3, Vec::new()), None);
    let big = Metrics::of(&labelled(&reference, &Stream::new(77, 3).rows(200_000)), &reference);
    let of = |m: &Metrics| [m.accuracy, m.balanced_accuracy, m.log_loss, m.brier].map(Option::unwrap);
    let truth = of(&big).map(|measured| measured.value);
    let mut held = [0; 4];
    for seed in 0..400 {
        let rows = Stream::new(seed, 3).rows(200);
        let metrics = Metrics::of(&labelled(&reference, &rows), &reference);
        for ((held, measured), truth) in held.iter_mut().zip(of(&metrics)).zip(truth) {
            let (low, high) = measured.interval.unwrap();
            *held += u32::from(low <= truth && truth <= high);
        }
    }
    println!("of 400, held by accuracy, balanced accuracy, log-loss, Brier: {held:?}");
    assert!(held.iter().all(|held| (365..=397).contains(held)), "{held:?}");
}

#[test]
fn labels_that_are_chosen_are_weighed() {
    let reference = AnswerReference::new(&manifest(3, Vec::new()), None);
    let (mut plain, mut weighted, mut held) = (0.0, 0.0, 0);
    for seed in 0..100 {
        let mut stream = Stream::new(seed, 3);
        let rows = stream.rows(4_000);
        let mut labels = Performance::new(&reference);
        labels.predicted(4_000);
        for row in &rows {
            // Doubtful rows are asked for, sure ones seldom.
            let chance = if top(&row.probabilities).1 < 0.7 { 0.5 } else { 0.05 };
            if stream.rng.random::<f64>() < chance {
                let outcome = Outcome::Scores { probabilities: &row.probabilities, truth: row.truth };
                labels.label(&reference, &Label { outcome, groups: row.codes, chance: Some(chance) });
            }
        }
        let (metrics, truth) = (Metrics::of(&labels, &reference), accuracy(&rows));
        plain += (metrics.accuracy.unwrap().value - truth) / 100.0;
        let measured = metrics.weighted_accuracy.unwrap();
        weighted += (measured.value - truth) / 100.0;
        let (low, high) = measured.interval.unwrap();
        held += u32::from(low <= truth && truth <= high);
        assert!(metrics.coverage.unwrap() < 0.5);
    }
    println!("bias {plain:.4} plain, {weighted:.4} weighed; {held} of 100 held");
    assert!(plain < -0.05 && weighted.abs() < 0.005 && held >= 90);
}

#[test]
fn a_label_counts_for_the_window_of_its_prediction() {
    let reference = AnswerReference::new(&manifest(2, Vec::new()), None);
    let label = |truth| Label {
        outcome: Outcome::Class { class: 1, confidence: 0.9, truth },
        groups: GroupCodes::default(),
        chance: None,
    };
    let mut late = LateLabels::new(3);
    assert_eq!(late.label(&reference, 4, &label(1)), Attributed::Unusable, "of no window");
    for window in [4, 5, 7, 8] {
        late.open(window);
        late.predicted(window, 10 * window);
    }
    late.open(6); // older than the newest: not opened again
    assert_eq!(late.label(&reference, 7, &label(1)), Attributed::Counted);
    assert_eq!(late.label(&reference, 5, &label(0)), Attributed::Counted);
    assert_eq!(late.label(&reference, 4, &label(1)), Attributed::TooLate);
    assert_eq!(late.label(&reference, 6, &label(1)), Attributed::Unusable);
    assert_eq!(late.label(&reference, 9, &label(1)), Attributed::Unusable);
    assert_eq!(late.label(&reference, 8, &label(7)), Attributed::Unusable, "of no class");
    assert_eq!((late.too_late(), late.unusable()), (1, 4));
    let back: LateLabels = from_cbor(&to_cbor(&late)).unwrap();
    assert_eq!(back, late);
    assert!(back.fits(&reference));
    assert_eq!((late.take_changed(), late.take_changed()), (vec![5, 7, 8], vec![]));
    let five = Metrics::of(&late.window(&reference, 5).unwrap(), &reference);
    assert_eq!((five.predicted, five.labelled, five.accuracy.unwrap().value), (50, 1, 0.0));
    assert_eq!(late.window(&reference, 4), None);
    let all = Metrics::of(&late.recent(&reference), &reference);
    assert_eq!((all.predicted, all.labelled), (200, 2));
    late.open(100);
    assert_eq!(late.label(&reference, 5, &label(1)), Attributed::TooLate);
}

#[test]
fn outcomes_feed_the_detectors_of_errors() {
    let baseline = of_values(&[0.0; 300], &std::array::from_fn::<f32, 300, _>(|i| i as f32), &[], 0);
    let reference = AnswerReference::new(&manifest(0, Vec::new()), Some(&baseline));
    assert_eq!(reference.residual_bins().iter().sum::<u64>(), 300);
    let bins = [0.0, 14.0, -16.0, 1e9, f32::NAN].map(|error| reference.residual_bin(error));
    assert_eq!(bins, [Some(0), Some(0), Some(1), Some(19), None]);
    assert_eq!(Outcome::Value { answer: 1.0, truth: 3.0 }.error(), Some(-2.0));
    let scores = Outcome::Scores { probabilities: &[0.2, 0.8], truth: 1 };
    assert_eq!((scores.is_correct(), scores.error()), (Some(true), None));
}
