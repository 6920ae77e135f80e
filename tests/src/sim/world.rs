//! The world: a virtual clock, a lossy network, and processes that crash.

use super::disk::{DeviceDisk, HubDisk};
use super::invariant::{Seen, invariant_persist_comes_first};
use super::models::{NAME, Version, changed};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_agent::core::{
    self as device, Agent, Asked, Effect, Event, Labelled, Observation, Policy, Trained, Truth,
};
use shoal_hub::core::{self as hub, Hub, Request};
use shoal_proto::decision::{Evidence, ShadowSeen};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_watch::answer::GroupCodes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Virtual seconds of trouble.
const TROUBLE_S: u64 = 600;
/// Virtual seconds within which a healed world must come to rest.
const REST_S: u64 = 3_600;
/// Lines of the trace that are kept.
const TRACE: usize = 40;

/// A fault planted on purpose, to prove that the simulator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    Nothing,
    /// Writes of devices are said to be on disk and are not.
    DiskLies,
    /// Effects before the write they depend on.
    PublishFirst,
    /// The hub takes all devices for canaries.
    NoCanary,
    /// A device serves what admission has refused.
    AdmitAll,
}

/// What a history came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Events handled.
    pub events: u64,
    /// Devices on which the bad version served.
    pub bad_served_on: usize,
    /// Versions trained on devices that were confirmed or tried.
    pub runs: usize,
    /// Crashes of devices and of the hub.
    pub crashes: u64,
    /// Messages lost or doubled.
    pub meddled: u64,
}

#[derive(Debug)]
pub(super) enum Happening {
    Device(usize, u64, Box<Event>),
    ToHub(String, Vec<u8>),
    Rows(usize),
    Fault,
    Rollout(usize),
    HubTick,
    DeviceTick(usize, u64),
}

pub(super) struct Board {
    pub(super) id: DeviceId,
    pub(super) disk: DeviceDisk,
    pub(super) agent: Option<Agent>,
    /// Counts the lives, so that answers to an earlier one are dropped.
    pub(super) life: u64,
    pub(super) linked: bool,
    pub(super) serving: Option<Digest>,
    pub(super) poisoned: bool,
}

/// One history.
pub struct World {
    pub(super) seed: u64,
    pub(super) random: ChaCha8Rng,
    pub(super) now: u64,
    pub(super) queue: BTreeMap<(u64, u64), Happening>,
    pub(super) order: u64,
    pub(super) boards: Vec<Board>,
    pub(super) hub: Hub,
    pub(super) hub_disk: HubDisk,
    pub(super) versions: BTreeMap<Digest, Version>,
    pub(super) pushed: Vec<Digest>,
    pub(super) seen: Seen,
    pub(super) trace: VecDeque<String>,
    pub(super) healed: bool,
    pub(super) quiet: bool,
    pub(super) loss: f64,
    pub(super) sabotage: Sabotage,
    pub(super) canary: u32,
    pub(super) outcome: Outcome,
    pub(super) requests: u64,
    asked: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now_ms", &self.now).finish_non_exhaustive()
    }
}

