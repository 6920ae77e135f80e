//! The way from serving to the core: bounded, in batches, never waited for by a prediction.

use super::adapted::{self, Lesson};
use super::asked;
use super::asks::Asks;
use super::models::Models;
use super::shadow::Shadows;
use crate::adapting::Desk;
use crate::clock::Clock;
use crate::control::Ask;
use crate::core::{Command, Event, Labelled, Observation, Truth};
use crate::store::{Joined, Label, LateJoins};
use shoal_proto::id::{Digest, ModelName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Rows that wait for the core: ten seconds of a busy device. Beyond it rows are not monitored.
const MAX_ROWS: usize = 8_192;
/// How long rows gather on their way to the core: a turn of the core, and waking its thread, cost more
/// than a prediction of a small model.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Pending {
    rows: Vec<Observation>,
    failed: BTreeMap<(ModelName, Digest), u64>,
    stalled: BTreeSet<(ModelName, Digest)>,
    misfits: BTreeMap<(ModelName, Digest), u64>,
    bad: u64,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    more: Notify,
    lost: AtomicU64,
    /// Where adaptation learns, once it does.
    lessons: OnceLock<mpsc::Sender<Lesson>>,
    /// The rows that people are asked about.
    asks: OnceLock<Arc<Asks>>,
    /// The candidates that answer unheard.
    shadows: OnceLock<Arc<Shadows>>,
    /// Where an operator's words go.
    operators: OnceLock<mpsc::Sender<Ask>>,
}

/// Hands what happens to the core. Cheap to clone.
///
/// What comes within ten milliseconds, or while the core is busy, waits together and goes as one event.
#[derive(Debug, Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

impl Outlet {
    /// Starts the forwarding; `late` are the labels that were joined after they were taken.
    pub fn spawn(
        tracker: &TaskTracker,
        cancel: &CancellationToken,
        events: mpsc::Sender<Event>,
        late: LateJoins,
    ) -> Self {
        let outlet = Self { shared: Arc::default(), events };
        tracker.spawn(outlet.clone().forward(cancel.clone()));
        tracker.spawn(outlet.clone().forward_late(cancel.clone(), late));
        outlet
    }

    /// Lets the versions that serve adapt to what comes from here on, and `asks` choose of it.
    pub fn teach(
        &self,
        tracker: &TaskTracker,
        cancel: CancellationToken,
        models: Arc<Models>,
        desk: Desk,
        asks: Arc<Asks>,
    ) {
        let (sender, lessons) = mpsc::channel(adapted::QUEUE);
        if self.shared.lessons.set(sender).is_ok() && self.shared.asks.set(Arc::clone(&asks)).is_ok() {
            tracker.spawn(adapted::teach(models, desk, asks, lessons, cancel));
        }
    }

    /// Lets candidates answer beside the versions that serve from here on; `timeout` is for one call.
    pub fn shadow(
        &self,
        tracker: &TaskTracker,
        cancel: CancellationToken,
        clock: Clock,
        timeout: Duration,
    ) -> Arc<Shadows> {
        let (shadows, mirrored) = Shadows::new(clock);
        if self.shared.shadows.set(Arc::clone(&shadows)).is_ok() {
            tracker.spawn(Arc::clone(&shadows).run(mirrored, self.events.clone(), timeout, cancel));
        }
        shadows
    }

    /// Lets applications on the local broker say what an operator may say of training.
    pub fn obey(&self, operators: mpsc::Sender<Ask>) {
        if self.shared.operators.set(operators).is_err() {
            tracing::debug!("commands of applications have their way already");
        }
    }

    /// Has a model trained; what became of it.
    pub(super) async fn train(&self, model: ModelName) -> Result<String, String> {
        let not_here = || "this agent takes no such command from applications".to_owned();
        let operators = self.shared.operators.get().ok_or_else(not_here)?;
        let (answer, said) = oneshot::channel();
        let ask = Ask::Command(Command::Train { model }, answer);
        operators.send(ask).await.map_err(|_closed| "the agent stops".to_owned())?;
        said.await.map_err(|_closed| "the agent stops".to_owned())?
    }

    /// Where candidates want requests.
    pub(super) fn shadows(&self) -> Option<&Shadows> {
        self.shared.shadows.get().map(Arc::as_ref).filter(|shadows| shadows.is_any())
    }

