//! The Open Inference Protocol v2 over HTTP.

pub(super) mod answer;
pub(super) mod request;

use super::asks::SHOWN;
use super::doing::Doing;
use super::models::ServedModel;
use super::refused::{Refused, shortened};
use super::token::Token;
use super::{ServeState, tensors};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use shoal_onnx::TensorSpec;
use shoal_proto::infer::{AskedOut, SkipIn};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

type Shared = State<Arc<ServeState>>;

/// The server's name in its own metadata.
pub(super) const NAME: &str = "shoal-agent";
/// What runs the models, in Triton's way of naming it.
pub(super) const PLATFORM: &str = "onnx_tract";
/// What the server can beyond the protocol.
pub(super) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "shoal_label"];
/// The caller's name for a request, echoed and logged with what goes wrong.
const REQUEST_ID: &str = "x-request-id";
/// What Prometheus is told the metrics are.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Longest time for a body to come.
const BODY_TIME: Duration = Duration::from_secs(20);

/// All paths of the protocol, Triton's model repository, `/v2/shoal/…` and `/metrics`. With a
/// token, only those who have it are answered, but for the health of the server.
pub fn router(state: Arc<ServeState>, token: Option<Token>) -> Router {
    let open = Router::new()
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .with_state(Arc::clone(&state));
    let guarded = guarded(state);
    let guarded = match token {
        None => guarded,
        Some(token) => guarded.layer(middleware::from_fn_with_state(token, check_token)),
    };
    open.merge(guarded)
}

fn guarded(state: Arc<ServeState>) -> Router {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/models", get(models))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/shoal/label", post(label))
        .route("/v2/shoal/label/next", get(next_asks))
        .route("/v2/shoal/label/skip", post(skip_ask))
        .route("/v2/shoal/serving", get(serving))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

async fn server() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "name": NAME, "version": version, "extensions": EXTENSIONS }))
}

async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

async fn ready(State(state): Shared) -> (StatusCode, Json<Value>) {
    let ready = state.is_ready();
    (status(ready), Json(json!({ "ready": ready })))
}

const fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn models(State(state): Shared) -> Json<Value> {
    let names: Vec<_> = state.models.all().iter().map(|served| served.name().clone()).collect();
    Json(json!({ "models": names }))
}

/// The names in a path: the version is absent in half of them.
#[derive(Debug, serde::Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: Option<String>,
}

impl Named {
    fn find(&self, state: &ServeState) -> Result<Arc<ServedModel>, Refused> {
        state.models.get(&self.model, self.version.as_deref())
    }
}

async fn metadata(State(state): Shared, Path(named): Path<Named>) -> Result<Json<Value>, Refused> {
    let served = named.find(&state)?;
    let specs = |specs: &[TensorSpec]| specs.iter().map(tensor_metadata).collect::<Vec<_>>();
    Ok(Json(json!({
        "name": served.name(),
        "versions": [served.version()],
        "platform": PLATFORM,
        "inputs": specs(served.predictor().inputs()),
        "outputs": specs(served.predictor().outputs()),
        "parameters": { "schema": served.info().record.schema },
    })))
}

fn tensor_metadata(spec: &TensorSpec) -> Value {
    let shape: Vec<i64> = spec.dims.iter().map(|dim| dim.unwrap_or(-1)).collect();
    json!({ "name": spec.name, "datatype": tensors::name_of(spec.datatype), "shape": shape })
}

async fn model_ready(
    State(state): Shared,
    Path(named): Path<Named>,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let served = named.find(&state)?;
    let ready = !served.is_stalled();
    Ok((status(ready), Json(json!({ "name": served.name(), "ready": ready }))))
}

