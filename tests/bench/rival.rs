//! MLServer with onnxruntime, started from a venv that `mlserver/setup.sh` made, and onnxruntime's own call.

use super::doors::free_port;
use anyhow::Context as _;
use serde::Deserialize;
use shoal_infer::Tensor;
use shoal_tests::rig::{Child, Conn, MODEL};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The adapter and the settings, as they lie beside this file.
const FILES: [(&str, &str); 3] = [
    ("settings.json", include_str!("mlserver/settings.json")),
    ("model-settings.json", include_str!("mlserver/model-settings.json")),
    ("runtime.py", include_str!("mlserver/runtime.py")),
];
/// Times a call of onnxruntime.
const CALL: &str = include_str!("mlserver/call.py");
/// How long it may take to start.
const READY: Duration = Duration::from_secs(120);

/// A running MLServer.
#[derive(Debug)]
pub(crate) struct Mlserver {
    child: Child,
    pub(crate) http: SocketAddr,
}

impl Mlserver {
    /// Starts it with one model, and waits until it serves it.
    pub(crate) fn start(venv: &Path, folder: &Path, onnx: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("mlserver");
        std::fs::create_dir_all(&folder)?;
        for (name, text) in FILES {
            File::create(folder.join(name))?.write_all(text.as_bytes())?;
        }
        std::fs::copy(onnx, folder.join("model.onnx"))?;
        let (http, grpc) = (free_port()?, free_port()?);
        let mut command = Command::new(venv.join("bin/mlserver"));
        command.arg("start").arg(&folder).current_dir(&folder);
        command.env("MLSERVER_HTTP_PORT", http.to_string()).env("MLSERVER_GRPC_PORT", grpc.to_string());
        let mut child = Child::start(command, &folder.with_extension("log"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
        let asked = format!("GET /v2/models/{MODEL}/ready HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let is_ready = || {
            let mut conn = Conn::tcp(address).ok()?;
            conn.ask(asked.as_bytes()).is_ok_and(|reply| reply.status == 200).then_some(())
        };
        child.until(READY, is_ready).context("MLServer is not ready")?;
        Ok(Self { child, http: address })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

/// A Python process with a session of onnxruntime, on one thread.
#[derive(Debug)]
pub(crate) struct Session {
    child: std::process::Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug, Deserialize)]
struct Timed {
    p50_us: f64,
}

impl Session {
    /// Loads a model and gives it its one row.
    pub(crate) fn start(venv: &Path, onnx: &Path, row: &[Tensor]) -> anyhow::Result<Self> {
        let mut child = Command::new(venv.join("bin/python"))
            .arg("-c")
            .arg(CALL)
            .arg(onnx)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start Python")?;
        let mut asks = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let inputs: Vec<_> = row
            .iter()
            .map(|tensor| serde_json::json!({ "name": tensor.name, "shape": tensor.shape, "data": tensor.f32s() }))
            .collect();
        writeln!(asks, "{}", serde_json::to_string(&inputs)?)?;
        Ok(Self { child, asks, answers })
    }

    /// The median of so many calls, in microseconds.
    pub(crate) fn p50_us(&mut self, calls: usize) -> anyhow::Result<f64> {
        writeln!(self.asks, "{calls}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let timed: Timed = serde_json::from_str(&line).context("onnxruntime gave no time")?;
        Ok(timed.p50_us)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
