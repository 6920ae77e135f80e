//! Archives over MQTT: reads the chunks that devices need from disk and hands them to the link, in the order and at
//! the rates that [`crate::core::courier`] decides.

use crate::clock::Clock;
use crate::core::courier::{Courier, Item, Rates, Wanted};
use crate::core::view::Carried;
use crate::link::Out;
use crate::registry::{Registry, RegistryError};
use crate::report::error_chain;
use shoal_proto::chunks::ChunkList;
use shoal_proto::id::{DeviceId, Digest};
use shoal_proto::topic::{Down, Topic};
use shoal_proto::transfer::{Given, LIST_PART_BYTES, Need, Part, Refusal};
use shoal_proto::wire;
use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chunk lists kept in memory: rollouts that run at once.
const LISTS: usize = 16;
/// Longest sleep when nobody waits.
const IDLE: Duration = Duration::from_secs(3_600);

/// What a device needs, and whether it may have it.
#[derive(Debug)]
pub struct Asked {
    /// Who.
    pub device: DeviceId,
    /// What.
    pub need: Need,
    /// Why not.
    pub refused: Option<Refusal>,
}

/// What went out since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    needs: AtomicU64,
    dropped: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
    refusals: AtomicU64,
    pub(crate) http_bytes: AtomicU64,
}

impl Traffic {
    /// The figures.
    #[must_use]
    pub fn view(&self) -> Carried {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Carried {
            needs: of(&self.needs),
            needs_dropped: of(&self.dropped),
            chunks: of(&self.chunks),
            mqtt_bytes: of(&self.bytes),
            refusals: of(&self.refusals),
            http_bytes: of(&self.http_bytes),
        }
    }