async fn infer(
    State(state): Shared,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, Refused> {
    let served = named.find(&state)?;
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let body = read_body(&state, headers, body).await?;
    let request = state.counted(&served, request::read(headers, &body))?;
    request.wanted.check(&served)?;
    let Some(name) = headers.get(REQUEST_ID) else {
        let answer = state.predict(served, request.inputs, &request.parameters).await?;
        return answer::write(answer, request.id, &request.wanted);
    };
    let span = tracing::info_span!("request", id = %shortened(&String::from_utf8_lossy(name.as_bytes())));
    let answer = state.predict(served, request.inputs, &request.parameters).instrument(span).await;
    let written = answer.and_then(|answer| answer::write(answer, request.id, &request.wanted));
    let mut response = written.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(REQUEST_ID, name.clone());
    Ok(response)
}

async fn check_token(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.is_in(request.headers()) {
        next.run(request).await
    } else {
        Refused::Unauthorized.into_response()
    }
}

async fn serving(State(state): Shared) -> Json<Vec<Doing>> {
    Json(state.models.all().iter().map(|served| served.doing()).collect())
}

async fn metrics(State(state): Shared) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics_text())
}

async fn index(State(state): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Refused> {
    let wish = read_object(&state, &headers, body).await?;
    let only_ready = wish.get("ready").and_then(Value::as_bool).unwrap_or(false);
    let models: Vec<_> = state
        .index(only_ready)
        .into_iter()
        .map(|listed| {
            json!({
                "name": listed.model,
                "version": listed.version,
                "state": listed.state(),
                "reason": listed.reason.unwrap_or_default(),
            })
        })
        .collect();
    Ok(Json(Value::Array(models)))
}

async fn load(
    State(state): Shared,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let wish = read_object(&state, &headers, body).await?;
    state.load(&named.model, parameters(&wish)).await?;
    Ok(StatusCode::OK)
}

async fn unload(
    State(state): Shared,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let wish = read_object(&state, &headers, body).await?;
    state.unload(&named.model, parameters(&wish))?;
    Ok(StatusCode::OK)
}

fn parameters(wish: &Map<String, Value>) -> impl Iterator<Item = &str> {
    wish.get("parameters").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// A JSON object, or nothing at all.
async fn read_object(
    state: &ServeState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Map<String, Value>, Refused> {
    let body = read_body(state, headers, body).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&body).map_err(|cause| Refused::Malformed { reason: cause.to_string() })
}

async fn label(State(state): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Refused> {
    let body = read_body(&state, &headers, body).await?;
    let label =
        serde_json::from_slice(&body).map_err(|cause| Refused::Malformed { reason: cause.to_string() })?;
    let status = state.label(label).await?;
    Ok(Json(json!({ "status": status })))
}

/// `?model=M&n=5`.
#[derive(Debug, serde::Deserialize)]
struct Wanted {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    n: Option<usize>,
}

async fn next_asks(
    State(state): Shared,
    next: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<AskedOut>, Refused> {
    let Query(Wanted { model, n }) =
        next.map_err(|cause| Refused::Malformed { reason: cause.body_text() })?;
    state.next_asks(model.as_deref(), n.unwrap_or(SHOWN)).map(Json)
}

async fn skip_ask(State(state): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Refused> {
    let body = read_body(&state, &headers, body).await?;
    let skip: SkipIn =
        serde_json::from_slice(&body).map_err(|cause| Refused::Malformed { reason: cause.to_string() })?;
    state.skip_ask(&skip)?;
    Ok(Json(json!({ "status": "skipped" })))
}

async fn read_body(state: &ServeState, headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        return Err(Refused::Encoding { encoding: shortened(&String::from_utf8_lossy(encoding.as_bytes())) });
    }
    let limit = state.limits.max_body_bytes;
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(Refused::TooLarge { limit });
    }
    let whole = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, limit));
    let whole = whole.await.map_err(|_late| Refused::SlowBody { seconds: BODY_TIME.as_secs() })?;
    whole.map_err(|cause| {
        let cause = cause.into_inner();
        match cause.is::<http_body_util::LengthLimitError>() {
            true => Refused::TooLarge { limit },
            false => Refused::Malformed { reason: cause.to_string() },
        }
    })
}

async fn unknown_path(uri: Uri) -> Refused {
    Refused::UnknownPath { path: shortened(uri.path()) }
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    Refused::Method { method: shortened(method.as_str()), path: shortened(uri.path()) }.into_response()
}
