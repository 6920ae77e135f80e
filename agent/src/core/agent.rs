//! The device's state, and where each event goes.

mod assignments;
mod commands;
mod failing;
mod lineage;
mod link;
mod lives;
mod pacing;
mod remote;
mod run;
mod shadowing;
mod slots;
mod status;
mod training;
mod triggers;
mod waiting;
mod watching;

#[cfg(test)]
mod assignments_tests;
#[cfg(test)]
mod lineage_tests;
#[cfg(test)]
mod pacing_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod shadow_tests;
#[cfg(test)]
mod training_tests;
#[cfg(test)]
mod trial_tests;

pub use lineage::{Lineage, Mark, Node};
pub use status::{ModelStatus, Status, TrainingStatus};
pub use waiting::Waiting;

use super::effect::{Effect, Record};
use super::event::{Command, Event, VersionInfo};
use super::policy::Policy;
use super::slot::Slot;
use super::trial::Errors;
use lives::{LIVES, Lives};
use pacing::Pacing;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use run::{Run, Wanted};
use shoal_proto::document::{Document, Entry};
use shoal_proto::fact::{Count, Fact, Facts, Inventory};
use shoal_proto::finding::ModelHealth;
use shoal_proto::id::{Digest, Incarnation, ModelName, Replica, Side};
use shoal_proto::message::Cursor;
use shoal_proto::summary::WindowId;
use shoal_proto::sync::{Log, Peer};
use shoal_proto::time::{Hlc, Mono, Now};
use shoal_proto::wire::{from_cbor, to_cbor};
use shoal_watch::Watch;
use std::collections::{BTreeMap, BTreeSet};

/// Heartbeats from one writing of the monitors to the next, beside those at closes and findings: their state is
/// up to some hundred kilobytes, and flash wears. What a crash takes are half an hour's counts, and no label.
const BEATS_A_WATCH: u32 = 6;
/// Heartbeats from one report of counters and health to the next at most; a window's close is one too. Between them the hub has a short sign of life; a
/// report of each would be most of what a device sends.
const BEATS_A_REPORT: u32 = 12;

/// What the shell found on disk.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The present life of the database; `None`: it is new.
    pub incarnation: Option<Incarnation>,
    /// Starts of the process so far.
    pub boot: u64,
    /// The hybrid clock.
    pub clock: Hlc,
    /// Our log: the last acknowledged position and what follows.
    pub base: (u64, shoal_proto::op::Chain),
    /// Our log's operations.
    pub ops: Vec<shoal_proto::op::Op>,
    /// The document.
    pub entries: Vec<Entry>,
    /// Where we stand in the hub's log.
    pub cursor: Option<Cursor>,
    /// Earlier incarnations of the hub's.
    pub sealed: BTreeSet<Incarnation>,
    /// The core's own memory.
    pub memory: BTreeMap<String, Vec<u8>>,
    /// Every version on disk.
    pub versions: Vec<VersionInfo>,
    /// What the operator's configuration names, in order.
    pub configured: Vec<VersionInfo>,
    /// Entropy, drawn by the shell.
    pub seed: u64,
}

/// The core of a device.
#[derive(Debug)]
pub struct Agent {
    policy: Policy,
    boot: u64,
    peer: Peer,
    document: Document,
    models: BTreeMap<ModelName, Model>,
    versions: BTreeMap<Digest, VersionInfo>,
    admitted: BTreeSet<Digest>,
    /// Versions that an operator keeps.
    pinned: BTreeSet<Digest>,
    /// Versions that no slot needs, in the order in which they were left.
    retired: Vec<Digest>,
    counts: BTreeMap<Count, u64>,
    next_window: u64,
    /// The first window that the hub is not known to have.
    untold: u64,
    lives: Lives,
    next_run: u64,
    pacing: Pacing,
    next_heartbeat: Mono,
    /// What is being fetched, and under which generation.
    fetching: BTreeMap<ModelName, (u64, Digest)>,
    /// Heartbeats in this life.
    beats: u32,
    /// When counters and health were last written.
    reported: Mono,
    /// While the link is up and the hub has not answered: when hello is said again, and how often it was.
    hello: Option<(Mono, u32)>,
    random: StdRng,
}

