//! The hub's embedded MQTT broker: rmqtt on its own small runtime, guarded by an [`Access`] policy.
//!
//! Messages are QoS 0/1/2 over MQTT 3.1.1 and 5 on one port. Retained messages are kept in memory and
//! are gone after a restart; the sync protocol needs nothing retained and nothing persistent from a
//! broker. PUBACK means "the broker has it in memory", never "delivered".
//!
//! Two habits of rmqtt that clients must know, both seen in the tests: a client that connects again while
//! the end of its older connection is being processed is refused with "server unavailable" and must try
//! again; and retained messages are looked up after SUBACK by a task of its own, so that one may arrive
//! twice or after a newer live message. What must be ordered carries its own number.
//!
//! rmqtt spawns detached tasks that never end (executors, sessions, its accept loop) and offers no stop.
//! Giving it a runtime of its own is what makes [`Broker::shutdown`] complete: every task, socket and
//! timer goes with the runtime. It also keeps a reconnect storm off the threads of the hub's core.

pub mod access;
mod guard;
mod retained;
#[cfg(test)]
mod tests;
pub mod topic;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::router::DefaultRouter;
use rmqtt::server::MqttServer;
use rmqtt::shared::DefaultShared;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use access::{Access, DeviceAccess, DeviceIdentity, OpenAccess};
use guard::Guard;
use retained::RetainedInMemory;

/// Worker threads of the broker's runtime; 9,500 clients cost 4 % of one core, the second serves while one is busy.
const BROKER_THREADS: usize = 2;
/// Sessions the broker accepts; about 20 KB each, so 400 MB at the limit.
const MAX_SESSIONS: isize = 20_000;
/// Handshakes worked on at once; more wait in line.
const MAX_HANDSHAKES: usize = 1_000;
/// Messages queued for one slow subscriber; what comes later is dropped and counted, the sync cursor sends it again.
const MAX_QUEUED: usize = 2_048;
/// Unacknowledged messages on the way to one subscriber; two windows of 32 batches.
const MAX_INFLIGHT: u16 = 64;
/// Subscriptions of one client; a device uses three.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Levels of a topic filter; the topic tree uses seven.
const MAX_TOPIC_LEVELS: usize = 10;
/// Longest client id in bytes; a device id has 40 at most, the hub's own add a prefix.
const MAX_CLIENT_ID_BYTES: usize = 64;
/// Time for TLS, CONNECT and CONNACK together; a slow 2G link needs seconds, a silent socket is dropped after it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a session that asked to be kept outlives its connection; our own clients ask for clean sessions.
const SESSION_EXPIRY: Duration = Duration::from_secs(600);
/// How long shutdown waits for the broker's threads to drop their tasks.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// rmqtt's name for our only listener.
const LISTENER_ID: u16 = 1;

/// What the broker listens on, what it accepts, and whom it lets in.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Address to listen on; port 0 takes a free one, [`Broker::addr`] tells which.
    pub listen: SocketAddr,
    /// Largest packet accepted from a client, in bytes after the fixed header; a larger one ends the connection.
    pub max_packet_bytes: u32,
    /// TLS files; `None` is plain TCP. Needs the cargo feature `tls`.
    pub tls: Option<TlsFiles>,
    /// Who may connect, publish and subscribe.
    pub access: Arc<dyn Access>,
}

