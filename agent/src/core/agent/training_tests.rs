use super::super::effect::Note;
use super::super::event::VersionInfo;
use super::super::{Agent, Boot, Command, Effect, Event, Policy, Record, TrainJob};
use shoal_proto::baseline::{Baseline, FeatureBaseline};
use shoal_proto::decision::{Rejection, Trigger, Verdict};
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName};
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};
use shoal_proto::time::{Mono, Now, WallMs};
use std::collections::BTreeMap;
use std::sync::Arc;

fn now() -> Now {
    Now { mono: Mono::default(), wall: WallMs(1_000) }
}

pub(super) fn version(number: u32) -> VersionInfo {
    let text = include_str!("../../../../proto/testdata/v1/model.toml");
    let text = text.replacen("version = 3", &format!("version = {number}"), 1);
    let manifest = Manifest::parse(&text).unwrap();
    let column = || FeatureBaseline::of((0..100).map(f64::from));
    let baseline =
        Baseline { rows: 100, features: vec![column(), column()], predictions: None, ..Baseline::default() };
    let files = [
        (MODEL, b"graph".to_vec()),
        (MANIFEST, manifest.to_text().into_bytes()),
        (BASELINE, baseline.to_bytes()),
    ];
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let (version, record) = Package::new(files).unwrap().record().unwrap();
    let baseline = Arc::new(baseline);
    let reference = Arc::clone(&baseline);
    VersionInfo { version, record, manifest: Arc::new(manifest), baseline, reference, size_bytes: 1 << 20 }
}

/// A disk: the core's own memory, through crashes.
#[derive(Default)]
pub(super) struct Disk(pub(super) BTreeMap<String, Vec<u8>>);

impl Disk {
    /// Writes what is to be written, and tells what else shall happen.
    pub(super) fn take(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut others = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(records) => {
                    for record in records {
                        if let Record::Memory { key, value } = record {
                            self.0.insert(key, value);
                        }
                    }
                }
                other => others.push(other),
            }
        }
        others
    }

    /// A start; the configuration names the version at the first only, since the document is not kept here.
    pub(super) fn boot(&mut self, info: &VersionInfo) -> (Agent, Vec<Effect>) {
        self.boot_with(Policy::new(DeviceId::new("press-07").unwrap()), info, now())
    }

    pub(super) fn boot_with(&mut self, policy: Policy, info: &VersionInfo, now: Now) -> (Agent, Vec<Effect>) {
        let configured = if self.0.is_empty() { vec![info.clone()] } else { Vec::new() };
        let boot = Boot {
            incarnation: Some(Incarnation(1)),
            memory: self.0.clone(),
            versions: vec![info.clone()],
            configured,
            ..Boot::default()
        };
        let mut effects = Vec::new();
        let agent = Agent::new(policy, boot, now, &mut effects);
        let others = self.take(effects);
        (agent, others)
    }
}

pub(super) fn jobs(effects: &[Effect]) -> Vec<TrainJob> {
    let job = |effect: &Effect| match effect {
        Effect::Train(job) => Some(job.clone()),
        _ => None,
    };
    effects.iter().filter_map(job).collect()
}

pub(super) fn gas() -> ModelName {
    ModelName::new("gas").unwrap()
}

/// A device that was told to train.
fn training(disk: &mut Disk, info: &VersionInfo) -> (Agent, TrainJob) {
    let (mut agent, first) = disk.boot(info);
    assert!(jobs(&first).is_empty());
    let mut effects = Vec::new();
    let command = Command::Train { model: gas() };
    agent.handle(now(), Event::Command { number: 1, command }, &mut effects);
    let [job] = &jobs(&disk.take(effects))[..] else { panic!("one run") };
    (agent, job.clone())
}

#[test]
fn an_interrupted_run_goes_on_as_the_same_job_and_not_for_ever() {
    let (mut disk, info) = (Disk::default(), version(3));
    let (_, job) = training(&mut disk, &info);
    for _ in 0..5 {
        let (agent, effects) = disk.boot(&info);
        assert_eq!(jobs(&effects), std::slice::from_ref(&job));
        assert_eq!(agent.status(now()).models[0].training.as_ref().unwrap().run, job.run);
    }
    for _ in 0..2 {
        let (agent, effects) = disk.boot(&info);
        assert!(jobs(&effects).is_empty(), "it took the device down too often");
        assert_eq!(agent.status(now()).models[0].training, None);
    }
}

