//! A real hub and a real broker under a crowd: all at once, the daily round, and all again.

use super::crowd::{Crowd, load};
use crate::demo::{Part, hub_args};
use crate::rig::{Memory, cpu};
use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::Value;
use shoal_agent::clock::Clock;
use shoal_proto::time::Mono;
use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a hub or broker may take until it listens.
const READY: Duration = Duration::from_secs(60);
/// How long all devices may take until the hub has everything.
const PATIENCE: Duration = Duration::from_secs(600);
/// File descriptors besides one a connection.
const SPARE_FILES: u64 = 500;
/// How long the broker is gone.
const GONE: Duration = Duration::from_secs(1);

/// A broker that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// The hub's own, in its process.
    Embedded,
    /// A process of its own.
    Mosquitto,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Mosquitto => "mosquitto",
        }
    }
}

/// What a broker and a hub showed.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) broker: &'static str,
    pub(super) devices: u64,
    pub(super) phases: Vec<Phase>,
}

/// One phase: how long it took, and what it cost each process.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    what: &'static str,
    seconds: f64,
    /// Until all were connected, where that is asked.
    connected_seconds: Option<f64>,
    /// From a heartbeat to the hub's word that it is on disk: median, and 99 of 100, in milliseconds.
    landed_ms: Option<(f64, f64)>,
    /// Messages to the hub and from it.
    messages: (u64, u64),
    ops: u64,
    failed: u64,
    /// Processor seconds and memory.
    processes: Vec<Cost>,
}

#[derive(Debug, Clone, Serialize)]
struct Cost {
    name: &'static str,
    cpu_seconds: f64,
    rss_bytes: u64,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, seconds, connected_seconds, landed_ms, messages, ops, failed, processes } = self;
        write!(f, "{what:<10} {seconds:>6.1} s")?;
        if let Some(connected) = connected_seconds {
            write!(f, ", connected after {connected:.1} s")?;
        }
        write!(
            f,
            "; {:.0} messages/s up, {:.0} down",
            messages.0 as f64 / seconds,
            messages.1 as f64 / seconds
        )?;
        if *ops > 0 {
            write!(f, ", {:.0} ops/s", *ops as f64 / seconds)?;
        }
        if let Some((median, late)) = landed_ms {
            write!(f, ", on disk after {median:.0} ms (p99 {late:.0})")?;
        }
        if *failed > 0 {
            write!(f, "; {failed} attempts failed")?;
        }
        for Cost { name, cpu_seconds, rss_bytes } in processes {
            let share = 100.0 * cpu_seconds / seconds;
            write!(
                f,
                "\n             {name:<10} {cpu_seconds:>6.1} s CPU ({share:.0} % of a core), {:.0} MB",
                *rss_bytes as f64 / 1e6
            )?;
        }
        Ok(())
    }
}

/// The processes under measure.
struct Site {
    kind: Kind,
    hub: Part,
    broker: Option<Part>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start(kind: Kind) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let broker = match kind {
            Kind::Embedded => None,
            Kind::Mosquitto => match start_mosquitto(folder.path(), address) {
                Ok(part) => Some(part),
                Err(_absent) => return Ok(None),
            },
        };
        let hub = start_hub(kind, folder.path(), address).await?;
        Ok(Some(Self { kind, hub, broker, address, folder }))
    }

    /// The broker as after a crash; the embedded one takes its hub with it.
    async fn again(&mut self) -> anyhow::Result<()> {
        let Some(broker) = &mut self.broker else {
            self.hub.kill().await?;
            tokio::time::sleep(GONE).await;
            self.hub = start_hub(self.kind, self.folder.path(), self.address).await?;
            return Ok(());
        };
        broker.kill().await?;
        tokio::time::sleep(GONE).await;
        *broker = start_mosquitto(self.folder.path(), self.address)?;
        Ok(())
    }

    fn pids(&self) -> Vec<(&'static str, u32)> {
        let hub = if self.broker.is_some() { "hub" } else { "hub+broker" };
        let broker = self.broker.as_ref().and_then(Part::pid).map(|pid| ("mosquitto", pid));
        let crowd = ("crowd", std::process::id());
        self.hub.pid().map(|pid| (hub, pid)).into_iter().chain(broker).chain([crowd]).collect()
    }
}

fn start_mosquitto(folder: &Path, address: SocketAddr) -> anyhow::Result<Part> {
    let path = folder.join("mosquitto.conf");
    let mut file = std::fs::File::create(&path)?;
    // Its default queue of a thousand would drop the storm's hellos; they would come again, and late.
    writeln!(
        file,
        "listener {} {}\nallow_anonymous true\nmax_queued_messages 100000",
        address.port(),
        address.ip()
    )?;
    // Without the last a small message waits for the delayed acknowledgement of the one before: 40 ms.
    writeln!(file, "max_inflight_messages 64\nset_tcp_nodelay true")?;
    let args = ["-c".to_owned(), path.display().to_string()];
    Part::start("mosquitto", Path::new("mosquitto"), &args, &folder.join("mosquitto.log"))
}

