//! The shell of a device: one event, one turn of the core, its effects in order; and how it dies.

use super::builds::Build;
use super::child::Child;
use super::disk::DeviceDisk;
use super::form::Wall;
use super::invariant::{Seen, invariant_persist_comes_first};
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use shoal_agent::core::{Agent, Budget, Conditions, Effect, Event, Policy, Triggers};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Digest};
use shoal_proto::message::Status;
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::topic::Up;
use std::collections::{BTreeMap, VecDeque};

/// Events that may wait while the disk takes no writes, as in the real shell.
const QUEUE: usize = 1_024;
/// Pause before a failed write is tried again, as in the real shell.
const RETRY_MS: u64 = 1_000;

/// One device.
pub(super) struct Board {
    pub(super) id: DeviceId,
    /// A second board with a copy of the first one's card.
    pub(super) is_clone: bool,
    pub(super) disk: DeviceDisk,
    pub(super) backup: Option<DeviceDisk>,
    pub(super) agent: Option<Agent>,
    /// Counts the lives of the process, so that answers to an earlier one are dropped.
    pub(super) life: u64,
    /// When this life began: the monotonic clock starts there.
    pub(super) started: u64,
    pub(super) clock: Wall,
    /// What it showed then.
    started_wall: u64,
    pub(super) linked: bool,
    /// Counts connections: the broker keeps nothing for an earlier one.
    pub(super) session: u64,
    /// What the broker says when the connection is gone.
    will: Vec<u8>,
    /// Until when messages of one direction vanish: up, down.
    pub(super) cut: (u64, u64),
    /// Until when the disk takes no writes.
    pub(super) full_until: u64,
    /// Effects that wait for the disk, and events that wait for them.
    pub(super) todo: VecDeque<Effect>,
    pub(super) inbox: VecDeque<Event>,
    pub(super) serving: Option<Digest>,
    pub(super) children: BTreeMap<u64, Child>,
    pub(super) tick_at: Option<u64>,
    pub(super) conditions: Conditions,
    budget: Budget,
    triggers: Triggers,
    /// Labels that the device's runs learn from are lies.
    pub(super) poisoned: bool,
    /// Databases lost, restored or cloned, here or on the hub's side.
    pub(super) disasters: u64,
    pub(super) seen: Seen,
    /// A run of at least this number must be confirmed after healing.
    pub(super) healed_run: u64,
    /// It was.
    pub(super) trained: bool,
    pub(super) speaks: Build,
    pub(super) commands: u64,
    /// Rows answered and labels given since the device's beginning.
    pub(super) given: (u64, u64),
    /// Whether any of its processes ended without a last word.
    pub(super) crashed: bool,
}

impl Board {
    pub(super) fn new(at: usize, random: &mut ChaCha8Rng) -> Self {
        let labels = random.random_bool(0.5).then(|| random.random_range(30..60));
        Self {
            id: DeviceId::new(format!("d{at}")).expect("a legal name"),
            is_clone: false,
            disk: DeviceDisk::default(),
            backup: None,
            agent: None,
            life: 0,
            started: 0,
            clock: if random.random_bool(0.5) { Wall::True } else { Wall::drawn(random, 0) },
            started_wall: 0,
            linked: false,
            session: 0,
            will: Vec::new(),
            cut: (0, 0),
            full_until: 0,
            todo: VecDeque::new(),
            inbox: VecDeque::new(),
            serving: None,
            children: BTreeMap::new(),
            tick_at: None,
            conditions: Conditions::default(),
            budget: if random.random_bool(0.4) { Budget::USUAL } else { Budget::NONE },
            triggers: Triggers { labels, ..Triggers::default() },
            poisoned: at == 0,
            disasters: 0,
            seen: Seen::default(),
            healed_run: 0,
            trained: false,
            speaks: Build::drawn(random),
            commands: 0,
            given: (0, 0),
            crashed: false,
        }
    }

    /// The same board with a copy of its card, switched off.
    pub(super) fn cloned(&self, random: &mut ChaCha8Rng) -> Self {
        Self {
            id: self.id.clone(),
            is_clone: true,
            disk: self.disk.clone(),
            seen: self.seen.clone(),
            given: self.given,
            triggers: self.triggers,
            ..Self::new(1, random)
        }
    }

    /// The device's name in the trace.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.id, if self.is_clone { "'" } else { "" })
    }
}

impl World {
    pub(super) fn now_of(&self, at: usize) -> Now {
        let board = &self.boards[at];
        let wall = board.clock.read(self.now);
        let mono = match self.mutant {
            Mutant::WallClockDecides => wall.saturating_sub(board.started_wall),
            _ => self.now - board.started,
        };
        Now { mono: Mono::from_millis(mono), wall: WallMs(wall) }
    }

