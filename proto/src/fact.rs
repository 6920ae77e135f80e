//! The kinds of operation that this build knows, and their values.

mod trial;

pub use trial::TrialPolicy;

use crate::command::{Command, Report};
use crate::decision::{RunRecord, ShadowSeen, SlotEnd, SlotState, Source};
use crate::document::{Document, window_key};
use crate::finding::Finding;
use crate::id::{Digest, Incarnation, ModelName, RolloutId};
use crate::op::{Kind, split_stamped, stamped};
use crate::summary::{LabelKey, LabelSlot, WindowSummary};
use crate::time::WallMs;
use crate::wire::{from_cbor, to_cbor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Device register: [`Inventory`], one key.
pub const INVENTORY: Kind = Kind(0x0101);
/// Device register: [`Health`], one key.
pub const HEALTH: Kind = Kind(0x0102);
/// Device register: [`SlotReport`] by model.
pub const SLOT: Kind = Kind(0x0103);
/// Device register: [`Condemnation`] by version, on this device.
pub const CONDEMNED: Kind = Kind(0x0104);
/// Device register: [`Report`] by place.
pub const REPORT: Kind = Kind(0x0105);
/// Device, stamped by row count: the open [`WindowSummary`] by model.
pub const OPEN_WINDOW: Kind = Kind(0x0201);
/// Hub, stamped by generation: [`Assignment`] by model.
pub const ASSIGNMENT: Kind = Kind(0x0202);
/// Hub, stamped by generation: [`Condemnation`] by version, everywhere.
pub const GLOBALLY_CONDEMNED: Kind = Kind(0x0203);
/// Hub, stamped by generation: [`Command`] by place.
pub const COMMAND: Kind = Kind(0x0204);
/// Either: [`VersionRecord`] by digest.
pub const VERSION: Kind = Kind(0x0301);
/// Device: [`RunRecord`] by incarnation and number.
pub const RUN: Kind = Kind(0x0303);
/// Device: sealed [`WindowSummary`] by incarnation, number and model.
pub const WINDOW: Kind = Kind(0x0401);
/// Device: [`LabelSlot`] by incarnation, window of the prediction, model and version.
pub const LABELS: Kind = Kind(0x0402);
/// Device: [`Finding`] by window, monitor and feature; it goes with its window.
pub const FINDING: Kind = Kind(0x0403);
/// Device: a [`Count`] by name.
pub const COUNTER: Kind = Kind(0x0501);
/// Device: windows below this number are gone, by incarnation.
pub const WINDOW_FLOOR: Kind = Kind(0x0601);

/// The one key of a kind that has one.
pub const ONLY: &str = "";

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The agent's version.
    pub agent_version: String,
    /// `aarch64`, `x86_64` …
    pub arch: String,
    /// Tags from the device's own configuration.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// How a device is, every few minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Whether the samples database takes rows.
    pub capturing: bool,
    /// Trained, waiting or idle, in words.
    pub training: String,
}

/// One model's slot on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotReport {
    /// The hub's intent that was last taken up.
    pub applied_generation: u64,
    /// What serves when nothing is on trial.
    pub champion: Digest,
    /// What would serve after a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// What wants to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateReport>,
    /// How the last candidate ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<EndReport>,
}

/// A candidate in a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Which version.
    pub version: Digest,
    /// Where it stands.
    pub state: SlotState,
    /// Who wants it.
    pub source: Source,
}

/// How a candidate ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndReport {
    /// Which version.
    pub version: Digest,
    /// Who wanted it.
    pub source: Source,
    /// How.
    pub end: SlotEnd,
    /// When, by the device's clock.
    pub at: WallMs,
    /// Labels, and right answers among them, while it was on trial.
    #[serde(default)]
    pub trial_labels: (u64, u64),
    /// What it had shown in the shadow of the version that served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowSeen>,
}

/// A version that must not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemnation {
    /// Whether it still holds: a hub can take its word back.
    pub holds: bool,
    /// Why.
    pub reason: String,
}

/// A version as the fleet's DAG knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Which model.
    pub model: ModelName,
    /// For people: `gas@3+press-07.2`.
    pub name: String,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The reference profile that it inherits or brings.
    pub baseline: Digest,
    /// Digest of the input schema.
    pub schema: Digest,
}

/// The hub's wish for one model on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The version that shall serve.
    pub version: Digest,
    /// The rollout it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// Where the package can be had; absent when the device still holds the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// How long, and on how much, it is judged.
    pub trial: TrialPolicy,
    /// A way back: the version is one that served here before and goes in without a trial.
    #[serde(default)]
    pub revert: bool,
}

/// A package to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Digest of the archive's bytes.
    pub archive: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// URLs, or paths below the hub's artifact address, in order of preference.
    pub sources: Vec<String>,
    /// Digest of its [`crate::chunks::ChunkList`]; without one it comes as a whole and over HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Digest>,
}