async fn start_hub(kind: Kind, folder: &Path, address: SocketAddr) -> anyhow::Result<Part> {
    let (listen, url) = (address.to_string(), format!("mqtt://{address}"));
    let args = match kind {
        Kind::Embedded => hub_args(folder, &["embedded", "--broker-listen", &listen]),
        Kind::Mosquitto => hub_args(folder, &[&url]),
    };
    let ready = folder.join("hub.ready");
    drop(std::fs::remove_file(&ready));
    let mut part = Part::start("the hub", &std::env::current_exe()?, &args, &folder.join("hub.log"))?;
    drop(part.ready::<Value>(&ready, READY).await?);
    Ok(part)
}

/// What counters stood at when a phase began.
struct Begun {
    at: Mono,
    counters: [u64; 4],
    cpu: Vec<(u32, Duration)>,
}

/// Runs the crowd against one broker; `None` where that is not installed.
pub(super) async fn measure(
    kind: Kind,
    devices: u64,
    (beat, steady): (Duration, Duration),
) -> anyhow::Result<Option<Measured>> {
    allow_files(devices)?;
    let Some(mut site) = Site::start(kind).await? else { return Ok(None) };
    let (clock, mut phases) = (Clock::start(), Vec::new());
    let crowd = Crowd::start(devices, site.address, beat);
    let begun = begin(&site, &crowd, &clock)?;
    let (connected, _) = crowd.settled(PATIENCE).await?;
    phases.push(end("storm", Some(connected), begun, &site, &crowd, &clock)?);

    crowd.beat(true);
    tokio::time::sleep(beat).await;
    drop(std::mem::take(&mut *crowd.seen.landed.lock().unwrap_or_else(PoisonError::into_inner)));
    let begun = begin(&site, &crowd, &clock)?;
    tokio::time::sleep(steady).await;
    phases.push(end("steady", None, begun, &site, &crowd, &clock)?);
    crowd.beat(false);
    crowd.settled(PATIENCE).await?;

    site.again().await?;
    let begun = begin(&site, &crowd, &clock)?;
    // Until the first notice that their broker is gone, all still seem to be there.
    while load(&crowd.seen.connected) == devices {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (connected, _) = crowd.settled(PATIENCE).await?;
    phases.push(end("reconnect", Some(connected), begun, &site, &crowd, &clock)?);
    crowd.end().await;
    site.hub.stop().await?;
    if let Some(broker) = &mut site.broker {
        broker.stop().await?;
    }
    Ok(Some(Measured { broker: kind.name(), devices, phases }))
}

/// A descriptor a connection, here and in the broker, which inherits the limit.
fn allow_files(devices: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = devices + SPARE_FILES;
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|most| most.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .with_context(|| format!("{devices} devices need {wanted} open files; `ulimit -n` allows fewer"))
}

fn counters(crowd: &Crowd) -> [u64; 4] {
    let seen = &crowd.seen;
    [&seen.sent, &seen.heard, &seen.ops, &seen.failed].map(load)
}

fn begin(site: &Site, crowd: &Arc<Crowd>, clock: &Clock) -> anyhow::Result<Begun> {
    let cpu = site.pids().into_iter().map(|(_, pid)| Ok((pid, cpu(pid)?))).collect::<anyhow::Result<_>>()?;
    Ok(Begun { at: clock.mono(), counters: counters(crowd), cpu })
}

fn end(
    what: &'static str,
    connected: Option<Duration>,
    begun: Begun,
    site: &Site,
    crowd: &Arc<Crowd>,
    clock: &Clock,
) -> anyhow::Result<Phase> {
    let seconds = clock.mono().since(begun.at).as_secs_f64();
    let now = counters(crowd);
    let [sent, heard, ops, failed] = [0, 1, 2, 3].map(|at| now[at] - begun.counters[at]);
    let mut processes = Vec::new();
    for (name, pid) in site.pids() {
        let before =
            begun.cpu.iter().find(|(known, _)| *known == pid).map_or(Duration::ZERO, |(_, spent)| *spent);
        let cpu_seconds = (cpu(pid)?.saturating_sub(before)).as_secs_f64();
        processes.push(Cost { name, cpu_seconds, rss_bytes: Memory::of(pid)?.rss_bytes });
    }
    let landed = std::mem::take(&mut *crowd.seen.landed.lock().unwrap_or_else(PoisonError::into_inner));
    let landed_ms =
        (!landed.is_empty()).then(|| (landed.quantile_us(0.5) / 1_000.0, landed.quantile_us(0.99) / 1_000.0));
    ensure!(crowd.seen.sent.load(Ordering::Relaxed) > 0, "no device said anything");
    let connected_seconds = connected.map(|took| took.as_secs_f64());
    Ok(Phase { what, seconds, connected_seconds, landed_ms, messages: (sent, heard), ops, failed, processes })
}