impl World {
    /// Draws fleet, schedule and faults.
    #[must_use]
    pub fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let count = random.random_range(2..6);
        let loss = random.random_range(0.0..0.4);
        let hub = Hub::restore(hub::Policy::default(), hub::Saved::default(), seed);
        let boards = (0..count).map(|at| Board {
            id: DeviceId::new(format!("d{at}")).expect("a legal name"),
            disk: DeviceDisk::default(),
            agent: None,
            life: 0,
            linked: false,
            serving: None,
            poisoned: at == 0,
        });
        let mut world = Self {
            seed,
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            boards: boards.collect(),
            hub,
            hub_disk: HubDisk::default(),
            versions: BTreeMap::new(),
            pushed: Vec::new(),
            seen: Seen::default(),
            trace: VecDeque::new(),
            healed: false,
            quiet: false,
            loss,
            sabotage,
            canary: if sabotage == Sabotage::NoCanary { 100 } else { 1 },
            outcome: Outcome { events: 0, bad_served_on: 0, runs: 0, crashes: 0, meddled: 0 },
            requests: 0,
            asked: 0,
            random,
        };
        for (number, quality, admissible) in
            [(1, 0.85, true), (2, 0.9, true), (3, 0.2, true), (4, 0.9, false)]
        {
            let version = Version::new(number, None, quality, admissible);
            world.pushed.push(version.info.version);
            world.versions.insert(version.info.version, version);
        }
        world
    }

    /// Plays the whole history; the error names the invariant and ends with the last of the trace.
    pub fn play(mut self) -> Result<Outcome, String> {
        self.play_inner().map_err(|broken| {
            let trace: Vec<String> = self.trace.iter().cloned().collect();
            format!(
                "seed {}: {broken}\n{}\nagain: SHOAL_SEED={} cargo test -p shoal-tests sim",
                self.seed,
                trace.join("\n"),
                self.seed
            )
        })?;
        Ok(self.outcome)
    }

    fn play_inner(&mut self) -> Result<(), String> {
        self.hub_event(hub::Event::BrokerUp)?;
        for version in self.pushed.clone() {
            let registered = self.versions[&version].registered();
            self.request(Request::PushModel(Box::new(registered)))?;
        }
        for at in 0..self.boards.len() {
            self.start(at)?;
            self.later(1_000, Happening::Rows(at));
        }
        self.later(5_000, Happening::Fault);
        self.later(1_000, Happening::HubTick);
        for (at, seconds) in [(1, 100), (2, 250), (3, 400)] {
            self.later(seconds * 1_000, Happening::Rollout(at));
        }
        self.run_until(TROUBLE_S * 1_000)?;
        self.healed = true;
        for at in 0..self.boards.len() {
            if self.boards[at].agent.is_none() {
                self.start(at)?;
            }
            self.link(at, true)?;
        }
        let bound = self.now + REST_S * 1_000;
        while self.now < bound && !self.are_rollouts_over() {
            let step = self.now + 5_000;
            self.run_until(step)?;
        }
        self.quiet = true; // trials need rows; when they are over, the world may come to rest
        while self.now < bound && !self.is_at_rest() {
            let step = self.now + 5_000;
            self.run_until(step)?;
        }
        self.invariant_all_is_told()?;
        self.outcome.bad_served_on = self.seen.served_on(self.pushed[2]);
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Mono::from_millis(self.now), wall: WallMs(1_800_000_000_000 + self.now) }
    }

    pub(super) fn later(&mut self, ms: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + ms, self.order), what);
    }

    pub(super) fn note(&mut self, line: String) {
        self.trace.push_back(format!("{:>8} ms  {line}", self.now));
        while self.trace.len() > TRACE {
            self.trace.pop_front();
        }
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), what) = entry.remove_entry();
            self.now = self.now.max(at);
            self.outcome.events += 1;
            self.happen(what)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        match what {
            Happening::Device(at, life, event) if self.boards[at].life == life => {
                self.device_event(at, *event)
            }
            Happening::DeviceTick(at, life) if self.boards[at].life == life => {
                self.device_event(at, Event::Tick)
            }
            Happening::Device(..) | Happening::DeviceTick(..) => Ok(()),
            Happening::ToHub(topic, bytes) => {
                self.hub_event(hub::Event::DeviceFrame { topic, retained: false, bytes })
            }
            Happening::Rows(at) => self.rows(at),
            Happening::Fault => self.fault(),
            Happening::Rollout(at) => self.roll_out(at),
            Happening::HubTick => {
                self.later(1_000, Happening::HubTick);
                self.hub_event(hub::Event::Tick)
            }
        }
    }

    fn policy(&self, id: &DeviceId) -> Policy {
        Policy {
            window_rows: 60,
            min_labels: 40,
            cooldown: Duration::from_secs(20),
            heartbeat: Duration::from_secs(30),
            keep_windows: 8,
            trial: TrialPolicy { min_requests: 30, min_labels: 20, max_s: 120, ..TrialPolicy::default() },
            ..Policy::new(id.clone())
        }
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let base = self.versions[&self.pushed[0]].info.clone();
        let seed = self.random.random();
        let policy = self.policy(&self.boards[at].id);
        let now = self.now();
        let board = &mut self.boards[at];
        board.disk.versions.entry(base.version).or_insert_with(|| base.clone());
        board.life += 1;
        board.linked = false;
        board.serving = None;
        let boot = board.disk.boot(base, seed);
        let mut effects = Vec::new();
        board.agent = Some(Agent::new(policy, boot, now, &mut effects));
        let life = board.life;
        self.note(format!("d{at} starts, life {life}"));
        self.device_effects(at, effects)?;
        self.later(500, Happening::DeviceTick(at, life));
        self.link(at, true)
    }

    fn link(&mut self, at: usize, up: bool) -> Result<(), String> {
        if self.boards[at].agent.is_none() || self.boards[at].linked == up {
            return Ok(());
        }
        self.boards[at].linked = up;
        self.note(format!("d{at} link {}", if up { "up" } else { "down" }));
        self.device_event(at, if up { Event::LinkUp } else { Event::LinkDown })
    }

    fn device_event(&mut self, at: usize, event: Event) -> Result<(), String> {
        let now = self.now();
        let Some(agent) = self.boards[at].agent.as_mut() else { return Ok(()) };
        let is_tick = matches!(event, Event::Tick);
        let mut effects = Vec::new();
        agent.handle(now, event, &mut effects);
        if is_tick {
            let due = agent.next_deadline().since(now.mono).as_millis();
            let (wait, life) = (u64::try_from(due).unwrap_or(5_000).clamp(100, 5_000), self.boards[at].life);
            self.later(wait, Happening::DeviceTick(at, life));
        }
        self.device_effects(at, effects)
    }

    fn device_effects(&mut self, at: usize, mut effects: Vec<Effect>) -> Result<(), String> {
        if self.sabotage == Sabotage::PublishFirst {
            effects.reverse();
        }
        invariant_persist_comes_first(&effects)?;
        for effect in effects {
            self.device_effect(at, effect)?;
        }
        Ok(())
    }

    fn device_effect(&mut self, at: usize, effect: Effect) -> Result<(), String> {
        let (life, id) = (self.boards[at].life, self.boards[at].id.clone());
        match effect {
            Effect::Persist(records) => {
                if self.sabotage != Sabotage::DiskLies {
                    self.seen.invariant_windows_are_sealed_once(&id, &records)?;
                }
                let lies = self.sabotage == Sabotage::DiskLies && self.random.random_bool(0.05);
                if !lies {
                    self.boards[at].disk.commit(records);
                }
            }
            Effect::Publish { topic, frame } => self.send_to_hub(at, topic, frame),
            Effect::Fetch { model, generation, version, .. } => {
                let delay = self.random.random_range(100..20_000);
                let info = self.versions[&version].info.clone();
                self.boards[at].disk.versions.insert(version, info.clone());
                let fetched = Event::Fetched { model, generation, outcome: Ok(info) };
                self.later(delay, Happening::Device(at, life, Box::new(fetched)));
            }
            Effect::Admit { version } => {
                let ok = self.versions[&version].admissible || self.sabotage == Sabotage::AdmitAll;
                if self.versions[&version].admissible {
                    self.seen.admitted(&id, version);
                }
                let outcome = if ok { Ok(()) } else { Err("the engine panics on it".to_owned()) };
                let delay = self.random.random_range(10..2_000);
                self.later(
                    delay,
                    Happening::Device(at, life, Box::new(Event::Admitted { version, outcome })),
                );
            }
            Effect::Serve { model, version } => {
                self.seen.invariant_admitted_before_served(&id, version)?;
                self.seen.invariant_bad_stays_in_the_canary(&id, &self.versions[&version], 1)?;
                self.note(format!("d{at} serves {}", self.versions[&version].info.record.name));
                self.boards[at].serving = Some(version);
                self.later(
                    50,
                    Happening::Device(at, life, Box::new(Event::Serving { model, version, outcome: Ok(()) })),
                );
            }
            Effect::Train(job) => {
                let delay = self.random.random_range(500..30_000);
                let outcome = self.train(at, &job);
                self.later(
                    delay,
                    Happening::Device(
                        at,
                        life,
                        Box::new(Event::TrainingEnded { run: job.run, outcome: outcome.map_err(Into::into) }),
                    ),
                );
            }
            Effect::Remove { version } => drop(self.boards[at].disk.versions.remove(&version)),
            Effect::Note(said) => self.note(format!("d{at} {said:?}").chars().take(160).collect()),
            Effect::Sense => {
                let seen = Box::new(Event::Conditions(device::Conditions::default()));
                self.later(20, Happening::Device(at, life, seen));
            }
            Effect::Shadow { model, version } => {
                let rows = self.random.random_range(1..200);
                let seen = ShadowSeen { rows, ..ShadowSeen::default() };
                let stands = Event::Shadowing { model: model.clone(), version, outcome: Ok(None) };
                self.later(50, Happening::Device(at, life, Box::new(stands)));
                let shadowed = Event::Shadowed { model, version, seen };
                self.later(1_000, Happening::Device(at, life, Box::new(shadowed)));
            }
            Effect::EndShadow { .. }
            | Effect::PauseTraining { .. }
            | Effect::ResumeTraining { .. }
            | Effect::Announce(_)
            | Effect::TellFinding(_)
            | Effect::TellHealth(_)
            | Effect::Reply { .. }
            | Effect::StopTraining { .. } => {}
        }
        Ok(())
    }

    /// A candidate that is better, or (on the poisoned device) one that has forgotten the guard set.
    fn train(&mut self, at: usize, job: &device::TrainJob) -> Result<Trained, String> {
        if self.random.random_bool(0.1) {
            return Err("killed by signal 9".into());
        }
        let poisoned = self.boards[at].poisoned;
        let quality = if poisoned { 0.3 } else { 0.95 };
        let born = Some((&job.device, u32::try_from(job.run).unwrap_or(0) + 1, job.parent));
        let version = Version::new(1, born, quality, true);
        let candidate = version.info.clone();
        self.outcome.runs += 1;
        self.versions.insert(candidate.version, version);
        self.boards[at].disk.versions.insert(candidate.version, candidate.clone());
        let evidence = Evidence {
            trained_rows: 100,
            holdout_rows: 100,
            champion_correct: 60,
            candidate_correct: 90,
            only_champion: 0,
            only_candidate: 30,
            guard_rows: 100,
            guard_champion_correct: 95,
            guard_candidate_correct: if poisoned { 30 } else { 94 },
            classes: vec![(50, 30, 45), (50, 30, 45)],
            training_set: job.parent,
            measured: None,
        };
        Ok(Trained { candidate, evidence, how: Box::default() })
    }

    /// Ten rows and their labels; after a while the world drifts.
    fn rows(&mut self, at: usize) -> Result<(), String> {
        self.later(1_000, Happening::Rows(at));
        let alive = self.boards[at].agent.is_some() && !self.quiet;
        let Some(version) = self.boards[at].serving.filter(|_| alive) else {
            return Ok(());
        };
        let model = ModelName::new(NAME).expect("a legal name");
        let drifted = self.now > 60_000;
        let quality = self.versions[&version].quality_when(drifted);
        let mut rows = Vec::new();
        for _ in 0..10 {
            let value: f64 = self.random.random_range(0.0..100.0);
            #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
            let value = if drifted { changed(value) } else { value } as f32;
            let class = Some(u32::from(self.random.random_bool(0.5)));
            self.asked += 1;
            rows.push(Observation {
                place: None,
                model: model.clone(),
                version,
                asked: Asked { life: 1, number: self.asked },
                at: Mono::from_millis(self.now),
                features: vec![value].into(),
                class,
                confidence: 0.95,
                values: [0.05, 0.95].into(),
                embedding: [].into(),
                groups: GroupCodes::default(),
            });
        }
        self.device_event(at, Event::Predicted(rows.clone()))?;
        for row in rows.into_iter().take(5) {
            let right = self.random.random_bool(quality);
            let said = row.class.unwrap_or_default();
            let truth = Truth::Class(if right { said } else { 1 - said });
            let Observation { model, asked, features, class, confidence, values, groups, .. } = row;
            let label =
                Labelled { model, version, asked, features, class, confidence, values, truth, groups };
            self.device_event(at, Event::Labelled(label))?;
        }
        Ok(())
    }

    /// A crash, a restart, or a link that goes or comes.
    fn fault(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let next = self.random.random_range(2_000..20_000);
        self.later(next, Happening::Fault);
        let at = self.random.random_range(0..self.boards.len());
        match self.random.random_range(0..10) {
            0 => {
                self.note("hub crashes and restarts".into());
                self.outcome.crashes += 1;
                self.hub = Hub::restore(hub::Policy::default(), self.hub_disk.saved(), self.now);
                self.hub_event(hub::Event::BrokerUp)?;
                for board in 0..self.boards.len() {
                    self.link(board, false)?;
                    self.link(board, true)?;
                }
                Ok(())
            }
            1..=3 => {
                self.note(format!("d{at} crashes"));
                self.outcome.crashes += 1;
                self.boards[at].agent = None;
                self.start(at)
            }
            _ => {
                let up = !self.boards[at].linked;
                self.link(at, up)
            }
        }
    }
}
