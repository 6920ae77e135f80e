//! The loop: one event, one turn of the core, its effects in order.

use super::act::Act;
use crate::clock::Clock;
use crate::control::{Ask, Version};
use crate::core::{Agent, Effect, Event};
use crate::mqtt::MqttEvent;
use shoal_proto::time::Mono;
use shoal_proto::topic::{Down, Topic};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How often `state.db` is copied, so that a damaged file costs an hour and not everything.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(3_600);
/// Pause before a failed write to `state.db` is tried again.
const RETRY: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<String, String>>;

/// The loop's state.
#[derive(Debug)]
pub(super) struct Turns {
    agent: Agent,
    act: Act,
    clock: Clock,
    from_world: mpsc::Receiver<Event>,
    from_hub: Option<mpsc::Receiver<MqttEvent>>,
    from_operator: mpsc::Receiver<Ask>,
    answers: BTreeMap<u64, Answer>,
    next_command: u64,
    next_snapshot: Mono,
}

enum Input {
    Event(Box<Event>),
    Ask(Ask),
    Stop,
}

impl Turns {
    pub(super) fn new(
        agent: Agent,
        act: Act,
        clock: Clock,
        from_world: mpsc::Receiver<Event>,
        from_hub: Option<mpsc::Receiver<MqttEvent>>,
        from_operator: mpsc::Receiver<Ask>,
    ) -> Self {
        let (answers, next_command, next_snapshot) = (BTreeMap::new(), 0, Mono::default());
        Self { agent, act, clock, from_world, from_hub, from_operator, answers, next_command, next_snapshot }
    }

    pub(super) async fn run(mut self, first: Vec<Effect>, cancel: CancellationToken) {
        let mut effects = first;
        loop {
            for effect in effects.drain(..) {
                if !self.carry_out(effect, &cancel).await {
                    return;
                }
            }
            self.act.serving.set_ready(self.agent.is_ready());
            self.keep_a_snapshot().await;
            match self.next(&cancel).await {
                Input::Event(event) => self.agent.handle(self.clock.now(), *event, &mut effects),
                Input::Ask(ask) => self.on_ask(ask, &mut effects),
                Input::Stop => break,
            }
        }
        // What the monitors and counters know goes to disk before the process ends.
        self.agent.on_stop(self.clock.now(), &mut effects);
        for effect in effects {
            if let Effect::Persist(records) = effect
                && let Err(cause) = self.act.state.commit(records).await
            {
                tracing::error!(error = %crate::report::chain(&cause), "last state was not written");
            }
        }
    }

    async fn keep_a_snapshot(&mut self) {
        let now = self.clock.mono();
        if now < self.next_snapshot {
            return;
        }
        self.next_snapshot = now.after(SNAPSHOT_EVERY);
        if let Err(cause) = self.act.state.snapshot().await {
            tracing::warn!(error = %crate::report::chain(&cause), "state.db was not copied");
        }
    }

    async fn next(&mut self, cancel: &CancellationToken) -> Input {
        let due = self.clock.until(self.agent.next_deadline());
        tokio::select! {
            biased;
            () = cancel.cancelled() => Input::Stop,
            Some(ask) = self.from_operator.recv() => Input::Ask(ask),
            Some(event) = from_hub(&mut self.from_hub) => Input::Event(Box::new(self.translate(event))),
            Some(event) = self.from_world.recv() => Input::Event(Box::new(event)),
            () = tokio::time::sleep(due) => Input::Event(Box::new(Event::Tick)),
        }
    }

    fn translate(&mut self, event: MqttEvent) -> Event {
        match event {
            MqttEvent::Up => {
                tracing::info!("hub's broker is connected");
                self.act.say_online(&self.agent);
                Event::LinkUp
            }
            MqttEvent::Down { reason } => {
                tracing::debug!(reason, "hub's broker is gone");
                Event::LinkDown
            }
            MqttEvent::Message(message) => match Topic::parse(&message.topic) {
                Some(Topic::Down(_, Down::Sync)) => Event::FromHub(message.payload),
                Some(Topic::Down(_, Down::Artifact)) if self.act.fetcher.on_part(&message.payload) => {
                    Event::Tick // it is none of the core's
                }
                _ => Event::BadMessage,
            },
        }
    }

    /// One effect; `false`: stop. A write that fails is tried until it holds: nothing after it may
    /// happen before.
    async fn carry_out(&mut self, effect: Effect, cancel: &CancellationToken) -> bool {
        match effect {
            Effect::Persist(records) => {
                let mut told = false;
                while let Err(cause) = self.act.state.commit(records.clone()).await {
                    if !told {
                        tracing::error!(error = %crate::report::chain(&cause), "state.db takes no writes, trying again");
                        told = true;
                    }
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return false,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
            Effect::Reply { number, outcome } => {
                if let Some(answer) = self.answers.remove(&number) {
                    drop(answer.send(outcome)); // the operator may have gone
                }
            }
            other => self.act.carry_out(other, &self.agent),
        }
        true
    }

    fn on_ask(&mut self, ask: Ask, effects: &mut Vec<Effect>) {
        let now = self.clock.now();
        match ask {
            Ask::Status(answer) => {
                let mut status = self.agent.status(now);
                self.act.fill_in(&mut status);
                drop(answer.send(status));
            }
            Ask::Versions(answer) => {
                let versions = self.agent.versions().into_iter();
                drop(answer.send(versions.map(|(version, record)| Version { version, record }).collect()));
            }
            Ask::Manifest(model, answer) => drop(answer.send(self.agent.manifest(&model))),
            Ask::Drift(model, answer) => drop(answer.send(self.agent.drift(&model).map(Box::new))),
            Ask::Lineage(answer) => drop(answer.send(self.agent.lineage())),
            Ask::Replay(version, answer) => match self.agent.replay_job(version) {
                Ok((job, made)) => self.act.replay(job, made, version, answer),
                Err(reason) => drop(answer.send(Err(reason))),
            },
            Ask::Command(command, answer) => {
                let number = self.await_answer(answer);
                self.agent.handle(now, Event::Command { number, command }, effects);
            }
            Ask::Install(bytes, answer) => {
                let number = self.await_answer(answer);
                self.act.install(number, bytes);
            }
        }
    }

    fn await_answer(&mut self, answer: Answer) -> u64 {
        self.next_command += 1;
        self.answers.retain(|_, answer| !answer.is_closed());
        self.answers.insert(self.next_command, answer);
        self.next_command
    }
}

async fn from_hub(receiver: &mut Option<mpsc::Receiver<MqttEvent>>) -> Option<MqttEvent> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
