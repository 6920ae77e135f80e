//! Two sides under a hostile world: seeded, on the production code, with disks that hold only what
//! was recorded.
//!
//! `SHOAL_SEED=n` runs one history, `SHOAL_HISTORIES=n` so many.

mod cases;
mod disk;
mod hazard;
mod world;

use world::World;

/// Histories in an ordinary test run.
const HISTORIES: u64 = 400;

#[test]
fn both_sides_converge_and_nothing_written_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SHOAL_SEED") {
        let mut world = World::new(seed);
        let outcome = world.run();
        println!("{}", world.trace());
        assert_eq!(outcome, Ok(()), "seed {seed}");
        return;
    }
    let histories = number("SHOAL_HISTORIES").unwrap_or(HISTORIES);
    let mut failures = Vec::new();
    let (mut frames, mut lives, mut worst) = (0, 0, 0);
    for seed in 0..histories {
        let mut world = World::new(seed);
        if let Err(what) = world.run() {
            failures.push(format!("seed {seed}: {what}"));
        }
        frames += world.frames;
        lives += world.reborn;
        worst = worst.max(world.steps_to_quiet);
    }
    println!("{histories} histories, {frames} frames, {lives} new incarnations, quiet within {worst} steps");
    assert!(
        failures.is_empty(),
        "{} of {histories} histories failed; SHOAL_SEED=n reruns one:\n{}",
        failures.len(),
        failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(lives > histories / 10, "the histories hold too few forks to prove anything: {lives}");
}
