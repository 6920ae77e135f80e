//! The broker with real rumqttc clients over real sockets.

#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, Event, Incoming, LastWill, MqttOptions, Outgoing, Publish, QoS,
    SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

use super::*;

/// Longer than any answer takes on a loaded machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &[u8] = b"the hub's secret";
const MAX_PACKET_BYTES: u32 = 131_072;

async fn broker(access: impl Access + 'static) -> Broker {
    broker_with(access, None).await.unwrap()
}

async fn broker_with(access: impl Access + 'static, tls: Option<TlsFiles>) -> Result<Broker, BrokerError> {
    let listen = ([127, 0, 0, 1], 0).into();
    Broker::start(BrokerConfig { listen, max_packet_bytes: MAX_PACKET_BYTES, tls, access: Arc::new(access) })
        .await
}

fn devices() -> DeviceAccess {
    DeviceAccess::new(SECRET, DeviceIdentity::Claimed)
}

fn options(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.addr().port());
    options
        .set_max_packet_size(131_072, 131_072)
        .set_clean_session(true)
        .set_keep_alive(Duration::from_secs(30));
    if id.starts_with("hub-") {
        options.set_credentials("hub", String::from_utf8(SECRET.to_vec()).unwrap());
    }
    options
}

/// A connected client; what arrives is read in order, with a limit on patience.
struct Client {
    mqtt: AsyncClient,
    arriving: mpsc::Receiver<Incoming>,
    polling: JoinHandle<()>,
}

impl Client {
    async fn connect(broker: &Broker, id: &str) -> Self {
        Self::connect_until_served(options(broker, id)).await
    }

    /// Connects again as long as the broker is still busy with the end of an older connection of this id.
    async fn connect_until_served(options: MqttOptions) -> Self {
        let attempts = async {
            loop {
                match Self::connect_with(options.clone()).await {
                    Err(refused) if refused.contains("ServiceUnavailable") => {}
                    other => break other.unwrap(),
                }
            }
        };
        tokio::time::timeout(PATIENCE, attempts).await.expect("a connection")
    }

