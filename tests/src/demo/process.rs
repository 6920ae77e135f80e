//! Hub and agents as real processes, ended by their ids.

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How often a file is looked for.
const POLL: Duration = Duration::from_millis(20);
/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of the fleet.
#[derive(Debug)]
pub struct Part {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `program` with these arguments; its output goes to `log`.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: &[S],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(Stdio::from(file))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Waits for the ready file and reads it.
    pub async fn ready<T: DeserializeOwned>(&mut self, file: &Path, within: Duration) -> anyhow::Result<T> {
        tokio::select! {
            found = wait_for_file(file, within) => {
                let bytes = found.with_context(|| format!("{} did not get ready: {}", self.name, self.last_words()))?;
                Ok(serde_json::from_slice(&bytes)?)
            }
            ended = self.child.wait() => bail!("{} ended ({}): {}", self.name, ended?, self.last_words()),
        }
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to stop, and kills it when it does not.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let id =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = id {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            bail!("{} did not stop within {} s", self.name, PATIENCE.as_secs());
        }
        Ok(())
    }
}

/// The command line of a hub with its data in a folder, on free ports; `broker` is how it says where that is.
#[must_use]
pub fn hub_args(folder: &Path, broker: &[&str]) -> Vec<String> {
    let text = |name: &str| folder.join(name).display().to_string();
    let free = "127.0.0.1:0";
    let (data, ready) = (text("hub"), text("hub.ready"));
    let mut args =
        vec!["hub", "serve", "--data", &data, "--http", free, "--devices-http", free, "--ready-file", &ready];
    args.extend(["--broker"]);
    args.extend(broker);
    args.into_iter().map(str::to_owned).collect()
}

/// Waits for a file that is written whole.
pub async fn wait_for_file(path: &Path, within: Duration) -> anyhow::Result<Vec<u8>> {
    let found = async {
        loop {
            if let Ok(bytes) = std::fs::read(path) {
                return bytes;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(within, found).await.with_context(|| format!("`{}` did not appear", path.display()))
}

/// Runs one command to its end and gives its standard output.
pub(super) async fn output<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> anyhow::Result<String> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8(done.stdout)?)
}
