//! `agent.toml`: as written, checked whole, every problem told at once with its line and its fix.

mod reader;
mod serve;
mod settings;
mod training;

pub use reader::Problem;
pub use settings::{LoopSettings, Sizes};
pub use training::SensorsAt;

use crate::asking;
use crate::core::Policy;
use crate::fetch::{By, Ways};
use crate::serve::Limits;
use reader::Reader;
use shoal_adapt::Settings;
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::{AppName, DeviceId};
use shoal_proto::statement::parse_key;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The checked settings of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the core decides by.
    pub policy: Policy,
    /// Where databases, versions and the control socket are.
    pub state_dir: PathBuf,
    /// Inference over HTTP.
    pub http: SocketAddr,
    /// Inference over gRPC, unless it is off.
    pub grpc: Option<SocketAddr>,
    /// Inference over a unix socket, where wanted.
    pub socket: Option<PathBuf>,
    /// What a request may cost.
    pub serve: Limits,
    /// Connections at once.
    pub max_connections: usize,
    /// The token that callers over TCP need.
    pub token_file: Option<PathBuf>,
    /// The operator's socket.
    pub control: PathBuf,
    /// The hub, where there is one.
    pub hub: Option<HubLink>,
    /// Applications on the device's own broker, where there is one.
    pub local: Option<LocalLink>,
    /// Packages to serve.
    pub packages: Vec<PathBuf>,
    /// Public keys whose packages are taken from the hub.
    pub release_keys: Vec<ed25519_dalek::VerifyingKey>,
    /// Quota of the samples database.
    pub samples_bytes: u64,
    /// What people are asked about.
    pub ask: asking::Settings,
    /// Where the sensors are that runs are held by.
    pub sensors: SensorsAt,
    /// Share of one core that a training child gets.
    pub cpu_share: f64,
    /// Memory of a child.
    pub child_bytes: u64,
}

/// The hub's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubLink {
    /// `mqtt://host:port`.
    pub broker: String,
    /// How packages are fetched.
    pub fetch: Ways,
}

/// The device's own broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalLink {
    /// `mqtt://host:port`.
    pub broker: String,
    /// The level in the topics that is ours.
    pub app: AppName,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Everything that is wrong with it.
    #[error("{}", list(.path, .problems))]
    Problems {
        /// Which file.
        path: PathBuf,
        /// What is wrong, in order of lines.
        problems: Vec<Problem>,
    },
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let count = problems.len();
    let mut text = format!("`{}` has {count} problem{}", path.display(), if count == 1 { "" } else { "s" });
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}

/// Where the state is unless told: systemd's StateDirectory.
const STATE_DIR: &str = "/var/lib/shoal-agent";
/// Inference on loopback unless told.
const HTTP: &str = "127.0.0.1:8700";

impl Config {
    /// Reads and checks a file. Relative paths in it are taken from its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
            .map_err(|problems| ConfigError::Problems { path: path.to_owned(), problems })
    }

    /// Checks a text; `base` is the folder that relative paths are taken from.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<Problem>> {
        let mut read = Reader::new(text);
        let device = read.parsed::<DeviceId>("device", "id", "a name such as \"press-07\"");
        if device.is_none() && !read.has_problem_at("device", "id") {
            read.lacks("device", "id", "a name such as \"press-07\"");
        }
        let fallback = DeviceId::new("unnamed").expect("a constant that is a legal name");
        let mut policy = Policy::new(device.unwrap_or(fallback));
        policy.tags = read.text_map("device", "tags");
        read_policy(&mut read, &mut policy);
        let state_dir = read.path("state", "dir", base).unwrap_or_else(|| STATE_DIR.into());
        let control = read.path("control", "socket", base).unwrap_or_else(|| state_dir.join("control.sock"));
        let http = read.parsed::<SocketAddr>("serve", "http", "an address such as \"127.0.0.1:8700\"");
        let http = http.unwrap_or_else(|| HTTP.parse().expect("a constant that is an address"));
        let doors = serve::read_doors(&mut read, base, http);
        let limits = serve::read_limits(&mut read);
        let hub = read_hub(&mut read);
        let local = read_local(&mut read);
        let release_keys = read
            .texts("trust", "release_keys")
            .into_iter()
            .filter_map(|(line, key)| match parse_key(&key) {
                Ok(key) => Some(key),
                Err(cause) => {
                    read.problem(
                        line,
                        "trust.release_keys",
                        cause.to_string(),
                        "paste the line that `shoal-hub key show` prints",
                    );
                    None
                }
            })
            .collect();
        let sizes = settings::read_sizes(&mut read);
        let (sensors, cpu_share) =
            (training::read_sensors(&mut read, base), training::read_cpu_share(&mut read));
        let ask = settings::read_ask(&mut read);
        if ask.per_day > 0 && local.is_none() {
            let line = read.line_of("ask", "per_day");
            let what = "asks over MQTT, and there is no broker".to_owned();
            read.problem(line, "ask.per_day", what, "set `broker` and `app` under `[local]`, or 0");
        }
        let packages = read.tables("model", "package", base);
        let config = Self {
            policy,
            state_dir,
            http,
            grpc: doors.grpc,
            socket: doors.socket,
            serve: limits,
            max_connections: doors.max_connections,
            token_file: doors.token_file,
            control,
            hub,
            local,
            packages,
            release_keys,
            samples_bytes: sizes.samples_bytes,
            ask,
            sensors,
            cpu_share,
            child_bytes: sizes.child_bytes,
        };
        read.finish(config)
    }
}

