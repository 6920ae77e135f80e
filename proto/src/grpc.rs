//! The messages of `inference.GRPCInferenceService`, the gRPC twin of the Open Inference Protocol v2,
//! with Triton's model repository extension, and of `grpc.health.v1.Health`.
//!
//! Field numbers are the protocol's. Tensors are given either as typed `contents` or, quicker, as raw
//! little-endian bytes beside the message, in the order of the tensors.

use prost::bytes::Bytes;
use prost::{Message, Oneof};
use std::collections::BTreeMap;

/// The service's name in paths.
pub const SERVICE: &str = "inference.GRPCInferenceService";
/// The health service's name in paths.
pub const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// A request that says nothing.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// Answer of `ServerLive`, `ServerReady` and `ModelReady`.
#[derive(Clone, PartialEq, Message)]
pub struct Flag {
    /// Whether it is.
    #[prost(bool, tag = "1")]
    pub is: bool,
}

/// Answer of `ServerMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ServerMetadata {
    /// The server's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// What it can beyond the protocol.
    #[prost(string, repeated, tag = "3")]
    pub extensions: Vec<String>,
}

/// Request of `ModelReady` and `ModelMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ModelName {
    /// Which model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Which version; empty: the one that serves.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Answer of `ModelMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ModelMetadata {
    /// Which model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Versions that serve.
    #[prost(string, repeated, tag = "2")]
    pub versions: Vec<String>,
    /// What runs it.
    #[prost(string, tag = "3")]
    pub platform: String,
    /// What it takes.
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<TensorMetadata>,
}

/// A tensor of a model.
#[derive(Clone, PartialEq, Message)]
pub struct TensorMetadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `FP32`, `INT64` …
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Sizes; −1 is open.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

/// A parameter of a request, an answer or a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct InferParameter {
    /// Its value.
    #[prost(oneof = "ParameterChoice", tags = "1, 2, 3, 4, 5")]
    pub parameter_choice: Option<ParameterChoice>,
}

/// The value of a parameter.
#[derive(Clone, PartialEq, Oneof)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ParameterChoice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(uint64, tag = "5")]
    Uint64(u64),
}

/// Elements of a tensor, in the one list that its datatype uses.
#[derive(Clone, PartialEq, Message)]
pub struct InferTensorContents {
    /// BOOL.
    #[prost(bool, repeated, tag = "1")]
    pub bools: Vec<bool>,
    /// INT8, INT16, INT32.
    #[prost(int32, repeated, tag = "2")]
    pub ints: Vec<i32>,
    /// INT64.
    #[prost(int64, repeated, tag = "3")]
    pub int64s: Vec<i64>,
    /// UINT8, UINT16, UINT32.
    #[prost(uint32, repeated, tag = "4")]
    pub uints: Vec<u32>,
    /// UINT64.
    #[prost(uint64, repeated, tag = "5")]
    pub uint64s: Vec<u64>,
    /// FP32.
    #[prost(float, repeated, tag = "6")]
    pub fp32s: Vec<f32>,
    /// FP64.
    #[prost(double, repeated, tag = "7")]
    pub fp64s: Vec<f64>,
    /// BYTES.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub bytes: Vec<Bytes>,
}

/// A tensor of a request or an answer.
#[derive(Clone, PartialEq, Message)]
pub struct InferTensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `FP32`, `INT64` …
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Sizes.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    /// Passed over.
    #[prost(btree_map = "string, message", tag = "4")]
    pub parameters: BTreeMap<String, InferParameter>,
    /// The elements, where they are not raw.
    #[prost(message, optional, tag = "5")]
    pub contents: Option<InferTensorContents>,
}

/// An output that a request names.
#[derive(Clone, PartialEq, Message)]
pub struct InferRequestedOutput {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Passed over.
    #[prost(btree_map = "string, message", tag = "2")]
    pub parameters: BTreeMap<String, InferParameter>,
}

/// Request of `ModelInfer`.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferRequest {
    /// Which model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Which version; empty: the one that serves.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// Only echoed.
    #[prost(string, tag = "3")]
    pub id: String,
    /// The groups that it names, and the `schema` that its sender was made for; others are passed over.
    #[prost(btree_map = "string, message", tag = "4")]
    pub parameters: BTreeMap<String, InferParameter>,
    /// The tensors.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<InferTensor>,
    /// Which outputs; none: all.
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<InferRequestedOutput>,
    /// The elements of all inputs, in their order, where they are raw.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw_input_contents: Vec<Bytes>,
}

/// Answer of `ModelInfer`; `parameters["prediction_id"]` is what a label refers to.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferResponse {
    /// Which model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Which version.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// The request's own id.
    #[prost(string, tag = "3")]
    pub id: String,
    /// `prediction_id`.
    #[prost(btree_map = "string, message", tag = "4")]
    pub parameters: BTreeMap<String, InferParameter>,
    /// The tensors.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<InferTensor>,
    /// The elements of all outputs, in their order, where they are raw.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub raw_output_contents: Vec<Bytes>,
}

/// Request of `RepositoryIndex`.
#[derive(Clone, PartialEq, Message)]
pub struct RepositoryIndexRequest {
    /// Passed over: there is one repository.
    #[prost(string, tag = "1")]
    pub repository_name: String,
    /// Only models that are ready.
    #[prost(bool, tag = "2")]
    pub ready: bool,
}

/// Answer of `RepositoryIndex`.
#[derive(Clone, PartialEq, Message)]
pub struct RepositoryIndexResponse {
    /// The models.
    #[prost(message, repeated, tag = "1")]
    pub models: Vec<ModelIndex>,
}

/// A model of the repository.
#[derive(Clone, PartialEq, Message)]
pub struct ModelIndex {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// `READY` or `UNAVAILABLE`.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Why it is in that state.
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// Request of `RepositoryModelLoad` and `RepositoryModelUnload`.
#[derive(Clone, PartialEq, Message)]
pub struct RepositoryModelRequest {
    /// Passed over: there is one repository.
    #[prost(string, tag = "1")]
    pub repository_name: String,
    /// Which model.
    #[prost(string, tag = "2")]
    pub model_name: String,
    /// What Triton lets a caller set: refused here but for `unload_dependents`.
    #[prost(btree_map = "string, message", tag = "3")]
    pub parameters: BTreeMap<String, InferParameter>,
}

/// Request of `Health/Check`.
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheckRequest {
    /// Empty for the whole server.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// Answer of `Health/Check`.
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheckResponse {
    /// 1 serving, 2 not serving.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
