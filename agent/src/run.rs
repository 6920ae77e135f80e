//! The running agent: opens what it needs, runs the loop, and stops within a deadline.

mod act;
mod note;
mod swap;
mod turn;

use crate::adapting::Desk;
use crate::clock::Clock;
use crate::config::Config;
use crate::control;
use crate::core::{Agent, Boot, Event, VersionInfo};
use crate::fetch::Fetcher;
use crate::file::{FileError, write_atomic};
use crate::keys::{KeyError, device_key};
use crate::log_tail::LogTail;
use crate::mqtt::{Client, Message, MqttEvent, Options, Publisher, UrlError};
use crate::report::chain;
use crate::sensors::Sensors;
use crate::serve::local::Local;
use crate::serve::{
    self, Asks, Doors, Grpc, ListenError, Models, Outlet, Questions, ServeState, Token, TokenError,
};
use crate::store::{Loaded, SamplesDb, StateDb, StoreError};
use crate::vault::{Vault, VaultError};
use crate::worker::{Limits, Workers, WorkersError};
use serde::{Deserialize, Serialize};
use shoal_proto::id::Incarnation;
use shoal_proto::infer::StatusOut;
use shoal_proto::message::Status;
use shoal_proto::package::Package;
use shoal_proto::topic::{Topic, Up};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Events that may wait for the loop; the data plane drops and counts observations beyond it.
const EVENT_QUEUE: usize = 1_024;
/// Swaps that may wait; each model has one at a time.
const SWAP_QUEUE: usize = 16;
/// How often the core is told of captured rows.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// Operators at once, besides the connections of applications: they get in when those are full.
const OPERATORS: usize = 16;
/// How long open requests and children may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// An agent that cannot start, or that had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder, a socket or a port.
    #[error("failed to {attempt} `{path}`")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The versions on disk.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The device's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The children's folder.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// A broker's address.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The ready file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A port or socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No thread for a worker.
    #[error("failed to start the workers")]
    Pool(#[source] std::io::Error),
    /// The token of the server.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Calls of models hang in so many threads that only a new process helps.
    #[error("calls of models hang; the agent must be started anew")]
    Stalled,
    /// A part ended that should not.
    #[error("the {part} ended by itself")]
    Ended {
        /// Which.
        part: &'static str,
    },
}

/// The bound addresses, as printed and as written to the ready file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Inference over HTTP.
    pub http: SocketAddr,
    /// Inference over gRPC, where it is on.
    pub grpc: Option<SocketAddr>,
    /// The operator's socket.
    pub control: PathBuf,
}

