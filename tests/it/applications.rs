//! An application that has nothing but the device's own broker, played with mosquitto's own clients.

use super::brokers::{Broker, Kind};
use super::e2e::{Alone, PATIENCE, wait, write};
use super::watching::{features, stream};
use serde_json::{Value, json};
use shoal_proto::infer::StatusOut;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

const TOPIC: &str = "shoal/l/v1/line-2";

/// A word of the agent's: whether the broker had kept it, the last level of its topic, and what it says.
#[derive(Debug, Clone)]
struct Word {
    kept: bool,
    what: String,
    body: Value,
}

/// `mosquitto_sub` on all that the agent says, for as long as this lives.
struct Listener {
    child: Child,
    heard: Arc<(Mutex<Vec<Word>>, Condvar)>,
}

impl Listener {
    fn new(broker: &Broker) -> Self {
        let args = ["-t", &format!("{TOPIC}/out/+"), "-q", "1", "-F", "%r %t %p"];
        let mut child = broker.client("mosquitto_sub", &args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard: Arc<(Mutex<Vec<Word>>, Condvar)> = Arc::default();
        let into = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut parts = line.splitn(3, ' ');
                let kept = parts.next() == Some("1");
                let what = parts.next().and_then(|topic| topic.rsplit('/').next()).unwrap().to_owned();
                let body = serde_json::from_str(parts.next().unwrap()).unwrap();
                into.0.lock().unwrap().push(Word { kept, what, body });
                into.1.notify_all();
            }
        });
        Self { child, heard }
    }

    /// Waits for a word on this topic, from the `from`th word on; gives it and its number.
    fn hears(&self, from: usize, what: &str, is: impl Fn(&Word) -> bool) -> (usize, Word) {
        let find = |words: &Vec<Word>| {
            let found = words.iter().enumerate().skip(from).find(|(_, word)| word.what == what && is(word));
            found.map(|(at, word)| (at, word.clone()))
        };
        let (words, signal) = (self.heard.0.lock().unwrap(), &self.heard.1);
        let (words, waited) =
            signal.wait_timeout_while(words, PATIENCE, |words| find(words).is_none()).unwrap();
        assert!(!waited.timed_out(), "no such `{what}` among {:#?}", &words[from..]);
        find(&words).unwrap()
    }

    fn count(&self) -> usize {
        self.heard.0.lock().unwrap().len()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `mosquitto_pub`: a message a line.
fn say(broker: &Broker, what: &str, bodies: &[Value]) {
    let args = ["-t", &format!("{TOPIC}/{what}"), "-q", "1", "-l"];
    let mut child = broker.client("mosquitto_pub", &args).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    for body in bodies {
        writeln!(lines, "{body}").unwrap();
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
}

fn rows(csv: &str) -> Vec<Value> {
    features(csv).chunks(25).map(|rows| json!({ "rows": rows })).collect()
}

fn status(word: &Word) -> StatusOut {
    serde_json::from_value(word.body.clone()).unwrap()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn an_application_needs_nothing_but_the_broker(kind: Kind) {
    if !has("mosquitto_pub") {
        return eprintln!("skipped: mosquitto's clients are not there");
    }
    let Some(broker) = Broker::start(kind).await else { return };
    let alone = Alone::new();
    let config = std::fs::read_to_string(alone.path("agent.toml")).unwrap();
    let local = format!("[local]\nbroker = \"mqtt://{}\"\napp = \"line-2\"\n", broker.address);
    let config =
        format!("{config}window_rows = 200\n{local}[ask]\nper_day = 100000\n[retrain]\nenabled = false\n");
    write(&alone.path("agent.toml"), config.as_bytes());
    let app = Listener::new(&broker);
    let (mut part, _) = alone.start().await;
    let (_, birth) = app.hears(0, "status", |word| status(word).online);
    let birth = status(&birth);
    assert_eq!((birth.device.as_str(), birth.boot), ("alone", 1));
    app.hears(0, "model", |word| word.body["model"] == "nose");

    // Features in, a prediction out; the truth in, and a model that knows of it.
    let calm = stream(1, 400, usize::MAX);
    let row = &features(&calm)[0];
    say(&broker, "in/features", &[json!({ "id": "r1", "row": row })]);
    let (_, answer) = app.hears(0, "prediction", |word| word.body["id"] == "r1");
    assert!(answer.body["predictions"][0]["class"].is_string(), "{answer:?}");
    let label = json!({ "prediction_id": answer.body["prediction_id"], "label": "ethanol" });
    say(&broker, "in/label", &[label]);
    wait(|| async { alone.command(&["status"]).1["counts"]["labels"] == 1 }).await;

    // What is wrong is said to whom it concerns.
    say(&broker, "in/features", &[json!({ "id": "r2", "row": [1, 2] })]);
    let (_, wrong) = app.hears(0, "error", |word| word.body["id"] == "r2");
    assert!(wrong.body["error"].as_str().unwrap().contains("16"), "{wrong:?}");

    // A sensor moves: a finding that names it, health, and rows that somebody should label.
    say(&broker, "in/features", &rows(&calm));
    app.hears(0, "health", |word| word.body["health"]["score"] == 100); // when the first window closes
    let from = app.count();
    say(&broker, "in/features", &rows(&stream(2, 200, 0)));
    let is_drift = |word: &Word| {
        let finding = &word.body["finding"];
        finding["feature"] == "s3" && finding["level"] == "drift" && word.body["advice"].is_string()
    };
    app.hears(from, "finding", is_drift);
    app.hears(from, "health", |word| word.body["health"]["score"].as_u64().unwrap() < 100);
    // Not of the first row: it has its label.
    let (_, ask) = app.hears(from, "ask", |_| true);
    assert!(ask.body["features"]["s3"].is_number() && ask.body["why"].is_string(), "{ask:?}");
    let label = json!({ "prediction_id": ask.body["prediction_id"], "label": "ethanol" });
    say(&broker, "in/label", &[label]);
    wait(|| async { alone.command(&["status"]).1["counts"]["labels"] == 2 }).await;

    say(
        &broker,
        "in/train",
        &[json!({ "model": "nose", "id": "t1" }), json!({ "model": "other", "id": "t2" })],
    );
    let (_, said) = app.hears(0, "train", |word| word.body["id"] == "t1");
    assert!(said.body["text"].is_string(), "{said:?}");
    let (_, said) = app.hears(0, "train", |word| word.body["id"] == "t2");
    assert_eq!(said.body["accepted"], false, "{said:?}");

    // Who comes later is told by the broker how things stand.
    let late = Listener::new(&broker);
    late.hears(0, "model", |word| word.kept && word.body["model"] == "nose");
    late.hears(0, "health", |word| word.kept && word.body["health"]["score"].as_u64().unwrap() < 100);
    late.hears(0, "status", |word| word.kept && status(word) == birth);
    drop(late);

    // Death, and what the broker says of it; a second life; and the first one's will once more.
    let from = app.count();
    part.kill().await.unwrap();
    let (from, will) = app.hears(from, "status", |_| true);
    assert_eq!(status(&will), StatusOut { online: false, ..birth.clone() });
    Listener::new(&broker).hears(0, "status", |word| word.kept && !status(word).online);
    let (mut part, _) = alone.start().await;
    let (from, second) = app.hears(from + 1, "status", |_| true);
    let second = status(&second);
    assert!(second.online && second.boot == 2 && birth.is_outdated_by(&second), "{second:?}");
    let args = ["-t", &format!("{TOPIC}/out/status"), "-q", "1", "-r", "-m", &will.body.to_string()];
    assert!(broker.client("mosquitto_pub", &args).status().unwrap().success());
    let (from, again) = app.hears(from + 1, "status", |_| true);
    assert!(status(&again).is_outdated_by(&second), "an application knows it by its number: {again:?}");
    let (from, again) = app.hears(from + 1, "status", |_| true);
    assert_eq!(status(&again), second, "and the agent takes its topic back");
    wait(|| async {
        let kept = Listener::new(&broker).hears(0, "status", |word| word.kept).1;
        status(&kept) == second
    })
    .await;

    part.stop().await.unwrap();
    let (_, end) = app.hears(from + 1, "status", |_| true);
    assert_eq!(status(&end), StatusOut { online: false, ..second });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_needs_nothing_but_mosquitto() {
    an_application_needs_nothing_but_the_broker(Kind::Mosquitto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_needs_nothing_but_nats() {
    an_application_needs_nothing_but_the_broker(Kind::Nats).await;
}
