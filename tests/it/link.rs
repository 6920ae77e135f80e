//! The link over a bad network, as real processes: everything between devices and broker goes by a proxy that delays,
//! stalls and cuts; broker and hub are killed. In the end the hub's documents are the devices' own, byte for byte.

use super::center::Center;
use super::e2e::{Alone, wait, write};
use super::serving::Mosquitto;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use shoal_tests::demo::Part;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the network is bad.
const TROUBLE: Duration = Duration::from_secs(12);
/// From one cut of all connections to the next, and how long it lasts.
const CUT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(800));

/// What lies between devices and broker.
struct Proxy {
    address: SocketAddr,
    is_bad: Arc<AtomicBool>,
    cancel: CancellationToken,
}

impl Proxy {
    async fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            is_bad: Arc::new(AtomicBool::new(true)),
            cancel: CancellationToken::new(),
        };
        let (is_bad, cancel) = (Arc::clone(&proxy.is_bad), proxy.cancel.clone());
        let tracker = TaskTracker::new();
        let connections = tracker.clone();
        tracker.spawn(async move {
            let mut number = 0;
            let mut cut = CancellationToken::new();
            let mut next_cut = tokio::time::Instant::now() + CUT.0;
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep_until(next_cut), if is_bad.load(Ordering::Relaxed) => {
                        cut.cancel();
                        tokio::time::sleep(CUT.1).await;
                        cut = CancellationToken::new();
                        next_cut = tokio::time::Instant::now() + CUT.0;
                    }
                    taken = listener.accept() => {
                        let Ok((device, _)) = taken else { continue };
                        number += 1;
                        let (is_bad, cut) = (Arc::clone(&is_bad), cut.clone());
                        connections.spawn(join(device, broker, number, is_bad, cut));
                    }
                }
            }
        });
        proxy
    }
}

async fn join(
    device: TcpStream,
    broker: SocketAddr,
    seed: u64,
    is_bad: Arc<AtomicBool>,
    cut: CancellationToken,
) {
    let Ok(there) = TcpStream::connect(broker).await else { return };
    let ((from_device, to_device), (from_broker, to_broker)) = (device.into_split(), there.into_split());
    let up = pass(from_device, to_broker, seed * 2, Arc::clone(&is_bad));
    let down = pass(from_broker, to_device, seed * 2 + 1, is_bad);
    tokio::select! {
        () = cut.cancelled() => {}
        () = up => {}
        () = down => {}
    }
}

