//! One prediction, whichever way it was asked for.

use super::adapted;
use super::models::{ServedModel, floats};
use super::pool::Done;
use super::refused::Refused;
use super::{ServeState, tensors};
use crate::core::{Asked, Observation};
use crate::profile;
use crate::store::{Captured, SampleRow};
use shoal_infer::{InferError, Tensor};
use shoal_proto::infer::Parameters;
use shoal_watch::answer::GroupCodes;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A prediction that is sure to be quicker runs in the task that asked: a change of thread and back
/// costs about as much.
const INLINE: Duration = Duration::from_micros(100);

/// What came out.
#[derive(Debug)]
pub struct Answer {
    /// The version that answered.
    pub served: Arc<ServedModel>,
    /// What a label refers to; `id#row` for one of several rows. Absent where the request had no rows
    /// of features, which cannot be labelled.
    pub prediction_id: Option<String>,
    /// All outputs of the graph.
    pub outputs: Vec<Tensor>,
    /// One for each row of features.
    pub rows: Vec<AnswerRow>,
}

/// One row's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerRow {
    /// The class, for a classifier whose scores are numbers.
    pub class: Option<u32>,
    /// Its probability; 0 for regression.
    pub confidence: f32,
    /// The output row.
    pub values: Arc<[f32]>,
}

impl ServeState {
    /// Predicts rows of features in the manifest's order; NaN is a missing value.
    pub async fn predict_rows(
        &self,
        served: Arc<ServedModel>,
        rows: usize,
        features: &[f32],
        said: &Parameters,
    ) -> Result<Answer, Refused> {
        let tensor = served
            .rows_tensor(rows, features)
            .ok_or(Refused::Input(InferError::NotRows { reason: "its input takes no numbers" }));
        let inputs = self.counted(&served, tensor)?;
        self.predict(served, vec![inputs], said).await
    }

    /// Runs the model, tells the core and offers the rows to the samples. `said`: the parameters of the request,
    /// among them the groups that it names and the schema that it was made for.
    pub async fn predict(
        &self,
        served: Arc<ServedModel>,
        inputs: Vec<Tensor>,
        said: &Parameters,
    ) -> Result<Answer, Refused> {
        let groups = self.counted(&served, served.check_said(said))?;
        let start = self.clock.mono();
        let lens = served.lens();
        let moved = lens.as_ref().and_then(|lens| adapted::moved(&served, lens, &inputs));
        let (inputs, came) = match moved {
            Some(moved) => (moved, Some(inputs)),
            None => (inputs, None),
        };
        match self.run(&served, inputs).await {
            Ok((inputs, mut outputs)) => {
                // Monitors, samples and labels are of rows as they came.
                let inputs = came.unwrap_or(inputs);
                if let Some(lens) = &lens {
                    adapted::headed(&served, lens, &inputs, &mut outputs);
                }
                let embedding = if served.predictor().is_exposing() { outputs.pop() } else { None };
                let (answer, asked) = self.observe(served, &inputs, outputs, embedding.as_ref(), groups);
                if let (Some(shadows), Some(asked)) = (self.outlet.shadows(), asked) {
                    shadows.offer(answer.served.name(), asked, inputs, &answer.rows);
                }
                answer.served.metrics().answered(self.clock.mono().since(start));
                Ok(answer)
            }
            Err(refused) => {
                self.count_refused(&served, &refused);
                Err(refused)
            }
        }
    }

    /// Counts a request to a model that was refused before it came to a prediction.
    pub(super) fn counted<T>(&self, served: &ServedModel, read: Result<T, Refused>) -> Result<T, Refused> {
        read.inspect_err(|refused| self.count_refused(served, refused))
    }

    fn count_refused(&self, served: &ServedModel, refused: &Refused) {
        match refused {
            Refused::Overloaded => {
                self.models.metrics().overloaded.inc();
            }
            refused if refused.is_failure() => {
                served.metrics().failed.inc();
                self.outlet.failed(served.name(), served.info().version);
                tracing::warn!(model = %served.name(), reason = refused.text(), "a prediction failed");
            }
            refused => {
                served.metrics().refused.inc();
                if refused.is_misfit() {
                    self.outlet.misfit(served.name(), served.info().version);
                }
            }
        }
    }

