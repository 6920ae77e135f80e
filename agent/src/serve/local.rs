//! Serving over MQTT on the device's own broker.

use super::models::ServedModel;
use super::predict::Answer;
use super::refused::{Refused, shortened};
use super::rest::{answer, request};
use super::{Outlet, ServeState};
use crate::mqtt::{Client, Message, MqttEvent, Options, Publisher};
use axum::http::HeaderMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shoal_infer::InferError;
use shoal_proto::finding::Finding;
use shoal_proto::id::{AppName, ModelName};
use shoal_proto::infer::{
    AskOut, ErrorOut, FeaturesIn, FindingOut, HealthOut, LabelIn, ModelOut, Prediction, PredictionOut, RowIn,
    StatusOut, TrainIn, TrainOut,
};
use shoal_proto::topic::{Local as What, Topic};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest message of an application.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Largest packet on the connection: a message over the limit is still read, so that it can be
/// answered; one over this breaks the connection.
const MAX_PACKET_BYTES: usize = 1024 * 1024;

/// Serving to applications on the device's own broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Local {
    app: AppName,
    birth: Arc<StatusOut>,
    publisher: Publisher,
    announced: Arc<Mutex<Announced>>,
}

/// What is retained on the broker, and said again to one that may have lost it.
#[derive(Debug, Clone, Default)]
struct Announced {
    models: BTreeMap<ModelName, ModelOut>,
    health: BTreeMap<ModelName, HealthOut>,
}

impl Local {
    /// Connects to the broker, for ever, and answers what comes on `in/…` of this application. `birth` is
    /// said at each connect; the last will is its opposite.
    pub fn spawn(
        tracker: &TaskTracker,
        cancel: CancellationToken,
        state: Arc<ServeState>,
        (app, birth): (AppName, StatusOut),
        mut options: Options,
    ) -> Self {
        let status = Topic::Local(app.clone(), What::Status).to_string();
        let will = serde_json::to_vec(&StatusOut { online: false, ..birth.clone() }).unwrap_or_default();
        options.subscriptions = vec![Topic::local_filter(&app), status.clone()];
        options.last_will = Some(Message { topic: status, payload: will, retain: true });
        options.max_packet_bytes = MAX_PACKET_BYTES;
        let (publisher, events) = Client::spawn(tracker, cancel, options);
        let local = Self { app, birth: Arc::new(birth), publisher, announced: Arc::default() };
        tracker.spawn(local.clone().run(state, tracker.clone(), events));
        local
    }

    /// Tells applications which version serves, now and after every reconnect (retained).
    pub fn announce(&self, model: ModelOut) {
        self.publish(What::Model, true, &model);
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.models.insert(model.model.clone(), model);
    }

    /// Says how well a model does, now and after every reconnect.
    pub fn tell_health(&self, health: HealthOut) {
        self.publish(What::Health, true, &health);
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.health.insert(health.model.clone(), health);
    }

    /// Says what a monitor found.
    pub fn tell_finding(&self, finding: Finding) {
        self.publish(What::Finding, false, &FindingOut::from(finding));
    }

    /// Asks for the label of a row.
    pub fn tell_ask(&self, ask: &AskOut) {
        self.publish(What::Ask, false, ask);
    }

