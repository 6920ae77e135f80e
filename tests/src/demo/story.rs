//! The story, told as it happens.

use super::Args;
use super::data::Recording;
use super::feed::{Feeding, Way};
use super::fleet::{Fleet, ON_MQTT, Pace, RETRAINED_ALONE};
use super::score::{Scores, accuracy, worst};
use super::source::{Course, FLIPPED, World};
use super::summary::{RolloutEnd, Summary};
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use shoal_agent::clock::Clock;
use shoal_infer::Predictor;
use shoal_onnx::Limits;
use shoal_proto::package::{MODEL, Package};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the story looks at the hub.
const LOOK: Duration = Duration::from_millis(400);
/// After so long the demo says what is missing and ends; the whole must be over in three minutes.
const CHAPTER: Duration = Duration::from_secs(75);

/// Tells what happens, and keeps what was told already.
struct Teller {
    to_stderr: bool,
    bar: Option<ProgressBar>,
    clock: Clock,
    told: BTreeSet<String>,
}

impl Teller {
    fn say(&self, text: &str) {
        let line = format!("[{:5.1} s] {text}\n", self.clock.mono().0.as_secs_f64());
        let write = || {
            let written = if self.to_stderr {
                std::io::stderr().write_all(line.as_bytes())
            } else {
                std::io::stdout().write_all(line.as_bytes())
            };
            drop(written); // a closed terminal cannot be told
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn once(&mut self, text: &str) {
        if self.told.insert(text.to_owned()) {
            self.say(text);
        }
    }
}

struct Stage {
    teller: Teller,
    fleet: Fleet,
    world: World,
    course: Course,
    scores: Vec<Scores>,
    summary: Summary,
    model: &'static str,
    label: String,
}

/// Runs the whole demo; `false`: something did not come out as it should.
pub(super) async fn tell(args: &Args) -> anyhow::Result<bool> {
    let clock = Clock::start();
    let bar = std::io::stderr().is_terminal().then(|| {
        ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} rows  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
    });
    let teller = Teller { to_stderr: args.json, bar, clock, told: BTreeSet::new() };
    let world = world(args)?;
    // A recording is dealt to few devices, so that each has labels enough to learn from.
    let few = args.quick || matches!(world, World::Recorded(_));
    let devices = usize::from(args.devices.unwrap_or(if few { 3 } else { 5 }));
    let folder = tempfile::Builder::new().prefix("shoal-demo-").tempdir()?;
    let mut stage = Stage::open(teller, world, devices, args, folder.path()).await?;
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let outcome = stage.play(args, devices, &tracker, &cancel).await;
    cancel.cancel();
    tracker.close();
    tracker.wait().await;
    if outcome.is_err() {
        let kept = folder.keep();
        stage.teller.say(&format!("the logs are kept in {}", kept.display()));
    } else if args.keep {
        stage.teller.say("hub and agents go on until Ctrl-C");
        tokio::signal::ctrl_c().await?;
    }
    outcome?;
    stage.finish(args).await
}

fn world(args: &Args) -> anyhow::Result<World> {
    let (Some(data), Some(stream), Some(label)) = (&args.data, &args.stream, &args.label) else {
        return Ok(World::Nose { seed: args.seed });
    };
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    Ok(World::Recorded(Arc::new(Recording::parse(&read(data)?, &read(stream)?, label)?)))
}

impl Stage {
    async fn open(
        teller: Teller,
        world: World,
        devices: usize,
        args: &Args,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        teller.say("starting a hub with its own MQTT broker");
        let mut fleet = Fleet::start(folder).await?;
        teller.say(&format!("the fleet's page: {}/", fleet.hub_url));
        let (csv, label, model) = world.training();
        teller.say(&format!(
            "fitting a first model on {} rows (shoal-agent pack --fit mlp:64)",
            csv.lines().count() - 1
        ));
        let (package, report) = fleet.pack(&csv, &label, model, 1).await?;
        teller.say(&format!("packed {} ({})", report["name"].as_str().unwrap_or(model), brief(&report)));
        fleet.hub_command(&["model", "push", &package.display().to_string()]).await?;
        let course = world.course(devices, args.quick);
        let pace = match world {
            World::Nose { .. } => Pace { window_rows: 150, min_labels: 150 },
            World::Recorded(_) => Pace { window_rows: 60, min_labels: 50 },
        };
        teller.say(&format!("starting {devices} agents; every one is a process with its own databases"));
        for id in 1..=devices {
            fleet.add_agent(&format!("rig-{id:02}"), &package, pace).await?;
        }
        let summary = Summary { devices, ..Summary::default() };
        let scores = Vec::new();
        Ok(Self { teller, fleet, world, course, scores, summary, model, label })
    }

