//! The device's state decides when a run goes: each reason, each transition, through crashes.

use super::super::budget::{Budget, Conditions, Hours, Power};
use super::super::effect::Note;
use super::super::event::{Labelled, VersionInfo};
use super::super::policy::{Rebase, Triggers};
use super::super::{Agent, Asked, Command, Effect, Event, Policy, Truth};
use super::run::Phase;
use super::training_tests::{Disk, gas, jobs, verdicts, version};
use shoal_proto::decision::{Rejection, Resource, Trigger, Verdict};
use shoal_proto::id::DeviceId;
use shoal_proto::manifest::Goal;
use shoal_proto::time::{Mono, Now, WallMs};
use std::sync::Arc;
use std::time::Duration;

const NOON: u64 = 1_752_580_800_000; // 2025-07-15 12:00 UTC

/// A device with a clock and a disk.
struct Board {
    agent: Agent,
    disk: Disk,
    info: VersionInfo,
    policy: Policy,
    /// Seconds since the process started.
    s: u64,
    asked: u64,
}

impl Board {
    fn new(policy: Policy, info: VersionInfo) -> Self {
        let mut disk = Disk::default();
        let (agent, effects) = disk.boot_with(policy.clone(), &info, at(0));
        assert!(jobs(&effects).is_empty());
        let mut board = Self { agent, disk, info, policy, s: 0, asked: 0 };
        board.handle(Event::Admitted { version: board.info.version, outcome: Ok(()) });
        board.handle(Event::Serving { model: gas(), version: board.info.version, outcome: Ok(()) });
        board
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(at(self.s), event, &mut effects);
        let written = effects.iter().rposition(|effect| matches!(effect, Effect::Persist(_)));
        let seen = effects.iter().position(|effect| {
            matches!(
                effect,
                Effect::Train(_)
                    | Effect::PauseTraining { .. }
                    | Effect::ResumeTraining { .. }
                    | Effect::StopTraining { .. }
            )
        });
        assert!(seen.is_none() || written < seen, "on disk first: {effects:?}");
        self.disk.take(effects)
    }

    /// Time passes; then the sensors say this.
    fn look(&mut self, after: u64, seen: Conditions) -> Vec<Effect> {
        self.s += after;
        self.handle(Event::Conditions(seen))
    }

    fn order(&mut self, command: Command) -> (String, Vec<Effect>) {
        self.asked += 1;
        let mut effects = self.handle(Event::Command { number: self.asked, command });
        let place = effects.iter().position(|effect| matches!(effect, Effect::Reply { .. })).unwrap();
        let Effect::Reply { outcome, .. } = effects.remove(place) else { unreachable!("found above") };
        (outcome.unwrap_or_else(|refused| format!("no: {refused}")), effects)
    }

    fn train(&mut self) -> (String, Vec<Effect>) {
        self.order(Command::Train { model: gas() })
    }

    /// The process is killed and starts again.
    fn crash(&mut self) -> Vec<Effect> {
        self.s = 0;
        let (agent, mut effects) = self.disk.boot_with(self.policy.clone(), &self.info, at(0));
        self.agent = agent;
        effects.extend(self.handle(Event::Tick));
        effects
    }

    fn label(&mut self, correct: bool) -> Vec<Effect> {
        self.asked += 1;
        self.handle(Event::Labelled(Labelled {
            model: gas(),
            version: self.info.version,
            asked: Asked { life: 1, number: self.asked },
            features: Arc::new([1.0, 0.0]),
            class: Some(0),
            confidence: 0.9,
            values: Arc::new([0.9, 0.1]),
            truth: Truth::Class(u32::from(!correct)),
        }))
    }

    fn waits(&self) -> String {
        self.agent.status(at(self.s)).models[0].training_waits_for.clone().unwrap_or_default()
    }

    fn paused(&self) -> Option<String> {
        self.agent.status(at(self.s)).models[0].training.clone().and_then(|training| training.paused)
    }

    fn end(&mut self, run: u64, reason: &str) -> Vec<Effect> {
        self.handle(Event::TrainingEnded { run, outcome: Err(reason.into()) })
    }
}

fn at(s: u64) -> Now {
    Now { mono: Mono(Duration::from_secs(s)), wall: WallMs(NOON + s * 1_000) }
}

fn policy() -> Policy {
    Policy::new(DeviceId::new("press-07").unwrap())
}

fn held_by(budget: Budget) -> Policy {
    Policy { budget, ..policy() }
}

fn hot(celsius: i32) -> Conditions {
    Conditions { temperature_mc: Some(celsius * 1_000), ..Conditions::default() }
}

fn cool() -> Conditions {
    hot(40)
}

fn warm() -> Board {
    Board::new(held_by(Budget { temperature_mc: Some(75_000), ..Budget::NONE }), version(3))
}