fn read_policy(read: &mut Reader<'_>, policy: &mut Policy) {
    let seconds = |value: Option<u64>, default: Duration| value.map_or(default, Duration::from_secs);
    policy.window_rows = read.whole("watch", "window_rows", 10, 10_000_000).unwrap_or(policy.window_rows);
    policy.window = seconds(read.whole("watch", "window_s", 1, 86_400 * 7), policy.window);
    policy.keep_windows = read.whole("watch", "keep_windows", 1, 100_000).unwrap_or(policy.keep_windows);
    policy.heartbeat = seconds(read.whole("watch", "heartbeat_s", 1, 86_400), policy.heartbeat);
    policy.retrain = read.flag("retrain", "enabled").unwrap_or(policy.retrain);
    policy.min_labels = read.whole("retrain", "min_labels", 1, 10_000_000).unwrap_or(policy.min_labels);
    policy.cooldown = seconds(read.whole("retrain", "cooldown_s", 0, 86_400 * 30), policy.cooldown);
    policy.holdout_share = read.share("retrain", "holdout_share", 0.05, 0.9).unwrap_or(policy.holdout_share);
    policy.adapt = Settings {
        inputs: read.flag("adapt", "inputs").unwrap_or(policy.adapt.inputs),
        head: read.flag("adapt", "head").unwrap_or(policy.adapt.head),
    };
    training::read_triggers(read, policy);
    training::read_sources(read, policy);
    training::read_budget(read, policy);
    training::read_keep(read, policy);
    let trial = TrialPolicy::default();
    policy.trial = TrialPolicy {
        min_requests: read.whole("trial", "min_requests", 0, 100_000_000).unwrap_or(trial.min_requests),
        min_labels: read.whole("trial", "min_labels", 0, 100_000_000).unwrap_or(trial.min_labels),
        max_s: read.whole("trial", "max_s", 1, 86_400 * 90).unwrap_or(trial.max_s),
        max_failure_share: read
            .share("trial", "max_failure_share", 0.0, 1.0)
            .unwrap_or(trial.max_failure_share),
        max_z: read.share("trial", "max_z", 0.5, 10.0).unwrap_or(trial.max_z),
        shadow_requests: read
            .whole("trial", "shadow_requests", 0, 100_000_000)
            .unwrap_or(trial.shadow_requests),
        shadow_max_s: read.whole("trial", "shadow_max_s", 1, 86_400 * 90).unwrap_or(trial.shadow_max_s),
        shadow_max_differing: read
            .share("trial", "shadow_max_differing", 0.0, 1.0)
            .unwrap_or(trial.shadow_max_differing),
    };
}

fn read_hub(read: &mut Reader<'_>) -> Option<HubLink> {
    let broker = read.url("hub", "broker", "mqtt");
    let artifacts = read.url("hub", "artifacts", "http");
    if broker.is_none() && artifacts.is_some() {
        read.lacks("hub", "broker", "\"mqtt://host:1883\"");
    }
    let by = read.parsed::<By>("hub", "fetch", "\"auto\", \"http\" or \"mqtt\"").unwrap_or_default();
    if by == By::Http && artifacts.is_none() && broker.is_some() {
        let line = read.line_of("hub", "fetch");
        let what = "is \"http\", and there is no address".to_owned();
        read.problem(
            line,
            "hub.fetch",
            what,
            "set `artifacts = \"http://host:8601\"` under `[hub]`, or \"auto\"",
        );
    }
    let bytes_per_s = read.whole("hub", "fetch_bytes_per_s", 0, 1 << 30).filter(|rate: &u64| *rate > 0);
    Some(HubLink { broker: broker?, fetch: Ways { base: artifacts, by, bytes_per_s } })
}

