//! A real agent, alone, that serves one good model.

use crate::demo::Part;
use crate::demo::sensor::train_csv;
use anyhow::Context as _;
use clap::Parser as _;
use serde_json::{Value, json};
use shoal_agent::clock::Clock;
use shoal_agent::pack::{PackArgs, run as pack};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the agent may take to get ready, and its model to be served, on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// Rows that the good model is fitted on.
const ROWS: usize = 600;
/// Features of the good model.
pub(super) const FEATURES: usize = 16;

#[derive(Debug, clap::Parser)]
struct Packing {
    #[command(flatten)]
    pack: PackArgs,
}

/// The agent.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) part: Part,
    pub(super) url: String,
    pub(super) http: reqwest::Client,
    operator: reqwest::Client,
}

impl Stage {
    /// Starts it below a folder.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::File::create(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))?;
            anyhow::Ok(path)
        };
        let data = write("nose.csv", train_csv(1, ROWS))?.display().to_string();
        let package = folder.join("nose.shoal").display().to_string();
        let args = ["pack", "--data", &data, "--label", "gas", "--fit", "mlp:16", "--output", &package];
        pack(&Packing::try_parse_from(args)?.pack)?;
        let config = write(
            "agent.toml",
            "[device]\nid = \"zoo\"\n[state]\ndir = \"state\"\n[serve]\nhttp = \"127.0.0.1:0\"\ngrpc = \"off\"\n\
             [control]\nsocket = \"c.sock\"\n[[model]]\npackage = \"nose.shoal\"\n"
                .into(),
        )?;
        let (config, ready) = (config.display().to_string(), folder.join("ready"));
        let ready_text = ready.display().to_string();
        let program = std::env::current_exe()?;
        let args = ["agent", "run", "--config", &config, "--ready-file", &ready_text];
        let mut part = Part::start("the agent", &program, &args, &folder.join("agent.log"))?;
        let bound: Value = part.ready(&ready, READY).await?;
        let url = format!("http://{}", bound["http"].as_str().unwrap_or_default());
        let http = reqwest::Client::builder().no_proxy().build()?;
        let operator = reqwest::Client::builder().unix_socket(folder.join("c.sock")).build()?;
        let stage = Self { part, url, http, operator };
        tokio::time::timeout(READY, stage.served()).await.context("the good model was not served in time")?;
        Ok(stage)
    }

    async fn served(&self) {
        let url = format!("{}/v2/models/nose/ready", self.url);
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where the good model is asked.
    pub(super) fn good(&self) -> String {
        format!("{}/v2/models/nose/infer", self.url)
    }

    /// Gives the agent a package as its operator would; whether it took it.
    pub(super) async fn install(&self, archive: Vec<u8>) -> anyhow::Result<bool> {
        let asked = self.operator.post("http://agent/control/install").body(archive).send().await?;
        Ok(asked.status().is_success())
    }

    /// The models of the agent that are not the good one: those served, and all.
    pub(super) async fn others(&self) -> anyhow::Result<(Vec<String>, usize)> {
        let answer = self.operator.get("http://agent/control/status").send().await?;
        let status: Value = answer.error_for_status()?.json().await?;
        let others = status["models"].as_array().into_iter().flatten();
        let others: Vec<&Value> = others.filter(|model| model["model"] != "nose").collect();
        let served = others.iter().filter(|model| model["ready"] == true);
        let served = served.filter_map(|model| model["model"].as_str().map(str::to_owned)).collect();
        Ok((served, others.len()))
    }
}

/// What a hostile model that is served answers to a row of zeros: how long it took, and what was wrong.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ms: f64,
    pub(super) failure: Option<String>,
}

impl Stage {
    /// Asks a model for one row of zeros.
    pub(super) async fn ask(&self, model: &str, clock: &Clock) -> anyhow::Result<Asked> {
        let url = format!("{}/v2/models/{model}", self.url);
        let metadata: Value = self.http.get(&url).send().await?.error_for_status()?.json().await?;
        let inputs: Vec<Value> = metadata["inputs"].as_array().into_iter().flatten().map(zeros).collect();
        let start = clock.mono();
        let asked = self.http.post(format!("{url}/infer")).json(&json!({ "inputs": inputs })).send();
        let failure = match tokio::time::timeout(READY, asked).await {
            Ok(Ok(answer)) if answer.status().is_server_error() => Some(answer.text().await?),
            Ok(Ok(_)) => None,
            Ok(Err(cause)) => Some(format!("{cause:?}")),
            Err(_late) => Some(format!("no answer within {} s", READY.as_secs())),
        };
        Ok(Asked { ms: clock.mono().since(start).as_secs_f64() * 1e3, failure })
    }
}

/// An input of zeros, open sizes being one.
fn zeros(input: &Value) -> Value {
    let sizes = input["shape"].as_array().into_iter().flatten().map(|size| size.as_i64().unwrap_or(1).max(1));
    let shape: Vec<i64> = sizes.collect();
    let count: i64 = shape.iter().product();
    let zero = match input["datatype"].as_str() {
        Some("BOOL") => json!(false),
        Some("BYTES") => json!(""),
        _ => json!(0),
    };
    let data = vec![zero; usize::try_from(count).unwrap_or(0)];
    json!({ "name": input["name"], "datatype": input["datatype"], "shape": shape, "data": data })
}

/// This program, as an agent's children are started.
pub(super) fn program() -> anyhow::Result<(PathBuf, Vec<String>)> {
    Ok((std::env::current_exe()?, vec!["agent".into()]))
}
