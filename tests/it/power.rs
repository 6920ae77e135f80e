//! Power cuts and kills: a few of each.

use super::e2e::program;
use shoal_tests::power::kill;
use std::process::Command;

/// Power cuts of one test run, with a disk that is honest and with one that lies.
const HISTORIES: [(&str, Option<&str>); 2] = [("150", None), ("60", Some("--lying-fsync"))];
/// Kills of one test run.
const KILLS: u32 = 6;

#[test]
fn a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    for (histories, disk) in HISTORIES {
        // A program of its own: it stands in front of the C library's calls.
        let done = Command::new(env!("CARGO_BIN_EXE_power"))
            .args(["--histories", histories])
            .args(disk)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        // The cuts must have hurt, or they show nothing: what a disk did not sync is lost, and it is seen.
        let count = |what: &str| -> u64 {
            let line = said.lines().find(|line| line.contains(what)).unwrap();
            line.split_whitespace().next_back().unwrap().parse().unwrap()
        };
        assert!(count("power cuts") > 100 && count("torn") > 50 && count("dropped") > 100, "{said}");
        assert_eq!(count("commits gone") > 0, disk.is_some(), "{said}");
    }
}

#[test]
fn a_kill_under_load_loses_no_acknowledged_label() {
    let seen = kill::run(&program(), KILLS, 0).unwrap();
    assert_eq!((seen.kills, seen.lost, seen.damaged), (KILLS, 0, 0), "{seen:?}");
    assert!(seen.labels > 20, "too little load to show anything: {seen:?}");
}
