//! The operator's socket: HTTP on a unix socket, beside the inference routes.

use crate::core::Command;
use crate::core::agent::{Lineage, Mark, Node, Status};
use crate::worker::Replayed;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::MadeBy;
use shoal_proto::fact::VersionRecord;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::manifest::Manifest;
use shoal_proto::package::MAX_PACKAGE_BYTES;
use shoal_watch::Drift;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the loop.
pub const ASK_QUEUE: usize = 16;

/// A question for the loop.
#[derive(Debug)]
pub enum Ask {
    /// The device at a glance.
    Status(oneshot::Sender<Status>),
    /// Every version on disk.
    Versions(oneshot::Sender<Vec<Version>>),
    /// The manifest of the version that serves a model.
    Manifest(ModelName, oneshot::Sender<Option<Arc<Manifest>>>),
    /// What the monitors of a model say.
    Drift(ModelName, oneshot::Sender<Option<Box<Drift>>>),
    /// Where versions come from.
    Lineage(oneshot::Sender<Lineage>),
    /// A version is made again.
    Replay(Digest, oneshot::Sender<Result<Replay, String>>),
    /// A command of the operator's.
    Command(Command, oneshot::Sender<Result<String, String>>),
    /// A package to serve.
    Install(Vec<u8>, oneshot::Sender<Result<String, String>>),
}

/// A version on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its identity.
    pub version: Digest,
    /// What the fleet knows of it.
    #[serde(flatten)]
    pub record: VersionRecord,
}

/// A version that was made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Which version.
    pub version: Digest,
    /// Who made it.
    pub made_by: Option<MadeBy>,
    /// What came out now.
    pub again: Replayed,
}

/// The body of `/control/promote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// Which version, by digest or at least eight digits of it.
    pub version: String,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What happens now.
    pub done: String,
}

#[derive(Debug, Serialize)]
struct Refused {
    error: String,
}

type Asks = mpsc::Sender<Ask>;

/// The routes.
pub fn router(asks: Asks) -> Router {
    let package_limit = usize::try_from(MAX_PACKAGE_BYTES).unwrap_or(usize::MAX);
    Router::new()
        .route("/control/status", get(status))
        .route("/control/versions", get(versions))
        .route("/control/lineage", get(lineage))
        .route("/control/versions/{version}/pin", post(pin))
        .route("/control/versions/{version}/unpin", post(unpin))
        .route("/control/versions/{version}/lift", post(lift))
        .route("/control/versions/{version}/replay", post(replay))
        .route("/control/models/{model}/manifest", get(manifest))
        .route("/control/models/{model}/drift", get(drift))
        .route("/control/models/{model}/train", post(train))
        .route("/control/models/{model}/train/cancel", post(cancel_training))
        .route("/control/models/{model}/rollback", post(rollback))
        .route("/control/models/{model}/promote", post(promote))
        .route("/control/install", post(install).layer(DefaultBodyLimit::max(package_limit)))
        .with_state(asks)
}

async fn ask<T>(asks: &Asks, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Response> {
    let stopping = || refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".into());
    let (answer, answered) = oneshot::channel();
    asks.send(question(answer)).await.map_err(|_closed| stopping())?;
    answered.await.map_err(|_closed| stopping())
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(Refused { error })).into_response()
}

async fn status(State(asks): State<Asks>) -> Result<Json<Status>, Response> {
    ask(&asks, Ask::Status).await.map(Json)
}

async fn versions(State(asks): State<Asks>) -> Result<Json<Vec<Version>>, Response> {
    ask(&asks, Ask::Versions).await.map(Json)
}

async fn manifest(State(asks): State<Asks>, Path(model): Path<ModelName>) -> Result<Response, Response> {
    match ask(&asks, |answer| Ask::Manifest(model.clone(), answer)).await? {
        Some(manifest) => Ok(Json(manifest.as_ref()).into_response()),
        None => Err(refuse(StatusCode::NOT_FOUND, format!("no model `{model}` is served here"))),
    }
}

async fn drift(State(asks): State<Asks>, Path(model): Path<ModelName>) -> Result<Response, Response> {
    match ask(&asks, |answer| Ask::Drift(model.clone(), answer)).await? {
        Some(drift) => Ok(Json(drift).into_response()),
        None => Err(refuse(StatusCode::NOT_FOUND, format!("no model `{model}` is served here"))),
    }
}