    async fn play(
        &mut self,
        args: &Args,
        devices: usize,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        self.start_feeding(args, devices, tracker, cancel).await?;
        self.drift_and_learning(devices).await?;
        self.judge_learning(devices);
        self.rollouts(devices).await?;
        self.read_totals(devices).await
    }

    /// Applications begin to send rows to all agents; the last device's operator tells lies.
    async fn start_feeding(
        &mut self,
        args: &Args,
        devices: usize,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        let path = format!("{}-1.shoal", self.model);
        let bytes = std::fs::read(self.fleet.folder().join(path))?;
        let package = Package::from_archive(&bytes)?;
        let manifest = package.manifest()?;
        let rate = match self.world {
            World::Nose { .. } => 120,
            World::Recorded(_) => 40,
        };
        let feeding = Feeding {
            model: manifest.model.name.clone(),
            input: manifest.input.tensor.clone(),
            output: manifest.output.tensor.clone(),
            classes: Arc::new(manifest.output.classes.clone()),
            untouched: Arc::new(Predictor::load(
                package.file(MODEL).unwrap_or_default(),
                &Limits::default(),
            )?),
            rate,
        };
        for (at, agent) in self.fleet.agents.iter().enumerate() {
            let (source, scores) = (
                self.world.source(at, devices, self.course, args.seed, at + 1 == devices),
                Scores::default(),
            );
            self.scores.push(scores.clone());
            let way = if at == ON_MQTT {
                Way::on_broker(&self.fleet.broker, &agent.id, tracker, cancel).await?
            } else {
                Way::Http { client: self.fleet.http.clone(), url: agent.url.clone() }
            };
            wait_ready(&self.fleet.http, &agent.url, self.model).await?;
            let (feeding, cancel, id) = (feeding.clone(), cancel.clone(), agent.id.clone());
            let failed = cancel.clone();
            tracker.spawn(async move {
                if let Err(cause) = feeding.run(way, source, scores, cancel).await {
                    let line = format!("error: application of {id}: {cause:#}\n");
                    drop(std::io::stderr().write_all(line.as_bytes()));
                    failed.cancel();
                }
            });
        }
        self.teller.say(&format!(
            "{rate} rows a second into each agent by HTTP, into rig-02 by MQTT; rig-01 does not adapt and is only retrained; 60 % of the answers get a label, {:.0} % of the last rig's labels are wrong",
            FLIPPED * 100.0
        ));
        Ok(())
    }

