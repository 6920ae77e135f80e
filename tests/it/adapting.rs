//! The loop on one device, as a real process: the head, a retrain, poison, a bad trial, and crashes between them.

use super::brokers::{Broker, Kind};
use super::e2e::{Alone, agent, get, wait, write};
use serde_json::{Value, json};
use shoal_tests::demo::Part;
use shoal_tests::demo::sensor::{Device, GASES, train_csv};
use std::io::Write as _;
use std::process::Stdio;

/// The age of the noses: a model of the factory is clearly wrong.
const AGE: f64 = 1.0;

/// An agent whose applications are on a broker; no hub, no network.
struct Loop {
    alone: Alone,
    broker: Broker,
    nose: Device,
    part: Part,
    url: String,
}

impl Loop {
    async fn start(broker: Broker, settings: &str) -> Self {
        let alone = Alone::new();
        configure(&alone, &broker, settings);
        let (part, url) = alone.start().await;
        Self { alone, broker, nose: Device::new(1, 0, 1.0), part, url }
    }

    /// Another life of the process: after its end if it is asked to end, else after kill -9.
    async fn again(&mut self, is_asked: bool) {
        if is_asked {
            self.part.stop().await.unwrap();
        } else {
            self.part.kill().await.unwrap();
        }
        (self.part, self.url) = self.alone.start().await;
    }

    fn status(&self) -> Value {
        self.alone.command(&["status"]).1
    }

    fn model(&self) -> Value {
        self.status()["models"][0].clone()
    }

    fn serving(&self) -> String {
        self.model()["serving"].as_str().unwrap().to_owned()
    }

    /// What adaptation has come to: whether the head answers, and how many labels taught it.
    fn head(&self) -> (bool, u64) {
        let adapted = &self.status()["serving"][0]["adapted"];
        (adapted["head"].as_bool().unwrap(), adapted["labels"].as_u64().unwrap())
    }

    fn runs(&self) -> Vec<Value> {
        self.alone.command(&["versions", "--graph"]).1["runs"].as_array().unwrap().clone()
    }

    /// Sends rows over HTTP and what `label` makes of their gases over MQTT; waits until the core has all.
    async fn feed(&mut self, rows: usize, label: impl Fn(usize, usize) -> usize) {
        let labels = |status: &Value| status["counts"]["labels"].as_u64().unwrap_or(0);
        let before = labels(&self.status());
        let (data, gases): (Vec<_>, Vec<_>) = (0..rows).map(|_| self.nose.next(AGE)).unzip();
        let data: Vec<f32> = data.into_iter().flatten().collect();
        let input = json!({ "name": "features", "shape": [rows, 16], "datatype": "FP32", "data": data });
        let asked = reqwest::Client::new().post(format!("{}/v2/models/nose/infer", self.url));
        let answer = asked.json(&json!({ "inputs": [input] })).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        let answer: Value = answer.json().await.unwrap();
        let id = answer["parameters"]["prediction_id"].as_str().unwrap();
        let args = ["-t", "shoal/l/v1/line-2/in/label", "-q", "1", "-l"];
        let mut publisher = self.broker.client("mosquitto_pub", &args).stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = publisher.stdin.take().unwrap();
        for (row, gas) in gases.iter().enumerate() {
            let label = json!({ "prediction_id": format!("{id}#{row}"), "label": GASES[label(row, *gas)] });
            writeln!(lines, "{label}").unwrap();
        }
        drop(lines);
        assert!(publisher.wait().unwrap().success());
        let all = before + rows as u64;
        wait(|| async { labels(&self.status()) >= all }).await;
    }

    async fn until_on_broker(&self) {
        wait(|| async {
            let args = ["-t", "shoal/l/v1/line-2/out/model", "-C", "1", "-W", "2"];
            self.broker.client("mosquitto_sub", &args).output().unwrap().stdout.starts_with(b"{")
        })
        .await;
    }
}

