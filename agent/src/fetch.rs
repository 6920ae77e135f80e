//! Gets a package that the hub assigned, over HTTP or over MQTT: resumed where it broke, verified before anything is
//! parsed.
//!
//! One archive is fetched at a time, so that rates hold for the device; one that waits for its sources to come back
//! lets another go first.

mod drive;
mod http;
mod part;
mod whole;

use crate::clock::Clock;
use crate::core::VersionInfo;
use crate::mqtt::Publisher;
use crate::vault::Vault;
use drive::Drive;
use ed25519_dalek::VerifyingKey;
use shoal_proto::decision::Rejection;
use shoal_proto::fact::Artifact;
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::package::{MAX_PACKAGE_BYTES, Package};
use shoal_proto::transfer::Part;
use shoal_proto::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// A source that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// Most that may be on its way at once, in bytes: two of the largest packages, so that what was begun and waits for its
/// sources never fills the disk.
const MAX_INCOMING_BYTES: u64 = 2 * MAX_PACKAGE_BYTES;
/// Messages of the hub's that may wait for a fetch: two windows. What finds no room is asked for again.
const PARTS: usize = 16;
/// Over MQTT unless told: a package of 2 MB in half a minute, and three quarters of a slow line for everything else.
const MQTT_BYTES_PER_S: u64 = 64 * 1024;

/// Over which way packages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// HTTP, and MQTT where that is closed.
    #[default]
    Auto,
    /// Only HTTP.
    Http,
    /// Only MQTT.
    Mqtt,
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "http" => Ok(Self::Http),
            "mqtt" => Ok(Self::Mqtt),
            other => Err(format!("`{other}` is none of `auto`, `http` and `mqtt`")),
        }
    }
}

/// How packages are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ways {
    /// The hub's artifact address, which sources that are paths are joined to.
    pub base: Option<String>,
    /// Over what.
    pub by: By,
    /// Bytes a second; unless told HTTP has no limit, and MQTT a low one.
    pub bytes_per_s: Option<u64>,
}

/// What a fetch needs of the device. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    ways: Ways,
    folder: PathBuf,
    trusted: Vec<VerifyingKey>,
    vault: Vault,
    clock: Clock,
    /// Where the hub hears needs.
    hub: Option<(Publisher, DeviceId)>,
    turn: Semaphore,
    running: Mutex<BTreeMap<(ModelName, u64), Running>>,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Running {
    archive: Digest,
    bytes: u64,
    cancel: CancellationToken,
    parts: mpsc::Sender<Part>,
}

impl Fetcher {
    /// Opens the folder of what is not yet whole, below the state folder. `hub`: where needs are said, and by whom.
    pub fn new(
        ways: Ways,
        state: &Path,
        (trusted, vault): (Vec<VerifyingKey>, Vault),
        hub: Option<(Publisher, DeviceId)>,
        clock: Clock,
        stopping: CancellationToken,
    ) -> Result<Self, std::io::Error> {
        let folder = state.join("incoming");
        std::fs::create_dir_all(&folder)?;
        let client = reqwest::Client::builder()
            .connect_timeout(SILENCE)
            .no_proxy()
            .build()
            .map_err(std::io::Error::other)?;
        let (turn, running) = (Semaphore::new(1), Mutex::default());
        Ok(Self(Arc::new(Inner {
            client,
            ways,
            folder,
            trusted,
            vault,
            clock,
            hub,
            turn,
            running,
            stopping,
        })))
    }

