//! Histories of whole fleets.

use shoal_tests::sim::{Sabotage, World};

/// Histories of one test run; `.ci/full` plays ten thousand (`SHOAL_HISTORIES`).
const HISTORIES: u64 = 60;

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SHOAL_SEED") {
        return vec![seed];
    }
    let kept =
        include_str!("seeds.txt").lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    kept.chain(0..number("SHOAL_HISTORIES").unwrap_or(HISTORIES)).collect()
}

#[test]
fn fleets_hold_under_loss_crashes_and_bad_versions() {
    let (mut crashes, mut meddled, mut runs, mut tried) = (0, 0, 0, 0);
    for seed in seeds() {
        match World::new(seed, Sabotage::Nothing).play() {
            Ok(outcome) => {
                crashes += outcome.crashes;
                meddled += outcome.meddled;
                runs += outcome.runs;
                tried += outcome.bad_served_on;
            }
            Err(broken) => panic!("{broken}"),
        }
    }
    // The histories must have been hostile, or they show nothing.
    if seeds().len() > 10 {
        assert!(
            crashes > 50 && meddled > 500 && runs > 20 && tried > 5,
            "{crashes} {meddled} {runs} {tried}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let play = || World::new(3, Sabotage::Nothing).play();
    assert_eq!(play(), play());
}

#[test]
fn planted_faults_are_seen() {
    for sabotage in [Sabotage::DiskLies, Sabotage::PublishFirst, Sabotage::NoCanary, Sabotage::AdmitAll] {
        let caught = (0..20).any(|seed| {
            let history = std::panic::catch_unwind(|| World::new(seed, sabotage).play());
            !matches!(history, Ok(Ok(_)))
        });
        assert!(caught, "{sabotage:?} went unseen in twenty histories");
    }
}
