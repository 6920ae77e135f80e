//! The command line: `serve`, and a client of the HTTP API for everything else.

mod args;
mod client;
mod commands;
mod decode;
mod show;

use crate::config::{BrokerMode, Config, ConfigError};
use crate::report::error_chain;
use crate::serve::{ServeError, serve};
use args::{Args, Command, ServeArgs};
use clap::Parser as _;
use client::ClientError;
use shoal_proto::describe::DescribeError;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Log level when `RUST_LOG` says nothing; the libraries' own chatter starts at warnings.
const LOG: &str = "warn,shoal_hub=info";

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration file cannot be read.
    #[error("failed to read `{}`", path.display())]
    ReadConfig {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error("`{}` is not a configuration of the hub:\n{source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    /// The hub did not start, or stopped.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The runtime did not start.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    /// The hub's answer, or none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An argument that only the command itself can judge.
    #[error("{what}")]
    Usage { what: String, hint: &'static str },
    /// A file of the command line.
    #[error("failed to read `{}`", path.display())]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A watched rollout did not succeed.
    #[error("rollout ended: {phase}")]
    RolloutEnded { phase: String },
    /// Messages that are not what their topics are for.
    #[error("{count} messages cannot be shown; the first: {cause}")]
    Unreadable { count: usize, cause: DescribeError },
    /// A command that was awaited was not done.
    #[error("the command is {state}: {reason}")]
    NotDone { state: String, reason: String },
    /// The output is closed.
    #[error("failed to write the output")]
    Output(#[source] io::Error),
}

impl CliError {
    /// Exit codes are decided here and nowhere else (sysexits).
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::ReadFile { .. } => 64,
            Self::ReadConfig { .. } | Self::Config { .. } => 78,
            Self::Client(ClientError::Unreachable { .. } | ClientError::Stopping { .. }) => 75,
            Self::Client(ClientError::Address { .. }) => 64,
            Self::Client(ClientError::Refused { .. }) | Self::RolloutEnded { .. } | Self::NotDone { .. } => 1,
            Self::Unreadable { .. } => 65,
            Self::Serve(ServeError::Listen { .. } | ServeError::Locked { .. } | ServeError::Broker(_)) => 75,
            Self::Client(ClientError::Answer { .. })
            | Self::Serve(_)
            | Self::Runtime(_)
            | Self::Output(_) => 70,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Client(error) => return error.hint(),
            Self::Usage { hint, .. } => (*hint).into(),
            Self::ReadConfig { .. } => "give the file with --config, or leave it out for the defaults".into(),
            Self::Serve(ServeError::Listen { .. } | ServeError::Broker(_)) => {
                "is another hub or broker running? Port 0 takes a free one".into()
            }
            Self::Serve(ServeError::Locked { .. }) => "stop it, or give another folder with --data".into(),
            _ => return None,
        })
    }
}

/// Runs the command line, the program's name first; the value is the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let shown = error.print();
            let asked = !error.use_stderr();
            return ExitCode::from(if asked && shown.is_ok() { 0 } else { 64 });
        }
    };
    match execute(args) {
        Ok(()) => ExitCode::SUCCESS,
        // `| head` is no failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {}\n", error_chain(&error));
            if let Some(hint) = error.hint() {
                text += &format!("hint: {hint}\n");
            }
            let told = io::stderr().write_all(text.as_bytes());
            ExitCode::from(if told.is_ok() { error.exit_code() } else { 70 })
        }
    }
}

fn execute(args: Args) -> Result<(), CliError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    match args.command {
        Command::Asyncapi => {
            let text = format!("{:#}\n", shoal_proto::asyncapi::document());
            io::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Output)
        }
        Command::Decode { file, topic } => decode::run(file, topic.as_deref()),
        Command::Serve(serve) => runtime.block_on(run_serve(serve)),
        command => runtime.block_on(commands::run(&args.hub, args.json, command)),
    }
}

async fn run_serve(args: ServeArgs) -> Result<(), CliError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(LOG));
    let ansi = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi);
    if let Err(error) = log.try_init() {
        tracing::debug!(error, "a log is set up already");
    }
    let ready = args.ready_file.clone();
    Ok(serve(config(args)?, ready).await?)
}

/// The file, then the command line over it.
fn config(args: ServeArgs) -> Result<Config, CliError> {
    let mut config = match args.config {
        None => Config::default(),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| CliError::ReadConfig { path: path.clone(), source })?;
            Config::parse(&text).map_err(|source| CliError::Config { path, source })?
        }
    };
    let Config { data, http, devices_http, broker, broker_listen, .. } = &mut config;
    *data = args.data.unwrap_or(std::mem::take(data));
    *http = args.http.unwrap_or(*http);
    *devices_http = args.devices_http.unwrap_or(*devices_http);
    *broker_listen = args.broker_listen.unwrap_or(*broker_listen);
    *broker = args.broker.unwrap_or(std::mem::replace(broker, BrokerMode::Embedded));
    Ok(config)
}
