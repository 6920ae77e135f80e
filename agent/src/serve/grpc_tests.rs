use super::fixture::Bench;
use super::*;
use axum::http::uri::PathAndQuery;
use prost::Message;
use shoal_proto::grpc::{
    Empty, Flag, HEALTH_SERVICE, HealthCheckRequest, HealthCheckResponse, InferParameter,
    InferRequestedOutput, InferTensor, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadata, ModelName as Named, ParameterChoice, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelRequest, SERVICE, ServerMetadata,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

async fn call<Q, A>(channel: &Channel, service: &str, method: &str, message: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = format!("/{service}/{method}").parse().unwrap();
    let request = tonic::Request::new(message);
    Ok(client.unary(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
}

async fn bench(limits: Limits) -> (Bench, Channel) {
    let bench = Bench::start(limits).await;
    let channel = Endpoint::from_shared(bench.grpc.clone()).unwrap().connect().await.unwrap();
    (bench, channel)
}

fn request(rows: &[f32]) -> ModelInferRequest {
    let count = i64::try_from(rows.len() / 2).unwrap();
    let contents = InferTensorContents { fp32s: rows.to_vec(), ..InferTensorContents::default() };
    ModelInferRequest {
        model_name: "gas".into(),
        id: "mine".into(),
        inputs: vec![InferTensor {
            name: "features".into(),
            datatype: "FP32".into(),
            shape: vec![count, 2],
            contents: Some(contents),
            ..InferTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

async fn infer(channel: &Channel, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
    call(channel, SERVICE, "ModelInfer", request).await
}

#[tokio::test]
async fn typed_and_raw_requests_get_the_same_numbers_and_an_id() {
    let (bench, channel) = bench(Limits::default()).await;
    let typed = infer(&channel, request(&[3.0, 0.0, 0.0, 3.0])).await.unwrap();
    assert_eq!((typed.model_name.as_str(), typed.id.as_str()), ("gas", "mine"));
    assert_eq!(typed.outputs[0].shape, [2, 2]);
    let numbers = &typed.outputs[0].contents.as_ref().unwrap().fp32s;
    assert!(numbers[0] > 0.99 && numbers[3] > 0.99, "{numbers:?}");
    let Some(InferParameter { parameter_choice: Some(ParameterChoice::String(id)) }) =
        typed.parameters.get("prediction_id")
    else {
        panic!("no prediction id")
    };
    assert!(id.starts_with("gas."));

    let mut raw = request(&[]);
    raw.inputs[0].shape = vec![2, 2];
    raw.inputs[0].contents = None;
    let bytes: Vec<u8> = [3.0f32, 0.0, 0.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    raw.raw_input_contents = vec![bytes.into()];
    raw.outputs = vec![InferRequestedOutput { name: "probabilities".into(), ..Default::default() }];
    let raw = infer(&channel, raw).await.unwrap();
    let expected: Vec<u8> = numbers.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(raw.raw_output_contents, [expected]);
    assert!(raw.outputs[0].contents.is_none());
    bench.end().await;
}

#[tokio::test]
async fn what_is_wrong_has_its_code_and_names_the_thing() {
    let (bench, channel) = bench(Limits::default()).await;
    let none = ModelInferRequest { model_name: "none".into(), ..request(&[1.0, 2.0]) };
    let version = ModelInferRequest { model_version: "12345678".into(), ..request(&[1.0, 2.0]) };
    let mut short = request(&[1.0, 2.0]);
    short.inputs[0].shape = vec![2, 2];
    let mut kind = request(&[1.0, 2.0]);
    kind.inputs[0].datatype = "FP99".into();
    let mut empty = request(&[1.0, 2.0]);
    empty.inputs[0].contents = None;
    let raws = ModelInferRequest {
        raw_input_contents: vec![vec![0; 8].into(), vec![].into()],
        ..request(&[1.0, 2.0])
    };
    for (request, code, words) in [
        (none, Code::NotFound, "`none` is not served"),
        (version, Code::NotFound, "no version `12345678`"),
        (short, Code::InvalidArgument, "holds 4 elements, got 2"),
        (kind, Code::InvalidArgument, "unknown datatype `FP99`"),
        (empty, Code::InvalidArgument, "neither `contents` nor raw bytes"),
        (raws, Code::InvalidArgument, "`raw_input_contents` has 2 entries, expected one for each of 1"),
    ] {
        let status = infer(&channel, request).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(words), "{status:?}");
    }
    let unknown = call::<_, Empty>(&channel, SERVICE, "ModelDream", Empty {}).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    bench.end().await;
}

#[tokio::test]
async fn health_metadata_and_repository_are_as_the_protocol_says() {
    let (bench, channel) = bench(Limits { model_control: true, ..Limits::default() }).await;
    let flag = async |method: &str| call::<_, Flag>(&channel, SERVICE, method, Empty {}).await.unwrap().is;
    assert!(flag("ServerLive").await && !flag("ServerReady").await);
    let check = async || {
        let asked = HealthCheckRequest::default();
        call::<_, HealthCheckResponse>(&channel, HEALTH_SERVICE, "Check", asked).await.unwrap().status
    };
    assert_eq!(check().await, 2);
    bench.state.set_ready(true);
    assert!(flag("ServerReady").await && check().await == 1);
    let server: ServerMetadata = call(&channel, SERVICE, "ServerMetadata", Empty {}).await.unwrap();
    assert_eq!(server.name, "shoal-agent");
    let gas = || Named { name: "gas".into(), version: String::new() };
    let model: ModelMetadata = call(&channel, SERVICE, "ModelMetadata", gas()).await.unwrap();
    assert_eq!((model.inputs[0].datatype.as_str(), model.inputs[0].shape.as_slice()), ("FP32", &[-1, 2][..]));

    let index = async || {
        let asked = RepositoryIndexRequest::default();
        let index = call::<_, RepositoryIndexResponse>(&channel, SERVICE, "RepositoryIndex", asked);
        let models = index.await.unwrap().models;
        models.into_iter().map(|model| (model.state, model.reason)).collect::<Vec<_>>()
    };
    let asked = || RepositoryModelRequest { model_name: "gas".into(), ..Default::default() };
    let is_ready = async || call::<_, Flag>(&channel, SERVICE, "ModelReady", gas()).await.unwrap().is;
    assert!(index().await == [("READY".into(), String::new())] && is_ready().await);
    call::<_, Empty>(&channel, SERVICE, "RepositoryModelUnload", asked()).await.unwrap();
    assert!(index().await == [("UNAVAILABLE".into(), "unloaded".into())] && !is_ready().await);
    let status = infer(&channel, request(&[1.0, 2.0])).await.unwrap_err();
    assert!(status.message().contains("is unloaded"), "{status:?}");
    call::<_, Empty>(&channel, SERVICE, "RepositoryModelLoad", asked()).await.unwrap();
    assert!(is_ready().await);
    infer(&channel, request(&[1.0, 2.0])).await.unwrap();
    let mut files = asked();
    files.parameters.insert("config".into(), InferParameter::default());
    let status = call::<_, Empty>(&channel, SERVICE, "RepositoryModelLoad", files).await.unwrap_err();
    assert!(status.message().contains("parameter `config` is not taken"), "{status:?}");
    bench.end().await;
}

#[tokio::test]
async fn loading_is_off_unless_told() {
    let (bench, channel) = bench(Limits::default()).await;
    let asked = RepositoryModelRequest { model_name: "gas".into(), ..Default::default() };
    let status = call::<_, Empty>(&channel, SERVICE, "RepositoryModelUnload", asked).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    infer(&channel, request(&[1.0, 2.0])).await.unwrap();
    bench.end().await;
}