fn senses(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Sense)
}

#[test]
fn every_reason_holds_a_run_says_so_and_lets_it_go() {
    let hours: Hours = "22:00-06:00".parse().unwrap();
    let none = Conditions::default();
    for (budget, bad, good, words) in [
        (
            Budget { temperature_mc: Some(75_000), ..Budget::NONE },
            hot(81),
            cool(),
            "waiting for: temperature 81 °C > 75 °C",
        ),
        (
            Budget { battery: Some(30), ..Budget::NONE },
            Conditions { power: Some(Power::Battery { percent: 12 }), ..none },
            Conditions { power: Some(Power::Mains), ..none },
            "waiting for: battery 12 % < 30 %",
        ),
        (
            Budget { disk_free_bytes: Some(64 << 20), ..Budget::NONE },
            Conditions { disk_free_bytes: Some(3 << 20), ..none },
            Conditions { disk_free_bytes: Some(3 << 30), ..none },
            "waiting for: free disk 3 MiB < 64 MiB",
        ),
        (
            Budget { latency_us: Some(5_000), ..Budget::NONE },
            Conditions { latency_us: Some(9_000), ..none },
            none,
            "waiting for: latency p99 9000 µs > 5000 µs",
        ),
        (
            Budget { hours: vec![hours], ..Budget::NONE },
            none,
            none,
            "waiting for: quiet hours: 12:00 now, from 22:00",
        ),
    ] {
        let is_hours = !budget.hours.is_empty();
        let mut board = Board::new(held_by(budget), version(3));
        let (reply, effects) = board.train();
        assert_eq!(reply, "a run starts if the sensors say nothing against it");
        assert!(senses(&effects) && jobs(&effects).is_empty());
        assert_eq!(board.waits(), "waiting for: a look at the sensors");
        let effects = board.look(1, bad);
        assert!(jobs(&effects).is_empty(), "{words}");
        assert_eq!(board.waits(), words);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Note(Note::RunWaits { .. }))));
        let again = board.look(5, bad);
        assert!(!again.iter().any(|effect| matches!(effect, Effect::Note(_))), "told once: {again:?}");
        assert!(senses(&again), "and looked at again and again");
        // It survives a crash, and starts when it may.
        assert!(senses(&board.crash()));
        board.s = if is_hours { 10 * 3_600 } else { 1 };
        let effects = board.look(0, good);
        assert_eq!(jobs(&effects).len(), 1, "{words}");
        assert_eq!(board.agent.status(at(board.s)).models[0].training_wanted, None);
        let trigger = board.agent.models[&gas()].run.unwrap().trigger;
        assert_eq!(trigger, Trigger::Command);
    }
}

#[test]
fn a_run_rests_while_it_is_held_and_goes_on_as_the_same_job() {
    let mut board = warm();
    board.train();
    let [job] = &jobs(&board.look(1, cool()))[..] else { panic!("one run") };
    let run = job.run;
    assert!(board.look(5, hot(75)).iter().all(|effect| *effect != Effect::PauseTraining { run }));
    assert!(board.look(5, hot(76)).contains(&Effect::PauseTraining { run }));
    assert_eq!(board.paused().unwrap(), "waiting for: temperature 76 °C > 75 °C");
    // Neither a degree less nor a moment later is enough.
    assert!(!board.look(60, hot(72)).contains(&Effect::ResumeTraining { run }));
    assert_eq!(board.paused().unwrap(), "waiting for: temperature 72 °C > 70 °C (was above 75 °C)");
    assert!(board.look(5, hot(70)).contains(&Effect::ResumeTraining { run }));
    assert_eq!(board.paused(), None);
    assert!(board.look(5, hot(90)).contains(&Effect::PauseTraining { run }));
    assert!(!board.look(5, cool()).contains(&Effect::ResumeTraining { run }), "it rests a while at least");
    assert!(board.look(25, cool()).contains(&Effect::ResumeTraining { run }));
    // Sensors that do not answer stop nothing that goes.
    board.s += 600;
    assert!(!board.handle(Event::Tick).contains(&Effect::PauseTraining { run }));
    assert_eq!(board.agent.models[&gas()].run.unwrap().phase, Phase::Going);
}

