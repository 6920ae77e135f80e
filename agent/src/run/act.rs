//! Carries out the effects that reach into the world; each comes back as an event.

use super::note;
use super::swap::{Place, Swap};
use crate::control::Replay;
use crate::core::agent::Status;
use crate::core::{Agent, Conditions, Effect, Event, RemoteTask, TrainJob};
use crate::fetch::Fetcher;
use crate::log_tail::LogTail;
use crate::mqtt::{Message, Publisher};
use crate::report::chain;
use crate::sensors::Sensors;
use crate::serve::ServeState;
use crate::serve::local::Local;
use crate::store::StateDb;
use crate::vault::Vault;
use crate::worker::Workers;
use shoal_proto::decision::Made;
use shoal_proto::fact::Artifact;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::package::Package;
use shoal_proto::topic::Topic;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// What the loop acts with.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) state: StateDb,
    pub(super) vault: Vault,
    pub(super) workers: Workers,
    pub(super) fetcher: Fetcher,
    pub(super) serving: Arc<ServeState>,
    pub(super) hub: Option<Publisher>,
    pub(super) local: Option<Local>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tracker: TaskTracker,
    pub(super) sensors: Arc<Mutex<Sensors>>,
    pub(super) swaps: mpsc::Sender<Swap>,
    pub(super) log: LogTail,
}

impl Act {
    pub(super) fn carry_out(&self, effect: Effect, agent: &Agent) {
        match effect {
            Effect::Publish { topic, frame } => {
                let topic = Topic::Up(agent.device().clone(), topic).to_string();
                self.publish(Message { topic, payload: frame, retain: false });
            }
            Effect::Announce(model) => {
                if let Some(local) = &self.local {
                    local.announce(model);
                }
            }
            Effect::TellFinding(finding) => {
                self.serving.models().metrics().found(&finding);
                if let Some(local) = &self.local {
                    local.tell_finding(finding);
                }
            }
            Effect::TellHealth(health) => {
                self.serving.models().metrics().healthy(&health);
                if let Some(local) = &self.local {
                    local.tell_health(health);
                }
            }
            Effect::Fetch { model, generation, version, artifact } => {
                self.fetch(model, generation, version, artifact);
            }
            Effect::StopFetch { model, generation } => self.fetcher.stop(model, generation),
            Effect::Admit { version } => self.admit(version),
            Effect::Serve { model, version } => self.swap(Swap { model, version, place: Place::Served }),
            Effect::Shadow { model, version } => self.swap(Swap { model, version, place: Place::Shadow }),
            Effect::EndShadow { model, version } => self.swap(Swap { model, version, place: Place::None }),
            Effect::Train(job) => self.train(job),
            Effect::Sense => self.sense(),
            Effect::PauseTraining { run } => self.workers.pause(run),
            Effect::ResumeTraining { run } => self.workers.resume(run),
            Effect::StopTraining { run } => self.workers.stop(run),
            Effect::Remote { place, id, task } => self.remote(place, id, &task),
            Effect::Remove { version } => self.remove(version),
            Effect::Note(said) => note::log(&said),
            Effect::Persist(_) | Effect::Reply { .. } => {} // the loop's own
        }
    }

    /// Birth, after every connect.
    pub(super) fn say_online(&self, agent: &Agent) {
        self.publish(super::status(agent.device(), agent.incarnation(), agent.boot(), true));
    }

    /// What the broker does not take is not lost: the cursor protocol sends it again.
    fn publish(&self, message: Message) {
        if let Some(hub) = &self.hub
            && let Err(cause) = hub.publish(message)
        {
            tracing::debug!(error = %cause, "message to the hub was not taken");
        }
    }

    fn spawn(&self, task: impl Future<Output = Option<Event>> + Send + 'static) {
        let events = self.events.clone();
        self.tracker.spawn(async move {
            if let Some(event) = task.await
                && events.send(event).await.is_err()
            {
                tracing::debug!("an answer came after the loop had ended");
            }
        });
    }

    fn fetch(&self, model: ModelName, generation: u64, version: Digest, artifact: Artifact) {
        let fetcher = self.fetcher.clone();
        self.spawn(async move {
            let outcome = fetcher.fetch(model.clone(), generation, version, artifact).await?;
            Some(Event::Fetched { model, generation, outcome })
        });
    }

