//! The applications beside the agents: they send rows, compare the answers with the truth, and tell
//! some of it back a little later.

use super::score::Scores;
use super::source::{Row, Source};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use shoal_agent::mqtt::{Client, Message, MqttEvent, Options, Publisher};
use shoal_infer::Predictor;
use shoal_proto::id::{AppName, ModelName};
use shoal_proto::infer::{FeaturesIn, LabelIn, Parameters, PredictionOut, RowIn};
use shoal_proto::topic::{Local, Topic};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Rows after which the truth about a row is told.
const LABEL_DELAY: usize = 15;
/// How long an answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);

/// What every feeder shares.
#[derive(Debug, Clone)]
pub(super) struct Feeding {
    pub(super) model: ModelName,
    pub(super) input: String,
    pub(super) output: String,
    pub(super) classes: Arc<Vec<String>>,
    /// The first version, to compare with.
    pub(super) untouched: Arc<Predictor>,
    /// Rows a second.
    pub(super) rate: u32,
}

/// How an application reaches its agent.
#[derive(Debug)]
pub(super) enum Way {
    /// Open Inference Protocol.
    Http { client: reqwest::Client, url: String },
    /// Topics on the device's broker.
    Mqtt { publisher: Publisher, events: mpsc::Receiver<MqttEvent>, app: AppName },
}

impl Way {
    /// An application on the broker; waits until it is connected.
    pub(super) async fn on_broker(
        broker: &str,
        app: &str,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let app = AppName::new(app)?;
        let mut options = Options::new(broker.parse()?, format!("{app}-app"));
        options.subscriptions = vec![Topic::Local(app.clone(), Local::Prediction).to_string()];
        let (publisher, mut events) = Client::spawn(tracker, cancel.child_token(), options);
        tokio::time::timeout(ANSWER, async {
            while let Some(event) = events.recv().await {
                if event == MqttEvent::Up {
                    return;
                }
            }
        })
        .await
        .context("the application does not reach the broker")?;
        Ok(Self::Mqtt { publisher, events, app })
    }

    /// One row to the agent: the class it answers, and what a label refers to.
    async fn predict(&mut self, feeding: &Feeding, row: &Row) -> anyhow::Result<(String, String)> {
        match self {
            Self::Http { client, url } => {
                let body = json!({ "inputs": [{
                    "name": feeding.input, "datatype": "FP32", "shape": [1, row.features.len()],
                    "data": row.features.iter().map(|cell| cell.is_finite().then_some(*cell)).collect::<Vec<_>>(),
                }]});
                let request = client.post(format!("{url}/v2/models/{}/infer", feeding.model)).json(&body);
                let response = request.timeout(ANSWER).send().await?;
                let status = response.status();
                let answer: Value = response.json().await?;
                if !status.is_success() {
                    bail!("{status}: {}", answer["error"]);
                }
                let output = answer["outputs"]
                    .as_array()
                    .and_then(|all| all.iter().find(|one| one["name"] == feeding.output.as_str()));
                let scores: Vec<f32> = serde_json::from_value(output.context("no output")?["data"].clone())?;
                let id = answer["parameters"]["prediction_id"].as_str().context("no prediction id")?;
                Ok((feeding.class(&scores), id.to_owned()))
            }
            Self::Mqtt { publisher, events, app } => {
                let features: Vec<Option<f64>> =
                    row.features.iter().map(|cell| cell.is_finite().then_some(f64::from(*cell))).collect();
                let asked = FeaturesIn {
                    model: Some(feeding.model.clone()),
                    id: None,
                    row: Some(RowIn::List(features)),
                    rows: Vec::new(),
                    parameters: Parameters::new(),
                };
                send(publisher, app, Local::Features, &asked)?;
                let answer = tokio::time::timeout(ANSWER, prediction(events))
                    .await
                    .context("no prediction came")??;
                let class = answer.predictions.first().and_then(|one| one.class.clone()).unwrap_or_default();
                Ok((class, answer.prediction_id))
            }
        }
    }

    async fn label(&mut self, id: &str, label: &str) -> anyhow::Result<()> {
        let label = LabelIn { prediction_id: id.to_owned(), label: label.into(), source: "operator".into() };
        match self {
            Self::Http { client, url } => {
                let request = client.post(format!("{url}/v2/shoal/label")).json(&label);
                request.timeout(ANSWER).send().await?.error_for_status()?;
                Ok(())
            }
            Self::Mqtt { publisher, app, .. } => send(publisher, app, Local::Label, &label),
        }
    }
}

fn send(
    publisher: &Publisher,
    app: &AppName,
    what: Local,
    body: &impl serde::Serialize,
) -> anyhow::Result<()> {
    let topic = Topic::Local(app.clone(), what).to_string();
    publisher.publish(Message { topic, payload: serde_json::to_vec(body)?, retain: false })?;
    Ok(())
}

async fn prediction(events: &mut mpsc::Receiver<MqttEvent>) -> anyhow::Result<PredictionOut> {
    while let Some(event) = events.recv().await {
        match event {
            MqttEvent::Message(message) => return Ok(serde_json::from_slice(&message.payload)?),
            MqttEvent::Down { reason } => bail!("the broker is gone: {reason}"),
            MqttEvent::Up => {}
        }
    }
    bail!("the connection ended")
}

impl Feeding {
    fn class(&self, scores: &[f32]) -> String {
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place);
        self.classes.get(best).cloned().unwrap_or_default()
    }

    /// Sends rows at the rate until told to stop.
    pub(super) async fn run(
        self,
        mut way: Way,
        mut source: Source,
        scores: Scores,
        cancel: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / self.rate.max(1));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut untold: VecDeque<Option<(String, String)>> = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                _tick = pace.tick() => {}
            }
            let row = source.next();
            let (class, id) = match way.predict(&self, &row).await {
                Err(_late) if cancel.is_cancelled() => return Ok(()),
                answer => answer?,
            };
            let untouched = self.untouched.rows(1, &row.features)?;
            scores.push(class == row.truth, self.class(&untouched.values) == row.truth);
            untold.push_back(source.is_labelled().then(|| (id, row.told.clone())));
            if untold.len() > LABEL_DELAY
                && let Some(Some((id, label))) = untold.pop_front()
            {
                way.label(&id, &label).await?;
            }
        }
    }
}
