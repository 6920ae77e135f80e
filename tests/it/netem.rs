//! The link over a real network of packets that is very bad: agents in one namespace, hub and broker in another.

use super::brokers::Kind;
use super::e2e::{Alone, PATIENCE, program, wait_for, write};
use super::link::assert_equal;
use serde_json::{Value, json};
use shoal_tests::demo::{Part, hub_args};
use shoal_tests::netem::{Namespace, Road, Skies, Weather};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

const SEED: u64 = 7;
/// From one request of each device to the next.
const ROUND: Duration = Duration::from_millis(500);

/// How long each trouble lasts. The long form is asked for by `SHOAL_LONG=1`.
struct Plan {
    devices: usize,
    /// One way.
    delay: Duration,
    /// Bad weather between two troubles.
    between: Duration,
    cut: Duration,
    settle: Duration,
}

impl Plan {
    fn of_environment() -> Self {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        if std::env::var("SHOAL_LONG").is_ok_and(|word| word == "1") {
            return Self { devices: 8, delay: ms(500), between: s(120), cut: s(600), settle: s(900) };
        }
        Self { devices: 3, delay: ms(250), between: s(3), cut: s(12), settle: s(120) }
    }
}

fn start(place: &Namespace, name: &str, program: &Path, args: &[String], log: &Path) -> Part {
    Part::start(name, Path::new("ip"), &[place.args(program), args.to_vec()].concat(), log).unwrap()
}

struct Device<'r> {
    alone: Alone,
    id: String,
    place: &'r Namespace,
    part: Part,
    client: reqwest::Client,
    labels: Cell<u64>,
}

impl<'r> Device<'r> {
    async fn start(number: usize, road: &'r Road, broker: SocketAddr) -> Self {
        let (alone, id) = (Alone::new(), format!("press-{number}"));
        let config = std::fs::read_to_string(alone.path("agent.toml")).unwrap();
        let config = config
            .replace("\"alone\"", &format!("\"{id}\""))
            .replace("heartbeat_s = 1", "heartbeat_s = 5")
            .replace("[serve]", "[serve]\nsocket = \"i.sock\"");
        let config = config + &format!("window_rows = 40\n[hub]\nbroker = \"mqtt://{broker}\"\n");
        write(&alone.path("agent.toml"), config.as_bytes());
        let client = reqwest::Client::builder().unix_socket(alone.path("i.sock")).build().unwrap();
        let (place, labels) = (&road.devices, Cell::new(0));
        let part = Self::run(place, &alone).await;
        Self { alone, id, place, part, client, labels }
    }

    async fn run(place: &Namespace, alone: &Alone) -> Part {
        let (config, ready) = (alone.text("agent.toml"), alone.text("ready"));
        drop(std::fs::remove_file(&ready));
        let args = ["agent", "run", "--config", &config, "--ready-file", &ready].map(str::to_owned);
        let mut part = start(place, "agent", &program(), &args, &alone.path("log"));
        drop(part.ready::<Value>(Path::new(&ready), PATIENCE).await.unwrap());
        part
    }

    async fn again(&mut self) {
        self.part.kill().await.unwrap();
        self.part = Self::run(self.place, &self.alone).await;
    }

    /// Four rows, and the truth about one; nothing where the model is not loaded yet.
    async fn feed(&self) {
        let row: Vec<f32> = (0..16).map(|at| at as f32 / 10.0).collect();
        let body = json!({ "inputs": [{ "name": "features", "shape": [4, 16], "datatype": "FP32", "data": row.repeat(4) }] });
        let asked = self.client.post("http://shoal/v2/models/nose/infer").json(&body).send().await.unwrap();
        let answer: Value = asked.json().await.unwrap();
        let Some(id) = answer["parameters"]["prediction_id"].as_str() else { return };
        let label = json!({ "prediction_id": format!("{id}#0"), "label": "ethanol" });
        let said = self.client.post("http://shoal/v2/shoal/label").json(&label).send().await.unwrap();
        self.labels.set(self.labels.get() + u64::from(said.status().is_success()));
    }

    fn status(&self) -> Value {
        self.alone.command(&["status"]).1
    }
}

/// Hub and mosquitto, in their namespace.
struct Site<'r> {
    place: &'r Namespace,
    folder: tempfile::TempDir,
    hub: Part,
    url: String,
    broker: Part,
}

impl<'r> Site<'r> {
    async fn start(road: &'r Road, address: SocketAddr) -> Self {
        let (place, folder) = (&road.hub, tempfile::tempdir().unwrap());
        let broker = Self::run_broker(place, folder.path(), address);
        let (hub, url) = Self::run_hub(place, folder.path(), address).await;
        Self { place, folder, hub, url, broker }
    }

