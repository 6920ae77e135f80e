//! The hub's core without a broker: how many operations a second it takes, and how many devices it holds.

use super::device::Device;
use crate::rig::Memory;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use shoal_agent::clock::Clock;
use shoal_hub::core::{Effect, Event, Hub, Policy, Record, Saved};
use shoal_hub::store::Store;
use shoal_proto::id::DeviceId;
use shoal_proto::message::{Exchange, Payload};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Devices whose operations are counted.
const DEVICES: u64 = 1_000;
/// Rounds of the heartbeats that are counted: a window is among every twelve.
const ROUNDS: u64 = 24;
/// Heartbeats of a device that was away for eight hours.
const BACKLOG: u64 = 96;
/// Events that share a commit, as the hub's loop has it.
const TURN_EVENTS: usize = 1_024;

/// One way of taking operations.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rate {
    pub(super) what: &'static str,
    pub(super) frames: u64,
    pub(super) ops: u64,
    pub(super) seconds: f64,
    pub(super) ops_per_second: f64,
}

/// Many devices in one core.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Held {
    pub(super) devices: u64,
    /// Until all had said what they are and were acknowledged, devices' work included.
    pub(super) joined_seconds: f64,
    /// Of heartbeats, after that.
    pub(super) ops_per_second: f64,
    pub(super) rss_bytes: u64,
    pub(super) bytes_per_device: u64,
}

/// Devices, a core between them, and what the core wants written.
struct Bench {
    hub: Hub,
    now: Now,
    records: Vec<Record>,
}

impl Bench {
    fn new() -> Self {
        let hub = Hub::restore(Policy::default(), Saved::default(), 7);
        let now = Now { mono: Mono::default(), wall: WallMs(1_800_000_000_000) };
        let mut new = Self { hub, now, records: Vec::new() };
        new.handle(Event::BrokerUp);
        new
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.now.wall = WallMs(self.now.wall.0 + u64::try_from(time.as_millis()).unwrap_or(0));
    }

    /// Gives what it says to devices.
    fn handle(&mut self, event: Event) -> Vec<(DeviceId, Vec<u8>)> {
        let (mut effects, mut said) = (Vec::new(), Vec::new());
        self.hub.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(records) => self.records.extend(records),
                Effect::Publish { topic: Topic::Down(id, _), frame } => said.push((id, frame)),
                Effect::Publish { .. } | Effect::Carry { .. } | Effect::Reply { .. } | Effect::Note(_) => {}
            }
        }
        said
    }

    /// Says what a device has to say, and lets it hear the answers, until both are quiet.
    fn converse(&mut self, device: &mut Device, first: Option<(Up, Vec<u8>)>) -> anyhow::Result<()> {
        let mut waiting: Vec<(Up, Vec<u8>)> = first.into_iter().collect();
        loop {
            waiting.extend(device.say(self.now));
            if waiting.is_empty() {
                return Ok(());
            }
            for (what, frame) in std::mem::take(&mut waiting) {
                for (_, answer) in self.handle(frame_of(device, what, frame)) {
                    device.hear(self.now, &answer)?;
                }
            }
        }
    }

    fn join(&mut self, number: u64) -> anyhow::Result<Device> {
        let mut device = Device::new(number, self.now);
        let hello = device.connected(self.now);
        self.converse(&mut device, Some((Up::Hello, hello)))?;
        ensure!(device.is_told(), "{} has something left to say", device.id);
        Ok(device)
    }
}

fn frame_of(device: &Device, what: Up, bytes: Vec<u8>) -> Event {
    Event::DeviceFrame { topic: device.topic(what), retained: false, bytes }
}

/// All rates: heartbeats and backlogs, in memory and on disk.
pub(super) fn rates(folder: &Path) -> anyhow::Result<Vec<Rate>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut rates = Vec::new();
    for (what, beats, rounds, on_disk) in [
        ("heartbeats, core alone", 1, ROUNDS, false),
        ("eight hours' backlog, core alone", BACKLOG, 1, false),
        ("heartbeats, with SQLite", 1, ROUNDS, true),
        ("eight hours' backlog, with SQLite", BACKLOG, 1, true),
    ] {
        let path = folder.join(format!("apply-{}.db", rates.len()));
        let store = if on_disk { Some(Store::open(&path)?.0) } else { None };
        rates.push(runtime.block_on(rate(what, (beats, rounds), store))?);
    }
    Ok(rates)
}

