//! The rows that people are asked about: of every model a queue, filled as rows are predicted.

use super::models::ServedModel;
use super::refused::{Refused, shortened};
use super::{ServeState, model_of};
use crate::asking::{Question, Queue, Settings};
use crate::clock::Clock;
use crate::core::Observation;
use shoal_adapt::Asker;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::infer::{AskOut, AskedOut, SkipIn};
use shoal_proto::time::{Now, WallMs};
use shoal_watch::joint::{Joint, OUTLIER_ALPHA};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Rows of a batch whose doubt is measured, the outlying and the least sure ones: it costs more than a prediction of
/// a small model, and a batch comes every ten milliseconds.
const MEASURED: usize = 8;
/// Labels after which the doubts of all that waits are measured again.
const LEARNED: u64 = 16;
/// Rows that are shown unless told.
pub(super) const SHOWN: usize = 5;

/// The queues of all models.
#[derive(Debug)]
pub struct Asks {
    settings: Settings,
    clock: Clock,
    models: Mutex<BTreeMap<ModelName, OfModel>>,
    more: Notify,
}

#[derive(Debug)]
struct OfModel {
    queue: Queue,
    version: Digest,
    /// Tells outlying rows, where the package can.
    joint: Option<Box<Joint>>,
    asker: Asker,
    /// Labels since doubts were measured.
    learned: u64,
}

impl OfModel {
    /// A version's doubts are not those of another.
    fn follow(&mut self, served: &ServedModel) {
        if self.version != served.info().version {
            self.version = served.info().version;
            self.joint = joint_of(served);
            self.learned = LEARNED;
        }
        if self.learned >= LEARNED {
            self.measure(served);
        }
    }

    fn measure(&mut self, served: &ServedModel) {
        self.learned = 0;
        self.queue.rescore(|one| doubt(served, &one.features, one.confidence));
    }

    fn is_outlying(&mut self, features: &[f32]) -> bool {
        self.joint.as_mut().is_some_and(|joint| joint.look(features).outlier(OUTLIER_ALPHA).is_some())
    }
}

fn joint_of(served: &ServedModel) -> Option<Box<Joint>> {
    let joint = Joint::new(served.info().reference.joint.as_ref()?).ok()?;
    (joint.width() == served.info().manifest.features.len()).then(|| Box::new(joint))
}

/// By what adaptation knows, else by how sure the answer was.
fn doubt(served: &ServedModel, features: &[f32], confidence: f32) -> f32 {
    served.doubt(features).unwrap_or(1.0 - confidence)
}

impl Asks {
    /// Nothing waits.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self { settings, clock, models: Mutex::default(), more: Notify::new() }
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelName, OfModel>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes rows that a version answered.
    pub(super) fn offer(&self, served: &ServedModel, rows: &[Observation]) {
        if self.settings.queue == 0 {
            return;
        }
        let version = served.info().version;
        let mut models = self.models();
        let of = models.entry(served.name().clone()).or_insert_with(|| OfModel {
            queue: Queue::new(&self.settings),
            version,
            joint: joint_of(served),
            asker: Asker::default(),
            learned: 0,
        });
        of.follow(served);
        let mut offered = Vec::new();
        for row in rows {
            if let Some(place) = row.place.filter(|_| row.version == version) {
                of.queue.see(&row.features);
                offered.push((!of.is_outlying(&row.features), row, place));
            }
        }
        offered.sort_by(|(a, one, _), (b, other, _)| {
            a.cmp(b).then(one.confidence.total_cmp(&other.confidence)) // sorts equal ones by their order of time
        });
        let now = self.clock.now();
        let mut is_more = false;
        for (is_usual, row, place) in offered.into_iter().take(MEASURED) {
            let ago = now.mono.since(row.at);
            let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            is_more |= of.queue.offer(
                Question {
                    prediction_id: format!("{}#{place}", row.asked.prediction_id(&row.model)),
                    at: Now { mono: row.at, wall: WallMs(now.wall.0.saturating_sub(ago_ms)) },
                    features: Arc::clone(&row.features),
                    class: row.class,
                    confidence: row.confidence,
                    doubt: doubt(served, &row.features, row.confidence),
                    outlying: !is_usual,
                },
                now.mono,
            );
        }
        drop(models);
        if is_more {
            self.more.notify_one();
        }
    }

