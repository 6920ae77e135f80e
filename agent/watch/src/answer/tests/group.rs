use super::*;
use crate::answer::bias::{of_answers, of_labels};
use shoal_proto::finding::Monitor;

fn site(most: Option<f64>) -> Vec<Group> {
    let values = ["a", "b", "c"].map(str::to_owned).to_vec();
    vec![Group { name: "site".into(), values, max_difference: most, ..Group::default() }]
}

/// Rows of three sites; those of `c` are favoured less by `less`, whatever their truth.
fn rows(seed: u64, count: usize, less: f64, groups: &Groups) -> Vec<Row> {
    let mut stream = Stream::new(seed, 2);
    let mut rows = stream.rows(count);
    for row in &mut rows {
        let site = stream.rng.random_range(0..3);
        assert!(groups.name(&mut row.codes, "site", ["a", "b", "c"][site]));
        if site == 2 && row.probabilities[1] > 0.5 && stream.rng.random::<f64>() < less {
            row.probabilities.reverse();
        }
    }
    rows
}

fn setup(less: f64, most: Option<f64>) -> AnswerReference {
    let manifest = manifest(2, site(most));
    let groups = Groups::new(&manifest, &[]);
    let baseline = packed(&rows(1, 6_000, less, &groups), 2, &groups);
    AnswerReference::new(&manifest, Some(&baseline))
}

fn found(reference: &AnswerReference, rows: &[Row]) -> Vec<(Monitor, Option<(usize, usize)>)> {
    let mut tests = observed(reference, rows).tests(reference);
    tests.extend(labelled(reference, rows).tests(reference));
    let found = decide(&tests, 1e-4, 1e-3).into_iter().map(|found| (found.test.monitor, found.test.part));
    found.filter(|(monitor, _)| matches!(monitor, Monitor::Parity | Monitor::Opportunity)).collect()
}

#[test]
fn a_group_that_falls_behind_is_found_and_named() {
    let reference = setup(0.0, None);
    let said = found(&reference, &rows(2, 3_000, 0.0, reference.groups()));
    assert_eq!(said, [], "nothing changed");
    let worse = rows(3, 3_000, 0.4, reference.groups());
    let said = found(&reference, &worse);
    println!("{said:?}");
    assert_eq!(said, [(Monitor::Parity, Some((0, 2))), (Monitor::Opportunity, Some((0, 2)))]);
    let report = &of_labels(&labelled(&reference, &worse), &reference)[0];
    let parity = report.parity.unwrap();
    assert_eq!((parity.least, report.name.as_str(), report.parts[2].name.as_str()), (2, "site", "site = c"));
    assert!(
        parity.breaks_four_fifths() && parity.difference.value > 0.1 && report.packed_parity.unwrap() < 0.05
    );
    let (opportunity, fall_out) = (report.opportunity.unwrap(), report.fall_out.unwrap());
    assert!(opportunity.difference.value > 0.2 && report.odds.unwrap().value >= fall_out.difference.value);
    let (low, high) = opportunity.difference.interval.unwrap();
    assert!(low > 0.0 && low < opportunity.difference.value && opportunity.difference.value < high);
}

#[test]
fn a_difference_that_was_packed_is_no_drift_unless_the_manifest_forbids_it() {
    let relative = setup(0.4, None);
    let same = rows(4, 3_000, 0.4, relative.groups());
    assert_eq!(found(&relative, &same), []);
    assert_eq!(found(&relative, &rows(5, 3_000, 0.0, relative.groups())), [], "a difference that shrank");
    let absolute = setup(0.4, Some(0.05));
    assert!(found(&absolute, &same).contains(&(Monitor::Parity, Some((0, 2)))));
    assert_eq!(found(&absolute, &rows(6, 3_000, 0.0, absolute.groups())), []);
}

#[test]
fn few_rows_of_a_part_are_said_to_be_too_few() {
    let reference = setup(0.0, None);
    let few = rows(7, 200, 0.5, reference.groups());
    assert_eq!(found(&reference, &few), []);
    let report = &of_labels(&labelled(&reference, &few), &reference)[0];
    assert!(
        report.parts.iter().all(|part| part.too_few && part.favoured.is_some()) && report.parity.is_none()
    );
}

#[test]
fn rates_of_groups_are_promised_before_labels_come() {
    let reference = setup(0.0, None);
    let live = rows(8, 6_000, 0.0, reference.groups());
    let promised = &of_answers(&observed(&reference, &live), &reference)[0];
    let real = &of_labels(&labelled(&reference, &live), &reference)[0];
    for (promised, real) in promised.parts.iter().zip(&real.parts) {
        let pairs = [(promised.recall, real.recall), (promised.fall_out, real.fall_out)];
        for (promised, real) in pairs.map(|(a, b)| (a.unwrap(), b.unwrap())) {
            println!("promised {:.3}, real {:.3}", promised.value, real.value);
            assert!((promised.value - real.value).abs() < 0.05 && promised.interval.is_none());
        }
        assert_eq!((promised.rows, promised.favoured), (real.rows, real.favoured));
    }
}

#[test]
fn groups_that_are_treated_alike_raise_few_alarms() {
    let reference = setup(0.0, None);
    let (mut tests, mut low, mut findings) = (0, 0, 0);
    for seed in 0..300 {
        let live = rows(1_000 + seed, 900, 0.0, reference.groups());
        let of_window =
            [observed(&reference, &live).tests(&reference), labelled(&reference, &live).tests(&reference)]
                .concat();
        for test in of_window.iter().filter(|test| test.part.is_some()) {
            tests += 1;
            low += u32::from(test.p < 0.01);
        }
        findings += decide(&of_window, 1e-4, 1e-3).iter().filter(|found| found.test.part.is_some()).count();
    }
    println!("{tests} tests of groups, {low} with p < 0.01, {findings} findings of 300 windows at 1e-3");
    assert!(tests > 2_000 && low < tests / 50 && findings <= 3);
}
