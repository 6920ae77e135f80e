//! HTTP: the operators' API and page, and the devices' artifacts.

mod artifacts;
pub mod error;

use crate::clock::Clock;
use crate::core::view::AbortBody;
use crate::core::{Answer, Request};
use crate::courier::Traffic;
use crate::registry::Registry;
use crate::serve::Asker;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use error::ApiError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shoal_proto::package::MAX_PACKAGE_BYTES;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest body of a request that carries no package.
const MAX_JSON_BYTES: usize = 256 * 1024;
/// Packages checked at once: each is in memory as a whole, twice.
const PUSHES: usize = 1;
/// Media type of a package; a browser sends it to another site only after asking that site.
const PACKAGE_TYPE: &str = "application/octet-stream";
/// What the page may load: nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const PAGE: &str = include_str!("page.html");

/// What handlers share.
#[derive(Debug, Clone)]
pub struct State {
    asker: Asker,
    registry: Arc<Registry>,
    clock: Clock,
    traffic: Arc<Traffic>,
    pushes: Arc<Semaphore>,
    blocking: TaskTracker,
}

impl State {
    /// Shared state over the core and the registry.
    #[must_use]
    pub fn new(asker: Asker, registry: Arc<Registry>, clock: Clock, traffic: Arc<Traffic>) -> Self {
        let pushes = Arc::new(Semaphore::new(PUSHES));
        Self { asker, registry, clock, traffic, pushes, blocking: TaskTracker::new() }
    }

    async fn ask(&self, request: Request) -> Result<axum::Json<Answer>, ApiError> {
        Ok(axum::Json(self.asker.ask(request).await??))
    }
}

type Answered = Result<axum::Json<Answer>, ApiError>;

/// Serves until cancelled; open requests may end.
pub async fn run(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let stop = async move { cancel.cancelled().await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "http server failed");
    }
}

/// The operators' side.
pub fn operators(state: State) -> Router {
    let packages = usize::try_from(MAX_PACKAGE_BYTES).unwrap_or(usize::MAX);
    Router::new()
        .route("/", get(page))
        .route("/api/v1/health", get(health))
        .route("/api/v1/key", get(key))
        .route("/api/v1/devices", get(list_devices))
        .route("/api/v1/devices/{id}", get(device).delete(remove_device))
        .route("/api/v1/devices/{id}/tags", put(tag_device))
        .route("/api/v1/devices/{id}/commands", post(give_command))
        .route("/api/v1/devices/{id}/commands/{number}", get(command).delete(withdraw_command))
        .route("/api/v1/models", get(models).post(push).layer(DefaultBodyLimit::max(packages)))
        .route("/api/v1/models/{name}", get(model))
        .route("/api/v1/versions/{version}/condemnation", put(condemn))
        .route("/api/v1/artifacts/{digest}/chunks", get(artifacts::chunks))
        .route("/api/v1/drift", get(drift))
        .route("/api/v1/rollouts", get(rollouts).post(create_rollout))
        .route("/api/v1/rollouts/{id}", get(rollout))
        .route("/api/v1/rollouts/{id}/abort", post(abort_rollout))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .with_state(state)
}

/// The devices' side.
pub fn devices(state: State) -> Router {
    Router::new()
        .route("/artifacts/{digest}", get(artifacts::artifact))
        .route("/artifacts/{digest}/chunks", get(artifacts::chunks))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(state)
}

async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE)).into_response()
}

async fn health(Shared(state): Shared<State>) -> Answered {
    let mut answer = state.ask(Request::Health).await?;
    if let Answer::Health(view) = &mut answer.0 {
        view.archives = state.traffic.view();
    }
    Ok(answer)
}

async fn key(Shared(state): Shared<State>) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "public_key": state.registry.public_key() }))
}

/// Reads a path parameter.
fn parse<T: std::str::FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ApiError::Invalid { reason: error.to_string() })
}