#[test]
fn after_an_hour_of_rest_a_run_gives_its_memory_back_and_goes_on_later() {
    let mut board = warm();
    board.train();
    let [job] = &jobs(&board.look(1, cool()))[..] else { panic!("one run") };
    board.look(10, hot(80));
    assert!(!board.look(3_595, hot(80)).contains(&Effect::StopTraining { run: job.run }));
    assert!(board.look(5, hot(80)).contains(&Effect::StopTraining { run: job.run }));
    let effects = board.end(job.run, "paused at step 3 of 9");
    assert!(verdicts(&effects).is_empty(), "it is not over");
    assert_eq!(board.paused().unwrap(), "waiting for: temperature 80 °C > 75 °C");
    assert!(jobs(&board.look(5, hot(80))).is_empty());
    // It survives a crash without a child, and goes on as the same job; its time stood still.
    assert!(jobs(&board.crash()).is_empty());
    assert_eq!(jobs(&board.look(5, cool())), std::slice::from_ref(job));
    let run = board.agent.models[&gas()].run.unwrap();
    assert_eq!((run.used, run.resumes), (Duration::from_secs(10), 0));
    // One that is parked can be cancelled without a child.
    board.look(5, hot(80));
    board.look(3_600, hot(80));
    board.end(job.run, "paused at step 5 of 9");
    let (reply, effects) = board.order(Command::CancelTraining { model: gas() });
    assert_eq!(reply, format!("run {} stops", job.run));
    assert_eq!(verdicts(&effects), [Verdict::Reject(Rejection::Cancelled)]);
    assert_eq!(board.agent.status(at(board.s)).models[0].training, None);
}

#[test]
fn a_crash_at_any_phase_goes_on_when_the_sensors_allow_it() {
    for rests in [false, true] {
        let mut board = warm();
        board.train();
        let [job] = &jobs(&board.look(1, cool()))[..] else { panic!("one run") };
        if rests {
            board.look(5, hot(80));
        }
        let effects = board.crash();
        assert!(jobs(&effects).is_empty() && senses(&effects), "the sensors come first");
        assert!(jobs(&board.look(1, hot(80))).is_empty());
        assert_eq!(jobs(&board.look(5, cool())), std::slice::from_ref(job));
        assert_eq!(board.agent.models[&gas()].run.unwrap().resumes, 1);
    }
}

#[test]
fn a_run_over_its_time_stops_and_pauses_do_not_count() {
    let budget = Budget { max_run: Duration::from_secs(100), temperature_mc: Some(75_000), ..Budget::NONE };
    let mut board = Board::new(held_by(budget), version(3));
    board.train();
    let [job] = &jobs(&board.look(1, cool()))[..] else { panic!("one run") };
    let stop = Effect::StopTraining { run: job.run };
    board.look(60, hot(80));
    assert!(!board.look(500, cool()).contains(&stop), "60 of 100 seconds");
    assert!(!board.look(39, cool()).contains(&stop));
    assert_eq!(board.agent.next_deadline(), at(board.s + 1).mono);
    board.s += 1;
    assert!(board.handle(Event::Tick).contains(&stop));
    assert!(!board.handle(Event::Tick).contains(&stop), "once");
    assert_eq!(board.paused().unwrap(), "stopping");
    let effects = board.end(job.run, "paused at step 7 of 9");
    let reason = Rejection::OutOfBudget { what: Resource::WallSeconds, limit: 100, used: 100 };
    assert_eq!(reason.to_string(), "out of budget: the run took 100 seconds of time, 100 are allowed");
    assert_eq!(verdicts(&effects), [Verdict::Reject(reason)]);
    assert_eq!(board.agent.models[&gas()].slot.refused_in_a_row, 1);
}

#[test]
fn what_runs_write_holds_the_next_until_the_day_has_passed_also_through_a_crash() {
    let mib = |mib: u64| Conditions { written_bytes: mib << 20, ..Conditions::default() };
    let budget = Budget { written_a_day: Some(240 << 20), ..Budget::NONE };
    let mut board = Board::new(held_by(budget), version(3));
    board.train();
    let [job] = &jobs(&board.look(1, mib(0)))[..] else { panic!("one run") };
    assert!(!board.look(5, mib(239)).contains(&Effect::PauseTraining { run: job.run }));
    assert!(board.look(5, mib(245)).contains(&Effect::PauseTraining { run: job.run }));
    board.look(300, mib(245));
    assert!(board.paused().unwrap().starts_with("waiting for: bytes written: 24"), "{:?}", board.paused());
    board.crash();
    assert!(jobs(&board.look(5, mib(0))).is_empty(), "the account is on disk");
    assert!(jobs(&board.look(3 * 3_600, mib(0))).len() == 1, "ten MiB an hour wear off");
}

