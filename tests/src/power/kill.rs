//! The agent, killed without a word while it works, again and again.

use crate::demo::sensor::train_csv;
use crate::program;
use crate::rig::{Child, Conn, Times};
use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde_json::Value;
use shoal_agent::clock::Clock;
use shoal_agent::store::StateDb;
use shoal_proto::time::Mono;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

/// How soon the agent must serve again.
const READY: Duration = Duration::from_secs(5);
/// How long is waited for it at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that predict and label, each waiting for its answer.
const CLIENTS: usize = 3;
/// One kill in this many comes while the agent starts.
const EARLY: u32 = 8;
/// Longest time between ready and kill.
const LONGEST_MS: u64 = 900;
/// What the labels say.
const GASES: [&str; 3] = ["ethanol", "toluene", "acetone"];
/// Features of a row.
const FEATURES: usize = 16;

/// Kills the agent under load.
#[derive(Debug, Parser)]
#[command(name = "crash")]
struct Args {
    /// Kills.
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Draws the instants.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Kills {
    /// Kills, and those of them while the agent started.
    pub kills: u32,
    pub early: u32,
    /// From the start of the process until its model answered.
    pub ready: Times,
    /// Starts that took longer than promised.
    pub late: u32,
    /// Answers.
    pub predictions: u64,
    /// Labels that were acknowledged.
    pub labels: u64,
    /// Those of them that are not on disk, or say something else.
    pub lost: u64,
    /// Databases that had to be replaced.
    pub damaged: u64,
}

/// Runs the program: 0 when nothing was lost and no start was late.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    program::main::<Args>(args, |args| {
        let agent = std::env::current_exe()?;
        let seen = run(&agent, args.kills, args.seed)?;
        print(&mut std::io::stdout(), &seen)?;
        Ok(seen.lost == 0 && seen.late == 0 && seen.damaged == 0)
    })
}

fn print(out: &mut impl std::io::Write, seen: &Kills) -> std::io::Result<()> {
    let ms = |share| seen.ready.quantile_us(share) / 1000.0;
    writeln!(out, "kills                        {:>10}  ({} while it started)", seen.kills, seen.early)?;
    writeln!(out, "predictions answered         {:>10}", seen.predictions)?;
    writeln!(out, "labels acknowledged          {:>10}", seen.labels)?;
    writeln!(out, "  gone                       {:>10}", seen.lost)?;
    writeln!(out, "databases replaced           {:>10}", seen.damaged)?;
    writeln!(out, "ready again, median          {:>10.0} ms", ms(0.5))?;
    writeln!(out, "             of 99 in 100    {:>10.0} ms", ms(0.99))?;
    writeln!(out, "             slowest         {:>10.0} ms", ms(1.0))?;
    writeln!(out, "  later than {} s             {:>10}", READY.as_secs(), seen.late)
}

/// `program agent …` is the agent.
pub fn run(program: &Path, kills: u32, seed: u64) -> anyhow::Result<Kills> {
    let bench = Bench::new(program)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut seen, mut said) = (Kills::default(), Vec::new());
    let mut words = Words::default();
    while seen.kills < kills {
        if rng.random_ratio(1, EARLY) {
            let child = bench.start()?;
            thread::park_timeout(Duration::from_millis(rng.random_range(0..400)));
            drop(child); // SIGKILL
            seen.early += 1;
            seen.kills += 1;
            continue;
        }
        let clock = Clock::start();
        let mut child = bench.start()?;
        let http = bench.ready(&mut child)?;
        let took = clock.mono().since(Mono::default());
        seen.late += u32::from(took > READY);
        seen.ready.push(took);
        words.check(&bench, &said, &mut seen)?;
        said.clear();
        let until = Duration::from_millis(rng.random_range(1..LONGEST_MS));
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || client(http, number))).collect();
            thread::park_timeout(until);
            drop(child); // SIGKILL
            for (predictions, labels) in clients.into_iter().filter_map(|client| client.join().ok()) {
                seen.predictions += predictions;
                said.extend(labels);
            }
        });
        seen.kills += 1;
    }
    let mut child = bench.start()?;
    bench.ready(&mut child)?;
    words.check(&bench, &said, &mut seen)?;
    child.stop()?;
    words.check_all(&bench, &mut seen)?;
    seen.labels = words.all.len() as u64;
    Ok(seen)
}

