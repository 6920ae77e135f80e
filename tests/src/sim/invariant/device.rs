//! What must hold of a device's loop and of what it writes.

use super::{BAD, Seen};
use crate::sim::models::Kind;
use crate::sim::world::World;
use shoal_agent::core::slot::Slot;
use shoal_agent::core::{Record, TrainJob};
use shoal_proto::command::Report;
use shoal_proto::decision::{RunRecord, SlotEnd, SlotState, Source, Verdict};
use shoal_proto::document::Entry;
use shoal_proto::fact::{
    ASSIGNMENT, Assignment, CONDEMNED, Condemnation, GLOBALLY_CONDEMNED, REPORT, RUN, WINDOW,
};
use shoal_proto::id::{Digest, Replica, Side};
use shoal_proto::op::{Op, split_stamped};
use shoal_proto::sync::Record as Link;
use shoal_proto::wire::from_cbor;

/// Labels of the version before, below which a trial has nothing to compare with.
const RECORD: u64 = 40;

impl World {
    /// A transaction of a device is on disk.
    pub(in crate::sim) fn on_device_commit(
        &mut self,
        at: usize,
        records: &[Record],
        before: Option<&Slot>,
    ) -> Result<(), String> {
        let mut moved = false;
        for record in records {
            match record {
                Record::Link(Link::Append(op)) => self.on_append(at, op)?,
                Record::Link(Link::Put(entry)) => self.on_put(at, entry),
                Record::Link(Link::Forget(seq, _)) => self.invariant_outbox_is_cut_at_the_cursor(at, *seq)?,
                Record::Link(Link::Reborn(_)) => self.invariant_lives_begin_for_a_reason(at)?,
                Record::Link(Link::Drop(..) | Link::Cursor(_) | Link::Seal(_)) => {}
                Record::Memory { key, .. } => moved |= key.starts_with("slot/"),
            }
        }
        if let Some(slot) = self.boards[at].disk.slot().cloned().filter(|_| moved) {
            self.on_slot(at, &slot, before)?;
        }
        self.boards[at].seen.is_booting = false;
        Ok(())
    }

    fn on_append(&mut self, at: usize, op: &Op) -> Result<(), String> {
        let board = &mut self.boards[at];
        let Some(incarnation) = board.disk.link.incarnation else { return Ok(()) };
        self.account.expect(&board.id, Replica { side: Side::Device, incarnation }, op);
        let (seen, value) = (&mut board.seen, Digest::of(&op.value));
        if op.kind == WINDOW && !seen.cloned {
            // A window's number is given once: two windows under one key would lose one in the join.
            let sealed = seen.windows.entry(op.key.clone()).or_insert(value);
            if *sealed != value {
                return Err(format!("windows_are_sealed_once: {} wrote {} anew", board.id, op.key));
            }
        }
        if op.kind == REPORT
            && let Ok(report) = from_cbor::<Report>(&op.value)
        {
            let last = seen.reports.insert(op.key.clone(), report.clone());
            let again = last.filter(|last| last.id == report.id && last.state.is_over() && *last != report);
            if let Some(last) = again.filter(|_| !seen.cloned) {
                return Err(format!("commands_end_once: {} said {last:?} and then {report:?}", board.id));
            }
        }
        if op.kind == RUN {
            if !seen.records.insert(op.key.clone()) && !seen.cloned {
                return Err(format!("verdicts_once: {} wrote {} again", board.id, op.key));
            }
            let Ok(run) = from_cbor::<RunRecord>(&op.value) else { return Ok(()) };
            if let (Verdict::Accept, Some(candidate)) = (&run.verdict, run.candidate) {
                seen.passed.insert(candidate);
            }
        }
        Ok(())
    }

    fn on_put(&mut self, at: usize, entry: &Entry) {
        let seen = &mut self.boards[at].seen;
        if entry.kind == ASSIGNMENT {
            let wish = from_cbor::<Assignment>(split_stamped(&entry.value).1);
            seen.assigned.extend(wish.map(|wish| wish.version));
        }
        let (own, value) = match entry.kind {
            CONDEMNED => (true, entry.value.as_slice()),
            GLOBALLY_CONDEMNED => (false, split_stamped(&entry.value).1),
            _ => return,
        };
        let (Ok(version), Ok(word)) = (entry.key.parse::<Digest>(), from_cbor::<Condemnation>(value)) else {
            return;
        };
        let list = if own { &mut seen.condemned } else { &mut seen.banned };
        if word.holds {
            list.insert(version);
        } else {
            list.remove(&version);
        }
    }

    fn on_slot(&mut self, at: usize, slot: &Slot, before: Option<&Slot>) -> Result<(), String> {
        let name = self.boards[at].name();
        self.invariant_generation_never_falls(at, slot, before)?;
        let board = &mut self.boards[at];
        if let Some(candidate) = &slot.candidate {
            let version = candidate.version;
            let fresh = before.and_then(Slot::on_trial).is_none_or(|it| it.version != version);
            if candidate.state == SlotState::OnTrial && fresh && board.seen.is_condemned(version) {
                return Err(format!("condemned_stays_condemned: {name} tries {} again", version.short()));
            }
        }
        let Some(before) = before else {
            board.seen.champions.insert(slot.champion);
            board.seen.begin_trial(slot);
            return Ok(());
        };
        if slot.champion != before.champion {
            self.on_new_champion(at, slot, before)?;
        }
        self.boards[at].seen.begin_trial(slot);
        Ok(())
    }

