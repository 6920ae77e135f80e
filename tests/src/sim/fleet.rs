//! The shell of the hub, and its operator.

use super::act::model;
use super::disk::HubDisk;
use super::form::Wall;
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_hub::core::command::CommandWish;
use shoal_hub::core::rollout::{AbortMode, AbortThreshold, RolloutWish, Strategy};
use shoal_hub::core::{self as hub, Effect, Event, Hub, Record, Request};
use shoal_proto::command::Ask;
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::RolloutId;
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::topic::Topic;
use std::collections::BTreeMap;

/// The hub as a process.
pub(super) struct HubSide {
    pub(super) hub: Option<Hub>,
    pub(super) disk: HubDisk,
    pub(super) backup: Option<HubDisk>,
    /// Counts the lives of the process.
    pub(super) life: u64,
    started: u64,
    pub(super) clock: Wall,
    pub(super) linked: bool,
    /// Counts connections to the broker.
    pub(super) session: u64,
    tick_at: Option<u64>,
    pub(super) full_until: u64,
    /// It is a build of wire 1.
    pub(super) is_older: bool,
    /// Its database was restored so often.
    pub(super) disasters: u64,
    /// What a shell with [`Mutant::AcknowledgeFirst`] has not written yet.
    unwritten: Vec<Record>,
}

impl HubSide {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hub: Some(Hub::restore(hub::Policy::default(), hub::Saved::default(), seed)),
            disk: HubDisk::default(),
            backup: None,
            life: 0,
            started: 0,
            clock: Wall::True,
            linked: true,
            session: 0,
            tick_at: None,
            full_until: 0,
            is_older: false,
            disasters: 0,
            unwritten: Vec::new(),
        }
    }
}

impl World {
    pub(super) fn hub_now(&self) -> Now {
        let mono = Mono::from_millis(self.now - self.hub.started);
        Now { mono, wall: WallMs(self.hub.clock.read(self.now)) }
    }

    pub(super) fn hub_event(&mut self, event: Event) -> Result<(), String> {
        let now = self.hub_now();
        let Some(hub) = self.hub.hub.as_mut() else { return Ok(()) };
        let mut effects = Vec::new();
        hub.handle(now, event, &mut effects);
        if self.mutant == Mutant::AcknowledgeFirst {
            let late = std::mem::take(&mut self.hub.unwritten);
            self.hub_commit(late)?;
            for effect in &mut effects {
                if let Effect::Persist(records) = effect {
                    self.hub.unwritten.append(records);
                }
            }
        }
        for effect in effects {
            let torn = if self.healed { 0.0 } else { self.form.torn / 4.0 };
            if self.chance(torn) {
                self.counts.torn += 1;
                self.hub_crash()?;
                return Ok(());
            }
            match effect {
                Effect::Persist(_) if self.hub.full_until > self.now => {
                    self.note("hub: the disk takes no writes, it ends");
                    return self.hub_crash();
                }
                Effect::Persist(records) => self.hub_commit(records)?,
                Effect::Publish { topic: Topic::Down(id, _), frame } => self.send_down(&id, &frame),
                Effect::Publish { topic, .. } => {
                    return Err(format!("down_only: the hub published to {topic}"));
                }
                Effect::Reply { outcome: Err(refusal), .. } => self.note(&format!("hub refuses: {refusal}")),
                // Devices of this fleet have their packages from elsewhere: their cores need none.
                Effect::Reply { .. } | Effect::Carry { .. } => {}
                Effect::Note(said) => self.note(&format!("hub {said:?}")),
            }
        }
        self.set_hub_tick();
        Ok(())
    }

    fn hub_commit(&mut self, mut records: Vec<Record>) -> Result<(), String> {
        if self.mutant == Mutant::GenerationForgotten {
            records.retain(|record| !matches!(record, Record::Generation(_)));
        }
        let before = self.hub.disk.generation;
        self.hub.disk.commit(records.clone());
        self.on_hub_commit(&records, before)
    }

    fn set_hub_tick(&mut self) {
        let now = self.hub_now();
        let Some(hub) = &self.hub.hub else { return };
        let wait = hub.next_deadline().map_or(60_000, |at| {
            u64::try_from(at.since(now.mono).as_millis()).unwrap_or(u64::MAX).clamp(20, 60_000)
        });
        let due = self.now + wait;
        if self.hub.tick_at.is_none_or(|set| set > due) {
            self.hub.tick_at = Some(due);
            let life = self.hub.life;
            self.later(wait, Happening::HubTick(life));
        }
    }

    pub(super) fn hub_tick(&mut self, life: u64) -> Result<(), String> {
        if life != self.hub.life {
            return Ok(());
        }
        self.hub.tick_at = None;
        self.hub_event(Event::Tick)
    }

    pub(super) fn hub_crash(&mut self) -> Result<(), String> {
        if self.hub.hub.take().is_none() {
            return Ok(());
        }
        self.counts.crashes += 1;
        self.note("hub crashes");
        self.hub.life += 1;
        self.hub.linked = false;
        self.hub.unwritten.clear();
        let off = self.time_off();
        self.later(off, Happening::HubStart);
        Ok(())
    }

