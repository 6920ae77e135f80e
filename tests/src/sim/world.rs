//! The world: a virtual clock, a queue of what happens, and a trace.

use super::board::Board;
use super::fleet::HubSide;
use super::form::{Form, Size};
use super::invariant::Account;
use super::models::{Kind, Version};
use super::mutant::Mutant;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_agent::core::Event;
use shoal_hub::core::{self as hub, Request};
use shoal_proto::id::{DeviceId, Digest};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;

/// Lines of the trace that are kept for a failure.
const TRACE: usize = 60;
/// Characters of one line.
const LINE: usize = 170;

/// What histories came to, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Histories.
    pub histories: u64,
    /// Devices in them.
    pub devices: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Events handled by any core, and whatever else happened.
    pub events: u64,
    /// Starts of agents and hubs after the first.
    pub restarts: u64,
    /// Crashes, at any moment.
    pub crashes: u64,
    /// Crashes between two effects of one turn, or while it was written.
    pub torn: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages that vanished.
    pub lost: u64,
    /// Messages that came twice, or again much later.
    pub doubled: u64,
    /// Messages held back for long.
    pub delayed: u64,
    /// Messages damaged on the way, forged, or of a later wire.
    pub forged: u64,
    /// Full disks.
    pub full: u64,
    /// Databases lost, restored or cloned.
    pub disasters: u64,
    /// Lives of databases that began after the first.
    pub reborn: u64,
    /// Training runs that were started.
    pub runs: u64,
    /// Runs that were stopped, failed or hung.
    pub failed_runs: u64,
    /// Candidates that the gate let pass.
    pub accepted: u64,
    /// Candidates that the gate refused.
    pub refused: u64,
    /// Trials that began.
    pub trials: u64,
    /// Trials that ended well.
    pub confirmed: u64,
    /// Trials that were rolled back.
    pub rolled_back: u64,
    /// Rollouts that were asked for.
    pub rollouts: u64,
    /// Devices whose tenth or later run was confirmed after healing.
    pub tenth: u64,
    /// Bad versions confirmed for want of a record to compare with.
    pub misled: u64,
}

impl Counts {
    /// Adds another history's.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), (_, other)) in self.rows_mut().into_iter().zip({ *other }.rows_mut()) {
            *mine += *other;
        }
    }

    /// Names and numbers.
    pub(super) fn rows_mut(&mut self) -> [(&'static str, &mut u64); 25] {
        [
            ("histories", &mut self.histories),
            ("devices", &mut self.devices),
            ("virtual_ms", &mut self.virtual_ms),
            ("events", &mut self.events),
            ("restarts", &mut self.restarts),
            ("crashes", &mut self.crashes),
            ("crashes between two effects", &mut self.torn),
            ("messages", &mut self.messages),
            ("messages lost", &mut self.lost),
            ("messages doubled or replayed", &mut self.doubled),
            ("messages held back", &mut self.delayed),
            ("messages garbled or forged", &mut self.forged),
            ("full disks", &mut self.full),
            ("databases lost, restored, cloned", &mut self.disasters),
            ("new incarnations", &mut self.reborn),
            ("runs", &mut self.runs),
            ("runs failed or stopped", &mut self.failed_runs),
            ("candidates passed", &mut self.accepted),
            ("candidates refused", &mut self.refused),
            ("trials", &mut self.trials),
            ("confirmed", &mut self.confirmed),
            ("rolled back", &mut self.rolled_back),
            ("rollouts", &mut self.rollouts),
            ("tenth retrain confirmed", &mut self.tenth),
            ("bad ones confirmed unseen", &mut self.misled),
        ]
    }
}

/// A history that broke an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which history.
    pub seed: u64,
    /// The invariant's name and what was seen.
    pub what: String,
    /// The last of the trace.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

