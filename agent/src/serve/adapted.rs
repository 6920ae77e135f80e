//! What a served version does about change before it is retrained: the lens that predictions go through, and the
//! state behind it, which follows a moment later.

use super::asks::Asks;
use super::models::{Models, ServedModel, floats};
use super::tensors;
use crate::adapting::{Adapted, Answering, Desk, target};
use crate::core::{Labelled, Observation};
use crate::report::chain;
use shoal_adapt::{Adapt, Lens};
use shoal_infer::Tensor;
use shoal_onnx::Datatype;
use shoal_proto::id::{Digest, ModelName};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Batches of rows, and labels, that wait to be learned from; what is more is not.
pub(super) const QUEUE: usize = 256;
/// How often the state goes to disk, besides when the head begins or ends to answer: what is lost is learned again.
const KEEP_EVERY: Duration = Duration::from_secs(600);

/// The adaptation of a served version; none where its package does not say what inputs looked like.
#[derive(Debug, Default)]
pub(super) struct Adapting {
    state: Mutex<Option<Adapt>>,
    lens: RwLock<Option<Arc<Lens>>>,
    /// The life of the server that rows came to: labels of an earlier one count their rows anew.
    life: AtomicU64,
}

/// What adaptation learns from.
#[derive(Debug, Clone)]
pub(super) enum Lesson {
    /// Rows that were predicted.
    Rows(Vec<Observation>),
    /// The truth about one.
    Label(Box<Labelled>),
}

impl ServedModel {
    /// Begins to adapt; goes on from what the version before it had learned, where that fits.
    #[must_use]
    pub fn with_adapt(self, mut adapt: Option<Adapt>, before: Option<&Self>) -> Self {
        let features = matches!(self.input_spec().datatype, Datatype::F16 | Datatype::F32 | Datatype::F64);
        // A label beside the scores would contradict a head that answers in their place.
        if let Some(adapt) = adapt.as_mut().filter(|_| self.predictor().outputs().len() > 1) {
            adapt.behead();
        }
        if let (Some(adapt), Some(before)) = (&mut adapt, before)
            && let Some(before) = &*before.state()
        {
            adapt.inherit(before);
        }
        *self.state() = adapt.filter(|_| features && self.predictor().inputs().len() == 1);
        self.renew_lens();
        self
    }

    /// What adaptation has come to.
    #[must_use]
    pub fn adapted(&self) -> Option<Adapted> {
        self.state().as_ref().map(Adapted::of)
    }

    /// How much a label of this row would teach, where that is known.
    #[must_use]
    pub fn doubt(&self, row: &[f32]) -> Option<f32> {
        self.state().as_ref()?.doubt(row)
    }

