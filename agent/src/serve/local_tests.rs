use super::fixture::{Bench, birth, gas, volume};
use super::local::{Local, MAX_MESSAGE_BYTES};
use super::*;
use crate::core::{Event, Truth};
use crate::mqtt::mosquitto::Mosquitto;
use crate::mqtt::{Client, Message, MqttEvent, Options, Publisher};
use serde_json::{Value, json};
use shoal_proto::finding::{Finding, ModelHealth, Monitor};
use shoal_proto::id::{AppName, DeviceId, Incarnation};
use shoal_proto::infer::{HealthOut, ModelOut, Parameters, StatusOut};
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::WallMs;
use std::time::Duration;
use tokio::sync::mpsc;

/// An application beside the agent.
struct App {
    publisher: Publisher,
    events: mpsc::Receiver<MqttEvent>,
}

impl App {
    async fn start(bench: &Bench, broker: &Mosquitto) -> Self {
        let mut options = Options::new(broker.url(), "app");
        options.subscriptions = vec!["shoal/l/v1/line-2/out/+".into()];
        options.max_packet_bytes = 1024 * 1024;
        let (publisher, events) = Client::spawn(&bench.tracker, bench.cancel.clone(), options);
        let mut app = Self { publisher, events };
        while app.next().await != MqttEvent::Up {}
        app
    }

    async fn next(&mut self) -> MqttEvent {
        tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await.expect("in time").unwrap()
    }

    async fn hears(&mut self) -> (String, Value, bool) {
        loop {
            if let MqttEvent::Message(message) = self.next().await {
                let what = message.topic.strip_prefix("shoal/l/v1/line-2/out/").unwrap().to_owned();
                if what != "status" {
                    return (what, serde_json::from_slice(&message.payload).unwrap(), message.retain);
                }
            }
        }
    }

    async fn hears_status(&mut self) -> StatusOut {
        loop {
            if let MqttEvent::Message(message) = self.next().await
                && message.topic.ends_with("/out/status")
            {
                return serde_json::from_slice(&message.payload).unwrap();
            }
        }
    }

    fn says(&self, what: &str, payload: &[u8]) {
        let topic = format!("shoal/l/v1/line-2/in/{what}");
        self.publisher.publish(Message { topic, payload: payload.to_vec(), retain: false }).unwrap();
    }

    async fn asks(&mut self, what: &str, body: &Value) -> (String, Value) {
        self.says(what, body.to_string().as_bytes());
        let (what, answer, _) = self.hears().await;
        (what, answer)
    }
}

async fn local(bench: &Bench, broker: &Mosquitto) -> Local {
    let app = AppName::new("line-2").unwrap();
    let options = Options::new(broker.url(), "agent");
    let state = Arc::clone(&bench.state);
    let local = Local::spawn(&bench.tracker, bench.cancel.clone(), state, (app, birth()), options);
    while !local.is_up() {
        tokio::task::yield_now().await;
    }
    local
}

fn model_out() -> ModelOut {
    let served = gas(4.0);
    let (model, version) = (served.name().clone(), served.info().version);
    ModelOut { model, version, name: "gas@3".into(), since: WallMs(7) }
}

#[tokio::test]
async fn features_are_predicted_and_labels_reach_disk_and_core() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut bench = Bench::start(Limits::default()).await;
    let _local = local(&bench, &broker).await;
    let mut app = App::start(&bench, &broker).await;
    let (what, answer) = app.asks("features", &json!({ "id": "a1", "rows": [[3, 0], [0, 3.5]] })).await;
    assert_eq!((what.as_str(), &answer["id"], &answer["model"]), ("prediction", &json!("a1"), &json!("gas")));
    let classes: Vec<_> = answer["predictions"].as_array().unwrap().iter().map(|p| &p["class"]).collect();
    assert_eq!(classes, ["ethanol", "acetone"]);
    assert!(answer["predictions"][0]["confidence"].as_f64().unwrap() > 0.99);
    let Event::Predicted(rows) = bench.next_event().await else { panic!("rows") };
    assert_eq!(rows.len(), 2);
    bench.samples.flush().await.unwrap();
    let id = answer["prediction_id"].as_str().unwrap();
    let label = json!({ "prediction_id": format!("{id}#1"), "label": "acetone" });
    app.says("label", label.to_string().as_bytes());
    let Event::Labelled(labelled) = bench.next_event().await else { panic!("a label") };
    assert!(labelled.correct() == Some(true) && labelled.truth == Truth::Class(1));
    bench.end().await;
}

