//! A real agent, alone, that serves one package.

use super::conn::Conn;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use shoal_agent::clock::Clock;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// The name under which the model is packed.
pub const MODEL: &str = "m";
/// How long the agent may take until its model is served, on a busy machine: admission has ten seconds of
/// its own.
const READY: Duration = Duration::from_secs(60);
/// How long a model may take to be packed.
const PACKED: Duration = Duration::from_secs(120);
/// How long the agent may take to stop.
const STOPPED: Duration = Duration::from_secs(10);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A child process, killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts a command without input; its output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file));
        let child = command.spawn().with_context(|| format!("failed to start {}", shown(&command)))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Looks again and again until there is something, or the process ends, or the time is over.
    pub fn until<T>(&mut self, within: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        let clock = Clock::start();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}): {}", self.last_words());
            }
            if clock.mono().since(shoal_proto::time::Mono::default()) > within {
                bail!("not within {} s: {}", within.as_secs(), self.last_words());
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }

    fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let clock = Clock::start();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if clock.mono().since(shoal_proto::time::Mono::default()) > within {
                bail!("it did not end within {} s: {}", within.as_secs(), self.last_words());
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Asks it to stop, and waits.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.ended(STOPPED).map(drop)
    }

    /// The last lines that it said.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn agent() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("agent");
    Ok(command)
}

/// Packs a model as [`MODEL`] with the agent's own command, in a process of its own; what went wrong is
/// what the command says.
pub fn pack<S: AsRef<OsStr>>(args: &[S], package: &Path) -> anyhow::Result<()> {
    let log = package.with_extension("log");
    let mut command = agent()?;
    command.arg("pack").args(args).args(["--name", MODEL, "--output"]).arg(package);
    let mut child = Child::start(command, &log)?;
    let status = child.ended(PACKED)?;
    if !status.success() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let said = text.lines().filter(|line| !line.trim_start().starts_with("hint:"));
        bail!("{}", said.map(str::trim).collect::<Vec<_>>().join(": "));
    }
    Ok(())
}

/// What the agent writes when it is ready.
#[derive(Debug, Deserialize)]
struct Bound {
    http: SocketAddr,
    grpc: Option<SocketAddr>,
}

/// The agent.
#[derive(Debug)]
pub struct Solo {
    child: Child,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Where it serves gRPC.
    pub grpc: Option<SocketAddr>,
    /// Where it serves HTTP on a unix socket.
    pub socket: PathBuf,
}

impl Solo {
    /// Starts an agent below a folder and waits until it serves the package; `more` are further tables of
    /// its settings.
    pub fn start(folder: &Path, package: &Path, more: &str) -> anyhow::Result<Self> {
        let (config, ready, socket) =
            (folder.join("agent.toml"), folder.join("ready"), folder.join("i.sock"));
        write!(
            File::create(&config)?,
            "[device]\nid = \"solo\"\n[state]\ndir = {:?}\n[control]\nsocket = {:?}\n\
             [serve]\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nsocket = {socket:?}\nmax_body_mib = 1024\n\
             timeout_ms = 60000\n[[model]]\npackage = {package:?}\n{more}",
            folder.join("state"),
            folder.join("c.sock"),
        )?;
        let mut command = agent()?;
        command.arg("run").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
        let mut child = Child::start(command, &folder.join("agent.log"))?;
        let bound = child.until(READY, || std::fs::read(&ready).ok()).context("the agent is not ready")?;
        let bound: Bound = serde_json::from_slice(&bound)?;
        let asked = format!("GET /v2/models/{MODEL}/ready HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut conn = Conn::tcp(bound.http)?;
        let log = folder.join("agent.log");
        let served = child.until(READY, || match conn.ask(asked.as_bytes()) {
            Ok(reply) if reply.status == 200 => Some(Ok(())),
            _ => refusal(&log).map(Err),
        });
        served.context("the model is not served")?.map_err(anyhow::Error::msg)?;
        Ok(Self { child, http: bound.http, grpc: bound.grpc, socket })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Asks it to stop, and waits.
    pub fn stop(self) -> anyhow::Result<()> {
        self.child.stop()
    }
}

/// The first line of the log that says that something went wrong: a model that is refused is told there.
fn refusal(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let is_bad =
        |line: &&str| ["ERROR", "candidate rejected", "alarm"].iter().any(|word| line.contains(word));
    text.lines().find(is_bad).map(str::to_owned)
}
