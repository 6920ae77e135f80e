//! Packages on their way to a device as real processes: over MQTT where HTTP is closed, through kill -9, from one source
//! to the other, and from a hub whose file is no longer what was pushed.

use super::brokers::{Broker, Kind};
use super::center::Center;
use super::e2e::{Alone, get, wait, write};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use shoal_proto::chunks::CHUNK_BYTES;
use shoal_proto::package::{MANIFEST, Package, REPLAY};
use shoal_tests::demo::Part;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The package of these tests: as large as a small image model, and packed no smaller.
const PACKAGE_BYTES: usize = 2_000_000;
/// Chunks that may be under way when an agent is killed: a window and what lies in sockets.
const UNDER_WAY: u64 = 16;

/// A hub with a second version of the model, and a device that is not assigned it yet.
struct Scene {
    center: Center,
    alone: Alone,
    part: Part,
    version: String,
    archive: String,
    chunks: u64,
    package_bytes: u64,
}

impl Scene {
    /// `fetch`: what stands under `[hub]` beside the broker.
    async fn start(broker: &[&str], fetch: impl AsyncFnOnce(&Center) -> String) -> Self {
        let (center, alone) = (Center::start(broker).await, Alone::new());
        let key = get(&format!("{}/api/v1/key", center.url)).await.unwrap();
        let key = key["public_key"].as_str().unwrap();
        let mut config = std::fs::read_to_string(alone.path("agent.toml")).unwrap();
        config += &format!(
            "[hub]\nbroker = \"mqtt://{}\"\n{}[trust]\nrelease_keys = [\"{key}\"]\n",
            center.broker,
            fetch(&center).await
        );
        write(&alone.path("agent.toml"), config.as_bytes());
        let archive = std::fs::read(alone.path("nose.shoal")).unwrap();
        let mut files = Package::from_archive(&archive).unwrap().to_files();
        files.remove("signature.json");
        let manifest = String::from_utf8(files[MANIFEST].clone()).unwrap();
        let second = manifest.replacen("version = 1", "version = 2", 1);
        assert_ne!(manifest, second);
        files.insert(MANIFEST.into(), second.into_bytes());
        let mut noise = vec![0; PACKAGE_BYTES];
        ChaCha8Rng::seed_from_u64(4).fill_bytes(&mut noise);
        files.insert(REPLAY.into(), noise);
        write(&alone.path("second.shoal"), &Package::new(files).unwrap().to_archive().unwrap());
        let (code, told, error) = center.ask(&["model", "push", &alone.text("second.shoal")]);
        assert_eq!(code, 0, "{error}");
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let package_bytes = told["size_bytes"].as_u64().unwrap();
        let (part, _) = alone.start().await;
        let scene = Self {
            version: text("version"),
            archive: text("archive"),
            chunks: package_bytes.div_ceil(u64::from(CHUNK_BYTES)),
            package_bytes,
            center,
            alone,
            part,
        };
        wait(|| async { scene.center.ask(&["device", "show", "alone"]).1["slots"]["nose"].is_object() })
            .await;
        scene
    }

    fn assign(&self) {
        let (code, _, error) =
            self.center.ask(&["rollout", "create", "--model", "nose", "--version", "nose@2"]);
        assert_eq!(code, 0, "{error}");
    }

    /// What the hub has sent of archives.
    async fn carried(&self) -> Value {
        get(&format!("{}/api/v1/health", self.center.url)).await.unwrap()["archives"].clone()
    }

    async fn chunks_sent(&self) -> u64 {
        self.carried().await["chunks"].as_u64().unwrap()
    }

    fn has_it(&self) -> bool {
        let versions = self.alone.command(&["versions"]).1;
        versions.as_array().is_some_and(|all| all.iter().any(|it| it["version"] == self.version.as_str()))
    }

    async fn whole(&self) {
        wait(|| async { self.has_it() }).await;
    }

    /// A figure of the last archive that became whole, as the agent logged it.
    fn figure(&self, name: &str) -> u64 {
        let log = std::fs::read_to_string(self.alone.path("log")).unwrap();
        let line = log.lines().rfind(|line| line.contains("archive is whole")).expect("it was logged");
        let mut plain = String::new();
        let mut is_colour = false;
        for letter in line.chars() {
            is_colour |= letter == '\u{1b}';
            if !is_colour {
                plain.push(letter);
            }
            is_colour &= letter != 'm';
        }
        let word = plain.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")));
        word.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("`{name}` is not in {plain}"))
    }

    fn incoming(&self) -> usize {
        std::fs::read_dir(self.alone.path("state/incoming")).unwrap().count()
    }

    async fn stop(mut self) {
        self.part.stop().await.unwrap();
        self.center.part.stop().await.unwrap();
    }
}

/// An address where nobody listens.
fn closed() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const EMBEDDED: [&str; 3] = ["embedded", "--broker-listen", "127.0.0.1:0"];

