//! The Open Inference Protocol v2 over gRPC (HTTP/2 with prior knowledge), with Triton's model
//! repository extension and `grpc.health.v1.Health/Check`.

mod convert;

use super::ServeState;
use super::refused::{Refused, shortened};
use super::rest::{EXTENSIONS, NAME, PLATFORM};
use super::tensors::name_of;
use super::token::Token;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message;
use shoal_onnx::TensorSpec;
use shoal_proto::grpc::{
    Empty, Flag, HEALTH_SERVICE, HealthCheckRequest, HealthCheckResponse, ModelIndex, ModelInferRequest,
    ModelInferResponse, ModelMetadata, ModelName, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelRequest, SERVICE, ServerMetadata, TensorMetadata,
};
use std::sync::Arc;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// `SERVING` of the health protocol.
const SERVING: i32 = 1;
/// `NOT_SERVING`.
const NOT_SERVING: i32 = 2;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Grpc {
    state: Arc<ServeState>,
    token: Option<Token>,
}

impl Grpc {
    /// Serves these models; with a token, only to those who have it.
    #[must_use]
    pub fn new(state: Arc<ServeState>, token: Option<Token>) -> Self {
        Self { state, token }
    }

    /// Answers one call; errors are in the answer's trailers.
    pub(super) async fn call(self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        let is_open = service == HEALTH_SERVICE || matches!(method, "ServerLive" | "ServerReady");
        if let Some(token) = self.token.as_ref().filter(|_| !is_open)
            && !token.is_in(request.headers())
        {
            return status(&Refused::Unauthorized).into_http();
        }
        let state = self.state;
        match (service, method) {
            (SERVICE, "ModelInfer") => unary(request, state, infer).await,
            (SERVICE, "ServerLive") => unary(request, state, live).await,
            (SERVICE, "ServerReady") => unary(request, state, ready).await,
            (SERVICE, "ModelReady") => unary(request, state, model_ready).await,
            (SERVICE, "ServerMetadata") => unary(request, state, server_metadata).await,
            (SERVICE, "ModelMetadata") => unary(request, state, model_metadata).await,
            (SERVICE, "RepositoryIndex") => unary(request, state, index).await,
            (SERVICE, "RepositoryModelLoad") => unary(request, state, load).await,
            (SERVICE, "RepositoryModelUnload") => unary(request, state, unload).await,
            (HEALTH_SERVICE, "Check") => unary(request, state, check).await,
            _ => Status::unimplemented(format!("`{}` is not served here", shortened(path))).into_http(),
        }
    }
}

type Shared = Arc<ServeState>;

/// Reads the one message, answers it, writes the answer.
async fn unary<Q, A, F>(
    request: Request<Incoming>,
    state: Shared,
    handle: fn(Shared, Q) -> F,
) -> Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
    F: Future<Output = Result<A, Refused>> + Send,
{
    let limit = state.limits.max_body_bytes;
    let service = tower::service_fn(move |call: tonic::Request<Q>| {
        let answer = handle(Arc::clone(&state), call.into_inner());
        async move { answer.await.map(tonic::Response::new).map_err(|refused| status(&refused)) }
    });
    let codec = ProstCodec::<A, Q>::default();
    tonic::server::Grpc::new(codec).max_decoding_message_size(limit).unary(service, request).await
}

async fn infer(state: Shared, call: ModelInferRequest) -> Result<ModelInferResponse, Refused> {
    let served = state.models.get(&call.model_name, Some(&call.model_version))?;
    let asked = state.counted(&served, convert::read(call))?;
    asked.wanted.check(&served)?;
    let answer = state.predict(served, asked.inputs, &asked.parameters).await?;
    Ok(convert::write(answer, asked.id, &asked.wanted, asked.is_raw))
}

async fn live(_: Shared, _: Empty) -> Result<Flag, Refused> {
    Ok(Flag { is: true })
}

async fn ready(state: Shared, _: Empty) -> Result<Flag, Refused> {
    Ok(Flag { is: state.is_ready() })
}

async fn model_ready(state: Shared, call: ModelName) -> Result<Flag, Refused> {
    Ok(Flag {
        is: state.models.get(&call.name, Some(&call.version)).is_ok_and(|served| !served.is_stalled()),
    })
}

async fn server_metadata(_: Shared, _: Empty) -> Result<ServerMetadata, Refused> {
    Ok(ServerMetadata {
        name: NAME.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: EXTENSIONS.map(str::to_owned).into(),
    })
}

async fn model_metadata(state: Shared, call: ModelName) -> Result<ModelMetadata, Refused> {
    let served = state.models.get(&call.name, Some(&call.version))?;
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: name_of(spec.datatype).into(),
            shape: spec.dims.iter().map(|dim| dim.unwrap_or(-1)).collect(),
        };
        specs.iter().map(tensor).collect()
    };
    Ok(ModelMetadata {
        name: served.name().to_string(),
        versions: vec![served.version().into()],
        platform: PLATFORM.into(),
        inputs: tensors(served.predictor().inputs()),
        outputs: tensors(served.predictor().outputs()),
    })
}

async fn index(state: Shared, call: RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Refused> {
    let models = state.index(call.ready).into_iter().map(|listed| ModelIndex {
        name: listed.model.to_string(),
        version: listed.version.to_string(),
        state: listed.state().into(),
        reason: listed.reason.unwrap_or_default().into(),
    });
    Ok(RepositoryIndexResponse { models: models.collect() })
}

async fn load(state: Shared, call: RepositoryModelRequest) -> Result<Empty, Refused> {
    state.load(&call.model_name, call.parameters.keys().map(String::as_str)).await?;
    Ok(Empty {})
}

async fn unload(state: Shared, call: RepositoryModelRequest) -> Result<Empty, Refused> {
    state.unload(&call.model_name, call.parameters.keys().map(String::as_str))?;
    Ok(Empty {})
}

async fn check(state: Shared, _: HealthCheckRequest) -> Result<HealthCheckResponse, Refused> {
    Ok(HealthCheckResponse { status: if state.is_ready() { SERVING } else { NOT_SERVING } })
}

fn status(refused: &Refused) -> Status {
    let code = match refused.status() {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::CONFLICT => Code::FailedPrecondition,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::INTERNAL_SERVER_ERROR => Code::Internal,
        _ => Code::InvalidArgument,
    };
    Status::new(code, refused.text())
}
