use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_adapt::Asker;
use shoal_proto::time::WallMs;

fn settings(queue: usize) -> Settings {
    Settings { queue, max_age: Duration::from_secs(100), per_day: 0 }
}

fn row(id: u32, at_s: u64, features: &[f32], class: u32, doubt: f32, outlying: bool) -> Question {
    Question {
        prediction_id: format!("q{id}"),
        at: Now { mono: Mono(Duration::from_secs(at_s)), wall: WallMs(at_s * 1_000) },
        features: features.into(),
        class: Some(class),
        confidence: 1.0 - doubt,
        doubt,
        outlying,
    }
}

/// Rows far from each other, of a class that was labelled.
fn apart(id: u32, doubt: f32) -> Question {
    row(id, 0, &[id as f32, -(id as f32)], 0, doubt, false)
}

/// A queue that knows spreads of one and labels of class 0.
fn queue(places: usize) -> Queue {
    let mut queue = Queue::new(&settings(places));
    for sign in [1.0, -1.0].repeat(500) {
        queue.see(&[sign, sign]);
    }
    let far: Arc<[f32]> = [1e6, 1e6].into();
    queue.answered("x", (&far, Some(0)), Some(0), Mono::default());
    queue
}

fn ids(queue: &mut Queue, count: usize) -> Vec<String> {
    queue.next(count, Mono::default()).iter().map(|one| one.prediction_id.clone()).collect()
}

#[test]
fn the_least_doubtful_falls_out_and_the_most_doubtful_comes_first() {
    let mut queue = queue(3);
    for (id, doubt, waits) in
        [(1, 0.2, true), (2, 0.9, true), (3, 0.5, true), (4, 0.1, false), (5, 0.4, true)]
    {
        assert_eq!(queue.offer(apart(id, doubt), Mono::default()), waits, "q{id}");
    }
    assert_eq!(ids(&mut queue, 9), ["q2", "q3", "q5"]);
    assert_eq!(ids(&mut queue, 2), ["q2", "q3"], "asking removes nothing");
    assert!(queue.offer(apart(6, f32::NAN), Mono::default()), "what is no number is doubtful");
    assert_eq!(ids(&mut queue, 1), ["q6"]);
    queue.rescore(|one| if one.prediction_id == "q3" { 2.0 } else { 0.0 });
    assert_eq!(ids(&mut queue, 1), ["q3"]);
}

#[test]
fn rows_near_each_other_ask_once_and_the_more_doubtful_stands_for_them() {
    let mut queue = queue(8);
    let at = |id, x: f32, class, doubt| row(id, 0, &[x, 0.0], class, doubt, false);
    for (one, waits) in [
        (at(1, 1.0, 0, 0.5), true),
        (at(2, 1.1, 0, 0.4), false),
        (at(3, 1.1, 0, 0.6), true),
        (at(4, 1.1, 1, 0.1), true), // on the other side of a border
        (at(5, 2.0, 0, 0.1), true),
        (at(6, f32::NAN, 0, 0.1), true),
        (at(7, f32::NAN, 0, 0.1), false),
    ] {
        assert_eq!(queue.offer(one.clone(), Mono::default()), waits, "{one:?}");
    }
    assert_eq!(queue.len(), 4);
    // One that a person was told of is not changed for a better one.
    queue.tell("q5");
    assert!(!queue.offer(at(8, 2.1, 0, 0.9), Mono::default()));
    assert!(ids(&mut queue, 9).contains(&"q5".to_owned()));
}

#[test]
fn what_was_answered_skipped_or_is_old_waits_no_longer() {
    let mut queue = queue(8);
    for id in 1..=3 {
        assert!(queue.offer(apart(id, 0.5), Mono::default()));
    }
    let same: Arc<[f32]> = [1.05, -1.0].into();
    queue.answered("elsewhere", (&same, Some(0)), Some(0), Mono::default());
    assert_eq!(queue.len(), 2, "a label speaks for rows near it");
    assert!(!queue.offer(apart(1, 0.9), Mono::default()), "for as long as rows wait");
    assert!(queue.skip("q2", Mono::default()) && !queue.skip("q2", Mono::default()));
    assert!(!queue.offer(apart(2, 0.9), Mono::default()));
    assert_eq!(ids(&mut queue, 9), ["q3"]);
    let later = Mono(Duration::from_secs(101));
    assert!(queue.next(9, later).is_empty());
    let again = Question { at: Now { mono: later, wall: WallMs(0) }, ..apart(2, 0.5) };
    assert!(queue.offer(again, later), "the truth may have changed");
}

