use super::*;
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

#[test]
fn accuracy_is_estimated_without_labels_when_inputs_change() {
    let runs = 40;
    // A model that is overconfident by a temperature of 2, which the package knows or does not.
    for (temperature, most_off, least_covered) in [(2.0, 0.02, 34), (1.0, 0.04, 10)] {
        let (mut off, mut covered, mut naive) = (0.0_f64, 0, 0.0_f64);
        for seed in 0..runs {
            let mut stream = Stream::new(seed, 4);
            stream.sharpened = 2.0;
            let mut soften = |count: usize, drawn: f64| {
                stream.drawn = drawn;
                let mut rows = stream.rows(count);
                let says: f64 = rows.iter().map(|row| f64::from(top(&row.probabilities).1)).sum();
                for row in &mut rows {
                    let raw = std::mem::take(&mut row.probabilities);
                    probabilities(OutputKind::Probabilities, temperature, &raw, &mut row.probabilities);
                }
                (rows, says / count as f64)
            };
            let reference = reference(&soften(4_000, 1.0).0, 4);
            let (rows, says) = soften(2_000, 0.5);
            let estimate = Estimate::of(&observed(&reference, &rows), &reference);
            let (low, high) = estimate.accuracy.unwrap().interval.unwrap();
            let truth = accuracy(&rows);
            off += (estimate.accuracy.unwrap().value - truth).abs() / runs as f64;
            naive += (says - truth).abs() / runs as f64;
            covered += u32::from((low..=high).contains(&truth));
            assert!(estimate.p.unwrap() < 1e-6 && estimate.is_calibrated);
        }
        println!(
            "temperature {temperature}: mean |estimate - accuracy| {off:.4}, by raw confidence {naive:.4}; \
             {covered} of {runs} covered"
        );
        assert!(off < most_off && off < naive / 3.0 && covered >= least_covered);
    }
}

#[test]
fn expected_precision_and_recall_are_near_the_real_ones() {
    let mut stream = Stream::new(3, 3);
    stream.sharpened = 0.6;
    let reference = reference(&stream.rows(6_000), 3);
    let rows = stream.rows(6_000);
    let estimate = Estimate::of(&observed(&reference, &rows), &reference);
    let metrics = Metrics::of(&labelled(&reference, &rows), &reference);
    for (expected, real) in estimate.classes.iter().zip(&metrics.classes) {
        println!("{expected:?} {:?} {:?}", real.precision, real.recall);
        assert!((expected.precision.unwrap() - real.precision.unwrap().value).abs() < 0.03);
        assert!((expected.recall.unwrap() - real.recall.unwrap().value).abs() < 0.03);
    }
    assert!((estimate.f1.unwrap() - metrics.f1.unwrap().value).abs() < 0.03);
}

#[test]
fn windows_of_the_reference_raise_no_alarm() {
    let (mut windows, mut below, mut found) = (0_u32, [0_u32; 3], 0);
    for seed in 0..20 {
        let mut stream = Stream::new(1_000 + seed, 3);
        let reference = reference(&stream.rows(3_000), 3);
        for _ in 0..100 {
            let window = observed(&reference, &stream.rows(250));
            windows += 1;
            let tests = window.tests(&reference);
            for test in &tests {
                let slot = usize::from(test.monitor == Monitor::Estimate);
                below[slot] += u32::from(test.p < 0.01);
            }
            let rows = stream.rows(250);
            let labels = labelled(&reference, &rows).tests(&reference);
            below[2] += labels.iter().map(|test| u32::from(test.p < 0.01)).sum::<u32>();
            found += decide(&tests, 1e-4, 1e-3).len() + decide(&labels, 1e-4, 1e-3).len();
        }
    }
    println!(
        "{windows} windows: p < 0.01 of prediction (2 tests) {}, estimate {}, calibration {}; {found} findings at 1e-3",
        below[0], below[1], below[2]
    );
    assert!(below[0] < 2 * windows / 50 && below[1] < windows / 50 && below[2] < windows / 50);
    assert!(found < 20);
}

