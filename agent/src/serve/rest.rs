//! The Open Inference Protocol v2 over HTTP.

mod answer;
mod request;

use super::models::ServedModel;
use super::refused::{Refused, shortened};
use super::{ServeState, tensors};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use shoal_onnx::TensorSpec;
use std::sync::Arc;

type Shared = State<Arc<ServeState>>;

/// The server's name in its own metadata.
const NAME: &str = "shoal-agent";
/// What runs the models, in Triton's way of naming it.
const PLATFORM: &str = "onnx_tract";

/// All paths of the protocol, and `POST /v2/shoal/label`.
pub fn router(state: Arc<ServeState>) -> Router {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models", get(models))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .route("/v2/shoal/label", post(label))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

async fn server() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "name": NAME, "version": version, "extensions": ["binary_tensor_data"] }))
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
        "versions": [served.info().version],
        "platform": PLATFORM,
        "inputs": specs(served.predictor().inputs()),
        "outputs": specs(served.predictor().outputs()),
    })))
}

fn tensor_metadata(spec: &TensorSpec) -> Value {
    let shape: Vec<i64> = spec.dims.iter().map(|dim| dim.unwrap_or(-1)).collect();
    json!({ "name": spec.name, "datatype": tensors::name_of(spec.datatype), "shape": shape })
}

async fn model_ready(State(state): Shared, Path(named): Path<Named>) -> Result<Json<Value>, Refused> {
    let served = named.find(&state)?;
    Ok(Json(json!({ "name": served.name(), "ready": true })))
}

async fn infer(
    State(state): Shared,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let served = named.find(&state)?;
    let body = read_body(&state, &headers, body).await?;
    let request = request::read(&headers, &body)?;
    request.wanted.check(&served)?;
    let answer = state.predict(served, request.inputs).await?;
    answer::write(answer, request.id, &request.wanted)
}

async fn label(State(state): Shared, headers: HeaderMap, body: Body) -> Result<Json<Value>, Refused> {
    let body = read_body(&state, &headers, body).await?;
    let label =
        serde_json::from_slice(&body).map_err(|cause| Refused::Malformed { reason: cause.to_string() })?;
    let status = state.label(label).await?;
    Ok(Json(json!({ "status": status })))
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
    axum::body::to_bytes(body, limit).await.map_err(|cause| {
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
