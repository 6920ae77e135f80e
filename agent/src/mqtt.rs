//! An MQTT client that reconnects for ever; rumqttc is named in this module only.
//!
//! Sessions are clean and each connection has its own event loop, so that nothing of an earlier
//! connection is ever sent again: whoever needs delivery re-sends by its own cursor. Publishing never
//! waits; what finds the queue full or the broker away is refused, and the caller knows.

mod drive;
mod url;

pub use url::{Broker, UrlError};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Messages that wait to be published: a burst of one batch a row for a second at 256 Hz.
const OUT_QUEUE: usize = 256;
/// Messages that wait to be read by the agent.
const IN_QUEUE: usize = 64;

/// How to reach a broker, and what for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where: `mqtt://host[:port]`.
    pub broker: Broker,
    /// Unique at the broker; a second client with the same id ends the first one's connection.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Filters, subscribed with QoS 1 after every connect, before [`MqttEvent::Up`].
    pub subscriptions: Vec<String>,
    /// What the broker says of us when the connection breaks, and we ourselves before a goodbye.
    pub last_will: Option<Message>,
    /// A connection on which nothing comes for twice as long is broken.
    pub keep_alive: Duration,
    /// Longest wait before another attempt.
    pub max_backoff: Duration,
    /// Largest packet in either direction. A larger one from the broker breaks the connection.
    pub max_packet_bytes: usize,
}

impl Options {
    /// Keep-alive 30 s, a minute of back-off, packets up to 128 KiB.
    #[must_use]
    pub fn new(broker: Broker, client_id: impl Into<String>) -> Self {
        Self {
            broker,
            client_id: client_id.into(),
            credentials: None,
            subscriptions: Vec::new(),
            last_will: None,
            keep_alive: Duration::from_secs(30),
            max_backoff: Duration::from_secs(60),
            max_packet_bytes: 128 * 1024,
        }
    }
}

/// A message to or from the broker; sent with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Kept by the broker for later subscribers.
    pub retain: bool,
}

/// What a connection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MqttEvent {
    /// The broker took us and all subscriptions stand.
    Up,
    /// The connection is gone, or an attempt failed; another follows. `reason` is for the log.
    Down { reason: String },
    /// A message on one of our subscriptions.
    Message(Message),
}

/// A message that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error("the broker is not connected")]
    Down,
    /// The queue is full: the broker is slower than we are.
    #[error("{OUT_QUEUE} messages already wait for the broker")]
    Full,
}

#[derive(Debug, Default)]
struct Shared {
    up: AtomicBool,
    refused: AtomicU64,
    unread: AtomicU64,
}

/// The sending half. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

impl Publisher {
    /// Hands a message to the broker's connection, without waiting.
    ///
    /// `Ok` is no delivery: what still waits when the connection breaks is thrown away.
    pub fn publish(&self, message: Message) -> Result<(), PublishError> {
        let result = if self.is_up() {
            self.queue.try_send(message).map_err(|_refused| PublishError::Full)
        } else {
            Err(PublishError::Down)
        };
        if result.is_err() {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Whether the broker has us now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    /// Messages that [`Publisher::publish`] refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Messages from the broker that were dropped since the agent did not read them in time.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.shared.unread.load(Ordering::Relaxed)
    }
}

/// An MQTT client.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Connects, and again for ever, until `cancel`; then what waits is sent, the last will too, and the
    /// broker is told goodbye.
    pub fn spawn(
        tracker: &TaskTracker,
        cancel: CancellationToken,
        options: Options,
    ) -> (Publisher, mpsc::Receiver<MqttEvent>) {
        let (queue, waiting) = mpsc::channel(OUT_QUEUE);
        let (events, receiver) = mpsc::channel(IN_QUEUE);
        let shared = Arc::new(Shared::default());
        let driver = drive::Driver { options, waiting, events, shared: Arc::clone(&shared), cancel };
        tracker.spawn(driver.run());
        (Publisher { queue, shared }, receiver)
    }
}

#[cfg(test)]
pub(crate) mod mosquitto;
#[cfg(test)]
mod tests;
