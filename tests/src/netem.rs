//! A bad network between two namespaces of this machine, in user space: packets are lost, late, doubled and
//! overtaken as drawn from a seed, and the line is cut at will.
//!
//! `tc netem` needs a kernel module that containers often lack; an interface into this process needs
//! `/dev/net/tun` and the right to make namespaces.

mod tun;
mod way;

pub use way::{Tally, Way, Weather};

use anyhow::{Context as _, bail};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tun::{MTU, Tun};

/// Where the devices' end is, in its namespace.
const DEVICES: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// Where the hub's end is, in its namespace.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);

/// A network namespace, taken away when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its address on the road.
    pub address: Ipv4Addr,
}

impl Namespace {
    /// A namespace with loopback and one interface, whose packets go through this process.
    fn new(name: String, address: Ipv4Addr) -> anyhow::Result<(Self, Tun)> {
        ip(&["netns", "add", &name])?;
        let new = Self { name, address };
        let name = &new.name;
        let tun = Tun::new(name).context("failed to open `/dev/net/tun`")?;
        ip(&["link", "set", name, "netns", name])?;
        ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", name])?;
        ip(&["-n", name, "link", "set", name, "mtu", &MTU.to_string(), "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok((new, tun))
    }

    /// What `ip` must be told to run a program in it; the process that comes of it is the program itself.
    #[must_use]
    pub fn args(&self, program: &Path) -> Vec<String> {
        let words = ["netns", "exec", &self.name, &program.display().to_string()];
        words.map(str::to_owned).to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Who is still inside keeps it; it has no name any more and goes with its last process.
        drop(Command::new("ip").args(["netns", "delete", &self.name]).output());
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("ip").args(args).output().context("failed to run `ip`")?;
    if !done.status.success() {
        bail!("`ip {}`: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// The weather in each direction; `None` is a cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skies {
    /// From devices to hub.
    pub up: Option<Weather>,
    /// From hub to devices.
    pub down: Option<Weather>,
}

impl Skies {
    /// The same both ways.
    #[must_use]
    pub fn both(weather: Weather) -> Self {
        Self { up: Some(weather), down: Some(weather) }
    }

    /// Nothing passes.
    pub const CUT: Self = Self { up: None, down: None };
}

#[derive(Debug)]
struct Shared {
    skies: Mutex<Skies>,
    ways: [Mutex<Way>; 2],
    failure: Mutex<Option<String>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two namespaces, and the bad network between them.
#[derive(Debug)]
pub struct Road {
    /// Where devices run.
    pub devices: Namespace,
    /// Where hub and broker run.
    pub hub: Namespace,
    shared: Arc<Shared>,
    _ends: DropGuard,
}

impl Road {
    /// Opens a road in fair weather. Fails where this process may make no namespace or interface.
    pub fn open(seed: u64) -> anyhow::Result<Self> {
        let name = |end: &str| format!("shoal-{end}{}", std::process::id());
        let (devices, at_devices) = Namespace::new(name("d"), DEVICES)?;
        let (hub, at_hub) = Namespace::new(name("h"), HUB)?;
        let (at_devices, at_hub) = (Arc::new(at_devices), Arc::new(at_hub));
        let ways = [seed.wrapping_mul(2), seed.wrapping_mul(2).wrapping_add(1)];
        let shared = Arc::new(Shared {
            skies: Mutex::new(Skies::both(Weather::FAIR)),
            ways: ways.map(|seed| Mutex::new(Way::new(seed))),
            failure: Mutex::default(),
        });
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        for (way, from, to) in [(0, &at_devices, &at_hub), (1, &at_hub, &at_devices)] {
            let (from, to, shared) = (Arc::clone(from), Arc::clone(to), Arc::clone(&shared));
            let cancel = cancel.clone();
            tracker.spawn(async move {
                if let Some(Err(cause)) = cancel.run_until_cancelled(carry(&shared, way, &from, &to)).await {
                    *held(&shared.failure) = Some(cause.to_string());
                }
            });
        }
        Ok(Self { devices, hub, shared, _ends: cancel.drop_guard() })
    }

    /// Changes the weather for packets that are sent from now on.
    pub fn set(&self, skies: Skies) {
        *held(&self.shared.skies) = skies;
    }

    /// Why nothing passes any more, where the road itself broke.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        held(&self.shared.failure).clone()
    }

    /// What became of packets from devices to hub, and back.
    #[must_use]
    pub fn tallies(&self) -> [Tally; 2] {
        [0, 1].map(|way| held(&self.shared.ways[way]).tally())
    }
}

/// One direction, for ever.
async fn carry(shared: &Shared, way: usize, from: &Tun, to: &Tun) -> std::io::Result<()> {
    let begun = Instant::now();
    let mut packet = vec![0; MTU];
    loop {
        let next = held(&shared.ways[way]).next();
        let due = async {
            match next {
                Some(at) => sleep_until(begun + at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            length = from.read(&mut packet) => {
                let skies = *held(&shared.skies);
                let weather = if way == 0 { skies.up } else { skies.down };
                held(&shared.ways[way]).send(begun.elapsed(), weather, &packet[..length?]);
            }
            () = due => {}
        }
        let now = begun.elapsed();
        loop {
            let Some(packet) = held(&shared.ways[way]).arrived(now) else { break };
            to.write(&packet).await?;
        }
    }
}
