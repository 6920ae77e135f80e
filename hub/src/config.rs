//! The hub's configuration: `hub.toml`, read key by key so that every problem is told at once.

use crate::core::Policy;
use crate::core::courier::Rates;
use ed25519_dalek::VerifyingKey;
use shoal_proto::statement::parse_key;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The sample file: every key with its default.
pub const SAMPLE: &str = include_str!("hub.toml");

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of database, key and archives.
    pub data: PathBuf,
    /// Where operators connect.
    pub http: SocketAddr,
    /// Where devices fetch archives.
    pub devices_http: SocketAddr,
    /// Which broker.
    pub broker: BrokerMode,
    /// Where the embedded broker listens.
    pub broker_listen: SocketAddr,
    /// File with the password for an external broker.
    pub password_file: Option<PathBuf>,
    /// What the core decides by.
    pub policy: Policy,
    /// How fast archives go over MQTT.
    pub archives: Rates,
    /// Keys besides the hub's own that may sign packages.
    pub trusted: Vec<VerifyingKey>,
}

/// Which broker carries the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerMode {
    /// The hub's own.
    Embedded,
    /// One that runs elsewhere.
    External {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// User name.
        user: Option<String>,
    },
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            data: "shoal-hub-data".into(),
            http: local(8600),
            devices_http: local(8601),
            broker: BrokerMode::Embedded,
            broker_listen: local(1883),
            password_file: None,
            policy: Policy::default(),
            archives: Rates::default(),
            trusted: Vec::new(),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// A configuration that cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, what, hint }) in self.0.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            write!(f, "{newline}line {line}: {what}\n  hint: {hint}")?;
        }
        Ok(())
    }
}

type Read = Result<(), String>;
/// One key: section, name, what it holds, and how it is read.
type Key = (&'static str, &'static str, &'static str, fn(&mut Config, &DeValue<'_>) -> Read);

const KEYS: [Key; 12] = [
    ("", "data", "a folder", |config, value| text(value).map(|it| config.data = it.into())),
    ("http", "listen", "an address such as \"127.0.0.1:8600\"", |config, value| {
        addr(value).map(|it| config.http = it)
    }),
    ("http", "devices_listen", "an address such as \"0.0.0.0:8601\"", |config, value| {
        addr(value).map(|it| config.devices_http = it)
    }),
    ("broker", "url", "\"embedded\" or \"mqtt://user@host:1883\"", |config, value| {
        parse_broker(text(value)?).map(|it| config.broker = it)
    }),
    ("broker", "listen", "an address such as \"127.0.0.1:1883\"", |config, value| {
        addr(value).map(|it| config.broker_listen = it)
    }),
    ("broker", "password_file", "a file with the broker's password", |config, value| {
        text(value).map(|it| config.password_file = Some(it.into()))
    }),
    ("fleet", "unreachable_after_s", "seconds, 1 to 31536000", |config, value| {
        let seconds = number(value, 1, 31_536_000)?;
        config.policy.unreachable_after = Duration::from_secs(seconds);
        Ok(())
    }),
    ("fleet", "drift_windows", "windows, 1 to 10000", |config, value| {
        let windows = number(value, 1, 10_000)?;
        config.policy.drift_windows = usize::try_from(windows).unwrap_or(usize::MAX);
        Ok(())
    }),
    ("fleet", "device_bytes_per_s", "bytes a second, 1024 to 1073741824", |config, value| {
        number(value, 1_024, 1 << 30).map(|it| config.policy.device_bytes_per_s = it)
    }),
    ("archives", "device_bytes_per_s", "bytes, 1024 to 1073741824", |config, value| {
        config.archives.device_bytes_per_s = number(value, 1 << 10, 1 << 30)?;
        Ok(())
    }),
    ("archives", "total_bytes_per_s", "bytes, 1024 to 1073741824", |config, value| {
        config.archives.total_bytes_per_s = number(value, 1 << 10, 1 << 30)?;
        Ok(())
    }),
    ("trust", "keys", "a list of ed25519 public keys in hex", |config, value| {
        let list = value.as_array().ok_or("not a list")?;
        config.trusted = list
            .iter()
            .map(|one| parse_key(text(one.as_ref())?).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(())
    }),
];

fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().filter(|it| !it.is_empty()).ok_or_else(|| "not a text in quotes".to_owned())
}

fn addr(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let text = text(value)?;
    text.parse().map_err(|_cause| format!("`{text}` is not an address with a port"))
}

