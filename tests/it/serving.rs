//! Serving as its users meet it: other people's clients, and models that fail on later data.

use super::brokers::{Broker, Kind};
use super::e2e::{PATIENCE, agent, get, program, wait, write};
use serde_json::{Value, json};
use shoal_tests::demo::Part;
use shoal_tests::demo::sensor::train_csv;
use shoal_tests::hostile::craft::{file, floats, graph, int, node, value};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FLOAT: i64 = 1;
const INT64: i64 = 7;
/// The protocol's names of datatypes and ONNX's numbers of them.
const KINDS: [(&str, i64); 12] = [
    ("BOOL", 9),
    ("UINT8", 2),
    ("UINT16", 4),
    ("UINT32", 12),
    ("UINT64", 13),
    ("INT8", 3),
    ("INT16", 5),
    ("INT32", 6),
    ("INT64", INT64),
    ("FP32", FLOAT),
    ("FP64", 11),
    ("BYTES", 8),
];

/// An agent and what it serves, in a folder.
struct Server {
    folder: tempfile::TempDir,
    part: Option<Part>,
    ready: Value,
}

impl Server {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), part: None, ready: Value::Null }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Packs a model that takes tensors; `file` is `NAME.shoal`.
    fn pack(&self, name: &str, version: &str, file: &str, onnx: &[u8]) {
        write(&self.path("model.onnx"), onnx);
        let (onnx, package) = (self.text("model.onnx"), self.text(file));
        let args = [
            "pack",
            "--onnx",
            &onnx,
            "--name",
            name,
            "--version",
            version,
            "--task",
            "regression",
            "-o",
            &package,
        ];
        let (code, _, error) = agent(&args);
        assert_eq!(code, 0, "{error}");
    }

    /// Packs `nose`, fitted on sixteen features, as `nose.shoal`.
    fn pack_nose(&self) {
        write(&self.path("train.csv"), train_csv(1, 600).as_bytes());
        let (data, package) = (self.text("train.csv"), self.text("nose.shoal"));
        let args =
            ["pack", "--data", &data, "--label", "gas", "--fit", "mlp:16", "--name", "nose", "-o", &package];
        let (code, _, error) = agent(&args);
        assert_eq!(code, 0, "{error}");
    }

    async fn start(&mut self, packages: &[&str], extra: &str) {
        let models: String =
            packages.iter().map(|file| format!("[[model]]\npackage = \"{file}\"\n")).collect();
        let config = format!(
            "[device]\nid = \"server\"\n[state]\ndir = \"state\"\n[control]\nsocket = \"c.sock\"\n\
             [watch]\nheartbeat_s = 1\n{models}{extra}\n[serve]\nhttp = \"127.0.0.1:0\"\n\
             grpc = \"127.0.0.1:0\"\nsocket = \"i.sock\"\ntimeout_ms = 500\nworkers = 1\n\
             model_control = \"explicit\"\n"
        );
        write(&self.path("agent.toml"), config.as_bytes());
        let (config, ready) = (self.text("agent.toml"), self.text("ready"));
        let args = ["agent", "run", "--config", &config, "--ready-file", &ready];
        let mut part = Part::start("agent", &program(), &args, &self.path("log")).unwrap();
        self.ready = part.ready(&self.path("ready"), PATIENCE).await.unwrap();
        self.part = Some(part);
        wait(|| async { get(&self.url("/v2/health/ready")).await.is_some() }).await;
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ready["http"].as_str().unwrap())
    }

    async fn infer(&self, model: &str, input: &Value) -> (u16, Value) {
        let url = self.url(&format!("/v2/models/{model}/infer"));
        let sent = reqwest::Client::new().post(url).json(&json!({ "inputs": [input] })).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    fn command(&self, args: &[&str]) -> Value {
        let socket = self.text("c.sock");
        let (code, out, error) = agent(&[&["--json", "--socket", &socket], args].concat());
        assert_eq!(code, 0, "{args:?}: {error}");
        serde_json::from_str(&out).unwrap_or_default()
    }

    /// The name of the version that serves, and whether nothing is on trial.
    fn slot(&self, model: &str) -> Value {
        let models = self.command(&["models"]);
        models.as_array().unwrap().iter().find(|slot| slot["model"] == model).cloned().unwrap()
    }

    async fn stop(mut self) {
        self.part.take().unwrap().stop().await.unwrap();
    }
}

