use super::fixture::{Bench, gas, gas_of_sites, gas_of_two_layers, served, volume};
use super::*;
use crate::core::{Event, Truth};
use crate::store::SamplesReader;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn bench() -> (Bench, Client) {
    (Bench::start(Limits::default()).await, Client::new())
}

async fn get(client: &Client, url: String) -> (StatusCode, Value) {
    let response = client.get(url).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn post(client: &Client, url: String, body: &Value) -> (StatusCode, Value) {
    let body = body.to_string();
    let response = client.post(url).body(body).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

fn rows(data: Value) -> Value {
    let count = data.as_array().unwrap().len();
    json!({ "id": "mine", "inputs": [
        { "name": "features", "shape": [count, 2], "datatype": "FP32", "data": data }
    ] })
}

#[tokio::test]
async fn server_health_and_metadata_are_as_the_protocol_says() {
    let (bench, client) = bench().await;
    let url = |path: &str| format!("{}{path}", bench.url);
    let (status, server) = get(&client, url("/v2")).await;
    assert_eq!((status, &server["name"]), (StatusCode::OK, &json!("shoal-agent")));
    assert_eq!(server["extensions"], json!(["binary_tensor_data", "model_repository", "shoal_label"]));
    assert_eq!(get(&client, url("/v2/health/live")).await.0, StatusCode::OK);
    assert_eq!(get(&client, url("/v2/health/ready")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    bench.state.set_ready(true);
    assert_eq!(get(&client, url("/v2/health/ready")).await.0, StatusCode::OK);
    assert_eq!(get(&client, url("/v2/models")).await.1, json!({ "models": ["gas"] }));
    let (_, model) = get(&client, url("/v2/models/gas")).await;
    let version = gas(4.0).info().version.to_string();
    assert_eq!(
        model,
        json!({
            "name": "gas", "versions": [version], "platform": "onnx_tract",
            "inputs": [{ "name": "features", "datatype": "FP32", "shape": [-1, 2] }],
            "outputs": [{ "name": "probabilities", "datatype": "FP32", "shape": [-1, 2] }],
            "parameters": { "schema": gas(4.0).info().record.schema },
        })
    );
    let (status, ready) = get(&client, url("/v2/models/gas/ready")).await;
    assert_eq!((status, ready), (StatusCode::OK, json!({ "name": "gas", "ready": true })));
    for prefix in [version.as_str(), &version[..8]] {
        let path = format!("/v2/models/gas/versions/{prefix}");
        assert_eq!(get(&client, url(&path)).await.0, StatusCode::OK);
    }
    for path in ["/v2/models/none", "/v2/models/G%20S/ready", "/v2/models/gas/versions/1", "/v2/else", "/"] {
        let (status, error) = get(&client, url(path)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(error["error"].is_string(), "{path}: {error}");
    }
    let (status, error) = get(&client, url("/v2/models/gas/infer")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(error["error"], "GET is not for /v2/models/gas/infer");
    bench.end().await;
}

#[tokio::test]
async fn requests_name_their_groups_and_the_schema_that_they_were_made_for() {
    let (mut bench, client) = bench().await;
    bench.state.models().swap(gas_of_sites());
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let schema = gas(4.0).info().record.schema.to_string();
    let mut parts = Vec::new();
    let mut id = String::new();
    for (said, part) in [
        (json!({ "site": "a" }), Some(0)),
        (json!({ "site": 7, "schema": schema }), Some(1)),
        (json!({ "site": "elsewhere", "schema": schema[..8] }), None),
        (json!({ "other": true }), None),
        (json!({ "site": "7" }), Some(1)),
    ] {
        let mut asked = rows(json!([[1.0, 0.0]]));
        asked["parameters"] = said;
        let (status, answer) = post(&client, infer.clone(), &asked).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        id = answer["parameters"]["prediction_id"].as_str().unwrap().to_owned();
        let Event::Predicted(seen) = bench.next_event().await else { panic!("rows") };
        parts.extend(seen.iter().map(|row| row.groups.part(0)));
        assert_eq!(parts.last(), Some(&part), "{asked}");
    }
    bench.samples.flush().await.unwrap();
    let label = json!({ "prediction_id": id, "label": "ethanol" });
    post(&client, format!("{}/v2/shoal/label", bench.url), &label).await;
    let Event::Labelled(label) = bench.next_event().await else { panic!("a label") };
    assert_eq!(label.groups.part(0), Some(1), "a label is of its prediction's group");
    // What does not fit is refused by name, and the monitors hear of it.
    let mut refused = rows(json!([[1.0, 0.0]]));
    for (said, words) in [
        (json!({ "schema": "0123456789abcdef" }), "was made for schema 0123456789abcdef"),
        (json!({ "schema": 3 }), "was made for schema 3"),
        (json!({ "site": [1] }), "`site` must be one of a, 7, got [1]"),
    ] {
        refused["parameters"] = said;
        let (status, error) = post(&client, infer.clone(), &refused).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error["error"].as_str().unwrap().contains(words), "{error}");
    }
    let mut misfits = 0;
    while misfits < 2 {
        let Event::Misfit { requests, .. } = bench.next_event().await else { panic!("a misfit") };
        misfits += requests;
    }
    let wide = json!({ "inputs": [
        { "name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }
    ] });
    assert_eq!(post(&client, infer, &wide).await.0, StatusCode::BAD_REQUEST);
    assert!(matches!(bench.next_event().await, Event::Misfit { requests: 1, .. }));
    bench.end().await;
}

#[tokio::test]
async fn what_the_last_layer_reads_goes_to_the_monitors_and_to_nobody_else() {
    let (mut bench, client) = bench().await;
    bench.state.models().swap(gas_of_two_layers());
    let asked = rows(json!([[1.0, 0.0], [0.5, 3.0], [-1.0, 2.0]]));
    let (status, answer) = post(&client, format!("{}/v2/models/gas/infer", bench.url), &asked).await;
    assert_eq!((status, answer["outputs"].as_array().unwrap().len()), (StatusCode::OK, 1), "{answer}");
    let Event::Predicted(seen) = bench.next_event().await else { panic!("rows") };
    let embeddings: Vec<&[f32]> = seen.iter().map(|row| &row.embedding[..]).collect();
    assert_eq!(embeddings, [[2.0, 0.0], [1.0, 6.0], [0.0, 4.0]]);
    let (_, model) = get(&client, format!("{}/v2/models/gas", bench.url)).await;
    assert_eq!(model["outputs"].as_array().unwrap().len(), 1, "{model}");
    bench.end().await;
}

#[tokio::test]
async fn a_prediction_is_answered_observed_captured_and_labelled() {
    let (mut bench, client) = bench().await;
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let (status, answer) = post(&client, infer, &rows(json!([[1.0, 0.0], [null, 3.0], [0, 2]]))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["id"], &answer["model_name"]), (&json!("mine"), &json!("gas")));
    assert_eq!(answer["model_version"], gas(4.0).info().version.to_string());
    let output = &answer["outputs"][0];
    assert_eq!((&output["shape"], &output["datatype"]), (&json!([3, 2]), &json!("FP32")));
    let id = answer["parameters"]["prediction_id"].as_str().unwrap().to_owned();

    let Event::Predicted(seen) = bench.next_event().await else { panic!("rows first") };
    let classes: Vec<_> = seen.iter().map(|row| row.class).collect();
    assert_eq!((classes[0], classes[2]), (Some(0), Some(1)));
    assert!(seen[1].features[0].is_nan(), "null is a missing value");
    assert!((seen[0].confidence - 0.982).abs() < 1e-3);

    bench.samples.flush().await.unwrap();
    let label = format!("{}/v2/shoal/label", bench.url);
    let say = |row: u32, class: &str| json!({ "prediction_id": format!("{id}#{row}"), "label": class });
    let joined = post(&client, label.clone(), &say(0, "acetone")).await;
    assert_eq!(joined, (StatusCode::OK, json!({ "status": "joined" })));
    let Event::Labelled(labelled) = bench.next_event().await else { panic!("a label") };
    assert_eq!((labelled.correct(), labelled.truth), (Some(false), Truth::Class(1)));
    post(&client, label.clone(), &say(2, "acetone")).await;
    let Event::Labelled(labelled) = bench.next_event().await else { panic!("a label") };
    assert_eq!(labelled.correct(), Some(true));
    // A row that was never predicted waits.
    assert_eq!(post(&client, label.clone(), &say(7, "acetone")).await.1, json!({ "status": "parked" }));
    let reader = SamplesReader::open_read_only(bench.dir.path()).unwrap();
    let stored = reader.labelled(gas(4.0).name(), 10).unwrap();
    assert_eq!(stored.iter().map(|row| row.class).collect::<Vec<_>>(), [Some(1), Some(1)]);
    bench.end().await;
}

#[tokio::test]
async fn a_lone_row_is_labelled_by_its_bare_id_and_twice_counts_once() {
    let (mut bench, client) = bench().await;
    bench.state.models().swap(volume());
    let body =
        json!({ "inputs": [{ "name": "features", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }] });
    let (_, answer) = post(&client, format!("{}/v2/models/volume/infer", bench.url), &body).await;
    assert_eq!(answer["outputs"][0]["data"], json!([3.0]));
    assert_eq!(answer.get("id"), None);
    let Event::Predicted(rows) = bench.next_event().await else { panic!("rows") };
    assert_eq!((rows[0].class, rows[0].confidence), (None, 0.0));
    let label = format!("{}/v2/shoal/label", bench.url);
    let truth = json!({ "prediction_id": answer["parameters"]["prediction_id"], "label": 3.5 });
    bench.samples.flush().await.unwrap();
    for _ in 0..2 {
        assert_eq!(post(&client, label.clone(), &truth).await.1, json!({ "status": "joined" }));
    }
    assert_eq!(bench.samples.stats().joined, 1);
    bench.end().await;
}

#[tokio::test]
async fn bad_requests_are_told_what_was_expected_and_what_came() {
    let (bench, client) = bench().await;
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let input = |name: &str, shape: Value, datatype: &str, data: Value| json!({ "inputs": [{ "name": name, "shape": shape, "datatype": datatype, "data": data }] });
    for (body, words) in [
        (json!({ "inputs": [] }), "input `features` is missing"),
        (json!({}), "missing field `inputs`"),
        (input("x", json!([1, 2]), "FP32", json!([1, 2])), "no input `x`, it has features"),
        (input("features", json!([1, 3]), "FP32", json!([1, 2, 3])), "expected shape [?, 2], got [1, 3]"),
        (input("features", json!([1, 2]), "FP64", json!([1, 2])), "expected f32, got f64"),
        (input("features", json!([1, 2]), "FP32", json!([1])), "holds 2 elements, got 1"),
        (input("features", json!([1, 2]), "FP8", json!([1, 2])), "unknown datatype `FP8`"),
        (
            json!({ "inputs": [{ "name": "features", "shape": [1, 2], "datatype": "FP32" }] }),
            "neither `data`",
        ),
        (
            json!({ "inputs": rows(json!([[1, 2]]))["inputs"], "outputs": [{ "name": "y" }] }),
            "no output `y`, it has probabilities",
        ),
    ] {
        let (status, error) = post(&client, infer.clone(), &body).await;
        let text = error["error"].as_str().unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains(words), "`{text}` does not say `{words}`");
    }
    let broken = client.post(&infer).body("{").send().await.unwrap();
    assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
    let packed = client.post(&infer).header("content-encoding", "gzip").body("x").send().await.unwrap();
    assert_eq!(packed.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let label = format!("{}/v2/shoal/label", bench.url);
    for (body, status, words) in [
        (json!({ "prediction_id": "gas.1", "label": "butter" }), 400, "it has ethanol, acetone"),
        (json!({ "prediction_id": "gas.1", "label": true }), 400, "the name of a class, got true"),
        (json!({ "prediction_id": "none.1", "label": "acetone" }), 404, "model `none` is not served"),
        (json!({ "prediction_id": "nonsense", "label": "acetone" }), 400, "not one of ours"),
        (json!({ "prediction_id": "gas.1" }), 400, "missing field `label`"),
    ] {
        let (got, error) = post(&client, label.clone(), &body).await;
        let text = error["error"].as_str().unwrap();
        assert_eq!(got.as_u16(), status, "{text}");
        assert!(text.contains(words), "`{text}` does not say `{words}`");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_told_or_not_how_long_it_is() {
    let limits = Limits { max_body_bytes: 1_000, ..Limits::default() };
    let bench = Bench::start(limits).await;
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let response = Client::new().post(&infer).body(vec![b' '; 1_001]).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"], "the request has more than 1000 bytes");

    // In chunks nobody says how long it will be: 1001 is 3e9 in hexadecimal.
    let head = "POST /v2/models/gas/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n";
    let mut stream =
        tokio::net::TcpStream::connect(bench.url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!("{head}{}\r\n0\r\n\r\n", " ".repeat(1_001));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    bench.end().await;
}

#[tokio::test]
async fn binary_tensors_go_both_ways() {
    let (bench, client) = bench().await;
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let head = json!({
        "parameters": { "binary_data_output": true },
        "inputs": [{ "name": "features", "shape": [1, 2], "datatype": "FP32",
                     "parameters": { "binary_data_size": 8 } }],
    })
    .to_string();
    let mut body = head.clone().into_bytes();
    body.extend(2.0f32.to_le_bytes());
    body.extend(1.0f32.to_le_bytes());
    let send = |body: Vec<u8>, length: usize| {
        client.post(&infer).header("Inference-Header-Content-Length", length).body(body).send()
    };
    let response = send(body.clone(), head.len()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let length: usize =
        response.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let bytes = response.bytes().await.unwrap();
    let answer: Value = serde_json::from_slice(&bytes[..length]).unwrap();
    assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(answer["outputs"][0].get("data"), None);
    let scores: Vec<f32> =
        bytes[length..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert!((scores[0] - 0.982).abs() < 1e-3 && scores.len() == 2);

    let mut longer = body.clone();
    longer.push(0);
    let mut shorter = body.clone();
    shorter.pop();
    for (body, length, words) in [
        (longer, head.len(), "1 bytes are left"),
        (shorter, head.len(), "`binary_data_size` is 8, 7 bytes are left"),
        (body, 10_000, "no length within"),
    ] {
        let response = send(body, length).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let error: Value = response.json().await.unwrap();
        assert!(error["error"].as_str().unwrap().contains(words), "{error}");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_swap_drops_no_request_and_the_version_before_goes() {
    let (mut bench, client) = bench().await;
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let enough = CancellationToken::new();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (client, infer, enough) = (client.clone(), infer.clone(), enough.clone());
            bench.tracker.spawn(async move {
                let mut versions = BTreeSet::new();
                while !enough.is_cancelled() {
                    let (status, answer) = post(&client, infer.clone(), &rows(json!([[1, 2]]))).await;
                    assert_eq!(status, StatusCode::OK, "{answer}");
                    versions.insert(answer["model_version"].as_str().unwrap().to_owned());
                }
                versions
            })
        })
        .collect();
    let mut before = Vec::new();
    for step in 1..=20u8 {
        let Event::Predicted(_) = bench.next_event().await else { panic!("rows") };
        before.extend(bench.state.models().swap(gas(f32::from(step))));
    }
    enough.cancel();
    // The core must be read on: it is the test that plays it.
    let drain = async {
        loop {
            bench.events.recv().await;
        }
    };
    let mut versions = BTreeSet::new();
    tokio::select! {
        () = drain => unreachable!("it never ends"),
        () = async { for task in asking { versions.extend(task.await.unwrap()); } } => {}
    }
    assert!(versions.len() > 1, "the swap was seen");
    for model in before {
        assert_eq!(Arc::strong_count(&model), 1, "no request holds it any more");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_model_that_takes_too_long_is_a_failure_that_the_core_hears_of() {
    let limits = Limits { timeout: std::time::Duration::ZERO, ..Limits::default() };
    let mut bench = Bench::start(limits).await;
    let many: Vec<[f32; 2]> = vec![[1.0, 2.0]; 200_000];
    let infer = format!("{}/v2/models/gas/infer", bench.url);
    let (status, error) = post(&Client::new(), infer, &rows(json!(many))).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{error}");
    let Event::Failed { requests: 1, .. } = bench.next_event().await else { panic!("a failure") };
    bench.end().await;
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let (bench, _client) = bench().await;
    let path = bench.dir.path().join("agent.sock");
    for _ in 0..2 {
        // The second time finds the file of the first.
        bench.doors.unix(&path, router(Arc::clone(&bench.state), None)).unwrap();
    }
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"live\":true}"), "{answer}");
    bench.end().await;
}

#[test]
fn a_graph_that_does_not_fit_its_manifest_is_not_served() {
    let manifest = include_str!("../../../proto/testdata/v1/model.toml");
    let onnx = include_bytes!("../../onnx/testdata/mlp_a.onnx");
    let input = shoal_infer::Predictor::load(onnx, &shoal_onnx::Limits::default()).unwrap();
    let input = input.inputs()[0].name.clone();
    let no_input = manifest.replace("tensor = \"features\"", "tensor = \"nothing\"");
    assert!(matches!(served(onnx, &no_input), Err(NotServable::NoInput { .. })));
    let named = manifest.replace("tensor = \"features\"", &format!("tensor = \"{input}\""));
    assert!(matches!(served(onnx, &named), Err(NotServable::NoOutput { .. })));
}
