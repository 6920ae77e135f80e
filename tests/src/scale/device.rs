//! A device light enough to have a hundred thousand of: the production protocol, and facts of a plain day.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_proto::document::Document;
use shoal_proto::fact::{Count, Fact, Health, Inventory, SlotReport, VersionRecord};
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName, Replica, Side};
use shoal_proto::message::{Exchange, Hello, Status};
use shoal_proto::summary::{Counts, FeatureSummary, WindowId, WindowSummary};
use shoal_proto::sync::{Log, Peer, RESEND_FIRST, RESEND_LAST};
use shoal_proto::time::{Mono, Now};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire;
use std::collections::{BTreeMap, BTreeSet};

/// Features of its model, and bins of each one's histogram.
const FEATURES: u32 = 20;
const BINS: u64 = 32;
/// Rows of a window: one a second for an hour.
const WINDOW_ROWS: u64 = 3_600;
/// Heartbeats between two windows: five minutes and an hour.
const BEATS: u64 = 12;
/// Operations of a heartbeat, besides a window.
pub(super) const BEAT_OPS: u64 = 5;

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    incarnation: Incarnation,
    peer: Peer,
    document: Document,
    random: ChaCha8Rng,
    beats: u64,
    hello: Option<(Mono, u32)>,
}

impl Device {
    /// The device of this number, that has just been set up: what it is and what it serves is still to be told.
    pub(super) fn new(number: u64, now: Now) -> Self {
        let incarnation = Incarnation(number + 1);
        let log = Log::new(Replica { side: Side::Device, incarnation });
        let mut new = Self {
            id: DeviceId::new(format!("press-{number}")).expect("a legal name"),
            incarnation,
            peer: Peer::new(log, None, BTreeSet::new()),
            document: Document::default(),
            random: ChaCha8Rng::seed_from_u64(number),
            beats: 0,
            hello: None,
        };
        let (model, version) = (model(), Digest::of(b"version"));
        let none = Digest::of(b"none");
        new.write(
            now,
            Fact::Inventory(Inventory {
                agent_version: env!("CARGO_PKG_VERSION").into(),
                arch: "aarch64".into(),
                tags: BTreeMap::from([("line".into(), (number % 50).to_string())]),
            }),
        );
        let record = VersionRecord {
            model: model.clone(),
            name: "gas@1".into(),
            parent: None,
            baseline: none,
            schema: none,
        };
        new.write(now, Fact::Version(version, record));
        let report = SlotReport {
            applied_generation: 0,
            champion: version,
            previous: None,
            candidate: None,
            last_end: None,
        };
        new.write(now, Fact::Slot(model, report));
        new.beat(now);
        new
    }

    fn write(&mut self, now: Now, fact: Fact) {
        let (kind, key, value) = fact.into_parts();
        self.peer.write(&mut self.document, now.wall, kind, key, value, &mut Vec::new());
    }

    /// Its heartbeat: health, counters, and a window when an hour's beats are over. Gives how many operations.
    pub(super) fn beat(&mut self, now: Now) -> u64 {
        let health = Health { uptime_s: self.beats * 300, capturing: true, training: "idle".into() };
        self.write(now, Fact::Health(health));
        for (count, each) in
            [(Count::Predictions, 300), (Count::Captured, 300), (Count::Labels, 5), (Count::Windows, 1)]
        {
            self.write(now, Fact::Counter(count, (self.beats + 1) * each));
        }
        self.beats += 1;
        if !self.beats.is_multiple_of(BEATS) {
            return BEAT_OPS;
        }
        self.window(now);
        BEAT_OPS + 1
    }

    /// A window of live data as it goes up each hour.
    pub(super) fn window(&mut self, now: Now) {
        let id = WindowId { incarnation: self.incarnation, number: self.beats };
        let mut window =
            WindowSummary::new(id, model(), Digest::of(b"version"), Digest::of(b"none"), now.wall);
        window.rows = WINDOW_ROWS;
        window.features = (0..FEATURES)
            .map(|_| {
                let counts: Vec<u64> =
                    (0..BINS).map(|_| WINDOW_ROWS / BINS + self.random.random_range(0..40)).collect();
                FeatureSummary { counts: Counts::of(&counts), ..FeatureSummary::default() }
            })
            .collect();
        self.write(now, Fact::Window(window));
    }

    pub(super) fn topic(&self, what: Up) -> String {
        Topic::Up(self.id.clone(), what).to_string()
    }

    pub(super) fn filter(&self) -> String {
        Topic::device_filter(&self.id)
    }

    /// Its birth, or its last will.
    pub(super) fn status(&self, online: bool) -> Vec<u8> {
        let status = Status { online, boot: 1, incarnation: self.incarnation };
        wire::encode(&status).expect("a status fits a frame")
    }

    /// The link is new.
    pub(super) fn connected(&mut self, now: Now) -> Vec<u8> {
        self.peer.on_disconnected();
        self.say_hello(now, 0)
    }

    fn say_hello(&mut self, now: Now, tries: u32) -> Vec<u8> {
        let hello = Hello {
            device: self.id.clone(),
            incarnation: self.incarnation,
            boot: 1,
            last_seq: self.peer.log.last().0,
            cursor: self.peer.cursor(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_max: wire::VERSION,
            wall: now.wall,
        };
        let span = RESEND_FIRST.saturating_mul(1 << tries.min(16)).min(RESEND_LAST);
        let wait = span / 2 + span.mul_f64(self.random.random::<f64>()) / 2;
        self.hello = Some((now.mono.after(wait), tries.saturating_add(1)));
        wire::encode(&hello).expect("a hello fits a frame")
    }

    /// Takes a frame of the hub's.
    pub(super) fn hear(&mut self, now: Now, frame: &[u8]) -> anyhow::Result<()> {
        let message: Exchange = wire::decode(frame)?;
        let fresh = Incarnation(self.random.random_range(1..=u64::MAX));
        let (peer, document) = (&mut self.peer, &mut self.document);
        Ok(peer.on_exchange(now.mono, now.wall, message, fresh, document, &mut Vec::new())?)
    }

    /// What it has to say now: topic and frame.
    pub(super) fn say(&mut self, now: Now) -> Vec<(Up, Vec<u8>)> {
        let mut said = Vec::new();
        match self.hello {
            Some(_) if self.peer.is_connected() => self.hello = None,
            Some((at, tries)) if at <= now.mono => said.push((Up::Hello, self.say_hello(now, tries))),
            Some(_) | None => {}
        }
        if self.peer.next_deadline().is_some_and(|due| due <= now.mono) {
            let jitter = self.random.random();
            let messages = self.peer.poll(now.mono, now.wall, jitter, &self.document);
            let frames = messages.iter().map(|it| wire::encode(it).expect("a batch fits a frame"));
            said.extend(frames.map(|frame| (Up::Sync, frame)));
        }
        said
    }

    /// When it may have something to say next.
    pub(super) fn next(&self) -> Option<Mono> {
        let hello = self.hello.map(|(at, _)| at);
        hello.into_iter().chain(self.peer.next_deadline()).min()
    }

    /// Whether the hub has everything on disk.
    pub(super) fn is_told(&self) -> bool {
        self.peer.is_quiet()
    }
}

fn model() -> ModelName {
    ModelName::new("gas").expect("a legal name")
}
