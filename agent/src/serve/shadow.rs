//! Candidates beside the versions that serve: they answer the same requests a moment later, in a task of their own
//! that no request waits for, and only the core hears what came of it.

use super::models::{ServedModel, floats};
use super::predict::AnswerRow;
use crate::beside::{self, Served};
use crate::clock::Clock;
use crate::core::{Asked, Event, Labelled};
use shoal_infer::Tensor;
use shoal_proto::decision::ShadowSeen;
use shoal_proto::id::{Digest, ModelName};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Requests and labels that wait; what is more is not given to candidates.
const QUEUE: usize = 256;
/// Rows of a request beyond which candidates are not given it.
const MAX_ROWS: usize = 64;
/// How many of them are worked on before the core hears of it.
const TOGETHER: usize = 32;

/// A request that was answered, or the truth about one.
#[derive(Debug)]
enum Work {
    Answered { model: ModelName, asked: Asked, inputs: Vec<Tensor>, rows: Vec<AnswerRow> },
    Label(Box<Labelled>),
}

/// A candidate, and the first request that it answered.
#[derive(Debug)]
struct Standing {
    candidate: Arc<ServedModel>,
    first: Mutex<Option<Asked>>,
    clock: Clock,
}

/// The candidates of a device that answer unheard.
#[derive(Debug)]
pub struct Shadows {
    standing: Mutex<BTreeMap<ModelName, Arc<Standing>>>,
    count: AtomicUsize,
    work: mpsc::Sender<Work>,
    clock: Clock,
}

impl Shadows {
    /// None yet; the receiver is for [`Shadows::run`].
    pub(super) fn new(clock: Clock) -> (Arc<Self>, Mirrored) {
        let (work, queue) = mpsc::channel(QUEUE);
        let shadows = Self { standing: Mutex::default(), count: AtomicUsize::new(0), work, clock };
        (Arc::new(shadows), Mirrored(queue))
    }

    /// Gives a candidate the requests that come from here on, in the place of any other of its model.
    pub fn begin(&self, candidate: ServedModel) {
        let name = candidate.name().clone();
        let standing =
            Standing { candidate: Arc::new(candidate), first: Mutex::default(), clock: self.clock };
        self.with(|all| all.insert(name, Arc::new(standing)));
    }

