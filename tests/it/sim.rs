//! Histories of whole fleets.

use shoal_tests::sim::{Counts, MUTANTS, Mutant, Size, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Small histories of one test run, and large ones.
const SMALL: u64 = 40;
const LARGE: u64 = 1;
/// Devices of those.
const DEVICES: usize = 6;
/// Histories within which a planted fault must be seen here; `sim --mutants` allows two hundred.
const CATCH: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Kept seeds first.
fn seeds() -> Vec<u64> {
    if let Some(seed) = number("SHOAL_SEED") {
        return vec![seed];
    }
    let kept =
        include_str!("seeds.txt").lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    kept.chain(0..number("SHOAL_HISTORIES").unwrap_or(SMALL)).collect()
}

fn small(seed: u64, mutant: Mutant) -> World {
    World::new(seed, Size::Small, None, mutant)
}

#[test]
fn fleets_hold_whatever_goes_wrong() {
    let mut counts = Counts::default();
    for seed in seeds() {
        match small(seed, Mutant::Nothing).play() {
            Ok((one, _)) => counts.add(&one),
            Err(broken) => {
                panic!("{broken}\nagain: cargo run -p shoal-tests --bin sim -- --seed {seed} --small --trace")
            }
        }
    }
    // The histories must have been hostile, or they show nothing.
    if seeds().len() > 20 {
        let Counts { crashes, torn, lost, runs, rolled_back, confirmed, tenth, disasters, .. } = counts;
        assert!(
            crashes > 100 && torn > 20 && lost > 1_000 && disasters > 5 && runs > 500,
            "too quiet to show anything: {counts:?}"
        );
        assert!(rolled_back > 20 && confirmed > 100 && tenth > 3, "the loop hardly ran: {counts:?}");
    }
}

#[test]
fn days_of_a_larger_fleet_hold() {
    for seed in 0..LARGE {
        let outcome = World::new(seed, Size::Large, Some(DEVICES), Mutant::Nothing).play();
        let (counts, _) = outcome.unwrap_or_else(|broken| panic!("{broken}"));
        assert!(counts.virtual_ms > 86_400_000, "{counts:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let play = || small(3, Mutant::Nothing).play();
    assert_eq!(play(), play());
}

#[test]
fn planted_faults_are_seen() {
    for (mutant, what) in MUTANTS {
        let seen = (0..CATCH).any(|seed| {
            let history = catch_unwind(AssertUnwindSafe(|| small(seed, mutant).play()));
            !matches!(history, Ok(Ok(_)))
        });
        assert!(seen, "{what} went unseen in {CATCH} histories");
    }
}
