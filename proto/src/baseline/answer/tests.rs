use super::*;
use crate::baseline::Baseline;

/// What a build without the new parts wrote.
const OLD: &str = r#"{"rows":10,"features":[],"predictions":{"counts":[1,2,3],"labelled":6,"correct":5}}"#;

#[test]
fn an_old_file_reads_and_keeps_its_digest() {
    let baseline = Baseline::parse(OLD.as_bytes()).unwrap();
    let predictions = baseline.predictions.clone().unwrap();
    assert_eq!((predictions.labelled, predictions.correct), (6, 5));
    assert_eq!((predictions.classes, predictions.values, predictions.groups.len()), (None, None, 0));
    assert_eq!(String::from_utf8(baseline.to_bytes()).unwrap(), OLD);
}

fn full() -> Baseline {
    let mut confusion = Confusion::new(2);
    assert!(confusion.add(0, 1) && confusion.add(1, 1));
    let mut scores = Counts::default();
    scores.add(score_cell(1, true, 0.7), 3);
    let reliability = Reliability::of((0..100_u8).map(|i| (f32::from(i) / 99.0, f64::from(i % 2))));
    let expected = Spread::of([0.25, 0.75]);
    let values = ValueBaseline {
        answers: Histogram::of((0..100_u8).map(|i| f32::from(i) / 7.0), 20),
        residuals: Histogram::of([0.1, 0.2, f32::NAN], 20),
        rmse: 0.1,
        model: ErrorModel {
            constant: 0.3,
            terms: vec![ErrorTerm { scale: 1.0, ..ErrorTerm::default() }],
            skill: 0.1,
        },
        reliability: reliability.clone(),
        expected,
        ..ValueBaseline::default()
    };
    let part = PartBaseline { rows: 5, favoured: 3, deserving: 2, both: 1, correct: 4 };
    let predictions = PredictionBaseline {
        counts: vec![1; 20],
        labelled: 2,
        correct: 1,
        classes: Some(Box::new(ClassBaseline { confusion, reliability, expected, scores })),
        values: Some(Box::new(values)),
        groups: vec![GroupBaseline { name: "age".into(), parts: vec![part] }],
    };
    Baseline { rows: 10, predictions: Some(predictions), ..Baseline::default() }
}

#[test]
fn a_full_reference_is_read_back_to_the_same_bits() {
    let baseline = full();
    let again = Baseline::parse(&baseline.to_bytes()).unwrap();
    assert_eq!(again, baseline);
    assert_eq!(again.digest(), baseline.digest());
}

#[test]
fn contradictions_are_refused() {
    type Break = fn(&mut PredictionBaseline);
    let cases: [(&str, Break); 5] = [
        ("calibration", |p| p.classes.iter_mut().for_each(|c| c.reliability.edges.reverse())),
        ("scores", |p| p.classes.iter_mut().for_each(|c| c.scores.add(9_999, 1))),
        ("counts", |p| p.values.iter_mut().for_each(|v| v.answers.counts.push(1))),
        ("groups", |p| p.groups.iter_mut().for_each(|g| g.parts[0].both = 4)),
        ("confusion", |p| {
            let wide = r#"{"k":2,"c":[[4,1]]}"#;
            p.classes.iter_mut().for_each(|c| c.confusion = serde_json::from_str(wide).unwrap());
        }),
    ];
    for (word, break_it) in cases {
        let mut baseline = full();
        break_it(baseline.predictions.as_mut().unwrap());
        let error = Baseline::parse(&baseline.to_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{error} does not name {word}");
    }
}

#[test]
fn every_score_has_a_cell() {
    for (score, bin) in [
        (0.0, 0),
        (f32::NAN, 0),
        (f32::NEG_INFINITY, 0),
        (1e-30, 0),
        (0.5, SCORE_BINS / 2),
        (1.0, SCORE_BINS - 1),
        (f32::INFINITY, SCORE_BINS - 1),
    ] {
        assert_eq!(score_cell(0, false, score), bin, "{score}");
        assert_eq!(score_cell(3, true, score), 7 * SCORE_BINS + bin, "{score}");
    }
}

#[test]
fn confidence_falls_into_its_tenth() {
    for (class, confidence, cell) in
        [(0, 0.0, 0), (0, 0.09, 0), (0, 0.1, 1), (1, 0.55, 15), (2, 1.0, 29), (0, f32::NAN, 0), (0, 7.0, 9)]
    {
        assert_eq!(prediction_cell(class, confidence), cell, "{class} {confidence}");
    }
}

#[test]
fn tables_of_nothing_and_of_one_value_have_one_bin() {
    assert_eq!(Reliability::of([]).bins.len(), 1);
    let constant = Reliability::of((0..10_u8).map(|i| (0.9, f64::from(i % 2))));
    assert_eq!((constant.edges.len(), constant.bins[0].count, constant.bins[0].outcome), (0, 10, 5 * ONE));
    assert_eq!(Histogram::of([f32::INFINITY], 20).counts, [0]);
    assert_eq!(Spread::default().moments(), None);
    let (rows, mean, variance) = Spread::of([0.25, 0.75]).moments().unwrap();
    assert!(rows == 2.0 && (mean - 0.5).abs() < 1e-6 && (variance - 0.0625).abs() < 1e-5);
}
