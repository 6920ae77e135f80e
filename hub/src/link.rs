//! The link: one MQTT 3.1.1 client (rumqttc) that hears all devices and speaks to each.
//!
//! The session is clean and there is one `EventLoop` per connection: what was in flight when a
//! connection died is thrown away, since the cursor protocol sends it again. Publishing runs beside
//! polling, never inside it, or both wait for each other.

use crate::report::error_chain;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing,
    Packet, QoS,
};
use shoal_proto::topic::Topic;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Largest packet either way: a frame of 60 KiB with its topic, twice over.
const MAX_PACKET_BYTES: usize = 128 * 1024;
/// Publishes that rumqttc holds between us and its event loop.
const CLIENT_QUEUE: usize = 64;
/// Unacknowledged publishes: what the embedded broker allows a client.
const INFLIGHT: u16 = 64;
/// Chunks that may lie between us and the broker, before a word of control: 64 KiB are half a second on a slow line.
const CHUNKS_AHEAD: usize = 2;
/// Silence after which the client pings.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Silence after which a half-open connection is given up: two missed pings.
const WATCHDOG: Duration = Duration::from_secs(75);
/// First and last wait between two connections, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Where the broker is and who we are.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// MQTT client id.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// A frame for a device.
#[derive(Debug)]
pub struct Out {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub frame: Vec<u8>,
}

/// What the link tells.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up,
    /// The connection is gone.
    Down,
    /// A message from a device.
    Frame { topic: String, retained: bool, bytes: Vec<u8> },
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("connection to the broker failed")]
    Connection(#[source] Box<ConnectionError>),
    #[error("the broker was silent for {} s", WATCHDOG.as_secs())]
    Silent,
    #[error("the broker's client took no more messages")]
    Client(#[source] Box<ClientError>),
    #[error("the hub took no more messages")]
    Closed,
}

/// Runs the link until it is cancelled. Messages that find the queue full are dropped and counted: the
/// device sends them again. What is in the first queue goes before what is in the second, which holds chunks.
pub async fn run(
    config: LinkConfig,
    events: mpsc::Sender<LinkEvent>,
    (mut outbox, mut chunks): (mpsc::Receiver<Out>, mpsc::Receiver<Out>),
    cancel: CancellationToken,
) {
    let mut tries = 0;
    let mut dropped = 0;
    while !cancel.is_cancelled() {
        while outbox.try_recv().is_ok() {} // words of a conversation that is over
        while chunks.try_recv().is_ok() {}
        let ahead = Ahead::default();
        let (client, mut event_loop) = AsyncClient::new(options(&config), CLIENT_QUEUE);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true); // small messages would wait for the delayed ACK of the one before
        event_loop.set_network_options(network);
        let mut up = false;
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            ended = poll(event_loop, (&client, &ahead), &events, &mut up, &mut dropped) => ended,
            ended = publish(&client, &mut outbox, &mut chunks, &ahead) => ended,
        };
        if up && events.send(LinkEvent::Down).await.is_err() {
            break;
        }
        tries = if up { 0 } else { tries + 1 };
        if let Err(error) = outcome {
            let host = &config.host;
            tracing::warn!(%host, port = config.port, error = error_chain(&error), tries, dropped, "link is down");
        }
        let span = BACKOFF.0.saturating_mul(1 << tries.min(10)).min(BACKOFF.1);
        let wait = span.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn options(config: &LinkConfig) -> MqttOptions {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_inflight(INFLIGHT)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    if let Some((user, password)) = &config.login {
        options.set_credentials(user, password);
    }
    options
}

async fn poll(
    mut event_loop: EventLoop,
    (client, ahead): (&AsyncClient, &Ahead),
    events: &mpsc::Sender<LinkEvent>,
    up: &mut bool,
    dropped: &mut u64,
) -> Result<(), LinkError> {
    loop {
        let event = timeout(WATCHDOG, event_loop.poll()).await.map_err(|_elapsed| LinkError::Silent)?;
        match event.map_err(|error| LinkError::Connection(Box::new(error)))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                // The queue of a new client is empty: this cannot wait for the loop that we are.
                let subscribed = client.try_subscribe(Topic::hub_filter(), QoS::AtLeastOnce);
                subscribed.map_err(|error| LinkError::Client(Box::new(error)))?;
            }
            Event::Incoming(Packet::SubAck(_)) => {
                *up = true;
                events.send(LinkEvent::Up).await.map_err(|_closed| LinkError::Closed)?;
            }
            Event::Incoming(Packet::Publish(message)) => {
                let frame = LinkEvent::Frame {
                    topic: message.topic,
                    retained: message.retain,
                    bytes: message.payload.to_vec(),
                };
                if events.try_send(frame).is_err() {
                    *dropped += 1;
                }
            }
            Event::Outgoing(Outgoing::Publish(_)) => ahead.gone(),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }
}

/// What was given to rumqttc and is not on its way yet, in order: is it a chunk? A chunk waits here for its place, so
/// that never more than a few lie before a word of control that comes later.
#[derive(Debug)]
struct Ahead {
    order: Mutex<VecDeque<bool>>,
    room: Semaphore,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { order: Mutex::default(), room: Semaphore::new(CHUNKS_AHEAD) }
    }
}

impl Ahead {
    fn goes(&self, is_chunk: bool) {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).push_back(is_chunk);
    }

    fn gone(&self) {
        if self.order.lock().unwrap_or_else(PoisonError::into_inner).pop_front() == Some(true) {
            self.room.add_permits(1);
        }
    }
}

async fn publish(
    client: &AsyncClient,
    outbox: &mut mpsc::Receiver<Out>,
    chunks: &mut mpsc::Receiver<Out>,
    ahead: &Ahead,
) -> Result<(), LinkError> {
    loop {
        let chunk = async {
            let place = ahead.room.acquire().await.ok()?;
            let chunk = chunks.recv().await?;
            place.forget(); // given back when it is on its way
            Some(chunk)
        };
        let (next, is_chunk) = tokio::select! {
            biased;
            next = outbox.recv() => (next, false),
            next = chunk => (next, true),
        };
        let Out { topic, frame } = next.ok_or(LinkError::Closed)?;
        ahead.goes(is_chunk);
        // A chunk that is lost is asked for again.
        let qos = if is_chunk { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let sent = client.publish(topic.to_string(), qos, false, frame).await;
        sent.map_err(|error| LinkError::Client(Box::new(error)))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_chunks_lie_before_a_word_of_control() {
        let ahead = Ahead::default();
        let is_room = || ahead.room.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok();
        for _ in 0..CHUNKS_AHEAD {
            assert!(is_room());
            ahead.goes(true);
            ahead.goes(false);
        }
        assert!(!is_room());
        ahead.gone(); // the first chunk
        assert!(is_room(), "its place is free");
        ahead.gone(); // a word
        assert!(!is_room(), "words have no places");
        ahead.gone();
        ahead.gone();
        ahead.gone(); // what was never given
        assert!(is_room() && !is_room());
    }
}
