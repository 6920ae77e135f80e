//! A version in the registry, as the core knows it.

use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Baseline;
use shoal_proto::fact::{Artifact, VersionRecord};
use shoal_proto::id::Digest;
use shoal_proto::time::WallMs;

/// A verified package whose archive is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// Its identity.
    pub version: Digest,
    /// As the fleet's DAG knows it.
    pub record: VersionRecord,
    /// Where devices get it.
    pub artifact: Artifact,
    /// Feature names, in the order of the baseline.
    pub features: Vec<String>,
    /// Class names.
    pub classes: Vec<String>,
    /// The reference of the fleet's summaries.
    pub baseline: Baseline,
    /// Hex of the public key that signed it.
    pub signer: String,
    /// When it came.
    pub pushed: WallMs,
    /// Why it must not serve, with the generation of that word; kept when the word is taken back.
    pub condemned: Option<Condemned>,
}

/// The hub's word on a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Orders the hub's words.
    pub generation: u64,
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: String,
}

impl Registered {
    /// Why it must not serve, if it must not.
    #[must_use]
    pub fn condemned_for(&self) -> Option<&str> {
        self.condemned.as_ref().filter(|word| word.holds).map(|word| word.reason.as_str())
    }
}
