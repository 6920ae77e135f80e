use super::state::sort;
use super::*;
use shoal_proto::decision::{Rejection, RollbackReason, SlotEnd, SlotState, Source};
use shoal_proto::fact::{CandidateReport, EndReport, SlotReport};
use shoal_proto::time::WallMs;

const LIMIT: Duration = Duration::from_secs(900);

fn old() -> Digest {
    Digest::of(b"old")
}

fn new() -> Digest {
    Digest::of(b"new")
}

fn slot(applied_generation: u64, champion: Digest) -> SlotReport {
    SlotReport { applied_generation, champion, previous: None, candidate: None, last_end: None }
}

fn hub(generation: u64) -> Source {
    Source::Hub { generation, rollout: None }
}

fn trying(state: SlotState, source: Source) -> SlotReport {
    let candidate = Some(CandidateReport { version: new(), state, source });
    SlotReport { candidate, ..slot(5, old()) }
}

fn ended(end: SlotEnd, source: Source, champion: Digest) -> SlotReport {
    let end = EndReport { version: new(), source, end, at: WallMs(0), trial_labels: (20, 15), shadow: None };
    SlotReport { last_end: Some(end), ..slot(5, champion) }
}

fn rejected() -> Rejection {
    Rejection::NotAdmitted { reason: "hangs".into() }
}

#[test]
fn every_report_is_sorted() {
    let confirmed = ended(SlotEnd::Confirmed, hub(5), new());
    let rolled_back = ended(SlotEnd::RolledBack(RollbackReason::Hub), hub(5), old());
    let refused = ended(SlotEnd::Rejected(rejected()), hub(5), old());
    let other = ended(SlotEnd::RolledBack(RollbackReason::Command), Source::Born { run: 1 }, old());
    let earlier = SlotReport { applied_generation: 4, ..ended(SlotEnd::Confirmed, hub(4), old()) };
    let lost_life = EndReport { version: old(), ..confirmed.last_end.clone().unwrap() };
    let lost_life = SlotReport { last_end: Some(lost_life), ..slot(5, old()) };
    let on_trial = trying(SlotState::OnTrial, hub(5));
    let born = trying(SlotState::OnTrial, Source::Born { run: 1 });
    let rebased = SlotReport { previous: Some(new()), ..slot(5, Digest::of(b"born of new")) };
    for (name, report, silent, overdue, expected) in [
        ("no slot", None, 0, false, "pending"),
        ("not taken up", Some(&slot(4, old())), 0, false, "pending"),
        ("an earlier generation's end is stale", Some(&earlier), 0, false, "pending"),
        ("taken up", Some(&slot(5, old())), 0, false, "in_progress"),
        ("on trial", Some(&on_trial), 0, false, "in_progress"),
        ("another candidate", Some(&born), 0, false, "in_progress"),
        ("another candidate's end", Some(&other), 0, false, "in_progress"),
        ("another version's end under a generation given twice", Some(&lost_life), 0, false, "in_progress"),
        ("confirmed", Some(&confirmed), 0, false, "succeeded"),
        ("served already", Some(&slot(5, new())), 0, false, "succeeded"),
        ("its local child serves", Some(&rebased), 0, false, "succeeded"),
        ("rolled back", Some(&rolled_back), 0, false, "failed"),
        ("never served", Some(&refused), 0, false, "rejected"),
        ("silent", Some(&on_trial), 901, false, "unreachable"),
        ("silent and late", Some(&on_trial), 901, true, "unreachable"),
        ("late", Some(&on_trial), 900, true, "not_enough_evidence"),
        ("a verdict outlives silence", Some(&confirmed), 9_999, true, "succeeded"),
        ("a failure outlives silence", Some(&rolled_back), 9_999, true, "failed"),
        ("removed", None, u64::MAX, false, "unreachable"),
    ] {
        let sight = Sight { slot: report, silent: Duration::from_secs(silent), descends: false };
        let assigned = Some(Assigned { generation: 5, before: Some(old()) });
        let seen = sort(new(), assigned, None, &sight, LIMIT, overdue);
        assert_eq!(seen.state.word(), expected, "{name}");
    }
}

