//! The link over a bad network, as real processes: everything between devices and broker goes by a proxy that delays,
//! stalls and cuts; broker and hub are killed. In the end the hub's documents are the devices' own, byte for byte.

use super::brokers::{Kind, Site, on_every_broker};
use super::e2e::{Alone, PATIENCE, wait, write};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use shoal_agent::mqtt::{Client, Message, MqttEvent, Options, Publisher};
use shoal_proto::id::DeviceId;
use shoal_proto::message::Status;
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire;
use shoal_tests::demo::Part;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
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

on_every_broker!(over_a_bad_network_the_hub_holds_what_devices_hold, birth_and_last_will_are_seen);

async fn over_a_bad_network_the_hub_holds_what_devices_hold(kind: Kind) {
    let Some(mut site) = Site::start(kind).await else { return };
    let proxy = Proxy::start(site.broker).await;
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
            12 => site.again_broker().await,
            20 => site.center.again().await,
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
            let (code, told, _) = site.center.ask(&["device", "show", &device.id]);
            let all = device.status()["outbox"] == 0 && code == 0 && told["unacknowledged"] == 0;
            all && device.status()["counts"]["labels"].as_u64().unwrap_or(0) > 20
        })
        .await;
    }
    let mut equal = vec![false; devices.len()];
    for _ in 0..20 {
        for (device, is_equal) in devices.iter().zip(&mut equal) {
            let own = device.status()["counts"].clone();
            let told = site.center.ask(&["device", "show", &device.id]).1["counters"].clone();
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
    site.center.part.kill().await.unwrap();
    proxy.cancel.cancel();
    for device in &devices {
        assert_equal(&device.alone, &device.id, &site.center.database());
    }
}

/// Compares a device's document with the hub's, byte for byte; gives its entries.
pub(super) fn assert_equal(alone: &Alone, id: &str, hub: &Path) -> usize {
    let query = "SELECT kind, key, body FROM entry ORDER BY kind, key";
    let own = rows(&alone.path("state/state.db"), query);
    let query = format!("SELECT kind, key, body FROM entry WHERE device = '{id}' ORDER BY kind, key");
    let told = rows(hub, &query);
    assert!(own.len() > 10, "{} entries", own.len());
    let differing: Vec<&Row> = own.iter().filter(|row| !told.contains(row)).collect();
    assert!(own == told, "{id} holds {} entries, the hub {}: {differing:?}", own.len(), told.len());
    own.len()
}

/// Somebody else on the broker, with a filter where that is allowed.
struct Bystander {
    publisher: Publisher,
    events: mpsc::Receiver<MqttEvent>,
}

impl Bystander {
    async fn come(broker: SocketAddr, name: &str, filter: Option<&str>) -> Self {
        let mut options = Options::new(format!("mqtt://{broker}").parse().unwrap(), name);
        options.subscriptions = filter.map(str::to_owned).into_iter().collect();
        let (publisher, mut events) = Client::spawn(&TaskTracker::new(), CancellationToken::new(), options);
        let up = async { while events.recv().await != Some(MqttEvent::Up) {} };
        tokio::time::timeout(PATIENCE, up).await.expect("the broker takes a bystander");
        Self { publisher, events }
    }

    /// The next message that says whether a device is there.
    async fn status(&mut self) -> (Message, Status) {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("a message in time");
            if let Some(MqttEvent::Message(message)) = event {
                let status = wire::decode(&message.payload).unwrap();
                return (message, status);
            }
        }
    }
}

/// A birth, a will, a second birth, the first life's will again, and a goodbye.
async fn birth_and_last_will_are_seen(kind: Kind) {
    let Some(mut site) = Site::start(kind).await else { return };
    let mut device = Device::start(7, site.broker).await;
    let online = |site: &Site| {
        let (code, told, _) = site.center.ask(&["device", "show", &device.id]);
        if code == 0 { told["online"].as_bool() } else { None }
    };
    wait(|| async { online(&site) == Some(true) && device.status()["outbox"] == 0 }).await;
    let boot = device.status()["boot"].as_u64().unwrap();
    device.part.kill().await.unwrap();
    wait(|| async { online(&site) == Some(false) }).await;
    site.center.again().await;
    wait(|| async { online(&site) == Some(false) }).await;

    // What the broker keeps; the hub's own shows it to nobody but the hub.
    let topic = Topic::Up(DeviceId::new(&device.id).unwrap(), Up::Status).to_string();
    let filter = Some(topic.as_str()).filter(|_| kind != Kind::Embedded);
    let mut will = None;
    if filter.is_some() {
        let (message, status) = Bystander::come(site.broker, "listener", filter).await.status().await;
        assert!(message.retain && !status.online && status.boot == boot, "{status:?}");
        will = Some(message);
    }
    (device.part, device.url) = device.alone.start().await;
    wait(|| async { online(&site) == Some(true) && device.status()["outbox"] == 0 }).await;
    assert_eq!(device.status()["boot"], boot + 1);
    if let Some(will) = will {
        let mut bystander = Bystander::come(site.broker, "listener", filter).await;
        let (_, birth) = bystander.status().await;
        assert!(birth.online && birth.boot == boot + 1, "{birth:?}");
        bystander.publisher.publish(will).unwrap();
        let (_, late) = bystander.status().await;
        assert!(!late.online && late.boot == boot, "{late:?}");
        device.feed().await;
        wait(|| async { device.status()["counts"]["labels"] == 1 && device.status()["outbox"] == 0 }).await;
        assert_eq!(online(&site), Some(true), "an old will undoes no newer birth");
        site.center.again().await;
        wait(|| async { online(&site) == Some(true) }).await;
    }
    device.part.stop().await.unwrap();
    wait(|| async { online(&site) == Some(false) }).await;
    site.center.part.stop().await.unwrap();
}