    /// Fetches, verifies and stores an assigned package. `None`: it was stopped.
    pub async fn fetch(
        &self,
        model: ModelName,
        generation: u64,
        version: Digest,
        artifact: Artifact,
    ) -> Option<Result<VersionInfo, Rejection>> {
        let inner = &self.0;
        let (cancel, (parts, from_hub)) = (inner.stopping.child_token(), mpsc::channel(PARTS));
        let (key, archive) = ((model, generation), artifact.archive);
        let bytes = artifact.size_bytes;
        {
            let mut running = inner.running();
            let under_way = running.values().map(|other| other.bytes).fold(bytes, u64::saturating_add);
            if under_way > MAX_INCOMING_BYTES {
                let reason = format!("{under_way} bytes would be on their way, at most {MAX_INCOMING_BYTES}");
                return Some(Err(Rejection::PackageRefused { reason }));
            }
            running.insert(key.clone(), Running { archive, bytes, cancel: cancel.clone(), parts });
        }
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            outcome = inner.fetch(version, artifact, from_hub) => Some(outcome),
        };
        inner.running().remove(&key);
        // What is left when the process ends is gone on with by the next.
        let is_needed = inner.running().values().any(|other| other.archive == archive);
        if !inner.stopping.is_cancelled() && !is_needed {
            part::remove(&inner.folder, archive);
        }
        outcome
    }

    /// Leaves off a fetch; one that is not under way is none of ours.
    pub fn stop(&self, model: ModelName, generation: u64) {
        if let Some(running) = self.0.running().get(&(model, generation)) {
            running.cancel.cancel();
        }
    }

    /// Something of an archive came over MQTT. `false`: it cannot be read.
    #[must_use]
    pub fn on_part(&self, frame: &[u8]) -> bool {
        let Ok(part) = wire::decode::<Part>(frame) else { return false };
        let running = self.0.running();
        if let Some(fetch) = running.values().find(|fetch| fetch.archive == part.archive)
            && fetch.parts.try_send(part).is_err()
        {
            tracing::debug!("a chunk came faster than it is written; it is asked for again");
        }
        true
    }

    /// Removes what earlier starts left of archives that nobody wants any more.
    pub fn clean(&self, wanted: &BTreeSet<Digest>) {
        part::clean(&self.0.folder, wanted);
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ModelName, u64), Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(
        &self,
        version: Digest,
        artifact: Artifact,
        from_hub: mpsc::Receiver<Part>,
    ) -> Result<VersionInfo, Rejection> {
        let refuse = |reason: String| Rejection::PackageRefused { reason };
        if self.trusted.is_empty() {
            let hint = "no release key is configured; put the line of `shoal-hub key show` under [trust] release_keys";
            return Err(refuse(hint.into()));
        }
        if artifact.size_bytes > MAX_PACKAGE_BYTES {
            return Err(refuse(format!("{} bytes are more than {MAX_PACKAGE_BYTES}", artifact.size_bytes)));
        }
        let bytes = match artifact.chunks {
            Some(promised) => Drive::new(self, artifact, promised, from_hub).run().await,
            None => self.whole(&artifact).await,
        };
        let bytes = bytes.map_err(refuse)?;
        let (trusted, vault) = (self.trusted.clone(), self.vault.clone());
        let stored = tokio::task::spawn_blocking(move || store(&bytes, version, &trusted, &vault)).await;
        stored.map_err(|cause| refuse(cause.to_string()))?
    }

    /// The addresses that an archive can be had at over HTTP, or why there are none.
    fn urls(&self, artifact: &Artifact) -> Result<Vec<String>, String> {
        if self.ways.by == By::Mqtt {
            return Err("`fetch = \"mqtt\"` under [hub] leaves no other way".into());
        }
        let mut urls = Vec::new();
        for source in &artifact.sources {
            match &self.ways.base {
                _ if source.contains("://") => urls.push(source.clone()),
                Some(base) => urls.push(format!("{base}{source}")),
                None => {}
            }
        }
        match artifact.sources.first() {
            None => Err("the hub names no source".into()),
            Some(source) if urls.is_empty() => {
                Err(format!("source `{source}` is a path; write `artifacts = \"http://…\"` under [hub]"))
            }
            Some(_) => Ok(urls),
        }
    }
}

/// Signature first, parse later: only a package that a release key signed is looked into.
fn store(
    bytes: &[u8],
    version: Digest,
    trusted: &[VerifyingKey],
    vault: &Vault,
) -> Result<VersionInfo, Rejection> {
    let refuse = |reason: String| Rejection::PackageRefused { reason };
    let package = Package::from_archive(bytes).map_err(|cause| refuse(crate::report::chain(&cause)))?;
    package.verify(trusted).map_err(|cause| refuse(crate::report::chain(&cause)))?;
    let found = package.version().map_err(|cause| refuse(crate::report::chain(&cause)))?;
    if found != version {
        return Err(refuse(format!("it is version {}, promised was {}", found.short(), version.short())));
    }
    vault.put(&package).map_err(|cause| refuse(crate::report::chain(&cause)))
}

#[cfg(test)]
mod tests;
