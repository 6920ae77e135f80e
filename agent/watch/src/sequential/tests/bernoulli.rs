use super::*;

fn errors(rng: &mut ChaCha8Rng, rate: f64, rows: u64) -> u64 {
    (0..rows).filter(|_| rng.random_bool(rate)).count() as u64
}

/// Samples until one side says `CALM`.
fn delay(
    state: &mut Bernoulli,
    bets: &BernoulliBets,
    most: u64,
    mut next: impl FnMut(u64) -> bool,
) -> Option<u64> {
    (1..=most).find(|at| {
        state.observe(bets, next(*at));
        state.worse(bets).log_e >= CALM || state.better(bets).log_e >= CALM
    })
}

#[test]
fn changes_of_an_error_rate_are_found_soon() {
    for (from, to, over, bound) in
        [(0.1, 0.3, 1, 90), (0.1, 0.2, 1, 240), (0.3, 0.1, 1, 110), (0.1, 0.3, 1_000, 700)]
    {
        let found = (0..60).map(|seed| {
            let mut rng = rng(seed);
            let bets = BernoulliBets::new(errors(&mut rng, from, 5_000), 5_000, 1, CALM);
            let mut state = Bernoulli::default();
            for _ in 0..2_000 {
                state.observe(&bets, rng.random_bool(from));
            }
            delay(&mut state, &bets, 5_000, |at| {
                rng.random_bool(from + (to - from) * (at as f64 / f64::from(over)).min(1.0))
            })
            .expect("found within 5,000")
        });
        let (median, p95) = quantiles(found.collect());
        println!("{from} -> {to} over {over}: median {median} p95 {p95}");
        assert!(median <= bound);
    }
}

#[test]
fn false_alarms_are_as_rare_as_stated_whatever_the_reference() {
    let references = [(0.1, 200), (0.1, 5_000), (0.3, 445), (0.02, 500), (0.002, 500), (0.00005, 10_000)];
    for (rate, rows) in references.into_iter().chain([(0.1, 20), (0.3, 20), (0.02, 25), (0.5, 30)]) {
        let (streams, samples, mut alarms) = (40, 100_000, [0, 0]);
        for seed in 0..streams {
            let mut rng = rng(100 + seed);
            let bets = BernoulliBets::new(errors(&mut rng, rate, rows), rows, 1, CALM);
            let mut state = Bernoulli::default();
            for _ in 0..samples / 20 {
                (0..20).for_each(|_| state.observe(&bets, rng.random_bool(rate)));
                let said = [state.worse(&bets).highest, state.better(&bets).highest].map(|h| h >= CALM);
                if said != [false, false] {
                    alarms = [alarms[0] + u32::from(said[0]), alarms[1] + u32::from(said[1])];
                    state.reset();
                }
            }
        }
        // Stated: a third of one for each side.
        println!(
            "rate {rate} of {rows}: worse {}, better {} alarms in {streams} streams of {samples}",
            alarms[0], alarms[1]
        );
        assert!(alarms[0] + alarms[1] <= 40, "more than one in 100,000");
    }
}

#[test]
fn a_rate_that_was_never_seen_is_found_at_once_where_it_is_constant() {
    // Missing values: none in 500 rows of training, then the sensor fails.
    let bets = BernoulliBets::new(0, 500, 1, CALM);
    let mut state = Bernoulli::default();
    (0..10_000).for_each(|_| state.observe(&bets, false));
    assert_eq!((state.worse(&bets).log_e, state.better(&bets).log_e < CALM), (0.0, true));
    let found = delay(&mut state, &bets, 100, |_| true);
    println!("a dead sensor: {found:?} samples");
    assert!(found.is_some_and(|samples| (3..=8).contains(&samples)), "three missing values may be chance");
    let found = delay(&mut Bernoulli::default(), &bets, 2_000, |at| at % 20 == 0);
    println!("a twentieth missing: {found:?} samples");
    assert!(found.is_some_and(|samples| samples <= 600));
}

#[test]
fn since_is_when_the_change_was_and_it_ends_when_errors_do() {
    let mut rng = rng(7);
    let bets = BernoulliBets::new(500, 5_000, 1, CALM);
    let mut state = Bernoulli::default();
    (0..5_000).for_each(|_| state.observe(&bets, rng.random_bool(0.1)));
    (0..200).for_each(|_| state.observe(&bets, rng.random_bool(0.5)));
    let sign = state.worse(&bets);
    println!("{sign:?}");
    assert!(sign.log_e > CALM && sign.since.abs_diff(200) < 40 && sign.highest >= sign.log_e);
    (0..100_000).for_each(|_| state.observe(&bets, true));
    state.close(&bets);
    assert!(state.worse(&bets).log_e < 2.5 * CALM, "capped");
    (0..1_000).for_each(|_| state.observe(&bets, rng.random_bool(0.1)));
    assert!(state.worse(&bets).log_e < CALM && state.worse(&bets).highest >= CALM);
    state.close(&bets);
    assert!(state.worse(&bets).highest < CALM);
    state.reset();
    assert_eq!(state, Bernoulli::default());
}

#[test]
fn many_quiet_samples_are_the_same_as_one_by_one_also_from_disk() {
    let mut rng = rng(8);
    let bets = BernoulliBets::new(30, 1_000, 1, CALM);
    let (mut one, mut two) = (Bernoulli::default(), Bernoulli::default());
    for at in 0..20_000 {
        let is_marked = rng.random_bool(0.05);
        one.observe(&bets, is_marked);
        two.observe(&bets, is_marked);
        two = if at % 100 == 0 { read_back(&two) } else { two };
        assert_eq!(one, two);
        if at % 7 == 0 {
            let _ = one.worse(&bets); // asking changes nothing
        }
    }
    let mut asked = Bernoulli::default();
    let mut rng = super::rng(8);
    for _ in 0..20_000 {
        asked.observe(&bets, rng.random_bool(0.05));
        asked.close(&bets); // takes the quiet samples in one by one
    }
    let apart = (asked.worse(&bets).log_e - one.worse(&bets).log_e).abs();
    assert!(apart < 0.01 && asked.worse(&bets).since == one.worse(&bets).since, "{apart}");
}

#[test]
fn every_reference_has_a_meaning() {
    for (marked, rows, is_worse_possible, is_better_possible) in [
        (0, 0, false, false),
        (0, 1, false, false),
        (0, 1_000, true, false),
        (1_000, 1_000, false, true),
        (9, 3, false, false),
        (u64::MAX, u64::MAX, false, true),
    ] {
        for calm in [CALM, f64::NAN, f64::INFINITY, -3.0] {
            for spacing in [0, 1, u32::MAX] {
                let bets = BernoulliBets::new(marked, rows, spacing, calm);
                let (mut up, mut down) = (Bernoulli::default(), Bernoulli::default());
                for _ in 0..3_000 {
                    up.observe(&bets, true);
                    down.observe(&bets, false);
                }
                for sign in [up.worse(&bets), up.better(&bets), down.worse(&bets), down.better(&bets)] {
                    assert!(sign.log_e.is_finite() && sign.log_e >= 0.0 && sign.highest >= sign.log_e);
                }
                if spacing == 1 && calm == CALM {
                    let possible = (up.worse(&bets).log_e >= CALM, down.better(&bets).log_e >= CALM);
                    assert_eq!(possible, (is_worse_possible, is_better_possible), "{marked} of {rows}");
                }
            }
        }
    }
}
