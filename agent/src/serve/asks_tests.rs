use super::fixture::{Bench, birth, gas_of, volume};
use super::local::Local;
use super::*;
use crate::adapting::Desk;
use crate::asking::Settings;
use crate::mqtt::mosquitto::Mosquitto;
use crate::mqtt::{Client, Message, MqttEvent, Options, Publisher};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shoal_proto::baseline::Baseline;
use shoal_proto::id::AppName;
use shoal_proto::topic::{Local as What, Topic};
use shoal_watch::joint::{Parts, fit};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Rows of training: both features within one of nought.
fn reference() -> Baseline {
    let rows: Vec<f32> = (0..1_000).map(|at| (at as f32 * 0.754_877).fract() * 2.0 - 1.0).collect();
    Baseline { joint: Some(fit(&rows, 2, 1, Parts::default()).unwrap()), ..Baseline::default() }
}

async fn bench(settings: Settings) -> (Bench, Arc<Asks>) {
    let bench = Bench::start(Limits::default()).await;
    drop(bench.state.models().swap(gas_of(reference())));
    let asks = ask(&bench, settings);
    (bench, asks)
}

fn ask(bench: &Bench, settings: Settings) -> Arc<Asks> {
    let asks = Arc::new(Asks::new(settings, bench.state.clock));
    let desk = Desk::new(bench.dir.path(), shoal_adapt::Settings::default());
    let models = Arc::clone(&bench.state.models);
    bench.state.outlet().teach(&bench.tracker, bench.cancel.clone(), models, desk, Arc::clone(&asks));
    asks
}

