//! Commands of the hub's: one effect each, in whatever order and however often they are read.

use super::super::{Agent, Effect, Event, RemoteTask};
use super::Turn;
use super::training_tests::{Disk, gas, jobs, version};
use shoal_proto::command::{Ask, Command, Report, State};
use shoal_proto::fact::{Condemnation, Fact};
use shoal_proto::id::{Incarnation, ModelName, Replica, Side};
use shoal_proto::op::Op;
use shoal_proto::time::{Hlc, Mono, Now, WallMs};

const NOW: Now = Now { mono: Mono(std::time::Duration::from_secs(5)), wall: WallMs(7) };

struct Board {
    agent: Agent,
    disk: Disk,
    seq: u64,
}

impl Board {
    fn new() -> Self {
        let mut disk = Disk::default();
        let (agent, _) = disk.boot(&version(3));
        Self { agent, disk, seq: 0 }
    }

    /// The hub's word arrives, and once more.
    fn command(&mut self, place: u8, id: u64, what: Ask, withdrawn: Option<&str>) -> Vec<Effect> {
        let withdrawn = withdrawn.map(str::to_owned);
        let command = Command { id, what, given: WallMs(1), withdrawn, expires_s: None };
        self.seq += 1;
        let (kind, key, value) = Fact::Command(self.seq, place, command).into_parts();
        let op = Op { seq: self.seq, hlc: Hlc(self.seq), kind, key, value };
        let hub = Replica { side: Side::Hub, incarnation: Incarnation(9) };
        self.agent.document.apply(hub, &op);
        let mut effects = self.read();
        assert_eq!(self.read(), [], "a second reading does nothing");
        effects.retain(|effect| !matches!(effect, Effect::Publish { .. }));
        effects
    }

    fn read(&mut self) -> Vec<Effect> {
        let (mut turn, mut effects) = (Turn::default(), Vec::new());
        self.agent.on_remote_commands(NOW, &mut turn);
        turn.finish(&mut effects);
        self.disk.take(effects)
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(NOW, event, &mut effects);
        self.disk.take(effects)
    }

    fn end(&mut self, run: u64) {
        self.handle(Event::TrainingEnded { run, outcome: Err("too few rows".into()) });
    }

    fn report(&self, place: u8) -> Report {
        self.agent.facts().reports()[&place].clone()
    }

    fn told(&self, place: u8) -> (u64, State, String) {
        let Report { id, state, text, .. } = self.report(place);
        (id, state, text)
    }
}

fn train() -> Ask {
    Ask::Train { model: gas() }
}

#[test]
fn a_training_is_followed_to_its_end() {
    let mut board = Board::new();
    let [job] = &jobs(&board.command(0, 10, train(), None))[..] else { panic!("one run") };
    assert_eq!(board.told(0), (10, State::Accepted, "run 0 started".into()));
    board.end(job.run);
    let (id, state, text) = board.told(0);
    assert_eq!((id, state), (10, State::Failed));
    assert_eq!(text, "run 0 brought no version: training failed: too few rows");
    let effects = board.command(0, 11, train(), None);
    assert_eq!(jobs(&effects).len(), 1, "a later command in the same place is another");
    let other = Ask::Train { model: ModelName::new("other").unwrap() };
    board.command(1, 12, other, None);
    assert_eq!(board.told(1), (12, State::Failed, "no model `other` is served here".into()));
}

#[test]
fn a_run_that_was_under_way_answers_no_later_command() {
    let mut board = Board::new();
    board.command(0, 10, train(), None);
    let effects = board.command(1, 11, train(), None);
    assert!(jobs(&effects).is_empty());
    assert_eq!(board.told(1).2, "run 0 is under way, another follows it");
    board.end(0);
    assert_eq!((board.told(0).1, board.told(1).1), (State::Failed, State::Accepted));
    board.handle(Event::Tick);
    assert_eq!(board.told(1), (11, State::Accepted, "run 1 is under way".into()));
    board.end(1);
    assert_eq!(board.told(1).1, State::Failed);
}

