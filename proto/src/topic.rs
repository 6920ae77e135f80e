//! Every MQTT topic, written and read in this one file.
//!
//! Seven levels at most, each `[a-z0-9_-]{1,40}`; no level is made per request, since brokers leak
//! those. `d` devices, `g` groups, `l` local applications.

use crate::id::{AppName, DeviceId, GroupName};
use std::fmt;

/// The prefix of the device-hub protocol.
pub const PREFIX: &str = "shoal/v1";
/// The prefix of the topics for applications on the device's own broker.
pub const LOCAL_PREFIX: &str = "shoal/l/v1";

/// A topic of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Device to hub.
    Up(DeviceId, Up),
    /// Hub to device.
    Down(DeviceId, Down),
    /// Hub to a group, retained hint.
    GroupDesired(GroupName),
    /// Applications on the device.
    Local(AppName, Local),
}

/// What a device says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Up {
    /// Opens a conversation: [`crate::message::Hello`].
    Hello,
    /// Operations and the acknowledgement of the hub's: [`crate::message::Sync`].
    Sync,
    /// Birth and last will: [`crate::message::Status`].
    Status,
    /// A sign of life between two reports: [`crate::message::Beat`].
    Beat,
    /// Asks for artifact chunks where HTTP is closed: [`crate::transfer::Need`].
    Need,
}

/// What the hub says to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Down {
    /// Operations and the acknowledgement of the device's: [`crate::message::Sync`].
    Sync,
    /// Artifact chunks: [`crate::transfer::Part`].
    Artifact,
}

/// What applications and the agent say to each other on the device's own broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Local {
    /// In: rows to predict, [`crate::infer::FeaturesIn`].
    Features,
    /// In: the truth about an earlier prediction, [`crate::infer::LabelIn`].
    Label,
    /// In: train a model now, [`crate::infer::TrainIn`].
    Train,
    /// Out: what became of that word, [`crate::infer::TrainOut`].
    Training,
    /// Out: [`crate::infer::PredictionOut`].
    Prediction,
    /// Out: what went wrong with a message, [`crate::infer::ErrorOut`].
    Error,
    /// Out, retained: the version that serves, [`crate::infer::ModelOut`].
    Model,
    /// Out: what a monitor found, [`crate::infer::FindingOut`].
    Finding,
    /// Out, retained: how well the model does, [`crate::infer::HealthOut`].
    Health,
    /// Out: a row that a person should label, [`crate::infer::AskOut`].
    Ask,
    /// Out, retained: birth and last will of the agent, [`crate::infer::StatusOut`].
    Status,
}

const UP: [(Up, &str); 5] = [
    (Up::Hello, "hello"),
    (Up::Sync, "sync"),
    (Up::Status, "status"),
    (Up::Beat, "beat"),
    (Up::Need, "need"),
];
const DOWN: [(Down, &str); 2] = [(Down::Sync, "sync"), (Down::Artifact, "art")];
const LOCAL: [(Local, &str); 11] = [
    (Local::Features, "in/features"),
    (Local::Label, "in/label"),
    (Local::Train, "in/train"),
    (Local::Training, "out/train"),
    (Local::Prediction, "out/prediction"),
    (Local::Error, "out/error"),
    (Local::Model, "out/model"),
    (Local::Finding, "out/finding"),
    (Local::Health, "out/health"),
    (Local::Ask, "out/ask"),
    (Local::Status, "out/status"),
];

fn word<T: PartialEq>(table: &'static [(T, &'static str)], item: &T) -> &'static str {
    table.iter().find(|(known, _)| known == item).map_or("", |(_, word)| word)
}

fn item<T: Copy>(table: &'static [(T, &'static str)], text: &str) -> Option<T> {
    table.iter().find(|(_, word)| *word == text).map(|(item, _)| *item)
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(device, what) => {
                write!(f, "{PREFIX}/d/{}/{device}/up/{}", device.shard(), word(&UP, what))
            }
            Self::Down(device, what) => {
                write!(f, "{PREFIX}/d/{}/{device}/dn/{}", device.shard(), word(&DOWN, what))
            }
            Self::GroupDesired(group) => write!(f, "{PREFIX}/g/{group}/dn/desired"),
            Self::Local(app, what) => write!(f, "{LOCAL_PREFIX}/{app}/{}", word(&LOCAL, what)),
        }
    }
}

impl Topic {
    /// Reads a topic; `None` for anything that is not of this protocol (a device under another
    /// shard than its own included).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(LOCAL_PREFIX) {
            let (app, what) = rest.strip_prefix('/')?.split_once('/')?;
            return Some(Self::Local(AppName::new(app).ok()?, item(&LOCAL, what)?));
        }
        let levels: Vec<&str> = text.strip_prefix(PREFIX)?.strip_prefix('/')?.split('/').collect();
        match levels.as_slice() {
            ["d", shard, device, way, what] => {
                let device = DeviceId::new(*device).ok()?;
                if device.shard() != *shard {
                    return None;
                }
                match *way {
                    "up" => Some(Self::Up(device, item(&UP, what)?)),
                    "dn" => Some(Self::Down(device, item(&DOWN, what)?)),
                    _ => None,
                }
            }
            ["g", group, "dn", "desired"] => Some(Self::GroupDesired(GroupName::new(*group).ok()?)),
            _ => None,
        }
    }

    /// What one device subscribes to at the hub's broker.
    #[must_use]
    pub fn device_filter(device: &DeviceId) -> String {
        format!("{PREFIX}/d/{}/{device}/dn/+", device.shard())
    }

    /// What the hub subscribes to.
    #[must_use]
    pub fn hub_filter() -> String {
        format!("{PREFIX}/d/+/+/up/+")
    }

    /// What an agent subscribes to at the device's own broker.
    #[must_use]
    pub fn local_filter(app: &AppName) -> String {
        format!("{LOCAL_PREFIX}/{app}/in/+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Topic> {
        let device = DeviceId::new("press-07").unwrap();
        let app = AppName::new("line-2").unwrap();
        let mut topics = vec![Topic::GroupDesired(GroupName::new("lyon").unwrap())];
        topics.extend(UP.iter().map(|(w, _)| Topic::Up(device.clone(), *w)));
        topics.extend(DOWN.iter().map(|(w, _)| Topic::Down(device.clone(), *w)));
        topics.extend(LOCAL.iter().map(|(w, _)| Topic::Local(app.clone(), *w)));
        topics
    }

    #[test]
    fn every_topic_reads_back() {
        for topic in all() {
            let text = topic.to_string();
            assert_eq!(Topic::parse(&text), Some(topic), "{text}");
            assert!(text.split('/').count() <= 7, "{text} has more than seven levels");
        }
    }

    #[test]
    fn foreign_topics_are_not_ours() {
        for text in [
            "",
            "shoal/v1",
            "shoal/v1/d/00/press-07/up/sync",
            "shoal/v2/d/x/y/up/sync",
            "shoal/l/v1/x/in/else",
            "shoal/v1/d/x",
            "$SYS/broker/uptime",
        ] {
            assert_eq!(Topic::parse(text), None, "{text}");
        }
    }
}