    fn state(&self) -> MutexGuard<'_, Option<Adapt>> {
        self.adapting.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Through what the next prediction is seen; `None` where it stays as it is.
    pub(super) fn lens(&self) -> Option<Arc<Lens>> {
        self.adapting.lens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew_lens(&self) {
        let lens = self.state().as_ref().map(Adapt::lens).filter(|lens| !lens.is_clear());
        *self.adapting.lens.write().unwrap_or_else(PoisonError::into_inner) = lens.map(Arc::new);
    }

    /// Learns from rows that it predicted, or from a label; runs the model on some of what it remembers.
    pub(super) fn learn(&self, lesson: &Lesson) {
        let model = Answering { predictor: self.predictor(), manifest: &self.info().manifest };
        let mut state = self.state();
        let Some(adapt) = state.as_mut() else { return };
        let outcome = match lesson {
            Lesson::Rows(rows) => {
                if let Some(row) = rows.last() {
                    self.adapting.life.store(row.asked.life, Ordering::Relaxed);
                }
                let mut own = rows.iter().filter(|row| row.version == self.info().version);
                own.try_for_each(|row| adapt.observe(&row.features, row.asked.number, &model))
            }
            Lesson::Label(label) if label.asked.life != self.adapting.life.load(Ordering::Relaxed) => Ok(()),
            Lesson::Label(label) => {
                adapt.label(&label.features, label.asked.number, target(label.truth), &model)
            }
        };
        drop(state);
        if let Err(cause) = outcome {
            tracing::debug!(model = %self.name(), error = %chain(&cause), "nothing was learned from a row");
        }
        self.renew_lens();
    }

    fn is_headed(&self) -> bool {
        self.state().as_ref().is_some_and(Adapt::is_headed)
    }

    fn keep(&self, desk: &Desk) {
        let state = self.state().as_ref().map(Adapt::state);
        if let Some(state) = state
            && let Err(cause) = desk.keep(self.name(), self.info().version, &state)
        {
            tracing::warn!(model = %self.name(), error = %chain(&cause), "what it adapted to was not kept");
        }
    }
}

/// Rows brought back where they were in training; `None` where they stay as they are.
pub(super) fn moved(served: &ServedModel, lens: &Lens, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
    if !lens.is_map() {
        return None;
    }
    let [input] = inputs else { return None };
    let mut features = tensors::to_features(&input.data)?.into_owned();
    lens.apply(&mut features);
    let data = tensors::from_features(served.input_spec().datatype, &features)?;
    Some(vec![Tensor { name: input.name.clone(), shape: input.shape.clone(), data }])
}

/// Puts the head's answers in the place of the model's, where the head answers.
pub(super) fn headed(served: &ServedModel, lens: &Lens, inputs: &[Tensor], outputs: &mut [Tensor]) {
    if !lens.is_head() {
        return;
    }
    let place = served.output_place();
    let width = served.info().manifest.features.len();
    let Some(features) = inputs.first().and_then(|input| tensors::to_features(&input.data)) else { return };
    let Some(scores) = outputs.get(place).and_then(floats).map(Cow::into_owned) else { return };
    let rows = features.len().checked_div(width).unwrap_or(0);
    if rows == 0 || !scores.len().is_multiple_of(rows) {
        return;
    }
    let a_row = scores.len() / rows;
    let mut said = Vec::with_capacity(scores.len());
    for (row, own) in features.chunks_exact(width).zip(scores.chunks_exact(a_row)) {
        match lens.answer(row, a_row).filter(|answer| answer.len() == a_row) {
            Some(answer) => said.extend(answer),
            None => said.extend_from_slice(own),
        }
    }
    let datatype = served.predictor().outputs().get(place).map_or(Datatype::F32, |spec| spec.datatype);
    if let (Some(data), Some(output)) = (tensors::from_features(datatype, &said), outputs.get_mut(place)) {
        output.data = data;
    }
}

/// Hands lessons to the versions that serve, in order, until `cancel`; what they learned goes to disk now and then.
pub(super) async fn teach(
    models: Arc<Models>,
    desk: Desk,
    asks: Arc<Asks>,
    mut lessons: mpsc::Receiver<Lesson>,
    cancel: CancellationToken,
) {
    let mut kept = tokio::time::interval(KEEP_EVERY);
    kept.tick().await;
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            lesson = lessons.recv() => {
                let Some(lesson) = lesson else { break };
                let (models, asks, desk) = (Arc::clone(&models), Arc::clone(&asks), desk.clone());
                let learning = tokio::task::spawn_blocking(move || {
                    if let Some((model, version)) = lesson.of()
                        && let Ok(served) = models.get(model.as_str(), None)
                        && served.info().version == version
                    {
                        let answered = served.is_headed();
                        served.learn(&lesson);
                        if served.is_headed() != answered {
                            served.keep(&desk);
                        }
                        if let Lesson::Rows(rows) = &lesson {
                            asks.offer(&served, rows);
                        }
                    }
                });
                if let Err(cause) = learning.await {
                    tracing::error!(%cause, "adaptation panicked");
                }
            }
            _ = kept.tick() => models.all().iter().for_each(|served| served.keep(&desk)),
        }
    }
    models.all().iter().for_each(|served| served.keep(&desk));
}

impl Lesson {
    fn of(&self) -> Option<(ModelName, Digest)> {
        match self {
            Self::Rows(rows) => rows.first().map(|row| (row.model.clone(), row.version)),
            Self::Label(label) => Some((label.model.clone(), label.version)),
        }
    }
}