/// Reads a JSON body. Only as `application/json`: a browser sends that to another site only after
/// asking that site.
fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    expect_type(headers, "application/json")?;
    serde_json::from_slice(body).map_err(|error| ApiError::Invalid { reason: error.to_string() })
}

fn expect_type(headers: &HeaderMap, expected: &'static str) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if found.split(';').next().unwrap_or_default().trim() == expected {
        return Ok(());
    }
    Err(ApiError::MediaType { expected, found: found.to_owned() })
}

async fn list_devices(Shared(state): Shared<State>) -> Answered {
    state.ask(Request::Devices).await
}

async fn device(Shared(state): Shared<State>, Path(id): Path<String>) -> Answered {
    state.ask(Request::Device(parse(&id)?)).await
}

async fn remove_device(Shared(state): Shared<State>, Path(id): Path<String>) -> Answered {
    state.ask(Request::RemoveDevice { device: parse(&id)? }).await
}

async fn tag_device(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let tags: BTreeMap<String, String> = json(&headers, &body)?;
    state.ask(Request::TagDevice { device: parse(&id)?, tags }).await
}

async fn give_command(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let wish = Box::new(json(&headers, &body)?);
    state.ask(Request::GiveCommand { device: parse(&id)?, wish }).await
}

async fn command(Shared(state): Shared<State>, Path((id, number)): Path<(String, String)>) -> Answered {
    state.ask(Request::Command { device: parse(&id)?, id: parse(&number)? }).await
}

async fn withdraw_command(
    Shared(state): Shared<State>,
    Path((id, number)): Path<(String, String)>,
) -> Answered {
    state.ask(Request::WithdrawCommand { device: parse(&id)?, id: parse(&number)? }).await
}

async fn models(Shared(state): Shared<State>) -> Answered {
    state.ask(Request::Versions(None)).await
}

async fn model(Shared(state): Shared<State>, Path(name): Path<String>) -> Answered {
    state.ask(Request::Versions(Some(parse(&name)?))).await
}

async fn push(Shared(state): Shared<State>, headers: HeaderMap, body: Bytes) -> Result<Response, ApiError> {
    expect_type(&headers, PACKAGE_TYPE)?;
    let _turn = state.pushes.acquire().await.map_err(|_closed| ApiError::Stopping)?;
    let (registry, now) = (Arc::clone(&state.registry), state.clock.now().wall);
    let taken = state.blocking.spawn_blocking(move || registry.take(&body, now)).await;
    let model = taken.map_err(|_panicked| ApiError::Internal { what: "checking the package" })??;
    let answer = state.asker.ask(Request::PushModel(Box::new(model))).await??;
    let created = matches!(answer, Answer::Version { created: true, .. });
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(answer)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CondemnBody {
    #[serde(default)]
    reason: String,
    holds: bool,
}

async fn condemn(
    Shared(state): Shared<State>,
    Path(version): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let CondemnBody { reason, holds } = json(&headers, &body)?;
    state.ask(Request::CondemnVersion { version, reason, holds }).await
}

#[derive(Debug, Deserialize)]
struct DriftQuery {
    model: Option<String>,
}

async fn drift(Shared(state): Shared<State>, Query(query): Query<DriftQuery>) -> Answered {
    let model = query.model.map(|model| parse(&model)).transpose()?;
    state.ask(Request::Drift(model)).await
}

async fn rollouts(Shared(state): Shared<State>) -> Answered {
    state.ask(Request::Rollouts).await
}

async fn create_rollout(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let wish = json(&headers, &body)?;
    let answer = state.ask(Request::CreateRollout(Box::new(wish))).await?;
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn rollout(Shared(state): Shared<State>, Path(id): Path<String>) -> Answered {
    state.ask(Request::Rollout(parse(&id)?)).await
}

async fn abort_rollout(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let AbortBody { mode } = json(&headers, &body)?;
    state.ask(Request::AbortRollout { rollout: parse(&id)?, mode }).await
}
