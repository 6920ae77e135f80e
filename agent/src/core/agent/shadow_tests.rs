//! A candidate in the shadow: through every end, through a crash, and never heard before it has passed.

use super::super::event::{Command, VersionInfo};
use super::super::{Agent, Boot, Effect, Event, Policy};
use super::Turn;
use super::training_tests::{Disk, gas, version};
use shoal_proto::decision::{Rejection, ShadowSeen, SlotEnd, SlotState, Source};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Incarnation};
use shoal_proto::time::{Mono, Now, WallMs};
use std::time::Duration;

const ENOUGH: ShadowSeen = ShadowSeen {
    rows: 50,
    failures: 0,
    compared: 50,
    agreed: 48,
    served_confidence: 45_000,
    confidence: 45_000,
    labels: 0,
    only_served: 0,
    only_shadow: 0,
    took_us: 500,
};

struct Board {
    agent: Agent,
    disk: Disk,
    versions: [VersionInfo; 2],
}

fn at(s: u64) -> Now {
    Now { mono: Mono(Duration::from_secs(s)), wall: WallMs(1_000) }
}

impl Board {
    /// A device that serves one version, and has another admitted that was born here.
    fn new(source: Source, policy: TrialPolicy) -> (Self, Vec<Effect>) {
        let versions = [version(3), version(4)];
        let mut disk = Disk::default();
        let agent = boot(&mut disk, &versions);
        let mut board = Self { agent, disk, versions };
        board.serve(0, 0);
        let (mut turn, mut effects) = (Turn::default(), Vec::new());
        let info = board.versions[1].clone();
        board.agent.take_version(at(0), info.clone(), &mut turn);
        board.agent.stage(at(0), &gas(), info.version, source, policy, false, &mut turn);
        turn.finish(&mut effects);
        board.disk.take(effects);
        let effects = board.handle(0, Event::Admitted { version: info.version, outcome: Ok(()) });
        (board, effects)
    }

    fn handle(&mut self, s: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(at(s), event, &mut effects);
        self.disk.take(effects)
    }

    fn serve(&mut self, which: usize, s: u64) {
        let version = self.versions[which].version;
        self.handle(s, Event::Admitted { version, outcome: Ok(()) });
        self.handle(s, Event::Serving { model: gas(), version, outcome: Ok(()) });
    }

    fn stands(&mut self, s: u64) {
        let (version, outcome) = (self.versions[1].version, Ok(Some((10.0, 12.0))));
        self.handle(s, Event::Shadowing { model: gas(), version, outcome });
    }

    fn shadowed(&mut self, s: u64, seen: ShadowSeen) -> Vec<Effect> {
        let version = self.versions[1].version;
        self.handle(s, Event::Shadowed { model: gas(), version, seen })
    }

    fn state(&self) -> Option<SlotState> {
        self.agent.models[&gas()].slot.candidate.as_ref().map(|candidate| candidate.state)
    }

    fn rejection(&self) -> Option<Rejection> {
        match self.agent.models[&gas()].slot.last_end.as_ref().map(|end| end.end.clone()) {
            Some(SlotEnd::Rejected(rejection)) => Some(rejection),
            _ => None,
        }
    }
}

fn boot(disk: &mut Disk, versions: &[VersionInfo; 2]) -> Agent {
    let is_new = disk.0.is_empty();
    let boot = Boot {
        incarnation: Some(Incarnation(1)),
        memory: disk.0.clone(),
        versions: if is_new { vec![versions[0].clone()] } else { versions.to_vec() },
        configured: if is_new { vec![versions[0].clone()] } else { Vec::new() },
        ..Boot::default()
    };
    let mut effects = Vec::new();
    let policy = Policy { retrain: false, ..Policy::new(DeviceId::new("press-07").unwrap()) };
    let agent = Agent::new(policy, boot, at(0), &mut effects);
    disk.take(effects);
    agent
}

fn serves(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Serve { .. })).count()
}

fn born() -> Source {
    Source::Born { run: 1 }
}

#[test]
fn it_serves_only_after_enough_rows() {
    let (mut board, effects) = Board::new(born(), TrialPolicy::default());
    assert_eq!(serves(&effects), 0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Shadow { .. })), "{effects:?}");
    assert_eq!(serves(&board.shadowed(1, ENOUGH)), 0, "it does not stand there yet");
    board.stands(1);
    let (mut board, _) = Board::new(born(), TrialPolicy::default());
    board.stands(1);
    let few = ShadowSeen { rows: 49, ..ENOUGH };
    assert_eq!(serves(&board.shadowed(2, few)), 0);
    let waits = board.agent.status(at(2)).models[0].trial_waits_for.clone();
    assert_eq!(waits.as_deref(), Some("49 of 50 rows in the shadow"));
    let one = ShadowSeen { rows: 1, ..ShadowSeen::default() };
    let effects = board.shadowed(3, one);
    assert_eq!((serves(&effects), board.state()), (1, Some(SlotState::OnTrial)));
    let ended = effects.iter().position(|effect| matches!(effect, Effect::EndShadow { .. })).unwrap();
    let served = effects.iter().position(|effect| matches!(effect, Effect::Serve { .. })).unwrap();
    assert!(ended < served, "one copy in memory and not two: {effects:?}");
}

