//! The command line: `run`, the tools on files, and a client of the control socket for the rest.

mod args;
mod backtest;
mod client;
mod drift;
mod graph;
mod offline;
mod packed;
mod show;

use crate::config::{Config, ConfigError};
use crate::log_tail::LogTail;
use crate::report::chain;
use crate::run::{RunError, run};
use args::{Args, Command, ConfigArgs, LabelArgs};
use clap::Parser as _;
use client::{Client, ClientError};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Log level when `RUST_LOG` says nothing; the libraries' own chatter starts at warnings.
const LOG: &str = "warn,shoal_agent=info";

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent did not start, or stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The process could not be set up.
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    /// The agent's answer, or none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Packing.
    #[error(transparent)]
    Pack(#[from] crate::pack::PackError),
    /// Inspecting.
    #[error(transparent)]
    Inspect(#[from] crate::inspect::InspectError),
    /// Watching a recorded stream.
    #[error(transparent)]
    Watch(#[from] crate::watch::WatchError),
    /// Playing a recorded stream to the loop.
    #[error(transparent)]
    Backtest(#[from] crate::backtest::BacktestError),
    /// Predicting without an agent.
    #[error(transparent)]
    Offline(#[from] offline::OfflineError),
    /// A child.
    #[error(transparent)]
    Worker(#[from] crate::worker::WorkerError),
    /// An argument that only the command itself can judge.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to write instead.
        hint: &'static str,
    },
    /// The output is closed.
    #[error("failed to write the output")]
    Output(#[source] io::Error),
}

impl CliError {
    /// Exit codes are decided here and nowhere else (sysexits).
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Pack(_) | Self::Watch(_) | Self::Offline(_) => 64,
            Self::Backtest(cause) => backtest::exit_code(cause),
            Self::Config(_) | Self::Run(RunError::Token(_)) => 78,
            Self::Client(ClientError::Unreachable { .. }) => 75,
            Self::Client(ClientError::Refused { .. } | ClientError::Answer { .. }) | Self::Inspect(_) => 1,
            Self::Run(
                RunError::Io { attempt: "listen on", .. } | RunError::Listen(_) | RunError::Stalled,
            ) => 75,
            Self::Run(_) | Self::Process(_) | Self::Worker(_) | Self::Output(_) => 70,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. } => (*hint).to_owned(),
            Self::Config(ConfigError::Read { .. }) => "give the file with --config FILE".into(),
            Self::Client(ClientError::Unreachable { .. }) => {
                "is the agent running? start it with `shoal-agent run --config FILE`, or name its socket with --socket".into()
            }
            Self::Pack(cause) => cause.hint()?.to_owned(),
            Self::Inspect(cause) => cause.hint()?.to_owned(),
            Self::Watch(cause) => cause.hint()?.to_owned(),
            Self::Backtest(cause) => cause.hint()?.to_owned(),
            Self::Config(_)
            | Self::Run(_)
            | Self::Process(_)
            | Self::Client(_)
            | Self::Offline(_)
            | Self::Worker(_)
            | Self::Output(_) => return None,
        };
        Some(hint)
    }
}

/// Runs one command. `args` begins with the program's name; `program` is how this very command line is
/// started again, for children.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>, program: (PathBuf, Vec<String>)) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(cause) => {
            let code = if cause.use_stderr() { 64 } else { 0 };
            drop(cause.print()); // a closed terminal cannot be told
            return ExitCode::from(code);
        }
    };
    match command(args, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            let mut text = format!("error: {}\n", chain(&cause));
            if let Some(hint) = cause.hint() {
                text.push_str(&format!("hint: {hint}\n"));
            }
            drop(io::stderr().write_all(text.as_bytes()));
            ExitCode::from(cause.exit_code())
        }
    }
}

fn command(args: Args, program: (PathBuf, Vec<String>)) -> Result<(), CliError> {
    let json = args.json;
    match args.command {
        Command::Run { config, ready_file } => start(&config, program, ready_file),
        Command::CheckConfig { config } => {
            let path = config.config.display().to_string();
            Config::load(&config.config)?;
            let report = serde_json::json!({ "config": path, "ok": true });
            print(json, &report, || format!("`{path}` is a good configuration\n"))
        }
        Command::Inspect(args) => {
            let report = crate::inspect::run(&args)?;
            print(json, &report, || report.to_string())
        }
        Command::Pack(args) => {
            let mut bar = packed::Bar::new(json);
            let report = crate::pack::run_with(&args, &mut |progress| bar.on_progress(progress));
            bar.end();
            let report = report?;
            print(json, &report, || packed::packed(&report))
        }
        Command::Watch(args) => {
            let report = crate::watch::run(&args)?;
            print(json, &report, || drift::watched(&report))
        }
        Command::Backtest(args) => {
            let report = crate::backtest::run(&args)?;
            print(json, &report, || backtest::report(&report))
        }
        Command::Predict(args) if args.package.is_some() => {
            let answer = offline::predict(&args)?;
            print(json, &answer, || show::predictions(&answer))
        }
        Command::Worker { worker } => Ok(crate::worker::run(&worker)?),
        other => runtime()?.block_on(remote(other, &args.socket, json)),
    }
}