    /// A need that found no room.
    pub fn drop_need(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries chunks until cancelled.
pub async fn run(
    rates: Rates,
    mut asked: mpsc::Receiver<Asked>,
    link: mpsc::Sender<Out>,
    (registry, traffic): (Arc<Registry>, Arc<Traffic>),
    clock: Clock,
    cancel: CancellationToken,
) {
    let mut courier = Courier::new(rates, clock.now().mono);
    let mut shelf = Shelf { registry, lists: BTreeMap::new() };
    loop {
        let now = clock.now().mono;
        while let Ok(one) = asked.try_recv() {
            take(&mut courier, &traffic, clock, &one);
        }
        if let Some(item) = courier.next(now) {
            let Item { device, archive, number, what } = item;
            let what = shelf.give(archive, what).await;
            let counter = match &what {
                Given::Chunk { .. } => Some(&traffic.chunks),
                Given::Refused(_) => Some(&traffic.refusals),
                Given::List { .. } => None,
            };
            let Ok(frame) = wire::encode(&Part { archive, number, what }) else { continue };
            if let Some(counter) = counter {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            traffic.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
            let topic = Topic::Down(device, Down::Artifact);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                sent = link.send(Out { topic, frame }) => if sent.is_err() { return },
            }
            continue;
        }
        let wait = courier.next_deadline(now).map_or(IDLE, |at| clock.until(at));
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            one = asked.recv() => match one {
                Some(one) => take(&mut courier, &traffic, clock, &one),
                None => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn take(courier: &mut Courier, traffic: &Traffic, clock: Clock, asked: &Asked) {
    traffic.needs.fetch_add(1, Ordering::Relaxed);
    let Asked { device, need, refused } = asked;
    if !courier.on_need(clock.now().mono, device, need, refused.clone()) {
        traffic.drop_need();
        tracing::debug!(%device, "more devices need chunks than are served at once");
    }
}

/// A chunk list as it is sent.
#[derive(Debug)]
struct Listed {
    bytes: Vec<u8>,
    digest: Digest,
    list: ChunkList,
}

/// Reads archives; `None` for one whose list cannot be had, so that it is told once.
#[derive(Debug)]
struct Shelf {
    registry: Arc<Registry>,
    lists: BTreeMap<Digest, Option<Arc<Listed>>>,
}

impl Shelf {
    async fn give(&mut self, archive: Digest, what: Wanted) -> Given {
        let given = match what {
            Wanted::Refusal(refusal) => Err(refusal),
            Wanted::List { from } => self.part(archive, from).await,
            Wanted::Chunk { list, index } => self.chunk(archive, list, index).await,
        };
        given.unwrap_or_else(Given::Refused)
    }

    async fn part(&mut self, archive: Digest, from: u32) -> Result<Given, Refusal> {
        let listed = self.listed(archive).await.ok_or(Refusal::Missing)?;
        let at = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = listed.bytes.get(at..).filter(|rest| !rest.is_empty()).ok_or(Refusal::OtherList)?;
        let bytes = rest.iter().copied().take(LIST_PART_BYTES).collect();
        let total = u32::try_from(listed.bytes.len()).unwrap_or(u32::MAX);
        Ok(Given::List { from, total, bytes })
    }

    async fn chunk(&mut self, archive: Digest, list: Digest, index: u32) -> Result<Given, Refusal> {
        let listed = self.listed(archive).await.ok_or(Refusal::Missing)?;
        let range = listed.list.range(index).filter(|_| listed.digest == list);
        let (from, length) = range.ok_or(Refusal::OtherList)?;
        let bytes = match read(&self.registry, archive, from, length).await {
            Ok(bytes) => bytes,
            Err(cause) => {
                tracing::warn!(%archive, error = %cause, "an archive cannot be read");
                return Err(Refusal::Missing);
            }
        };
        if !listed.list.is_chunk(index, &bytes) {
            tracing::error!(%archive, index, "an archive is not what was pushed: push it again");
            return Err(Refusal::Damaged);
        }
        Ok(Given::Chunk { index, bytes })
    }

    async fn listed(&mut self, archive: Digest) -> Option<Arc<Listed>> {
        if let Some(known) = self.lists.get(&archive) {
            return known.clone();
        }
        let registry = Arc::clone(&self.registry);
        let made = tokio::task::spawn_blocking(move || registry.chunk_list(archive)).await;
        let listed = match made {
            Ok(Ok((bytes, list))) => Some(Arc::new(Listed { digest: Digest::of(&bytes), bytes, list })),
            Ok(Err(cause)) => {
                tracing::error!(%archive, error = error_chain(&cause), "an archive has no chunk list");
                None
            }
            Err(cause) => {
                tracing::error!(%archive, error = %cause, "an archive has no chunk list");
                None
            }
        };
        if self.lists.len() >= LISTS {
            self.lists.clear();
        }
        self.lists.insert(archive, listed.clone());
        listed
    }
}

async fn read(registry: &Registry, archive: Digest, from: u64, length: u32) -> std::io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(registry.path(archive)).await?;
    file.seek(SeekFrom::Start(from)).await?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Makes the lists of versions that were pushed to an earlier build, one after the other.
pub async fn list_all(
    registry: Arc<Registry>,
    models: Vec<crate::core::registered::Registered>,
    asker: crate::serve::Asker,
) {
    for mut model in models {
        let (registry, archive) = (Arc::clone(&registry), model.artifact.archive);
        let made: Result<_, RegistryError> =
            match tokio::task::spawn_blocking(move || registry.chunk_list(archive)).await {
                Ok(made) => made,
                Err(cause) => {
                    tracing::error!(%archive, error = %cause, "an archive has no chunk list");
                    continue;
                }
            };
        match made {
            Ok((bytes, _)) => {
                model.artifact.chunks = Some(Digest::of(&bytes));
                let push = crate::core::Request::PushModel(Box::new(model));
                if asker.ask(push).await.is_err() {
                    return; // the hub is stopping
                }
            }
            Err(cause) => {
                tracing::warn!(%archive, error = error_chain(&cause), "an archive has no chunk list");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::package;
    use shoal_proto::time::WallMs;

    #[tokio::test]
    async fn what_is_on_the_shelf_is_given_and_what_is_not_is_refused_by_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(folder.path(), &[]).unwrap());
        let artifact = registry.take(&package(1).to_archive().unwrap(), WallMs(0)).unwrap().artifact;
        let (archive, list) = (artifact.archive, artifact.chunks.unwrap());
        let content = std::fs::read(registry.path(archive)).unwrap();
        let mut shelf = Shelf { registry: Arc::clone(&registry), lists: BTreeMap::new() };
        let chunk = |list, index| Wanted::Chunk { list, index };
        let refused = |refusal| Given::Refused(refusal);

        let whole = shelf.give(archive, chunk(list, 0)).await;
        assert_eq!(whole, Given::Chunk { index: 0, bytes: content.clone() });
        let Given::List { from: 0, total, bytes } = shelf.give(archive, Wanted::List { from: 0 }).await
        else {
            panic!("no list");
        };
        assert_eq!((usize::try_from(total).unwrap(), Digest::of(&bytes)), (bytes.len(), list));
        let Given::List { bytes: rest, .. } = shelf.give(archive, Wanted::List { from: 10 }).await else {
            panic!("no list");
        };
        assert_eq!(rest, bytes[10..]);
        for (of, what, refusal) in [
            (archive, chunk(list, 1), Refusal::OtherList),
            (archive, chunk(archive, 0), Refusal::OtherList),
            (archive, Wanted::List { from: total }, Refusal::OtherList),
            (list, chunk(list, 0), Refusal::Missing),
            (list, Wanted::List { from: 0 }, Refusal::Missing),
            (archive, Wanted::Refusal(Refusal::NotAssigned), Refusal::NotAssigned),
        ] {
            assert_eq!(shelf.give(of, what.clone()).await, refused(refusal), "{what:?}");
        }
        let mut damaged = content.clone();
        damaged[3] ^= 1;
        crate::file::write_atomic(&registry.path(archive), &damaged, crate::file::PUBLIC).unwrap();
        assert_eq!(shelf.give(archive, chunk(list, 0)).await, refused(Refusal::Damaged));
        std::fs::remove_file(registry.path(archive)).unwrap();
        assert_eq!(shelf.give(archive, chunk(list, 0)).await, refused(Refusal::Missing));
    }
}
