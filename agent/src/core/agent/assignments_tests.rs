//! Wishes of the hub while their packages are on the way.

use super::super::event::VersionInfo;
use super::super::{Agent, Boot, Effect, Event, Policy};
use super::Turn;
use super::training_tests::{Disk, gas, version};
use shoal_proto::decision::{Rejection, SlotState};
use shoal_proto::fact::{Artifact, Assignment, Condemnation, Fact, TrialPolicy};
use shoal_proto::id::{DeviceId, Digest, Incarnation, Replica, Side};
use shoal_proto::op::Op;
use shoal_proto::time::{Hlc, Mono, Now};

/// A device that serves the first version, and whose hub says things.
struct Board {
    agent: Agent,
    disk: Disk,
    versions: [VersionInfo; 3],
    said: u64,
}

impl Board {
    fn new() -> Self {
        let versions = [version(3), version(4), version(5)];
        let mut disk = Disk::default();
        let agent = boot(&mut disk, &versions);
        let mut board = Self { agent, disk, versions, said: 0 };
        let version = board.versions[0].version;
        board.handle(Event::Admitted { version, outcome: Ok(()) });
        board.handle(Event::Serving { model: gas(), version, outcome: Ok(()) });
        board
    }

    fn now() -> Now {
        Now { mono: Mono::from_millis(1_000), ..Now::default() }
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(Self::now(), event, &mut effects);
        fetches(self.disk.take(effects))
    }

    /// The hub's word is in the document; what the agent makes of it.
    fn hear(&mut self, fact: Fact) -> Vec<Effect> {
        self.said += 1;
        let (kind, key, value) = fact.into_parts();
        let op = Op { seq: self.said, hlc: Hlc(self.said), kind, key, value };
        self.agent.document.apply(Replica { side: Side::Hub, incarnation: Incarnation(7) }, &op);
        let (mut turn, mut effects) = (Turn::default(), Vec::new());
        self.agent.on_assignments(Self::now(), &mut turn);
        self.agent.on_condemnations(Self::now(), &mut turn);
        self.agent.stop_fetches(&mut turn);
        turn.finish(&mut effects);
        fetches(self.disk.take(effects))
    }

    fn assign(&mut self, generation: u64, which: usize) -> Vec<Effect> {
        let version = self.versions[which].version;
        let wish = Assignment {
            version,
            rollout: None,
            artifact: (which > 0).then(|| artifact(version)),
            trial: TrialPolicy::default(),
            revert: false,
        };
        self.hear(Fact::Assignment(generation, gas(), wish))
    }

    fn fetch(&self, generation: u64, which: usize) -> Effect {
        let version = self.versions[which].version;
        Effect::Fetch { model: gas(), generation, version, artifact: artifact(version) }
    }

    fn fetched(&mut self, generation: u64, outcome: Result<VersionInfo, Rejection>) -> Vec<Effect> {
        self.handle(Event::Fetched { model: gas(), generation, outcome })
    }

    fn staged(&self) -> Option<Digest> {
        let candidate = self.agent.models[&gas()].slot.candidate.as_ref();
        candidate.filter(|it| it.state == SlotState::Staged).map(|it| it.version)
    }
}

fn boot(disk: &mut Disk, versions: &[VersionInfo; 3]) -> Agent {
    let configured = if disk.0.is_empty() { vec![versions[0].clone()] } else { Vec::new() };
    let boot = Boot {
        incarnation: Some(Incarnation(1)),
        memory: disk.0.clone(),
        versions: vec![versions[0].clone()],
        configured,
        ..Boot::default()
    };
    let mut effects = Vec::new();
    let agent = Agent::new(Policy::new(DeviceId::new("press-07").unwrap()), boot, Board::now(), &mut effects);
    disk.take(effects);
    agent
}

fn artifact(version: Digest) -> Artifact {
    Artifact { archive: version, size_bytes: 9, sources: vec!["/x".into()], chunks: None }
}

fn stop(generation: u64) -> Effect {
    Effect::StopFetch { model: gas(), generation }
}

fn fetches(effects: Vec<Effect>) -> Vec<Effect> {
    let is_of_interest = |effect: &Effect| {
        matches!(
            effect,
            Effect::Fetch { .. } | Effect::StopFetch { .. } | Effect::Remove { .. } | Effect::Admit { .. }
        )
    };
    effects.into_iter().filter(is_of_interest).collect()
}

#[test]
fn a_newer_wish_stops_the_fetch_of_the_older() {
    let mut board = Board::new();
    assert_eq!(board.assign(1, 1), [board.fetch(1, 1)]);
    assert_eq!(board.agent.wanted_archives(), [].into(), "the wish is taken up");
    assert_eq!(board.assign(2, 2), [stop(1), board.fetch(2, 2)]);
    let late = board.versions[1].clone();
    assert_eq!(board.fetched(1, Ok(late.clone())), [Effect::Remove { version: late.version }]);
    assert_eq!(board.assign(3, 0), [stop(2)], "back to what serves");
    assert_eq!(board.assign(3, 0), []);
    assert_eq!(board.fetched(2, Err(Rejection::PackageRefused { reason: "late".into() })), []);
}

#[test]
fn the_same_wish_said_again_goes_on_with_the_fetch_that_is_under_way() {
    let mut board = Board::new();
    let (first, info) = (board.fetch(1, 1), board.versions[1].clone());
    assert_eq!(board.assign(1, 1), [first]);
    assert_eq!(board.assign(2, 1), []);
    assert_eq!(board.fetched(1, Ok(info.clone())), [Effect::Admit { version: info.version }]);
    assert_eq!(board.staged(), Some(info.version));
}

#[test]
fn a_version_that_is_condemned_on_its_way_is_no_longer_fetched() {
    let mut board = Board::new();
    board.assign(1, 1);
    let word = Condemnation { holds: true, reason: "it is bad".into() };
    assert_eq!(board.hear(Fact::GloballyCondemned(2, board.versions[1].version, word)), [stop(1)]);
    assert_eq!(board.staged(), None);
}

#[test]
fn after_a_restart_what_was_being_fetched_is_still_wanted() {
    let mut board = Board::new();
    board.assign(1, 1);
    let document = board.agent.document.clone();
    board.agent = boot(&mut board.disk, &board.versions);
    board.agent.document = document;
    assert_eq!(board.agent.wanted_archives(), [board.versions[1].version].into());
    assert_eq!(board.assign(1, 1), [board.fetch(1, 1)], "and is asked for again");
}
