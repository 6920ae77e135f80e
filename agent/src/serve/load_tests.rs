use super::fixture::{Bench, count, counted, gas};
use super::*;
use crate::core::Event;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use shoal_onnx::{DenseLayer, Head, MlpSpec, build_mlp};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const MANIFEST: &str = include_str!("../../../proto/testdata/v1/model.toml");

/// `gas` with a hidden layer that takes seconds on thousands of rows.
pub(super) fn slow(metrics: &Metrics) -> ServedModel {
    const WIDE: usize = 3072;
    let layer = |inputs: usize, outputs: usize| DenseLayer {
        weight: vec![0.001; inputs * outputs],
        bias: vec![0.0; outputs],
    };
    let layers = vec![layer(2, WIDE), layer(WIDE, WIDE), layer(WIDE, 2)];
    let spec = MlpSpec { width: 2, normaliser: None, layers, head: Head::Classes };
    counted(&build_mlp(&spec).unwrap(), MANIFEST, metrics).unwrap()
}

async fn post(client: &Client, url: &str, rows: usize) -> (StatusCode, Value) {
    let body = json!({ "inputs": [
        { "name": "features", "shape": [rows, 2], "datatype": "FP32", "data": vec![1.0; rows * 2] }
    ] });
    let sent = client.post(format!("{url}/v2/models/gas/infer")).body(body.to_string()).send().await.unwrap();
    (sent.status(), sent.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_fails_no_request() {
    let bench = Bench::start(Limits::default()).await;
    let stop = CancellationToken::new();
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (url, stop) = (bench.url.clone(), stop.clone());
        callers.push(bench.tracker.spawn(async move {
            let (client, mut versions, mut answers) = (Client::new(), Vec::new(), 0);
            while !stop.is_cancelled() {
                let (status, answer) = post(&client, &url, 3).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                let version = answer["model_version"].as_str().unwrap().to_owned();
                if versions.last() != Some(&version) {
                    versions.push(version);
                }
                answers += 1;
            }
            (versions.len(), answers)
        }));
    }
    for gain in 1..=20u8 {
        tokio::task::block_in_place(|| bench.state.models().swap(gas(f32::from(gain))));
        post(&Client::new(), &bench.url, 1).await;
    }
    stop.cancel();
    let (mut seen, mut answers) = (0, 0);
    for caller in callers {
        let (versions, answered) = caller.await.unwrap();
        seen = seen.max(versions);
        answers += answered;
    }
    assert!(seen > 1 && answers > 20, "{answers} answers of {seen} versions");
    bench.end().await;
}

#[tokio::test]
async fn waiting_requests_share_a_call_and_each_gets_its_own_rows() {
    let bench =
        Bench::start(Limits { workers: 1, batch_wait: Duration::from_millis(50), ..Limits::default() }).await;
    let model = slow(bench.state.models().metrics());
    assert!(model.batch_rows() > 1, "a wide layer pays in batches");
    bench.state.models().swap(model);
    let client = Client::new();
    let asked = (1..=6).map(|rows| {
        let (client, url) = (client.clone(), bench.url.clone());
        bench.tracker.spawn(async move { post(&client, &url, rows).await })
    });
    for (rows, answer) in (1..=6).zip(asked.collect::<Vec<_>>()) {
        let (status, answer) = answer.await.unwrap();
        assert_eq!((status, &answer["outputs"][0]["shape"]), (StatusCode::OK, &json!([rows, 2])), "{answer}");
    }
    let text = client.get(format!("{}/metrics", bench.url)).send().await.unwrap().text().await.unwrap();
    let value = |name: &str| -> f64 {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("shoal_infer_requests_total{model=\"gas\""), 6.0);
    assert_eq!(value("shoal_infer_batch_rows_sum{model=\"gas\""), 21.0);
    assert!(value("shoal_infer_batch_rows_count{model=\"gas\"") < 6.0, "no calls were shared: {text}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_much_waits_too_long_and_costs_no_version_its_place() {
    let timeout = Duration::from_millis(100);
    let bench = Bench::start(Limits { workers: 1, timeout, ..Limits::default() }).await;
    bench.state.models().swap(slow(&Metrics::default()));
    bench.tracker.spawn(Arc::clone(&bench.state).watch_stalls(bench.cancel.clone()));
    let client = Client::new();
    let (status, answer) = post(&client, &bench.url, 1_500).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{answer}");
    loop {
        let (status, answer) = post(&client, &bench.url, 1).await;
        if status == StatusCode::OK {
            break;
        }
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "it waits its turn: {answer}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_is_given_up_and_the_next_version_serves() {
    let timeout = Duration::from_millis(300);
    let mut bench = Bench::start(Limits { workers: 1, timeout, ..Limits::default() }).await;
    bench.state.models().swap(count(&Metrics::default()));
    bench.tracker.spawn(Arc::clone(&bench.state).watch_stalls(bench.cancel.clone()));
    let client = Client::new();
    let number = |number: u64| json!({ "name": "x", "shape": [1], "datatype": "INT64", "data": [number] });
    let ask = async |input: Value| {
        let body = json!({ "inputs": [input] }).to_string();
        let sent = client.post(format!("{}/v2/models/gas/infer", bench.url)).body(body).send().await.unwrap();
        (sent.status(), sent.json::<Value>().await.unwrap())
    };
    let (status, answer) = ask(number(10)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, answer) = ask(number(30_000_000)).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{answer}");
    let mut stalled = false;
    while !stalled {
        stalled = matches!(bench.next_event().await, Event::Stalled { .. });
    }
    let url = format!("{}/v2/models/gas/infer", bench.url);
    let body = json!({ "inputs": [number(1)] }).to_string();
    let sent = client.post(url).body(body).send().await.unwrap();
    let (status, answer) = (sent.status(), sent.json::<Value>().await.unwrap());
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer["error"].as_str().unwrap().contains("stalled"), "{answer}");
    bench.state.models().swap(gas(4.0));
    let (status, answer) = post(&client, &bench.url, 20_000).await;
    assert_eq!(status, StatusCode::OK, "another worker is in the place of the one that hangs: {answer}");
    bench.end().await;
}

#[tokio::test]
async fn only_who_has_the_token_is_answered() {
    let bench = Bench::start(Limits::default()).await;
    let path = bench.dir.path().join("token");
    crate::file::write_atomic(&path, b"a-token-of-sixteen").unwrap();
    let token = Token::read(&path).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let http = bench.doors.http(address, router(Arc::clone(&bench.state), Some(token))).await.unwrap();
    let client = Client::new();
    for (path, given, expected) in [
        ("v2/health/live", None, StatusCode::OK),
        ("v2", None, StatusCode::UNAUTHORIZED),
        ("metrics", None, StatusCode::UNAUTHORIZED),
        ("v2/models/gas", Some("a-token-of-sixteex"), StatusCode::UNAUTHORIZED),
        ("v2/models/gas", Some("a-token-of-sixteen"), StatusCode::OK),
    ] {
        let mut asked = client.get(format!("http://{http}/{path}"));
        if let Some(token) = given {
            asked = asked.bearer_auth(token);
        }
        assert_eq!(asked.send().await.unwrap().status(), expected, "{path} {given:?}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doors_keep_their_limits() {
    let bench = Bench::start(Limits::default()).await;
    let doors = Doors::new(bench.tracker.clone(), bench.cancel.clone(), Arc::default(), 2, 1).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let http = doors.http(address, router(Arc::clone(&bench.state), None)).await.unwrap();
    tokio::task::block_in_place(|| {
        let ask = |stream: &mut TcpStream, head: &str| {
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
        };
        let live = "GET /v2/health/live HTTP/1.1\r\nhost: a\r\n";
        let mut open: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(http).unwrap()).collect();
        for stream in &mut open {
            assert_eq!(ask(stream, &format!("{live}\r\n")).unwrap(), "HTTP/1.1 200");
        }
        let mut third = TcpStream::connect(http).unwrap();
        third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0, "a third connection is closed at once");
        let many: String = (0..100).map(|number| format!("x-{number}: y\r\n")).collect();
        drop(open);
        let mut stream = connect_when_free(http);
        assert_eq!(ask(&mut stream, &format!("{live}{many}\r\n")).unwrap(), "HTTP/1.1 431");
    });
    bench.end().await;
}

/// A place is free again when the server has noticed that a connection is gone.
fn connect_when_free(http: std::net::SocketAddr) -> TcpStream {
    loop {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match stream.read(&mut [0; 1]) {
            Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return stream;
            }
            _closed => {}
        }
    }
}

#[tokio::test]
async fn what_is_not_captured_cannot_be_labelled() {
    let bench = Bench::start(Limits { capture: Capture::OneIn(2), ..Limits::default() }).await;
    let client = Client::new();
    let mut told = Vec::new();
    for _ in 0..2 {
        let (_, answer) = post(&client, &bench.url, 1).await;
        let label = json!({ "prediction_id": answer["parameters"]["prediction_id"], "label": "acetone" });
        let url = format!("{}/v2/shoal/label", bench.url);
        told.push(client.post(url).body(label.to_string()).send().await.unwrap().status());
    }
    assert_eq!(told, [StatusCode::OK, StatusCode::CONFLICT]);
    bench.end().await;
}
