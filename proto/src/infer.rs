//! What applications and the agent say to each other: Open Inference Protocol v2 over HTTP, and the
//! JSON payloads of the local MQTT topics.

use crate::finding::{Finding, ModelHealth};
use crate::id::{DeviceId, Digest, Incarnation, ModelName};
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Parameters of a request, an answer or a tensor.
pub type Parameters = BTreeMap<String, Value>;

/// `POST /v2/models/{model}/infer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InferRequest {
    /// Only echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The groups that it names, and the `schema` that its sender was made for; others are passed over.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The tensors.
    pub inputs: Vec<TensorJson>,
    /// Which outputs; absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputWanted>,
}

/// An output that a request names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutputWanted {
    /// Its name.
    pub name: String,
    /// Passed over.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// A tensor in JSON: `data` flat or nested, row-major.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TensorJson {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// `FP32`, `INT64` …
    pub datatype: String,
    /// Passed over.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Its numbers.
    pub data: Value,
}

/// The answer to an [`InferRequest`]; `parameters.prediction_id` is what a label refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InferResponse {
    /// Which model.
    pub model_name: String,
    /// Which version.
    pub model_version: String,
    /// The request's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `prediction_id`.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The tensors.
    pub outputs: Vec<TensorJson>,
}

/// Local topic `in/features`: one row or several, each a list in the manifest's order or an object by
/// feature name. Besides this, an [`InferRequest`] with a `model` is taken, for models of tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeaturesIn {
    /// Which model; absent where the agent serves only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Echoed in the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// One row.
    #[serde(default, alias = "features", skip_serializing_if = "Option::is_none")]
    pub row: Option<RowIn>,
    /// Several rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowIn>,
    /// The groups that it names, and the `schema` that its sender was made for.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// A row of features; `null` is a missing value, and so is a name left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "a row must be a list of numbers or an object of numbers by feature name")]
pub enum RowIn {
    /// In the manifest's order.
    List(Vec<Option<f64>>),
    /// By feature name, in any order.
    Named(BTreeMap<String, Option<f64>>),
}

/// Local topic `in/label`, and `POST /v2/shoal/label`: the truth about an earlier prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LabelIn {
    /// `prediction_id` of the answer; a row of a batch is `id#row`.
    pub prediction_id: String,
    /// A class name, or a number for regression.
    pub label: Value,
    /// Who says so.
    #[serde(default = "application", skip_serializing_if = "String::is_empty")]
    pub source: String,
}

fn application() -> String {
    "application".into()
}

/// Local topic `in/train`: train a model as soon as the device's budget allows, whatever its monitors say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrainIn {
    /// Which; may be left out where one is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Comes back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Local topic `out/train`: what became of a word on `in/train`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrainOut {
    /// Which model.
    pub model: ModelName,
    /// The request's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether a run started or waits.
    pub accepted: bool,
    /// In words: the run's number, what it waits for, or why none comes.
    pub text: String,
}

/// Local topic `out/prediction`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PredictionOut {
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Digest,
    /// The request's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What a label refers to.
    pub prediction_id: String,
    /// One a row.
    pub predictions: Vec<Prediction>,
}

/// One row's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Prediction {
    /// The class, for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// The output row.
    pub values: Vec<f32>,
}

/// Local topic `out/error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorOut {
    /// The request's own id, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What was wrong.
    pub error: String,
}

/// Local topic `out/ask`, and `GET /v2/shoal/label/next`: a row whose label would teach much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AskOut {
    /// Which model.
    pub model: ModelName,
    /// What the label refers to.
    pub prediction_id: String,
    /// When it was predicted.
    pub at: WallMs,
    /// The features by name; a missing value is `null`.
    pub features: BTreeMap<String, Option<f32>>,
    /// The class that was answered, by a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Why it is asked about.
    pub why: Why,
}

/// Why a row is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Its answer is among the least sure.
    Uncertain,
    /// It is like none of training.
    Outlying,
    /// No label was of the class that was answered yet.
    New,
}

/// The answer to `GET /v2/shoal/label/next`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedOut {
    /// Which model.
    pub model: ModelName,
    /// Rows that wait for a label.
    pub waiting: u64,
    /// Those to label first.
    pub rows: Vec<AskOut>,
}

/// `POST /v2/shoal/label/skip`: nobody can tell about this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipIn {
    /// `prediction_id` of the row.
    pub prediction_id: String,
}

/// Local topic `out/model`, retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelOut {
    /// Which model.
    pub model: ModelName,
    /// The version that serves.
    pub version: Digest,
    /// For people.
    pub name: String,
    /// Since when.
    pub since: WallMs,
}

/// Local topic `out/status`, retained: what an agent says when it comes to the broker (birth) and before
/// it leaves, and what the broker says when its connection breaks (last will).
///
/// A broker may deliver a will late, when another life of the agent has been born already. It is told by
/// the number of the start: see [`StatusOut::is_outdated_by`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusOut {
    /// The device.
    pub device: DeviceId,
    /// Whether its agent is there.
    pub online: bool,
    /// Counts the agent's starts on its database.
    pub boot: u64,
    /// Names that database: a device that was set up anew has another, and counts from 1.
    pub incarnation: Incarnation,
    /// When that start was, by the device's clock: for people, since it may jump.
    pub since: WallMs,
}

impl StatusOut {
    /// Whether this is of an earlier life than `newer`, and says nothing after it.
    #[must_use]
    pub fn is_outdated_by(&self, newer: &Self) -> bool {
        (&self.device, self.incarnation) == (&newer.device, newer.incarnation) && self.boot < newer.boot
    }
}

/// Local topic `out/finding`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FindingOut {
    /// What was found.
    pub finding: Finding,
    /// What a person should do about it.
    pub advice: String,
}

impl From<Finding> for FindingOut {
    fn from(finding: Finding) -> Self {
        let advice = finding.monitor.advice().to_owned();
        Self { finding, advice }
    }
}

/// Local topic `out/health`, retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthOut {
    /// Which model.
    pub model: ModelName,
    /// The version that serves.
    pub version: Digest,
    /// How well it does.
    pub health: ModelHealth,
    /// Since when.
    pub since: WallMs,
}