#[test]
fn a_verdict_is_remembered_until_the_device_says_otherwise() {
    let verdict = Seen { state: DeviceState::Succeeded, trial_labels: (9, 9) };
    let assigned = Some(Assigned { generation: 5, before: None });
    let gone_on = trying(SlotState::OnTrial, Source::Born { run: 2 });
    let taken_back = ended(SlotEnd::RolledBack(RollbackReason::Command), hub(5), old());
    for (report, expected) in [(&gone_on, "succeeded"), (&taken_back, "failed")] {
        let sight = Sight { slot: Some(report), silent: Duration::ZERO, descends: false };
        assert_eq!(sort(new(), assigned, Some(&verdict), &sight, LIMIT, false).state.word(), expected);
    }
}

/// A rollout whose members are in these states: a letter each, waves apart by a blank.
/// `.` not assigned, `p` pending, `o` on trial, `s` succeeded, `f` failed, `r` rejected, `u` unreachable.
fn decide(picture: &str, elapsed_s: u64, soaked_s: Option<u64>, strategy: Strategy) -> Plan {
    let (mut members, mut reports) = (BTreeMap::new(), Vec::new());
    let waves: Vec<&str> = picture.split(' ').collect();
    let current = waves.iter().rposition(|wave| wave.contains(|it| it != '.')).unwrap_or(0);
    for (wave, letters) in (0..).zip(&waves) {
        for (index, letter) in letters.chars().enumerate() {
            let id = DeviceId::new(format!("d{wave}-{index}")).unwrap();
            let assigned = (letter != '.').then_some(Assigned { generation: 5, before: Some(old()) });
            members.insert(id.clone(), Member { wave, assigned, reverted: None, verdict: None });
            let report = match letter {
                's' => ended(SlotEnd::Confirmed, hub(5), new()),
                'f' => ended(SlotEnd::RolledBack(RollbackReason::Hub), hub(5), old()),
                'r' => ended(SlotEnd::Rejected(rejected()), hub(5), old()),
                'o' | 'u' => trying(SlotState::OnTrial, hub(5)),
                _ => slot(0, old()),
            };
            reports.push((id, report, Duration::from_secs(if letter == 'u' { 1_000 } else { 0 })));
        }
    }
    let now = Mono(Duration::from_secs(1_000_000));
    let ago = |seconds: u64| Stopwatch::start(Mono(now.0 - Duration::from_secs(seconds)));
    let rollout = Rollout {
        id: "r-1".parse().unwrap(),
        model: "gas".parse().unwrap(),
        version: new(),
        name: "gas@2".into(),
        strategy,
        selector: BTreeMap::new(),
        created: WallMs(0),
        ended: None,
        phase: Phase::Running,
        wave: u32::try_from(current).unwrap(),
        running: ago(elapsed_s),
        soaking: soaked_s.map(ago),
        members,
    };
    let fleet = reports
        .iter()
        .map(|(id, slot, silent)| (id.clone(), Sight { slot: Some(slot), silent: *silent, descends: false }))
        .collect();
    plan(&rollout, &fleet, LIMIT, now)
}

