//! The doors of the server: HTTP on TCP and on unix sockets, gRPC on TCP. Each keeps its limits: how
//! many connections, how long a head may take, how large it may be.

use super::grpc::Grpc;
use super::models::Models;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;
/// Longest time from the last answer to the whole head of the next request: it bounds both slow heads
/// and idle connections.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// Largest head, and what is read of a body at once.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header lines of a request.
const MAX_HEADERS: usize = 64;
/// Calls at once on one gRPC connection.
const MAX_STREAMS: u32 = 128;
/// Headers of a gRPC call.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// How often a silent gRPC connection is asked whether anybody is there, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Rest after an accept that failed: file handles have run out, and come back when others close.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// An address that cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TCP address is taken, or not ours.
    #[error("failed to listen on {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The socket file cannot be made.
    #[error("failed to listen on `{path}`")]
    Unix {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Opens doors. Cheap to clone; clones share the places and the lanes.
#[derive(Debug, Clone)]
pub struct Doors {
    tracker: TaskTracker,
    cancel: CancellationToken,
    places: Arc<Semaphore>,
    models: Arc<Models>,
    lanes: Arc<[Lane]>,
}

/// A thread that serves its connections alone. Where several threads share them, each request wakes a
/// second thread to look for work that is not there, which costs more than the request.
#[derive(Debug)]
struct Lane {
    runtime: Handle,
    connections: TaskTracker,
}

impl Lane {
    fn start(tracker: &TaskTracker, cancel: &CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let lane = Self { runtime: runtime.handle().clone(), connections: TaskTracker::new() };
        let (alive, cancel, connections) = (tracker.token(), cancel.clone(), lane.connections.clone());
        thread::Builder::new().name("lane".into()).spawn(move || {
            runtime.block_on(async {
                cancel.cancelled().await;
                connections.close();
                connections.wait().await;
            });
            drop(alive);
        })?;
        Ok(lane)
    }
}

/// What speaks on a connection.
#[derive(Debug, Clone)]
enum Speaker {
    Http(TowerToHyperService<Router>),
    Grpc(Grpc),
}

/// What lets connections in. They come out bare, since another thread may take them on.
trait Door: Send + 'static {
    type Bare: Send + 'static;
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Bare>> + Send;
    fn take_on(bare: Self::Bare) -> io::Result<Self::Stream>;
}

impl Door for TcpListener {
    type Bare = std::net::TcpStream;
    type Stream = TcpStream;
    async fn accept(&self) -> io::Result<Self::Bare> {
        let (stream, _) = Self::accept(self).await?;
        stream.set_nodelay(true)?; // or a small answer waits for more
        stream.into_std()
    }
    fn take_on(bare: Self::Bare) -> io::Result<TcpStream> {
        TcpStream::from_std(bare)
    }
}

impl Door for UnixListener {
    type Bare = std::os::unix::net::UnixStream;
    type Stream = UnixStream;
    async fn accept(&self) -> io::Result<Self::Bare> {
        Self::accept(self).await?.0.into_std()
    }
    fn take_on(bare: Self::Bare) -> io::Result<UnixStream> {
        UnixStream::from_std(bare)
    }
}

impl Doors {
    /// Doors that let so many connections in at once, until `cancel`: then the requests that run end.
    /// Connections are dealt to so many threads of their own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(
        tracker: TaskTracker,
        cancel: CancellationToken,
        models: Arc<Models>,
        max_connections: usize,
        lanes: usize,
    ) -> io::Result<Self> {
        let lanes = (0..lanes.max(1)).map(|_| Lane::start(&tracker, &cancel)).collect::<io::Result<_>>()?;
        Ok(Self { tracker, cancel, places: Arc::new(Semaphore::new(max_connections)), models, lanes })
    }

    /// HTTP on TCP; gives the address, which tells the port where 0 was asked for.
    pub async fn http(&self, address: SocketAddr, router: Router) -> Result<SocketAddr, ListenError> {
        self.tcp(address, Speaker::Http(TowerToHyperService::new(router))).await
    }

    /// gRPC on TCP; gives the address, which tells the port where 0 was asked for.
    pub async fn grpc(&self, address: SocketAddr, grpc: Grpc) -> Result<SocketAddr, ListenError> {
        self.tcp(address, Speaker::Grpc(grpc)).await
    }

    async fn tcp(&self, address: SocketAddr, speaker: Speaker) -> Result<SocketAddr, ListenError> {
        let fail = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        self.tracker.spawn(self.clone().keep(listener, speaker));
        Ok(bound)
    }

    /// HTTP on a unix socket. A socket file of an earlier life is replaced.
    pub fn unix(&self, path: &Path, router: Router) -> Result<(), ListenError> {
        let fail = |source| ListenError::Unix { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(fail(cause)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(fail)?;
        self.tracker.spawn(self.clone().keep(listener, Speaker::Http(TowerToHyperService::new(router))));
        Ok(())
    }

    async fn keep<D: Door>(self, door: D, speaker: Speaker) {
        for lane in (0..self.lanes.len()).cycle() {
            let accepted = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                accepted = door.accept() => accepted,
            };
            let metrics = self.models.metrics();
            match (accepted, Arc::clone(&self.places).try_acquire_owned()) {
                (Ok(bare), Ok(place)) => {
                    metrics.connections.inc();
                    let speech = self.clone().speak::<D>(bare, speaker.clone(), place);
                    let lane = &self.lanes[lane];
                    lane.connections.spawn_on(speech, &lane.runtime);
                }
                // Closed at once: who waits in a queue nobody empties learns nothing.
                (Ok(_turned_away), Err(_full)) => drop(metrics.connections_refused.inc()),
                (Err(cause), _) => {
                    tracing::debug!(%cause, "a connection was not taken");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn speak<D: Door>(self, bare: D::Bare, speaker: Speaker, place: OwnedSemaphorePermit) {
        let ended = match D::take_on(bare) {
            Ok(stream) => {
                self.converse(TokioIo::new(stream), speaker).await.map_err(|cause| cause.to_string())
            }
            Err(cause) => Err(cause.to_string()),
        };
        if let Err(cause) = ended {
            tracing::debug!(cause, "a connection ended early");
        }
        self.models.metrics().connections.dec();
        drop(place);
    }

    async fn converse<S>(&self, io: TokioIo<S>, speaker: Speaker) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match speaker {
            Speaker::Http(service) => {
                let speech = http1().serve_connection(io, service);
                until(&self.cancel, speech, http1::Connection::graceful_shutdown).await
            }
            Speaker::Grpc(grpc) => {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = grpc.clone().call(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let speech = http2().serve_connection(io, service);
                until(&self.cancel, speech, http2::Connection::graceful_shutdown).await
            }
        }
    }
}

/// A conversation to its end; on `cancel` it is asked to end after what runs.
async fn until<C: Future>(cancel: &CancellationToken, speech: C, end: fn(Pin<&mut C>)) -> C::Output {
    let mut speech = pin!(speech);
    tokio::select! {
        biased;
        ended = speech.as_mut() => ended,
        () = cancel.cancelled() => {
            end(speech.as_mut());
            speech.await
        }
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}