#[tokio::test]
async fn a_row_may_be_a_list_or_an_object_and_tensors_are_taken_too() {
    let Some(broker) = Mosquitto::start() else { return };
    let bench = Bench::start(Limits::default()).await;
    let _local = local(&bench, &broker).await;
    let mut app = App::start(&bench, &broker).await;
    for (body, classes) in [
        (json!({ "row": [3, 0] }), vec!["ethanol"]),
        (json!({ "features": { "s2": 3.5, "s1": 0 } }), vec!["acetone"]),
        (json!({ "row": { "s1": 3 }, "id": "half" }), vec![]),
        (json!({ "rows": [{ "s1": 3, "s2": 0 }, [0, 3]] }), vec!["ethanol", "acetone"]),
    ] {
        let (what, answer) = app.asks("features", &body).await;
        assert_eq!(what, "prediction", "{body}: {answer}");
        let got = answer["predictions"].as_array().unwrap().iter().filter_map(|p| p["class"].as_str());
        assert_eq!(got.collect::<Vec<_>>(), classes, "{body}: a missing value gives no class");
    }
    let tensors = json!({ "model": "gas", "id": "t", "outputs": [{ "name": "probabilities" }], "inputs": [
        { "name": "features", "shape": [1, 2], "datatype": "FP32", "data": [3, 0] }
    ] });
    let (what, answer) = app.asks("features", &tensors).await;
    assert_eq!(
        (what.as_str(), &answer["id"], &answer["model_name"]),
        ("prediction", &json!("t"), &json!("gas"))
    );
    assert!(answer["outputs"][0]["data"][0].as_f64().unwrap() > 0.99, "{answer}");
    assert!(answer["parameters"]["prediction_id"].as_str().unwrap().starts_with("gas."));
    for (body, words) in [
        (json!({ "row": { "s1": 1, "s9": 2 } }), "no feature `s9`, it has s1, s2"),
        (json!({ "row": { "s1": "warm" } }), "a row must be a list of numbers or an object"),
        (json!({ "id": "t", "inputs": [] }), "input `features` is missing"),
    ] {
        let (what, answer) = app.asks("features", &body).await;
        assert!(what == "error" && answer["error"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    bench.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_answered() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut bench = Bench::start(Limits::default()).await;
    let _local = local(&bench, &broker).await;
    let mut app = App::start(&bench, &broker).await;
    for (what, payload, words) in [
        ("features", "{".to_owned(), "cannot be read"),
        ("features", json!({ "rows": [[1]] }).to_string(), "1 rows of 2 features, got 1"),
        ("features", json!({ "rows": [] }).to_string(), "no rows"),
        ("features", json!({ "model": "none", "rows": [[1, 2]] }).to_string(), "`none` is not served"),
        ("features", json!({ "id": "x", "rows": "no" }).to_string(), "cannot be read"),
        ("label", json!({ "prediction_id": "gas.1", "label": "butter" }).to_string(), "no class `butter`"),
        ("features", " ".repeat(MAX_MESSAGE_BYTES + 1), "more than 262144 bytes"),
    ] {
        app.says(what, payload.as_bytes());
        let (topic, answer, _) = app.hears().await;
        let error = answer["error"].as_str().unwrap();
        assert_eq!(topic, "error");
        assert!(error.contains(words), "`{error}` does not say `{words}`");
        assert_eq!(answer["id"].as_str(), payload.contains("\"x\"").then_some("x"));
        let mut event = bench.next_event().await;
        if matches!(event, Event::Misfit { .. }) {
            event = bench.next_event().await; // the model's own monitors hear of it too
        }
        assert!(matches!(event, Event::BadMessage), "{words}: {event:?}");
    }
    bench.state.models().swap(volume());
    let (_, answer) = app.asks("features", &json!({ "rows": [[1, 2]] })).await;
    assert!(answer["error"].as_str().unwrap().contains("2 are served"), "{answer}");
    let (_, answer) = app.asks("features", &json!({ "model": "volume", "rows": [[1, 2]] })).await;
    assert_eq!(answer["predictions"], json!([{ "values": [3.0] }]));
    bench.end().await;
}

#[tokio::test]
async fn the_serving_version_is_retained_and_told_again_to_a_new_broker() {
    let Some(broker) = Mosquitto::start() else { return };
    let bench = Bench::start(Limits::default()).await;
    let local = local(&bench, &broker).await;
    local.announce(model_out());
    let mut app = App::start(&bench, &broker).await;
    let expected = serde_json::to_value(model_out()).unwrap();
    let (what, model, _) = app.hears().await;
    assert_eq!((what.as_str(), &model), ("model", &expected));
    // Another broker without memory on the same port: both reconnect, and the agent tells again.
    let _broker = broker.restart();
    let (what, model, _) = app.hears().await;
    assert_eq!((what.as_str(), &model), ("model", &expected));
    bench.end().await;
}

#[tokio::test]
async fn findings_are_told_and_health_is_retained() {
    let Some(broker) = Mosquitto::start() else { return };
    let bench = Bench::start(Limits::default()).await;
    let local = local(&bench, &broker).await;
    let health = HealthOut {
        model: model_out().model,
        version: model_out().version,
        health: ModelHealth::of(&[(Monitor::Stuck, DriftLevel::Drift)]),
        since: WallMs(1),
    };
    local.tell_health(health.clone());
    let mut app = App::start(&bench, &broker).await;
    let (what, told, _) = app.hears().await;
    assert_eq!((what.as_str(), &told), ("health", &serde_json::to_value(&health).unwrap()));
    assert_eq!(told["health"]["score"], 44);
    let finding: Finding = serde_json::from_value(json!({
        "model": "gas", "version": health.version, "monitor": "stuck", "feature": "s1", "level": "drift",
        "statistic": 40.0, "threshold": 20.0, "window": { "incarnation": "0000000000000001", "number": 3 }, "at": 5
    }))
    .unwrap();
    local.tell_finding(finding);
    let (what, told, _) = app.hears().await;
    assert_eq!((what.as_str(), &told["finding"]["feature"]), ("finding", &json!("s1")));
    assert_eq!(told["advice"], Monitor::Stuck.advice());
    bench.end().await;
}

#[tokio::test]
async fn a_label_that_overtook_its_row_reaches_the_core_later() {
    let mut bench = Bench::start(Limits::default()).await;
    let served = bench.state.models().get("gas", None).unwrap();
    let answer =
        bench.state.predict_rows(Arc::clone(&served), 1, &[1.0, 0.0], &Parameters::new()).await.unwrap();
    let Event::Predicted(_) = bench.next_event().await else { panic!("rows") };
    // The next prediction's id is known only to a test: same life, next number.
    let id = answer.prediction_id.unwrap();
    let next = id.strip_suffix("-0").map(|life| format!("{life}-1")).unwrap();
    let label = serde_json::from_value(json!({ "prediction_id": next, "label": "ethanol" })).unwrap();
    assert_eq!(bench.state.label(label).await.unwrap(), LabelStatus::Parked);
    bench.state.predict_rows(served, 1, &[1.0, 0.0], &Parameters::new()).await.unwrap();
    let mut seen = (0, 0);
    for _ in 0..2 {
        match bench.next_event().await {
            Event::Predicted(rows) => seen.0 += rows.len(),
            Event::Labelled(labelled) => seen.1 += u32::from(labelled.correct() == Some(true)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (1, 1));
    bench.end().await;
}

#[tokio::test]
async fn a_will_that_comes_late_does_not_stand() {
    let Some(broker) = Mosquitto::start() else { return };
    let bench = Bench::start(Limits::default()).await;
    let mut app = App::start(&bench, &broker).await;
    drop(local(&bench, &broker).await);
    assert_eq!(app.hears_status().await, birth());
    let said = |online, boot, incarnation| StatusOut {
        online,
        boot,
        incarnation: Incarnation(incarnation),
        ..birth()
    };
    for (status, is_undone) in [
        (said(false, 6, 1), true),
        (said(true, 6, 1), true),
        (said(false, 7, 1), true),
        (said(false, 6, 2), true),
        (said(true, 6, 2), false),
        (said(true, 7, 1), false),
        (StatusOut { device: DeviceId::new("press-08").unwrap(), ..said(false, 6, 1) }, false),
    ] {
        let payload = serde_json::to_vec(&status).unwrap();
        let topic = "shoal/l/v1/line-2/out/status".to_owned();
        app.publisher.publish(Message { topic, payload, retain: true }).unwrap();
        assert_eq!(app.hears_status().await, status);
        if is_undone {
            assert_eq!(app.hears_status().await, birth(), "after {status:?}");
        }
    }
    app.says("features", b"{}");
    assert_eq!(app.hears().await.0, "error", "and nothing more was said of the status");
    bench.end().await;
}