#[test]
fn time_ends_a_shadow_that_sees_nothing() {
    let (mut board, _) = Board::new(born(), TrialPolicy::default());
    board.stands(10);
    assert_eq!(serves(&board.handle(609, Event::Tick)), 0);
    assert!(board.agent.next_deadline() <= at(610).mono);
    assert_eq!(serves(&board.handle(610, Event::Tick)), 1);
}

#[test]
fn what_fails_stalls_or_is_slow_there_never_serves() {
    type Refuse = fn(&mut Board) -> Vec<Effect>;
    let refusals: [(&str, Refuse); 5] = [
        ("3 of 5 rows failed", |board| {
            board.shadowed(2, ShadowSeen { rows: 5, failures: 3, ..ShadowSeen::default() })
        }),
        ("a call of it did not end", |board| {
            let version = board.versions[1].version;
            board.handle(2, Event::ShadowStalled { model: gas(), version })
        }),
        ("a row takes 900 µs", |board| {
            let (version, outcome) = (board.versions[1].version, Ok(Some((10.0, 900.0))));
            board.handle(2, Event::Shadowing { model: gas(), version, outcome })
        }),
        ("not admitted: no memory", |board| {
            let (version, outcome) = (board.versions[1].version, Err("no memory".into()));
            board.handle(2, Event::Shadowing { model: gas(), version, outcome })
        }),
        ("12 labels were for the served answer alone", |board| {
            board.shadowed(2, ShadowSeen { rows: 12, labels: 12, only_served: 12, ..ShadowSeen::default() })
        }),
    ];
    for (word, refuse) in refusals {
        let (mut board, _) = Board::new(born(), TrialPolicy::default());
        board.stands(1);
        let effects = refuse(&mut board);
        assert_eq!((serves(&effects), board.state()), (0, None), "{word}");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::EndShadow { .. })), "{word}");
        let told = board.rejection().unwrap().to_string();
        assert!(told.contains(word), "{told}");
        assert_eq!(serves(&board.shadowed(3, ENOUGH)), 0, "late words are of nobody");
    }
}

#[test]
fn who_was_asked_for_by_a_person_stands_in_no_shadow() {
    let none = TrialPolicy { shadow_requests: 0, ..TrialPolicy::default() };
    for (source, policy) in [(Source::Local, TrialPolicy::default()), (born(), none)] {
        let (board, effects) = Board::new(source.clone(), policy);
        assert_eq!((serves(&effects), board.state()), (1, Some(SlotState::OnTrial)), "{source:?}");
    }
    let hub = Source::Hub { generation: 1, rollout: None };
    let (board, _) = Board::new(hub, TrialPolicy::default());
    assert_eq!(board.state(), Some(SlotState::Shadow));
}

#[test]
fn a_restart_goes_on_with_the_shadow() {
    let (mut board, _) = Board::new(born(), TrialPolicy::default());
    board.stands(0);
    board.shadowed(1, ShadowSeen { rows: 30, ..ENOUGH });
    board.handle(300, Event::Tick); // a heartbeat writes it down
    board.agent = boot(&mut board.disk, &board.versions);
    assert_eq!(board.state(), Some(SlotState::Shadow));
    let candidate = board.versions[1].version;
    // Its admission is heard before the champion serves: it must not slip through.
    let effects = board.handle(0, Event::Admitted { version: candidate, outcome: Ok(()) });
    assert_eq!((serves(&effects), board.state()), (0, Some(SlotState::Shadow)));
    board.serve(0, 1);
    board.stands(1);
    assert_eq!(serves(&board.shadowed(2, ShadowSeen { rows: 20, ..ShadowSeen::default() })), 1);
}

#[test]
fn a_champion_that_cannot_serve_has_no_shadow() {
    let (mut board, _) = Board::new(born(), TrialPolicy::default());
    board.stands(1);
    let version = board.versions[0].version;
    let effects = board.handle(2, Event::Serving { model: gas(), version, outcome: Err("gone".into()) });
    assert_eq!((serves(&effects), board.state()), (1, Some(SlotState::OnTrial)));
}

#[test]
fn going_back_does_not_wait_for_a_shadow() {
    let (mut board, _) = Board::new(born(), TrialPolicy::default());
    let command = |number| Event::Command { number, command: Command::Rollback { model: gas() } };
    let effects = board.handle(1, command(1));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Reply { outcome: Err(_), .. })));
    assert_eq!(board.state(), Some(SlotState::Shadow), "there is nothing to go back to");
    let (model, third) = (board.agent.models.get_mut(&gas()).unwrap(), version(5));
    model.slot.previous = Some(third.version);
    board.agent.versions.insert(third.version, third.clone());
    let effects = board.handle(2, command(2));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Reply { outcome: Ok(_), .. })));
    assert_eq!(board.rejection(), Some(Rejection::Cancelled));
    board.handle(3, Event::Admitted { version: third.version, outcome: Ok(()) });
    assert_eq!(board.agent.models[&gas()].slot.serving(), third.version);
}