    fn run_broker(place: &Namespace, folder: &Path, address: SocketAddr) -> Part {
        let args = Kind::Mosquitto.configure(folder, address);
        start(place, "mosquitto", Path::new("mosquitto"), &args, &folder.join("broker.log"))
    }

    async fn run_hub(place: &Namespace, folder: &Path, address: SocketAddr) -> (Part, String) {
        let (args, ready) = (hub_args(folder, &[&format!("mqtt://{address}")]), folder.join("hub.ready"));
        drop(std::fs::remove_file(&ready));
        let mut part = start(place, "hub", &program(), &args, &folder.join("hub.log"));
        let bound: Value = part.ready(&ready, PATIENCE).await.unwrap();
        (part, format!("http://{}", bound["http"].as_str().unwrap()))
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("hub/hub.db")
    }

    /// One command of the hub's: the last answer.
    fn ask(&self, args: &[&str]) -> Value {
        let done = Command::new("ip")
            .args(self.place.args(&program()))
            .args(["hub", "--hub", &self.url, "--json"])
            .args(args)
            .output()
            .unwrap();
        serde_json::Deserializer::from_slice(&done.stdout)
            .into_iter()
            .last()
            .and_then(Result::ok)
            .unwrap_or_default()
    }
}

async fn feed(devices: &[Device<'_>], span: Duration) {
    let until = Instant::now() + span;
    while Instant::now() < until {
        for device in devices {
            device.feed().await;
        }
        tokio::time::sleep(ROUND).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_loss_delay_cuts_and_kills_the_hub_holds_what_devices_hold() {
    let road = match Road::open(SEED) {
        Ok(road) => road,
        Err(cause) => return eprintln!("skipped: no network of our own: {cause:#}"),
    };
    if Command::new("mosquitto").arg("-h").output().is_err() {
        return eprintln!("skipped: mosquitto is not there");
    }
    let plan = Plan::of_environment();
    let address = SocketAddr::from((road.hub.address, 1883));
    let mut site = Site::start(&road, address).await;
    let bad = Weather::bad(plan.delay);
    road.set(Skies::both(bad));
    let mut devices = Vec::new();
    for number in 0..plan.devices {
        devices.push(Device::start(number, &road, address).await);
    }
    let begun = Instant::now();
    wait_for(plan.settle, || async {
        devices.iter().all(|device| site.ask(&["device", "show", &device.id])["online"] == true)
    })
    .await;
    let joined = begun.elapsed();
    feed(&devices, plan.between).await;

    site.broker.kill().await.unwrap();
    feed(&devices, plan.between / 5).await;
    site.broker = Site::run_broker(site.place, site.folder.path(), address);
    feed(&devices, plan.between).await;

    road.set(Skies::CUT);
    feed(&devices, plan.cut / 2).await;
    devices[0].again().await;
    let asked = site.ask(&["command", &devices[1].id, "--no-wait", "log", "--lines", "3"]);
    feed(&devices, plan.cut / 2).await;
    road.set(Skies::both(bad));
    feed(&devices, plan.between).await;

    road.set(Skies { up: None, down: Some(bad) });
    feed(&devices, plan.cut).await;
    road.set(Skies::both(bad));
    site.hub.kill().await.unwrap();
    (site.hub, site.url) = Site::run_hub(site.place, site.folder.path(), address).await;
    feed(&devices, plan.between).await;

    // It settles in the bad weather, and each device is killed when it has nothing left to say.
    let settling = Instant::now();
    for device in &mut devices {
        let is_told = || async {
            let (own, told) = (device.status(), site.ask(&["device", "show", &device.id]));
            let all = own["outbox"] == 0 && told["unacknowledged"] == 0;
            all && own["counts"]["labels"] == told["counters"]["labels"]
        };
        wait_for(plan.settle, is_told).await;
        let number = asked["id"].to_string();
        let done = || async { site.ask(&["command", &device.id, "show", &number])["state"] == "done" };
        if device.id == "press-1" {
            wait_for(plan.settle, done).await;
        }
        wait_for(plan.settle, || async { device.status()["outbox"] == 0 }).await;
        device.part.kill().await.unwrap();
    }
    let settled = settling.elapsed();
    site.hub.kill().await.unwrap();
    assert_eq!(road.failure(), None);
    let mut entries = 0;
    for device in &devices {
        let counted = assert_equal(&device.alone, &device.id, &site.database());
        entries += counted;
        assert!(device.labels.get() > 20, "{} labels say little", device.labels.get());
    }
    let labels: u64 = devices.iter().map(|device| device.labels.get()).sum();
    println!(
        "{} devices joined in {joined:.1?}; {labels} labels; settled in {settled:.1?}; {entries} entries are equal; \
         packets up and down: {:?}",
        plan.devices,
        road.tallies()
    );
}