#[test]
fn what_was_withdrawn_in_time_is_not_begun() {
    let mut board = Board::new();
    let effects = board.command(0, 10, train(), Some("expired after 60 s"));
    assert!(jobs(&effects).is_empty());
    assert_eq!(board.told(0), (10, State::Withdrawn, "expired after 60 s".into()));
    board.command(1, 11, train(), None);
    board.command(1, 11, train(), Some("expired after 60 s"));
    assert_eq!(board.told(1).1, State::Accepted, "what has begun goes on");
}

#[test]
fn a_run_that_an_operator_stops_is_told() {
    let mut board = Board::new();
    board.command(0, 10, train(), None);
    board.command(1, 11, train(), None);
    let command = super::super::Command::CancelTraining { model: gas() };
    board.handle(Event::Command { number: 1, command });
    board.end(0);
    let cancelled = "run 0 brought no version: cancelled by command";
    assert_eq!(board.told(0), (10, State::Failed, cancelled.into()));
    assert_eq!(board.told(1).1, State::Failed, "nor does the one after it start");
}

#[test]
fn a_condemnation_is_lifted_by_a_word_and_only_this_devices_own() {
    let mut board = Board::new();
    let (own, hubs) = (version(4).version, version(5).version);
    let lift = |version| Event::Command { number: 1, command: super::super::Command::Lift { version } };
    let reply = |effects: Vec<Effect>| {
        let found = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { outcome, .. } => Some(outcome),
            _ => None,
        });
        found.unwrap()
    };
    assert!(reply(board.handle(lift(own))).unwrap_err().contains("not condemned"));
    let word = |holds| Condemnation { holds, reason: "wrong too often".into() };
    let mut turn = Turn::default();
    board.agent.fact(NOW, Fact::Condemned(own, word(true)), &mut turn);
    let (kind, key, value) = Fact::GloballyCondemned(3, hubs, word(true)).into_parts();
    let op = Op { seq: 1, hlc: Hlc(1), kind, key, value };
    board.agent.document.apply(Replica { side: Side::Hub, incarnation: Incarnation(9) }, &op);
    assert!(reply(board.handle(lift(own))).is_ok());
    assert!(reply(board.handle(lift(hubs))).unwrap_err().contains("by the hub"));
    let condemned = board.agent.facts().condemned();
    assert_eq!(condemned.keys().collect::<Vec<_>>(), [&hubs]);
}

#[test]
fn tasks_are_done_by_the_shell_and_again_after_a_restart() {
    let mut board = Board::new();
    let effects = board.command(2, 10, Ask::Log { lines: 5 }, None);
    let task = Effect::Remote { place: 2, id: 10, task: RemoteTask::Log { lines: 5 } };
    assert_eq!(effects, std::slice::from_ref(&task));
    let mut turn = Turn::default();
    board.agent.resume_commands(&mut turn);
    assert_eq!(turn.effects, [task]);
    board.handle(Event::Remote { place: 2, id: 9, outcome: Ok("of another".into()) });
    assert_eq!(board.told(2).1, State::Accepted);
    board.handle(Event::Remote { place: 2, id: 10, outcome: Ok("a\nb".into()) });
    assert_eq!(board.told(2), (10, State::Done, "a\nb".into()));
    board.handle(Event::Remote { place: 2, id: 10, outcome: Err("late".into()) });
    assert_eq!(board.told(2).1, State::Done);
    let labels = Ask::Labels { model: gas(), rows: 3 };
    let effects = board.command(3, 11, labels, None);
    assert!(matches!(&effects[..], [Effect::Remote { place: 3, .. }]));
    board.command(shoal_proto::command::PLACES, 12, train(), None);
    assert!(!board.agent.facts().reports().contains_key(&shoal_proto::command::PLACES), "no such place");
}