    fn policy(&self, at: usize) -> Policy {
        let (form, board) = (&self.form, &self.boards[at]);
        Policy {
            window_rows: 60,
            window: form.beats(30),
            min_labels: 24,
            cooldown: form.beats(10),
            heartbeat: form.beats(30),
            keep_windows: 8,
            trial: TrialPolicy {
                min_requests: 30,
                min_labels: 12,
                max_s: form.seconds(120),
                shadow_max_s: form.seconds(40),
                ..TrialPolicy::default()
            },
            triggers: board.triggers,
            budget: Budget { max_run: form.beats(60), ..board.budget.clone() },
            outbox_bytes: self.outbox_bytes(),
            ..Policy::new(board.id.clone())
        }
    }

    /// In a third of the histories so little that a log is dropped again and again.
    pub(super) fn outbox_bytes(&self) -> usize {
        if self.seed.is_multiple_of(3) { 20_000 } else { shoal_proto::sync::LOG_BYTES }
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        if self.boards[at].agent.is_some() {
            return Ok(());
        }
        let base = self.versions[&self.pushed[0]].info.clone();
        let seed = self.random.random();
        self.boards[at].started = self.now;
        self.boards[at].started_wall = self.boards[at].clock.read(self.now);
        let (policy, now, mutant) = (self.policy(at), self.now_of(at), self.mutant);
        let board = &mut self.boards[at];
        board.disk.versions.entry(base.version).or_insert_with(|| base.clone());
        board.tick_at = None;
        board.linked = false;
        self.counts.restarts += u64::from(board.life > 0);
        let boot = board.disk.boot(base, seed, mutant);
        board.seen.on_boot(&board.disk);
        let mut effects = Vec::new();
        board.agent = Some(Agent::new(policy, boot, now, &mut effects));
        let (life, name) = (board.life, board.name());
        self.note(&format!("{name} starts, life {life}"));
        self.take(at, effects)?;
        self.go_on(at)?;
        let wait = self.random.random_range(100..3_000);
        self.later(wait, Happening::Link(at, life));
        Ok(())
    }

    /// The process ends without a word: what was under way is gone, what is on disk stays.
    pub(super) fn crash(&mut self, at: usize) {
        self.counts.crashes += 1;
        let off = self.time_off();
        self.end_process(at, true);
        let (name, life) = (self.boards[at].name(), self.boards[at].life);
        self.note(&format!("{name} crashes"));
        self.later(off, Happening::Start(at, life));
    }

    /// How long something is off: mostly a moment, now and then for long.
    pub(super) fn time_off(&mut self) -> u64 {
        let beat = self.form.beat_ms;
        if !self.healed && self.random.random_bool(0.1) {
            self.random.random_range(beat..beat * 40)
        } else {
            self.random.random_range(50..5_000)
        }
    }

    pub(super) fn end_process(&mut self, at: usize, crashed: bool) {
        let now = self.now;
        let left = self.random.random_bool(0.2);
        let board = &mut self.boards[at];
        board.agent = None;
        board.life += 1;
        board.crashed |= crashed;
        board.todo.clear();
        board.inbox.clear();
        board.serving = None;
        board.seen.on_end(now);
        if let Some(made) = board.children.values().find_map(Child::made).filter(|_| left) {
            // Its files were written, and nobody was told.
            board.disk.versions.insert(made.info.version, made.info.clone());
            self.versions.entry(made.info.version).or_insert_with(|| made.clone());
        }
        board.children.clear();
        self.unlink(at, true);
    }

    /// A clean stop: the core's last words go to disk, if it takes them.
    pub(super) fn stop(&mut self, at: usize) -> Result<(), String> {
        let now = self.now_of(at);
        let takes = self.boards[at].full_until <= self.now && self.boards[at].todo.is_empty();
        if let Some(agent) = self.boards[at].agent.as_mut() {
            let mut effects = Vec::new();
            agent.on_stop(now, &mut effects);
            for effect in effects {
                if let Effect::Persist(records) = effect
                    && takes
                {
                    self.commit(at, records)?;
                }
            }
        }
        let name = self.boards[at].name();
        self.note(&format!("{name} stops"));
        self.end_process(at, !takes);
        let (off, life) = (self.time_off(), self.boards[at].life);
        self.later(off, Happening::Start(at, life));
        Ok(())
    }

    pub(super) fn device_event(&mut self, at: usize, event: Event) -> Result<(), String> {
        let board = &mut self.boards[at];
        if board.agent.is_none() {
            return Ok(());
        }
        if board.todo.is_empty() {
            self.turn(at, event)?;
            return self.go_on(at);
        }
        // The loop waits for the disk; the data plane drops rows rather than wait.
        if !matches!(event, Event::Tick | Event::Predicted(_)) && board.inbox.len() < QUEUE {
            board.inbox.push_back(event);
        }
        Ok(())
    }