    fn admit(&self, version: Digest) {
        let workers = self.workers.clone();
        self.spawn(async move { Some(Event::Admitted { version, outcome: workers.admit(version).await }) });
    }

    fn train(&self, job: TrainJob) {
        let run = job.run;
        let trained = self.workers.train(job);
        self.spawn(async move { Some(Event::TrainingEnded { run, outcome: trained.await }) });
    }

    /// Makes a version again, for the operator.
    pub(super) fn replay(
        &self,
        job: TrainJob,
        made: Made,
        version: Digest,
        answer: oneshot::Sender<Result<Replay, String>>,
    ) {
        let workers = self.workers.clone();
        self.spawn(async move {
            let memory_bytes = made.by.as_ref().map(|by| by.memory_bytes);
            let again = workers.replay(job, version, memory_bytes).await;
            // The operator may have gone.
            drop(answer.send(again.map(|again| Replay { version, made_by: made.by, again })));
            None
        });
    }

    /// Looks at the device; drivers of sensors may take their time.
    fn sense(&self) {
        let (sensors, serving) = (Arc::clone(&self.sensors), Arc::clone(&self.serving));
        let written_bytes = self.workers.written_bytes();
        self.spawn(async move {
            let looked = tokio::task::spawn_blocking(move || {
                let mut sensors = sensors.lock().unwrap_or_else(PoisonError::into_inner);
                Conditions {
                    latency_us: sensors.latency_us(serving.models()),
                    written_bytes,
                    ..sensors.look()
                }
            });
            match looked.await {
                Ok(seen) => Some(Event::Conditions(seen)),
                Err(cause) => {
                    tracing::warn!(error = %cause, "the sensors were not looked at");
                    None
                }
            }
        });
    }

    /// Writes into a status how far runs are.
    pub(super) fn fill_in(&self, status: &mut Status) {
        for training in status.models.iter_mut().filter_map(|model| model.training.as_mut()) {
            if let Some(said) = self.workers.progress(training.run) {
                (training.step, training.steps) = (said.step, said.steps);
                training.loss = said.loss;
            }
        }
    }

    /// What the hub asked of this device.
    fn remote(&self, place: u8, id: u64, task: &RemoteTask) {
        let outcome = match task {
            RemoteTask::Log { lines } => Ok(self.log.lines(usize::try_from(*lines).unwrap_or(usize::MAX))),
            RemoteTask::Labels { model, rows } => self.ask_for_labels(model, *rows),
        };
        self.spawn(async move { Some(Event::Remote { place, id, outcome }) });
    }

    fn ask_for_labels(&self, model: &ModelName, rows: u32) -> Result<String, String> {
        let count = usize::try_from(rows).unwrap_or(usize::MAX);
        let asked = self.serving.next_asks(Some(model.as_str()), count).map_err(|refused| refused.text())?;
        let Some(local) = &self.local else {
            let waiting = asked.waiting;
            return Ok(format!("{waiting} rows wait for labels; no broker of applications is configured"));
        };
        asked.rows.iter().for_each(|ask| local.tell_ask(ask));
        Ok(format!("asked for the labels of {} rows", asked.rows.len()))
    }

    fn remove(&self, version: Digest) {
        let vault = self.vault.clone();
        self.spawn(async move {
            let removed = tokio::task::spawn_blocking(move || vault.remove(version)).await;
            match removed {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => tracing::warn!(%version, error = %chain(&cause), "version was not removed"),
                Err(cause) => tracing::warn!(%version, error = %cause, "version was not removed"),
            }
            None
        });
    }

    /// Swaps are carried out one after the other, in order, by [`super::swap::carry_out`].
    fn swap(&self, swap: Swap) {
        if let Err(mpsc::error::TrySendError::Full(swap)) = self.swaps.try_send(swap) {
            let swaps = self.swaps.clone();
            self.spawn(async move {
                drop(swaps.send(swap).await); // closed only when the agent stops
                None
            });
        }
    }

    pub(super) fn install(&self, command: u64, bytes: Vec<u8>) {
        let vault = self.vault.clone();
        self.spawn(async move {
            let installed = tokio::task::spawn_blocking(move || {
                let package = Package::from_archive(&bytes).map_err(|cause| chain(&cause))?;
                vault.put(&package).map_err(|cause| chain(&cause))
            })
            .await;
            let outcome = installed.map_err(|cause| cause.to_string()).and_then(|outcome| outcome);
            Some(Event::Installed { command, outcome })
        });
    }
}