    /// What becomes champion served on trial, long enough or well enough, or is a way back.
    fn on_new_champion(&mut self, at: usize, slot: &Slot, before: &Slot) -> Result<(), String> {
        let (name, version) = (self.boards[at].name(), slot.champion);
        if let Some(Source::Born { run }) = slot.last_end.as_ref().map(|end| &end.source) {
            let board = &mut self.boards[at];
            board.trained = self.healed && *run >= board.healed_run;
        }
        let seen = &mut self.boards[at].seen;
        seen.champions.insert(version);
        let on_trial = before.on_trial().filter(|candidate| candidate.version == version);
        let restored = seen.is_booting && before.previous == Some(version);
        let Some(candidate) = on_trial else {
            // A candidate that passed through staged and trial in one turn is a way back that was loaded already.
            let ends = slot.last_end.as_ref().is_some_and(|end| end.end == SlotEnd::Confirmed);
            if restored || ends {
                return Ok(());
            }
            return Err(format!("trial_before_champion: {name} made {} champion untried", version.short()));
        };
        let (labels, right) = slot.last_end.as_ref().map_or((0, 0), |end| end.trial_labels);
        let most_ms = candidate.policy.max_s * 1_000;
        let served = seen.served(self.now);
        if !candidate.revert && labels < candidate.policy.min_labels && served < most_ms {
            let short = version.short();
            return Err(format!(
                "trial_has_evidence: {name} confirmed {short} after {labels} labels and {served} of {most_ms} ms"
            ));
        }
        let quality = self.versions[&version].quality_when(true);
        if quality < BAD && !candidate.revert {
            // What labels said, and not what is true: a bad version may be lucky on a dozen of them.
            let before = candidate.trial.before;
            let is_plain = right * before.0 * 10 + labels * before.0 * 4 < before.1 * labels * 10;
            if before.0 >= RECORD && labels >= candidate.policy.min_labels && is_plain {
                return Err(format!("bad_is_found: {name} confirmed {} by {labels} labels", version.short()));
            }
            self.account.misled.insert(version);
            self.counts.misled += 1;
        }
        Ok(())
    }

    /// An older wish of the hub's never takes the place of a newer one.
    fn invariant_generation_never_falls(
        &mut self,
        at: usize,
        slot: &Slot,
        before: Option<&Slot>,
    ) -> Result<(), String> {
        let board = &mut self.boards[at];
        let (seen, applied) = (&mut board.seen, slot.applied_generation);
        // A fetch that a restart interrupted is asked for again: the wish counts as not yet taken up.
        let again = before.and_then(|slot| slot.candidate.as_ref()).and_then(|it| match it.source {
            Source::Hub { generation, .. } => Some(generation.saturating_sub(1)),
            Source::Born { .. } | Source::Local => None,
        });
        let is_again = seen.is_booting && again.is_some_and(|again| applied >= again.min(seen.generation));
        if applied < seen.generation && !is_again {
            let (id, was) = (&board.id, seen.generation);
            return Err(format!("generation_never_falls: {id} stood at {was} and stands at {applied}"));
        }
        seen.generation = applied;
        let wished = slot.candidate.as_ref().and_then(|it| match it.source {
            Source::Hub { generation, .. } => Some(generation),
            Source::Born { .. } | Source::Local => None,
        });
        if let Some(wished) = wished {
            if wished < seen.candidate_generation {
                let was = seen.candidate_generation;
                return Err(format!("generation_never_falls: {} takes up {wished} after {was}", board.id));
            }
            seen.candidate_generation = wished;
        }
        Ok(())
    }

    /// What the server is told to load is on disk as champion or on trial, was admitted, and has a right to serve.
    pub(in crate::sim) fn invariant_may_serve(&mut self, at: usize, version: Digest) -> Result<(), String> {
        let (name, base) = (self.boards[at].name(), self.pushed[0]);
        let short = version.short();
        let seen = &self.boards[at].seen;
        if !seen.admitted.contains(&version) {
            return Err(format!("admitted_before_served: {name} loads {short} unadmitted"));
        }
        let Some(slot) = self.boards[at].disk.slot().cloned() else {
            return Err(format!("serves_what_disk_says: {name} loads {short} without a slot"));
        };
        let on_trial = slot.on_trial().map(|candidate| candidate.version);
        if slot.champion != version && on_trial != Some(version) {
            return Err(format!(
                "serves_what_disk_says: {name} loads {short}, which is no champion nor on trial"
            ));
        }
        let by_the_gate = seen.passed.contains(&version);
        let by_word = version == base || seen.assigned.contains(&version) || seen.promoted.contains(&version);
        if !by_the_gate && !by_word {
            return Err(format!("gated_before_served: {name} loads {short}, which passed no gate"));
        }
        if !by_word && !self.versions[&version].shown_better {
            return Err(format!(
                "gated_before_served: {name} loads {short}, which the holdout spoke against"
            ));
        }
        self.invariant_bad_stays_in_the_canary(at, version, &slot)
    }