    fn turn(&mut self, at: usize, event: Event) -> Result<(), String> {
        let now = self.now_of(at);
        let Some(agent) = self.boards[at].agent.as_mut() else { return Ok(()) };
        let mut effects = Vec::new();
        agent.handle(now, event, &mut effects);
        self.take(at, effects)
    }

    fn take(&mut self, at: usize, mut effects: Vec<Effect>) -> Result<(), String> {
        if self.mutant == Mutant::PublishFirst {
            effects.reverse();
        }
        invariant_persist_comes_first(&effects)?;
        self.boards[at].todo.extend(effects);
        Ok(())
    }

    /// Runs what is to be done, until the disk or a crash says no.
    pub(super) fn go_on(&mut self, at: usize) -> Result<(), String> {
        loop {
            while let Some(effect) = self.boards[at].todo.pop_front() {
                let torn = if self.healed { 0.0 } else { self.form.torn };
                if self.chance(torn) {
                    self.counts.torn += 1;
                    if let (Effect::Persist(records), true) = (effect, self.random.random_bool(0.5)) {
                        self.commit(at, records)?; // it was written, and nothing that follows is done
                    }
                    self.crash(at);
                    return Ok(());
                }
                if matches!(effect, Effect::Persist(_)) && self.boards[at].full_until > self.now {
                    let life = self.boards[at].life;
                    self.boards[at].todo.push_front(effect);
                    self.later(RETRY_MS, Happening::Retry(at, life));
                    return Ok(());
                }
                self.device_effect(at, effect)?;
            }
            match self.boards[at].inbox.pop_front() {
                Some(event) => self.turn(at, event)?,
                None => break,
            }
        }
        self.invariant_kept_on_disk(at)?;
        self.set_tick(at);
        Ok(())
    }

    fn set_tick(&mut self, at: usize) {
        let now = self.now_of(at);
        let board = &mut self.boards[at];
        let Some(agent) = &board.agent else { return };
        let wait = u64::try_from(agent.next_deadline().since(now.mono).as_millis()).unwrap_or(u64::MAX);
        let due = self.now + wait.clamp(20, 3_600_000);
        if board.tick_at.is_none_or(|set| set > due) {
            board.tick_at = Some(due);
            let life = board.life;
            self.later(due - self.now, Happening::DeviceTick(at, life));
        }
    }

    /// The broker takes the device; another one of its name is thrown out.
    pub(super) fn link(&mut self, at: usize) -> Result<(), String> {
        if self.boards[at].agent.is_none() || self.boards[at].linked || !self.broker_up {
            return Ok(());
        }
        let id = self.boards[at].id.clone();
        let others: Vec<usize> =
            (0..self.boards.len()).filter(|other| *other != at && self.boards[*other].id == id).collect();
        for other in others {
            self.drop_link(other)?;
        }
        let board = &mut self.boards[at];
        board.linked = true;
        board.session += 1;
        let name = board.name();
        self.note(&format!("{name} link up"));
        self.say_online(at);
        self.device_event(at, Event::LinkUp)
    }

    /// Birth, and the last will that the broker keeps.
    fn say_online(&mut self, at: usize) {
        let board = &self.boards[at];
        let Some(agent) = &board.agent else { return };
        let word = Status { online: true, boot: agent.boot(), incarnation: agent.incarnation() };
        let frame = shoal_proto::wire::encode(&word).unwrap_or_default();
        let will = Status { online: false, ..word };
        self.boards[at].will = shoal_proto::wire::encode(&will).unwrap_or_default();
        self.send_up(at, Up::Status, frame);
    }

    /// The connection is gone, and the device notices.
    pub(super) fn drop_link(&mut self, at: usize) -> Result<(), String> {
        if !self.boards[at].linked {
            return Ok(());
        }
        self.unlink(at, self.broker_up);
        let (name, life) = (self.boards[at].name(), self.boards[at].life);
        self.note(&format!("{name} link down"));
        let wait = self.random.random_range(500..self.form.beat_ms * 10);
        self.later(wait, Happening::Link(at, life));
        self.device_event(at, Event::LinkDown)
    }

    /// The connection is gone; the broker tells the last will, later.
    pub(super) fn unlink(&mut self, at: usize, will: bool) {
        if !std::mem::replace(&mut self.boards[at].linked, false) {
            return;
        }
        if will {
            let will = self.boards[at].will.clone();
            self.last_will(at, will);
        }
    }
}