async fn send(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn get(bench: &Bench, path: &str) -> (StatusCode, Value) {
    send(reqwest::Client::new().get(format!("{}{path}", bench.url))).await
}

async fn post(bench: &Bench, path: &str, body: &Value) -> (StatusCode, Value) {
    send(reqwest::Client::new().post(format!("{}{path}", bench.url)).body(body.to_string())).await
}

/// Predicts rows; the id of the request.
async fn predict(bench: &Bench, rows: &[[f32; 2]]) -> String {
    let input = json!({ "name": "features", "shape": [rows.len(), 2], "datatype": "FP32", "data": rows });
    let (status, answer) = post(bench, "/v2/models/gas/infer", &json!({ "inputs": [input] })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    bench.samples.flush().await.unwrap();
    answer["parameters"]["prediction_id"].as_str().unwrap().to_owned()
}

/// What waits, as soon as so many do.
async fn waiting(bench: &Bench, count: u64) -> Value {
    let held = async {
        loop {
            let (_, next) = get(bench, "/v2/shoal/label/next?n=64").await;
            if next["waiting"] == count {
                return next;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.expect("so many wait in time")
}

#[tokio::test]
async fn rows_wait_until_they_are_labelled_or_skipped() {
    let (mut bench, _) = bench(Settings::default()).await;
    let (status, empty) = get(&bench, "/v2/shoal/label/next").await;
    assert_eq!((status, empty), (StatusCode::OK, json!({ "model": "gas", "waiting": 0, "rows": [] })));
    // Unsure, sure, like the first one, and like none of training though the answer is sure.
    let id = predict(&bench, &[[0.05, 0.0], [0.9, -0.9], [0.06, 0.0], [40.0, 0.0]]).await;
    let next = waiting(&bench, 3).await;
    let rows = next["rows"].as_array().unwrap();
    let whys: Vec<_> = rows.iter().map(|row| row["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["new", "new", "outlying"], "no class has a label: the most doubtful first");
    let first = &rows[0];
    assert_eq!((&first["model"], &first["class"]), (&json!("gas"), &json!("ethanol")), "{first}");
    assert_eq!(first["features"], json!({ "s1": 0.05, "s2": 0.0 }));
    assert!((first["confidence"].as_f64().unwrap() - 0.55).abs() < 0.01 && first["at"].as_u64().unwrap() > 0);
    assert_eq!(rows[2]["prediction_id"], format!("{id}#3"));
    assert_eq!(get(&bench, "/v2/shoal/label/next?n=1&model=gas").await.1["rows"], json!([first]));

    let label = json!({ "prediction_id": first["prediction_id"], "label": "ethanol" });
    assert_eq!(post(&bench, "/v2/shoal/label", &label).await.1, json!({ "status": "joined" }));
    let next = waiting(&bench, 2).await;
    let whys: Vec<_> =
        next["rows"].as_array().unwrap().iter().map(|row| row["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["outlying", "uncertain"]);
    let skip = json!({ "prediction_id": format!("{id}#3") });
    let (status, said) = post(&bench, "/v2/shoal/label/skip", &skip).await;
    assert_eq!((status, said), (StatusCode::OK, json!({ "status": "skipped" })));
    waiting(&bench, 1).await;
    for (path, body, status, words) in [
        ("/v2/shoal/label/skip", Some(skip), StatusCode::NOT_FOUND, "does not wait for a label"),
        ("/v2/shoal/label/skip", Some(json!({ "id": 1 })), StatusCode::BAD_REQUEST, "unknown field `id`"),
        ("/v2/shoal/label/skip", Some(json!({ "prediction_id": "x" })), StatusCode::NOT_FOUND, "`x#0`"),
        ("/v2/shoal/label/next?n=many", None, StatusCode::BAD_REQUEST, "invalid digit"),
        ("/v2/shoal/label/next?model=none", None, StatusCode::NOT_FOUND, "`none` is not served"),
    ] {
        let (got, said) = match &body {
            Some(body) => post(&bench, path, body).await,
            None => get(&bench, path).await,
        };
        assert_eq!(got, status, "{path}: {said}");
        assert!(said["error"].as_str().unwrap().contains(words), "{said}");
    }
    // Another version answers: what waits still waits, and so it does beside another model.
    drop(bench.state.models().swap(volume()));
    assert_eq!(get(&bench, "/v2/shoal/label/next").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get(&bench, "/v2/shoal/label/next?model=volume").await.1["waiting"], 0);
    assert_eq!(get(&bench, "/v2/shoal/label/next?model=gas").await.1["waiting"], 1);
    while bench.events.try_recv().is_ok() {}
    bench.end().await;
}

#[tokio::test]
async fn what_is_not_captured_is_not_asked_about() {
    let bench = Bench::start(Limits { capture: Capture::OneIn(2), ..Limits::default() }).await;
    ask(&bench, Settings::default());
    for at in 0..4_u8 {
        predict(&bench, &[[f32::from(at), f32::from(at)]]).await;
    }
    let next = waiting(&bench, 2).await;
    for row in next["rows"].as_array().unwrap() {
        assert!(!row["prediction_id"].as_str().unwrap().contains('~'), "{row}");
    }
    bench.end().await;
}

/// Hears what is asked on the broker.
async fn listener(bench: &Bench, broker: &Mosquitto) -> (Publisher, Receiver<MqttEvent>) {
    let mut options = Options::new(broker.url(), "person");
    options.subscriptions = vec![Topic::Local(AppName::new("line-2").unwrap(), What::Ask).to_string()];
    let (publisher, mut events) = Client::spawn(&bench.tracker, bench.cancel.clone(), options);
    while events.recv().await != Some(MqttEvent::Up) {}
    (publisher, events)
}

async fn local(bench: &Bench, broker: &Mosquitto) -> Local {
    let (app, options) = (AppName::new("line-2").unwrap(), Options::new(broker.url(), "agent"));
    let state = Arc::clone(&bench.state);
    let local = Local::spawn(&bench.tracker, bench.cancel.clone(), state, (app, birth()), options);
    while !local.is_up() {
        tokio::task::yield_now().await;
    }
    local
}

#[tokio::test]
async fn a_row_is_asked_about_over_mqtt_and_a_restart_gives_no_new_budget() {
    let Some(broker) = Mosquitto::start() else { return };
    let (bench, asks) = bench(Settings { per_day: 1, ..Settings::default() }).await;
    let (_publisher, mut person) = listener(&bench, &broker).await;
    let local = local(&bench, &broker).await;
    let start = |stop: &CancellationToken| {
        let models = Arc::clone(&bench.state.models);
        let questions = Questions::new(Arc::clone(&asks), models, bench.state.clock, bench.dir.path());
        tokio_util::task::TaskTracker::new().spawn(questions.run(local.clone(), stop.clone()))
    };
    let stop = CancellationToken::new();
    let first = start(&stop);
    let id = predict(&bench, &[[0.1, 0.0]]).await;
    let heard = tokio::time::timeout(Duration::from_secs(30), person.recv()).await.unwrap();
    let Some(MqttEvent::Message(Message { payload, retain: false, .. })) = heard else { panic!("{heard:?}") };
    let asked: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&asked["prediction_id"], &asked["why"]), (&json!(format!("{id}#0")), &json!("new")));
    stop.cancel();
    first.await.unwrap();
    let kept = std::fs::read(bench.dir.path().join("ask.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap()["spent"], 1);
    // The day's one question is asked: the next start says no more, and its end shows that it had looked.
    let stop = CancellationToken::new();
    let second = start(&stop);
    predict(&bench, &[[0.9, 0.9]]).await;
    waiting(&bench, 2).await;
    stop.cancel();
    second.await.unwrap();
    assert!(person.try_recv().is_err());
    bench.end().await;
}
