//! Real processes, real sockets, a real broker.

use serde_json::{Value, json};
use shoal_tests::demo::Part;
use shoal_tests::demo::sensor::train_csv;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_shoal-demo"))
}

/// One `shoal-agent` command: exit code, standard output, standard error.
pub(super) fn agent(args: &[&str]) -> (i32, String, String) {
    let done = Command::new(program()).arg("agent").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

pub(super) fn write(path: &Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), bytes).unwrap();
}

/// A folder with a package and an agent's configuration: no hub, no broker, no network.
pub(super) struct Alone {
    folder: tempfile::TempDir,
}

impl Alone {
    pub(super) fn new() -> Self {
        let alone = Self { folder: tempfile::tempdir().unwrap() };
        write(&alone.path("train.csv"), train_csv(1, 600).as_bytes());
        let (data, package) = (alone.text("train.csv"), alone.text("nose.shoal"));
        let args = [
            "pack", "--data", &data, "--label", "gas", "--fit", "mlp:16", "--name", "nose", "--output",
            &package,
        ];
        let (code, _, error) = agent(&args);
        assert_eq!(code, 0, "{error}");
        let config = "[device]\nid = \"alone\"\n[state]\ndir = \"state\"\n[serve]\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n\
                      [control]\nsocket = \"c.sock\"\n[[model]]\npackage = \"nose.shoal\"\n\
                      [watch]\nheartbeat_s = 1\n";
        write(&alone.path("agent.toml"), config.as_bytes());
        alone
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(super) async fn start(&self) -> (Part, String) {
        drop(std::fs::remove_file(self.path("ready")));
        let (config, ready) = (self.text("agent.toml"), self.text("ready"));
        let args = ["agent", "run", "--config", &config, "--ready-file", &ready];
        let mut part = Part::start("agent", &program(), &args, &self.path("log")).unwrap();
        let bound: Value = part.ready(&self.path("ready"), PATIENCE).await.unwrap();
        let url = format!("http://{}", bound["http"].as_str().unwrap());
        wait(|| async { get(&format!("{url}/v2/models/nose/ready")).await.is_some() }).await;
        (part, url)
    }

    pub(super) fn command(&self, args: &[&str]) -> (i32, Value, String) {
        let socket = self.text("c.sock");
        let mut all = vec!["--json", "--socket", &socket];
        all.extend(args);
        let (code, out, error) = agent(&all);
        (code, serde_json::from_str(&out).unwrap_or_default(), error)
    }
}

pub(super) async fn get(url: &str) -> Option<Value> {
    let response = reqwest::get(url).await.ok()?.error_for_status().ok()?;
    let bytes = response.bytes().await.ok()?;
    Some(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Waits for a fact, and not for a time.
pub(super) async fn wait<F: Future<Output = bool>>(is: impl Fn() -> F) {
    wait_for(PATIENCE, is).await;
}

pub(super) async fn wait_for<F: Future<Output = bool>>(patience: Duration, is: impl Fn() -> F) {
    let held = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, held).await.expect("it never came true");
}

async fn predict(url: &str, row: &[f32]) -> Value {
    let body = json!({ "inputs": [{ "name": "features", "shape": [1, row.len()], "datatype": "FP32", "data": row }] });
    let response =
        reqwest::Client::new().post(format!("{url}/v2/models/nose/infer")).json(&body).send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_acknowledged_label_and_the_agent_needs_no_network() {
    let alone = Alone::new();
    let (mut part, url) = alone.start().await;
    let mut labelled = Vec::new();
    for round in 0..3 {
        for row in 0..20 {
            let answer = predict(&url_of(&alone, &url), &[row as f32 / 10.0; 16]).await;
            let id = answer["parameters"]["prediction_id"].as_str().unwrap().to_owned();
            let (code, said, error) = alone.command(&["label", &id, "ethanol"]);
            assert_eq!(code, 0, "round {round}: {error}");
            assert!(said["status"] == "joined" || said["status"] == "parked", "{said}");
            labelled.push(id);
        }
        part.kill().await.unwrap();
        part = alone.start().await.0;
    }
    part.stop().await.unwrap();
    let samples = rusqlite::Connection::open(alone.path("state").join("samples.db")).unwrap();
    for id in &labelled {
        let on_disk: i64 = samples
            .query_row(
                "SELECT (SELECT count(*) FROM sample WHERE prediction_id = ?1 AND labelled = 1)
                      + (SELECT count(*) FROM parked WHERE prediction_id = ?1)",
                [format!("{id}#0")],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(on_disk, 1, "acknowledged label of {id} is gone");
    }
}

/// After a restart the port is another one.
fn url_of(alone: &Alone, first: &str) -> String {
    let ready: Value = std::fs::read(alone.path("ready"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    ready["http"].as_str().map_or_else(|| first.to_owned(), |http| format!("http://{http}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_packages_are_refused_with_the_reason_and_the_served_model_goes_on() {
    let alone = Alone::new();
    let (mut part, url) = alone.start().await;
    let good = std::fs::read(alone.path("nose.shoal")).unwrap();
    let package = shoal_proto::package::Package::from_archive(&good).unwrap();
    let vault = shoal_agent::vault::Vault::join(&alone.path("state"));
    let found = vault.admission(package.version().unwrap()).unwrap().expect("the admission is kept");
    assert_eq!((found.model.row_width, found.model.batching), (Some(16), shoal_infer::Batching::Open));
    assert!(
        found.peak_bytes >= found.start_bytes && found.load_ms > 0.0 && found.row_us > Some(0.0),
        "{found:?}"
    );
    for (what, onnx, word) in [("garbage", b"this is no model".to_vec(), "not"), ("empty", Vec::new(), "not")]
    {
        let mut files = package.to_files();
        files.remove("signature.json");
        files.insert("model.onnx".into(), onnx);
        let bad = shoal_proto::package::Package::new(files).unwrap().to_archive().unwrap();
        write(&alone.path("bad.shoal"), &bad);
        let (code, _, error) = alone.command(&["install", &alone.text("bad.shoal")]);
        assert_eq!(code, 0, "{what}: {error}");
        let rejected = || async {
            let end = alone.command(&["models"]).1[0]["last_end"]["end"]["rejected"].clone();
            end.to_string().contains(word)
        };
        wait(rejected).await;
        predict(&url, &[0.5; 16]).await;
    }
    write(&alone.path("bad.shoal"), b"no archive");
    let (code, _, error) = alone.command(&["install", &alone.text("bad.shoal")]);
    assert_eq!(code, 1);
    assert!(error.contains("archive"), "{error}");
    predict(&url, &[0.5; 16]).await;
    part.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_trains_rolls_back_and_asks() {
    let alone = Alone::new();
    let (mut part, url) = alone.start().await;
    predict(&url, &[0.5; 16]).await;
    let (code, status, error) = alone.command(&["status"]);
    assert_eq!((code, status["device"].as_str()), (0, Some("alone")), "{error}");
    let (code, versions, _) = alone.command(&["versions"]);
    assert_eq!((code, versions.as_array().map(Vec::len)), (0, Some(1)));
    let (code, _, error) = alone.command(&["rollback", "nose"]);
    assert_eq!(code, 1);
    assert!(error.contains("no previous version"), "{error}");
    let (code, answer, error) = alone.command(&["predict", "--row", &["0.5"; 16].join(",")]);
    assert_eq!(code, 0, "{error}");
    assert!(answer["predictions"][0]["class"].is_string(), "{answer}");
    let (code, _, error) = alone.command(&["predict", "--row", "1,2"]);
    assert_eq!(code, 1);
    assert!(error.contains("16 features"), "{error}");
    let (code, _, error) = alone.command(&["train", "nose"]);
    assert_eq!(code, 0, "{error}");
    part.stop().await.unwrap();
    let (code, _, error) = alone.command(&["status"]);
    assert_eq!(code, 75);
    assert!(error.contains("hint:"), "{error}");
}

#[test]
fn a_broken_config_names_every_problem_and_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.toml");
    write(&config, b"[device]\nid = \"No Name\"\n[serve]\nhttp = 7\n[watch]\nwindow = 3\n");
    let (code, _, error) = agent(&["check-config", "--config", &config.display().to_string()]);
    assert_eq!(code, 78);
    for word in ["line 2", "device.id", "line 4", "serve.http", "line 6", "watch.window"] {
        assert!(error.contains(word), "`{word}` is not in:\n{error}");
    }
}