/// What a plan comes to, in one word or two.
fn verdict(plan: &Plan) -> String {
    match (plan.steps.as_slice(), &plan.waiting) {
        ([], Some(waiting)) => match waiting {
            Waiting::Devices { open, .. } => format!("devices {open}"),
            Waiting::Unreachable { unreachable, .. } => format!("unreachable {unreachable}"),
            Waiting::Soak { remaining_s, .. } => format!("soak {remaining_s}"),
            Waiting::Evidence { .. } => "evidence".into(),
        },
        ([Step::Finish(phase)], None) => match phase {
            Phase::Stopped(StopReason::TooManyFailures { .. }) => "too many failures".into(),
            Phase::Stopped(StopReason::TooFewSuccesses { .. }) => "too few successes".into(),
            Phase::Stopped(StopReason::TooLittleEvidence { .. }) => "too little evidence".into(),
            other => other.word().into(),
        },
        ([Step::StartSoak], None) => "start soak".into(),
        ([Step::NextWave], None) => "next wave".into(),
        (steps, None) if steps.iter().all(|it| matches!(it, Step::Assign(_))) => {
            format!("assign {}", steps.len())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_state_and_its_decision() {
    const DAY: u64 = 86_400;
    for (picture, elapsed, soaked, expected) in [
        // the canary
        (". ...", 0, None, "assign 1"),
        ("p ...", 1, None, "devices 1"),
        ("o ...", 1, None, "devices 1"),
        ("u ...", 1, None, "unreachable 1"),
        ("s ...", 1, None, "start soak"),
        ("s ...", 200, Some(100), "soak 500"),
        ("s ...", 700, Some(600), "next wave"),
        ("f ...", 1, None, "too many failures"),
        ("r ...", 1, None, "too many failures"),
        ("o ...", DAY, None, "evidence"),
        ("p ...", DAY, None, "evidence"),
        ("u ...", DAY, None, "evidence"),
        ("su ...", 1, None, "start soak"),
        ("so ...", 1, None, "devices 1"),
        ("so ...", DAY, None, "evidence"),
        // it fails while it is watched
        ("f ...", 200, Some(100), "too many failures"),
        // the rest
        ("s ....", 700, Some(600), "next wave"),
        ("s pppp", 1, None, "devices 4"),
        ("s ssso", 1, None, "devices 1"),
        ("s ssss", 1, None, "succeeded"),
        ("s sssu", 1, None, "unreachable 1"),
        ("s sssu", DAY, None, "succeeded"),
        ("s uuuu", DAY, None, "too little evidence"),
        ("s sooo", DAY, None, "too little evidence"),
        ("s ssssssssso", DAY, None, "succeeded"),
        ("s sssf", 1, None, "too many failures"),
        ("s ssssf", 1, None, "too few successes"),
        ("s sssssssssf", 1, None, "succeeded"),
        // one wave alone
        ("s", 1, None, "succeeded"),
    ] {
        let plan = decide(picture, elapsed, soaked, Strategy::default());
        assert_eq!(verdict(&plan), expected, "{picture} after {elapsed} s, soaked {soaked:?}");
    }
}

#[test]
fn thresholds_move_the_decision() {
    let abort = |percentage, executed| Strategy {
        abort: AbortThreshold { threshold_percentage: percentage, min_number_of_executed_things: executed },
        ..Strategy::default()
    };
    for (picture, strategy, expected) in [
        ("s fo", abort(20.0, 3), "devices 1"),
        ("s fs", abort(20.0, 3), "too many failures"),
        ("s fs", abort(34.0, 1), "too few successes"),
        ("f ..", abort(20.0, 2), "too few successes"),
        ("s fs", Strategy { success_percentage: 50.0, ..abort(50.0, 1) }, "succeeded"),
        ("s ..", Strategy { soak_s: 0, ..Strategy::default() }, "start soak"),
    ] {
        assert_eq!(verdict(&decide(picture, 1, None, strategy.clone())), expected, "{picture} {strategy:?}");
    }
}

#[test]
fn time_alone_wakes_the_planner() {
    let wake = |picture, elapsed, soaked| decide(picture, elapsed, soaked, Strategy::default()).wake;
    assert_eq!(wake("o ..", 100, None), Some(LIMIT), "silence comes before the deadline");
    assert_eq!(wake("s ..", 200, Some(100)), Some(Duration::from_secs(500)), "the soak's end");
    assert_eq!(wake("u ..", 86_399, None), Some(Duration::from_secs(1)), "the deadline");
}

#[test]
fn a_stopwatch_stands_still_while_the_hub_is_down() {
    let mut watch = Stopwatch::start(Mono::from_millis(1_000));
    watch.settle(Mono::from_millis(5_000));
    let bytes = shoal_proto::wire::to_cbor(&watch);
    let restored: Stopwatch = shoal_proto::wire::from_cbor(&bytes).unwrap();
    assert_eq!(restored.elapsed(Mono::from_millis(500)), Duration::from_millis(4_500));
}
