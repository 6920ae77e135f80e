//! Small cases, each told in full.

use super::disk::Disk;
use crate::document::Document;
use crate::id::{Incarnation, Side};
use crate::message::{Cursor, Exchange, Hello, Payload};
use crate::op::{Chain, Kind, MAX_VALUE_BYTES, Op};
use crate::sync::{Peer, Record, SyncAlarm};
use crate::time::{Hlc, Mono, WallMs};

const KIND: Kind = Kind(0x0101);
const NOW: Mono = Mono::from_millis(1);
const WALL: WallMs = WallMs(1_000);

struct Node {
    disk: Disk,
    peer: Peer,
    document: Document,
}

impl Node {
    fn new(side: Side, incarnation: u64) -> Self {
        Self::of(Disk::new(side, incarnation))
    }

    fn of(disk: Disk) -> Self {
        Self { peer: disk.peer(), document: disk.document(), disk }
    }

    fn write(&mut self, kind: Kind, key: &str, value: &str) {
        self.turn(|node, records| {
            node.peer.write(&mut node.document, WALL, kind, key.into(), value.into(), records);
        });
    }

    fn take(&mut self, message: Exchange) -> Result<(), SyncAlarm> {
        self.turn(|node, records| {
            let fresh = Incarnation(node.peer.log.replica.incarnation.0 + 100);
            node.peer.on_exchange(NOW, WALL, message, fresh, &mut node.document, records)
        })
    }

    fn hello(&mut self, hello: &Hello) -> Result<(), SyncAlarm> {
        self.turn(|node, records| {
            let fresh = Incarnation(node.peer.log.replica.incarnation.0 + 100);
            node.peer.on_hello(NOW, hello, fresh, records)
        })
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Self, &mut Vec<Record>) -> T) -> T {
        let mut records = Vec::new();
        let outcome = act(self, &mut records);
        self.disk.commit(records);
        outcome
    }

    fn say(&mut self) -> Vec<Exchange> {
        self.peer.poll(NOW.after(std::time::Duration::from_secs(3_600)), WALL, 0, &self.document)
    }
}

fn hello_of(node: &Node) -> Hello {
    Hello {
        device: crate::id::DeviceId::new("press-07").unwrap(),
        incarnation: node.peer.log.replica.incarnation,
        boot: 1,
        last_seq: node.peer.log.last().0,
        cursor: node.peer.cursor(),
        agent_version: String::new(),
        wire_max: 1,
        wall: WALL,
    }
}

/// Lets both sides talk until neither has anything to say; gives the alarms.
fn talk(device: &mut Node, hub: &mut Node) -> Vec<SyncAlarm> {
    device.peer.on_disconnected();
    let mut alarms = Vec::new();
    for _ in 0..20 {
        if !device.peer.is_connected() {
            alarms.extend(hub.hello(&hello_of(device)).err());
        }
        for message in hub.say() {
            alarms.extend(device.take(message).err());
        }
        for message in device.say() {
            alarms.extend(hub.take(message).err());
        }
        if device.peer.is_quiet() && hub.peer.is_quiet() {
            assert_eq!(device.document.to_bytes(), hub.document.to_bytes());
            return alarms;
        }
    }
    panic!("still talking: {alarms:?}");
}

fn pair() -> (Node, Node) {
    let (mut device, mut hub) = (Node::new(Side::Device, 1), Node::new(Side::Hub, 2));
    device.write(KIND, "a", "one");
    assert_eq!(talk(&mut device, &mut hub), []);
    (device, hub)
}

