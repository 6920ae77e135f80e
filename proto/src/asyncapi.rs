//! The AsyncAPI 3 document of all topics, made of the types that are read and written there.

use crate::id::{AppName, DeviceId, Digest, GroupName, Incarnation, MAX_NAME_BYTES, ModelName};
use crate::infer::{
    AskOut, ErrorOut, FeaturesIn, FindingOut, HealthOut, InferRequest, InferResponse, LabelIn, ModelOut,
    PredictionOut, StatusOut, TrainIn, TrainOut,
};
use crate::topic::{Down, LOCAL_PREFIX, Local, PREFIX, Topic, Up};
use crate::wire::MAX_FRAME_BYTES;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Characters of a level of a topic.
const LEVEL: &str = "^[a-z0-9_-]+$";
/// The media type of a frame between device and hub.
const FRAME: &str = "application/vnd.shoal.frame";

macro_rules! text {
    ($type:ty, $name:literal, $pattern:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text!(DeviceId, "DeviceId", LEVEL);
text!(ModelName, "ModelName", LEVEL);
text!(Digest, "Digest", "^[0-9a-f]{64}$");
text!(Incarnation, "Incarnation", "^[0-9a-f]{16}$");

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Device,
    Hub,
    Application,
    Agent,
}

/// The document of this build.
///
/// # Panics
/// Never: the names in it are legal.
#[must_use]
pub fn document() -> Value {
    let mut document = Document::default();
    let device = DeviceId::new("device").expect("a legal name");
    for (what, name, says, retained) in [
        (
            Up::Hello,
            "hello",
            "Opens a conversation after every connect: who, which life, which cursor.",
            false,
        ),
        (
            Up::Sync,
            "sync",
            "Operations after the hub's cursor, or a part of the document, and an acknowledgement.",
            false,
        ),
        (
            Up::Status,
            "status",
            "Birth and last will, with the number of the start: a late will undoes no newer birth.",
            true,
        ),
        (Up::Beat, "beat", "A sign of life and the counters, between two reports; not acknowledged.", false),
        (
            Up::Need,
            "need",
            "Which chunks of an assigned archive the device needs, as a bitmap; where HTTP is closed.",
            false,
        ),
    ] {
        let topic = Topic::Up(device.clone(), what).to_string();
        document.frame(&format!("device_{name}"), &topic, says, From::Device, retained);
    }
    for (what, name, says) in [
        (
            Down::Sync,
            "sync",
            "Operations after the device's cursor, or a part of the document, and an acknowledgement.",
        ),
        (
            Down::Artifact,
            "artifact",
            "A chunk of an archive, a part of its chunk list, or why neither comes. QoS 0: what is lost is asked for again.",
        ),
    ] {
        let topic = Topic::Down(device.clone(), what).to_string();
        document.frame(&format!("hub_{name}"), &topic, says, From::Hub, false);
    }
    let group = GroupName::new("group").expect("a legal name");
    let topic = Topic::GroupDesired(group).to_string();
    document.frame(
        "group_desired",
        &topic,
        "Kept free: a hint that a group has new wishes.",
        From::Hub,
        true,
    );
    document.local::<FeaturesIn>(Local::Features, "Rows to predict.");
    document.also::<InferRequest>(
        Local::Features,
        "Tensors to predict, as the Open Inference Protocol has them.",
    );
    document.local::<LabelIn>(Local::Label, "The truth about an earlier prediction.");
    document.local::<TrainIn>(Local::Train, "Train a model now.");
    document.local::<TrainOut>(Local::Training, "What became of it.");
    document.local::<PredictionOut>(Local::Prediction, "The answer to rows.");
    document.also::<InferResponse>(Local::Prediction, "The answer to tensors.");
    document.local::<ErrorOut>(Local::Error, "What was wrong with a message.");
    document.local::<ModelOut>(Local::Model, "The version that serves; retained.");
    document.local::<FindingOut>(Local::Finding, "What a monitor found.");
    document.local::<HealthOut>(Local::Health, "How well a model does; retained.");
    document.local::<AskOut>(Local::Ask, "A row that a person should label.");
    document.local::<StatusOut>(
        Local::Status,
        "Birth and last will of the agent; retained. One with a lower boot than the last birth is late, and says nothing.",
    );
    document.finish()
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

impl Document {
    fn frame(&mut self, name: &str, topic: &str, says: &str, from: From, retained: bool) {
        // The shard follows from the device; in the document it is a parameter like any other.
        let levels: Vec<&str> = topic.split('/').collect();
        let address = match levels.as_slice() {
            [.., "d", _, _, way, what] => format!("{PREFIX}/d/{{shard}}/{{device}}/{way}/{what}"),
            _ => format!("{PREFIX}/g/{{group}}/dn/desired"),
        };
        let payload = json!({ "type": "string", "format": "binary", "maxLength": MAX_FRAME_BYTES });
        let message = json!({
            "name": name, "contentType": FRAME, "summary": says, "payload": payload,
            "description": "A frame: magic, version, flags, CRC-32C, CBOR that may be packed by zstd. `shoal-hub decode` shows it.",
        });
        self.messages.insert(name.to_owned(), message);
        self.channel(name, &address, says, from, retained);
    }

    fn local<T: JsonSchema>(&mut self, what: Local, says: &str) {
        let (name, address) = names(what);
        self.message::<T>(&name, says);
        let is_in = address.contains("/in/");
        let from = if is_in { From::Application } else { From::Agent };
        let retained = matches!(what, Local::Model | Local::Health | Local::Status);
        self.channel(&name, &address, says, from, retained);
    }

    /// Another form on the same topic.
    fn also<T: JsonSchema>(&mut self, what: Local, says: &str) {
        let channel = names(what).0;
        let name = format!("{channel}_tensors");
        self.message::<T>(&name, says);
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        if let Some(messages) = self.channels.get_mut(&channel).and_then(|it| it["messages"].as_object_mut())
        {
            messages.insert(name, reference);
        }
    }

    fn message<T: JsonSchema>(&mut self, name: &str, says: &str) {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let payload = settings.into_generator().into_root_schema_for::<T>();
        let message =
            json!({ "name": name, "contentType": "application/json", "summary": says, "payload": payload });
        self.messages.insert(name.to_owned(), message);
    }

    fn channel(&mut self, name: &str, address: &str, says: &str, from: From, retained: bool) {
        let described = |parameter: &str| match parameter {
            "shard" => {
                "First byte of the SHA-256 of the device's id, in hexadecimal: hubs share devices by it."
            }
            "device" => "Id of the device.",
            "group" => "Id of a group of devices.",
            _ => "The application's level in the agent's configuration.",
        };
        let parameters: Map<String, Value> = address
            .split('/')
            .filter_map(|level| level.strip_prefix('{')?.strip_suffix('}'))
            .map(|parameter| (parameter.to_owned(), json!({ "description": described(parameter) })))
            .collect();
        let messages = json!({ name: { "$ref": format!("#/components/messages/{name}") } });
        let channel = json!({
            "address": address, "description": says, "parameters": parameters, "messages": messages,
        });
        self.channels.insert(name.to_owned(), channel);
        // As the agent and the hub see it: what they send, and what they receive.
        let action = if from == From::Application { "receive" } else { "send" };
        let sender = match from {
            From::Device => "device",
            From::Hub => "hub",
            From::Application => "application",
            From::Agent => "agent",
        };
        // Each chunk is asked for until it has come: a broker that holds on to it would only send it twice.
        let is_asked_again = name == "hub_artifact";
        let operation = json!({
            "action": action, "channel": { "$ref": format!("#/channels/{name}") }, "summary": says,
            "tags": [{ "name": format!("from {sender}") }],
            "bindings": { "mqtt": { "qos": u8::from(!is_asked_again), "retain": retained } },
        });
        self.operations.insert(format!("{action}_{name}"), operation);
    }

    fn finish(self) -> Value {
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Shoal over MQTT",
                "version": env!("CARGO_PKG_VERSION"),
                "description": format!(
                    "What devices, the hub and applications say. Levels of topics are of [a-z0-9_-], at most \
                     {MAX_NAME_BYTES} each; MQTT 3.1.1, QoS 0 or 1. `{PREFIX}` is on the hub's broker, \
                     `{LOCAL_PREFIX}` on the device's own. Delivery between device and hub is by cursors in the \
                     messages and not by PUBACK."
                ),
            },
            "defaultContentType": "application/json",
            "channels": self.channels,
            "operations": self.operations,
            "components": { "messages": self.messages },
        })
    }
}

/// A channel's name and address.
fn names(what: Local) -> (String, String) {
    let app = AppName::new("app").expect("a legal name");
    let topic = Topic::Local(app, what).to_string();
    let rest = topic.rsplitn(3, '/').take(2).collect::<Vec<_>>();
    let (word, way) = (rest[0], rest[1]);
    (format!("{way}_{word}"), format!("{LOCAL_PREFIX}/{{app}}/{way}/{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_document_is_that_of_this_build() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/asyncapi.json");
        let text = format!("{:#}\n", document());
        if std::env::var("SHOAL_BLESS").is_ok_and(|word| word == "1") {
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == text, "proto/asyncapi.json is of another build; SHOAL_BLESS=1 writes it anew");
    }

    #[test]
    fn every_topic_has_a_channel_and_every_reference_is_there() {
        let document = document();
        assert_eq!(document["channels"].as_object().unwrap().len(), 5 + 2 + 1 + 11);
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 30);
        for reference in references {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
    }

    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                into.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect(value, into));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
}
