//! What needs no stream: budgets and scores.

use super::*;
use crate::backtest::score::{Answers, Course, Score};
use shoal_proto::manifest::Manifest;

/// Laws, over seeds and rules: never more than the budget in a part; and of a part of four rows a label or more,
/// most of it, and not all of it at once.
#[test]
fn a_budget_lasts_and_is_never_exceeded() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let each = rng.random_range(1..60);
        for rule in [Choosing::Active, Choosing::Random, Choosing::First] {
            let mut budget = Budget::new(each, rule, seed);
            for part in 0..6 {
                let rows = rng.random_range(1..3_000_u64);
                let sure = rng.random_bool(0.2);
                let asked: Vec<u64> = (0..rows)
                    .filter(|_| {
                        let doubt = if sure { 0.0 } else { rng.random_range(0.0..0.7) };
                        budget.asks(&part.to_string(), doubt)
                    })
                    .collect();
                let count = asked.len() as u64;
                assert!(count <= each, "seed {seed} {rule:?}: {count} of {each}");
                if rule == Choosing::First {
                    assert_eq!(asked, (0..rows.min(each)).collect::<Vec<_>>());
                } else if each >= 20 && rows >= 4 * each {
                    assert!(count * 5 >= each * 3, "seed {seed} {rule:?}: {count} of {each} in {rows} rows");
                    assert!(asked.last().is_some_and(|last| *last > each), "{rule:?} {asked:?}");
                }
            }
        }
    }
}

/// The active rule asks about more doubtful rows than the lot does.
#[test]
fn the_active_rule_asks_where_answers_are_unsure() {
    let mean = |rule| {
        let (mut total, mut count) = (0.0, 0.0);
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(100 + seed);
            let mut budget = Budget::new(20, rule, seed);
            for _ in 0..1_000 {
                let doubt: f32 = rng.random_range(0.0..1.0);
                if budget.asks("a", doubt) {
                    (total, count) = (total + f64::from(doubt), count + 1.0);
                }
            }
        }
        total / count
    };
    let (active, random) = (mean(Choosing::Active), mean(Choosing::Random));
    assert!(active > 0.75 && (0.4..0.6).contains(&random), "{active} {random}");
}

fn manifest() -> Manifest {
    Manifest::parse(include_str!("../../../../proto/testdata/v1/model.toml")).unwrap()
}

#[test]
fn scores_count_what_was_right() {
    let mut score = Score::new(&manifest());
    assert_eq!(score.figures(), Figures::default());
    for (answer, truth) in [(0, 0), (0, 0), (0, 0), (1, 0), (0, 1), (1, 1)] {
        score.add(Some(Truth::Class(answer)), Truth::Class(truth));
    }
    score.add(None, Truth::Class(0));
    let figures = score.figures();
    assert_eq!((figures.rows, figures.accuracy), (7, Some(4.0 / 7.0)));
    assert!((figures.balanced_accuracy.unwrap() - (3.0 / 5.0 + 1.0 / 2.0) / 2.0).abs() < 1e-12);
    let mut errors = Score::Values(0, 0.0, 0.0);
    for (answer, truth) in [(1.0, 4.0), (2.0, -2.0), (f64::NAN, 1.0)] {
        errors.add(Some(Truth::Value(answer)), Truth::Value(truth));
    }
    let figures = errors.figures();
    assert_eq!((figures.rows, figures.mae, figures.rmse), (2, Some(3.5), Some(12.5_f64.sqrt())));
}

/// Law: a course of any length is bounded and loses no row.
#[test]
fn a_course_is_bounded_and_whole() {
    for rows in [1, 9, 10, 5_120, 5_121, 50_000] {
        let mut course = Course::default();
        for row in 1..=rows {
            let right = Some(Truth::Class(0));
            let answers = Answers { looped: right, fixed: None, repeated: right.filter(|_| row > 1) };
            course.add(row, &answers, Some(Truth::Class(0)));
        }
        let sum = |of: &dyn Fn(&Step) -> f64| course.steps.iter().map(of).sum::<f64>();
        assert!(course.steps.len() <= 512 && course.step_rows * course.steps.len() as u64 >= rows);
        assert_eq!(course.steps.iter().map(|step| step.rows).sum::<u64>(), rows);
        assert_eq!((sum(&|step| step.looped), sum(&|step| step.fixed)), (0.0, rows as f64));
        assert_eq!(course.steps.iter().map(|step| step.no_change_rows).sum::<u64>(), rows - 1);
    }
}