#[derive(Debug)]
pub(super) enum Happening {
    /// Something comes back to an agent of this life.
    Device(usize, u64, Box<Event>),
    DeviceTick(usize, u64),
    /// The server swaps.
    Swap(usize, u64, Digest),
    /// A training child ends, unless it was paused since.
    ChildEnds(usize, u64, u64, u64),
    /// A version's files go.
    Removed(usize, u64, Digest),
    /// A write that failed is tried again.
    Retry(usize, u64),
    Start(usize, u64),
    Link(usize, u64),
    ToDevice(DeviceId, u64, Vec<u8>),
    ToHub {
        topic: String,
        retained: bool,
        session: u64,
        again: bool,
        bytes: Vec<u8>,
    },
    Rows(usize),
    Fault,
    HubOperator,
    HubTick(u64),
    HubStart,
    HubLink,
    BrokerUp,
}

impl Happening {
    /// The board that it happens to.
    pub(super) const fn board(&self) -> Option<usize> {
        match self {
            Self::Device(at, ..)
            | Self::DeviceTick(at, _)
            | Self::Swap(at, ..)
            | Self::ChildEnds(at, ..)
            | Self::Removed(at, ..)
            | Self::Retry(at, _)
            | Self::Start(at, _)
            | Self::Link(at, _)
            | Self::Rows(at) => Some(*at),
            Self::ToDevice(..)
            | Self::ToHub { .. }
            | Self::Fault
            | Self::HubOperator
            | Self::HubTick(_)
            | Self::HubStart
            | Self::HubLink
            | Self::BrokerUp => None,
        }
    }
}

/// One history.
pub struct World {
    pub(super) seed: u64,
    pub(super) form: Form,
    pub(super) mutant: Mutant,
    pub(super) random: ChaCha8Rng,
    pub(super) now: u64,
    pub(super) queue: BTreeMap<(u64, u64), Happening>,
    pub(super) order: u64,
    pub(super) boards: Vec<Board>,
    pub(super) hub: HubSide,
    pub(super) broker_up: bool,
    /// What the broker remembers: the last status of each device.
    pub(super) retained: BTreeMap<DeviceId, (String, Vec<u8>)>,
    /// Frames that somebody wrote down, to send them again: for a device, or on a topic.
    pub(super) tape: Vec<(Result<DeviceId, String>, Vec<u8>)>,
    pub(super) versions: BTreeMap<Digest, Version>,
    pub(super) pushed: Vec<Digest>,
    pub(super) account: Account,
    pub(super) healed: bool,
    pub(super) quiet: bool,
    pub(super) counts: Counts,
    pub(super) requests: u64,
    pub(super) asked: u64,
    trace: VecDeque<String>,
    prints: bool,
    hash: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now_ms", &self.now).finish_non_exhaustive()
    }
}