#[test]
fn what_each_test_sees_and_is_blind_to() {
    let mut stream = Stream::new(5, 3);
    let reference = reference(&stream.rows(5_000), 3);
    let levels = |rows: &[Row]| {
        let mut tests = observed(&reference, rows).tests(&reference);
        tests.extend(labelled(&reference, rows).tests(&reference));
        let found = decide(&tests, 1e-4, 1e-3);
        [Monitor::Prediction, Monitor::Estimate, Monitor::Calibration].map(|monitor| {
            found.iter().find(|f| f.test.monitor == monitor).map_or(DriftLevel::Stable, |f| f.level)
        })
    };
    use DriftLevel::{Drift, Stable};
    assert_eq!(levels(&stream.rows(2_000)), [Stable, Stable, Stable]);
    stream.drawn = 0.5;
    assert_eq!(levels(&stream.rows(2_000)), [Drift, Drift, Stable], "inputs change and their truth does not");
    stream.drawn = 1.0;
    stream.turned = 0.3;
    assert_eq!(levels(&stream.rows(2_000)), [Stable, Stable, Drift], "concept drift shows in labels alone");
}

#[test]
fn class_frequencies_are_told_from_answers() {
    let mut stream = Stream::new(9, 4);
    let reference = reference(&stream.rows(8_000), 4);
    stream.priors = vec![0.55, 0.05, 0.2, 0.2];
    let rows = stream.rows(8_000);
    let priors = Priors::of(&observed(&reference, &rows), &reference).unwrap();
    println!("{priors:?}");
    for (estimate, truth) in priors.shares.iter().zip(&stream.priors) {
        assert!((estimate - truth).abs() < 0.03, "{:?}", priors.shares);
    }
    assert!(priors.is_reliable && priors.weights[0] > 1.8 && priors.p.unwrap() < 1e-9);
    // Classes that are answered alike cannot be told apart, and that is said.
    let blurred: Vec<Row> = stream
        .rows(4_000)
        .into_iter()
        .map(|row| Row { probabilities: vec![0.4, 0.3, 0.2, 0.1], ..row })
        .collect();
    let reference = super::reference(&blurred, 4);
    let priors = Priors::of(&observed(&reference, &blurred), &reference).unwrap();
    assert!(!priors.is_reliable && priors.condition == f64::INFINITY);
    assert!(priors.shares.iter().all(|share| share.is_finite()));
}

/// Rows of a regression: (features, answer, truth); errors grow with the first feature.
fn values(rng: &mut ChaCha8Rng, rows: usize, from: f32, to: f32) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut features, mut answers, mut truth) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let (x, y): (f32, f32) = (rng.random_range(from..to), rng.random_range(-1.0..1.0));
        let answer = 3.0 * x + y;
        features.extend([x, y]);
        answers.push(answer);
        truth.push(answer + (0.1 + x * x) * rng.random_range(-1.0..1.0));
    }
    (features, answers, truth)
}