#[test]
fn each_side_is_written_to_in_what_it_reads() {
    for (told, expected) in [(0, 1), (1, 1), (2, 2), (9, 9)] {
        let (device, mut hub) = pair();
        assert_eq!(hub.hello(&Hello { wire_max: told, ..hello_of(&device) }), Ok(()));
        assert_eq!(hub.peer.wire(), expected, "a hello says {told}");
        hub.write(KIND, "b", "two");
        for hour in 1..5 {
            let later = NOW.after(std::time::Duration::from_secs(hour * 3_600));
            assert!(!hub.peer.poll(later, WALL, 0, &hub.document).is_empty());
        }
        assert_eq!(hub.peer.wire(), 1, "whoever does not answer may be an older build by now");
        let ((seq, chain), incarnation) = (hub.peer.log.last(), hub.peer.log.replica.incarnation);
        let message = Exchange {
            incarnation: Incarnation(1),
            wall: WALL,
            ack: Some(Cursor { incarnation, seq, chain }),
            wire_max: told,
            payload: Payload::Nothing,
        };
        assert_eq!(hub.take(message), Ok(()));
        assert_eq!(hub.peer.wire(), expected, "an answer says {told}");
        hub.peer.on_disconnected();
        assert_eq!(hub.peer.wire(), 1);
    }
}

#[test]
fn what_became_of_a_version_is_said_before_weeks_of_telemetry() {
    for (reads, expected) in [(1, false), (2, true)] {
        let (mut device, mut hub) = pair();
        device.peer.on_disconnected();
        for number in 0..100 {
            device.write(Kind(0x0401), &format!("{:016x}/{number:016x}/gas", 1), &"x".repeat(1_000));
        }
        device.write(KIND, "slot", "taken back");
        assert_eq!(hub.hello(&hello_of(&device)), Ok(()));
        let before = hub.document.to_bytes();
        for message in hub.say() {
            assert_eq!(device.take(Exchange { wire_max: reads, ..message }), Ok(()));
        }
        let first = device.say().swap_remove(0);
        let is_ahead = matches!(&first.payload, Payload::Ahead { entries }
            if entries.iter().any(|entry| entry.key == "slot" && entry.value == b"taken back"));
        assert_eq!(is_ahead, expected, "{:?}", first.payload);
        if expected {
            assert_eq!(hub.take(first), Ok(()));
            assert_eq!(hub.document.to_bytes(), before, "news, and not yet the document");
        }
        assert_eq!(talk(&mut device, &mut hub), []);
        assert_eq!(hub.document.get(KIND, "slot"), Some(b"taken back".as_slice()));
    }
}

#[test]
fn a_batch_over_a_gap_is_refused() {
    let (_, mut hub) = pair();
    let op = Op { seq: 5, hlc: Hlc(5), kind: KIND, key: "b".into(), value: b"x".to_vec() };
    let payload = Payload::Batch { after: 4, chain: Chain::default(), ops: vec![op] };
    let message = Exchange { incarnation: Incarnation(1), wall: WALL, ack: None, wire_max: 0, payload };
    assert_eq!(hub.take(message), Ok(()));
    assert_eq!(hub.document.get(KIND, "b"), None);
    assert_eq!(hub.peer.cursor().map(|cursor| cursor.seq), Some(1));
}

#[test]
fn a_restored_device_goes_on_as_a_new_incarnation_and_its_word_stands() {
    let (mut device, mut hub) = pair();
    let backup = device.disk.clone();
    device.write(KIND, "a", "two");
    device.write(Kind(0x0301), "once", "kept");
    assert_eq!(talk(&mut device, &mut hub), []);
    let mut device = Node::of(backup);
    let alarms = talk(&mut device, &mut hub);
    assert!(matches!(alarms.as_slice(), [SyncAlarm::Forked { theirs: 3, ours: 1 }]), "{alarms:?}");
    assert_eq!(hub.document.get(KIND, "a"), Some(b"one".as_slice()), "what the device is, not what it was");
    assert_eq!(device.document.get(Kind(0x0301), "once"), Some(b"kept".as_slice()), "it came back");
}

