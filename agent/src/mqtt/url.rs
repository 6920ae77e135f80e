//! `mqtt://host[:port]`.

use std::fmt;
use std::str::FromStr;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not `mqtt://`.
    #[error("broker address `{url}` must start with `mqtt://`")]
    Scheme { url: String },
    /// No host, a bad port, or more than host and port.
    #[error("broker address `{url}` must be `mqtt://host[:port]`")]
    Form { url: String },
}

impl FromStr for Broker {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let form = || UrlError::Form { url: url.to_owned() };
        let rest = url.strip_prefix("mqtt://").ok_or_else(|| UrlError::Scheme { url: url.to_owned() })?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(form)?;
                let port =
                    if tail.is_empty() { None } else { Some(tail.strip_prefix(':').ok_or_else(form)?) };
                (host, port)
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_cause| form()))?;
        if host.is_empty() || host.contains(['/', '@', '?', '#']) || host.contains(char::is_whitespace) {
            return Err(form());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "mqtt://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "mqtt://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for (url, host, port) in [
            ("mqtt://127.0.0.1", "127.0.0.1", 1883),
            ("mqtt://broker.example:1884/", "broker.example", 1884),
            ("mqtt://[::1]:99", "::1", 99),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let broker: Broker = url.parse().unwrap();
            assert_eq!(broker, Broker { host: host.into(), port }, "{url}");
            assert_eq!(broker.to_string().parse(), Ok(broker));
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in [
            "",
            "127.0.0.1",
            "mqtts://a",
            "mqtt://",
            "mqtt://a:x",
            "mqtt://a:99999",
            "mqtt://u:p@h",
            "mqtt://h/t",
            "mqtt://[::1",
            "mqtt://[::1]x",
        ] {
            assert!(url.parse::<Broker>().is_err(), "{url}");
        }
    }
}
