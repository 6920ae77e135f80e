use super::*;
use shoal_proto::summary::{ClassLabel, pair};

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-6)
}

#[test]
fn an_interval_is_that_of_the_tables() {
    for (hits, rows, low, high) in [
        (0, 10, 0.0, 0.277_533),
        (10, 10, 0.722_467, 1.0),
        (5, 10, 0.236_593, 0.763_407),
        (90, 100, 0.825_634, 0.944_770),
    ] {
        let found = Proportion::of(hits, rows).unwrap();
        assert!((found.low - low).abs() < 1e-5 && (found.high - high).abs() < 1e-5, "{found:?}");
    }
    assert_eq!(Proportion::of(3, 0), None);
    assert_eq!(Proportion::of(u64::MAX, 5).unwrap().share, 1.0, "a forged count");
}

#[test]
fn a_classifiers_figures_are_those_by_hand() {
    let mut sums = LabelSums::default();
    // Truth, answer, score of class 1.
    let rows = [(1, 1, 0.75_f32), (1, 0, 0.25), (0, 0, 0.125), (0, 1, 0.75), (1, 1, 0.875)];
    for (truth, answered, score) in rows {
        let scores = [1.0 - score, score];
        let confidence = Some(scores[usize::from(answered)]);
        sums.observe_class(&ClassLabel { truth, answered, confidence, scores: &scores, groups: &[] });
    }
    let figures = Figures::of(&sums);
    // Class 0: 1 right, 2 true, 2 answered; class 1: 2 right, 3 true, 3 answered.
    assert!(near(figures.macro_f1, f64::midpoint(2.0 / 4.0, 4.0 / 6.0)), "{figures:?}");
    // Six pairs of a row of class 1 and one of class 0: four won, one tie, one lost.
    assert!(near(figures.auc, 4.5 / 6.0), "{figures:?}");
    let log_loss = -(0.75_f64.ln() + 0.25_f64.ln() + 0.875_f64.ln() + 0.25_f64.ln() + 0.875_f64.ln()) / 5.0;
    assert!((figures.log_loss.unwrap() - log_loss).abs() < 1e-5, "{figures:?} {log_loss}");
    let brier = 2.0 * (0.0625 + 0.5625 + 0.015_625 + 0.5625 + 0.015_625) / 5.0;
    assert!(near(figures.brier, brier), "{figures:?} {brier}");
    // Confidences 0.75 (right), 0.75 (wrong), 0.75 (wrong); 0.875 (right) twice.
    assert!(near(figures.calibration_error, (1.25 + 0.25) / 5.0), "{figures:?}");
    assert_eq!((figures.mae, figures.rmse, figures.r2), (None, None, None));
    assert_eq!(figures.known().count(), 5);
}

#[test]
fn a_regressions_figures_are_those_by_hand() {
    let mut sums = LabelSums::default();
    for (answer, truth) in [(1.0, 0.0), (2.0, 2.0), (2.0, 4.0)] {
        sums.observe_value(answer, truth);
    }
    let figures = Figures::of(&sums);
    assert!(near(figures.mae, 1.0) && near(figures.rmse, (5.0_f64 / 3.0).sqrt()), "{figures:?}");
    assert!(near(figures.r2, 1.0 - (5.0 / 3.0) / (8.0 / 3.0)), "{figures:?}");
    let mut constant = LabelSums::default();
    constant.observe_value(3.0, 3.0);
    assert_eq!(Figures::of(&constant).r2, None, "labels that do not vary");
}

#[test]
fn nothing_gives_no_figure_and_forged_sums_no_panic() {
    assert_eq!(Figures::of(&LabelSums::default()), Figures::default());
    let mut forged = LabelSums {
        confusion: vec![(u32::MAX, u64::MAX), (0, u64::MAX), (1, u64::MAX)].into(),
        scores: vec![(u32::MAX, u64::MAX), (u32::MAX - SCORE_BINS, u64::MAX), (0, u64::MAX)].into(),
        ..LabelSums::default()
    };
    forged.reliability.add_all(u32::MAX, [u64::MAX; 3]);
    let figures = Figures::of(&forged);
    assert!(figures.known().all(|(_, figure)| figure.is_finite()), "{figures:?}");
}

#[test]
fn a_group_is_held_against_the_most_favoured_of_its_name() {
    let mut rows = Cells::default();
    for (name, value, count, favourable) in
        [(0, 0, 200, 100), (0, 1, 100, 35), (0, 2, 99, 99), (1, 0, 500, 0)]
    {
        rows.add_all(pair(name, value), [count, favourable]);
    }
    let views = groups(&rows, &BTreeMap::new());
    let said: Vec<(u16, u16, Option<f64>)> = views.iter().map(|it| (it.name, it.value, it.parity)).collect();
    assert_eq!(said, [(0, 0, Some(1.0)), (0, 1, Some(0.7)), (0, 2, None), (1, 0, None)]);
}