/// PEM files of the broker's TLS identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain of the broker, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
    /// With it, every client must present a certificate signed by this CA, and the certificate's common
    /// name is what [`Access::may_connect`] sees as user name; a certificate without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// Why the broker did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The operating system gave no threads.
    #[error("failed to start the broker's runtime")]
    Runtime {
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The port is taken, or the address is not ours.
    #[error("failed to listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A TLS file is missing, unreadable or does not fit the others.
    #[error("failed to set up TLS with certificate `{}`", cert.display())]
    Tls {
        /// The certificate file of the configuration.
        cert: PathBuf,
        /// What rustls or the file system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS is configured and this binary was built without the cargo feature `tls`.
    #[error("TLS is configured but this hub was built without the feature `tls`")]
    TlsNotBuilt,
    /// A task of the broker panicked; a bug.
    #[error("the broker's task failed")]
    Task {
        /// How the task ended.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// What the broker holds and what it has refused since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerStats {
    /// Clients connected now.
    pub connections: u64,
    /// Topics with a retained message now.
    pub retained: u64,
    /// Connections refused by [`Access`].
    pub refused_connects: u64,
    /// Messages refused by [`Access`] and delivered to nobody.
    pub refused_publishes: u64,
    /// Subscriptions refused by [`Access`].
    pub refused_subscribes: u64,
    /// Messages dropped because a subscriber's queue was full, or it left, or the message expired.
    pub dropped: u64,
    /// Retained messages that were delivered but not kept, for size or number.
    pub not_retained: u64,
}

/// A running broker. Dropping it stops it without waiting; [`Broker::shutdown`] waits.
pub struct Broker {
    addr: SocketAddr,
    server: ServerContext,
    counters: Arc<Counters>,
    ended: CancellationToken,
    runtime: OwnRuntime,
}

impl Broker {
    /// Starts the broker; when it returns the port is open.
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let runtime = OwnRuntime::build()?;
        let counters = Arc::<Counters>::default();
        let tasks = TaskTracker::new();
        // Inside the broker's runtime: the socket belongs to the reactor of whoever opens it.
        let opened = tasks
            .spawn_on(open(config, Arc::clone(&counters)), runtime.handle())
            .await
            .map_err(|source| BrokerError::Task { source })?;
        let Opened { addr, server, listener } = opened?;
        let ended = CancellationToken::new();
        let ends = ended.clone().drop_guard();
        let serving = MqttServer::new(server.clone()).listener_by_id(listener, LISTENER_ID).build();
        tasks.spawn_on(
            async move {
                let _ends = ends;
                if let Err(error) = serving.run().await {
                    tracing::error!(%error, "broker stopped serving");
                }
            },
            runtime.handle(),
        );
        tracing::info!(%addr, "broker listening");
        Ok(Self { addr, server, counters, ended, runtime })
    }

    /// The address it listens on, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it holds and what it has refused.
    pub fn stats(&self) -> BrokerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerStats {
            connections: u64::try_from(self.server.connections.count()).unwrap_or(0),
            retained: read(&self.counters.retained),
            refused_connects: read(&self.counters.refused_connects),
            refused_publishes: read(&self.counters.refused_publishes),
            refused_subscribes: read(&self.counters.refused_subscribes),
            dropped: read(&self.counters.dropped),
            not_retained: read(&self.counters.not_retained),
        }
    }

    /// Waits until it no longer accepts connections; without a shutdown that is a failure to be treated as an event.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Closes the port and every connection, and waits until both are gone.
    ///
    /// Last wills are not published: the hub going away is not the device's death. Messages that were
    /// acknowledged but not yet forwarded are lost, which is what the end-to-end cursor is for.
    pub async fn shutdown(mut self) -> Result<(), BrokerError> {
        if let Some(runtime) = self.runtime.0.take() {
            // Stopping a runtime blocks its caller until the worker threads have dropped their tasks.
            TaskTracker::new()
                .spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_TIMEOUT))
                .await
                .map_err(|source| BrokerError::Task { source })?;
        }
        // The context holds these two and they hold the context: cut the ring so that it is freed.
        *self.server.extends.shared_mut().await = Box::new(DefaultShared::new(None));
        *self.server.extends.router_mut().await = Box::new(DefaultRouter::new(None));
        tracing::info!(addr = %self.addr, "broker stopped");
        Ok(())
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("addr", &self.addr)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Counters shared with the guard and the retained store.
#[derive(Debug, Default)]
struct Counters {
    retained: AtomicU64,
    refused_connects: AtomicU64,
    refused_publishes: AtomicU64,
    refused_subscribes: AtomicU64,
    dropped: AtomicU64,
    not_retained: AtomicU64,
}

