//! Messages as JSON, for people: whatever a broker carried between a device and the hub, and what applications say.

use crate::command::{Command, Report};
use crate::decision::RunRecord;
use crate::document::Entry;
use crate::fact::{
    ASSIGNMENT, Assignment, COMMAND, CONDEMNED, COUNTER, COUNTS, Condemnation, FINDING, GLOBALLY_CONDEMNED,
    HEALTH, Health, INVENTORY, Inventory, LABELS, OPEN_WINDOW, REPORT, RUN, SLOT, SlotReport, VERSION,
    VersionRecord, WINDOW, WINDOW_FLOOR,
};
use crate::finding::Finding;
use crate::id::Digest;
use crate::message::{Beat, Exchange, Hello, Payload, Status};
use crate::op::{Class, Kind, Op, split_stamped};
use crate::summary::{LabelSlot, WindowSummary};
use crate::topic::{Down, Topic, Up};
use crate::transfer::{Given, Need, Part};
use crate::wire::{self, WireError, from_cbor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Every kind that this build knows, with its name.
pub const KINDS: [(Kind, &str); 16] = [
    (INVENTORY, "inventory"),
    (HEALTH, "health"),
    (SLOT, "slot"),
    (CONDEMNED, "condemned"),
    (REPORT, "report"),
    (OPEN_WINDOW, "open_window"),
    (ASSIGNMENT, "assignment"),
    (GLOBALLY_CONDEMNED, "globally_condemned"),
    (COMMAND, "command"),
    (VERSION, "version"),
    (RUN, "run"),
    (WINDOW, "window"),
    (LABELS, "labels"),
    (FINDING, "finding"),
    (COUNTER, "counter"),
    (WINDOW_FLOOR, "window_floor"),
];

/// A message that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Not one of this protocol's topics.
    #[error("`{topic}` is no topic of this protocol")]
    Topic { topic: String },
    /// A frame between device and hub.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message of an application.
    #[error("the message is no JSON: {reason}")]
    Json { reason: String },
    /// Nothing is sent there yet.
    #[error("nothing is sent on `{topic}` by this build")]
    Unused { topic: String },
}

/// The message on a topic.
///
/// # Errors
/// When it is not what the topic is for.
pub fn message(topic: &str, bytes: &[u8]) -> Result<Value, DescribeError> {
    let unused = || DescribeError::Unused { topic: topic.to_owned() };
    let known = Topic::parse(topic).ok_or_else(|| DescribeError::Topic { topic: topic.to_owned() })?;
    Ok(match known {
        Topic::Up(_, Up::Hello) => shown(&wire::decode::<Hello>(bytes)?),
        Topic::Up(_, Up::Status) => shown(&wire::decode::<Status>(bytes)?),
        Topic::Up(_, Up::Sync) | Topic::Down(_, Down::Sync) => exchange(wire::decode(bytes)?),
        Topic::Up(_, Up::Beat) => beat(&wire::decode(bytes)?),
        Topic::Up(_, Up::Need) => shown(&wire::decode::<Need>(bytes)?),
        Topic::Down(_, Down::Artifact) => part(wire::decode(bytes)?),
        Topic::GroupDesired(_) => {
            return Err(unused());
        }
        Topic::Local(..) => serde_json::from_slice(bytes)
            .map_err(|cause| DescribeError::Json { reason: cause.to_string() })?,
    })
}

fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_else(|cause| json!({ "unreadable": cause.to_string() }))
}

/// With the names that the wire spares.
fn beat(beat: &Beat) -> Value {
    let name =
        |number: u8| COUNTS.get(usize::from(number)).map_or_else(|| number.to_string(), |it| it.1.into());
    let counts: BTreeMap<String, u64> =
        beat.counts.iter().map(|(number, total)| (name(*number), *total)).collect();
    json!({
        "life": format!("…{:08x}", beat.life), "boot": beat.boot, "uptime_s": beat.uptime_s, "counts": counts,
    })
}

/// A chunk is shown by its digest: its bytes say nothing to anybody.
fn part(Part { archive, number, what }: Part) -> Value {
    let what = match what {
        Given::List { from, total, bytes } => {
            json!({ "list": { "from": from, "total": total, "bytes": bytes.len() } })
        }
        Given::Chunk { index, bytes } => {
            json!({ "chunk": { "index": index, "bytes": bytes.len(), "digest": shown(&Digest::of(&bytes)) } })
        }
        Given::Refused(refusal) => json!({ "refused": shown(&refusal) }),
    };
    json!({ "archive": shown(&archive), "number": number, "what": what })
}

fn exchange(message: Exchange) -> Value {
    let Exchange { incarnation, wall, ack, wire_max, payload } = message;
    let payload = match payload {
        Payload::Nothing => json!("nothing"),
        Payload::Forked { incarnation } => json!({ "forked": shown(&incarnation) }),
        Payload::Batch { after, chain, ops } => {
            let ops: Vec<Value> = ops.iter().map(operation).collect();
            json!({ "batch": { "after": after, "chain": shown(&chain), "ops": ops } })
        }
        Payload::Ahead { entries } => {
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            json!({ "ahead": { "entries": entries } })
        }
        Payload::Snapshot { seq, chain, reader, after, until, entries } => {
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            json!({ "snapshot": {
                "seq": seq, "chain": shown(&chain), "reader": shown(&reader), "after": shown(&after),
                "until": shown(&until), "entries": entries,
            } })
        }
    };
    json!({
        "incarnation": shown(&incarnation), "wall": shown(&wall), "ack": shown(&ack), "wire_max": wire_max,
        "payload": payload,
    })
}