/// A number that a device counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Count {
    /// Rows predicted.
    Predictions,
    /// Rows written to the samples database.
    Captured,
    /// Rows not captured since the queue or the quota was full.
    CaptureDropped,
    /// Labels taken.
    Labels,
    /// Requests that failed.
    Failures,
    /// Messages that were malformed or too large.
    BadMessages,
    /// Windows closed.
    Windows,
    /// Drift findings.
    Drifts,
    /// Retrained versions that passed the gate.
    RetrainsAccepted,
    /// Retrained versions that did not.
    RetrainsRejected,
    /// Windows that fell below the floor before the hub had them.
    WindowsDropped,
}

/// Every counter and its key. Its place is its number in a [`crate::message::Beat`], for ever.
pub const COUNTS: [(Count, &str); 11] = [
    (Count::Predictions, "predictions"),
    (Count::Captured, "captured"),
    (Count::CaptureDropped, "capture_dropped"),
    (Count::Labels, "labels"),
    (Count::Failures, "failures"),
    (Count::BadMessages, "bad_messages"),
    (Count::Windows, "windows"),
    (Count::Drifts, "drifts"),
    (Count::RetrainsAccepted, "retrains_accepted"),
    (Count::RetrainsRejected, "retrains_rejected"),
    (Count::WindowsDropped, "windows_dropped"),
];

impl Count {
    /// The counter's key.
    #[must_use]
    pub fn key(self) -> &'static str {
        COUNTS.iter().find(|(count, _)| *count == self).map_or("", |(_, key)| key)
    }
}

/// A known operation, before it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// [`INVENTORY`].
    Inventory(Inventory),
    /// [`HEALTH`].
    Health(Health),
    /// [`SLOT`].
    Slot(ModelName, SlotReport),
    /// [`CONDEMNED`].
    Condemned(Digest, Condemnation),
    /// [`OPEN_WINDOW`].
    OpenWindow(WindowSummary),
    /// [`ASSIGNMENT`] under a generation.
    Assignment(u64, ModelName, Assignment),
    /// [`GLOBALLY_CONDEMNED`] under a generation.
    GloballyCondemned(u64, Digest, Condemnation),
    /// [`COMMAND`] under a generation, in its place.
    Command(u64, u8, Command),
    /// [`REPORT`] about the command in a place.
    Report(u8, Report),
    /// [`VERSION`].
    Version(Digest, VersionRecord),
    /// [`FINDING`].
    Finding(Finding),
    /// [`RUN`].
    Run(Incarnation, RunRecord),
    /// [`WINDOW`].
    Window(WindowSummary),
    /// [`LABELS`]: all labels so far for the predictions of one window.
    Labels(LabelKey, LabelSlot),
    /// [`COUNTER`]: the replica's own total.
    Counter(Count, u64),
    /// [`WINDOW_FLOOR`].
    WindowFloor(Incarnation, u64),
}

impl Fact {
    /// Kind, key and value of the operation.
    #[must_use]
    pub fn into_parts(self) -> (Kind, String, Vec<u8>) {
        match self {
            Self::Inventory(value) => (INVENTORY, ONLY.into(), to_cbor(&value)),
            Self::Health(value) => (HEALTH, ONLY.into(), to_cbor(&value)),
            Self::Slot(model, value) => (SLOT, model.into(), to_cbor(&value)),
            Self::Condemned(version, value) => (CONDEMNED, version.to_string(), to_cbor(&value)),
            Self::OpenWindow(value) => {
                let stamp = (value.id.number << 32) | value.rows.min(u64::from(u32::MAX));
                (OPEN_WINDOW, value.model.clone().into(), stamped(stamp, &value.to_value()))
            }
            Self::Assignment(generation, model, value) => {
                (ASSIGNMENT, model.into(), stamped(generation, &to_cbor(&value)))
            }
            Self::GloballyCondemned(generation, version, value) => {
                (GLOBALLY_CONDEMNED, version.to_string(), stamped(generation, &to_cbor(&value)))
            }
            Self::Command(generation, place, value) => {
                (COMMAND, place.to_string(), stamped(generation, &to_cbor(&value)))
            }
            Self::Report(place, value) => (REPORT, place.to_string(), to_cbor(&value)),
            Self::Version(version, value) => (VERSION, version.to_string(), to_cbor(&value)),
            Self::Finding(value) => {
                let feature = value.feature.as_deref().unwrap_or_default();
                let feature = Digest::of(feature.as_bytes()).short();
                let key = format!(
                    "{}/{:016x}/{}/{}/{feature}",
                    value.window.incarnation, value.window.number, value.model, value.monitor
                );
                (FINDING, key, to_cbor(&value))
            }
            Self::Run(incarnation, value) => {
                (RUN, format!("{incarnation}/{:016x}", value.run), to_cbor(&value))
            }
            Self::Window(value) => {
                let key = window_key(value.id.incarnation, value.id.number, value.model.as_str());
                (WINDOW, key, value.to_value())
            }
            Self::Labels(key, value) => (LABELS, key.text(), value.to_value()),
            Self::Counter(count, total) => (COUNTER, count.key().into(), stamped(total, &[])),
            Self::WindowFloor(incarnation, number) => {
                (WINDOW_FLOOR, incarnation.to_string(), stamped(number, &[]))
            }
        }
    }
}