/// A runtime that may be dropped inside another one: it is then told to stop and not waited for.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn build() -> Result<Self, BrokerError> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(BROKER_THREADS)
            .thread_name("broker")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(|source| BrokerError::Runtime { source })
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("the runtime is taken only by shutdown, which consumes the broker").handle()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A bound port and the server behind it, not yet serving.
struct Opened {
    addr: SocketAddr,
    server: ServerContext,
    listener: Listener,
}

async fn open(config: BrokerConfig, counters: Arc<Counters>) -> Result<Opened, BrokerError> {
    let by_certificate = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let listener = listener(&config)?;
    let addr = listener
        .local_addr()
        .map_err(|source| BrokerError::Listen { addr: config.listen, source: source.into() })?;
    // The busy check refuses clients when the machine's load is high, whoever causes it; we have our own limits.
    let server = ServerContext::new().busy_check_enable(false).mqtt_max_sessions(MAX_SESSIONS).build().await;
    *server.extends.retain_mut().await = Box::new(RetainedInMemory::new(Arc::clone(&counters)));
    Guard::install(&server, &config.access, by_certificate, &counters).await;
    Ok(Opened { addr, server, listener })
}

fn listener(config: &BrokerConfig) -> Result<Listener, BrokerError> {
    let settings = settings(config);
    let Some(tls) = &config.tls else {
        return settings
            .bind()
            .map_err(|source| BrokerError::Listen { addr: config.listen, source: source.into() });
    };
    tls_listener(settings, config.listen, tls)
}

fn settings(config: &BrokerConfig) -> Builder {
    Builder::new()
        .name("hub")
        .laddr(config.listen)
        // A restarted hub takes its port back while closed connections still linger in TIME_WAIT.
        .reuseaddr(Some(true))
        .nodelay(true)
        // Without it rmqtt lets a client with no user name past the access check.
        .allow_anonymous(false)
        // A client that never pings is never noticed dead.
        .allow_zero_keepalive(false)
        .max_packet_size(config.max_packet_bytes)
        .max_handshaking_limit(MAX_HANDSHAKES)
        .max_inflight(NonZeroU16::new(MAX_INFLIGHT).expect("the constant is not zero"))
        .max_mqueue_len(MAX_QUEUED)
        .mqueue_rate_limit(NonZeroU32::MAX, Duration::from_secs(1))
        .max_subscriptions(MAX_SUBSCRIPTIONS)
        .max_topic_levels(MAX_TOPIC_LEVELS)
        .max_clientid_len(MAX_CLIENT_ID_BYTES)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .session_expiry_interval(SESSION_EXPIRY)
        .max_session_expiry_interval(SESSION_EXPIRY)
}

#[cfg(feature = "tls")]
fn tls_listener(settings: Builder, addr: SocketAddr, tls: &TlsFiles) -> Result<Listener, BrokerError> {
    let name = |path: &std::path::Path| path.to_string_lossy().into_owned();
    settings
        .tls_cert(Some(name(&tls.cert)))
        .tls_key(Some(name(&tls.key)))
        .tls_client_ca_certs(tls.client_ca.as_deref().map(name))
        .tls_cross_certificate(tls.client_ca.is_some())
        .collect_cert_info(tls.client_ca.is_some())
        .bind()
        .map_err(|source| BrokerError::Listen { addr, source: source.into() })?
        .tls()
        .map_err(|source| BrokerError::Tls { cert: tls.cert.clone(), source: source.into() })
}

#[cfg(not(feature = "tls"))]
fn tls_listener(_settings: Builder, _addr: SocketAddr, _tls: &TlsFiles) -> Result<Listener, BrokerError> {
    Err(BrokerError::TlsNotBuilt)
}