    /// Follows drift, runs and gates on the hub until the course is over.
    async fn drift_and_learning(&mut self, devices: usize) -> anyhow::Result<()> {
        let rows = self.course.rows() * devices;
        if let Some(bar) = &self.teller.bar {
            bar.set_length(rows as u64);
        }
        let mut fresh = false;
        loop {
            let least = self.scores.iter().map(Scores::rows).min().unwrap_or(0);
            let sent: usize = self.scores.iter().map(|scores| scores.rows().min(self.course.rows())).sum();
            if let Some(bar) = &self.teller.bar {
                bar.set_position(sent as u64);
            }
            if !fresh && least >= self.course.fresh {
                fresh = true;
                let before = accuracy(&self.all(), 0, self.course.fresh);
                self.teller
                    .say(&format!("fresh sensors: {:.1} % right; now they age", before.served * 100.0));
            }
            self.look(devices).await?;
            if least >= self.course.rows() {
                return Ok(());
            }
            if !self.fleet.are_running() {
                bail!("a process of the fleet has ended");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn all(&self) -> Vec<&Scores> {
        self.scores.iter().collect()
    }

    /// Tells what the hub's merged view shows that was not told yet.
    async fn look(&mut self, devices: usize) -> anyhow::Result<()> {
        for at in 0..devices {
            let id = self.fleet.agents[at].id.clone();
            let Ok(device) = self.fleet.get(&format!("/api/v1/devices/{id}")).await else { continue };
            if let Some(finding) = array(&device["findings"]).find(|finding| finding["level"] == "drift")
                && self.teller.told.insert(format!("{id} drifts"))
            {
                let what = finding["feature"].as_str().unwrap_or("the answers");
                let monitor = text(&finding["monitor"]);
                self.teller.say(&format!("{id}: drift found, first in {what} ({monitor} monitor)"));
            }
            for run in array(&device["runs"]) {
                self.teller.once(&told_run(&id, run));
            }
        }
        Ok(())
    }

    /// The figures of the drift and what came of it.
    fn judge_learning(&mut self, devices: usize) {
        let honest: Vec<&Scores> = self.scores[..devices - 1].iter().collect();
        let (fresh, rows) = (self.course.fresh, self.course.rows());
        let settled = rows - self.course.settled * 2 / 3;
        let accuracies = &mut self.summary.accuracy;
        accuracies.before = accuracy(&honest, 0, fresh);
        accuracies.worst = worst(&honest, rows);
        accuracies.after = accuracy(&honest, settled, rows);
        accuracies.retrained_alone = accuracy(&[&self.scores[RETRAINED_ALONE]], settled, rows);
        accuracies.poisoned = accuracy(&[&self.scores[devices - 1]], settled, rows);
        let told = format!(
            "accuracy: {:.1} % fresh, {:.1} % at the worst, {:.1} % after learning on the devices (the first version on the same rows: {:.1} %)",
            accuracies.before.served * 100.0,
            accuracies.worst * 100.0,
            accuracies.after.served * 100.0,
            accuracies.after.untouched * 100.0
        );
        if accuracies.after.served < accuracies.after.untouched + 0.05 {
            self.summary.failures.push("learning on the devices gained less than five points".into());
        }
        self.teller.say(&told);
    }

    /// A good version goes through canary and wave; a bad one is stopped at the canary, if it serves even there.
    async fn rollouts(&mut self, devices: usize) -> anyhow::Result<()> {
        for (version, wrong) in [(2, false), (3, true)] {
            let csv = self.world.later_training(devices, wrong);
            let (package, _report) = self.fleet.pack(&csv, &self.label.clone(), self.model, version).await?;
            self.fleet.hub_command(&["model", "push", &package.display().to_string()]).await?;
            let name = format!("{}@{version}", self.model);
            let kind =
                if wrong { "trained on mixed-up labels" } else { "trained by a laboratory on later rows" };
            self.teller.say(&format!("the hub rolls out {name}, {kind}: one canary, then the rest"));
            let args = [
                "rollout",
                "create",
                "--model",
                self.model,
                "--version",
                &name,
                "--canary",
                "1",
                "--soak",
                "1",
                "--deadline",
                "60",
                "--min-requests",
                "60",
                "--min-labels",
                "40",
                "--max-trial",
                "40",
                // The last rig's labels lie about any version: one device in two may say no by chance.
                "--success-percentage",
                "50",
                "--threshold-percentage",
                "45",
                "--min-number-of-executed-things",
                "3",
            ];
            let created = self.fleet.hub_command(&args).await?;
            let id = created["id"].as_str().context("the hub gives the rollout no id")?.to_owned();
            let end = self.follow(&id, &name).await?;
            // Mostly it is found out in the shadow of the canary's version, before anybody hears it.
            let good =
                if wrong { end.phase == "stopped" && end.served_on <= 1 } else { end.phase == "succeeded" };
            if !good {
                self.summary
                    .failures
                    .push(format!("rollout of {name}: {} on {} devices", end.text, end.served_on));
            }
            self.summary.rollouts.push(end);
        }
        Ok(())
    }

    async fn follow(&mut self, id: &str, name: &str) -> anyhow::Result<RolloutEnd> {
        let clock = self.teller.clock;
        let deadline = clock.mono().after(CHAPTER);
        loop {
            let view = self.fleet.get(&format!("/api/v1/rollouts/{id}")).await?;
            for member in array(&view["devices"]) {
                let (device, state) = (text(&member["device"]), text(&member["state"]));
                if state != "pending" && state != "in_progress" {
                    self.teller.once(&format!("{name} on {device}: {}", text(&member["what"]["text"])));
                }
            }
            let going_back = array(&view["devices"]).any(|member| member["revert"] == "assigned");
            let phase = text(&view["state"]);
            if (phase != "running" && !going_back) || clock.mono() > deadline {
                let said = text(&view["phase"]["text"]);
                self.teller.say(&format!("rollout of {name}: {said}"));
                let devices = array(&view["devices"]);
                let served = |state: &str| state == "succeeded" || state == "failed";
                return Ok(RolloutEnd {
                    version: name.to_owned(),
                    phase,
                    text: said,
                    served_on: array(&view["devices"]).filter(|m| served(&text(&m["state"]))).count(),
                    devices: devices.map(|m| (text(&m["device"]), text(&m["what"]["text"]))).collect(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the hub's merged view holds in the end.
    async fn read_totals(&mut self, devices: usize) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(3)).await; // one heartbeat, so that the last counters are up
        for at in 0..devices {
            let id = self.fleet.agents[at].id.clone();
            let device = self.fleet.get(&format!("/api/v1/devices/{id}")).await?;
            let count = |key: &str| device["counters"][key].as_u64().unwrap_or(0);
            let summary = &mut self.summary;
            summary.predictions += count("predictions");
            summary.labels += count("labels");
            summary.windows += count("windows");
            summary.alarms += count("drifts");
            let (accepted, refused) = (count("retrains_accepted"), count("retrains_rejected"));
            summary.retrains.accepted += accepted;
            summary.retrains.refused += refused;
            summary.retrains.by_device.insert(id, (accepted, refused));
            for run in array(&device["runs"]) {
                if let Some(reason) =
                    run["verdict"]["reject"].as_object().and_then(|reasons| reasons.keys().next())
                {
                    *summary.retrains.reasons.entry(reason.replace('_', " ")).or_default() += 1;
                }
            }
        }
        for version in array(&self.fleet.get("/api/v1/models").await?) {
            let short = text(&version["version"]).chars().take(12).collect();
            self.summary.versions.insert(short, text(&version["name"]));
        }
        let health = self.fleet.get("/api/v1/health").await?;
        let bytes = |key: &str| health[key].as_u64().unwrap_or(0);
        self.summary.bytes_on_the_wire = (bytes("bytes_in"), bytes("bytes_out"));
        let poisoned = self.fleet.agents[devices - 1].id.clone();
        let (_, refused) = self.summary.retrains.by_device.get(&poisoned).copied().unwrap_or_default();
        if refused == 0 {
            self.summary
                .failures
                .push(format!("no run was refused on {poisoned}, whose labels are poisoned"));
        }
        if self.summary.retrains.accepted == 0 {
            self.summary.failures.push("no run passed the gate".into());
        }
        Ok(())
    }

    async fn finish(mut self, args: &Args) -> anyhow::Result<bool> {
        self.fleet.stop().await?;
        self.summary.seconds = self.teller.clock.mono().0.as_secs_f64();
        if let Some(bar) = &self.teller.bar {
            bar.finish_and_clear();
        }
        let table = format!("\n{}", self.summary.table());
        if args.json {
            std::io::stderr().write_all(table.as_bytes())?;
            let mut line = serde_json::to_vec(&self.summary)?;
            line.push(b'\n');
            std::io::stdout().write_all(&line)?;
        } else {
            std::io::stdout().write_all(table.as_bytes())?;
        }
        Ok(self.summary.failures.is_empty())
    }
}

async fn wait_ready(http: &reqwest::Client, url: &str, model: &str) -> anyhow::Result<()> {
    let ready = async {
        loop {
            let asked = http.get(format!("{url}/v2/models/{model}/ready")).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .with_context(|| format!("`{model}` does not get ready"))
}

fn told_run(id: &str, run: &Value) -> String {
    let evidence = &run["evidence"];
    let share = |key: &str, of: &str| {
        let (part, whole) = (evidence[key].as_f64().unwrap_or(0.0), evidence[of].as_f64().unwrap_or(0.0));
        if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
    };
    let number = run["run"].as_u64().unwrap_or(0) + 1;
    match run["verdict"]["reject"].as_object().and_then(|reasons| reasons.iter().next()) {
        None => format!(
            "{id}: retrain {number} passed the gate: {:.1} % against the champion's {:.1} % on {} held-out rows",
            share("candidate_correct", "holdout_rows"),
            share("champion_correct", "holdout_rows"),
            evidence["holdout_rows"]
        ),
        Some((reason, details)) => {
            format!("{id}: retrain {number} refused by the gate: {} {details}", reason.replace('_', " "))
        }
    }
}

fn brief(report: &Value) -> String {
    let version = text(&report["version"]);
    format!("version {}", version.chars().take(12).collect::<String>())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
