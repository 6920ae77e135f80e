//! One hub and its agents, in a temporary folder, on free ports.

use super::process::{Part, hub_args, output};
use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a process may take to get ready on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// The agent that does not adapt: it shows what retraining does alone.
pub(super) const RETRAINED_ALONE: usize = 0;
/// The share of devices whose applications live on the broker is one: this one.
pub(super) const ON_MQTT: usize = 1;

/// How quickly the demo's devices act.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) window_rows: usize,
    pub(super) min_labels: usize,
}

/// The running fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    program: PathBuf,
    folder: PathBuf,
    pub(super) hub: Part,
    pub(super) agents: Vec<Agent>,
    pub(super) http: reqwest::Client,
    pub(super) hub_url: String,
    devices_url: String,
    pub(super) broker: String,
    key: String,
}

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) part: Part,
}

impl Fleet {
    /// Starts the hub.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let args = hub_args(folder, &["embedded", "--broker-listen", "127.0.0.1:0"]);
        let mut hub = Part::start("the hub", &program, &args, &folder.join("hub.log"))?;
        let bound: Value = hub.ready(&folder.join("hub.ready"), READY).await?;
        let text = |key: &str| bound[key].as_str().unwrap_or_default().to_owned();
        let mut fleet = Self {
            program,
            folder: folder.to_owned(),
            hub,
            agents: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build()?,
            hub_url: format!("http://{}", text("http")),
            devices_url: format!("http://{}", text("devices_http")),
            broker: format!("mqtt://{}", text("broker")),
            key: String::new(),
        };
        fleet.key = fleet.get("/api/v1/key").await?["public_key"]
            .as_str()
            .context("the hub shows no key")?
            .to_owned();
        Ok(fleet)
    }

    /// Runs a command of the hub's.
    pub(super) async fn hub_command(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["hub", "--hub", self.hub_url.as_str(), "--json"];
        all.extend(args);
        let text = output(&self.program, &all).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Makes a package with the agent's own command.
    pub(super) async fn pack(
        &self,
        csv: &str,
        label: &str,
        name: &str,
        version: u32,
    ) -> anyhow::Result<(PathBuf, Value)> {
        let data = self.folder.join(format!("{name}-{version}.csv"));
        std::fs::File::create(&data)
            .and_then(|mut file| std::io::Write::write_all(&mut file, csv.as_bytes()))?;
        let package = self.folder.join(format!("{name}-{version}.shoal"));
        let (data, out, number) =
            (data.display().to_string(), package.display().to_string(), version.to_string());
        let args = [
            "agent",
            "--json",
            "pack",
            "--data",
            &data,
            "--label",
            label,
            "--fit",
            "mlp:64",
            "--name",
            name,
            "--version",
            &number,
            "--output",
            &out,
        ];
        let report = output(&self.program, &args).await.context("pack failed")?;
        Ok((package, serde_json::from_str(report.trim())?))
    }

    /// Starts one agent on a package.
    pub(super) async fn add_agent(&mut self, id: &str, package: &Path, pace: Pace) -> anyhow::Result<()> {
        let folder = self.folder.join(id);
        std::fs::create_dir_all(&folder)?;
        let (config, ready) = (folder.join("agent.toml"), folder.join("ready"));
        let local = if self.agents.len() == ON_MQTT {
            format!("[local]\nbroker = \"{}\"\napp = \"{id}\"\n", self.broker)
        } else {
            String::new()
        };
        let adapts = self.agents.len() != RETRAINED_ALONE;
        let site = if self.agents.len().is_multiple_of(2) { "lyon" } else { "oslo" };
        let text = format!(
            "[device]\nid = \"{id}\"\ntags = {{ site = \"{site}\" }}\n[state]\ndir = \"state\"\n\
             [serve]\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n[control]\nsocket = \"c.sock\"\n\
             [hub]\nbroker = \"{}\"\nartifacts = \"{}\"\n{local}\
             [[model]]\npackage = \"{}\"\n\
             [watch]\nwindow_rows = {}\nwindow_s = 60\nheartbeat_s = 2\n\
             [retrain]\nmin_labels = {}\ncooldown_s = 2\nholdout_share = 0.4\n\
             [trial]\nmin_requests = 60\nmin_labels = 20\nmax_s = 60\n\
             [adapt]\ninputs = {adapts}\nhead = {adapts}\n\
             [trust]\nrelease_keys = [\"{}\"]\n",
            self.broker,
            self.devices_url,
            package.display(),
            pace.window_rows,
            pace.min_labels,
            self.key
        );
        std::fs::File::create(&config)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))?;
        let (config, ready_text) = (config.display().to_string(), ready.display().to_string());
        let args = ["agent", "run", "--config", &config, "--ready-file", &ready_text];
        let mut part = Part::start(id, &self.program, &args, &self.folder.join(format!("{id}.log")))?;
        let bound: Value = part.ready(&ready, READY).await?;
        let url = format!("http://{}", bound["http"].as_str().unwrap_or_default());
        self.agents.push(Agent { id: id.to_owned(), url, part });
        Ok(())
    }

    /// Where everything of this fleet is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether every process runs.
    pub(super) fn are_running(&mut self) -> bool {
        self.hub.is_running() && self.agents.iter_mut().all(|agent| agent.part.is_running())
    }

    /// Asks the hub's API.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.http.get(format!("{}{path}", self.hub_url)).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    /// Ends everything, agents first.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        for agent in &mut self.agents {
            agent.part.stop().await?;
        }
        self.hub.stop().await
    }
}