/// Commands that a running agent answers.
async fn remote(command: Command, socket: &std::path::Path, json: bool) -> Result<(), CliError> {
    let client = Client::new(socket)?;
    match command {
        Command::Status => {
            let status = client.status().await?;
            let serving = client.serving().await?;
            let whole = show::Whole { status: &status, serving: &serving };
            print(json, &whole, || show::status(&whole))
        }
        Command::Models => {
            let models = client.status().await?.models;
            print(json, &models, || show::models(&models))
        }
        Command::Versions { lift: Some(version), .. } => done(json, &client.lift(&version).await?),
        Command::Versions { pin: Some(version), .. } => done(json, &client.pin(&version, true).await?),
        Command::Versions { unpin: Some(version), .. } => done(json, &client.pin(&version, false).await?),
        Command::Versions { model, graph: true, .. } => {
            let lineage = client.lineage().await?;
            let lineage = model.iter().fold(lineage, |lineage, model| lineage.of(model));
            print(json, &lineage, || graph::draw(&lineage))
        }
        Command::Replay { version } => {
            let replay = client.replay(&version).await?;
            print(json, &replay, || graph::replay(&replay))
        }
        Command::Versions { model, .. } => {
            let mut versions = client.versions().await?;
            versions.retain(|one| model.as_ref().is_none_or(|model| one.record.model == *model));
            print(json, &versions, || show::versions(&versions))
        }
        Command::Predict(args) => {
            let answer = client.predict(&args).await?;
            print(json, &answer, || show::predictions(&answer))
        }
        Command::Label(LabelArgs { next: Some(count), model, .. }) => {
            let asked = client.next_asks(model.as_ref(), count).await?;
            print(json, &asked, || show::asked(&asked))
        }
        Command::Label(args) => {
            let answer = client.label(&args).await?;
            print(json, &answer, || format!("{}\n", answer["status"].as_str().unwrap_or("taken")))
        }
        Command::Train { model, cancel } => {
            let what = if cancel { "train/cancel" } else { "train" };
            done(json, &client.order(&model, what).await?)
        }
        Command::Drift { model } => {
            let names = match model {
                Some(model) => vec![model],
                None => client.status().await?.models.into_iter().map(|model| model.model).collect(),
            };
            let mut all = Vec::new();
            for name in names {
                all.push(client.drift(&name).await?);
            }
            print(json, &all, || all.iter().map(drift::drift).collect::<Vec<_>>().join("\n"))
        }
        Command::Rollback { model } => done(json, &client.order(&model, "rollback").await?),
        Command::Promote { model, version } => done(json, &client.promote(&model, &version).await?),
        Command::Install { file } => done(json, &client.install(&file).await?),
        Command::Run { .. }
        | Command::CheckConfig { .. }
        | Command::Inspect(_)
        | Command::Pack(_)
        | Command::Watch(_)
        | Command::Backtest(_)
        | Command::Worker { .. } => Ok(()), // answered without an agent
    }
}

fn done(json: bool, answer: &crate::control::Done) -> Result<(), CliError> {
    print(json, answer, || format!("{}\n", answer.done))
}

fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
    let mut line = if json {
        let mut line = serde_json::to_string(value).map_err(|cause| CliError::Output(cause.into()))?;
        line.push('\n');
        line
    } else {
        text()
    };
    if !line.ends_with('\n') {
        line.push('\n');
    }
    match io::stdout().lock().write_all(line.as_bytes()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(cause)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    // Two workers: one for requests, one for the loop; models run on the blocking pool.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Process)
}

fn start(
    config: &ConfigArgs,
    program: (PathBuf, Vec<String>),
    ready_file: Option<PathBuf>,
) -> Result<(), CliError> {
    let config = Config::load(&config.config)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(LOG));
    let log = LogTail::default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.clone())
        .with_ansi(io::stderr().is_terminal())
        .init();
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let mut term = signal(SignalKind::terminate()).map_err(CliError::Process)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Process)?;
        let signals = async move {
            tokio::select! {
                _told = term.recv() => {}
                _told = interrupt.recv() => {}
            }
            told.cancel();
        };
        let (_, outcome) = tokio::join!(biased; wait_or(signals, &stop), async {
            let outcome = run(config, program, (log, ready_file.as_deref()), stop.clone()).await;
            stop.cancel();
            outcome
        });
        Ok(outcome?)
    })
}

/// Waits for the signals, unless the agent ended before them.
async fn wait_or(signals: impl Future<Output = ()>, stop: &CancellationToken) {
    tokio::select! {
        () = signals => {}
        () = stop.cancelled() => {}
    }
}
