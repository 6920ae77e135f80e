use super::*;
use proptest::prelude::*;
use shoal_proto::wire::{from_cbor, to_cbor};

fn groups() -> Vec<Group> {
    let values = ["a", "b"].map(str::to_owned).to_vec();
    vec![Group { name: "g".into(), values, positive: Some("c0".into()), ..Group::default() }]
}

/// A row of either task; some of its numbers are odd.
type Numbers = (Vec<f32>, u32, u8, Option<f64>);

fn numbers() -> impl Strategy<Value = Numbers> {
    let number =
        prop_oneof![8 => -1.0_f32..2.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => any::<f32>()];
    let chance = prop_oneof![Just(None), (0.0_f64..1.0).prop_map(Some)];
    (proptest::collection::vec(number, 3), 0_u32..4, 0_u8..4, chance)
}

fn count(reference: &AnswerReference, window: &mut AnswerWindow, labels: &mut Performance, row: &Numbers) {
    let (values, truth, part, chance) = row;
    let codes = GroupCodes::from(vec![*part]);
    labels.predicted(1);
    let outcome = if reference.classes() > 0 {
        window.observe_class(reference, top(values), values, codes);
        if *part == 3 {
            Outcome::Class { class: 1, confidence: values[0], truth: *truth }
        } else {
            Outcome::Scores { probabilities: values, truth: *truth }
        }
    } else {
        window.observe_value(reference, values[0], values);
        Outcome::Value { answer: values[0], truth: values[1] }
    };
    labels.label(reference, &Label { outcome, groups: codes, chance: *chance });
}

fn references() -> Vec<AnswerReference> {
    let rows = Stream::new(1, 3).rows(500);
    let manifest_of = manifest(3, groups());
    let of_classes = packed(&rows, 3, &Groups::new(&manifest_of, &[]));
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let features: Vec<f32> = (0..1_500).map(|_| rng.random_range(-1.0..1.0)).collect();
    let answers: Vec<f32> = features.iter().step_by(3).copied().collect();
    let truth: Vec<f32> = answers.iter().map(|answer| answer * 1.1).collect();
    let of_values = of_values(&answers, &truth, &features, 3);
    vec![
        AnswerReference::new(&manifest_of, Some(&of_classes)),
        AnswerReference::new(&manifest_of, None),
        AnswerReference::new(&manifest(0, Vec::new()), Some(&of_values)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_parted_in_any_way_and_order_add_up_to_the_same_bytes(
        rows in proptest::collection::vec((numbers(), 0_usize..5), 0..60),
        order in Just([0_usize, 1, 2, 3, 4]).prop_shuffle(),
        cut in 0_usize..60,
    ) {
        for reference in references() {
            let empty = (AnswerWindow::new(&reference), Performance::new(&reference));
            let mut whole = empty.clone();
            let mut parts = vec![empty.clone(); 5];
            for (at, (row, part)) in rows.iter().enumerate() {
                if at == cut {
                    // What was read back from disk goes on as it was.
                    for (window, labels) in &mut parts {
                        *window = from_cbor(&to_cbor(window)).unwrap();
                        *labels = from_cbor(&to_cbor(labels)).unwrap();
                        prop_assert!(window.fits(&reference) && labels.fits(&reference));
                    }
                }
                count(&reference, &mut whole.0, &mut whole.1, row);
                let (window, labels) = &mut parts[*part];
                count(&reference, window, labels, row);
            }
            let mut sum = empty.clone();
            for part in order {
                prop_assert!(sum.0.absorb(&parts[part].0) && sum.1.absorb(&parts[part].1));
            }
            prop_assert_eq!(to_cbor(&sum), to_cbor(&whole));
            prop_assert_eq!(sum.0.rows(), rows.len() as u64);
            whole.0.reset();
            prop_assert_eq!(&whole.0, &empty.0);
        }
    }
}

#[test]
fn counts_on_other_references_are_not_added() {
    let references = references();
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let (one, other) = (&references[a], &references[b]);
        let mut window = AnswerWindow::new(one);
        assert!(!window.absorb(&AnswerWindow::new(other)) && !window.fits(other) && window.fits(one));
        let mut labels = Performance::new(one);
        assert!(!labels.absorb(&Performance::new(other)) && !labels.fits(other) && labels.fits(one));
        assert_eq!((window, labels), (AnswerWindow::new(one), Performance::new(one)));
    }
}
