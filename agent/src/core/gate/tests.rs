//! Every reason to refuse, and what is no reason.

use super::*;
use shoal_proto::decision::{ErrorEvidence, LogLoss};
use shoal_proto::id::Digest;

fn evidence() -> Evidence {
    Evidence {
        trained_rows: 200,
        holdout_rows: 100,
        champion_correct: 60,
        candidate_correct: 90,
        only_champion: 2,
        only_candidate: 32,
        guard_rows: 100,
        guard_champion_correct: 98,
        guard_candidate_correct: 97,
        classes: vec![(50, 30, 45), (50, 30, 45)],
        training_set: Digest([0; 32]),
        measured: None,
    }
}

fn judge(evidence: &Evidence) -> Verdict {
    decide(evidence, &GatePolicy::default(), &["a".into(), "b".into()], 0.25)
}

fn verdict(change: impl FnOnce(&mut Evidence)) -> Verdict {
    let mut evidence = evidence();
    change(&mut evidence);
    judge(&evidence)
}

fn measured(change: impl FnOnce(&mut Measured)) -> Verdict {
    let mut measured = Measured { class_pairs: vec![(1, 16), (1, 16)], ..Measured::default() };
    change(&mut measured);
    verdict(|evidence| evidence.measured = Some(Box::new(measured)))
}

#[test]
fn every_reason_to_refuse() {
    assert_eq!(verdict(|_| ()), Verdict::Accept);
    assert!(matches!(
        verdict(|e| e.holdout_rows = 29),
        Verdict::Reject(Rejection::TooLittleEvidence { holdout: 29, needed: 30, more_labels: Some(4) })
    ));
    assert!(matches!(
        verdict(|e| (e.champion_correct, e.candidate_correct) = (24, 49)),
        Verdict::Reject(Rejection::BelowFloor { .. })
    ));
    assert!(matches!(
        verdict(|e| e.guard_candidate_correct = 90),
        Verdict::Reject(Rejection::GuardRegressed { .. })
    ));
    assert!(matches!(
        verdict(|e| e.classes[1] = (50, 45, 30)),
        Verdict::Reject(Rejection::ClassCollapsed { class, .. }) if class == "b"
    ));
    assert!(matches!(
        verdict(|e| (e.only_candidate, e.only_champion, e.candidate_correct) = (6, 3, 63)),
        Verdict::Reject(Rejection::NotBetter { .. })
    ));
    assert!(matches!(
        verdict(|e| (e.only_candidate, e.only_champion) = (0, 0)),
        Verdict::Reject(Rejection::NotBetter { more_labels: None, .. })
    ));
    assert_eq!(verdict(|e| e.guard_rows = 0), Verdict::Accept);
}

#[test]
fn a_class_is_lost_beyond_chance_and_for_no_great_gain() {
    // (rows, champion), (only champion, only candidate) of class b; class a gains three in ten or one in ten.
    for (a_gains, b, pairs, lost) in [
        (5, (11, 11), (3, 0), false), // 0.27 of its recall, and chance explains it
        (5, (11, 11), (6, 0), true),
        (5, (4, 4), (4, 0), false),
        (5, (9, 9), (9, 0), true),
        (5, (73, 71), (25, 0), true),   // a third of it, for little
        (45, (73, 71), (25, 0), false), // for very much
        (45, (73, 71), (40, 0), true),  // more than half is too much for anything
        (45, (9, 9), (9, 0), true),
    ] {
        let verdict = verdict(|e| {
            e.classes = vec![
                (50, 5, 5 + a_gains),
                (50, 5, 5 + a_gains),
                (50, 5, 5 + a_gains),
                (b.0, b.1, b.1 - pairs.0),
            ];
            let gained = (0, a_gains);
            let class_pairs = vec![gained, gained, gained, pairs];
            e.measured = Some(Box::new(Measured { class_pairs, ..Measured::default() }));
        });
        let is_lost = matches!(verdict, Verdict::Reject(Rejection::ClassCollapsed { .. }));
        assert_eq!(is_lost, lost, "{a_gains} {b:?} {pairs:?} {verdict:?}");
    }
}

