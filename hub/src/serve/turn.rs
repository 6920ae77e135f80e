//! The hub's loop: events in, effects out, disk before world.

use crate::clock::Clock;
use crate::core::{Answer, Effect, Event, Hub, Note, Record, Refusal, Request};
use crate::courier::{Asked, Traffic};
use crate::link::{LinkEvent, Out};
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Events of one turn, so that they share one commit: what a commit waits for the disk is a quarter of the work on
/// 256 heartbeats, and a turn of these is over in a tenth of a second.
const TURN_EVENTS: usize = 1_024;
/// Longest sleep of the loop.
const IDLE: Duration = Duration::from_secs(60);

/// A request on its way to the core.
#[derive(Debug)]
pub struct Ask {
    request: Request,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
}

/// Asks the core from elsewhere.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Ask>);

impl Asker {
    pub(super) const fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self(asks)
    }

    /// Asks, and waits until what was done is on disk.
    pub async fn ask(&self, request: Request) -> Result<Result<Answer, Refusal>, AskError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask { request, reply }).await.map_err(|_closed| AskError::Stopping)?;
        answer.await.map_err(|_closed| AskError::Stopping)
    }
}

/// What the loop needs.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) hub: Hub,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) from_link: mpsc::Receiver<LinkEvent>,
    pub(super) to_link: mpsc::Sender<Out>,
    pub(super) from_api: mpsc::Receiver<Ask>,
    pub(super) to_courier: mpsc::Sender<Asked>,
    pub(super) traffic: Arc<Traffic>,
}

impl Turns {
    /// Runs until cancelled; a database that does not take a write ends it, since the state in memory
    /// is then ahead of the disk.
    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<(), StoreError> {
        let mut waiting: BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>> = BTreeMap::new();
        let mut number = 0;
        loop {
            let sleep = self.hub.next_deadline().map_or(IDLE, |at| self.clock.until(at).min(IDLE));
            let mut asked = None;
            let first = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Some(ask) = self.from_api.recv() => { asked = Some(ask); None }
                Some(event) = self.from_link.recv() => Some(of_link(event)),
                () = tokio::time::sleep(sleep) => Some(Event::Tick),
            };
            let mut events: Vec<Event> = first.into_iter().collect();
            while let Some(ask) = asked.take().or_else(|| self.from_api.try_recv().ok()) {
                number += 1;
                waiting.insert(number, ask.reply);
                events.push(Event::Request { number, request: ask.request });
            }
            while events.len() < TURN_EVENTS
                && let Ok(event) = self.from_link.try_recv()
            {
                events.push(of_link(event));
            }
            let (mut records, mut effects) = (Vec::new(), Vec::new());
            for event in events {
                let mut of_one = Vec::new();
                self.hub.handle(self.clock.now(), event, &mut of_one);
                for effect in of_one {
                    match effect {
                        Effect::Persist(more) => records.extend(more),
                        other => effects.push(other),
                    }
                }
            }
            self.act(records, effects, &mut waiting).await?;
        }
    }

    async fn act(
        &self,
        records: Vec<Record>,
        effects: Vec<Effect>,
        waiting: &mut BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    ) -> Result<(), StoreError> {
        if !records.is_empty() {
            self.store.persist(records).await?;
        }
        for effect in effects {
            match effect {
                Effect::Persist(records) => self.store.persist(records).await?,
                Effect::Publish { topic, frame } => {
                    if self.to_link.try_send(Out { topic, frame }).is_err() {
                        tracing::warn!("the link's queue is full: a frame was dropped, it is sent again");
                    }
                }
                Effect::Carry { device, need, refused } => {
                    if self.to_courier.try_send(Asked { device, need, refused }).is_err() {
                        self.traffic.drop_need(); // it asks again
                    }
                }
                Effect::Reply { number, outcome } => {
                    let reply = waiting.remove(&number).map(|reply| reply.send(outcome));
                    if !matches!(reply, Some(Ok(()))) {
                        tracing::debug!(number, "nobody waits for this answer any more");
                    }
                }
                Effect::Note(note) => log(&note),
            }
        }
        Ok(())
    }
}

fn of_link(event: LinkEvent) -> Event {
    match event {
        LinkEvent::Up => {
            tracing::info!("link is up");
            Event::BrokerUp
        }
        LinkEvent::Down => Event::BrokerDown,
        LinkEvent::Frame { topic, retained, bytes } => Event::DeviceFrame { topic, retained, bytes },
    }
}

fn log(note: &Note) {
    use tracing::{info, warn};
    match note {
        Note::DeviceJoined { device } => info!(%device, "device joined"),
        Note::DeviceOnline { device, boot } => info!(%device, boot, "device is online"),
        Note::DeviceOffline { device } => info!(%device, "device is offline"),
        Note::DeviceRemoved { device } => info!(%device, "device removed"),
        Note::CommandGiven { device, id, what } => info!(%device, id, what, "command is given"),
        Note::CommandWithdrawn { device, id, reason } => {
            info!(%device, id, reason, "command is withdrawn");
        }
        Note::ModelPushed { name } => info!(version = name, "version is in the registry"),
        Note::Condemned { name, holds, reason } => {
            info!(version = name, holds, reason, "word of condemnation");
        }
        Note::WaveStarted { rollout, wave, devices, generation } => {
            info!(%rollout, wave, devices, generation, "wave started");
        }
        Note::SoakStarted { rollout, wave } => info!(%rollout, wave, "soak started"),
        Note::RolloutEnded { rollout, phase } => info!(%rollout, reason = %phase, "rollout ended"),
        Note::Reverting { rollout, devices } => info!(%rollout, devices, "devices go back"),
        Note::Alarm { device, reason } => {
            let device = device.as_ref().map(ToString::to_string);
            warn!(device, reason, "alarm");
        }
    }
}
