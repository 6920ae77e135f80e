//! The crowd: every device a task and a connection of its own, as patient and as hasty as an agent is.

use super::device::Device;
use super::mqtt::{self, Packet};
use crate::rig::Times;
use anyhow::{bail, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_agent::clock::Clock;
use shoal_proto::time::{Mono, Now};
use shoal_proto::topic::Up;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a broker may take for a connection, as the agent has it.
const CONNECT: Duration = Duration::from_secs(5);
/// First and longest wait between two attempts, drawn evenly between nought and itself, as the agent has it.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Room for what a read may bring: most messages are acknowledgements.
const READ_BYTES: usize = 512;
/// How often the crowd is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Devices that a broker has now.
    pub(super) connected: AtomicU64,
    /// Devices of which the hub has everything on disk.
    pub(super) told: AtomicU64,
    /// Attempts to connect that failed, and connections that broke.
    pub(super) failed: AtomicU64,
    /// Messages to the hub.
    pub(super) sent: AtomicU64,
    /// Messages from the hub.
    pub(super) heard: AtomicU64,
    /// Payload bytes to the hub.
    pub(super) bytes: AtomicU64,
    /// Operations written by heartbeats.
    pub(super) ops: AtomicU64,
    /// From a heartbeat to the hub's word that it is on disk.
    pub(super) landed: Mutex<Times>,
    /// Why the last connection failed.
    pub(super) reason: Mutex<String>,
}