impl World {
    /// Draws fleet, schedule and faults.
    #[must_use]
    pub fn new(seed: u64, size: Size, devices: Option<usize>, mutant: Mutant) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let form = Form::drawn(&mut random, size, devices);
        let boards = (0..form.devices).map(|at| Board::new(at, &mut random)).collect();
        let mut world = Self {
            seed,
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            boards,
            hub: HubSide::new(seed),
            broker_up: true,
            retained: BTreeMap::new(),
            tape: Vec::new(),
            versions: BTreeMap::new(),
            pushed: Vec::new(),
            account: Account::default(),
            healed: false,
            quiet: false,
            counts: Counts::default(),
            requests: 0,
            asked: 0,
            trace: VecDeque::new(),
            prints: false,
            hash: 0xcbf2_9ce4_8422_2325,
            mutant,
            form,
            random,
        };
        for (number, quality, kind) in [
            (1, 0.85, Kind::Sound),
            (2, 0.9, Kind::Sound),
            (3, 0.2, Kind::Sound),
            (4, 0.9, Kind::Inadmissible),
            (5, 0.9, Kind::Failing),
            (6, 0.9, Kind::Unloadable),
            (7, 0.9, Kind::Stalling),
        ] {
            let version = Version::new(number, None, "", quality, kind);
            world.pushed.push(version.info.version);
            world.versions.insert(version.info.version, version);
        }
        world
    }

    /// Prints the trace as it grows.
    #[must_use]
    pub fn printing(mut self) -> Self {
        self.prints = true;
        self
    }

    /// Plays the whole history; gives what it came to and the hash of its trace.
    ///
    /// # Errors
    /// The first invariant that broke.
    pub fn play(mut self) -> Result<(Counts, u64), Broken> {
        let outcome = self.trouble().and_then(|()| self.come_to_rest());
        if let Err(what) = outcome {
            return Err(Broken { seed: self.seed, what, trace: self.trace.into_iter().collect() });
        }
        self.counts.histories = 1;
        self.counts.devices = self.form.devices as u64;
        self.counts.virtual_ms = self.now;
        Ok((self.counts, self.hash))
    }

    fn trouble(&mut self) -> Result<(), String> {
        self.hub_event(hub::Event::BrokerUp)?;
        for version in self.pushed.clone() {
            let registered = self.versions[&version].registered();
            self.request(Request::PushModel(Box::new(registered)))?;
        }
        let beat = self.form.beat_ms;
        for at in 0..self.boards.len() {
            let offset = self.random.random_range(0..beat);
            self.later(offset, Happening::Start(at, 0));
            self.later(beat + offset, Happening::Rows(at));
        }
        self.later(5 * beat, Happening::Fault);
        self.later(20 * beat, Happening::HubOperator);
        let end = self.form.beats * beat;
        self.run_until(end)
    }

    pub(super) fn later(&mut self, ms: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + ms, self.order), what);
    }

    pub(super) fn note(&mut self, line: &str) {
        let (seconds, ms) = (self.now / 1_000, self.now % 1_000);
        let line: String = format!("{seconds:>7}.{ms:03} s  {line}").chars().take(LINE).collect();
        self.mix(line.as_bytes());
        if self.prints {
            drop(writeln!(std::io::stdout(), "{line}")); // a closed terminal cannot be told
        }
        self.trace.push_back(line);
        if self.trace.len() > TRACE {
            self.trace.pop_front();
        }
    }

    /// Mixes bytes into the hash of the trace (FNV-1a).
    pub(super) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.random_bool(chance)
    }

    pub(super) fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), what) = entry.remove_entry();
            self.now = self.now.max(at);
            self.counts.events += 1;
            self.happen(what)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        match what {
            Happening::Device(at, life, event) if self.boards[at].life == life => {
                self.device_event(at, *event)
            }
            Happening::DeviceTick(at, life) if self.boards[at].life == life => {
                self.boards[at].tick_at = None;
                self.device_event(at, Event::Tick)
            }
            Happening::Swap(at, life, version) if self.boards[at].life == life => self.swap(at, version),
            Happening::ChildEnds(at, life, run, token) if self.boards[at].life == life => {
                self.child_ends(at, run, token)
            }
            Happening::Removed(at, life, version) if self.boards[at].life == life => {
                self.boards[at].disk.versions.remove(&version);
                Ok(())
            }
            Happening::Retry(at, life) if self.boards[at].life == life => self.go_on(at),
            Happening::Start(at, life) if self.boards[at].life == life => self.start(at),
            Happening::Link(at, life) if self.boards[at].life == life => self.link(at),
            Happening::Device(..)
            | Happening::DeviceTick(..)
            | Happening::Swap(..)
            | Happening::ChildEnds(..)
            | Happening::Removed(..)
            | Happening::Retry(..)
            | Happening::Start(..)
            | Happening::Link(..) => Ok(()), // of a life that is over
            Happening::ToDevice(id, session, bytes) => self.deliver_to_device(&id, session, bytes),
            Happening::ToHub { topic, retained, session, again, bytes } => {
                self.deliver_to_hub(topic, retained, session, again, bytes)
            }
            Happening::Rows(at) => self.rows(at),
            Happening::Fault => self.fault(),
            Happening::HubOperator => self.hub_operator(),
            Happening::HubTick(life) => self.hub_tick(life),
            Happening::HubStart => self.hub_start(),
            Happening::HubLink => self.hub_link(),
            Happening::BrokerUp => self.broker_up(),
        }
    }
}
