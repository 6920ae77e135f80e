//! Every "no" of the API: status, words and a hint.

use crate::core::Refusal;
use crate::core::refusal::RefusalKind;
use crate::registry::RegistryError;
use crate::report::error_chain;
use crate::serve::AskError;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{}", error_chain(.0))]
    Package(#[from] RegistryError),
    #[error("request cannot be read: {reason}")]
    Invalid { reason: String },
    #[error("content type is `{found}`, expected `{expected}`")]
    MediaType { expected: &'static str, found: String },
    #[error("artifact `{digest}` is not here")]
    NoArtifact { digest: String },
    #[error("range is not inside the {size_bytes} bytes of the artifact")]
    Range { size_bytes: u64 },
    #[error("failed in {what}")]
    Internal { what: &'static str },
    #[error("the hub is stopping")]
    Stopping,
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Stopping => Self::Stopping,
        }
    }
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => match refusal.kind() {
                RefusalKind::NotFound => StatusCode::NOT_FOUND,
                RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                RefusalKind::Conflict => StatusCode::CONFLICT,
            },
            Self::Package(RegistryError::Package(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Package(RegistryError::Untrusted { .. }) => StatusCode::FORBIDDEN,
            Self::Package(_) | Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoArtifact { .. } => StatusCode::NOT_FOUND,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Package(RegistryError::Package(_)) => "`shoal-agent pack` makes packages",
            Self::Package(RegistryError::Untrusted { .. }) => {
                "list the signer's public key under [trust] keys in hub.toml, or push it unsigned"
            }
            Self::Package(_) => "look at the hub's data folder: space, permissions",
            Self::Internal { .. } => "the hub's log says more",
            Self::Invalid { .. } => "see the shapes in the API's description",
            Self::MediaType { .. } => "set the header Content-Type",
            Self::NoArtifact { .. } => "ask for the digest of an archive, not of a version",
            Self::Range { .. } => "start again from the beginning",
            Self::Stopping => "try again in a moment",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = %self, "request failed");
        }
        let body = ErrorBody { error: self.to_string(), hint: self.hint().to_owned() };
        let mut response = (status, axum::Json(body)).into_response();
        if let Self::Range { size_bytes } = self
            && let Ok(value) = format!("bytes */{size_bytes}").parse()
        {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        response
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Response {
    let error = format!("no such path: `{}`", uri.path());
    let hint = "the API is under /api/v1, the page at /".to_owned();
    (StatusCode::NOT_FOUND, axum::Json(ErrorBody { error, hint })).into_response()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let error = format!("`{}` does not take {method}", uri.path());
    let hint = "the header Allow lists what it takes".to_owned();
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(ErrorBody { error, hint })).into_response()
}