/// An operation with its kind's name and its value read.
#[must_use]
pub fn operation(op: &Op) -> Value {
    json!({
        "seq": op.seq, "hlc": shown(&op.hlc), "kind": name(op.kind), "key": op.key,
        "bytes": op.value.len(), "value": value(op.kind, &op.value),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "kind": name(entry.kind), "key": entry.key, "marker": shown(&entry.marker), "floor": entry.floor,
        "totals": shown(&entry.totals), "bytes": entry.value.len(), "value": value(entry.kind, &entry.value),
    })
}

/// A kind's name; its number where this build does not know it.
#[must_use]
pub fn name(kind: Kind) -> String {
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    known.map_or_else(|| format!("{:#06x}", kind.0), |(_, name)| (*name).to_owned())
}

/// A value, read as what its kind says; the bytes where that cannot be.
fn value(kind: Kind, bytes: &[u8]) -> Value {
    fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<Value> {
        from_cbor::<T>(bytes).ok().map(|value| shown(&value))
    }
    let (stamp, body) = match kind.class() {
        Some(Class::Stamped | Class::Counter | Class::Floor) => {
            let (stamp, body) = split_stamped(bytes);
            (Some(stamp), body)
        }
        _ => (None, bytes),
    };
    let body_value = match kind {
        INVENTORY => read::<Inventory>(body),
        HEALTH => read::<Health>(body),
        SLOT => read::<SlotReport>(body),
        CONDEMNED | GLOBALLY_CONDEMNED => read::<Condemnation>(body),
        REPORT => read::<Report>(body),
        OPEN_WINDOW | WINDOW => read::<WindowSummary>(body),
        ASSIGNMENT => read::<Assignment>(body),
        COMMAND => read::<Command>(body),
        VERSION => read::<VersionRecord>(body),
        RUN => read::<RunRecord>(body),
        FINDING => read::<Finding>(body),
        LABELS => LabelSlot::from_value(body).map(|slot| shown(&slot)),
        COUNTER | WINDOW_FLOOR => Some(Value::Null),
        _ => None,
    };
    let read = body_value.unwrap_or_else(|| json!({ "hex": hex::encode(body) }));
    match (stamp, read) {
        (Some(stamp), Value::Null) => json!(stamp),
        (Some(stamp), read) => json!({ "stamp": stamp, "value": read }),
        (None, read) => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(file: &str) -> Vec<u8> {
        std::fs::read(format!("{}/testdata/v1/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn what_a_broker_carried_is_read() {
        let device = crate::id::DeviceId::new("press-07").unwrap();
        let up = |what| Topic::Up(device.clone(), what).to_string();
        let hello = message(&up(Up::Hello), &golden("hello.bin")).unwrap();
        assert_eq!(hello["device"], "press-07");
        let batch = message(&up(Up::Sync), &golden("batch.bin")).unwrap();
        let ops = batch["payload"]["batch"]["ops"].as_array().unwrap();
        assert!(ops.len() >= 15, "{ops:?}");
        for op in ops {
            assert!(op["value"].get("hex").is_none(), "{op} is not read");
            assert!(!op["kind"].as_str().unwrap().starts_with("0x"), "{op} has no name");
        }
        let snapshot = message(&Topic::Down(device.clone(), Down::Sync).to_string(), &golden("snapshot.bin"));
        assert!(snapshot.unwrap()["payload"]["snapshot"]["entries"].as_array().unwrap().len() >= 15);
        let need = message(&up(Up::Need), &golden("need-chunks.bin")).unwrap();
        assert_eq!((&need["number"], &need["what"]["chunks"]["bits"]), (&json!(8), &json!(0b1011)));
        let art = Topic::Down(device.clone(), Down::Artifact).to_string();
        let given = message(&art, &golden("part-chunk.bin")).unwrap();
        assert_eq!(given["what"]["chunk"]["bytes"], json!(300));
        let refused = message(&art, &golden("part-refused.bin")).unwrap();
        assert_eq!(refused["what"]["refused"], json!("not_assigned"));
        let beat = message(&Topic::Up(device.clone(), Up::Beat).to_string(), &golden("beat.bin")).unwrap();
        assert_eq!(beat["counts"], json!({ "predictions": 9, "labels": 1 }));
        assert_eq!(beat["life"], "…01020304");
        let unknown: Op = from_cbor(&golden("op-unknown.bin")).unwrap();
        let shown = operation(&unknown);
        assert_eq!((&shown["kind"], &shown["value"]["hex"]), (&json!("0x7f42"), &json!("ff0001")));
    }

    #[test]
    fn what_is_none_of_ours_is_told() {
        let app = "shoal/l/v1/line-2/in/label";
        assert_eq!(message(app, b"{\"a\":1}").unwrap(), json!({ "a": 1 }));
        assert!(matches!(message(app, b"{"), Err(DescribeError::Json { .. })));
        assert!(matches!(message("a/b", b""), Err(DescribeError::Topic { .. })));
        let device = crate::id::DeviceId::new("press-07").unwrap();
        let status = Topic::Up(device, Up::Status).to_string();
        assert!(matches!(message(&status, b"hello"), Err(DescribeError::Wire(_))));
        let group = Topic::GroupDesired(crate::id::GroupName::new("lyon").unwrap()).to_string();
        assert!(matches!(message(&group, b""), Err(DescribeError::Unused { .. })));
    }
}