    /// Gives a candidate no more, and drops it once its last call is done.
    pub fn end(&self, model: &ModelName, version: Digest) {
        self.with(|all| {
            if all.get(model).is_some_and(|standing| standing.candidate.info().version == version) {
                all.remove(model);
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<ModelName, Arc<Standing>>) -> T) -> T {
        let mut all = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut all);
        self.count.store(all.len(), Ordering::Release);
        result
    }

    fn of(&self, model: &ModelName) -> Option<Arc<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// Whether any candidate wants requests: the one question that costs something where none does.
    pub(super) fn is_any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// An answered request, where a candidate wants it and is not behind.
    pub(super) fn offer(&self, model: &ModelName, asked: Asked, inputs: Vec<Tensor>, rows: &[AnswerRow]) {
        // A long request would take its time, which says nothing of the candidate.
        if rows.len() <= MAX_ROWS && self.of(model).is_some() {
            let (model, rows) = (model.clone(), rows.to_vec());
            self.give(Work::Answered { model, asked, inputs, rows });
        }
    }

    /// The truth about an answered row.
    pub(super) fn label(&self, label: &Labelled) {
        if self.is_any() && self.of(&label.model).is_some() {
            self.give(Work::Label(Box::new(label.clone())));
        }
    }

    fn give(&self, work: Work) {
        if self.work.try_send(work).is_err() {
            tracing::debug!("a candidate in the shadow is behind");
        }
    }

    /// Has candidates answer what comes, until `cancel`. A call that takes longer than `timeout` is the last of its
    /// version.
    pub(super) async fn run(
        self: Arc<Self>,
        mut mirrored: Mirrored,
        events: mpsc::Sender<Event>,
        timeout: Duration,
        cancel: CancellationToken,
    ) {
        let mut waiting = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                count = mirrored.0.recv_many(&mut waiting, TOGETHER) => count,
            };
            if count == 0 {
                return;
            }
            for event in self.work(std::mem::take(&mut waiting), timeout).await {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn work(&self, waiting: Vec<Work>, timeout: Duration) -> Vec<Event> {
        let mut seen: BTreeMap<(ModelName, Digest), ShadowSeen> = BTreeMap::new();
        let mut events = Vec::new();
        for work in waiting {
            let name = work.model().clone();
            let Some(standing) = self.of(&name) else { continue };
            let version = standing.candidate.info().version;
            let rows = work.rows();
            let answering = tokio::task::spawn_blocking(move || standing.take(&work));
            let counted = match tokio::time::timeout(timeout, answering).await {
                Ok(Ok(counted)) => counted,
                // It panicked inside the model.
                Ok(Err(_)) => ShadowSeen { rows, failures: rows, ..ShadowSeen::default() },
                Err(_) => {
                    self.end(&name, version);
                    events.push(Event::ShadowStalled { model: name, version });
                    continue;
                }
            };
            seen.entry((name, version)).or_default().add(&counted);
        }
        let counted = seen.into_iter().filter(|(_, seen)| *seen != ShadowSeen::default());
        events.extend(counted.map(|((model, version), seen)| Event::Shadowed { model, version, seen }));
        events
    }
}

/// What waits for candidates.
#[derive(Debug)]
pub(super) struct Mirrored(mpsc::Receiver<Work>);

impl Work {
    fn model(&self) -> &ModelName {
        match self {
            Self::Answered { model, .. } => model,
            Self::Label(label) => &label.model,
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Answered { rows, .. } => rows.len() as u64,
            Self::Label(_) => 1,
        }
    }
}

impl Standing {
    fn take(&self, work: &Work) -> ShadowSeen {
        match work {
            Work::Answered { asked, inputs, rows, .. } => self.answer(*asked, inputs, rows),
            Work::Label(label) => self.judge(label),
        }
    }

    fn answer(&self, asked: Asked, inputs: &[Tensor], served: &[AnswerRow]) -> ShadowSeen {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        *first = first.filter(|first| first.number < asked.number).or(Some(asked));
        drop(first);
        let start = self.clock.mono();
        let made = self.scores(inputs, served.len());
        let took_us = u64::try_from(self.clock.mono().since(start).as_micros()).unwrap_or(u64::MAX);
        let rows = served.len() as u64;
        let Some(made) = made else {
            return ShadowSeen { rows, failures: rows, took_us, ..ShadowSeen::default() };
        };
        let mut seen = ShadowSeen { took_us, ..ShadowSeen::default() };
        let manifest = &self.candidate.info().manifest;
        for (served, own) in served.iter().zip(&made) {
            let AnswerRow { class, confidence, values } = served;
            let served = Served { class: *class, confidence: *confidence, values };
            seen.add(&beside::answered(manifest, served, own));
        }
        seen
    }

    /// The score rows of the candidate; `None` where it fails or answers in another shape.
    fn scores(&self, inputs: &[Tensor], rows: usize) -> Option<Vec<Vec<f32>>> {
        let outputs = self.candidate.predictor().infer(inputs).ok()?;
        let scores = floats(outputs.get(self.candidate.output_place())?)?;
        if rows == 0 || scores.is_empty() || !scores.len().is_multiple_of(rows) {
            return None;
        }
        Some(scores.chunks_exact(scores.len() / rows).map(<[f32]>::to_vec).collect())
    }

    /// Labels count where the row came after the candidate did: an earlier one may have been trained on.
    fn judge(&self, label: &Labelled) -> ShadowSeen {
        let none = ShadowSeen::default();
        let first = *self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = |first: Asked| first.life == label.asked.life && first.number <= label.asked.number;
        if !first.is_some_and(is_later) || !self.candidate.has_features() {
            return none;
        }
        let Some(input) = self.candidate.rows_tensor(1, &label.features) else { return none };
        let Some(made) = self.scores(&[input], 1) else { return none };
        let Some(own) = made.first() else { return none };
        let Labelled { class, confidence, values, truth, .. } = label;
        let served = Served { class: *class, confidence: *confidence, values };
        beside::labelled(&self.candidate.info().manifest, served, *truth, own)
    }
}
