//! The brokers that everything on the link is tried with: the hub's own, mosquitto and NATS.

use super::center::Center;
use super::e2e::wait;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;

/// A broker that the tests know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Inside the hub: it dies and starts with it, and forgets everything.
    Embedded,
    /// Its own process, with nothing on disk: it forgets everything when it is killed.
    Mosquitto,
    /// Its own process, JetStream on disk: MQTT 3.1.1 only, no order promised, sessions outlive it.
    Nats,
}

impl Kind {
    /// What must be installed, as Debian names it; the embedded broker needs nothing.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Embedded => None,
            Self::Mosquitto => Some("mosquitto"),
            Self::Nats => Some("nats-server"),
        }
    }

    /// Writes its configuration into a folder; gives its arguments.
    pub(super) fn configure(self, folder: &Path, address: SocketAddr) -> Vec<String> {
        let path = folder.join("broker.conf");
        let mut text = String::new();
        match self {
            Self::Embedded => {}
            Self::Mosquitto => {
                writeln!(text, "listener {} {}\nallow_anonymous true", address.port(), address.ip()).unwrap();
            }
            Self::Nats => {
                let store = folder.join("jetstream").display().to_string();
                writeln!(text, "server_name: shoal\nlisten: \"127.0.0.1:-1\"").unwrap();
                writeln!(text, "jetstream {{ store_dir: \"{store}\" }}\nmqtt {{ listen: \"{address}\" }}")
                    .unwrap();
            }
        }
        super::e2e::write(&path, text.as_bytes());
        vec!["-c".into(), path.display().to_string()]
    }
}

/// A broker of its own process, ended when dropped.
#[derive(Debug)]
pub(super) struct Broker {
    kind: Kind,
    child: Child,
    folder: tempfile::TempDir,
    pub(super) address: SocketAddr,
}

impl Broker {
    /// Starts one on a free port of loopback; `None`, with a word, where it is not installed.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(super) async fn start(kind: Kind) -> Option<Self> {
        let address = free();
        let program = kind.program().expect("a broker with a program");
        let folder = tempfile::tempdir().unwrap();
        let Some(child) = run(kind, folder.path(), address) else {
            eprintln!("skipped: {program} is not there");
            return None;
        };
        let broker = Self { kind, child, folder, address };
        broker.until_it_listens().await;
        Some(broker)
    }

    async fn until_it_listens(&self) {
        wait(|| async { TcpStream::connect(self.address).await.is_ok() }).await;
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again on the same port, with what it has on disk.
    pub(super) async fn again(&mut self) {
        self.kill();
        self.child = run(self.kind, self.folder.path(), self.address).unwrap();
        self.until_it_listens().await;
    }

    /// One of mosquitto's own clients, on this broker.
    pub(super) fn client(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-p", &self.address.port().to_string()]).args(args);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(kind: Kind, folder: &Path, address: SocketAddr) -> Option<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(kind.program()?);
    command.args(kind.configure(folder, address)).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().ok()
}

/// A port that nobody had a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A hub and its broker, both killed and started again at will.
pub(super) struct Site {
    pub(super) center: Center,
    /// Where devices find the broker.
    pub(super) broker: SocketAddr,
    pub(super) beside: Option<Broker>,
}

impl Site {
    /// `None`, with a word, where the broker is not installed.
    pub(super) async fn start(kind: Kind) -> Option<Self> {
        if kind == Kind::Embedded {
            let broker = free();
            let center = Center::start(&["embedded", "--broker-listen", &broker.to_string()]).await;
            return Some(Self { center, broker, beside: None });
        }
        let beside = Broker::start(kind).await?;
        let center = Center::start(&[&format!("mqtt://{}", beside.address)]).await;
        Some(Self { center, broker: beside.address, beside: Some(beside) })
    }

    /// Kills the broker and starts it again after a second; the embedded one takes its hub with it.
    pub(super) async fn again_broker(&mut self) {
        let Some(broker) = &mut self.beside else { return self.center.again().await };
        broker.kill();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        broker.again().await;
    }
}

/// The same scenario on every broker, as a test each.
macro_rules! on_every_broker {
    ($($scenario:ident),+) => {$(
        mod $scenario {
            use crate::brokers::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn embedded() {
                super::$scenario(Kind::Embedded).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mosquitto() {
                super::$scenario(Kind::Mosquitto).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn nats() {
                super::$scenario(Kind::Nats).await;
            }
        }
    )+};
}
pub(super) use on_every_broker;