#[test]
fn a_group_pays_for_nothing() {
    let part = |rows, champion, only_champion| PartEvidence {
        name: "site = north".into(),
        rows,
        champion,
        only_champion,
        only_candidate: 0,
    };
    assert!(matches!(
        measured(|m| m.parts = vec![part(40, 38, 12)]),
        Verdict::Reject(Rejection::GroupCollapsed { group, .. }) if group == "site = north"
    ));
    assert_eq!(measured(|m| m.parts = vec![part(40, 38, 7), part(8, 8, 3)]), Verdict::Accept);
}

#[test]
fn costs_are_bounded() {
    let loss = |candidate, deviation| Some(LogLoss { champion: 0.5, candidate, deviation });
    assert!(matches!(
        measured(|m| m.log_loss = loss(0.8, 1.0)),
        Verdict::Reject(Rejection::WorseCalibrated { .. })
    ));
    assert_eq!(measured(|m| m.log_loss = loss(0.8, 3.0)), Verdict::Accept, "noise");
    assert_eq!(measured(|m| m.log_loss = loss(0.53, 0.01)), Verdict::Accept, "of no account");
    assert_eq!(measured(|m| m.row_us = Some((10.0, 64.0))), Verdict::Accept);
    assert!(matches!(
        measured(|m| m.row_us = Some((1_000.0, 1_600.0))),
        Verdict::Reject(Rejection::TooSlow { .. })
    ));
    assert_eq!(measured(|m| m.model_bytes = (1_000, 60_000)), Verdict::Accept);
    assert!(matches!(
        measured(|m| m.model_bytes = (1_000_000, 1_600_000)),
        Verdict::Reject(Rejection::TooLarge { .. })
    ));
    assert_eq!(measured(|m| m.distance = Some(3.0)), Verdict::Accept);
    for distance in [11.0, f64::INFINITY, f64::NAN] {
        let verdict = measured(|m| m.distance = Some(distance));
        assert!(matches!(verdict, Verdict::Reject(Rejection::TooFar { .. })), "{distance}");
    }
}

#[test]
fn a_regression_is_judged_by_its_errors() {
    // The champion is so far off that none of the answers is within its usual error: the world moved.
    let with = |champion_rmse, candidate_rmse, z| {
        verdict(|e| {
            (e.champion_correct, e.candidate_correct, e.only_champion, e.only_candidate) = (0, 20, 0, 20);
            e.classes = Vec::new();
            let errors = ErrorEvidence { champion_rmse, candidate_rmse, z };
            e.measured = Some(Box::new(Measured { errors: Some(errors), ..Measured::default() }));
        })
    };
    assert_eq!(with(9.0, 2.0, 6.0), Verdict::Accept);
    assert!(matches!(
        with(2.0, 1.9, 1.0),
        Verdict::Reject(Rejection::NotNearer { more_labels: Some(2_076), .. })
    ));
    assert!(matches!(with(2.0, 2.1, -1.0), Verdict::Reject(Rejection::NotNearer { more_labels: None, .. })));
    assert!(matches!(with(2.0, 2.5, 3.0), Verdict::Reject(Rejection::NotNearer { more_labels: None, .. })));
    assert!(matches!(with(2.0, f64::NAN, 3.0), Verdict::Reject(Rejection::NotNearer { .. })));
}

#[test]
fn a_no_says_how_many_labels_would_decide() {
    let verdict = verdict(|e| {
        (e.only_candidate, e.only_champion, e.candidate_correct) = (19, 11, 68);
        e.classes = Vec::new();
    });
    let Verdict::Reject(no) = verdict else { panic!("p is 0.1") };
    assert!(no.to_string().ends_with(": about 752 more labels would decide"), "{no}");
}