/// Reads typed values out of a document. What cannot be read (a newer agent's form) is left out.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a>(pub &'a Document);

impl Facts<'_> {
    fn one<T: serde::de::DeserializeOwned>(self, kind: Kind, key: &str) -> Option<T> {
        from_cbor(self.0.get(kind, key)?).ok()
    }

    fn all<T: serde::de::DeserializeOwned>(self, kind: Kind) -> Vec<(String, T)> {
        self.0
            .of_kind(kind)
            .filter_map(|(key, value)| Some((key.to_owned(), from_cbor(value).ok()?)))
            .collect()
    }

    fn all_stamped<K: std::str::FromStr, T: serde::de::DeserializeOwned>(
        self,
        kind: Kind,
    ) -> Vec<(K, u64, T)> {
        self.0
            .of_kind(kind)
            .filter_map(|(key, value)| {
                let (stamp, value) = split_stamped(value);
                Some((key.parse().ok()?, stamp, from_cbor(value).ok()?))
            })
            .collect()
    }

    /// What the device is.
    #[must_use]
    pub fn inventory(self) -> Option<Inventory> {
        self.one(INVENTORY, ONLY)
    }

    /// How the device is.
    #[must_use]
    pub fn health(self) -> Option<Health> {
        self.one(HEALTH, ONLY)
    }

    /// A model's slot.
    #[must_use]
    pub fn slot(self, model: &ModelName) -> Option<SlotReport> {
        self.one(SLOT, model.as_str())
    }

    /// All slots.
    #[must_use]
    pub fn slots(self) -> Vec<(ModelName, SlotReport)> {
        self.all(SLOT).into_iter().filter_map(|(key, slot)| Some((key.parse().ok()?, slot))).collect()
    }

    /// The hub's wishes: model, generation, assignment.
    #[must_use]
    pub fn assignments(self) -> Vec<(ModelName, u64, Assignment)> {
        self.all_stamped(ASSIGNMENT)
    }

    /// Commands of the hub's by place.
    #[must_use]
    pub fn commands(self) -> Vec<(u8, Command)> {
        let all = self.all_stamped(COMMAND).into_iter();
        all.map(|(place, _generation, command)| (place, command)).collect()
    }

    /// The device's reports about commands, by place.
    #[must_use]
    pub fn reports(self) -> BTreeMap<u8, Report> {
        self.all(REPORT)
            .into_iter()
            .filter_map(|(place, report)| Some((place.parse().ok()?, report)))
            .collect()
    }

    /// Versions that may not serve on this device, by its own or the hub's word.
    #[must_use]
    pub fn condemned(self) -> BTreeMap<Digest, String> {
        let local = self.all::<Condemnation>(CONDEMNED).into_iter();
        let mut condemned: BTreeMap<Digest, String> = local
            .filter(|(_, word)| word.holds)
            .filter_map(|(key, word)| Some((key.parse().ok()?, word.reason)))
            .collect();
        for (version, _, word) in self.all_stamped::<Digest, Condemnation>(GLOBALLY_CONDEMNED) {
            if word.holds {
                condemned.insert(version, word.reason);
            }
        }
        condemned
    }

    /// All versions the document knows.
    #[must_use]
    pub fn versions(self) -> BTreeMap<Digest, VersionRecord> {
        self.all(VERSION).into_iter().filter_map(|(key, record)| Some((key.parse().ok()?, record))).collect()
    }

    /// All findings, oldest first inside an incarnation.
    #[must_use]
    pub fn findings(self) -> Vec<Finding> {
        self.all(FINDING).into_iter().map(|(_, finding)| finding).collect()
    }

    /// All training runs.
    #[must_use]
    pub fn runs(self) -> Vec<RunRecord> {
        self.all(RUN).into_iter().map(|(_, run)| run).collect()
    }

    /// All sealed windows.
    #[must_use]
    pub fn windows(self) -> Vec<WindowSummary> {
        self.all(WINDOW).into_iter().map(|(_, window)| window).collect()
    }

    /// All label slots, in the order of their windows.
    #[must_use]
    pub fn labels(self) -> Vec<(LabelKey, LabelSlot)> {
        self.0
            .of_kind(LABELS)
            .filter_map(|(key, value)| Some((LabelKey::parse(key)?, LabelSlot::from_value(value)?)))
            .collect()
    }

    /// A counter's sum.
    #[must_use]
    pub fn count(self, count: Count) -> u64 {
        self.0.count(COUNTER, count.key())
    }
}