#[test]
fn the_error_of_a_regression_is_estimated_without_labels() {
    let manifest = manifest(0, Vec::new());
    let mut off = 0.0;
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (features, answers, truth) = values(&mut rng, 4_000, -1.0, 1.0);
        let baseline = of_values(&answers, &truth, &features, 2);
        let known = baseline.values.clone().unwrap();
        assert!(known.model.skill > 0.1, "{}", known.model.skill);
        let reference = AnswerReference::new(&manifest, Some(&baseline));
        for (from, to, moved) in [(-1.0, 1.0, false), (0.3, 1.0, true)] {
            let (features, answers, truth) = values(&mut rng, 1_000, from, to);
            let mut window = AnswerWindow::new(&reference);
            let mut labels = Performance::new(&reference);
            for ((row, answer), truth) in features.chunks_exact(2).zip(&answers).zip(&truth) {
                window.observe_value(&reference, *answer, row);
                let outcome = Outcome::Value { answer: *answer, truth: *truth };
                labels.label(&reference, &Label { outcome, groups: GroupCodes::default(), chance: None });
            }
            let estimate = Estimate::of(&window, &reference);
            let (expected, real) = (estimate.mae.unwrap(), Metrics::of(&labels, &reference));
            off += (expected.value / real.mae.unwrap().value - 1.0).abs() / 40.0;
            let found = decide(&window.tests(&reference), 1e-4, 1e-3);
            let monitors: Vec<Monitor> = found.iter().map(|found| found.test.monitor).collect();
            assert_eq!(monitors.contains(&Monitor::Estimate), moved, "{expected:?} {:?}", estimate.z);
            assert_eq!(monitors.contains(&Monitor::Prediction), moved);
            let r2 = real.r2.unwrap().value;
            assert!(r2 > 0.5 && r2 < 1.0 && real.rmse.unwrap().value > real.mae.unwrap().value);
        }
    }
    println!("mean relative error of the estimated MAE {off:.3}");
    assert!(off < 0.08);
}

#[test]
fn nothing_that_is_odd_panics_or_gives_a_number_that_is_none() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, 1.0];
    for classes in [0, 2, 3, 70] {
        let manifest = manifest(classes, Vec::new());
        let flat: Vec<f32> = odd.iter().cycle().take(7 * classes).copied().collect();
        let baselines = [
            None,
            Some(PredictionBaseline::default()),
            Some(of_classes(classes, &[], &[], &[], &Groups::default(), &[])),
            Some(of_classes(
                classes,
                &[(0, f32::NAN)],
                &flat,
                &[0, 1, 99, 0, 0, 1, 1],
                &Groups::default(),
                &[],
            )),
            Some(of_values(&[], &[], &[], 0)),
            Some(of_values(&odd, &odd, &odd, 1)),
            Some(of_values(&[1.0; 300], &[1.0; 300], &[1.0; 300], 1)),
            Some(of_values(&[f32::MAX; 300], &[f32::MIN; 300], &[f32::MAX; 300], 1)),
        ];
        for baseline in baselines {
            assert_eq!(baseline.as_ref().and_then(PredictionBaseline::fault), None);
            let reference = AnswerReference::new(&manifest, baseline.as_ref());
            let (mut window, mut labels) = (AnswerWindow::new(&reference), Performance::new(&reference));
            assert!(Metrics::of(&labels, &reference).accuracy.is_none());
            for value in odd.iter().cycle().take(100) {
                let shares = vec![*value; classes];
                let outcomes = if classes > 0 {
                    window.observe_class(&reference, (5_000, *value), &shares, GroupCodes::default());
                    [
                        Outcome::Scores { probabilities: &shares, truth: 1 },
                        Outcome::Class { class: 0, confidence: *value, truth: u32::MAX },
                    ]
                } else {
                    window.observe_value(&reference, *value, &[*value]);
                    [
                        Outcome::Value { answer: *value, truth: 1.0 },
                        Outcome::Value { answer: 1.0, truth: *value },
                    ]
                };
                for outcome in outcomes {
                    labels.label(
                        &reference,
                        &Label { outcome, groups: GroupCodes::default(), chance: Some(f64::from(*value)) },
                    );
                }
            }
            let tests = [window.tests(&reference), labels.tests(&reference)].concat();
            for test in &tests {
                assert!(
                    (0.0..=1.0).contains(&test.p) && test.statistic.is_finite() && test.effect.is_finite(),
                    "{test:?}"
                );
            }
            let said = (
                Estimate::of(&window, &reference),
                Priors::of(&window, &reference),
                Metrics::of(&labels, &reference),
            );
            let text = format!("{said:?}");
            assert!(!text.contains("NaN"), "{text}");
        }
    }
}