/// Runs an agent until `stop`. `program` is how children are started: an executable and the arguments
/// that make it this agent; `log` is what is sent to a hub that asks for it.
pub async fn run(
    config: Config,
    program: (PathBuf, Vec<String>),
    (log, ready_file): (LogTail, Option<&Path>),
    stop: CancellationToken,
) -> Result<(), RunError> {
    let dir = config.state_dir.clone();
    let io = |attempt, path: &Path| {
        let path = path.display().to_string();
        move |source| RunError::Io { attempt, path, source }
    };
    std::fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let clock = Clock::start();
    let (state, loaded) = StateDb::open(&dir)?;
    if let Some(reason) = &loaded.recovered {
        tracing::error!(reason, "state.db was damaged and has been replaced");
    }
    device_key(&dir)?;
    let vault = Vault::open(&dir)?;
    let (samples, late) = SamplesDb::open(&dir, config.samples_bytes)?;
    let samples = Arc::new(samples);
    let workers = Workers::new(
        program,
        dir.clone(),
        Limits { memory_bytes: config.child_bytes, ..Limits::ADMIT },
        Limits { memory_bytes: config.child_bytes, ..Limits::TRAIN },
    )?
    .with_cpu_share(config.cpu_share);
    let sensors = Arc::new(Mutex::new(Sensors::new(config.sensors.clone(), dir.clone())));

    let mut effects = Vec::new();
    let agent =
        Agent::new(config.policy.clone(), boot_of(&config, &vault, loaded)?, clock.now(), &mut effects);

    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (events, from_world) = mpsc::channel(EVENT_QUEUE);
    let (operators, from_operator) = mpsc::channel(control::ASK_QUEUE);
    let models = Arc::new(Models::default());
    let outlet = Outlet::spawn(&tracker, &cancel, events.clone(), late);
    let desk = Desk::new(&dir, config.policy.adapt);
    let asks = Arc::new(Asks::new(config.ask, clock));
    let teach = cancel.child_token();
    outlet.teach(&tracker, teach, Arc::clone(&models), desk.clone(), Arc::clone(&asks));
    let shadows = outlet.shadow(&tracker, cancel.child_token(), clock, config.serve.timeout);
    let loading = swap::Loading { vault: vault.clone(), models: Arc::clone(&models), desk, clock, shadows };
    let loader = swap::loader(loading.clone());
    let serving =
        ServeState::new(Arc::clone(&models), Arc::clone(&samples), outlet, clock, config.serve, loader)
            .map_err(RunError::Pool)?;
    let mut watch = tracker.spawn(Arc::clone(&serving).watch_stalls(cancel.child_token()));
    let (hub, from_hub) = hub_link(&config, &agent, &tracker, &cancel)?;
    let ways = config.hub.as_ref().map(|hub| hub.fetch.clone()).unwrap_or_default();
    let needs = hub.clone().map(|hub| (hub, config.policy.device.clone()));
    let keys = (config.release_keys.clone(), vault.clone());
    let fetcher = Fetcher::new(ways, &dir, keys, needs, clock, cancel.child_token())
        .map_err(io("create", &dir.join("incoming")))?;
    fetcher.clean(&agent.wanted_archives());
    serving.obey(operators.clone());
    let birth = StatusOut {
        device: config.policy.device.clone(),
        online: true,
        boot: agent.boot(),
        incarnation: agent.incarnation(),
        since: clock.now().wall,
    };
    let local = local_link(&config, birth, &serving, &tracker, &cancel)?;
    if let Some(local) = local.clone().filter(|_| config.ask.per_day > 0) {
        let questions = Questions::new(asks, Arc::clone(&models), clock, &dir);
        tracker.spawn(questions.run(local, cancel.child_token()));
    }
    tracker.spawn(count_captured(Arc::clone(&samples), events.clone(), cancel.child_token()));
    let (swaps, wanted) = mpsc::channel(SWAP_QUEUE);
    tracker.spawn(swap::carry_out(loading, events.clone(), wanted));

    let token = config.token_file.as_deref().map(Token::read).transpose()?;
    let door = |places, lanes| {
        Doors::new(tracker.clone(), cancel.child_token(), Arc::clone(&models), places, lanes)
            .map_err(RunError::Pool)
    };
    let doors = door(config.max_connections, config.serve.workers)?;
    let http = doors.http(config.http, serve::router(Arc::clone(&serving), token)).await?;
    let grpc = match config.grpc {
        None => None,
        Some(address) => Some(doors.grpc(address, Grpc::new(Arc::clone(&serving), token)).await?),
    };
    let routes = serve::router(Arc::clone(&serving), None);
    if let Some(path) = &config.socket {
        doors.unix(path, routes.clone())?;
    }
    refuse_second_agent(&config.control)?;
    door(OPERATORS, 1)?.unix(&config.control, routes.merge(control::router(operators)))?;
    let ready = Ready { http, grpc, control: config.control.clone() };

    let tasks = tracker.clone();
    let act = act::Act {
        state,
        vault,
        workers,
        fetcher,
        serving,
        hub,
        local,
        events,
        tracker: tasks,
        sensors,
        swaps,
        log,
    };
    let turns = turn::Turns::new(agent, act, clock, from_world, from_hub, from_operator);
    let mut core = tracker.spawn(turns.run(effects, cancel.child_token()));
    announce(&ready, ready_file)?;

    let outcome = tokio::select! {
        () = stop.cancelled() => {
            tracing::info!("agent stops");
            Ok(())
        }
        _ended = &mut core => Err(RunError::Ended { part: "core" }),
        _hanging = &mut watch => Err(RunError::Stalled),
    };
    cancel.cancel();
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!(open = tracker.len(), "tasks were cut off at the deadline");
    }
    if let Err(cause) = samples.flush().await {
        tracing::warn!(error = %chain(&cause), "samples were not flushed");
    }
    outcome
}