/// The package comes over MQTT, and in the middle the agent is killed. What it cost, for a person.
async fn over_mqtt_through_kill_9(broker: &[&str], fetch: String) -> String {
    let mut scene = Scene::start(broker, async |_| fetch + "fetch_bytes_per_s = 150000\n").await;
    scene.assign();
    // Words of control go before chunks: a command is answered while they flow.
    wait(|| async { scene.chunks_sent().await >= scene.chunks / 8 }).await;
    let (code, told, error) = scene.center.ask(&["command", "alone", "log", "--lines", "1"]);
    assert_eq!(code, 0, "{told} {error}");
    let meanwhile = scene.chunks_sent().await - scene.chunks / 8;
    wait(|| async { scene.chunks_sent().await >= scene.chunks / 3 }).await;
    scene.part.kill().await.unwrap();
    let before = scene.chunks_sent().await;
    assert!(before < scene.chunks && !scene.has_it());
    scene.part = scene.alone.start().await.0;
    scene.whole().await;
    // Those that were asked for in vain over HTTP, before MQTT was tried, are asked for again.
    let (held, asked) = (scene.figure("held"), scene.figure("asked") - scene.figure("again"));
    let carried = scene.carried().await;
    let sent = carried["chunks"].as_u64().unwrap();
    let figures = format!(
        "{} bytes in {} chunks: {held} were here after kill -9, {asked} asked for then; {sent} sent in all, \
         {meanwhile} while a command was answered; {} bytes over MQTT for {} questions, {} over HTTP",
        scene.package_bytes, scene.chunks, carried["mqtt_bytes"], carried["needs"], carried["http_bytes"]
    );
    assert_eq!(held + asked, scene.chunks, "nothing that is here is asked for");
    assert!(held + UNDER_WAY >= before, "{held} of {before} were kept");
    assert!(sent <= scene.chunks + UNDER_WAY, "{sent} of {} were sent", scene.chunks);
    assert_eq!((scene.figure("http"), carried["http_bytes"].as_u64()), (0, Some(0)));
    assert_eq!(scene.incoming(), 0, "nothing is left of it");
    scene.stop().await;
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn without_http_a_package_comes_over_mqtt_and_goes_on_after_kill_9() {
    // The hub's port for devices cannot be reached.
    let http = format!("artifacts = \"http://{}\"\n", closed());
    eprintln!("{}", over_mqtt_through_kill_9(&EMBEDDED, http).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_http_a_package_comes_over_mosquitto_too() {
    let Some(broker) = Broker::start(Kind::Mosquitto).await else { return };
    let fetch = "fetch = \"mqtt\"\n".to_owned();
    eprintln!("{}", over_mqtt_through_kill_9(&[&format!("mqtt://{}", broker.address)], fetch).await);
}

/// Lets so many bytes of answers through, and then nobody in any more.
async fn gate(
    to: SocketAddr,
    mut bytes: usize,
    cancel: CancellationToken,
    tracker: &TaskTracker,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tracker.spawn(async move {
        while bytes > 0 {
            let taken = tokio::select! {
                () = cancel.cancelled() => return,
                taken = listener.accept() => taken,
            };
            let (Ok((client, _)), Ok(server)) = (taken, TcpStream::connect(to).await) else { continue };
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let down = async {
                let mut piece = vec![0; 16 * 1024];
                while let Ok(count @ 1..) = from_server.read(&mut piece).await {
                    let count = count.min(bytes);
                    bytes -= count;
                    if count == 0 || to_client.write_all(&piece[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = down => {}
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                () = cancel.cancelled() => return,
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_began_mqtt_ends_from_the_same_chunks() {
    let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
    let scene = Scene::start(&EMBEDDED, async |center| {
        let to = center.devices.parse().unwrap();
        let gate = gate(to, PACKAGE_BYTES / 2, cancel.clone(), &tracker).await;
        format!("artifacts = \"http://{gate}\"\nfetch_bytes_per_s = 2000000\n")
    })
    .await;
    scene.assign();
    scene.whole().await;
    let (http, mqtt) = (scene.figure("http"), scene.figure("mqtt"));
    let carried = scene.carried().await;
    eprintln!(
        "{} bytes in {} chunks: {http} over HTTP, {mqtt} over MQTT in {} bytes",
        scene.package_bytes, scene.chunks, carried["mqtt_bytes"]
    );
    assert_eq!(http + mqtt, scene.chunks);
    assert!(http >= scene.chunks / 3 && mqtt >= scene.chunks / 3, "{http} and {mqtt}");
    assert_eq!(carried["chunks"].as_u64(), Some(mqtt), "what HTTP had brought was not asked for again");
    assert_eq!((scene.figure("known"), scene.figure("wrong"), scene.incoming()), (0, 0, 0));
    cancel.cancel();
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_nothing_is_sent_twice_either() {
    let open = async |center: &Center| format!("artifacts = \"http://{}\"\n", center.devices);
    let scene = Scene::start(&EMBEDDED, open).await;
    scene.assign();
    scene.whole().await;
    let carried = scene.carried().await;
    eprintln!(
        "{} bytes in {} chunks: {} bytes over HTTP",
        scene.package_bytes, scene.chunks, carried["http_bytes"]
    );
    assert_eq!((scene.figure("http"), scene.figure("asked")), (scene.chunks, scene.chunks));
    assert!(
        carried["http_bytes"].as_u64().unwrap() < scene.package_bytes + 8_192,
        "the package and its list"
    );
    assert_eq!(carried["needs"], 0);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_what_was_pushed_is_named_and_nothing_is_installed() {
    let scene =
        Scene::start(&EMBEDDED, async |center| format!("artifacts = \"http://{}\"\n", center.devices)).await;
    let path = scene.center.database().parent().unwrap().join("artifacts").join(&scene.archive);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = 3 * usize::try_from(CHUNK_BYTES).unwrap() + 77;
    bytes[place] ^= 1;
    write(&path, &bytes);
    scene.assign();
    let log = || std::fs::read_to_string(scene.alone.path("log")).unwrap();
    wait(|| async { log().contains("candidate rejected") }).await;
    let log = log();
    for word in ["every source gives wrong bytes", "chunk 3 of", "`mqtt:`: the hub's file is damaged"] {
        assert!(log.contains(word), "`{word}` is not in {log}");
    }
    // The device has told: the hub stops the rollout.
    wait(|| async {
        let told = scene.center.ask(&["rollout", "list"]).1;
        told.to_string().contains("failed or rejected")
    })
    .await;
    assert!(!scene.has_it());
    assert_eq!(scene.incoming(), 0, "nothing is left of it");
    scene.stop().await;
}
