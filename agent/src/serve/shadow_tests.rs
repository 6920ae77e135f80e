//! Candidates in the shadow of a served model: every request goes by them, none waits, none hears them.

use super::fixture::{Bench, gas};
use super::load_tests::slow;
use super::*;
use crate::core::Event;
use reqwest::Client;
use serde_json::{Value, json};
use shoal_proto::decision::ShadowSeen;
use std::time::Duration;

async fn post(bench: &Bench, path: &str, body: &Value) -> Value {
    let sent =
        Client::new().post(format!("{}{path}", bench.url)).body(body.to_string()).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.status());
    sent.json().await.unwrap()
}

/// Predicts rows whose first feature is the larger; the id of the request.
async fn predict(bench: &Bench, rows: usize) -> String {
    let data = [100.0, 0.0].repeat(rows);
    let input = json!({ "name": "features", "shape": [rows, 2], "datatype": "FP32", "data": data });
    let answer = post(bench, "/v2/models/gas/infer", &json!({ "inputs": [input] })).await;
    bench.samples.flush().await.unwrap();
    answer["parameters"]["prediction_id"].as_str().unwrap().to_owned()
}

/// What the shadow showed, until so many rows and labels came.
async fn seen(bench: &mut Bench, rows: u64, labels: u64) -> ShadowSeen {
    let mut all = ShadowSeen::default();
    while all.rows < rows || all.labels < labels {
        if let Event::Shadowed { seen, .. } = bench.next_event().await {
            all.add(&seen);
        }
    }
    ShadowSeen { took_us: 0, ..all }
}

fn shadows(bench: &Bench, timeout: Duration) -> Arc<Shadows> {
    bench.state.outlet().shadow(&bench.tracker, bench.cancel.clone(), bench.state.clock, timeout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_answers_what_is_asked_and_is_not_heard() {
    let mut bench = Bench::start(Limits::default()).await;
    let shadows = shadows(&bench, Duration::from_secs(10));
    let early = predict(&bench, 1).await;
    shadows.begin(gas(-4.0));
    let id = predict(&bench, 4).await;
    let expected = ShadowSeen { rows: 4, compared: 4, ..ShadowSeen::default() };
    let all = seen(&mut bench, 4, 0).await;
    assert_eq!(ShadowSeen { confidence: 0, served_confidence: 0, ..all }, expected);
    assert_eq!(all.confidence, all.served_confidence);
    for prediction_id in [early, format!("{id}#2"), format!("{id}#3")] {
        post(&bench, "/v2/shoal/label", &json!({ "prediction_id": prediction_id, "label": "ethanol" })).await;
    }
    let labelled = ShadowSeen { labels: 2, only_served: 2, ..ShadowSeen::default() };
    assert_eq!(seen(&mut bench, 0, 2).await, labelled, "the row before it came says nothing of it");

    shadows.begin(gas(f32::MAX)); // in its place: what it adds up is no number
    predict(&bench, 3).await;
    let failed = ShadowSeen { rows: 3, failures: 3, ..ShadowSeen::default() };
    assert_eq!(seen(&mut bench, 3, 0).await, failed);

    let endless = gas(f32::MAX).info().version;
    shadows.end(&"gas".parse().unwrap(), gas(1.0).info().version); // of another
    assert!(shadows.is_any());
    shadows.end(&"gas".parse().unwrap(), endless);
    assert!(!shadows.is_any());
    predict(&bench, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    while let Ok(event) = bench.events.try_recv() {
        assert!(!matches!(event, Event::Shadowed { .. }), "{event:?}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_whose_call_does_not_end_is_given_up() {
    let mut bench = Bench::start(Limits::default()).await;
    let shadows = shadows(&bench, Duration::from_millis(1));
    shadows.begin(slow(&Metrics::default()));
    predict(&bench, 1).await;
    let stalled = async {
        loop {
            if let Event::ShadowStalled { version, .. } = bench.next_event().await {
                return version;
            }
        }
    };
    assert_eq!(stalled.await, slow(&Metrics::default()).info().version);
    assert!(!shadows.is_any());
    bench.end().await;
}