#[test]
fn a_restored_device_that_wrote_as_much_again_is_found_at_its_hello() {
    let (mut device, mut hub) = pair();
    let backup = device.disk.clone();
    device.write(KIND, "a", "two");
    talk(&mut device, &mut hub);
    let mut device = Node::of(backup);
    device.write(KIND, "b", "after the backup");
    let alarms = talk(&mut device, &mut hub);
    assert!(matches!(alarms.as_slice(), [SyncAlarm::Forked { theirs: 2, ours: 2 }]), "{alarms:?}");
    assert_eq!(hub.document.get(KIND, "b"), Some(b"after the backup".as_slice()));
}

#[test]
fn a_crash_between_reborn_and_snapshot_loses_nothing() {
    let (mut device, mut hub) = pair();
    device.write(Kind(0x0301), "unsent", "kept");
    device.turn(|node, records| node.peer.reborn(NOW, Incarnation(77), records));
    let mut device = Node::of(device.disk);
    assert_eq!(talk(&mut device, &mut hub), []);
    assert_eq!(hub.document.get(Kind(0x0301), "unsent"), Some(b"kept".as_slice()));
}

#[test]
fn a_device_with_a_new_database_gets_back_what_the_hub_holds_and_is_heard() {
    let (mut device, mut hub) = pair();
    // The earlier life stood in 2099.
    device.turn(|node, records| {
        node.peer.write(
            &mut node.document,
            WallMs(4_070_908_800_000),
            KIND,
            "a".into(),
            b"future".to_vec(),
            records,
        );
    });
    device.write(Kind(0x0301), "once", "kept");
    talk(&mut device, &mut hub);
    let mut device = Node::new(Side::Device, 3);
    device.write(KIND, "a", "present");
    assert_eq!(talk(&mut device, &mut hub), []);
    assert_eq!(hub.document.get(KIND, "a"), Some(b"present".as_slice()));
    assert_eq!(device.document.get(Kind(0x0301), "once"), Some(b"kept".as_slice()));
}

#[test]
fn a_snapshot_for_another_life_is_taken_in_but_does_not_count() {
    let (mut device, _) = pair();
    let (seq, chain) = device.peer.log.last();
    let entries = device.document.entries().collect();
    let payload = Payload::Snapshot { seq, chain, reader: Incarnation(2), after: None, until: None, entries };
    let mut hub = Node::new(Side::Hub, 9);
    assert_eq!(
        hub.take(Exchange { incarnation: Incarnation(1), wall: WALL, ack: None, wire_max: 0, payload }),
        Ok(())
    );
    assert_eq!(hub.document.get(KIND, "a"), Some(b"one".as_slice()));
    assert!(hub.peer.cursor().is_some_and(|cursor| cursor.is_lost()), "it still asks");
    assert_eq!(talk(&mut device, &mut hub), []);
    assert!(hub.peer.cursor().is_some_and(|cursor| !cursor.is_lost()));
}

#[test]
fn forked_said_late_means_nothing_to_the_next_life() {
    let (mut device, _) = pair();
    let before = device.peer.log.replica;
    let payload = Payload::Forked { incarnation: Incarnation(9) };
    let message = Exchange { incarnation: Incarnation(2), wall: WALL, ack: None, wire_max: 0, payload };
    assert_eq!(device.take(message), Ok(()));
    assert_eq!(device.peer.log.replica, before);
}

#[test]
fn a_closed_incarnation_is_told_even_before_the_conversation_is_open() {
    let (mut device, mut hub) = pair();
    let old = hello_of(&device);
    device.turn(|node, records| node.peer.reborn(NOW, Incarnation(77), records));
    talk(&mut device, &mut hub);
    let mut hub = Node::of(hub.disk);
    assert_eq!(hub.hello(&old), Err(SyncAlarm::Sealed { incarnation: Incarnation(1) }));
    let said: Vec<Payload> = hub.say().into_iter().map(|message| message.payload).collect();
    assert_eq!(said, [Payload::Forked { incarnation: Incarnation(1) }]);
}

