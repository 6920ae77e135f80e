//! A trial through crashes, power cuts and clocks that jump: only what the version did is held against it.

use super::super::event::VersionInfo;
use super::super::{Agent, Boot, Effect, Event, Policy};
use super::Turn;
use super::training_tests::{Disk, gas, version};
use shoal_proto::decision::{SlotState, Source};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Incarnation};
use shoal_proto::time::{Mono, Now, WallMs};
use std::time::Duration;

struct Board {
    agent: Agent,
    disk: Disk,
    versions: [VersionInfo; 2],
    wall: WallMs,
}

impl Board {
    /// A device with a candidate on trial for a hundred seconds.
    fn new() -> Self {
        let versions = [version(3), version(4)];
        let mut disk = Disk::default();
        let wall = WallMs(1_000);
        let agent = boot(&mut disk, &versions, wall);
        let mut board = Self { agent, disk, versions, wall };
        board.serve(0, 0);
        let policy = TrialPolicy { min_requests: 10, max_s: 100, ..TrialPolicy::default() };
        let (mut turn, mut effects) = (Turn::default(), Vec::new());
        let (now, info) = (board.at(0), board.versions[1].clone());
        board.agent.take_version(now, info.clone(), &mut turn);
        board.agent.stage(now, &gas(), info.version, Source::Local, policy, false, &mut turn);
        turn.finish(&mut effects);
        board.disk.take(effects);
        board.serve(1, 0);
        board
    }

    fn at(&self, s: u64) -> Now {
        Now { mono: Mono(Duration::from_secs(s)), wall: self.wall }
    }

    fn handle(&mut self, s: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(self.at(s), event, &mut effects);
        self.disk.take(effects)
    }

    fn serve(&mut self, which: usize, s: u64) {
        let version = self.versions[which].version;
        self.handle(s, Event::Admitted { version, outcome: Ok(()) });
        self.handle(s, Event::Serving { model: gas(), version, outcome: Ok(()) });
    }

    /// The process is gone without a word, and starts again by another clock.
    fn crash(&mut self, wall: u64) {
        self.wall = WallMs(wall);
        self.agent = boot(&mut self.disk, &self.versions, self.wall);
        self.serve(1, 0);
    }

    fn stop(&mut self, s: u64) {
        let mut effects = Vec::new();
        self.agent.on_stop(self.at(s), &mut effects);
        self.disk.take(effects);
    }

    fn is_on_trial(&self) -> bool {
        let candidate = self.agent.models[&gas()].slot.candidate.as_ref();
        candidate.is_some_and(|candidate| {
            candidate.version == self.versions[1].version
                && candidate.state == SlotState::OnTrial
                && candidate.trial.failures == 0
        })
    }
}

fn boot(disk: &mut Disk, versions: &[VersionInfo; 2], wall: WallMs) -> Agent {
    let configured = if disk.0.is_empty() { vec![versions[0].clone()] } else { Vec::new() };
    let boot = Boot {
        incarnation: Some(Incarnation(1)),
        memory: disk.0.clone(),
        versions: versions.to_vec(),
        configured,
        ..Boot::default()
    };
    let mut effects = Vec::new();
    let now = Now { mono: Mono(Duration::ZERO), wall };
    let agent = Agent::new(Policy::new(DeviceId::new("press-07").unwrap()), boot, now, &mut effects);
    disk.take(effects);
    agent
}

#[test]
fn crashes_and_power_cuts_are_not_held_against_a_version() {
    let mut board = Board::new();
    for life in 0..50 {
        assert!(board.is_on_trial(), "after {life} crashes");
        board.crash(1_000);
    }
    assert!(board.agent.facts().condemned().is_empty());
    board.handle(101, Event::Tick);
    assert_eq!(board.agent.models[&gas()].slot.champion, board.versions[1].version);
}

#[test]
fn a_trial_lasts_so_long_as_the_version_served_whatever_the_clock_says() {
    let mut board = Board::new();
    board.handle(40, Event::Tick);
    board.stop(60);
    for wall in [0, 4_000_000_000_000, 7] {
        board.crash(wall);
        board.handle(1, Event::Tick);
        assert!(board.is_on_trial(), "the clock says {wall}");
        board.stop(10);
    }
    board.crash(9);
    board.handle(9, Event::Tick);
    assert!(board.is_on_trial(), "99 seconds in five lives");
    board.handle(11, Event::Tick);
    assert_eq!(board.agent.models[&gas()].slot.champion, board.versions[1].version);
}