#[test]
fn a_trigger_that_comes_too_early_is_remembered_once_and_the_strongest() {
    let mut board = warm();
    board.train();
    assert_eq!(board.agent.models[&gas()].wanted.unwrap().trigger, Trigger::Command);
    let [job] = &jobs(&board.look(1, cool()))[..] else { panic!("one run") };
    let (reply, effects) = board.train();
    assert_eq!(reply, format!("run {} is under way, another follows it", job.run));
    assert!(jobs(&effects).is_empty());
    board.train();
    assert!(board.order(Command::Train { model: gas() }).1.iter().all(|e| !matches!(e, Effect::Train(_))));
    let second = jobs(&board.end(job.run, "too few labelled rows"));
    assert_eq!(second.len(), 1, "whatever the cool-down says");
    let third = board.end(second[0].run, "too few labelled rows");
    assert!(jobs(&third).is_empty(), "once");
    // One that only waits can be cancelled.
    board.s += 60;
    board.train();
    assert_eq!(board.order(Command::CancelTraining { model: gas() }).0, "the run that waited does not start");
    assert!(jobs(&board.look(1, cool())).is_empty());
    assert_eq!(board.order(Command::CancelTraining { model: gas() }).0, "no: no run of `gas` is under way");
}

#[test]
fn labels_and_time_start_runs_where_they_are_told_to() {
    let triggers =
        Triggers { labels: Some(50), every: Some(Duration::from_secs(7_200)), ..Triggers::default() };
    let mut board = Board::new(Policy { triggers, ..policy() }, version(3));
    for label in 1..50 {
        assert!(jobs(&board.label(true)).is_empty(), "{label}");
    }
    assert_eq!(board.waits(), "49 of 50 labels since the last run");
    let [job] = &jobs(&board.label(true))[..] else { panic!("the fiftieth starts one") };
    assert_eq!(board.agent.models[&gas()].run.unwrap().trigger, Trigger::Labels);
    board.label(true); // for the next
    board.end(job.run, "refused");
    assert_eq!(board.agent.models[&gas()].slot.labels_since_run, 1);
    assert_eq!(
        board.waits(),
        "1 of 100 labels since the last run",
        "a refused run doubles what is waited for"
    );
    // The schedule counts time that the agent runs: what a crash takes is a heartbeat's worth.
    for _ in 0..2 {
        for _ in 0..11 {
            board.s += 301;
            assert!(jobs(&board.handle(Event::Tick)).is_empty(), "{}", board.s);
        }
        board.crash();
        board.handle(Event::Serving { model: gas(), version: board.info.version, outcome: Ok(()) });
    }
    let mut started = Vec::new();
    for _ in 0..3 {
        board.s += 301;
        started.extend(jobs(&board.handle(Event::Tick)));
    }
    assert_eq!(started.len(), 1);
    assert_eq!(board.agent.models[&gas()].run.unwrap().trigger, Trigger::Schedule);
}

#[test]
fn answers_surely_below_the_goal_start_a_run_and_a_few_do_not() {
    let goal = |accuracy| Triggers { goal: Some(accuracy), ..Triggers::default() };
    for (own, packaged, expected) in [
        (Some(0.9), None, Some(Trigger::Performance)),
        (None, Some(0.9), Some(Trigger::Performance)),
        (Some(0.5), Some(0.9), None),
        (Some(0.82), None, None),
        (None, None, None),
    ] {
        let mut info = version(3);
        let mut manifest = (*info.manifest).clone();
        manifest.goal = packaged.map(|accuracy| Goal { accuracy });
        info.manifest = Arc::new(manifest);
        let triggers = own.map_or_else(Triggers::default, goal);
        let mut board = Board::new(Policy { min_labels: 20, triggers, ..policy() }, info);
        // Eight of ten are right: a hundred labels are needed for the gate, so that chance has no say.
        let mut started = Vec::new();
        for label in 0..110 {
            let effects = board.label(label % 5 != 0);
            if !jobs(&effects).is_empty() {
                started.push((label, board.agent.models[&gas()].run.unwrap().trigger));
            }
        }
        let trigger = started.first().map(|(_, trigger)| *trigger);
        assert_eq!(trigger, expected, "{own:?} {packaged:?} {started:?}");
        assert!(started.iter().all(|(label, _)| *label >= 99), "{started:?}");
    }
}

#[test]
fn retraining_that_is_off_leaves_the_command() {
    let triggers = Triggers { labels: Some(1), every: Some(Duration::from_secs(1)), ..Triggers::default() };
    let mut board = Board::new(Policy { retrain: false, triggers, ..policy() }, version(3));
    for _ in 0..10 {
        board.s += 301;
        assert!(jobs(&board.label(false)).is_empty());
    }
    assert_eq!(board.waits(), "retraining is switched off");
    assert_eq!(jobs(&board.train().1).len(), 1);
}

#[test]
fn words_of_the_configuration() {
    assert_eq!("retrain".parse(), Ok(Rebase::Retrain));
    assert_eq!("drop".parse(), Ok(Rebase::Drop));
    assert!("keep".parse::<Rebase>().is_err());
    assert!(Trigger::Command > Trigger::Base && Trigger::Base > Trigger::Performance);
    assert!(Trigger::Performance > Trigger::Drift && Trigger::Drift > Trigger::Labels);
    assert!(Trigger::Labels > Trigger::Schedule);
}