/// What some rounds came to.
#[derive(Debug, Default)]
struct Taken {
    frames: u64,
    ops: u64,
    time: Duration,
}

impl Bench {
    /// All devices say some heartbeats at once, and hear the answers. Only the hub's part is timed, and of a backlog
    /// only what the first batches bring.
    async fn round(
        &mut self,
        devices: &mut [Device],
        beats: u64,
        store: Option<&Store>,
        taken: &mut Taken,
    ) -> anyhow::Result<()> {
        self.pass(Duration::from_secs(300));
        let places: BTreeMap<DeviceId, usize> =
            devices.iter().enumerate().map(|(at, device)| (device.id.clone(), at)).collect();
        let mut events = Vec::new();
        for device in devices.iter_mut() {
            (0..beats).for_each(|_| {
                device.beat(self.now);
            });
            for (what, frame) in device.say(self.now) {
                // A long backlog goes in several batches, one after the other.
                if let Payload::Batch { ops, .. } = wire::decode::<Exchange>(&frame)?.payload {
                    taken.ops += ops.len() as u64;
                }
                events.push(frame_of(device, what, frame));
            }
        }
        taken.frames += events.len() as u64;
        let (clock, mut said) = (Clock::start(), Vec::new());
        while !events.is_empty() {
            for event in events.drain(..TURN_EVENTS.min(events.len())) {
                said.extend(self.handle(event));
            }
            let records = std::mem::take(&mut self.records);
            if let Some(store) = store {
                store.persist(records).await?;
            }
        }
        taken.time += clock.mono().since(Mono::default());
        for (id, answer) in said {
            let at = places.get(&id).context("the hub answers a device that is none")?;
            devices[*at].hear(self.now, &answer)?;
        }
        for device in devices.iter_mut() {
            self.converse(device, None)?;
            ensure!(device.is_told(), "{} has something left to say", device.id);
        }
        Ok(())
    }
}

async fn rate(what: &'static str, (beats, rounds): (u64, u64), store: Option<Store>) -> anyhow::Result<Rate> {
    let (mut bench, mut taken) = (Bench::new(), Taken::default());
    let devices = (0..DEVICES).map(|number| bench.join(number));
    let mut devices = devices.collect::<anyhow::Result<Vec<Device>>>()?;
    let joined = std::mem::take(&mut bench.records);
    if let Some(store) = &store {
        store.persist(joined).await?;
    }
    for _ in 0..rounds {
        bench.round(&mut devices, beats, store.as_ref(), &mut taken).await?;
    }
    let (Taken { frames, ops, .. }, seconds) = (&taken, taken.time.as_secs_f64());
    Ok(Rate { what, frames: *frames, ops: *ops, seconds, ops_per_second: *ops as f64 / seconds })
}

/// So many devices say hello and all that they are. A thousand among them stay for heartbeats.
pub(super) fn hold(count: u64) -> anyhow::Result<Held> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let me = std::process::id();
    let before = Memory::of(me)?.rss_bytes;
    let (mut bench, mut stay, clock) = (Bench::new(), Vec::new(), Clock::start());
    let every = (count / DEVICES).max(1);
    for number in 0..count {
        let device = bench.join(number)?;
        if number.is_multiple_of(every) {
            stay.push(device);
        }
        bench.records.clear();
    }
    let joined = clock.mono().since(Mono::default());
    let rss_bytes = Memory::of(me)?.rss_bytes.saturating_sub(before);
    let mut taken = Taken::default();
    for _ in 0..ROUNDS {
        runtime.block_on(bench.round(&mut stay, 1, None, &mut taken))?;
    }
    Ok(Held {
        devices: count,
        joined_seconds: joined.as_secs_f64(),
        ops_per_second: taken.ops as f64 / taken.time.as_secs_f64(),
        rss_bytes,
        bytes_per_device: rss_bytes / count.max(1),
    })
}