    /// Connects or tells why not.
    async fn connect_with(options: MqttOptions) -> Result<Self, String> {
        let (mqtt, mut events) = AsyncClient::new(options, 64);
        events.network_options.set_connection_timeout(PATIENCE.as_secs());
        match tokio::time::timeout(PATIENCE, events.poll()).await.expect("an answer to CONNECT") {
            Ok(Event::Incoming(Incoming::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                assert!(!ack.session_present);
            }
            other => return Err(format!("{other:?}")),
        }
        let (arrived, arriving) = mpsc::channel(1024);
        let polling = TaskTracker::new().spawn(async move {
            // The first error ends the task, and with it the channel: a test sees a closed connection as `None`.
            while let Ok(event) = events.poll().await {
                match event {
                    // Sent and flushed; it is for the client to close.
                    Event::Outgoing(Outgoing::Disconnect) => break,
                    Event::Outgoing(_) | Event::Incoming(Incoming::PingResp) => {}
                    Event::Incoming(packet) => {
                        if arrived.send(packet).await.is_err() {
                            break;
                        }
                    }
                }
            }
        });
        Ok(Self { mqtt, arriving, polling })
    }

    /// The next packet, `None` when the connection is closed.
    async fn next(&mut self) -> Option<Incoming> {
        tokio::time::timeout(PATIENCE, self.arriving.recv())
            .await
            .expect("a packet or the end of the connection")
    }

    async fn next_message(&mut self) -> Publish {
        match self.next().await {
            Some(Incoming::Publish(publish)) => publish,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The next message that is not a retained one. rmqtt looks for retained messages after SUBACK, in a
    /// task of its own: one published meanwhile may come twice, and the retained copy late.
    async fn next_live_message(&mut self) -> Publish {
        loop {
            let message = self.next_message().await;
            if !message.retain {
                break message;
            }
        }
    }

    /// Subscribes and returns whether it was granted.
    async fn subscribe(&mut self, filter: &str) -> bool {
        self.mqtt.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        match self.next().await {
            Some(Incoming::SubAck(ack)) => {
                ack.return_codes == [SubscribeReasonCode::Success(QoS::AtLeastOnce)]
            }
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, payload, false).await;
    }

    async fn publish_with(&mut self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        self.mqtt.publish(topic, QoS::AtLeastOnce, retain, payload.into()).await.unwrap();
        let answer = self.next().await;
        assert!(matches!(answer, Some(Incoming::PubAck(_))), "expected PUBACK, got {answer:?}");
    }

    /// Cuts the connection without DISCONNECT, as a power cut does.
    async fn vanish(self) {
        self.polling.abort();
        assert!(self.polling.await.unwrap_err().is_cancelled());
    }

    async fn leave(mut self) {
        self.mqtt.disconnect().await.unwrap();
        assert!(self.next().await.is_none());
    }
}

#[tokio::test]
async fn a_message_of_60_kib_goes_round_with_qos_1() {
    let broker = broker(devices()).await;
    let mut hub = Client::connect(&broker, "hub-core").await;
    let mut press = Client::connect(&broker, "press-07").await;
    assert!(hub.subscribe("shoal/v1/d/+/+/up/#").await);
    assert!(press.subscribe("shoal/v1/d/3f/press-07/dn/#").await);

    let large: Vec<u8> = (0..60 * 1024_u32).map(|i| i.to_le_bytes()[0]).collect();
    press.publish("shoal/v1/d/3f/press-07/up/sync", large.clone()).await;
    let up = hub.next_message().await;
    assert_eq!(
        (up.topic.as_str(), up.qos, up.retain),
        ("shoal/v1/d/3f/press-07/up/sync", QoS::AtLeastOnce, false)
    );
    assert!(up.payload == large);

    hub.publish("shoal/v1/d/3f/press-07/dn/sync", "ack").await;
    assert_eq!(press.next_message().await.payload, "ack");
    assert_eq!(broker.stats().connections, 2);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_in_another_devices_name_reaches_nobody() {
    let broker = broker(devices()).await;
    let mut hub = Client::connect(&broker, "hub-core").await;
    let mut press = Client::connect(&broker, "press-07").await;
    assert!(hub.subscribe("shoal/v1/d/+/+/up/#").await);

    press.publish("shoal/v1/d/3f/press-08/up/sync", "spoofed").await;
    press.publish_with("shoal/v1/d/3f/press-08/up/status", "spoofed and kept", true).await;
    press.publish("shoal/v1/d/3f/press-07/up/sync", "honest").await;

    // One publisher's messages arrive in order: had the spoofed ones passed, they would come first.
    assert_eq!(hub.next_message().await.payload, "honest");
    let stats = broker.stats();
    assert_eq!((stats.refused_publishes, stats.retained, stats.dropped), (2, 0, 0));
}

#[tokio::test]
async fn a_subscription_outside_is_refused_and_delivers_nothing() {
    let broker = broker(devices()).await;
    let mut hub = Client::connect(&broker, "hub-core").await;
    let mut press = Client::connect(&broker, "press-07").await;
    for filter in ["#", "shoal/#", "shoal/v1/d/+/+/dn/#", "shoal/v1/d/3f/press-08/dn/#"] {
        assert!(!press.subscribe(filter).await, "{filter}");
    }
    for filter in
        ["shoal/v1/d/3f/press-07/dn/#", "shoal/v1/g/line-2/dn/#", "shoal/v1/a/00aa/c", "shoal/l/v1/#"]
    {
        assert!(press.subscribe(filter).await, "{filter}");
    }

    hub.publish("shoal/v1/d/3f/press-08/dn/sync", "another's").await;
    hub.publish("shoal/v1/g/line-2/dn/desired", "the group's").await;
    assert_eq!(press.next_message().await.payload, "the group's");
    assert_eq!(broker.stats().refused_subscribes, 4);
}

#[tokio::test]
async fn a_client_without_the_secret_does_not_become_the_hub() {
    let broker = broker(devices()).await;
    let mut forged = options(&broker, "hub-core");
    forged.set_credentials("hub", "guessed");
    let mut nameless = options(&broker, "hub-core");
    nameless.set_credentials("", "");
    for options in [forged, nameless] {
        let refused = Client::connect_with(options).await.err().unwrap();
        assert!(refused.contains("NotAuthorized"), "{refused}");
    }
    assert_eq!(broker.stats().refused_connects, 2);
}

#[tokio::test]
async fn an_oversized_packet_ends_the_connection() {
    let broker = broker(OpenAccess).await;
    let mut large = options(&broker, "press-07");
    large.set_max_packet_size(1 << 20, 1 << 20);
    let mut press = Client::connect_with(large).await.unwrap();
    press.publish("a", vec![0; 100 * 1024]).await;
    press.mqtt.publish("a", QoS::AtLeastOnce, false, vec![0; 200 * 1024]).await.unwrap();
    assert!(press.next().await.is_none());
}

#[tokio::test]
async fn the_same_client_id_takes_over() {
    let broker = broker(OpenAccess).await;
    let mut first = Client::connect(&broker, "press-07").await;
    assert!(first.subscribe("a").await);
    let mut second = Client::connect(&broker, "press-07").await;
    assert!(first.next().await.is_none());
    assert!(second.subscribe("b").await);
    second.publish("a", "not subscribed by the second").await;
    second.mqtt.publish("b", QoS::AtLeastOnce, false, "mine").await.unwrap();
    loop {
        match second.next().await {
            Some(Incoming::Publish(publish)) => break assert_eq!(publish.payload, "mine"),
            Some(Incoming::PubAck(_)) => {}
            other => panic!("expected a message, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_clean_session_remembers_nothing() {
    let broker = broker(OpenAccess).await;
    let mut press = Client::connect(&broker, "press-07").await;
    assert!(press.subscribe("old").await);
    press.leave().await;

    let mut other = Client::connect(&broker, "press-08").await;
    other.publish("old", "while away").await;
    // `connect` asserts that no session is present.
    let mut press = Client::connect(&broker, "press-07").await;
    assert!(press.subscribe("new").await);
    other.publish("old", "after").await;
    other.publish("new", "fence").await;
    assert_eq!(press.next_message().await.payload, "fence");
}

#[tokio::test]
async fn shutdown_closes_connections_and_frees_the_port() {
    let first = broker(OpenAccess).await;
    let addr = first.addr();
    let mut press = Client::connect(&first, "press-07").await;
    let ended = first.ended.clone();
    first.shutdown().await.unwrap();
    assert!(press.next().await.is_none());
    assert!(ended.is_cancelled());
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());

    let config = BrokerConfig {
        listen: addr,
        max_packet_bytes: MAX_PACKET_BYTES,
        tls: None,
        access: Arc::new(OpenAccess),
    };
    let second = Broker::start(config.clone()).await.unwrap();
    assert_eq!(second.addr(), addr);
    let taken = Broker::start(config).await.unwrap_err();
    assert!(matches!(taken, BrokerError::Listen { .. }), "{taken}");
    Client::connect(&second, "press-07").await.leave().await;
}

#[tokio::test]
async fn a_dropped_broker_closes_its_connections() {
    let broker = broker(OpenAccess).await;
    let mut press = Client::connect(&broker, "press-07").await;
    drop(broker);
    assert!(press.next().await.is_none());
}

#[tokio::test]
async fn two_hundred_devices_each_get_their_own_message() {
    const DEVICES: usize = 200;
    let broker = broker(devices()).await;
    let mut joining = JoinSet::new();
    for i in 0..DEVICES {
        let options = options(&broker, &format!("press-{i:03}"));
        joining.spawn(async move {
            let mut press = Client::connect_with(options).await.unwrap();
            assert!(press.subscribe(&format!("shoal/v1/d/+/press-{i:03}/dn/#")).await);
            (i, press)
        });
    }
    let presses = joining.join_all().await;
    assert_eq!(broker.stats().connections, 200);

    let mut hub = Client::connect(&broker, "hub-core").await;
    for i in 0..DEVICES {
        hub.publish(&format!("shoal/v1/d/00/press-{i:03}/dn/cmd"), format!("for {i}")).await;
    }
    for (i, mut press) in presses {
        assert_eq!(press.next_message().await.payload, format!("for {i}"));
        assert!(press.arriving.try_recv().is_err());
    }
    assert_eq!(broker.stats().dropped, 0);
}

#[tokio::test]
async fn a_late_subscriber_gets_the_retained_message_until_it_is_cleared() {
    let broker = broker(devices()).await;
    let status = "shoal/v1/d/3f/press-07/up/status";
    let mut press = Client::connect(&broker, "press-07").await;
    press.publish_with(status, "older", true).await;
    press.publish_with(status, "online", true).await;

    let mut hub = Client::connect(&broker, "hub-core").await;
    assert!(hub.subscribe("shoal/v1/d/+/+/up/status").await);
    let kept = hub.next_message().await;
    assert_eq!((kept.payload.as_ref(), kept.retain), (b"online".as_slice(), true));
    assert_eq!(broker.stats().retained, 1);

    // Too large to keep: delivered, and the older one is forgotten rather than taken for the newest.
    press.publish_with(status, vec![b'x'; retained::MAX_RETAINED_BYTES + 1], true).await;
    assert_eq!(hub.next_message().await.payload.len(), retained::MAX_RETAINED_BYTES + 1);
    assert_eq!((broker.stats().retained, broker.stats().not_retained), (0, 1));

    press.publish_with(status, "online", true).await;
    press.publish_with(status, "", true).await;
    assert_eq!(broker.stats().retained, 0);
    let mut late = Client::connect(&broker, "hub-page").await;
    assert!(late.subscribe("shoal/v1/d/+/+/up/status").await);
    press.publish(status, "fence").await;
    assert_eq!(late.next_live_message().await.payload, "fence");
}

#[tokio::test]
async fn the_last_will_is_delivered_live_and_kept() {
    let broker = broker(devices()).await;
    let status = "shoal/v1/d/3f/press-07/up/status";
    let mut hub = Client::connect(&broker, "hub-core").await;
    assert!(hub.subscribe("shoal/v1/d/+/+/up/status").await);
    let mut mortal = options(&broker, "press-07");
    mortal.set_last_will(LastWill::new(status, "offline", QoS::AtLeastOnce, true));

    Client::connect_until_served(mortal.clone()).await.vanish().await;
    assert_eq!(hub.next_live_message().await.payload, "offline");

    let mut late = Client::connect(&broker, "hub-page").await;
    assert!(late.subscribe(status).await);
    let kept = late.next_message().await;
    assert_eq!((kept.payload.as_ref(), kept.retain), (b"offline".as_slice(), true));

    // Leaving in order publishes no will.
    let mut press = Client::connect_until_served(mortal).await;
    press.publish(status, "bye").await;
    press.leave().await;
    Client::connect(&broker, "press-08").await.publish("shoal/v1/d/3f/press-08/up/status", "fence").await;
    assert_eq!(hub.next_live_message().await.payload, "bye");
    assert_eq!(hub.next_live_message().await.payload, "fence");
}

#[tokio::test]
async fn a_last_will_in_another_devices_name_is_refused() {
    let broker = broker(devices()).await;
    let mut spoofing = options(&broker, "press-07");
    spoofing.set_last_will(LastWill::new(
        "shoal/v1/d/3f/press-08/up/status",
        "offline",
        QoS::AtLeastOnce,
        false,
    ));
    let refused = Client::connect_with(spoofing).await.err().unwrap();
    assert!(refused.contains("NotAuthorized"), "{refused}");
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn tls_without_the_feature_is_an_error_not_plain_text() {
    let files = TlsFiles { cert: "cert.pem".into(), key: "key.pem".into(), client_ca: None };
    let error = broker_with(OpenAccess, Some(files)).await.unwrap_err();
    assert!(matches!(error, BrokerError::TlsNotBuilt), "{error}");
}