fn read_local(read: &mut Reader<'_>) -> Option<LocalLink> {
    let broker = read.url("local", "broker", "mqtt");
    let app = read.parsed::<AppName>("local", "app", "a name such as \"line-2\"");
    if broker.is_some() && app.is_none() && !read.has_problem_at("local", "app") {
        read.lacks("local", "app", "the level in the topics that is this agent's, such as \"line-2\"");
    }
    Some(LocalLink { broker: broker?, app: app? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Budget;

    #[test]
    fn the_sample_file_is_the_defaults() {
        let sample = include_str!("../../cross/agent.toml");
        let config = Config::parse(sample, Path::new("/etc/shoal")).unwrap();
        let id = DeviceId::new("press-07").unwrap();
        let tags = config.policy.tags.clone();
        let budget = Budget::USUAL;
        assert_eq!(config.policy, Policy { tags, budget, ..Policy::new(id) });
        assert_eq!(config.sensors, SensorsAt { root: "/".into(), zone: None });
        assert!((config.cpu_share - 1.0).abs() < 1e-9);
        assert_eq!(config.http, HTTP.parse().unwrap());
        assert_eq!(config.grpc, Some("127.0.0.1:8701".parse().unwrap()));
        assert_eq!((config.serve, config.max_connections), (Limits::default(), 256));
        assert_eq!(config.ask, asking::Settings::default());
        assert_eq!(config.state_dir, Path::new(STATE_DIR));
    }

    #[test]
    fn a_minimal_file_is_enough() {
        let config = Config::parse("[device]\nid = \"a\"\n", Path::new("/x")).unwrap();
        assert!(config.hub.is_none() && config.local.is_none() && config.packages.is_empty());
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_line() {
        let text = "[device]\nid = \"Press 7\"\n[serve]\nhttp = \"here\"\ncolour = 1\n[wotch]\n[watch]\nwindow_rows = \"many\"\n[hub]\nbroker = \"http://x\"\n[retrain]\nholdout_share = 7\n[trust]\nrelease_keys = [\"zz\"]\n[[model]]\npakage = \"x\"\n";
        let problems = Config::parse(text, Path::new("/x")).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for (line, word) in [
            (2, "device.id"),
            (4, "serve.http"),
            (5, "serve.colour"),
            (6, "wotch"),
            (8, "watch.window_rows"),
            (10, "hub.broker"),
            (12, "retrain.holdout_share"),
            (14, "trust.release_keys"),
            (16, "model.pakage"),
        ] {
            let found =
                told.iter().any(|text| text.starts_with(&format!("line {line}:")) && text.contains(word));
            assert!(found, "line {line} {word} is not in {told:#?}");
        }
        assert!(told.iter().any(|text| text.contains("did you mean `watch`")), "{told:#?}");
    }

    #[test]
    fn how_packages_are_fetched() {
        let parse = |hub: &str| {
            let text = format!("[device]\nid = \"a\"\n[hub]\nbroker = \"mqtt://b:1\"\n{hub}");
            Config::parse(&text, Path::new("/x"))
        };
        let fetch = |hub: &str| parse(hub).unwrap().hub.unwrap().fetch;
        assert_eq!(fetch(""), Ways::default());
        let base = Some("http://c:2".to_owned());
        assert_eq!(
            fetch("artifacts = \"http://c:2\"\nfetch = \"http\"\nfetch_bytes_per_s = 100000\n"),
            Ways { base, by: By::Http, bytes_per_s: Some(100_000) }
        );
        assert_eq!(fetch("fetch = \"mqtt\"\nfetch_bytes_per_s = 0").by, By::Mqtt);
        for (hub, told) in [
            ("fetch = \"ftp\"", "\"auto\", \"http\" or \"mqtt\""),
            ("fetch = \"http\"", "line 5: `hub.fetch`: is \"http\", and there is no address"),
            ("fetch_bytes_per_s = -1", "line 5: `hub.fetch_bytes_per_s`"),
        ] {
            let problems: Vec<String> = parse(hub).unwrap_err().iter().map(ToString::to_string).collect();
            assert!(problems.iter().any(|text| text.contains(told)), "{told}: {problems:?}");
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        let problems = Config::parse("[device]\nid = \"a\nx", Path::new("/x")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.line == 2), "{problems:?}");
    }
}
