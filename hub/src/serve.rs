//! The running hub: opens what it needs, runs the loop, and stops within a deadline.

mod turn;

use crate::api;
use crate::broker::{Broker, BrokerConfig, BrokerError, DeviceAccess, DeviceIdentity, access};
use crate::clock::Clock;
use crate::config::{BrokerMode, Config};
use crate::core::Hub;
use crate::courier::{self, Traffic};
use crate::file::{PUBLIC, write_atomic};
use crate::link::{self, LinkConfig};
use crate::registry::{Registry, RegistryError};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use turn::{Ask, AskError, Asker};

/// Messages from the link that may wait for the loop: some seconds of ten thousand devices.
const LINK_QUEUE: usize = 4_096;
/// Frames that may wait for the link; more are dropped, since the cursor protocol sends them again.
const OUTBOX: usize = 4_096;
/// Devices' needs of archives that may wait for the courier; more are dropped, since devices ask again.
const NEEDS: usize = 256;
/// Chunks that may wait for the link: enough that it never waits for the disk.
const CHUNKS: usize = 4;
/// Operators' requests that may wait.
const ASK_QUEUE: usize = 64;
/// How long open requests may take to end when the hub stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Largest packet of the embedded broker: a frame of 60 KiB with its topic, twice over.
const MAX_PACKET_BYTES: u32 = 128 * 1024;
/// MQTT client id of the hub.
const CLIENT_ID: &str = "hub-core";
/// Bytes of randomness in the secret between hub and embedded broker, new at each start.
const SECRET_BYTES: usize = 32;

/// A hub that cannot start, or that had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder, its lock, or a file.
    #[error("failed to use `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Two hubs on one folder would give the same generation twice.
    #[error("another hub runs on `{}`", path.display())]
    Locked { path: PathBuf },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A port.
    #[error("failed to listen on {addr}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Signals cannot be caught, or the output is closed.
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    /// A part ended that should not.
    #[error("the {part} ended by itself")]
    Ended { part: &'static str },
}

/// The bound addresses, as printed and as written to the ready file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Operators.
    pub http: SocketAddr,
    /// Devices.
    pub devices_http: SocketAddr,
    /// Broker, as `host:port`.
    pub broker: String,
}

/// Runs a hub until it is told to stop.
pub async fn serve(config: Config, ready_file: Option<PathBuf>) -> Result<(), ServeError> {
    let _lock = lock(&config.data)?;
    let clock = Clock::start();
    let (store, saved) = Store::open(&config.data.join("hub.db"))?;
    let registry = Registry::open(&config.data, &config.trusted)?;
    for name in registry.missing(saved.models.values()) {
        tracing::error!(version = name, "archive is missing from the artifacts folder: push it again");
    }
    tracing::info!(devices = saved.devices.len(), generation = saved.generation, "hub restored");
    let unlisted: Vec<_> = saved.models.values().filter(|it| it.artifact.chunks.is_none()).cloned().collect();
    let hub = Hub::restore(config.policy.clone(), saved, rand::random());
    let (broker, link_config) = start_broker(&config).await?;
    let (http, devices_http) = (listen(config.http).await?, listen(config.devices_http).await?);
    let ready = Ready {
        http: bound(&http, config.http)?,
        devices_http: bound(&devices_http, config.devices_http)?,
        broker: format!("{}:{}", link_config.host, link_config.port),
    };

    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (link_events, from_link) = mpsc::channel(LINK_QUEUE);
    let (to_link, outbox) = mpsc::channel(OUTBOX);
    let (asks, from_api) = mpsc::channel(ASK_QUEUE);
    let (to_courier, needs) = mpsc::channel(NEEDS);
    let (chunks, from_courier) = mpsc::channel(CHUNKS);
    let (registry, traffic) = (Arc::new(registry), Arc::new(Traffic::default()));
    let asker = Asker::new(asks);
    let state = api::State::new(asker.clone(), Arc::clone(&registry), clock, Arc::clone(&traffic));
    let ended = CancellationToken::new();
    let spawn = |part: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let ended = ended.clone();
        tracker.spawn(async move {
            let _ends = ended.drop_guard(); // also when the task panics
            task.await;
            tracing::debug!(part, "task ended");
        });
    };
    let queues = (outbox, from_courier);
    spawn("link", Box::pin(link::run(link_config, link_events, queues, cancel.child_token())));
    let shelf = (Arc::clone(&registry), Arc::clone(&traffic));
    let carry = courier::run(config.archives, needs, chunks, shelf, clock, cancel.child_token());
    spawn("courier", Box::pin(carry));
    tracker.spawn(courier::list_all(registry, unlisted, asker));
    let operators = api::operators(state.clone());
    spawn("api", Box::pin(api::run(http, operators, cancel.child_token())));
    spawn("artifact server", Box::pin(api::run(devices_http, api::devices(state), cancel.child_token())));
    let turns = turn::Turns { hub, store, clock, from_link, to_link, from_api, to_courier, traffic };
    let core = tracker.spawn(turns.run(cancel.child_token()));

    announce(&ready, ready_file.as_deref())?;
    let outcome = wait(&broker, &ended, core).await;
    cancel.cancel();
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!(open = tracker.len(), "requests were cut off at the deadline");
    }
    if let Some(broker) = broker {
        broker.shutdown().await?;
    }
    tracing::info!("hub stopped");
    outcome
}