    pub(super) fn hub_start(&mut self) -> Result<(), String> {
        if self.hub.hub.is_some() {
            return Ok(());
        }
        self.replace_hub();
        let seed = self.random.random();
        self.counts.restarts += 1;
        self.hub.started = self.now;
        self.hub.tick_at = None;
        self.hub.hub = Some(Hub::restore(hub::Policy::default(), self.hub.disk.saved(), seed));
        self.note("hub starts");
        let wait = self.random.random_range(10..3_000);
        self.later(wait, Happening::HubLink);
        Ok(())
    }

    /// The broker takes the hub, and tells what it remembers of devices.
    pub(super) fn hub_link(&mut self) -> Result<(), String> {
        if !self.broker_up || self.hub.hub.is_none() || self.hub.linked {
            return Ok(());
        }
        self.hub.linked = true;
        self.hub.session += 1;
        self.note("hub link up");
        self.hub_event(Event::BrokerUp)?;
        for (topic, bytes) in self.retained.values().cloned().collect::<Vec<_>>() {
            let session = self.hub.session;
            self.later(20, Happening::ToHub { topic, retained: true, session, again: false, bytes });
        }
        Ok(())
    }

    pub(super) fn hub_drop_link(&mut self) -> Result<(), String> {
        if !std::mem::replace(&mut self.hub.linked, false) {
            return Ok(());
        }
        self.note("hub link down");
        let wait = self.random.random_range(500..self.form.beat_ms * 5);
        self.later(wait, Happening::HubLink);
        self.hub_event(Event::BrokerDown)
    }

    pub(super) fn request(&mut self, request: Request) -> Result<(), String> {
        self.requests += 1;
        self.hub_event(Event::Request { number: self.requests, request })
    }

    /// Rollouts, and second thoughts.
    pub(super) fn hub_operator(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let beat = self.form.beat_ms;
        let next = self.random.random_range(beat * 5..beat * 60);
        self.later(next, Happening::HubOperator);
        let any = self.random.random_range(0..self.pushed.len());
        let version = self.pushed[any];
        let running: Vec<RolloutId> =
            self.hub.disk.rollouts.values().filter(|it| it.is_running()).map(|it| it.id.clone()).collect();
        match self.random.random_range(0..14) {
            0 => {
                let Some(rollout) = running.first().cloned() else { return Ok(()) };
                let mode = if self.random.random_bool(0.5) { AbortMode::Keep } else { AbortMode::Revert };
                self.note(&format!("hub is told to abort {rollout}: {mode:?}"));
                self.request(Request::AbortRollout { rollout, mode })
            }
            // Never the first: a fleet whose only base may not serve has nothing to come to rest on.
            1 if any > 0 => {
                let holds = self.random.random_bool(0.6);
                self.note(&format!("hub is told to condemn {}: {holds}", version.short()));
                let reason = "an operator's word".to_owned();
                self.request(Request::CondemnVersion { version: version.to_string(), reason, holds })
            }
            2 => {
                let at = self.random.random_range(0..self.boards.len());
                let device = self.boards[at].id.clone();
                let tags = BTreeMap::from([("line".to_owned(), any.to_string())]);
                self.request(Request::TagDevice { device, tags })
            }
            3 | 4 => self.give_command(),
            _ => {
                self.counts.rollouts += 1;
                let wish = RolloutWish {
                    model: model(),
                    version: version.to_string(),
                    strategy: self.strategy(),
                    selector: BTreeMap::new(),
                };
                self.note(&format!("hub is told to roll out {}", self.versions[&version].info.record.name));
                self.request(Request::CreateRollout(Box::new(wish)))
            }
        }
    }

    /// A word to one device.
    fn give_command(&mut self) -> Result<(), String> {
        let at = self.random.random_range(0..self.boards.len());
        let device = self.boards[at].id.clone();
        let what = match self.random.random_range(0..3) {
            0 => Ask::Train { model: model() },
            1 => Ask::Labels { model: model(), rows: 5 },
            _ => Ask::Log { lines: 9 },
        };
        let expires_s = self.random.random_range(self.form.seconds(3)..self.form.seconds(100)).max(1);
        self.note(&format!("hub is told to have {device} {what}"));
        self.request(Request::GiveCommand { device, wish: Box::new(CommandWish { what, expires_s }) })
    }

    fn strategy(&self) -> Strategy {
        let form = &self.form;
        let max_s = form.seconds(150);
        Strategy {
            canary: if self.mutant == Mutant::NoCanary { 100 } else { 1 },
            soak_s: form.seconds(5),
            deadline_s: form.seconds(300),
            success_percentage: 90.0,
            abort: AbortThreshold::default(),
            trial: TrialPolicy {
                min_requests: 20,
                min_labels: 16,
                max_s,
                shadow_max_s: max_s / 3,
                ..TrialPolicy::default()
            },
        }
    }
}
