//! A real mosquitto for the tests, on a free port.

use super::Broker;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAMS: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// A running broker; ended on drop.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts a broker; `None`, with a printed line, where mosquitto is not installed.
    pub(crate) fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port)
    }

    fn start_on(port: u16) -> Option<Self> {
        let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
            println!("skipped: mosquitto is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mosquitto.conf");
        let mut file = std::fs::File::create(&config).unwrap();
        writeln!(file, "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false").unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut broker = Self { child, port, dir };
        broker.wait_until_it_listens();
        Some(broker)
    }

    fn wait_until_it_listens(&mut self) {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "mosquitto ended, see {:?}", self.dir);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!("mosquitto does not listen on {}", self.port);
    }

    pub(crate) fn url(&self) -> Broker {
        Broker { host: "127.0.0.1".into(), port: self.port }
    }

    /// Ends the broker and starts another on the same port.
    pub(crate) fn restart(self) -> Self {
        let port = self.port;
        drop(self);
        Self::start_on(port).unwrap()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