/// One direction: late, and now and then not at all for a while, as TCP makes of lost packets.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seed: u64,
    is_bad: Arc<AtomicBool>,
) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if is_bad.load(Ordering::Relaxed) {
            let late = random.random_range(20..250) + if random.random_bool(0.1) { 1_000 } else { 0 };
            tokio::time::sleep(Duration::from_millis(late)).await;
            if random.random_bool(0.03) {
                return;
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

struct Device {
    alone: Alone,
    part: Part,
    url: String,
    id: String,
}

impl Device {
    async fn start(number: usize, broker: SocketAddr) -> Self {
        let (alone, id) = (Alone::new(), format!("press-{number}"));
        let config = std::fs::read_to_string(alone.path("agent.toml")).unwrap();
        let config =
            config.replace("\"alone\"", &format!("\"{id}\"")).replace("heartbeat_s = 1", "heartbeat_s = 3")
                + &format!("window_rows = 40\n[hub]\nbroker = \"mqtt://{broker}\"\n");
        write(&alone.path("agent.toml"), config.as_bytes());
        let (part, url) = alone.start().await;
        Self { alone, part, url, id }
    }

    async fn feed(&self) {
        let row: Vec<f32> = (0..16).map(|at| at as f32 / 10.0).collect();
        let body = json!({ "inputs": [{ "name": "features", "shape": [4, 16], "datatype": "FP32", "data": row.repeat(4) }] });
        let url = format!("{}/v2/models/nose/infer", self.url);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let id = answer["parameters"]["prediction_id"].as_str().unwrap();
        let label = json!({ "prediction_id": format!("{id}#0"), "label": "ethanol" });
        let labelled =
            reqwest::Client::new().post(format!("{}/v2/shoal/label", self.url)).json(&label).send().await;
        drop(labelled.unwrap());
    }

    fn status(&self) -> Value {
        self.alone.command(&["status"]).1
    }
}

type Row = (u32, String, Vec<u8>);

fn rows(path: &Path, query: &str) -> Vec<Row> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut query = connection.prepare(query).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn holds_over(center: &mut Center, proxy: Proxy, mut kill_broker: impl AsyncFnMut(&mut Center)) {
    let mut devices = Vec::new();
    for number in 0..2 {
        devices.push(Device::start(number, proxy.address).await);
    }
    let begun = tokio::time::Instant::now();
    let mut round = 0;
    while begun.elapsed() < TROUBLE {
        round += 1;
        for device in &devices {
            device.feed().await;
        }
        match round {
            12 => kill_broker(center).await,
            25 => {
                let device = &mut devices[0];
                device.part.kill().await.unwrap();
                (device.part, device.url) = device.alone.start().await;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(round > 30, "{round} rounds of load say little");
    proxy.is_bad.store(false, Ordering::Relaxed);
    for device in &devices {
        // Quiet is between two heartbeats: both sides are killed in it, and hold the same.
        wait(|| async {
            let (code, told, _) = center.ask(&["device", "show", &device.id]);
            let all = device.status()["outbox"] == 0 && code == 0 && told["unacknowledged"] == 0;
            all && device.status()["counts"]["labels"].as_u64().unwrap_or(0) > 20
        })
        .await;
    }
    let mut equal = vec![false; devices.len()];
    for _ in 0..20 {
        for (device, is_equal) in devices.iter().zip(&mut equal) {
            let own = device.status()["counts"].clone();
            let told = center.ask(&["device", "show", &device.id]).1["counters"].clone();
            *is_equal |= own["labels"] == told["labels"] && own["predictions"] == told["predictions"];
        }
        if equal.iter().all(|is| *is) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(equal.iter().all(|is| *is), "counters of device and hub differ");
    for device in &mut devices {
        wait(|| async { device.status()["outbox"] == 0 }).await;
        device.part.kill().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    center.part.kill().await.unwrap();
    proxy.cancel.cancel();
    for device in &devices {
        let own = rows(
            &device.alone.path("state/state.db"),
            "SELECT kind, key, body FROM entry ORDER BY kind, key",
        );
        let query =
            format!("SELECT kind, key, body FROM entry WHERE device = '{}' ORDER BY kind, key", device.id);
        let told = rows(&center.database(), &query);
        assert!(own.len() > 10, "{} entries", own.len());
        let differing: Vec<&Row> = own.iter().filter(|row| !told.contains(row)).collect();
        assert!(
            own == told,
            "{} holds {} entries, the hub {}: {differing:?}",
            device.id,
            own.len(),
            told.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_bad_network_the_hub_holds_what_devices_hold() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut center = Center::start(&["embedded", "--broker-listen", &free.to_string()]).await;
    let proxy = Proxy::start(free).await;
    holds_over(&mut center, proxy, async |center| center.again().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_with_mosquitto_which_forgets_all_when_it_is_killed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some(mut broker) = Mosquitto::start_on(free.port()) else {
        eprintln!("skipped: mosquitto is not there");
        return;
    };
    wait(|| async { TcpStream::connect(free).await.is_ok() }).await;
    let mut center = Center::start(&[&format!("mqtt://{free}")]).await;
    let proxy = Proxy::start(free).await;
    holds_over(&mut center, proxy, async |_| {
        broker.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        broker = Mosquitto::start_on(free.port()).unwrap();
    })
    .await;
}
