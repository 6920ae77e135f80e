//! One connection after the other.

use super::{Message, MqttEvent, Options, Shared};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet,
    QoS, SubscribeFilter, SubscribeReasonCode,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Unacknowledged publishes: rumqttc's own bookkeeping has trouble with more.
const INFLIGHT: u16 = 20;
/// Requests between us and rumqttc's event loop.
const REQUESTS: usize = 64;
/// First back-off; doubles with each failure, drawn evenly between zero and itself.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// How long the agent may leave the inbound queue full before messages are dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub(super) options: Options,
    pub(super) waiting: mpsc::Receiver<Message>,
    pub(super) events: mpsc::Sender<MqttEvent>,
    pub(super) shared: Arc<Shared>,
    pub(super) cancel: CancellationToken,
}

/// Why a connection ended.
enum End {
    /// We were told to stop.
    Cancelled,
    /// It broke, or never came about.
    Broken(String),
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        let mut random = StdRng::from_os_rng();
        while !self.cancel.is_cancelled() && !self.events.is_closed() {
            let end = self.connection(&mut failures).await;
            self.shared.up.store(false, Ordering::Release);
            let End::Broken(reason) = end else { break };
            let wait = backoff(failures, self.options.max_backoff, random.random());
            failures = failures.saturating_add(1);
            let events = self.events.clone();
            let told = async {
                let told = events.send(MqttEvent::Down { reason }).await;
                sleep(wait).await;
                told
            };
            // What is queued meanwhile belongs to no connection.
            let drop_all = async { while self.waiting.recv().await.is_some() {} };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                told = told => if told.is_err() { break },
                () = drop_all => break,
            }
        }
    }

    async fn connection(&mut self, failures: &mut u32) -> End {
        let (client, mut event_loop) = AsyncClient::new(rumqtt_options(&self.options), REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true); // small messages would wait for the delayed ACK of the one before
        event_loop.set_network_options(network);
        let patience = self.options.keep_alive * 2;
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return End::Cancelled,
            opened = self.open(&client, &mut event_loop, patience) => {
                if let Err(reason) = opened {
                    return End::Broken(reason);
                }
            }
        }
        *failures = 0;
        while self.waiting.try_recv().is_ok() {}
        self.shared.up.store(true, Ordering::Release);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return End::Cancelled,
            told = self.events.send(MqttEvent::Up) => if told.is_err() { return End::Cancelled },
        }
        let read = read(&mut event_loop, &self.events, &self.shared, patience);
        let mut waiting = std::mem::replace(&mut self.waiting, mpsc::channel(1).1);
        let end = tokio::select! {
            biased;
            () = cancel.cancelled() => End::Cancelled,
            end = read => end,
            end = pump(&client, &mut waiting) => end,
        };
        if matches!(end, End::Cancelled) {
            self.shared.up.store(false, Ordering::Release);
            // Late is better than never here, and not at all is no harm: the outcome is not looked at.
            let will = self.options.last_will.take();
            timeout(GOODBYE, goodbye(&client, &mut event_loop, &mut waiting, will)).await.ok();
        }
        self.waiting = waiting;
        end
    }

    /// Connects and subscribes.
    async fn open(
        &mut self,
        client: &AsyncClient,
        event_loop: &mut EventLoop,
        patience: Duration,
    ) -> Result<(), String> {
        let wanted = self.options.subscriptions.len();
        if wanted > 0 {
            let filters = self.options.subscriptions.iter();
            let filters = filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
            client.try_subscribe_many(filters).map_err(|cause| cause.to_string())?;
        }
        loop {
            match poll(event_loop, patience).await? {
                Event::Incoming(Packet::ConnAck(_)) if wanted == 0 => return Ok(()),
                Event::Incoming(Packet::SubAck(ack)) => {
                    let refused = ack.return_codes.iter().position(|c| *c == SubscribeReasonCode::Failure);
                    return match refused.and_then(|index| self.options.subscriptions.get(index)) {
                        Some(filter) => Err(format!("the broker refuses the subscription `{filter}`")),
                        None => Ok(()),
                    };
                }
                Event::Incoming(Packet::Publish(message)) => {
                    // A retained message can come before the acknowledgement of the subscription.
                    deliver(&self.events, &self.shared, message).await;
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }
}

async fn poll(event_loop: &mut EventLoop, patience: Duration) -> Result<Event, String> {
    match timeout(patience, event_loop.poll()).await {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(cause)) => Err(describe(&cause)),
        Err(_) => Err(format!("nothing came for {} s", patience.as_secs())),
    }
}

/// rumqttc's messages are short; the causes behind them say what happened.
fn describe(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

async fn read(
    event_loop: &mut EventLoop,
    events: &mpsc::Sender<MqttEvent>,
    shared: &Shared,
    patience: Duration,
) -> End {
    loop {
        match poll(event_loop, patience).await {
            Ok(Event::Incoming(Packet::Publish(message))) => deliver(events, shared, message).await,
            Ok(Event::Incoming(Packet::Disconnect)) => {
                return End::Broken("the broker says goodbye".into());
            }
            Ok(_) if events.is_closed() => return End::Cancelled,
            Ok(_) => {}
            Err(reason) => return End::Broken(reason),
        }
    }
}

async fn deliver(events: &mpsc::Sender<MqttEvent>, shared: &Shared, message: rumqttc::Publish) {
    let event = MqttEvent::Message(Message {
        topic: message.topic,
        payload: message.payload.to_vec(),
        retain: message.retain,
    });
    // While we wait the broker keeps what follows: the socket is not read.
    if events.send_timeout(event, PATIENCE).await.is_err() {
        shared.unread.fetch_add(1, Ordering::Relaxed);
    }
}

/// Publishes apart from polling: `publish` waits for the event loop to take it.
async fn pump(client: &AsyncClient, waiting: &mut mpsc::Receiver<Message>) -> End {
    while let Some(message) = waiting.recv().await {
        let Message { topic, payload, retain } = message;
        if let Err(cause) = client.publish(topic, QoS::AtLeastOnce, retain, payload).await {
            return End::Broken(cause.to_string());
        }
    }
    End::Cancelled
}

/// Sends what waits, and last what the broker would have said: after a goodbye it drops the will.
async fn goodbye(
    client: &AsyncClient,
    event_loop: &mut EventLoop,
    waiting: &mut mpsc::Receiver<Message>,
    mut will: Option<Message>,
) {
    let send = async {
        while let Some(Message { topic, payload, retain }) = waiting.try_recv().ok().or_else(|| will.take()) {
            if client.publish(topic, QoS::AtLeastOnce, retain, payload).await.is_err() {
                return;
            }
        }
        if client.disconnect().await.is_err() {
            return;
        }
        std::future::pending::<()>().await;
    };
    let poll = async {
        while !matches!(event_loop.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {}
    };
    tokio::select! {
        () = send => {}
        () = poll => {}
    }
}

/// Full jitter: evenly between zero and the doubled span.
fn backoff(failures: u32, longest: Duration, draw: u32) -> Duration {
    let span = FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(longest);
    span.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

fn rumqtt_options(options: &Options) -> MqttOptions {
    let mut rumqtt = MqttOptions::new(&options.client_id, &options.broker.host, options.broker.port);
    rumqtt
        .set_clean_session(true)
        .set_keep_alive(options.keep_alive)
        .set_inflight(INFLIGHT)
        .set_max_packet_size(options.max_packet_bytes, options.max_packet_bytes);
    if let Some((user, password)) = &options.credentials {
        rumqtt.set_credentials(user, password);
    }
    if let Some(will) = &options.last_will {
        rumqtt.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, will.retain));
    }
    rumqtt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let longest = Duration::from_secs(60);
        for (failures, full) in [(0, 1), (1, 2), (5, 32), (6, 60), (u32::MAX, 60)] {
            assert_eq!(backoff(failures, longest, u32::MAX), Duration::from_secs(full), "{failures}");
            assert_eq!(backoff(failures, longest, 0), Duration::ZERO);
        }
    }
}
