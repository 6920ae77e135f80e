//! What can happen to a device.

use super::budget::Conditions;
use shoal_proto::baseline::Baseline;
use shoal_proto::decision::{Evidence, MadeBy, Rejection, RowsRecord, Searched, ShadowSeen};
use shoal_proto::fact::VersionRecord;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::manifest::{Manifest, Recipe};
use shoal_proto::time::Mono;
use shoal_watch::Watched;
use shoal_watch::answer::GroupCodes;
use shoal_watch::row::{Answer, Asked, Given, Row, Truth};
use std::sync::Arc;

/// Everything that can happen to a device.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed; harmless when early or repeated.
    Tick,
    /// Rows were predicted, in order. Monitors see every one, before capture samples it.
    Predicted(Vec<Observation>),
    /// Requests to a version failed inside the model.
    Failed { model: ModelName, version: Digest, requests: u64 },
    /// A call of a version did not end in time; the server calls it no more.
    Stalled { model: ModelName, version: Digest },
    /// Requests were refused, since what they sent is not what the version takes.
    Misfit { model: ModelName, version: Digest, requests: u64 },
    /// The store wrote rows of samples, or had to drop some.
    Captured { rows: u64, dropped: u64 },
    /// A label is on disk and was joined with its prediction.
    Labelled(Labelled),
    /// An application sent what cannot be read; it was told, and it is counted.
    BadMessage,
    /// The broker of the hub took us; the conversation starts.
    LinkUp,
    /// The broker of the hub is gone.
    LinkDown,
    /// A frame arrived on our `dn/sync` topic; not yet decoded.
    FromHub(Vec<u8>),
    /// The assigned package is verified and on disk, or why not. A late answer is recognised by its
    /// generation.
    Fetched { model: ModelName, generation: u64, outcome: Result<VersionInfo, Rejection> },
    /// A package that the operator gave is on disk, or why not.
    Installed { command: u64, outcome: Result<VersionInfo, String> },
    /// What the sensors say; the answer to [`super::Effect::Sense`].
    Conditions(Conditions),
    /// The training child ended.
    TrainingEnded { run: u64, outcome: Result<Trained, Untrained> },
    /// The admission child ended: the version may be parsed by the server, or why not.
    Admitted { version: Digest, outcome: Result<(), String> },
    /// The server swapped to this version, or could not.
    Serving { model: ModelName, version: Digest, outcome: Result<(), String> },
    /// A candidate stands in the shadow: microseconds that a row takes the served version, where one is loaded,
    /// and it; or why not.
    Shadowing { model: ModelName, version: Digest, outcome: Result<Option<(f64, f64)>, String> },
    /// What a candidate in the shadow showed since the last word.
    Shadowed { model: ModelName, version: Digest, seen: ShadowSeen },
    /// A call of a candidate in the shadow did not end.
    ShadowStalled { model: ModelName, version: Digest },
    /// A task of a command of the hub's is done, or why not; the answer to [`super::Effect::Remote`].
    Remote { place: u8, id: u64, outcome: Result<String, String> },
    /// The operator of the device asks; answered by [`super::Effect::Reply`] with the same number.
    Command { number: u64, command: Command },
}

/// One predicted row.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Which model.
    pub model: ModelName,
    /// Which version answered.
    pub version: Digest,
    /// Which request it came with.
    pub asked: Asked,
    /// Its place in the request, where it is kept, so that it can be labelled.
    pub place: Option<u32>,
    /// When.
    pub at: Mono,
    /// The features, in the manifest's order; NaN is a missing value.
    pub features: Arc<[f32]>,
    /// The predicted class, for a classifier.
    pub class: Option<u32>,
    /// Its probability; 0 for regression.
    pub confidence: f32,
    /// The output row: scores or values.
    pub values: Arc<[f32]>,
    /// What the model's last layer read; empty where it is not watched.
    pub embedding: Arc<[f32]>,
    /// The groups that the request named.
    pub groups: GroupCodes,
}