/// Predicts and labels until the agent is gone; gives what was acknowledged.
fn client(http: SocketAddr, number: usize) -> (u64, Vec<(String, &'static str)>) {
    let (mut predictions, mut labels) = (0, Vec::new());
    let Ok(mut conn) = Conn::tcp(http) else { return (0, labels) };
    for turn in 0usize.. {
        let value = f64::from(u32::try_from(turn % 50).unwrap_or_default()) / 10.0;
        let row = vec![value.to_string(); FEATURES].join(",");
        let body = format!(
            r#"{{"inputs":[{{"name":"features","shape":[1,{FEATURES}],"datatype":"FP32","data":[{row}]}}]}}"#
        );
        let Ok(Some(answer)) = post(&mut conn, "/v2/models/nose/infer", &body) else { break };
        predictions += 1;
        let Some(id) = answer["parameters"]["prediction_id"].as_str() else { break };
        if (turn + number) % 4 == 3 {
            continue; // not every prediction is labelled
        }
        let gas = GASES[(turn + number) % GASES.len()];
        let body = format!(r#"{{"prediction_id":"{id}","label":"{gas}","source":"operator"}}"#);
        match post(&mut conn, "/v2/shoal/label", &body) {
            Ok(Some(_)) => labels.push((format!("{id}#0"), gas)),
            _ => break,
        }
    }
    (predictions, labels)
}

fn post(conn: &mut Conn, path: &str, body: &str) -> anyhow::Result<Option<Value>> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let reply = conn.ask(request.as_bytes())?;
    Ok((reply.status == 200).then(|| serde_json::from_slice(reply.body).unwrap_or_default()))
}

/// All labels that were acknowledged, and the class that each word is.
#[derive(Debug, Default)]
struct Words {
    classes: BTreeMap<&'static str, i64>,
    all: BTreeMap<String, &'static str>,
}

impl Words {
    fn check(
        &mut self,
        bench: &Bench,
        said: &[(String, &'static str)],
        seen: &mut Kills,
    ) -> anyhow::Result<()> {
        let samples = bench.samples()?;
        for (id, gas) in said {
            self.all.insert(id.clone(), gas);
            seen.lost += u64::from(!self.is_there(&samples, id, gas)?);
        }
        for entry in std::fs::read_dir(bench.path("state"))? {
            seen.damaged += u64::from(entry?.file_name().to_string_lossy().contains(".damaged-"));
        }
        Ok(())
    }

    fn is_there(&mut self, samples: &Connection, id: &str, gas: &'static str) -> anyhow::Result<bool> {
        let found: Option<Option<i64>> = samples
            .query_row(
                "SELECT label_class FROM sample WHERE prediction_id = ?1 AND labelled = 1
                 UNION ALL SELECT label_class FROM parked WHERE prediction_id = ?1",
                [id],
                |row| row.get(0),
            )
            .optional()?;
        Ok(found.flatten().is_some_and(|class| *self.classes.entry(gas).or_insert(class) == class))
    }

    /// At the end: every label again, and both files page by page.
    fn check_all(&mut self, bench: &Bench, seen: &mut Kills) -> anyhow::Result<()> {
        let samples = bench.samples()?;
        let all: Vec<(String, &'static str)> = self.all.iter().map(|(id, gas)| (id.clone(), *gas)).collect();
        let mut lost = 0;
        for (id, gas) in &all {
            lost += u64::from(!self.is_there(&samples, id, gas)?);
        }
        seen.lost = seen.lost.max(lost);
        let verdict: String = samples.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(verdict == "ok", "samples.db: {verdict}");
        let (_state, loaded) = StateDb::open(&bench.path("state"))?;
        ensure!(loaded.recovered.is_none(), "state.db was replaced: {:?}", loaded.recovered);
        ensure!(loaded.boot >= seen.ready.len() as u64, "{} boots were counted", loaded.boot);
        Ok(())
    }
}

/// A folder with a package and the settings.
struct Bench {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(program: &Path) -> anyhow::Result<Self> {
        let bench = Self { program: program.to_owned(), folder: tempfile::tempdir()? };
        bench.write("train.csv", &train_csv(1, 600))?;
        let mut pack = bench.agent();
        pack.arg("pack").arg("--data").arg(bench.path("train.csv"));
        pack.args(["--label", "gas", "--fit", "mlp:16", "--name", "nose", "--output"]);
        let packed = pack.arg(bench.path("nose.shoal")).output()?;
        if !packed.status.success() {
            bail!("{}", String::from_utf8_lossy(&packed.stderr).trim());
        }
        let settings = "[device]\nid = \"killed\"\n[state]\ndir = \"state\"\n[serve]\nhttp = \"127.0.0.1:0\"\n\
                        grpc = \"off\"\n[control]\nsocket = \"c.sock\"\n[[model]]\npackage = \"nose.shoal\"\n\
                        [samples]\nquota_mib = 2048\n[watch]\nheartbeat_s = 1\n";
        bench.write("agent.toml", settings)?;
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        std::fs::File::create(self.path(name))?.write_all(text.as_bytes())
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("agent");
        command
    }

    fn start(&self) -> anyhow::Result<Child> {
        drop(std::fs::remove_file(self.path("ready"))); // there is none at first
        let mut command = self.agent();
        command.arg("run").arg("--config").arg(self.path("agent.toml"));
        command.arg("--ready-file").arg(self.path("ready"));
        Child::start(command, &self.path("log"))
    }

    /// Waits until the model answers.
    fn ready(&self, child: &mut Child) -> anyhow::Result<SocketAddr> {
        let bound = child.until(PATIENCE, || std::fs::read(self.path("ready")).ok());
        let bound: Value = serde_json::from_slice(&bound.context("the agent is not ready")?)?;
        let http: SocketAddr = bound["http"].as_str().context("no address")?.parse()?;
        let asked = b"GET /v2/models/nose/ready HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut conn = Conn::tcp(http)?;
        let answers = || conn.ask(asked).is_ok_and(|reply| reply.status == 200).then_some(());
        child.until(PATIENCE, answers).context("the model is not served")?;
        Ok(http)
    }

    fn samples(&self) -> anyhow::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let samples = Connection::open_with_flags(self.path("state").join("samples.db"), flags)?;
        samples.busy_timeout(READY)?;
        Ok(samples)
    }
}
