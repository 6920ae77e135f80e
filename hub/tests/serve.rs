//! The real binary with its embedded broker, and with mosquitto where that is installed: a device made
//! of the protocol's other side, the API through reqwest, and the command line.

#![expect(clippy::unwrap_used, reason = "the helpers of a test panic as the test does")]

use reqwest::{Client, StatusCode};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use shoal_proto::baseline::{Baseline, FeatureBaseline};
use shoal_proto::decision::{SlotEnd, Source};
use shoal_proto::document::Document;
use shoal_proto::fact::{EndReport, Fact, Facts, SlotReport};
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName, Replica, Side};
use shoal_proto::message::{Exchange, Hello};
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};
use shoal_proto::sync::{Log, Peer};
use shoal_proto::time::{Mono, WallMs};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire::{decode, encode};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

struct Running {
    child: Child,
    ready: Value,
    data: tempfile::TempDir,
}

fn hub() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal-hub"));
    command.kill_on_drop(true).env_remove("SHOAL_HUB").env_remove("RUST_LOG");
    command
}

async fn wait_for(path: &Path) -> Vec<u8> {
    let found = timeout(PATIENCE, async {
        loop {
            match std::fs::read(path) {
                Ok(bytes) => return bytes,
                Err(_missing) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    found.await.expect("the hub was not ready in time")
}

impl Running {
    async fn start(data: tempfile::TempDir, extra: &[&str]) -> Self {
        let file = data.path().join("ready.json");
        if file.exists() {
            std::fs::remove_file(&file).unwrap();
        }
        let child = hub()
            .args(["serve", "--http", "127.0.0.1:0", "--devices-http", "127.0.0.1:0"])
            .args(["--broker-listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(data.path())
            .arg("--ready-file")
            .arg(&file)
            .args(extra)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = serde_json::from_slice(&wait_for(&file).await).unwrap();
        Self { child, ready, data }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.ready["http"].as_str().unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        Client::new().get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn push(&self, archive: Vec<u8>) -> (StatusCode, Value) {
        let request = Client::new().post(self.url("models")).body(archive);
        self.send(request.header("content-type", "application/octet-stream")).await
    }

    /// Polls until the answer is as wanted.
    async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = timeout(PATIENCE, async {
            loop {
                last = self.get(path).await;
                if wanted(&last) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(found.await.is_ok(), "{path} stays {last:#}");
        last
    }

    async fn cli(&self, args: &[&str]) -> (i32, String, String) {
        let address = format!("http://{}", self.ready["http"].as_str().unwrap());
        let output = hub().env("SHOAL_HUB", address).args(args).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Ends as an init system would; gives the data folder back.
    async fn stop(mut self) -> tempfile::TempDir {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it ends within the deadline");
        assert!(ended.unwrap().success());
        self.data
    }
}

fn package(version: u32) -> Package {
    let manifest = format!(
        "format = 1\n[model]\nname = \"gas\"\nversion = {version}\ntask = \"classification\"\n\
         [input]\ntensor = \"x\"\n[output]\ntensor = \"y\"\nkind = \"logits\"\nclasses = [\"a\", \"b\"]\n\
         [[feature]]\nname = \"s1\"\nmin = 0.0\nmax = 99.0\n"
    );
    let features = vec![FeatureBaseline::of((0..100).map(f64::from))];
    let baseline = Baseline { rows: 100, features, predictions: None, ..Baseline::default() };
    let graph = (0..200_000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = [(MODEL, graph), (MANIFEST, manifest.into_bytes()), (BASELINE, baseline.to_bytes())];
    Package::new(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()).unwrap()
}

/// A device on a real broker: takes assignments and confirms them at once.
async fn device(id: DeviceId, broker: String, champion: Digest) {
    let (host, port) = broker.rsplit_once(':').unwrap();
    let mut options = MqttOptions::new(id.as_str(), host, port.parse().unwrap());
    options.set_credentials(id.as_str(), "").set_max_packet_size(128 * 1024, 128 * 1024);
    let (client, mut events) = AsyncClient::new(options, 64);
    let replica = Replica { side: Side::Device, incarnation: Incarnation(11) };
    let mut peer = Peer::new(Log::new(replica), None, BTreeSet::new());
    let mut document = Document::default();
    let gas = ModelName::new("gas").unwrap();
    let mut slot =
        SlotReport { applied_generation: 0, champion, previous: None, candidate: None, last_end: None };
    let write = |peer: &mut Peer, document: &mut Document, slot: &SlotReport| {
        let (kind, key, value) = Fact::Slot(gas.clone(), slot.clone()).into_parts();
        peer.write(document, WallMs(1), kind, key, value, &mut Vec::new());
    };
    write(&mut peer, &mut document, &slot);
    let up = |what| Topic::Up(id.clone(), what).to_string();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe(Topic::device_filter(&id), QoS::AtLeastOnce).unwrap();
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                let hello = Hello {
                    device: id.clone(),
                    incarnation: Incarnation(11),
                    boot: 1,
                    last_seq: peer.log.last().0,
                    cursor: peer.cursor(),
                    agent_version: "test".into(),
                    wire_max: 1,
                    wall: WallMs(1),
                };
                client.try_publish(up(Up::Hello), QoS::AtLeastOnce, false, encode(&hello).unwrap()).unwrap();
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let message: Exchange = decode(&message.payload).unwrap();
                let now = Mono::default();
                let taken = peer.on_exchange(
                    now,
                    WallMs(1),
                    message,
                    Incarnation(12),
                    &mut document,
                    &mut Vec::new(),
                );
                taken.unwrap();
                let wish = Facts(&document).assignments().pop();
                if let Some((_, generation, wish)) = wish.filter(|it| it.1 > slot.applied_generation) {
                    let source = Source::Hub { generation, rollout: wish.rollout };
                    slot.applied_generation = generation;
                    slot.champion = wish.version;
                    slot.last_end = Some(EndReport {
                        version: wish.version,
                        source,
                        end: SlotEnd::Confirmed,
                        at: WallMs(1),
                        trial_labels: (20, 19),
                        shadow: None,
                    });
                    write(&mut peer, &mut document, &slot);
                }
                for message in peer.poll(now, WallMs(1), 0, &document) {
                    client
                        .try_publish(up(Up::Sync), QoS::AtLeastOnce, false, encode(&message).unwrap())
                        .unwrap();
                }
            }
            Ok(_) => {}
            Err(_gone) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A rollout over two devices and a restart in the middle of the hub's life.
async fn story(extra: &[&str]) {
    let running = Running::start(tempfile::tempdir().unwrap(), extra).await;
    running.until("health", |it| it["broker_connected"] == true).await;
    assert_eq!(running.get("devices").await, json!([]));
    let (old, new) = (package(1), package(2));
    for (package, status) in
        [(&old, StatusCode::CREATED), (&new, StatusCode::CREATED), (&new, StatusCode::OK)]
    {
        let (answered, body) = running.push(package.to_archive().unwrap()).await;
        assert_eq!(
            (answered, body["version"].as_str()),
            (status, Some(package.version().unwrap().to_string().as_str()))
        );
    }
    let broker = running.ready["broker"].as_str().unwrap().to_owned();
    let mut devices = tokio::task::JoinSet::new();
    for id in ["press-1", "press-2"] {
        devices.spawn(device(DeviceId::new(id).unwrap(), broker.clone(), old.version().unwrap()));
    }
    running
        .until("devices", |it| {
            it.as_array()
                .is_some_and(|it| it.len() == 2 && it.iter().all(|it| it["models"][0]["name"] == "gas@1"))
        })
        .await;
    let wish = json!({ "model": "gas", "version": "gas@2", "strategy": { "canary": 1, "soak_s": 0 } });
    let (status, created) = running.send(Client::new().post(running.url("rollouts")).json(&wish)).await;
    assert_eq!((status, created["id"].as_str()), (StatusCode::CREATED, Some("r-00001")), "{created:#}");
    let done = running.until("rollouts/r-00001", |it| it["state"] != "running").await;
    assert_eq!((&done["state"], &done["tally"]["succeeded"]), (&json!("succeeded"), &json!(2)), "{done:#}");
    let tags = Client::new().put(running.url("devices/press-1/tags")).json(&json!({ "site": "lyon" }));
    assert_eq!(running.send(tags).await.0, StatusCode::OK);

    devices.abort_all();
    let data = running.stop().await;
    let again = Running::start(data, extra).await;
    let device = again.get("devices/press-1").await;
    assert_eq!((&device["tags"]["site"], &device["models"][0]["name"]), (&json!("lyon"), &json!("gas@2")));
    assert_eq!(again.get("rollouts/r-00001").await["tally"], done["tally"]);
    again.stop().await;
}

#[tokio::test]
async fn a_rollout_over_the_embedded_broker() {
    story(&[]).await;
}

#[tokio::test]
async fn a_rollout_over_mosquitto() {
    if !Path::new(MOSQUITTO).exists() {
        eprintln!("skipped: {MOSQUITTO} is not installed");
        return;
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("mosquitto.conf");
    let text = format!("listener {free} 127.0.0.1\nallow_anonymous true\npersistence false\n");
    std::io::Write::write_all(&mut std::fs::File::create(&conf).unwrap(), text.as_bytes()).unwrap();
    let mut mosquitto = Command::new(MOSQUITTO);
    let _broker = mosquitto.arg("-c").arg(&conf).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    story(&["--broker", &format!("mqtt://127.0.0.1:{free}")]).await;
}

#[tokio::test]
async fn the_api_says_no_in_json() {
    let running = Running::start(tempfile::tempdir().unwrap(), &[]).await;
    let client = Client::new();
    let abort = client.post(running.url("rollouts/r-9/abort")).json(&json!({ "mode": "keep" }));
    for (request, expected) in [
        (client.get(running.url("devices/nobody")), StatusCode::NOT_FOUND),
        (client.get(running.url("devices/NOT-A-NAME")), StatusCode::BAD_REQUEST),
        (client.get(running.url("models/none")), StatusCode::NOT_FOUND),
        (client.get(running.url("nothing")), StatusCode::NOT_FOUND),
        (client.delete(running.url("devices")), StatusCode::METHOD_NOT_ALLOWED),
        (client.post(running.url("rollouts")).body("{}"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (client.post(running.url("rollouts")).json(&json!({ "what": 1 })), StatusCode::BAD_REQUEST),
        (abort, StatusCode::NOT_FOUND),
        (client.post(running.url("models")).body("x"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let (status, body) = running.send(request).await;
        assert_eq!(status, expected, "{body}");
        assert!(body["error"].is_string() && body["hint"].is_string(), "{body}");
    }
    assert_eq!(running.push(b"x".to_vec()).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let page =
        client.get(format!("http://{}/", running.ready["http"].as_str().unwrap())).send().await.unwrap();
    assert!(page.headers().contains_key("content-security-policy"));
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    running.stop().await;
}

#[tokio::test]
async fn artifacts_come_whole_or_by_range() {
    let running = Running::start(tempfile::tempdir().unwrap(), &[]).await;
    let (_, pushed) = running.push(package(1).to_archive().unwrap()).await;
    let digest = pushed["archive"].as_str().unwrap();
    let url = format!("http://{}/artifacts/{digest}", running.ready["devices_http"].as_str().unwrap());
    let get = |range: Option<&'static str>| {
        let request = Client::new().get(&url);
        range.map_or(request.try_clone().unwrap(), |range| request.header("range", range)).send()
    };
    let whole = get(None).await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&whole).to_string(), digest);
    assert!(whole.len() > 100_000);
    let part = get(Some("bytes=70000-")).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let expected = format!("bytes 70000-{}/{}", whole.len() - 1, whole.len());
    assert_eq!(part.headers()["content-range"], expected.as_str());
    assert_eq!(part.bytes().await.unwrap(), whole[70_000..]);
    let outside = get(Some("bytes=999999999-")).await.unwrap();
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(outside.headers()["content-range"], format!("bytes */{}", whole.len()).as_str());
    for bad in ["00", "..%2fhub.key", &"0".repeat(64)] {
        let url = url.replace(digest, bad);
        assert_eq!(reqwest::get(url).await.unwrap().status(), StatusCode::NOT_FOUND, "{bad}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_command_line_works_and_fails_with_the_right_codes() {
    let running = Running::start(tempfile::tempdir().unwrap(), &[]).await;
    let file = running.data.path().join("gas.shoal");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), &package(1).to_archive().unwrap())
        .unwrap();
    let (code, out, _) = running.cli(&["model", "push", file.to_str().unwrap()]).await;
    assert!(code == 0 && out.starts_with("pushed gas@1"), "{out}");
    for (args, word) in [
        (&["model", "list"][..], "gas@1"),
        (&["model", "show", "gas", "--json"], "\"registered\": true"),
        (&["model", "condemn", "gas@1", "--reason", "bad"], "condemned gas@1: bad"),
        (&["model", "condemn", "gas@1", "--lift"], "may serve again"),
        (&["device", "list"], "DEVICE"),
        (&["drift"], "no windows yet"),
        (&["rollout", "list"], "ROLLOUT"),
        (&["key", "show"], "\n"),
    ] {
        let (code, out, err) = running.cli(args).await;
        assert!(code == 0 && out.contains(word), "{args:?}: {code} {out} {err}");
    }
    let config = running.data.path().join("hub.toml");
    std::io::Write::write_all(&mut std::fs::File::create(&config).unwrap(), b"x = 1\ny = 2\n").unwrap();
    let data = running.data.path().to_str().unwrap();
    let rollout = ["rollout", "create", "--model", "gas", "--version", "gas@1"];
    for (args, expected, word) in [
        (&["nonsense"][..], 64, "Usage"),
        (&["rollout", "abort", "r-1"], 64, "--keep"),
        (&["--hub", "ftp://x", "device", "list"], 64, "hint:"),
        (&["--hub", "http://127.0.0.1:1", "device", "list"], 75, "hint:"),
        (&["serve", "--config", config.to_str().unwrap()], 78, "line 2"),
        (&["serve", "--data", data, "--broker-listen", "127.0.0.1:0"], 75, "another hub"),
        (&rollout, 1, "hint:"),
        (&["device", "show", "nobody"], 1, "not known"),
    ] {
        let (code, _, err) = running.cli(args).await;
        assert!(code == expected && err.contains(word), "{args:?}: {code} {err}");
    }
    running.stop().await;
}