#[test]
fn two_sides_that_closed_each_other_find_together() {
    let (device, hub) = pair();
    let (device_backup, hub_backup) = (device.disk.clone(), hub.disk.clone());
    let (mut device, mut hub) = (device, hub);
    device.turn(|node, records| node.peer.reborn(NOW, Incarnation(77), records));
    hub.turn(|node, records| node.peer.reborn(NOW, Incarnation(88), records));
    talk(&mut device, &mut hub);
    // The device's card is old, and so is the hub's database, but each remembers the other's closing.
    let mut device = Node::of(device_backup);
    device.turn(|_, records| records.push(Record::Seal(Incarnation(2))));
    let mut hub = Node::of(hub_backup);
    hub.turn(|_, records| records.push(Record::Seal(Incarnation(1))));
    let (mut device, mut hub) = (Node::of(device.disk), Node::of(hub.disk));
    talk(&mut device, &mut hub);
}

#[test]
fn an_operation_too_large_to_be_sent_on_is_refused() {
    let (device, mut hub) = pair();
    let (after, chain) = device.peer.log.last();
    let value = vec![0; MAX_VALUE_BYTES + 1];
    let op = Op { seq: after + 1, hlc: Hlc(9), kind: KIND, key: "b".into(), value };
    let payload = Payload::Batch { after, chain, ops: vec![op] };
    let message = Exchange { incarnation: Incarnation(1), wall: WALL, ack: None, wire_max: 0, payload };
    assert_eq!(hub.take(message), Err(SyncAlarm::Oversized { kind: KIND }));
    assert_eq!(hub.document.get(KIND, "b"), None);
}

#[test]
fn a_hostile_stamp_does_not_stop_the_clock() {
    let (mut device, mut hub) = pair();
    hub.write(KIND, "z", "first");
    talk(&mut device, &mut hub);
    let (after, chain) = hub.peer.log.last();
    let op = Op { seq: after + 1, hlc: Hlc(u64::MAX), kind: Kind(0x0301), key: "z".into(), value: vec![] };
    let payload = Payload::Batch { after, chain, ops: vec![op] };
    let message =
        Exchange { incarnation: Incarnation(2), wall: WallMs(u64::MAX), ack: None, wire_max: 0, payload };
    assert_eq!(device.take(message), Ok(()));
    device.write(KIND, "a", "still here");
    assert_eq!(device.document.get(KIND, "a"), Some(b"still here".as_slice()));
}

#[test]
fn a_log_over_its_bound_gives_way_to_the_document() {
    for connected in [false, true] {
        let (mut device, mut hub) = pair();
        device.peer = device.disk.peer().with_log_bytes(2_000);
        if connected {
            assert_eq!(talk(&mut device, &mut hub), []);
        }
        for number in 0..40 {
            device.write(KIND, "health", &format!("{number} {}", "x".repeat(100)));
            device.write(Kind(0x0301), &format!("version-{number:02}"), "for ever");
            assert!(device.peer.log.bytes() <= 2_000);
        }
        assert!(device.peer.log.waiting() < 20 && device.disk.peer().log.waiting() < 20);
        let restarted = Node::of(device.disk.clone());
        device = Node { peer: restarted.peer.with_log_bytes(2_000), ..restarted };
        assert_eq!(talk(&mut device, &mut hub), [], "{connected}");
        assert_eq!(hub.document.of_kind(Kind(0x0301)).count(), 40, "nothing that lasts is lost");
    }
}

#[test]
fn a_log_that_is_dropped_in_a_conversation_is_made_good_in_it() {
    let (mut device, mut hub) = pair();
    device.peer = device.disk.peer().with_log_bytes(500);
    assert_eq!(talk(&mut device, &mut hub), []);
    for number in 0..20 {
        device.write(KIND, &format!("key-{number}"), &"x".repeat(100));
    }
    // The link stays up: nobody says hello again.
    for _ in 0..6 {
        for message in device.say() {
            hub.take(message).unwrap();
        }
        for message in hub.say() {
            device.take(message).unwrap();
        }
    }
    assert!(device.peer.is_quiet());
    assert_eq!(device.document.to_bytes(), hub.document.to_bytes());
}
