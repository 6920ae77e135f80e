//! `[serve]` and what of `[samples]` concerns serving.

use super::reader::Reader;
use super::settings::MIB;
use crate::serve::{Capture, Limits};
use std::net::{AddrParseError, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// gRPC on loopback unless told.
const GRPC: &str = "127.0.0.1:8701";
/// Connections at once unless told.
const MAX_CONNECTIONS: usize = 256;

/// Where callers come in, besides HTTP.
pub(super) struct Doors {
    pub(super) grpc: Option<SocketAddr>,
    pub(super) socket: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) max_connections: usize,
}

pub(super) fn read_doors(read: &mut Reader<'_>, base: &Path, http: SocketAddr) -> Doors {
    let grpc = read.parsed::<Door>("serve", "grpc", "an address such as \"127.0.0.1:8701\", or \"off\"");
    let grpc = grpc.unwrap_or_else(|| GRPC.parse().expect("a constant that is an address")).0;
    let token_file = read.path("serve", "token_file", base);
    for (key, open) in [("http", Some(http)), ("grpc", grpc)] {
        let Some(address) = open.filter(|address| token_file.is_none() && !address.ip().is_loopback()) else {
            continue;
        };
        let line = read.line_of("serve", key);
        let what = format!("{address} is open to other machines, and no token is asked for");
        read.problem(line, &format!("serve.{key}"), what, "set serve.token_file, or a loopback address");
    }
    let places = read.whole("serve", "max_connections", 1, 65_536);
    Doors {
        grpc,
        socket: read.path("serve", "socket", base),
        token_file,
        max_connections: places
            .map_or(MAX_CONNECTIONS, |places| usize::try_from(places).unwrap_or(usize::MAX)),
    }
}

/// An address, or none.
struct Door(Option<SocketAddr>);

impl FromStr for Door {
    type Err = AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self(None)) } else { text.parse().map(|address| Self(Some(address))) }
    }
}

impl FromStr for Capture {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "off" => Ok(Self::Off),
            share => match share.strip_prefix("1/").and_then(|every| every.parse().ok()) {
                Some(every) if every > 0 => Ok(Self::OneIn(every)),
                _ => Err(format!("`{share}` is no share")),
            },
        }
    }
}

/// Whether models may be loaded and unloaded over the protocol, in Triton's words.
struct ModelControl(bool);

impl FromStr for ModelControl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(false)),
            "explicit" => Ok(Self(true)),
            other => Err(format!("`{other}` is no mode")),
        }
    }
}

pub(super) fn read_limits(read: &mut Reader<'_>) -> Limits {
    let default = Limits::default();
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let body = read.whole("serve", "max_body_mib", 1, 1024).map(|mib| size(mib * MIB));
    let timeout = read.whole("serve", "timeout_ms", 1, 3_600_000).map(Duration::from_millis);
    let workers = read.whole("serve", "workers", 0, 256).filter(|workers| *workers > 0).map(size);
    let wait = read.whole("serve", "batch_wait_us", 0, 1_000_000).map(Duration::from_micros);
    let control = read.parsed::<ModelControl>("serve", "model_control", "\"none\" or \"explicit\"");
    let capture =
        read.parsed::<Capture>("samples", "capture", "\"all\", \"off\", or a share such as \"1/10\"");
    Limits {
        max_body_bytes: body.unwrap_or(default.max_body_bytes),
        timeout: timeout.unwrap_or(default.timeout),
        workers: workers.unwrap_or(default.workers),
        batch_wait: wait.unwrap_or(default.batch_wait),
        capture: capture.unwrap_or(default.capture),
        model_control: control.map_or(default.model_control, |control| control.0),
    }
}