#[test]
fn a_run_that_has_ended_is_not_resumed() {
    let (mut disk, info) = (Disk::default(), version(3));
    let (mut agent, job) = training(&mut disk, &info);
    let mut effects = Vec::new();
    let outcome = Err("too few labelled rows".into());
    agent.handle(now(), Event::TrainingEnded { run: job.run, outcome }, &mut effects);
    disk.take(effects);
    assert!(jobs(&disk.boot(&info).1).is_empty());
}

#[test]
fn a_run_of_another_champion_is_not_resumed() {
    let mut disk = Disk::default();
    let (first, second) = (version(3), version(4));
    training(&mut disk, &first);
    let run = disk.0["run/gas"].clone();
    let mut other = Disk::default();
    drop(other.boot(&second));
    other.0.insert("run/gas".into(), run.clone());
    assert!(jobs(&other.boot(&second).1).is_empty());
    assert_ne!(other.0["run/gas"], run, "and it is forgotten");
}

/// What became of runs.
pub(super) fn verdicts(effects: &[Effect]) -> Vec<Verdict> {
    let verdict = |effect: &Effect| match effect {
        Effect::Note(Note::RunEnded(record)) => Some(record.verdict.clone()),
        _ => None,
    };
    effects.iter().filter_map(verdict).collect()
}

#[test]
fn a_cancelled_run_is_no_refused_one_and_is_not_resumed() {
    let (mut disk, info) = (Disk::default(), version(3));
    let (mut agent, job) = training(&mut disk, &info);
    let cancel = |number| Event::Command { number, command: Command::CancelTraining { model: gas() } };
    let mut effects = Vec::new();
    agent.handle(now(), cancel(2), &mut effects);
    disk.take(effects);
    // The process ends before the child's answer came.
    let (agent, effects) = disk.boot(&info);
    assert!(jobs(&effects).is_empty(), "it does not go on");
    assert_eq!(verdicts(&effects), [Verdict::Reject(Rejection::Cancelled)]);
    assert_eq!(agent.models[&gas()].slot.refused_in_a_row, 0);
    assert_eq!(agent.status(now()).models[0].training, None);
    // One that fails by itself is refused, as ever.
    let (mut disk, info) = (Disk::default(), version(3));
    let (mut agent, other) = training(&mut disk, &info);
    assert_eq!(other, job);
    let mut effects = Vec::new();
    let outcome = Err("too few labelled rows".into());
    agent.handle(now(), Event::TrainingEnded { run: other.run, outcome }, &mut effects);
    let reason = "too few labelled rows".into();
    assert_eq!(verdicts(&effects), [Verdict::Reject(Rejection::TrainingFailed { reason })]);
    assert_eq!(agent.models[&gas()].slot.refused_in_a_row, 1);
}

#[test]
fn a_run_kept_by_an_older_build_is_read() {
    #[derive(serde::Serialize)]
    struct Older {
        number: u64,
        trigger: Trigger,
        parent: Digest,
        resumes: u32,
    }
    let (mut disk, info) = (Disk::default(), version(3));
    let (_agent, job) = training(&mut disk, &info);
    let older = Older { number: job.run, trigger: Trigger::Command, parent: job.parent, resumes: 0 };
    disk.0.insert("run/gas".into(), shoal_proto::wire::to_cbor(&Some(older)));
    assert_eq!(jobs(&disk.boot(&info).1), [job]);
}

#[test]
fn a_run_can_be_cancelled() {
    let (mut disk, info) = (Disk::default(), version(3));
    let (mut agent, job) = training(&mut disk, &info);
    let mut cancel = || {
        let mut effects = Vec::new();
        let command = Command::CancelTraining { model: gas() };
        agent.handle(now(), Event::Command { number: 2, command }, &mut effects);
        effects
    };
    assert!(cancel().contains(&Effect::StopTraining { run: job.run }));
    assert!(cancel().contains(&Effect::StopTraining { run: job.run }), "repeated, the same answer");
    let mut effects = Vec::new();
    let outcome = Err("paused at step 3 of 9".into());
    agent.handle(now(), Event::TrainingEnded { run: job.run, outcome }, &mut effects);
    assert_eq!(verdicts(&effects), [Verdict::Reject(Rejection::Cancelled)]);
    let mut effects = Vec::new();
    agent.handle(
        now(),
        Event::Command { number: 3, command: Command::CancelTraining { model: gas() } },
        &mut effects,
    );
    let refused = Effect::Reply { number: 3, outcome: Err("no run of `gas` is under way".into()) };
    assert!(effects.contains(&refused), "{effects:?}");
}