async fn command(asks: &Asks, command: Command) -> Result<Json<Done>, Response> {
    match ask(asks, |answer| Ask::Command(command, answer)).await? {
        Ok(done) => Ok(Json(Done { done })),
        Err(error) => Err(refuse(StatusCode::CONFLICT, error)),
    }
}

async fn train(State(asks): State<Asks>, Path(model): Path<ModelName>) -> Result<Json<Done>, Response> {
    command(&asks, Command::Train { model }).await
}

async fn cancel_training(
    State(asks): State<Asks>,
    Path(model): Path<ModelName>,
) -> Result<Json<Done>, Response> {
    command(&asks, Command::CancelTraining { model }).await
}

async fn rollback(State(asks): State<Asks>, Path(model): Path<ModelName>) -> Result<Json<Done>, Response> {
    command(&asks, Command::Rollback { model }).await
}

/// Characters of a version below which a text names none.
const MIN_TEXT: usize = 5;

fn is_named(version: Digest, record: &VersionRecord, text: &str) -> bool {
    record.name == text || version.to_string().starts_with(text)
}

/// A version that is on this device, by its name or by at least five digits of its digest.
async fn resolve(asks: &Asks, text: &str) -> Result<Digest, Response> {
    let known = ask(asks, Ask::Versions).await?;
    let fits: Vec<Digest> =
        known.iter().filter(|one| is_named(one.version, &one.record, text)).map(|one| one.version).collect();
    one_of(&fits, text, "is on this device").map_err(|(status, reason)| refuse(status, reason))
}

/// The one version that a text names.
fn one_of(fits: &[Digest], text: &str, what: &str) -> Result<Digest, (StatusCode, String)> {
    match (fits, text.len() >= MIN_TEXT) {
        ([version], true) => Ok(*version),
        ([], _) => Err((StatusCode::NOT_FOUND, format!("no version `{text}` {what}"))),
        _ => Err((StatusCode::CONFLICT, format!("`{text}` names several versions; give more digits"))),
    }
}

async fn promote(
    State(asks): State<Asks>,
    Path(model): Path<ModelName>,
    Json(body): Json<Promote>,
) -> Result<Json<Done>, Response> {
    let version = resolve(&asks, &body.version).await?;
    command(&asks, Command::Promote { model, version }).await
}

async fn pin(State(asks): State<Asks>, Path(version): Path<String>) -> Result<Json<Done>, Response> {
    let version = resolve(&asks, &version).await?;
    command(&asks, Command::Pin { version, pinned: true }).await
}

async fn unpin(State(asks): State<Asks>, Path(version): Path<String>) -> Result<Json<Done>, Response> {
    let version = resolve(&asks, &version).await?;
    command(&asks, Command::Pin { version, pinned: false }).await
}

/// One that is condemned is mostly no longer on disk: it is looked for among all that the device knows.
async fn lift(State(asks): State<Asks>, Path(text): Path<String>) -> Result<Json<Done>, Response> {
    let is_condemned = |node: &Node| node.marks.iter().any(|mark| matches!(mark, Mark::Condemned { .. }));
    let known = ask(&asks, Ask::Lineage).await?.versions;
    let condemned = known.iter().filter(|node| is_condemned(node));
    let fits: Vec<Digest> = condemned
        .filter(|node| is_named(node.version, &node.record, &text))
        .map(|node| node.version)
        .collect();
    let version =
        one_of(&fits, &text, "is condemned here").map_err(|(status, reason)| refuse(status, reason))?;
    command(&asks, Command::Lift { version }).await
}

async fn lineage(State(asks): State<Asks>) -> Result<Json<Lineage>, Response> {
    ask(&asks, Ask::Lineage).await.map(Json)
}

async fn replay(State(asks): State<Asks>, Path(version): Path<String>) -> Result<Json<Replay>, Response> {
    let version = resolve(&asks, &version).await?;
    match ask(&asks, |answer| Ask::Replay(version, answer)).await? {
        Ok(replay) => Ok(Json(replay)),
        Err(error) => Err(refuse(StatusCode::CONFLICT, error)),
    }
}

async fn install(State(asks): State<Asks>, body: Bytes) -> Result<Json<Done>, Response> {
    match ask(&asks, |answer| Ask::Install(body.to_vec(), answer)).await? {
        Ok(done) => Ok(Json(Done { done })),
        Err(error) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, error)),
    }
}
