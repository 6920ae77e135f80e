//! Why a request was not answered.

use crate::store::StoreError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use shoal_infer::InferError;
use std::error::Error;

/// A request that was not answered; its text goes to the caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// No such model.
    #[error("model `{model}` is not served here")]
    UnknownModel { model: String },
    /// An operator unloaded it.
    #[error("model `{model}` is unloaded; load it again over the repository")]
    Unloaded { model: String },
    /// A call of it did not end; the device goes back to the version before.
    #[error("model `{model}` stalled and is not called any more; another version will take its place")]
    Stalled { model: String },
    /// Loading and unloading were not allowed.
    #[error("loading and unloading is off here; set serve.model_control = \"explicit\"")]
    NoControl,
    /// A model that did not load.
    #[error("model `{model}` did not load: {reason}")]
    NotLoaded { model: String, reason: String },
    /// What Triton lets a caller set at loading.
    #[error("parameter `{name}` is not taken: a version is what its signed package says")]
    LoadParameter { name: String },
    /// No token, or a wrong one.
    #[error("the request needs the token: `Authorization: Bearer …`")]
    Unauthorized,
    /// A body that came too slowly.
    #[error("the request's body did not come within {seconds} s")]
    SlowBody { seconds: u64 },
    /// A label for a row that was not kept.
    #[error("prediction `{id}` was not captured, so it cannot be labelled (samples.capture)")]
    NotCaptured { id: String },
    /// The model is served, in another version.
    #[error("model `{model}` has no version `{version}` here, it serves {served}")]
    UnknownVersion { model: String, version: String, served: String },
    /// The request names no model, and not exactly one is served.
    #[error("the request must name a model: {count} are served")]
    WhichModel { count: usize },
    /// No such path.
    #[error("no such path: {path}")]
    UnknownPath { path: String },
    /// The path is right and the method is not.
    #[error("{method} is not for {path}")]
    Method { method: String, path: String },
    /// Not what the protocol says.
    #[error("the request cannot be read: {reason}")]
    Malformed { reason: String },
    /// A compressed body.
    #[error("content encoding `{encoding}` is not read, expected none")]
    Encoding { encoding: String },
    /// A tensor that contradicts itself.
    #[error("input `{input}`: {reason}")]
    Tensor { input: String, reason: String },
    /// The model does not take these tensors.
    #[error("the model does not take the request")]
    Input(#[source] InferError),
    /// An output that the model does not have.
    #[error("the model has no output `{output}`, it has {known}")]
    UnknownOutput { output: String, known: String },
    /// A feature that the model does not have.
    #[error("the model has no feature `{feature}`, it has {known}")]
    UnknownFeature { feature: String, known: String },
    /// A sender that was made for other inputs.
    #[error("the sender was made for schema {got}, model `{model}` has schema {expected}")]
    Schema { model: String, got: String, expected: String },
    /// A group's value that is no text.
    #[error("parameter `{group}` must be one of {known}, got {got}")]
    Group { group: String, known: String, got: String },
    /// A body over the limit.
    #[error("the request has more than {limit} bytes")]
    TooLarge { limit: usize },
    /// Not an id of ours.
    #[error("prediction id `{id}` is not one of ours")]
    ForeignId { id: String },
    /// A row that does not wait for a label.
    #[error("prediction `{id}` does not wait for a label")]
    NotAsked { id: String },
    /// A label of the wrong kind.
    #[error("the label must be {expected}, got {got}")]
    Label { expected: &'static str, got: String },
    /// A class that the model does not have.
    #[error("the model has no class `{class}`, it has {known}")]
    UnknownClass { class: String, known: String },
    /// More requests than workers and waiting room.
    #[error("too many requests wait already")]
    Overloaded,
    /// The model took too long.
    #[error("the model did not answer in {after:?}")]
    Timeout { after: std::time::Duration },
    /// The model failed on a good request.
    #[error("the model failed")]
    Failed(#[source] InferError),
    /// The prediction was lost inside the server.
    #[error("the prediction was interrupted")]
    Interrupted,
    /// The label could not be written.
    #[error("the label could not be written")]
    Store(#[source] StoreError),
}

impl Refused {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownPath { .. }
            | Self::NotAsked { .. } => StatusCode::NOT_FOUND,
            Self::Unloaded { .. } | Self::NotLoaded { .. } => StatusCode::BAD_REQUEST,
            Self::NoControl => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::NotCaptured { .. } => StatusCode::CONFLICT,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::WhichModel { .. }
            | Self::Malformed { .. }
            | Self::Tensor { .. }
            | Self::Input(_)
            | Self::UnknownOutput { .. }
            | Self::ForeignId { .. }
            | Self::Label { .. }
            | Self::LoadParameter { .. }
            | Self::UnknownFeature { .. }
            | Self::Schema { .. }
            | Self::Group { .. }
            | Self::UnknownClass { .. } => StatusCode::BAD_REQUEST,
            Self::Encoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded | Self::Stalled { .. } | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(_) | Self::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the sender speaks of other inputs than the model's.
    #[must_use]
    pub fn is_misfit(&self) -> bool {
        matches!(
            self,
            Self::Input(_) | Self::Tensor { .. } | Self::UnknownFeature { .. } | Self::Schema { .. }
        )
    }

    /// Whether the model is at fault.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Timeout { .. } | Self::Interrupted)
    }

    /// The text for the caller, causes included.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        text
    }
}

impl From<InferError> for Refused {
    fn from(error: InferError) -> Self {
        if error.is_bad_request() { Self::Input(error) } else { Self::Failed(error) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.text() }).to_string();
        (self.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// At most so much of a caller's text goes into an error.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