    pub(in crate::sim) fn invariant_one_run_at_a_time(
        &mut self,
        at: usize,
        job: &TrainJob,
    ) -> Result<(), String> {
        let board = &mut self.boards[at];
        let (name, run) = (board.name(), job.run);
        if let Some(other) = board.children.keys().next() {
            return Err(format!("one_run_at_a_time: {name} starts run {run} beside run {other}"));
        }
        let slot = board.disk.slot();
        if let Some(candidate) = slot.and_then(|slot| slot.candidate.as_ref()) {
            let short = candidate.version.short();
            return Err(format!("one_run_at_a_time: {name} starts run {run} while {short} is in the slot"));
        }
        if board.disk.run().map(|seen| seen.number) != Some(run) {
            return Err(format!("one_run_at_a_time: {name} starts run {run}, which the disk does not know"));
        }
        let key = (board.disk.link.incarnation, run);
        let last = board.seen.runs.range((key.0, 0)..=(key.0, u64::MAX)).next_back().map(|(_, run)| *run);
        if !board.seen.cloned && last.is_some_and(|last| run < last) {
            return Err(format!("run_numbers_are_given_once: {name} starts run {run} after {last:?}"));
        }
        board.seen.runs.insert(key);
        Ok(())
    }

    /// What the slot holds is on disk, but for what is still being fetched.
    pub(in crate::sim) fn invariant_kept_on_disk(&self, at: usize) -> Result<(), String> {
        let board = &self.boards[at];
        let Some(slot) = board.disk.slot() else { return Ok(()) };
        let on_trial = slot.on_trial().map(|candidate| candidate.version);
        for version in [Some(slot.champion), slot.previous, on_trial].into_iter().flatten() {
            if !board.disk.versions.contains_key(&version) {
                return Err(format!("kept_on_disk: {} needs {}, which is gone", board.id, version.short()));
            }
        }
        Ok(())
    }

    pub(in crate::sim) fn invariant_nothing_referred_is_removed(
        &self,
        at: usize,
        version: Digest,
    ) -> Result<(), String> {
        let board = &self.boards[at];
        if board.disk.slot().is_some_and(|slot| slot.versions().any(|held| held == version)) {
            return Err(format!(
                "kept_on_disk: {} deletes {}, which its slot needs",
                board.id,
                version.short()
            ));
        }
        Ok(())
    }

    /// An operation leaves a device's log only when the hub's disk holds it.
    fn invariant_outbox_is_cut_at_the_cursor(&self, at: usize, seq: u64) -> Result<(), String> {
        let board = &self.boards[at];
        // A log over its bound gives way to the document.
        if board.disasters > 0 || self.outbox_bytes() < shoal_proto::sync::LOG_BYTES {
            return Ok(());
        }
        let held = self.hub.disk.links.get(&board.id).and_then(|link| link.cursor);
        if held.is_none_or(|held| held.seq < seq && Some(held.incarnation) == board.disk.link.incarnation) {
            return Err(format!(
                "outbox_is_cut_at_the_cursor: {} forgets up to {seq}, the hub holds {:?}",
                board.id,
                held.map(|held| held.seq)
            ));
        }
        Ok(())
    }

    /// A database goes on under a new incarnation when it was lost, restored or cloned, and never else.
    fn invariant_lives_begin_for_a_reason(&mut self, at: usize) -> Result<(), String> {
        self.counts.reborn += 1;
        let board = &self.boards[at];
        if board.life > 0
            && board.disasters == 0
            && board.seen.generation + board.seen.windows.len() as u64 > 0
        {
            return Err(format!("lives_begin_for_a_reason: {} goes on as another", board.id));
        }
        Ok(())
    }

    /// A version that fails everywhere is tried on the canaries only, unless a trial had nothing to compare with.
    fn invariant_bad_stays_in_the_canary(
        &mut self,
        at: usize,
        version: Digest,
        slot: &Slot,
    ) -> Result<(), String> {
        let it = &self.versions[&version];
        let is_bad = it.quality < BAD || it.kind != Kind::Sound;
        let source = slot.on_trial().filter(|candidate| candidate.version == version).map(|it| &it.source);
        let Some(Source::Hub { rollout: Some(rollout), .. }) = source else { return Ok(()) };
        if !is_bad || self.account.misled.contains(&version) {
            return Ok(());
        }
        let tried = self.account.tried.entry(rollout.clone()).or_default();
        tried.insert(self.boards[at].id.clone());
        if tried.len() > 1 && self.hub.disasters == 0 {
            let name = &it.info.record.name;
            return Err(format!("bad_stays_in_the_canary: {name} is tried on {tried:?} by {rollout}"));
        }
        Ok(())
    }
}

impl Seen {
    fn is_condemned(&self, version: Digest) -> bool {
        self.condemned.contains(&version) || self.banned.contains(&version)
    }
}