    /// Whether the broker has us now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.publisher.is_up()
    }

    async fn run(self, state: Arc<ServeState>, tracker: TaskTracker, mut events: mpsc::Receiver<MqttEvent>) {
        let mut was_up = true;
        while let Some(event) = events.recv().await {
            match event {
                MqttEvent::Up => {
                    was_up = true;
                    tracing::info!(app = %self.app, "the local broker took us");
                    self.publish(What::Status, true, &*self.birth);
                    let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    for model in announced.models.into_values() {
                        self.publish(What::Model, true, &model);
                    }
                    for health in announced.health.into_values() {
                        self.publish(What::Health, true, &health);
                    }
                }
                MqttEvent::Down { reason } => {
                    // Told once, and not with every attempt.
                    if std::mem::replace(&mut was_up, false) {
                        tracing::warn!(app = %self.app, reason, "the local broker is gone");
                    }
                }
                MqttEvent::Message(message) => self.on_message(&state, &tracker, message).await,
            }
        }
    }

    async fn on_message(&self, state: &Arc<ServeState>, tracker: &TaskTracker, message: Message) {
        let what = match Topic::parse(&message.topic) {
            Some(Topic::Local(_, what @ (What::Features | What::Label | What::Train))) if !message.retain => {
                what
            }
            Some(Topic::Local(_, What::Status)) => return self.on_status(&message),
            // A retained request would be answered again at each reconnect.
            _ => return self.bad(state.outlet(), None, "not a topic for requests, or retained".into()),
        };
        if message.payload.len() > MAX_MESSAGE_BYTES {
            let text = Refused::TooLarge { limit: MAX_MESSAGE_BYTES }.text();
            return self.bad(state.outlet(), None, text);
        }
        match what {
            What::Label => self.on_label(state, tracker, &message.payload).await,
            What::Train => self.on_train(state, tracker, &message.payload),
            _ => self.on_features(state, &message.payload).await,
        }
    }

    /// A will of ours that came late stands where our birth stood: whoever subscribes now would hear it.
    /// What was retained when we came stood there before our birth.
    fn on_status(&self, message: &Message) {
        let is_undone = |said: &StatusOut| {
            said.device == self.birth.device && (!said.online || said.is_outdated_by(&self.birth))
        };
        if !message.retain && read(&message.payload).is_ok_and(|said| is_undone(&said)) {
            self.publish(What::Status, true, &*self.birth);
        }
    }

    async fn on_label(&self, state: &Arc<ServeState>, tracker: &TaskTracker, payload: &[u8]) {
        let on_its_way = match read::<LabelIn>(payload) {
            Ok(label) => state.hand_in(label).await,
            Err(refused) => Err(refused),
        };
        match on_its_way {
            // Handed in, in order; the disk is awaited beside, so that labels share its fsync.
            Ok(on_its_way) => {
                let local = self.clone();
                tracker.spawn(async move {
                    if let Err(refused) = on_its_way.landed().await {
                        local.tell(None, refused.text());
                    }
                });
            }
            Err(refused) => self.refuse(state.outlet(), id_in(payload), &refused),
        }
    }

    /// Answered beside, since the core may be busy.
    fn on_train(&self, state: &Arc<ServeState>, tracker: &TaskTracker, payload: &[u8]) {
        let request = match read::<TrainIn>(payload) {
            Ok(request) => request,
            Err(refused) => return self.refuse(state.outlet(), id_in(payload), &refused),
        };
        let model = match request.model.map_or_else(|| Ok(state.models().only()?.name().clone()), Ok) {
            Ok(model) => model,
            Err(refused) => return self.refuse(state.outlet(), request.id, &refused),
        };
        let (local, outlet) = (self.clone(), state.outlet().clone());
        tracker.spawn(async move {
            let said = outlet.train(model.clone()).await;
            let accepted = said.is_ok();
            let text = said.unwrap_or_else(|reason| reason);
            local.publish(What::Training, false, &TrainOut { model, id: request.id, accepted, text });
        });
    }

    async fn on_features(&self, state: &Arc<ServeState>, payload: &[u8]) {
        if let Ok(Peek { inputs: Some(_), model, id }) = serde_json::from_slice(payload) {
            return match predict_tensors(state, model.as_deref(), payload).await {
                Ok(answer) => self.send(What::Prediction, false, answer),
                Err(refused) => self.refuse(state.outlet(), id, &refused),
            };
        }
        let request = match read::<FeaturesIn>(payload) {
            Ok(request) => request,
            Err(refused) => return self.refuse(state.outlet(), id_in(payload), &refused),
        };
        match predict(state, &request).await {
            Ok(answer) => self.publish(What::Prediction, false, &prediction_out(&answer, request.id)),
            Err(refused) => self.refuse(state.outlet(), request.id, &refused),
        }
    }

    fn refuse(&self, outlet: &Outlet, id: Option<String>, refused: &Refused) {
        let is_callers = refused.status().is_client_error();
        if is_callers {
            self.bad(outlet, id, refused.text());
        } else {
            self.tell(id, refused.text());
        }
    }

    fn bad(&self, outlet: &Outlet, id: Option<String>, error: String) {
        outlet.bad_message();
        self.tell(id, error);
    }

    fn tell(&self, id: Option<String>, error: String) {
        self.publish(What::Error, false, &ErrorOut { id, error });
    }

    fn publish<T: Serialize>(&self, what: What, retain: bool, body: &T) {
        match serde_json::to_vec(body) {
            Ok(payload) => self.send(what, retain, payload),
            Err(cause) => tracing::error!(%cause, "an answer has no JSON form"),
        }
    }

    fn send(&self, what: What, retain: bool, payload: Vec<u8>) {
        let topic = Topic::Local(self.app.clone(), what).to_string();
        if let Err(cause) = self.publisher.publish(Message { topic, payload, retain }) {
            tracing::debug!(%cause, "an answer was not sent"); // counted by the publisher
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(payload).map_err(|cause| Refused::Malformed { reason: cause.to_string() })
}

/// The id of a request that is wrong otherwise.
fn id_in(payload: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    Some(shortened(value.get("id")?.as_str()?))
}

/// What tells a request with tensors from one with rows.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    inputs: Option<IgnoredAny>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

fn find(state: &ServeState, model: Option<&str>) -> Result<Arc<ServedModel>, Refused> {
    match model {
        Some(model) => state.models().get(model, None),
        None => state.models().only(),
    }
}

/// The same JSON as over HTTP, in and out.
async fn predict_tensors(
    state: &ServeState,
    model: Option<&str>,
    payload: &[u8],
) -> Result<Vec<u8>, Refused> {
    let served = find(state, model)?;
    let request = state.counted(&served, request::read(&HeaderMap::new(), payload))?;
    request.wanted.check(&served)?;
    let answer = state.predict(served, request.inputs, &request.parameters).await?;
    answer::json(&answer, request.id, &request.wanted)
}

async fn predict(state: &ServeState, request: &FeaturesIn) -> Result<Answer, Refused> {
    let served = find(state, request.model.as_ref().map(ModelName::as_str))?;
    let rows: Vec<&RowIn> = request.row.iter().chain(&request.rows).collect();
    let features = state.counted(&served, flatten(&served, &rows))?;
    state.predict_rows(served, rows.len(), &features, &request.parameters).await
}

/// Rows in the manifest's order, one after the other.
fn flatten(served: &ServedModel, rows: &[&RowIn]) -> Result<Vec<f32>, Refused> {
    let named = &served.info().manifest.features;
    let input = || served.info().manifest.input.tensor.clone();
    if rows.is_empty() {
        return Err(Refused::Tensor { input: input(), reason: "no rows".into() });
    }
    let mut features = Vec::with_capacity(rows.len() * named.len());
    for row in rows {
        match row {
            RowIn::List(values) if values.len() != named.len() => {
                let (width, got) = (named.len(), values.len());
                return Err(Refused::Input(InferError::FeatureCount { input: input(), rows: 1, width, got }));
            }
            RowIn::List(values) => features.extend(values.iter().map(|value| number(*value))),
            RowIn::Named(values) => {
                if let Some(stray) = values.keys().find(|name| named.iter().all(|known| known.name != **name))
                {
                    let known: Vec<&str> = named.iter().map(|known| known.name.as_str()).collect();
                    return Err(Refused::UnknownFeature {
                        feature: shortened(stray),
                        known: known.join(", "),
                    });
                }
                let value = |name: &str| number(values.get(name).copied().flatten());
                features.extend(named.iter().map(|feature| value(&feature.name)));
            }
        }
    }
    Ok(features)
}

#[expect(clippy::cast_possible_truncation, reason = "features are served as f32")]
fn number(value: Option<f64>) -> f32 {
    value.map_or(f32::NAN, |value| value as f32)
}

fn prediction_out(answer: &Answer, id: Option<String>) -> PredictionOut {
    let served = &answer.served;
    let is_classifier = !served.info().manifest.output.classes.is_empty();
    let predictions = answer.rows.iter().map(|row| Prediction {
        class: row.class.and_then(|class| served.class_name(class)).map(str::to_owned),
        confidence: is_classifier.then_some(row.confidence),
        values: row.values.to_vec(),
    });
    PredictionOut {
        model: served.name().clone(),
        version: served.info().version,
        id,
        prediction_id: answer.prediction_id.clone().unwrap_or_default(),
        predictions: predictions.collect(),
    }
}