#[test]
fn half_of_the_places_are_for_what_doubt_does_not_see() {
    let mut queue = queue(4);
    let odd = |id, doubt| Question { outlying: true, ..apart(id, doubt) };
    for id in 1..=4 {
        assert!(queue.offer(apart(id, 0.9), Mono::default()));
    }
    assert!(queue.offer(odd(5, 0.1), Mono::default()), "a sure answer to an outlying row");
    let new = Question { class: Some(1), ..apart(6, 0.2) };
    assert!(queue.offer(new, Mono::default()), "and one of a class that has no label");
    assert!(!queue.offer(odd(7, 0.05), Mono::default()));
    assert!(queue.offer(odd(8, 0.3), Mono::default()), "in the place of q5");
    let whys: Vec<_> = queue.next(4, Mono::default()).into_iter().cloned().collect();
    let whys: Vec<_> = whys.iter().map(|one| (one.prediction_id.as_str(), queue.why(one))).collect();
    assert_eq!(whys[..2], [("q8", Why::Outlying), whys[1]]);
    assert!(whys[1].1 == Why::Uncertain && whys[2] == ("q6", Why::New) && whys[3].1 == Why::Uncertain);
    let far: Arc<[f32]> = [50.0, 50.0].into();
    queue.answered("q99", (&far, Some(1)), Some(1), Mono::default());
    let all: Vec<_> = queue.next(4, Mono::default()).into_iter().cloned().collect();
    assert!(all.iter().all(|one| queue.why(one) != Why::New), "its class has a label now");
    let mut full = Queue::new(&settings(4));
    assert!((1..=8).all(|id| full.offer(odd(id, id as f32), Mono::default())));
    assert_eq!(ids(&mut full, 9), ["q8", "q7", "q6", "q5"], "where all are outlying they have all places");
}

#[test]
fn nobody_is_asked_where_the_queue_has_no_places() {
    let mut queue = queue(0);
    assert!(!queue.offer(apart(1, 0.9), Mono::default()) && queue.is_empty());
}

#[test]
fn rows_of_no_features_are_never_near() {
    let mut queue = Queue::new(&settings(4));
    queue.see(&[]);
    for id in 1..=2 {
        assert!(queue.offer(row(id, 0, &[], 0, 0.5, false), Mono::default()));
    }
}

#[test]
fn a_queue_is_bounded_and_keeps_what_it_says_whatever_comes() {
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..50 {
        let (mut queue, mut now) = (Queue::new(&settings(6)), Mono::default());
        for number in 0..200 {
            now = now.after(Duration::from_secs(random.random_range(0..10)));
            let features = [random.random_range(-2.0..2.0), random.random_range(-2.0..2.0)];
            let (class, odd) = (random.random_range(0..3), random.random_bool(0.3));
            let mut question = row(number, 0, &features, class, random.random(), odd);
            question.at.mono = now;
            queue.see(&features);
            match random.random_range(0..5) {
                0 => {
                    let row = (&question.features, Some(class));
                    queue.answered(&question.prediction_id, row, Some(class), now);
                }
                1 => drop(queue.skip(&format!("q{}", number / 2), now)),
                2 => queue.tell(&format!("q{}", number - number.min(3))),
                _ => {
                    let waits = queue.offer(question.clone(), now);
                    assert_eq!(waits, queue.next(6, now).into_iter().any(|one| *one == question));
                }
            }
            let all: Vec<Question> = queue.next(usize::MAX, now).into_iter().cloned().collect();
            assert!(all.len() <= 6 && all.len() == queue.len() && queue.answered.len() <= 6);
            assert!(all.iter().all(|one| now.since(one.at.mono) <= Duration::from_secs(100)));
            let names: BTreeSet<_> = all.iter().map(|one| &one.prediction_id).collect();
            assert_eq!(names.len(), all.len());
        }
    }
}

#[test]
fn a_days_budget_is_spread_over_it_kept_by_restarts_and_new_on_the_next() {
    let per_day = 20;
    let (mut day, mut asker, mut asked) = (Day::default(), Asker::default(), Vec::new());
    let (mut ran, mut doubt) = (Duration::ZERO, 0.5_f32);
    while ran < 3 * DAY {
        if day.until_offer(per_day).is_zero() {
            doubt = (doubt * 7.31 + 0.137).fract();
            let is_asked = asker.offer(doubt, day.left(per_day), per_day);
            day.offered(is_asked);
            asked.extend(is_asked.then_some(ran));
        }
        let text = serde_json::to_string(&day).unwrap();
        day = serde_json::from_str(&text).unwrap();
        day.run(Duration::from_secs(60));
        ran += Duration::from_secs(60);
    }
    for number in 0..3 {
        let of: Vec<_> =
            asked.iter().filter(|at| **at >= number * DAY && **at < (number + 1) * DAY).collect();
        println!("day {number}: {} asked", of.len());
        assert!((10..=20).contains(&of.len()), "day {number}: {}", of.len());
        assert!(**of.last().unwrap() > number * DAY + DAY / 4, "not all at once");
    }
    assert_eq!(Day { spent: 20, ..Day::default() }.left(per_day), 0);
    assert!(Day::default().until_offer(0).is_zero());
}