/// Waits for a signal, or for a part that ends by itself.
async fn wait(
    broker: &Option<Broker>,
    ended: &CancellationToken,
    core: tokio::task::JoinHandle<Result<(), StoreError>>,
) -> Result<(), ServeError> {
    let mut term = signal(SignalKind::terminate()).map_err(ServeError::Process)?;
    let mut int = signal(SignalKind::interrupt()).map_err(ServeError::Process)?;
    let broker_ended = async {
        match broker {
            Some(broker) => broker.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        outcome = core => match outcome {
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) | Err(_) => Err(ServeError::Ended { part: "core" }),
        },
        () = broker_ended => Err(ServeError::Ended { part: "embedded broker" }),
        () = ended.cancelled() => Err(ServeError::Ended { part: "link or an HTTP server" }),
    }
}

fn lock(data: &Path) -> Result<std::fs::File, ServeError> {
    let io = |source| ServeError::Io { path: data.to_owned(), source };
    std::fs::create_dir_all(data).map_err(io)?;
    let file = std::fs::File::create(data.join("hub.lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServeError::Locked { path: data.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Starts the embedded broker or finds the external one.
async fn start_broker(config: &Config) -> Result<(Option<Broker>, LinkConfig), ServeError> {
    let client_id = CLIENT_ID.to_owned();
    match &config.broker {
        BrokerMode::Embedded => {
            let secret = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
            let access = DeviceAccess::new(secret.as_bytes(), DeviceIdentity::Claimed);
            let broker = Broker::start(BrokerConfig {
                listen: config.broker_listen,
                max_packet_bytes: MAX_PACKET_BYTES,
                tls: None,
                access: Arc::new(access),
            })
            .await?;
            let addr = broker.addr();
            let host = match addr.ip() {
                ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
                ip => ip.to_string(),
            };
            let login = Some((access::HUB_USER.to_owned(), secret));
            Ok((Some(broker), LinkConfig { host, port: addr.port(), client_id, login }))
        }
        BrokerMode::External { host, port, user } => {
            let password = match &config.password_file {
                None => String::new(),
                Some(path) => std::fs::read_to_string(path)
                    .map_err(|source| ServeError::Io { path: path.clone(), source })?,
            };
            let login = user.clone().map(|user| (user, password.trim_end().to_owned()));
            // Several hubs may share an external broker; equal ids would throw each other out.
            let client_id = format!("{client_id}-{:08x}", rand::random::<u32>());
            Ok((None, LinkConfig { host: host.clone(), port: *port, client_id, login }))
        }
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(addr).await.map_err(|source| ServeError::Listen { addr, source })
}

fn bound(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(|source| ServeError::Listen { addr: asked, source })
}

fn announce(ready: &Ready, file: Option<&Path>) -> Result<(), ServeError> {
    let Ready { http, devices_http, broker } = ready;
    let mut out = io::stdout().lock();
    let lines =
        format!("operators  http://{http}\ndevices    http://{devices_http}\nbroker     mqtt://{broker}\n");
    out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(ServeError::Process)?;
    if let Some(path) = file {
        let json = serde_json::to_vec(ready).expect("addresses have a JSON form");
        write_atomic(path, &json, PUBLIC)
            .map_err(|source| ServeError::Io { path: path.to_owned(), source })?;
    }
    Ok(())
}