/// Devices under way.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) seen: Seen,
    pub(super) devices: u64,
    broker: SocketAddr,
    beat: Duration,
    is_beating: AtomicBool,
    clock: Clock,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Crowd {
    /// Sends all devices off at once.
    pub(super) fn start(devices: u64, broker: SocketAddr, beat: Duration) -> Arc<Self> {
        let crowd = Arc::new(Self {
            seen: Seen::default(),
            devices,
            broker,
            beat,
            is_beating: AtomicBool::new(false),
            clock: Clock::start(),
            cancel: CancellationToken::new(),
            tracker: TaskTracker::new(),
        });
        for number in 0..devices {
            let crowd = Arc::clone(&crowd);
            crowd.tracker.clone().spawn(async move {
                let cancel = crowd.cancel.clone();
                cancel.run_until_cancelled(live(&crowd, number)).await;
            });
        }
        crowd
    }

    /// Whether heartbeats are sent from here on.
    pub(super) fn beat(&self, is_beating: bool) {
        self.is_beating.store(is_beating, Ordering::Relaxed);
    }

    /// Waits until so many are connected, and then until the hub has everything of all; how long each took.
    pub(super) async fn settled(&self, within: Duration) -> anyhow::Result<(Duration, Duration)> {
        let begun = self.clock.mono();
        let mut connected = None;
        loop {
            let took = self.clock.mono().since(begun);
            let (up, told) = (load(&self.seen.connected), load(&self.seen.told));
            if up == self.devices && connected.is_none() {
                connected = Some(took);
            }
            if let Some(connected) = connected.filter(|_| told == self.devices) {
                return Ok((connected, took));
            }
            let reason = self.seen.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ensure!(
                took < within,
                "after {took:.0?} {up} of {} are connected and {told} told; last failure: {reason}",
                self.devices
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn end(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub(super) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// One device, for ever.
async fn live(crowd: &Crowd, number: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(!number);
    // Heartbeats are spread: devices did not start together.
    let first = crowd.beat.mul_f64(random.random());
    let mut line = Line { next_beat: Mono(first), ..Line::new(crowd, number) };
    let mut failures = 0;
    loop {
        let ended = line.connection(&mut failures).await;
        line.down();
        count(&crowd.seen.failed, 1);
        if let Err(cause) = ended {
            *crowd.seen.reason.lock().unwrap_or_else(PoisonError::into_inner) = format!("{cause:#}");
        }
        let span = BACKOFF.0.saturating_mul(1 << failures.min(16)).min(BACKOFF.1);
        failures += 1;
        tokio::time::sleep(span.mul_f64(random.random())).await;
    }
}

/// A device and its connection.
struct Line<'c> {
    crowd: &'c Crowd,
    device: Device,
    next_beat: Mono,
    /// Since when the hub lacks something.
    since: Option<Mono>,
    is_up: bool,
    is_told: bool,
    next_id: u16,
    out: Vec<u8>,
}

impl<'c> Line<'c> {
    fn new(crowd: &'c Crowd, number: u64) -> Self {
        Self {
            crowd,
            device: Device::new(number, crowd.clock.now()),
            next_beat: Mono::default(),
            since: None,
            is_up: false,
            is_told: false,
            next_id: 0,
            out: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        self.crowd.clock.now()
    }

    fn publish(&mut self, what: Up, frame: &[u8]) {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        count(&self.crowd.seen.sent, 1);
        count(&self.crowd.seen.bytes, frame.len() as u64);
        mqtt::publish(&self.device.topic(what), self.next_id, what == Up::Status, frame, &mut self.out);
    }

    async fn connection(&mut self, failures: &mut u32) -> anyhow::Result<()> {
        let mut stream = timeout(CONNECT, TcpStream::connect(self.crowd.broker)).await??;
        stream.set_nodelay(true)?;
        let (topic, will) = (self.device.topic(Up::Status), self.device.status(false));
        self.out.clear();
        mqtt::connect(self.device.id.as_str(), (&topic, &will), &mut self.out);
        let mut bytes = Vec::new();
        let taken = timeout(CONNECT, self.ask(&mut stream, &mut bytes)).await??;
        ensure!(taken == Packet::ConnAck(0), "the broker answers {taken:?} to CONNECT");
        mqtt::subscribe(&self.device.filter(), &mut self.out);
        let taken = timeout(CONNECT * 4, self.ask(&mut stream, &mut bytes)).await??;
        ensure!(matches!(taken, Packet::SubAck(0..=2)), "the broker answers {taken:?} to SUBSCRIBE");
        *failures = 0;
        self.is_up = true;
        count(&self.crowd.seen.connected, 1);
        let birth = self.device.status(true);
        self.publish(Up::Status, &birth);
        let hello = self.device.connected(self.now());
        self.publish(Up::Hello, &hello);
        loop {
            self.turn();
            if !self.out.is_empty() {
                stream.write_all(&std::mem::take(&mut self.out)).await?;
            }
            let next = self.device.next().into_iter().chain([self.next_beat]).min().unwrap_or_default();
            bytes.reserve(READ_BYTES);
            let wait = self.crowd.clock.until(next).max(Duration::from_millis(1));
            tokio::select! {
                count = stream.read_buf(&mut bytes) => ensure!(count? > 0, "the broker ended the connection"),
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(packet) = mqtt::take(&mut bytes)? {
                if let Packet::Publish { id, payload } = packet {
                    count(&self.crowd.seen.heard, 1);
                    self.device.hear(self.now(), &payload)?;
                    id.into_iter().for_each(|id| mqtt::acknowledge(id, &mut self.out));
                }
            }
            // Ten thousand buffers that have grown once are kept by nobody.
            if bytes.is_empty() {
                bytes = Vec::new();
            }
        }
    }

    /// Sends what waits and gives the next packet.
    async fn ask(&mut self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<Packet> {
        stream.write_all(&std::mem::take(&mut self.out)).await?;
        loop {
            if let Some(packet) = mqtt::take(bytes)? {
                return Ok(packet);
            }
            if stream.read_buf(bytes).await? == 0 {
                bail!("the broker ended the connection");
            }
        }
    }

    fn turn(&mut self) {
        let now = self.now();
        if self.next_beat <= now.mono {
            self.next_beat = self.next_beat.after(self.crowd.beat).max(now.mono);
            if self.crowd.is_beating.load(Ordering::Relaxed) {
                count(&self.crowd.seen.ops, self.device.beat(now));
                self.since = self.since.or(Some(now.mono));
            }
        }
        for (what, frame) in self.device.say(now) {
            self.publish(what, &frame);
        }
        let is_told = self.device.is_told();
        if is_told && let Some(since) = self.since.take() {
            let mut landed = self.crowd.seen.landed.lock().unwrap_or_else(PoisonError::into_inner);
            landed.push(now.mono.since(since));
        }
        self.tell(is_told);
    }

    fn tell(&mut self, is_told: bool) {
        match (std::mem::replace(&mut self.is_told, is_told), is_told) {
            (false, true) => count(&self.crowd.seen.told, 1),
            (true, false) => drop(self.crowd.seen.told.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
    }

    fn down(&mut self) {
        self.tell(false);
        if std::mem::replace(&mut self.is_up, false) {
            self.crowd.seen.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