/// What is on disk, and what the configuration names. A package that cannot be taken is told and
/// passed over: the models that served go on.
fn boot_of(config: &Config, vault: &Vault, loaded: Loaded) -> Result<Boot, RunError> {
    let mut configured = Vec::new();
    for path in &config.packages {
        match install(vault, path) {
            Ok(info) => configured.push(info),
            Err(reason) => {
                tracing::error!(package = %path.display(), reason, "package of the configuration is refused");
            }
        }
    }
    let mut versions = Vec::new();
    for version in vault.list()? {
        match vault.info(version) {
            Ok(info) => versions.push(info),
            Err(cause) => tracing::error!(%version, error = %chain(&cause), "version on disk is damaged"),
        }
    }
    Ok(Boot {
        incarnation: loaded.incarnation,
        boot: loaded.boot,
        clock: loaded.clock,
        base: loaded.base,
        ops: loaded.ops,
        entries: loaded.entries,
        cursor: loaded.cursor,
        sealed: loaded.sealed,
        memory: loaded.memory,
        versions,
        configured,
        seed: rand::random(),
    })
}

fn install(vault: &Vault, path: &Path) -> Result<VersionInfo, String> {
    let bytes = std::fs::read(path).map_err(|cause| format!("failed to read it: {cause}"))?;
    let package = Package::from_archive(&bytes).map_err(|cause| chain(&cause))?;
    vault.put(&package).map_err(|cause| chain(&cause))
}

type HubLink = (Option<Publisher>, Option<mpsc::Receiver<MqttEvent>>);

fn hub_link(
    config: &Config,
    agent: &Agent,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<HubLink, RunError> {
    let Some(hub) = &config.hub else { return Ok((None, None)) };
    let device = config.policy.device.clone();
    let mut options = Options::new(hub.broker.parse()?, device.as_str());
    options.subscriptions = vec![Topic::device_filter(&device)];
    options.last_will = Some(status(&device, agent.incarnation(), agent.boot(), false));
    let (publisher, receiver) = Client::spawn(tracker, cancel.child_token(), options);
    Ok((Some(publisher), Some(receiver)))
}

/// Birth or last will: a late will cannot undo a newer birth, since it carries an older boot.
fn status(device: &shoal_proto::id::DeviceId, incarnation: Incarnation, boot: u64, online: bool) -> Message {
    let word = Status { online, boot, incarnation };
    Message {
        topic: Topic::Up(device.clone(), Up::Status).to_string(),
        payload: shoal_proto::wire::encode(&word).unwrap_or_default(),
        retain: true,
    }
}

fn local_link(
    config: &Config,
    birth: StatusOut,
    serving: &Arc<ServeState>,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<Option<Local>, RunError> {
    let Some(local) = &config.local else { return Ok(None) };
    // The same broker may be the hub's: another client id, or the two would take each other's place.
    let options = Options::new(local.broker.parse()?, format!("{}-local", config.policy.device));
    let app = (local.app.clone(), birth);
    Ok(Some(Local::spawn(tracker, cancel.child_token(), Arc::clone(serving), app, options)))
}

/// A second agent on one socket would take the first one's operators.
fn refuse_second_agent(path: &Path) -> Result<(), RunError> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        return Ok(());
    }
    let source = std::io::Error::new(std::io::ErrorKind::AddrInUse, "another agent answers on it");
    Err(RunError::Io { attempt: "listen on", path: path.display().to_string(), source })
}

/// Tells the core what the store has written and dropped.
async fn count_captured(samples: Arc<SamplesDb>, events: mpsc::Sender<Event>, cancel: CancellationToken) {
    let mut told = samples.stats();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
        let now = samples.stats();
        let (rows, dropped) = (now.captured - told.captured, now.dropped - told.dropped);
        told = now;
        if rows + dropped > 0 && events.send(Event::Captured { rows, dropped }).await.is_err() {
            return;
        }
    }
}

fn announce(ready: &Ready, file: Option<&Path>) -> Result<(), RunError> {
    let grpc = ready.grpc.map(|address| address.to_string());
    tracing::info!(http = %ready.http, grpc, control = %ready.control.display(), "agent is ready");
    if let Some(path) = file {
        write_atomic(path, &serde_json::to_vec(ready).unwrap_or_default())?;
    }
    Ok(())
}