fn configure(alone: &Alone, broker: &Broker, settings: &str) {
    let config = format!(
        "[device]\nid = \"alone\"\n[state]\ndir = \"state\"\n[serve]\nhttp = \"127.0.0.1:0\"\ngrpc = \"off\"\n\
         [control]\nsocket = \"c.sock\"\n[[model]]\npackage = \"nose.shoal\"\n[watch]\nheartbeat_s = 1\n\
         [local]\nbroker = \"mqtt://{}\"\napp = \"line-2\"\n\
         [retrain]\nenabled = false\ncooldown_s = 0\n[trial]\nmin_requests = 40\nmin_labels = 40\n{settings}",
        broker.address
    );
    write(&alone.path("agent.toml"), config.as_bytes());
}

/// Another package of the same model, whose factory mixed the gases up.
fn mixed_up(alone: &Alone) -> String {
    let text = train_csv(2, 600);
    let mixed: String = text.lines().fold(String::new(), |all, line| {
        let gas = GASES.iter().position(|gas| line.ends_with(&format!(",{gas}")));
        let line = gas
            .map_or_else(|| line.to_owned(), |gas| line.replace(GASES[gas], GASES[(gas + 1) % GASES.len()]));
        all + &line + "\n"
    });
    write(&alone.path("mixed.csv"), mixed.as_bytes());
    let (data, package) = (alone.text("mixed.csv"), alone.text("mixed.shoal"));
    let args = [
        "pack",
        "--data",
        &data,
        "--label",
        "gas",
        "--fit",
        "mlp:16",
        "--name",
        "nose",
        "--version",
        "2",
        "--output",
        &package,
    ];
    let (code, _, error) = agent(&args);
    assert_eq!(code, 0, "{error}");
    package
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_adapts_retrains_refuses_poison_and_rolls_back_through_crashes() {
    let Some(broker) = Broker::start(Kind::Mosquitto).await else { return };
    let mut the = Loop::start(broker, "[adapt]\ninputs = false\n").await;
    the.until_on_broker().await;
    let factory = the.serving();
    let truth = |_: usize, gas: usize| gas;

    // What the sensors say of a gas has changed: the head learns it from labels, and answers.
    let mut fed = 0;
    while !the.head().0 {
        assert!(fed < 600, "the head did not take over: {}", the.status());
        the.feed(50, truth).await;
        fed += 50;
    }
    println!("the head answers after {fed} labels");
    the.again(false).await;
    the.until_on_broker().await;
    let (answers, kept) = the.head();
    assert!(answers && kept > 0 && the.serving() == factory, "it answers on after kill -9");
    the.feed(250, truth).await;
    let taught = the.head().1;
    assert!(taught > kept, "and learns on");
    the.again(true).await;
    // Lessons that were on their way at the count above may be learned before the stop.
    assert!(the.head().0 && the.head().1 >= taught, "a stop loses nothing: {:?}", the.head());

    // A retrain; what it knows is heard without the head before it.
    the.part.stop().await.unwrap();
    configure(&the.alone, &the.broker, "[adapt]\ninputs = false\nhead = false\n");
    (the.part, the.url) = the.alone.start().await;
    the.until_on_broker().await;
    assert_eq!(the.alone.command(&["train", "nose"]).0, 0);
    wait(|| async { the.runs().len() == 1 && the.model()["candidate"][1] != "staged" }).await;
    assert_eq!(the.runs()[0]["verdict"], "accept", "{}", the.runs()[0]);

    // It stands in the shadow first, also after a crash: what is heard is the factory's.
    let in_shadow = |model: &Value| model["candidate"][1] == "shadow" && model["ready"] == true;
    wait(|| async { in_shadow(&the.model()) }).await;
    the.feed(30, truth).await;
    assert!(in_shadow(&the.model()) && the.serving() == factory, "{}", the.model());
    the.again(false).await;
    the.until_on_broker().await;
    wait(|| async { in_shadow(&the.model()) }).await;
    assert_eq!(the.serving(), factory);
    the.feed(60, truth).await;
    wait(|| async { the.model()["candidate"][1] == "on_trial" && the.model()["ready"] == true }).await;
    the.feed(20, truth).await;
    let on_trial = the.serving();
    assert_ne!(on_trial, factory);
    the.again(false).await;
    the.until_on_broker().await;
    assert_eq!((the.serving(), &the.model()["candidate"][1]), (on_trial.clone(), &json!("on_trial")));
    let mut rounds = 0;
    while !the.model()["candidate"].is_null() {
        rounds += 1;
        assert!(rounds < 10, "{}", the.model());
        the.feed(20, truth).await;
    }
    assert_eq!(the.serving(), on_trial, "confirmed: {}", the.model());
    let champion = on_trial;

    // An operator installs what was trained on wrong labels: labels alone take it back.
    let package = mixed_up(&the.alone);
    let (code, said, error) = the.alone.command(&["install", &package]);
    assert_eq!(code, 0, "{said} {error}");
    wait(|| async { the.model()["candidate"][1] == "on_trial" && the.model()["ready"] == true }).await;
    let bad = the.serving();
    assert_ne!(bad, champion);
    the.feed(1, truth).await; // too few to tell
    the.again(false).await;
    the.until_on_broker().await;
    assert_eq!(the.serving(), bad, "a crash is not the version's fault");
    the.feed(30, truth).await;
    wait(|| async { the.serving() == champion && the.model()["ready"] == true }).await;
    println!("taken back: {}", the.model()["last_end"]);
    let (_, graph, _) = the.alone.command(&["versions", "--graph"]);
    let nodes = graph["versions"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["version"] == bad.as_str()).unwrap();
    let reason = node["marks"][0]["condemned"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("label"), "{node}");
    assert_eq!(the.alone.command(&["promote", "nose", &bad]).0, 1, "condemned stays condemned");
    assert_eq!(the.alone.command(&["install", &package]).0, 0);
    wait(|| async { the.model()["last_end"]["end"]["rejected"].is_object() }).await;
    assert_eq!(the.serving(), champion, "installed again, it is condemned still");
    assert_eq!(the.alone.command(&["versions", "--lift", &bad]).0, 0);
    assert_eq!(the.alone.command(&["versions", "--lift", &bad]).0, 1, "there is nothing to lift any more");
    // Of rows that nobody labelled those are named whose labels would teach most.
    let data: Vec<f32> = (0..8).flat_map(|_| the.nose.next(AGE).0).collect();
    let input = json!({ "name": "features", "shape": [8, 16], "datatype": "FP32", "data": data });
    let url = format!("{}/v2/models/nose/infer", the.url);
    let asked = reqwest::Client::new().post(url).json(&json!({ "inputs": [input] })).send().await.unwrap();
    assert!(asked.status().is_success());
    wait(|| async {
        let (code, asked, _) = the.alone.command(&["label", "--next", "2"]);
        code == 0 && asked["rows"].as_array().is_some_and(|rows| !rows.is_empty())
    })
    .await;

    // Labels that are mixed up: a retrain on them does not pass the gate, and says why.
    the.feed(300, |row, gas| (gas + 1 + row % 4) % GASES.len()).await;
    assert_eq!(the.alone.command(&["train", "nose"]).0, 0);
    wait(|| async { the.runs().len() == 2 }).await;
    let poisoned = &the.runs()[1]["verdict"]["reject"];
    println!("refused: {poisoned}");
    assert!(poisoned.is_object(), "{}", the.runs()[1]);
    the.again(false).await;
    let (_, status, _) = the.alone.command(&["status"]);
    assert_eq!((the.serving(), &status["models"][0]["candidate"]), (champion, &Value::Null));
    the.part.stop().await.unwrap();
    assert!(get(&format!("{}/metrics", the.url)).await.is_none());
}