fn number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, String> {
    let number = value.as_integer().and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
    number.filter(|it| (least..=most).contains(it)).ok_or_else(|| format!("not {least} to {most}"))
}

/// Reads `embedded` or `mqtt://[user@]host[:port]`.
pub fn parse_broker(text: &str) -> Result<BrokerMode, String> {
    if text == "embedded" {
        return Ok(BrokerMode::Embedded);
    }
    let rest = text
        .strip_prefix("mqtt://")
        .ok_or_else(|| format!("`{text}` is neither `embedded` nor an `mqtt://` address"))?;
    let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password does not belong into an address".into());
    }
    let place = place.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_cause| format!("`{port}` is not a port"))?),
        None => (place, 1883),
    };
    if host.is_empty() {
        return Err(format!("`{text}` names no host"));
    }
    Ok(BrokerMode::External { host: host.into(), port, user: user.map(str::to_owned) })
}

impl Config {
    /// Reads a configuration; tells all its problems at once.
    pub fn parse(source: &str) -> Result<Self, ConfigError> {
        let line = |at: usize| source[..at.min(source.len())].matches('\n').count() + 1;
        let table = DeTable::parse(source).map_err(|error| {
            let line = line(error.span().map_or(0, |span| span.start));
            let what = error.message().to_owned();
            ConfigError(vec![Problem { line, what, hint: "the file must be TOML".into() }])
        })?;
        let mut config = Self::default();
        let mut problems = Vec::new();
        let mut take = |section: &str, key: &Spanned<_>, value: &Spanned<DeValue<'_>>| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            let line = line(key.span().start);
            let name: &str = key.as_ref();
            let known = KEYS.iter().find(|(of, known, ..)| *of == section && *known == name);
            let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let (what, hint) = match known {
                None => (format!("`{path}` is not a key of hub.toml"), known_keys(section)),
                Some((.., holds, read)) => match read(&mut config, value.as_ref()) {
                    Ok(()) => return,
                    Err(what) => (format!("`{path}`: {what}"), format!("expected {holds}")),
                },
            };
            problems.push(Problem { line, what, hint });
        };
        for (key, value) in table.as_ref() {
            match value.as_ref().as_table() {
                Some(section) if KEYS.iter().any(|(of, ..)| *of == key.as_ref()) => {
                    section.iter().for_each(|(inner, value)| take(key.as_ref(), inner, value));
                }
                _ => take("", key, value),
            }
        }
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

fn known_keys(section: &str) -> String {
    let mut keys: Vec<String> =
        KEYS.iter().filter(|(of, ..)| *of == section).map(|(_, name, ..)| format!("`{name}`")).collect();
    if section.is_empty() {
        keys.extend(["http", "broker", "fleet", "archives", "trust"].map(|it| format!("[{it}]")));
    }
    format!("expected one of {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_file_says_the_defaults() {
        assert_eq!(Config::parse(SAMPLE).unwrap(), Config::default());
        let stripped = SAMPLE.replace("# password_file", "password_file");
        assert!(Config::parse(&stripped).unwrap().password_file.is_some());
        for (section, name, ..) in KEYS {
            assert!(SAMPLE.contains(&format!("{name} =")), "{section}.{name} is not in the sample");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let source = "dat = 1\n[http]\nlisten = \"here\"\n[broker]\nurl = \"amqp://x\"\n[fleet]\ndrift_windows = 0\n[color]\nx = 1\n[trust]\nkeys = [\"12\"]\n";
        let ConfigError(problems) = Config::parse(source).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|it| it.line).collect();
        assert_eq!(lines, [1, 3, 5, 7, 8, 11], "{problems:#?}");
        assert!(problems.iter().all(|it| !it.hint.is_empty()));
    }

    #[test]
    fn broker_addresses() {
        let external = |host: &str, port, user: Option<&str>| {
            Ok(BrokerMode::External { host: host.into(), port, user: user.map(str::to_owned) })
        };
        for (text, expected) in [
            ("embedded", Ok(BrokerMode::Embedded)),
            ("mqtt://b", external("b", 1883, None)),
            ("mqtt://me@b.example:99/", external("b.example", 99, Some("me"))),
        ] {
            assert_eq!(parse_broker(text), expected, "{text}");
        }
        for bad in ["", "b:1883", "mqtt://", "mqtt://a:b@c", "mqtt://c:port"] {
            assert!(parse_broker(bad).is_err(), "{bad}");
        }
    }
}
