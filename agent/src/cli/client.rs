//! A client of the running agent, over its control socket.

use super::args::{LabelArgs, PredictArgs};
use super::offline;
use crate::control::{Done, Promote, Replay, Version};
use crate::core::agent::{Lineage, Status};
use crate::serve::Doing;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shoal_proto::id::ModelName;
use shoal_proto::infer::{AskedOut, InferResponse};
use shoal_proto::manifest::Manifest;
use shoal_watch::Drift;
use std::path::{Path, PathBuf};

/// The agent's answer, or none.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no agent answers on `{socket}`")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The agent says no.
    #[error("{reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The answer is not one.
    #[error("the agent's answer cannot be read: {reason}")]
    Answer {
        /// Why.
        reason: String,
    },
}

/// A connection to one agent.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(socket: &Path) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .build()
            .map_err(|cause| ClientError::Answer { reason: cause.to_string() })?;
        Ok(Self { http, socket: socket.to_owned() })
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let ok = response.status().is_success();
        let bytes = response.bytes().await.map_err(unreachable)?;
        let answer = |cause: serde_json::Error| ClientError::Answer { reason: cause.to_string() };
        if ok {
            return serde_json::from_slice(&bytes).map_err(answer);
        }
        let refusal: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let reason = refusal["error"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), str::to_owned);
        Err(ClientError::Refused { reason })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(self.http.get(format!("http://agent{path}"))).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        self.send(self.http.post(format!("http://agent{path}")).json(body)).await
    }

    pub(super) async fn status(&self) -> Result<Status, ClientError> {
        self.get("/control/status").await
    }

    pub(super) async fn serving(&self) -> Result<Vec<Doing>, ClientError> {
        self.get("/v2/shoal/serving").await
    }

    pub(super) async fn versions(&self) -> Result<Vec<Version>, ClientError> {
        self.get("/control/versions").await
    }

    pub(super) async fn lineage(&self) -> Result<Lineage, ClientError> {
        self.get("/control/lineage").await
    }

    pub(super) async fn lift(&self, version: &str) -> Result<Done, ClientError> {
        self.post(&format!("/control/versions/{version}/lift"), &json!({})).await
    }

    pub(super) async fn pin(&self, version: &str, pinned: bool) -> Result<Done, ClientError> {
        let what = if pinned { "pin" } else { "unpin" };
        self.post(&format!("/control/versions/{version}/{what}"), &json!({})).await
    }

    pub(super) async fn replay(&self, version: &str) -> Result<Replay, ClientError> {
        self.post(&format!("/control/versions/{version}/replay"), &json!({})).await
    }

    pub(super) async fn drift(&self, model: &ModelName) -> Result<Drift, ClientError> {
        self.get(&format!("/control/models/{model}/drift")).await
    }

    pub(super) async fn order(&self, model: &ModelName, what: &str) -> Result<Done, ClientError> {
        self.post(&format!("/control/models/{model}/{what}"), &json!({})).await
    }

    pub(super) async fn promote(&self, model: &ModelName, version: &str) -> Result<Done, ClientError> {
        let body = Promote { version: version.to_owned() };
        self.post(&format!("/control/models/{model}/promote"), &body).await
    }

    pub(super) async fn install(&self, file: &Path) -> Result<Done, ClientError> {
        let bytes = std::fs::read(file).map_err(|cause| ClientError::Refused {
            reason: format!("failed to read `{}`: {cause}", file.display()),
        })?;
        self.send(self.http.post("http://agent/control/install").body(bytes)).await
    }

    pub(super) async fn next_asks(
        &self,
        model: Option<&ModelName>,
        count: usize,
    ) -> Result<AskedOut, ClientError> {
        let model = model.map_or_else(String::new, |model| format!("&model={model}"));
        self.get(&format!("/v2/shoal/label/next?n={count}{model}")).await
    }

    /// Gives the label that is in the arguments, or skips the row that is.
    pub(super) async fn label(&self, args: &LabelArgs) -> Result<Value, ClientError> {
        let LabelArgs { prediction_id, label, source, skip, .. } = args;
        if let Some(id) = skip {
            return self.post("/v2/shoal/label/skip", &json!({ "prediction_id": id })).await;
        }
        let label = label.as_deref().unwrap_or_default();
        let label = label
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && n.fract() != 0.0)
            .map_or_else(|| json!(label), |n| json!(n));
        let body = json!({ "prediction_id": prediction_id, "label": label, "source": source });
        self.post("/v2/shoal/label", &body).await
    }

    pub(super) async fn predict(&self, args: &PredictArgs) -> Result<Value, ClientError> {
        let model = match &args.model {
            Some(model) => model.clone(),
            None => match self.status().await?.models.as_slice() {
                [only] => only.model.clone(),
                several => {
                    let reason = format!("{} models are served; name one with --model", several.len());
                    return Err(ClientError::Refused { reason });
                }
            },
        };
        let manifest: Manifest = self.get(&format!("/control/models/{model}/manifest")).await?;
        let names: Vec<String> = manifest.features.iter().map(|feature| feature.name.clone()).collect();
        let rows = offline::rows(args, &names).map_err(|reason| ClientError::Refused { reason })?;
        let input = json!({
            "name": manifest.input.tensor, "datatype": "FP32", "shape": [rows.len(), names.len()],
            "data": rows.iter().flatten().map(|cell| cell.is_finite().then_some(*cell)).collect::<Vec<_>>(),
        });
        let body = json!({ "inputs": [input] });
        let answer: InferResponse = self.post(&format!("/v2/models/{model}/infer"), &body).await?;
        let output =
            answer.outputs.iter().find(|output| output.name == manifest.output.tensor).ok_or_else(|| {
                ClientError::Answer { reason: format!("no output `{}`", manifest.output.tensor) }
            })?;
        let values: Vec<f32> = serde_json::from_value(output.data.clone())
            .map_err(|cause| ClientError::Answer { reason: cause.to_string() })?;
        let width = (values.len() / rows.len().max(1)).max(1);
        let predictions: Vec<_> =
            values.chunks(width).map(|row| offline::prediction(&manifest, row)).collect();
        Ok(json!({
            "model": model,
            "version": answer.model_version,
            "prediction_id": answer.parameters.get("prediction_id"),
            "predictions": predictions,
        }))
    }
}
