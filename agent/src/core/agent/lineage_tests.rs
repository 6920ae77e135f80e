//! Which versions stay, and what becomes of local learning when a new base comes.

use super::super::event::VersionInfo;
use super::super::policy::{Keep, Rebase, Triggers};
use super::super::{Agent, Command, Effect, Event, Policy};
use super::training_tests::{Disk, gas, jobs, version};
use super::{Mark, Turn};
use shoal_proto::decision::{Source, Trigger};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Digest};
use shoal_proto::time::{Mono, Now, WallMs};
use std::collections::BTreeSet;
use std::sync::Arc;

const NOW: Now = Now { mono: Mono(std::time::Duration::from_secs(9)), wall: WallMs(1_000) };

/// The package of the test data is one that this device made; this is one that no device made.
fn base(number: u32) -> VersionInfo {
    let mut info = version(number);
    let mut manifest = (*info.manifest).clone();
    manifest.lineage = None;
    (info.record.name, info.record.parent) = (manifest.display_name(), None);
    info.manifest = Arc::new(manifest);
    info
}

/// One that this device made of another.
fn born(number: u32, parent: Digest) -> VersionInfo {
    let mut info = version(number);
    info.record.parent = Some(parent);
    info
}

struct Board {
    agent: Agent,
    disk: Disk,
    there: BTreeSet<Digest>,
}

impl Board {
    fn new(policy: Policy, first: &VersionInfo) -> Self {
        let mut disk = Disk::default();
        let (agent, _) = disk.boot_with(policy, first, NOW);
        let mut board = Self { agent, disk, there: [first.version].into() };
        board.serve(first.version);
        board
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(NOW, event, &mut effects);
        let effects = self.disk.take(effects);
        for effect in &effects {
            if let Effect::Remove { version } = effect {
                self.there.remove(version);
            }
        }
        effects
    }

    fn serve(&mut self, version: Digest) -> Vec<Effect> {
        self.handle(Event::Admitted { version, outcome: Ok(()) });
        self.handle(Event::Serving { model: gas(), version, outcome: Ok(()) })
    }

    /// A candidate comes, and is confirmed at once.
    fn confirm(&mut self, info: &VersionInfo, source: Source) -> Vec<Effect> {
        let mut turn = Turn::default();
        self.there.insert(info.version);
        self.agent.take_version(NOW, info.clone(), &mut turn);
        let policy =
            TrialPolicy { min_requests: 0, min_labels: 0, shadow_requests: 0, ..TrialPolicy::default() };
        self.agent.stage(NOW, &gas(), info.version, source, policy, false, &mut turn);
        let effects = self.serve(info.version);
        assert_eq!(self.agent.models[&gas()].slot.champion, info.version);
        effects
    }
}

fn policy(keep: Keep) -> Policy {
    Policy { keep, ..Policy::new(DeviceId::new("press-07").unwrap()) }
}

#[test]
fn what_slots_need_bases_and_pinned_stay_and_of_the_rest_the_newest() {
    const MIB: u64 = 1 << 20; // each version's size
    for (keep, kept) in [
        (Keep { versions: 0, bytes: u64::MAX }, 0),
        (Keep { versions: 2, bytes: u64::MAX }, 2),
        (Keep { versions: 9, bytes: 3 * MIB }, 3),
        (Keep { versions: 9, bytes: 0 }, 0),
    ] {
        let first = base(3);
        let mut board = Board::new(policy(keep), &first);
        let mut line = vec![first.version];
        for number in 4..12 {
            let next = born(number, *line.last().unwrap());
            board.confirm(&next, Source::Born { run: u64::from(number) });
            line.push(next.version);
            if number == 5 {
                let pin = Command::Pin { version: next.version, pinned: true };
                board.handle(Event::Command { number: 1, command: pin });
            }
        }
        // Champion and previous, the base, the pinned one, and so many of those between.
        let mut expected: BTreeSet<Digest> = [line[8], line[7], line[0], line[2]].into();
        expected.extend(&line[7 - kept..7]);
        assert_eq!(board.there, expected, "{keep:?}");
        let lineage = board.agent.lineage();
        let marks = |version: Digest| {
            lineage.versions.iter().find(|node| node.version == version).unwrap().marks.clone()
        };
        assert_eq!(lineage.versions.len(), line.len(), "what is gone is known");
        assert_eq!(marks(line[8]), [Mark::Champion]);
        assert_eq!(marks(line[7]), [Mark::Previous]);
        assert_eq!(marks(line[0]), [Mark::Base]);
        assert_eq!(marks(line[2]), [Mark::Pinned]);
        let unpin = Command::Pin { version: line[2], pinned: false };
        board.handle(Event::Command { number: 2, command: unpin });
        assert!(board.agent.pinned.is_empty());
        // One that is rolled back is condemned here, and goes.
        let rollback = Command::Rollback { model: gas() };
        board.handle(Event::Command { number: 3, command: rollback });
        board.serve(line[7]);
        assert!(marks(line[8]) == [Mark::Champion] && board.agent.models[&gas()].slot.champion == line[7]);
    }
}

#[test]
fn local_learning_is_done_again_on_a_new_base_or_dropped() {
    let hub = || Source::Hub { generation: 1, rollout: None };
    for (champion, rebase, retrain, source, starts) in [
        (version(3), Rebase::Retrain, true, hub(), true),
        (version(3), Rebase::Drop, true, hub(), false),
        (version(3), Rebase::Retrain, false, hub(), false),
        (version(3), Rebase::Retrain, true, Source::Local, false),
        (base(3), Rebase::Retrain, true, hub(), false),
    ] {
        let triggers = Triggers { rebase, ..Triggers::default() };
        let mut board = Board::new(Policy { triggers, retrain, ..policy(Keep::default()) }, &champion);
        let next = base(4);
        let effects = board.confirm(&next, source.clone());
        let started = jobs(&effects);
        assert_eq!(started.len(), usize::from(starts), "{rebase:?} {retrain} {source:?}");
        if let [job] = &started[..] {
            assert_eq!(job.parent, next.version);
            assert_eq!(board.agent.models[&gas()].run.unwrap().trigger, Trigger::Base);
            // And its record says what it was made of.
            let outcome = Err("too few labelled rows".into());
            board.handle(Event::TrainingEnded { run: job.run, outcome });
            let runs = board.agent.lineage().runs;
            let made = runs[0].made.as_ref().unwrap();
            assert_eq!((made.base, made.seed, made.number), (next.version, job.seed, job.number));
            assert_eq!(made.recipe, job.recipe);
        }
    }
}

#[test]
fn what_cannot_be_made_again_is_told() {
    let board = Board::new(policy(Keep::default()), &base(3));
    let champion = board.agent.models[&gas()].slot.champion;
    let refused = board.agent.replay_job(champion).unwrap_err();
    assert_eq!(refused, format!("no run of this device made version {}", champion.short()));
}