    /// Takes note of a label that is on disk.
    pub(super) fn answered(
        &self,
        model: &ModelName,
        prediction_id: &str,
        row: (&Arc<[f32]>, Option<u32>),
        truth: Option<u32>,
    ) {
        if let Some(of) = self.models().get_mut(model) {
            of.learned += 1;
            of.queue.answered(prediction_id, row, truth, self.clock.mono());
        }
    }

    fn next(&self, served: &ServedModel, count: usize) -> AskedOut {
        let model = served.name().clone();
        let mut models = self.models();
        let Some(of) = models.get_mut(&model) else {
            return AskedOut { model, waiting: 0, rows: Vec::new() };
        };
        of.follow(served);
        if of.learned > 0 {
            of.measure(served);
        }
        let next: Vec<Question> = of.queue.next(count, self.clock.mono()).into_iter().cloned().collect();
        let rows = next.iter().map(|one| ask_out(served, of, one)).collect();
        AskedOut { model, waiting: of.queue.len() as u64, rows }
    }

    /// The row that is worth a message, if one is while `left` of `budget` may still be sent. `None` where no row
    /// waits that nobody was told of.
    pub(super) fn choose(&self, served: &ServedModel, left: u64, budget: u64) -> Option<Option<AskOut>> {
        let mut models = self.models();
        let of = models.get_mut(served.name())?;
        of.follow(served);
        let one = of.queue.untold(self.clock.mono())?.clone();
        let is_asked = of.asker.offer(one.doubt, left, budget);
        if is_asked {
            of.queue.tell(&one.prediction_id);
        }
        Some(is_asked.then(|| ask_out(served, of, &one)))
    }

    /// Waits until a row came that waits.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }
}

fn ask_out(served: &ServedModel, of: &OfModel, one: &Question) -> AskOut {
    let manifest = &served.info().manifest;
    let values = one.features.iter().map(|value| value.is_finite().then_some(*value));
    AskOut {
        model: served.name().clone(),
        prediction_id: one.prediction_id.clone(),
        at: one.at.wall,
        features: manifest.features.iter().map(|feature| feature.name.clone()).zip(values).collect(),
        class: one.class.and_then(|class| served.class_name(class)).map(str::to_owned),
        confidence: (!manifest.output.classes.is_empty()).then_some(one.confidence),
        why: of.queue.why(one),
    }
}

impl ServeState {
    /// The rows of a model to label first.
    pub fn next_asks(&self, model: Option<&str>, count: usize) -> Result<AskedOut, Refused> {
        let served = match model {
            Some(model) => self.models.get(model, None)?,
            None => self.models.only()?,
        };
        let none = || AskedOut { model: served.name().clone(), waiting: 0, rows: Vec::new() };
        Ok(self.outlet.asks().map_or_else(none, |asks| asks.next(&served, count)))
    }

    /// Nobody can tell about a row.
    pub(super) fn skip_ask(&self, skip: &SkipIn) -> Result<(), Refused> {
        let mut id = skip.prediction_id.clone();
        if !id.contains('#') {
            id.push_str("#0");
        }
        let not_asked = || Refused::NotAsked { id: shortened(&id) };
        let model = model_of(&id).ok_or_else(not_asked)?;
        let asks = self.outlet.asks().ok_or_else(not_asked)?;
        let mut models = asks.models();
        let of = models.get_mut(&model).ok_or_else(not_asked)?;
        if of.queue.skip(&id, asks.clock.mono()) { Ok(()) } else { Err(not_asked()) }
    }
}