impl Observation {
    /// As the monitors take it.
    #[must_use]
    pub fn row(&self) -> Row<'_> {
        let answer = Answer { class: self.class, confidence: self.confidence, values: &self.values };
        let Self { asked, at, groups, .. } = *self;
        Row { asked, at, features: &self.features, answer, embedding: &self.embedding, groups }
    }
}

/// A label that was joined with its prediction.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Which model.
    pub model: ModelName,
    /// Which version had answered.
    pub version: Digest,
    /// Which request the row came with.
    pub asked: Asked,
    /// The features of the row.
    pub features: Arc<[f32]>,
    /// The class that was answered, by a classifier.
    pub class: Option<u32>,
    /// How sure the answer was.
    pub confidence: f32,
    /// The output row.
    pub values: Arc<[f32]>,
    /// The truth.
    pub truth: Truth,
    /// The groups that the request named.
    pub groups: GroupCodes,
}

impl Labelled {
    /// As the monitors take it.
    #[must_use]
    pub fn given(&self) -> Given<'_> {
        let answer = Answer { class: self.class, confidence: self.confidence, values: &self.values };
        let Self { asked, truth, groups, .. } = *self;
        Given { asked, features: &self.features, answer, truth, groups }
    }

    /// How far off the answer was; `None` for a classifier.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        match self.truth {
            Truth::Class(_) => None,
            Truth::Value(truth) => {
                Some(self.values.first().map_or(f64::NAN, |said| (f64::from(*said) - truth).abs()))
            }
        }
    }

    /// Whether the answer was right; `None` for a regression, whose answers are more or less so.
    #[must_use]
    pub fn correct(&self) -> Option<bool> {
        match self.truth {
            Truth::Class(truth) => Some(self.class == Some(truth)),
            Truth::Value(_) => None,
        }
    }
}

/// A version on disk: what the core must know of it.
#[derive(Debug, Clone)]
pub struct VersionInfo {
    /// Its identity.
    pub version: Digest,
    /// As the fleet's DAG knows it.
    pub record: VersionRecord,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The reference of the fleet's summaries.
    pub baseline: Arc<Baseline>,
    /// What its own drift is held against.
    pub reference: Arc<Baseline>,
    /// Bytes of its files.
    pub size_bytes: u64,
}

impl VersionInfo {
    /// What the monitors must know of it.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched {
            version: self.version,
            manifest: Arc::clone(&self.manifest),
            baseline: Arc::clone(&self.baseline),
            digest: self.record.baseline,
            reference: Arc::clone(&self.reference),
        }
    }
}

/// What a training child brought.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The candidate, packaged, signed by the device and on disk.
    pub candidate: VersionInfo,
    /// What was measured.
    pub evidence: Evidence,
    /// How the run went about it.
    pub how: Box<How>,
}

/// How a run went about it: what is not known before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct How {
    /// The process that ended it.
    pub by: Option<MadeBy>,
    /// Which rows it was given.
    pub rows: Option<Box<RowsRecord>>,
    /// Which recipes were tried.
    pub search: Option<Box<Searched>>,
    /// The one that was chosen.
    pub recipe: Option<Recipe>,
}

/// Why a run brought no candidate.
#[derive(Debug, Clone, PartialEq, Default, thiserror::Error)]
#[error("{reason}")]
pub struct Untrained {
    /// For people.
    pub reason: String,
    /// How far it came: with recipes that were tried, none of them was better than the parent.
    pub how: Box<How>,
}

impl From<&str> for Untrained {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl From<String> for Untrained {
    fn from(reason: String) -> Self {
        Self { reason, how: Box::default() }
    }
}

/// What an operator of the device can ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Train now, whatever the monitors say.
    Train { model: ModelName },
    /// Stop the run that is under way.
    CancelTraining { model: ModelName },
    /// Serve the previous version again and condemn the present one here.
    Rollback { model: ModelName },
    /// Serve a version that is on disk, by digest or by its prefix.
    Promote { model: ModelName, version: Digest },
    /// Let a version that was taken back here serve again, where somebody wants it to.
    Lift { version: Digest },
    /// Keep a version on disk whatever comes, or no longer.
    Pin { version: Digest, pinned: bool },
}
