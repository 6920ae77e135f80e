//! The client of the HTTP API.

use crate::api::error::ErrorBody;
use reqwest::{Client, Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// How long an answer may take: a large package is checked meanwhile.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A request without the answer that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{url}` is not an address of a hub")]
    Address { url: String },
    /// Nobody there.
    #[error("failed to reach the hub at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The hub is there and is stopping.
    #[error("{error}")]
    Stopping { error: String },
    /// The hub said no.
    #[error("{error}")]
    Refused { error: String, hint: String },
    /// An answer that makes no sense.
    #[error("answer of the hub cannot be read: {reason}")]
    Answer { reason: String },
}

impl ClientError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("it looks like http://127.0.0.1:8600".into()),
            Self::Unreachable { .. } => {
                Some("is it running (`shoal-hub serve`)? --hub or SHOAL_HUB say where".into())
            }
            Self::Stopping { .. } => Some("try again in a moment".into()),
            Self::Refused { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
            Self::Answer { .. } => Some("is that a hub of this version?".into()),
        }
    }
}

/// What a request carries.
pub(super) enum Body {
    Nothing,
    Json(Value),
    Package(Vec<u8>),
}

/// A hub at an address.
#[derive(Debug)]
pub(super) struct Hub {
    base: Url,
    client: Client,
}

impl Hub {
    pub(super) fn new(url: &str) -> Result<Self, ClientError> {
        let address = || ClientError::Address { url: url.to_owned() };
        let base = Url::parse(url).ok().filter(|it| it.scheme() == "http" && it.has_host());
        let client = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT).no_proxy().build();
        let client = client.map_err(|source| ClientError::Unreachable { url: url.to_owned(), source })?;
        Ok(Self { base: base.ok_or_else(address)?, client })
    }

    /// Asks under `/api/v1/`; `path` is made of parts that need no escaping or are escaped here.
    pub(super) async fn ask(&self, method: Method, path: &[&str], body: Body) -> Result<Value, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let request = self.client.request(method, url);
        let request = match body {
            Body::Nothing => request,
            Body::Json(value) => request.json(&value),
            Body::Package(bytes) => request.header("content-type", "application/octet-stream").body(bytes),
        };
        let lost = |source| ClientError::Unreachable { url: self.base.to_string(), source };
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(lost)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|cause| unreadable(&cause));
        }
        let ErrorBody { error, hint } = serde_json::from_slice(&bytes).map_err(|cause| unreadable(&cause))?;
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => ClientError::Stopping { error },
            _ => ClientError::Refused { error, hint },
        })
    }

    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, Body::Nothing).await
    }
}

fn unreadable(cause: &serde_json::Error) -> ClientError {
    ClientError::Answer { reason: cause.to_string() }
}

/// Reads a typed value out of an answer.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ClientError> {
    T::deserialize(value).map_err(|cause| unreadable(&cause))
}

pub(super) fn json(value: &impl Serialize) -> Body {
    Body::Json(serde_json::to_value(value).unwrap_or_default())
}