    async fn run(&self, served: &Arc<ServedModel>, inputs: Vec<Tensor>) -> Result<Done, Refused> {
        if served.is_stalled() {
            return Err(Refused::Stalled { model: served.name().to_string() });
        }
        let rows = inputs.first().and_then(|tensor| tensor.shape.first()).copied().unwrap_or(1);
        let takes = served.one_row().saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        if served.is_steady() && takes < INLINE {
            served.metrics().called(rows);
            let outputs = served.predictor().infer(&inputs)?;
            return Ok((inputs, outputs));
        }
        self.pool.run(Arc::clone(served), inputs, rows, self.limits.timeout).await
    }

    fn observe(
        &self,
        served: Arc<ServedModel>,
        inputs: &[Tensor],
        outputs: Vec<Tensor>,
        embedding: Option<&Tensor>,
        groups: GroupCodes,
    ) -> (Answer, Option<Asked>) {
        let Some(pairs) = rows_of(&served, inputs, &outputs) else {
            return (Answer { served, prediction_id: None, outputs, rows: Vec::new() }, None);
        };
        let (id, asked, is_captured) = self.next_id(served.name());
        let now = self.clock.now();
        let (model, version) = (served.name(), served.info().version);
        let embeddings = embedding.and_then(Tensor::f32s).unwrap_or_default();
        let mut embeddings = match embeddings.len() / pairs.len() {
            0 => [].chunks(1),
            width => embeddings.chunks(width),
        };
        let mut rows = Vec::with_capacity(pairs.len());
        let mut observations = Vec::with_capacity(pairs.len());
        for (number, (features, values)) in pairs.into_iter().enumerate() {
            let kind = served.info().manifest.output.kind;
            // Where no score is a number there is no class, and not the first one.
            let has_scores = values.iter().any(|value| !value.is_nan());
            let answer = profile::answer(kind, &values).filter(|_| has_scores);
            let class = answer.map(|(class, _)| class);
            let confidence = answer.map_or(0.0, |(_, confidence)| confidence);
            let is_kept = is_captured
                && self.samples.capture(SampleRow {
                    prediction_id: format!("{id}#{number}"),
                    model: model.clone(),
                    version,
                    at: now.wall,
                    features: Arc::clone(&features),
                    class,
                    confidence,
                    values: Arc::clone(&values),
                    groups,
                }) == Captured::Queued; // what is dropped the store counts
            observations.push(Observation {
                model: model.clone(),
                version,
                asked,
                place: u32::try_from(number).ok().filter(|_| is_kept),
                at: now.mono,
                features,
                class,
                confidence,
                values: Arc::clone(&values),
                embedding: embeddings.next().unwrap_or_default().into(),
                groups,
            });
            rows.push(AnswerRow { class, confidence, values });
        }
        self.outlet.predicted(observations);
        (Answer { served, prediction_id: Some(id), outputs, rows }, Some(asked))
    }
}

type RowPair = (Arc<[f32]>, Arc<[f32]>);

/// Features and scores, row by row; `None` when the tensors do not hold as many rows of each. A model
/// that takes tensors has rows of no features.
fn rows_of(served: &ServedModel, inputs: &[Tensor], outputs: &[Tensor]) -> Option<Vec<RowPair>> {
    let output = outputs.get(served.output_place())?;
    let scores = floats(output)?;
    let name = &served.input_spec().name;
    let input = inputs.iter().find(|tensor| tensor.name == *name)?;
    let (features, width, count) = if served.has_features() {
        let features = tensors::to_features(&input.data)?;
        let width = served.info().manifest.features.len();
        let count = features.len() / width;
        if features.len() % width != 0 {
            return None;
        }
        (features, width, count)
    } else {
        let rows = input.shape.first().copied().filter(|rows| output.shape.first() == Some(rows));
        (Cow::Borrowed(&[][..]), 0, rows.unwrap_or(1))
    };
    if count == 0 || scores.is_empty() || scores.len() % count != 0 {
        return None;
    }
    let rows = scores.chunks_exact(scores.len() / count).enumerate();
    Some(rows.map(|(row, score)| (features[row * width..][..width].into(), score.into())).collect())
}