/// Looks rows up in a table of four: a later row number may lie outside, and the engine panics on it.
fn table(first: f32) -> Vec<u8> {
    let stored = [floats("table", &[4], &[first, 2.0, 3.0, 4.0])];
    let nodes = [node("Gather", &["table", "x"], &["y"], &[])];
    file(&graph(&nodes, &stored, &[value("x", INT64, &[-1, 1])], &[value("y", FLOAT, &[-1, 1])]))
}

/// Gives the number back.
fn echo() -> Vec<u8> {
    let nodes = [node("Cast", &["x"], &["y"], &[int("to", FLOAT)])];
    file(&graph(&nodes, &[], &[value("x", INT64, &[1])], &[value("y", FLOAT, &[1])]))
}

/// As many terms of a sum as the number says: only the data decides how long it takes.
const COUNT: &[u8] = include_bytes!("../../agent/src/serve/testdata/count.onnx");

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_that_requests_error_and_a_version_that_goes_on_so_gives_way() {
    let mut server = Server::new();
    server.pack("look", "1", "one.shoal", &table(1.0));
    server.pack("look", "2", "two.shoal", &table(10.0));
    server.start(&["one.shoal"], "[trial]\nmin_requests = 0\nmin_labels = 0\n").await;
    let row = |number: i64| json!({ "name": "x", "shape": [1, 1], "datatype": "INT64", "data": [number] });
    server.command(&["install", &server.text("two.shoal")]);
    wait(|| async { server.infer("look", &row(0)).await.1["outputs"][0]["data"][0] == 10.0 }).await;
    wait(|| async { server.slot("look")["candidate"].is_null() }).await;
    for _ in 0..3 {
        let (status, answer) = server.infer("look", &row(1_000)).await;
        assert_eq!(status, 500, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("the engine"), "{answer}");
    }
    wait(|| async { server.infer("look", &row(0)).await.1["outputs"][0]["data"][0] == 1.0 }).await;
    assert_eq!(server.infer("look", &row(3)).await.0, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_end_costs_a_version_its_place() {
    let mut server = Server::new();
    server.pack("slow", "1", "one.shoal", &echo());
    server.pack("slow", "2", "two.shoal", COUNT);
    server.start(&["one.shoal"], "[trial]\nmin_requests = 1000000\n").await;
    let number = |number: u64| json!({ "name": "x", "shape": [1], "datatype": "INT64", "data": [number] });
    let first = server.infer("slow", &number(1)).await.1["model_version"].clone();
    server.command(&["install", &server.text("two.shoal")]);
    wait(|| async { server.infer("slow", &number(1)).await.1["model_version"] != first }).await;
    let (status, answer) = server.infer("slow", &number(30_000_000)).await;
    assert_eq!(status, 504, "{answer}");
    wait(|| async { server.infer("slow", &number(1)).await.1["model_version"] == first }).await;
    let end = server.slot("slow")["last_end"].to_string();
    assert!(end.contains("failures"), "{end}");
    server.stop().await;
}

/// Eight-bit numbers whose scale is taken over all rows of a call.
fn dynamic() -> Vec<u8> {
    let nodes = [
        node("DynamicQuantizeLinear", &["x"], &["q", "scale", "zero"], &[]),
        node("Cast", &["q"], &["whole"], &[int("to", FLOAT)]),
        node("Mul", &["whole", "scale"], &["y"], &[]),
    ];
    file(&graph(&nodes, &[], &[value("x", FLOAT, &[-1, 4])], &[value("y", FLOAT, &[-1, 4])]))
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whose_rows_would_change_each_others_answers_share_no_call() {
    let mut server = Server::new();
    server.pack("dynamic", "1", "one.shoal", &dynamic());
    server.start(&["one.shoal"], "").await;
    let serving = get(&server.url("/v2/shoal/serving")).await.unwrap();
    assert_eq!(serving[0]["batch_rows"], 1, "{serving}");
    server.stop().await;
}

/// Gives every datatype back as it came.
fn kinds() -> Vec<u8> {
    let of = |prefix: &str| KINDS.map(|(name, number)| value(&format!("{prefix}_{name}"), number, &[-1, 2]));
    let nodes =
        KINDS.map(|(name, _)| node("Identity", &[&format!("i_{name}")], &[&format!("o_{name}")], &[]));
    file(&graph(&nodes, &[], &of("i"), &of("o")))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_clients_are_served() {
    let mut server = Server::new();
    server.pack_nose();
    server.pack("kinds", "1", "kinds.shoal", &kinds());
    server.start(&["nose.shoal", "kinds.shoal"], "").await;

    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/bin/python");
    if python.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/triton.py");
        let (http, grpc) = (server.ready["http"].as_str().unwrap(), server.ready["grpc"].as_str().unwrap());
        let run = Command::new(python).arg(script).args([http, grpc, "nose", "kinds"]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    } else {
        eprintln!("skipped: tritonclient is not there; tests/clients/setup.sh installs it");
    }

    if has("curl") {
        let socket = server.text("i.sock");
        let row = vec![0.5; 16];
        let body =
            json!({ "inputs": [{ "name": "features", "shape": [1, 16], "datatype": "FP32", "data": row }] });
        let curl = |args: &[&str]| {
            let run = Command::new("curl")
                .args(["--silent", "--show-error", "--fail-with-body"])
                .args(args)
                .output();
            let run = run.unwrap();
            assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stdout));
            String::from_utf8(run.stdout).unwrap()
        };
        let infer = "http://shoal/v2/models/nose/infer";
        let answer = curl(&["--unix-socket", &socket, "--data", &body.to_string(), infer]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let id = answer["parameters"]["prediction_id"].as_str().unwrap();
        let label = json!({ "prediction_id": id, "label": "ethanol" }).to_string();
        let said = curl(&["--data", &label, &server.url("/v2/shoal/label")]);
        assert!(said.contains("joined") || said.contains("parked"), "{said}");
        let metrics = curl(&[&server.url("/metrics")]);
        assert!(metrics.contains("shoal_infer_requests_total{model=\"nose\",version="), "{metrics}");
        let id = ["--header", "x-request-id: r-7", "--dump-header", "-", "--data", &body.to_string()];
        let answer = curl(&[&id[..], &[&server.url("/v2/models/nose/infer")]].concat());
        assert!(answer.contains("x-request-id: r-7"), "{answer}");
    } else {
        eprintln!("skipped: curl is not there");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquittos_own_clients_get_predictions() {
    if !has("mosquitto_pub") {
        return eprintln!("skipped: mosquitto's clients are not there");
    }
    let Some(broker) = Broker::start(Kind::Mosquitto).await else { return };
    let mut server = Server::new();
    server.pack_nose();
    let local = format!("[local]\nbroker = \"mqtt://{}\"\napp = \"line-2\"\n", broker.address);
    server.start(&["nose.shoal"], &local).await;

    let topic = "shoal/l/v1/line-2";
    // Retained: said again to whoever comes, so it tells that the agent is on the broker.
    let announced = || async {
        let args = ["-t", &format!("{topic}/out/model"), "-C", "1", "-W", "2"];
        let heard = broker.client("mosquitto_sub", &args).output().unwrap();
        String::from_utf8_lossy(&heard.stdout).contains("nose")
    };
    wait(announced).await;
    let row = json!({ "id": "r1", "row": vec![0.5; 16] }).to_string();
    let out = format!("{topic}/out/prediction");
    let heard =
        broker.client("mosquitto_sub", &["-t", &out, "-C", "1", "-W", "30"]).stdout(Stdio::piped()).spawn();
    let mut heard = heard.unwrap();
    while heard.try_wait().unwrap().is_none() {
        let args = ["-t", &format!("{topic}/in/features"), "-m", &row];
        assert!(broker.client("mosquitto_pub", &args).status().unwrap().success());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let answer = heard.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert!(answer["id"] == "r1" && answer["predictions"][0]["class"].is_string(), "{answer}");
    server.stop().await;
}