/// One model: what is kept on disk, and what is only of this life.
#[derive(Debug)]
struct Model {
    slot: Slot,
    watch: Watch,
    run: Option<Run>,
    /// Since when the run is as it is (it goes, or it rests), in this life.
    run_since: Mono,
    /// A run that waits until it may start.
    wanted: Option<Wanted>,
    /// Up to when the time since the last run is in the slot.
    noted: Mono,
    window_opened: Mono,
    /// Requests that failed inside the champion in the open window, in this life.
    failures: u64,
    /// Since when the present candidate serves in this life.
    trial_since: Mono,
    /// Since when the present candidate stands in the shadow in this life; `None`: it is not loaded there.
    shadow_since: Option<Mono>,
    /// How far off the champion's answers were in this life, where it answers with numbers.
    errors: Errors,
    /// Whether the version that should serve does.
    serving: bool,
    /// Whether it was found that it cannot.
    is_broken: bool,
    /// The health that was told last.
    told: Option<ModelHealth>,
    /// Whether any version has served in this life; the one before goes on until a swap is done.
    answering: bool,
}

/// What a turn gathers: records are on disk before any effect is run.
#[derive(Debug, Default)]
struct Turn {
    records: Vec<Record>,
    effects: Vec<Effect>,
}

impl Turn {
    fn remember<T: serde::Serialize>(&mut self, key: &str, value: &T) {
        self.records.push(Record::Memory { key: key.to_owned(), value: to_cbor(value) });
    }

    fn finish(self, effects: &mut Vec<Effect>) {
        if !self.records.is_empty() {
            effects.push(Effect::Persist(self.records));
        }
        effects.extend(self.effects);
    }
}

impl Agent {
    /// A device as its disk held it; `effects` are the first to be run.
    #[must_use]
    pub fn new(policy: Policy, boot: Boot, now: Now, effects: &mut Vec<Effect>) -> Self {
        let mut random = StdRng::seed_from_u64(boot.seed);
        let mut turn = Turn::default();
        let fresh = Incarnation(random.next_u64().max(1));
        let replica = Replica { side: Side::Device, incarnation: boot.incarnation.unwrap_or(fresh) };
        let log = Log::restore(replica, boot.clock, boot.base, boot.ops);
        let mut peer = Peer::new(log, boot.cursor, boot.sealed).with_log_bytes(policy.outbox_bytes);
        if boot.incarnation.is_none() {
            // A database that is new or was restored: what it lacks comes back with the hub's whole document.
            let mut records = Vec::new();
            peer.reborn(now.mono, fresh, &mut records);
            turn.records.extend(records.into_iter().map(Record::Link));
        }
        let mut document = Document::default();
        for entry in boot.entries {
            document.join(entry);
        }
        let memory = |key: &str| boot.memory.get(key);
        let number = |key: &str| memory(key).and_then(|bytes| from_cbor(bytes).ok()).unwrap_or(0);
        let counts: BTreeMap<String, u64> =
            memory("counts").and_then(|bytes| from_cbor(bytes).ok()).unwrap_or_default();
        let mut agent = Self {
            next_window: number("next_window"),
            next_run: number("next_run"),
            lives: memory(LIVES).and_then(|bytes| from_cbor(bytes).ok()).unwrap_or_default(),
            admitted: memory("admitted").and_then(|bytes| from_cbor(bytes).ok()).unwrap_or_default(),
            pinned: memory("pinned").and_then(|bytes| from_cbor(bytes).ok()).unwrap_or_default(),
            retired: memory("retired").and_then(|bytes| from_cbor(bytes).ok()).unwrap_or_default(),
            counts: shoal_proto::fact::COUNTS
                .iter()
                .filter_map(|(count, key)| Some((*count, *counts.get(*key)?)))
                .collect(),
            pacing: Pacing::new(memory("written").and_then(|bytes| from_cbor(bytes).ok())),
            peer,
            untold: number("untold"),
            document,
            models: BTreeMap::new(),
            versions: boot.versions.into_iter().map(|info| (info.version, info)).collect(),
            next_heartbeat: now.mono.after(policy.heartbeat),
            fetching: BTreeMap::new(),
            beats: 1,
            reported: now.mono,
            boot: boot.boot,
            hello: None,
            policy,
            random,
        };
        agent.begin_life(&mut turn);
        agent.write_inventory(now, &mut turn);
        agent.restore_models(&boot.memory, &boot.configured, now, &mut turn);
        agent.resume_commands(&mut turn);
        turn.finish(effects);
        agent
    }

