//! Liveness: a healed world comes to rest, everything that was written is told, and the loop still works.

use super::act::model;
use super::invariant::BAD;
use super::models::Kind;
use super::world::World;
use rand::Rng as _;
use shoal_agent::core::{Agent, Command};
use shoal_hub::core::Request;
use shoal_hub::core::rollout::AbortMode;
use shoal_proto::document::Document;
use shoal_proto::fact::{Count, Facts};
use shoal_proto::id::RolloutId;
use std::collections::BTreeSet;

/// Beats within which rollouts end and every device trains again.
const WORK: u64 = 3_000;
/// Beats after which a person ends rollouts that wait for evidence.
const PATIENCE: u64 = 500;
/// Beats, and seconds, within which all is told when nothing new comes.
const TELL: u64 = 400;
const TELL_S: u64 = 1_200;
/// Beats between two looks.
const LOOK: u64 = 5;

impl World {
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.heal()?;
        let beat = self.form.beat_ms;
        let begun = self.now;
        while self.now < begun + WORK * beat {
            let open = self.untrained();
            if open.is_empty() && self.are_rollouts_over() {
                break;
            }
            for at in open {
                if self.random.random_bool(0.2) {
                    self.command(at, Command::Train { model: model() })?;
                }
            }
            if self.now > begun + PATIENCE * beat {
                self.abort_all()?;
            }
            self.run_until(self.now + LOOK * beat)?;
        }
        self.invariant_the_loop_still_works()?;
        self.quiet = true; // trials need rows; when they are over, the world may come to rest
        let end = self.now + (TELL * beat).max(TELL_S * 1_000);
        while self.now < end && !self.is_at_rest() {
            self.run_until(self.now + LOOK * beat)?;
        }
        self.invariant_all_is_told()
    }

    fn heal(&mut self) -> Result<(), String> {
        self.note("the world heals");
        self.healed = true;
        while let Some(clone) = self.boards.iter().position(|board| board.is_clone) {
            // What only the clone knew goes with it. It is the last board: others keep their places.
            let id = self.boards[clone].id.clone();
            self.end_process(clone, true);
            self.boards.truncate(clone);
            self.queue.retain(|_, what| what.board().is_none_or(|at| at != clone));
            self.forget_what_is_nowhere(&id);
        }
        self.hub.full_until = 0;
        self.broker_up = true;
        self.hub_start()?;
        self.hub_link()?;
        for at in 0..self.boards.len() {
            let board = &mut self.boards[at];
            board.cut = (0, 0);
            board.full_until = 0;
            board.conditions = shoal_agent::core::Conditions::default();
            self.start(at)?;
            self.go_on(at)?;
            self.link(at)?;
            let board = &mut self.boards[at];
            board.healed_run = board.disk.run().map_or(0, |run| run.number + 1).max(board.seen.next_run());
        }
        Ok(())
    }

    /// Devices on which no run that began after healing has been confirmed.
    fn untrained(&self) -> Vec<usize> {
        (0..self.boards.len()).filter(|at| !self.boards[*at].trained).collect()
    }

    fn abort_all(&mut self) -> Result<(), String> {
        let running: Vec<RolloutId> =
            self.hub.disk.rollouts.values().filter(|it| it.is_running()).map(|it| it.id.clone()).collect();
        for rollout in running {
            self.request(Request::AbortRollout { rollout, mode: AbortMode::Keep })?;
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        let is_told = |at: usize| {
            let board = &self.boards[at];
            // A swap that is under way is no rest.
            let swapped = board.disk.slot().is_none_or(|slot| board.serving == Some(slot.serving()));
            swapped
                && board.agent.as_ref().is_some_and(|agent| {
                    agent.status(self.now_of(at)).outbox == 0
                        && agent.document_bytes() == self.hub.disk.document(&board.id).to_bytes()
                })
        };
        self.are_rollouts_over() && (0..self.boards.len()).all(is_told)
    }

    fn are_rollouts_over(&self) -> bool {
        self.hub.disk.rollouts.values().all(|rollout| !rollout.is_running())
    }

    /// The tenth retrain works as the first did, and every rollout ends.
    fn invariant_the_loop_still_works(&mut self) -> Result<(), String> {
        if let Some(at) = self.untrained().first() {
            let board = &self.boards[*at];
            let status = board.agent.as_ref().map(|agent| agent.status(self.now_of(*at)));
            let model = status.and_then(|status| status.models.into_iter().next());
            let says = model.map(|it| {
                (it.ready, it.serving.short(), it.candidate, it.training_waits_for, it.training, it.last_end)
            });
            return Err(format!(
                "the_loop_still_works: {} trains no more from run {} on: {says:?}",
                board.name(),
                board.healed_run
            ));
        }
        if let Some(rollout) = self.hub.disk.rollouts.values().find(|rollout| rollout.is_running()) {
            return Err(format!("the_loop_still_works: rollout {} never ends", rollout.id));
        }
        self.counts.tenth += self.boards.iter().filter(|board| board.healed_run >= 9).count() as u64;
        Ok(())
    }

    /// Both replicas of every document are equal, hold all that was written, and count nothing twice; and no
    /// device is left on a bad version of the hub's.
    fn invariant_all_is_told(&self) -> Result<(), String> {
        for (at, board) in self.boards.iter().enumerate() {
            let name = board.name();
            let Some(agent) = &board.agent else { return Err(format!("all_is_told: {name} is down")) };
            let hub = self.hub.disk.document(&board.id);
            if agent.document_bytes() != hub.to_bytes() {
                let differs = difference(agent.document(), &hub);
                return Err(format!("all_is_told: {name} and the hub differ after healing: {differs}"));
            }
            if agent.document_bytes() != board.disk.link.document().to_bytes() {
                return Err(format!("all_is_told: {name}: what it holds is not what is on its disk"));
            }
            let mut with_all = hub.clone();
            if let Some(expected) = self.account.expected.get(&board.id) {
                with_all.merge(expected);
            }
            if with_all != hub {
                let differs = difference(&with_all, &hub);
                return Err(format!("nothing_is_lost: {name} wrote what nobody holds: {differs}"));
            }
            self.invariant_commands_are_answered(at, &hub)?;
            self.invariant_counts_are_true(at, &hub)?;
            self.invariant_serves_well(at, agent)?;
        }
        Ok(())
    }

    /// A command was taken up, whatever became of it, or was withdrawn in time.
    fn invariant_commands_are_answered(&self, at: usize, document: &Document) -> Result<(), String> {
        let reports = Facts(document).reports();
        for (place, command) in Facts(document).commands() {
            let answered = reports.get(&place).is_some_and(|report| report.id >= command.id);
            if !answered && command.withdrawn.is_none() {
                return Err(format!(
                    "commands_are_answered: {} is silent about {command:?}",
                    self.boards[at].id
                ));
            }
        }
        Ok(())
    }

    /// Counters never say more than happened, and say all of it where no process ended without a word.
    fn invariant_counts_are_true(&self, at: usize, document: &Document) -> Result<(), String> {
        let board = &self.boards[at];
        if board.seen.cloned {
            return Ok(());
        }
        let (rows, labels) = board.given;
        for (count, given) in [(Count::Predictions, rows), (Count::Labels, labels)] {
            let told = Facts(document).count(count);
            if told > given {
                let (id, key) = (&board.id, count.key());
                return Err(format!("nothing_is_doubled: {id} tells of {told} {key}, there were {given}"));
            }
        }
        let slots: u64 = Facts(document).labels().iter().map(|(_, slot)| slot.sums.labelled).sum();
        if slots > labels {
            return Err(format!("nothing_is_doubled: {} sums {slots} labels of {labels}", board.id));
        }
        Ok(())
    }

    fn invariant_serves_well(&self, at: usize, agent: &Agent) -> Result<(), String> {
        let board = &self.boards[at];
        let slot = board.disk.slot();
        let (Some(slot), true) = (slot, agent.is_ready()) else {
            return Err(format!("serves_in_the_end: {} is not ready", board.name()));
        };
        if board.serving != Some(slot.serving()) {
            return Err(format!("serves_in_the_end: {} serves {:?}", board.name(), board.serving));
        }
        let version = &self.versions[&slot.champion];
        let is_bad = version.quality < BAD || version.kind != Kind::Sound;
        if is_bad && !self.account.misled.contains(&slot.champion) {
            return Err(format!("serves_in_the_end: {} is left on {}", board.id, version.info.record.name));
        }
        Ok(())
    }
}

/// Some entries in which two documents differ, for people.
fn difference(mine: &Document, theirs: &Document) -> String {
    let rows = |document: &Document| -> BTreeSet<String> {
        document.entries().map(|entry| format!("{entry:?}").chars().take(300).collect()).collect()
    };
    let (mine, theirs) = (rows(mine), rows(theirs));
    let left: Vec<&String> = mine.difference(&theirs).take(2).collect();
    let right: Vec<&String> = theirs.difference(&mine).take(2).collect();
    format!("only one has {left:?}, only the other {right:?}")
}
