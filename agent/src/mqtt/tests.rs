use super::mosquitto::Mosquitto;
use super::*;

async fn next(events: &mut mpsc::Receiver<MqttEvent>) -> MqttEvent {
    tokio::time::timeout(Duration::from_secs(30), events.recv()).await.expect("an event in time").unwrap()
}

async fn until_up(events: &mut mpsc::Receiver<MqttEvent>) {
    while next(events).await != MqttEvent::Up {}
}

fn message(topic: &str, payload: &[u8]) -> Message {
    Message { topic: topic.into(), payload: payload.to_vec(), retain: false }
}

struct Harness {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Harness {
    fn new() -> Self {
        Self { tracker: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    fn client(&self, options: Options) -> (Publisher, mpsc::Receiver<MqttEvent>) {
        Client::spawn(&self.tracker, self.cancel.clone(), options)
    }

    async fn end(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(10), self.tracker.wait()).await.expect("clients end");
    }
}

#[tokio::test]
async fn messages_go_through_in_order_and_survive_a_new_broker() {
    let Some(broker) = Mosquitto::start() else { return };
    let harness = Harness::new();
    let mut options = Options::new(broker.url(), "one");
    options.subscriptions = vec!["t/+".into()];
    let (publisher, mut events) = harness.client(options);
    assert_eq!(publisher.publish(message("t/a", b"early")), Err(PublishError::Down));
    until_up(&mut events).await;
    for n in 0..100u8 {
        publisher.publish(message("t/a", &[n])).unwrap();
    }
    for n in 0..100u8 {
        assert_eq!(next(&mut events).await, MqttEvent::Message(message("t/a", &[n])));
    }
    let broker = broker.restart();
    assert!(matches!(next(&mut events).await, MqttEvent::Down { .. }));
    until_up(&mut events).await;
    publisher.publish(message("t/b", b"again")).unwrap();
    assert_eq!(next(&mut events).await, MqttEvent::Message(message("t/b", b"again")));
    assert_eq!(publisher.refused(), 1);
    harness.end().await;
    drop(broker);
}

#[tokio::test]
async fn the_last_will_is_heard_after_a_break_and_last_before_a_goodbye() {
    let Some(broker) = Mosquitto::start() else { return };
    let listener = Harness::new();
    let mut options = Options::new(broker.url(), "listener");
    options.subscriptions = vec!["will/+".into()];
    let (_publisher, mut events) = listener.client(options);
    until_up(&mut events).await;
    let with_will = |id: &str| {
        let mut options = Options::new(broker.url(), id);
        options.last_will = Some(message(&format!("will/{id}"), b"gone"));
        options
    };

    let polite = Harness::new();
    let (publisher, mut polite_events) = polite.client(with_will("polite"));
    until_up(&mut polite_events).await;
    publisher.publish(message("will/polite", b"last word")).unwrap();
    polite.end().await;
    assert_eq!(next(&mut events).await, MqttEvent::Message(message("will/polite", b"last word")));
    assert_eq!(next(&mut events).await, MqttEvent::Message(message("will/polite", b"gone")));

    // A second client with the same id makes the broker break the first one's connection.
    let (first, second) = (Harness::new(), Harness::new());
    let (_publisher, mut first_events) = first.client(with_will("rude"));
    until_up(&mut first_events).await;
    let (_publisher, mut second_events) = second.client(Options::new(broker.url(), "rude"));
    until_up(&mut second_events).await;
    // On a busy machine a goodbye may be late, and the broker then says the same once more.
    let again = MqttEvent::Message(message("will/polite", b"gone"));
    let mut heard = next(&mut events).await;
    if heard == again {
        heard = next(&mut events).await;
    }
    assert_eq!(heard, MqttEvent::Message(message("will/rude", b"gone")));
    first.end().await;
    second.end().await;
    listener.end().await;
}

#[tokio::test]
async fn an_unread_queue_does_not_stop_publishing() {
    let Some(broker) = Mosquitto::start() else { return };
    let harness = Harness::new();
    let mut options = Options::new(broker.url(), "flooded");
    options.subscriptions = vec!["f".into()];
    let (publisher, mut events) = harness.client(options);
    until_up(&mut events).await;
    // Twice as much as both queues hold: the reader is us, and we do not read.
    let taken =
        (0..2 * (IN_QUEUE + OUT_QUEUE)).filter(|_| publisher.publish(message("f", b"x")).is_ok()).count();
    assert!(taken >= OUT_QUEUE);
    for _ in 0..taken {
        assert_eq!(next(&mut events).await, MqttEvent::Message(message("f", b"x")));
    }
    harness.end().await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_and_cancel_ends_the_wait() {
    let harness = Harness::new();
    let nowhere = Broker { host: "127.0.0.1".into(), port: 1 };
    let (publisher, mut events) = harness.client(Options::new(nowhere, "lonely"));
    let MqttEvent::Down { reason } = next(&mut events).await else { panic!("nobody listens on port 1") };
    assert!(reason.contains("refused"), "{reason}");
    assert!(!publisher.is_up());
    harness.end().await;
}