    /// Takes one event and says what shall happen.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let mut turn = Turn::default();
        match event {
            Event::Tick => {}
            Event::Predicted(rows) => self.on_predicted(now, &rows, &mut turn),
            Event::Failed { model, version, requests } => {
                self.on_failed(now, &model, version, requests, &mut turn);
            }
            Event::Stalled { model, version } => self.on_stalled(now, &model, version, &mut turn),
            Event::Misfit { model, version, requests } => {
                self.on_misfit(now, &model, version, requests, &mut turn);
            }
            Event::Captured { rows, dropped } => {
                self.count(Count::Captured, rows);
                self.count(Count::CaptureDropped, dropped);
            }
            Event::Labelled(label) => self.on_labelled(now, &label, &mut turn),
            Event::BadMessage => self.count(Count::BadMessages, 1),
            Event::LinkUp => self.on_link_up(now, &mut turn),
            Event::LinkDown => {
                self.peer.on_disconnected();
                self.hello = None;
            }
            Event::FromHub(frame) => self.on_frame(now, &frame, &mut turn),
            Event::Fetched { model, generation, outcome } => {
                self.on_fetched(now, &model, generation, outcome, &mut turn);
            }
            Event::Installed { command, outcome } => {
                let outcome = outcome.and_then(|info| self.on_installed(now, info, &mut turn));
                turn.effects.push(Effect::Reply { number: command, outcome });
            }
            Event::Conditions(seen) => self.on_conditions(now, &seen),
            Event::TrainingEnded { run, outcome } => self.on_training_ended(now, run, outcome, &mut turn),
            Event::Admitted { version, outcome } => self.on_admitted(now, version, outcome, &mut turn),
            Event::Serving { model, version, outcome } => {
                self.on_serving(now, &model, version, outcome, &mut turn);
            }
            Event::Shadowing { model, version, outcome } => {
                self.on_shadowing(now, &model, version, outcome, &mut turn);
            }
            Event::Shadowed { model, version, seen } => self.on_shadowed(&model, version, &seen),
            Event::ShadowStalled { model, version } => {
                self.on_shadow_stalled(now, &model, version, &mut turn);
            }
            Event::Remote { place, id, outcome } => self.on_remote(now, (place, id), outcome, &mut turn),
            Event::Command { number, command } => {
                let outcome = self.on_command(now, &command, &mut turn);
                turn.effects.push(Effect::Reply { number, outcome });
            }
        }
        self.on_time(now, &mut turn);
        self.stop_fetches(&mut turn);
        self.speak(now, &mut turn);
        turn.finish(effects);
    }

    /// The process is about to end: what only memory holds goes to disk.
    pub fn on_stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut turn = Turn::default();
        self.write_counts(now, &mut turn);
        self.write_written(now, &mut turn);
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in &names {
            if let Some(model) = self.models.get_mut(name) {
                model.note_serving_time(now.mono);
                model.note_shadow_time(now.mono);
            }
            self.note_run_time(now, name, &mut turn);
            self.tell_labels(now, name, &mut turn);
            self.remember_model(name, &mut turn);
        }
        turn.finish(effects);
    }

    /// Who we are.
    #[must_use]
    pub fn device(&self) -> &shoal_proto::id::DeviceId {
        &self.policy.device
    }

    /// The present life of the database.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.peer.log.replica.incarnation
    }

    /// Starts of the process.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let windows = self.models.values().map(|model| model.window_opened.after(self.policy.window));
        let trials = self.models.values().filter_map(Model::trial_ends);
        let shadows = self.models.values().filter_map(Model::shadow_ends);
        let silences = self.models.values().filter_map(Model::silent_at);
        let link = self.peer.next_deadline();
        let hello = self.hello.map(|(at, _)| at);
        let runs = self.run_deadlines();
        windows
            .chain(trials)
            .chain(shadows)
            .chain(silences)
            .chain(link)
            .chain(hello)
            .chain(runs)
            .fold(self.next_heartbeat, Mono::min)
    }

    fn on_command(&mut self, now: Now, command: &Command, turn: &mut Turn) -> Result<String, String> {
        match command {
            Command::Train { model } => self.on_train_command(now, model, turn),
            Command::CancelTraining { model } => self.on_cancel_command(now, model, turn),
            Command::Rollback { model } => self.on_rollback_command(now, model, turn),
            Command::Promote { model, version } => self.on_promote_command(now, model, *version, turn),
            Command::Lift { version } => self.on_lift_command(now, *version, turn),
            Command::Pin { version, pinned } => self.on_pin_command(*version, *pinned, turn),
        }
    }

    fn on_time(&mut self, now: Now, turn: &mut Turn) {
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in &names {
            let due = self.models.get(name).is_some_and(|model| {
                model.watch.rows() >= self.policy.window_rows
                    || (model.watch.rows() > 0 && now.mono.since(model.window_opened) >= self.policy.window)
            });
            if due {
                self.close_window(now, name, turn);
            } else if let Some(model) = self.models.get_mut(name)
                && now.mono.since(model.window_opened) >= self.policy.window
            {
                model.window_opened = now.mono;
            }
            if self.models.get(name).is_some_and(|model| model.silent_at().is_some_and(|at| now.mono >= at)) {
                self.listen(now, name, turn);
            }
            self.judge_shadow(now, name, turn);
            self.judge_trial(now, name, turn);
        }
        self.pace(now, &names, turn);
        if now.mono >= self.next_heartbeat {
            self.next_heartbeat = now.mono.after(self.policy.heartbeat);
            self.beat(now, turn);
            self.write_written(now, turn);
            for name in &names {
                if let Some(model) = self.models.get_mut(name) {
                    model.note_serving_time(now.mono);
                    model.note_shadow_time(now.mono);
                }
                self.note_run_time(now, name, turn);
                if self.beats.is_multiple_of(BEATS_A_WATCH) {
                    self.remember_model(name, turn);
                } else {
                    self.remember_only_slot(name, turn);
                }
                if self.policy.triggers.every.is_some() {
                    self.consider_training(now, name, turn);
                }
            }
            self.beats += 1;
        }
    }

    fn fact(&mut self, now: Now, fact: Fact, turn: &mut Turn) {
        let (kind, key, value) = fact.into_parts();
        let mut records = Vec::new();
        self.peer.write(&mut self.document, now.wall, kind, key, value, &mut records);
        turn.records.extend(records.into_iter().map(Record::Link));
    }

    fn facts(&self) -> Facts<'_> {
        Facts(&self.document)
    }

    fn count(&mut self, count: Count, by: u64) {
        *self.counts.entry(count).or_default() += by;
    }

    /// Writes the counters that moved; the totals are of this replica's whole life.
    fn write_counts(&mut self, now: Now, turn: &mut Turn) {
        let moved: Vec<(Count, u64)> = self
            .counts
            .iter()
            .filter(|(count, total)| self.facts().count(**count) < **total)
            .map(|(count, total)| (*count, *total))
            .collect();
        if moved.is_empty() {
            return;
        }
        for (count, total) in moved {
            let written_by_others = self.document_others(count);
            self.fact(now, Fact::Counter(count, total.saturating_sub(written_by_others)), turn);
        }
        self.remember_counts(turn);
    }

    /// Keeps the counters on disk: what a crash takes is a heartbeat's worth.
    fn remember_counts(&self, turn: &mut Turn) {
        let named: BTreeMap<&str, u64> = self.counts.iter().map(|(count, n)| (count.key(), *n)).collect();
        turn.remember("counts", &named);
        turn.remember("untold", &self.untold);
    }

    /// What earlier incarnations of this device counted: our own totals go on from there.
    fn document_others(&self, count: Count) -> u64 {
        self.facts().count(count).saturating_sub(self.document.count_of(
            shoal_proto::fact::COUNTER,
            count.key(),
            &self.peer.log.replica,
        ))
    }

    fn write_inventory(&mut self, now: Now, turn: &mut Turn) {
        let inventory = Inventory {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            tags: self.policy.tags.clone(),
        };
        if self.facts().inventory().as_ref() != Some(&inventory) {
            self.fact(now, Fact::Inventory(inventory), turn);
        }
    }

    fn next_window_id(&mut self, turn: &mut Turn) -> WindowId {
        let number = self.next_window;
        self.next_window += 1;
        turn.remember("next_window", &self.next_window);
        WindowId { incarnation: self.peer.log.replica.incarnation, number }
    }

    fn fresh_incarnation(&mut self) -> Incarnation {
        Incarnation(self.random.next_u64().max(1))
    }
}