    pub(super) fn asks(&self) -> Option<&Asks> {
        self.shared.asks.get().map(Arc::as_ref)
    }

    /// What adaptation cannot take in time it does not learn: nobody waits for it.
    fn learn(&self, lesson: impl FnOnce() -> Lesson) {
        if let Some(lessons) = self.shared.lessons.get()
            && let Err(cause) = lessons.try_send(lesson())
        {
            tracing::debug!(%cause, "adaptation is behind");
        }
    }

    /// Rows that the core never saw, since too many waited.
    #[must_use]
    pub fn lost_rows(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    pub(super) fn predicted(&self, rows: Vec<Observation>) {
        let count = rows.len();
        let kept = self.with(|pending| {
            let kept = pending.rows.len() + count <= MAX_ROWS;
            if kept {
                pending.rows.extend(rows);
            }
            kept
        });
        if !kept {
            self.shared.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, model: &ModelName, version: Digest) {
        self.with(|pending| *pending.failed.entry((model.clone(), version)).or_default() += 1);
    }

    pub(super) fn misfit(&self, model: &ModelName, version: Digest) {
        self.with(|pending| *pending.misfits.entry((model.clone(), version)).or_default() += 1);
    }

    pub(super) fn stalled(&self, model: &ModelName, version: Digest) {
        self.with(|pending| pending.stalled.insert((model.clone(), version)));
    }

    pub(super) fn bad_message(&self) {
        self.with(|pending| pending.bad += 1);
    }

    /// Waits for the core: no label is lost to it. A repeated or corrected label was counted before.
    pub(super) async fn labelled(&self, joined: Joined) {
        if let Some(asks) = self.asks() {
            let truth = match joined.label {
                Label::Class(class) => Some(class),
                Label::Value(_) => None,
            };
            asks.answered(&joined.model, &joined.prediction_id, (&joined.features, joined.class), truth);
        }
        if joined.repeated || joined.relabelled {
            return;
        }
        let label = Labelled {
            asked: asked(&joined.prediction_id).unwrap_or_default(),
            model: joined.model,
            version: joined.version,
            features: joined.features,
            class: joined.class,
            confidence: joined.confidence,
            values: joined.values,
            groups: joined.groups,
            truth: match joined.label {
                Label::Class(class) => Truth::Class(class),
                Label::Value(value) => Truth::Value(value),
            },
        };
        self.learn(|| Lesson::Label(Box::new(label.clone())));
        if let Some(shadows) = self.shadows() {
            shadows.label(&label);
        }
        if self.events.send(Event::Labelled(label)).await.is_err() {
            tracing::debug!("a label came after the core had ended; it is on disk");
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut pending);
        drop(pending);
        self.shared.more.notify_one();
        result
    }

    async fn forward(self, cancel: CancellationToken) {
        loop {
            let gathered = async {
                self.shared.more.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            let is_last = tokio::select! {
                biased;
                () = cancel.cancelled() => true,
                () = gathered => false,
            };
            let pending = self.with_quietly(std::mem::take);
            let mut events = Vec::new();
            for rows in pending.rows.chunk_by(|a, b| a.version == b.version) {
                self.learn(|| Lesson::Rows(rows.to_vec()));
            }
            if !pending.rows.is_empty() {
                events.push(Event::Predicted(pending.rows));
            }
            events.extend(pending.failed.into_iter().map(|((model, version), requests)| Event::Failed {
                model,
                version,
                requests,
            }));
            let stalled = pending.stalled.into_iter();
            events.extend(stalled.map(|(model, version)| Event::Stalled { model, version }));
            events.extend(pending.misfits.into_iter().map(|((model, version), requests)| Event::Misfit {
                model,
                version,
                requests,
            }));
            events.extend((0..pending.bad).map(|_| Event::BadMessage));
            for event in events {
                let sent = if is_last {
                    self.events.try_send(event).is_ok()
                } else {
                    tokio::select! {
                        biased;
                        sent = self.events.send(event) => sent.is_ok(),
                        () = cancel.cancelled() => false,
                    }
                };
                if !sent {
                    return;
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn with_quietly<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        change(&mut self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn forward_late(self, cancel: CancellationToken, mut late: LateJoins) {
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                joined = late.recv() => match joined {
                    Some(joined) => self.labelled(joined).await,
                    None => return,
                },
            }
        }
    }
}
