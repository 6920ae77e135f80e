//! The versions of a simulated fleet: what they claim, and how right they really are.

use shoal_agent::core::VersionInfo;
use shoal_hub::core::registered::Registered;
use shoal_proto::baseline::{Baseline, FeatureBaseline, PredictionBaseline};
use shoal_proto::fact::Artifact;
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::manifest::{
    Feature, GatePolicy, InputInfo, Lineage, Manifest, ModelInfo, OutputInfo, OutputKind, Recipe, Task,
};
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};
use shoal_proto::time::WallMs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one model of the simulated fleet.
pub(super) const NAME: &str = "gas";

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It answers, more or less rightly.
    Sound,
    /// The admission child does not take it.
    Inadmissible,
    /// The server cannot load it.
    Unloadable,
    /// Its requests fail.
    Failing,
    /// A call of it does not end.
    Stalling,
}

/// A version and the truth about it.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) info: VersionInfo,
    /// Share of right answers.
    pub(super) quality: f64,
    /// What becomes of it.
    pub(super) kind: Kind,
    /// Whether the holdout says that it is better, whatever it is in life.
    pub(super) shown_better: bool,
    /// What its archive weighs.
    pub(super) artifact: Artifact,
}

impl Version {
    /// `salt`: what its bytes depend on beside all that.
    pub(super) fn new(
        number: u32,
        born: Option<(&DeviceId, u32, Digest)>,
        salt: &str,
        quality: f64,
        kind: Kind,
    ) -> Self {
        let manifest = Manifest {
            format: 1,
            requires: Vec::new(),
            model: ModelInfo {
                name: ModelName::new(NAME).expect("a legal name"),
                version: number,
                task: Task::Classification,
                description: salt.to_owned(),
            },
            input: InputInfo { tensor: "x".into() },
            output: OutputInfo {
                tensor: "y".into(),
                kind: OutputKind::Probabilities,
                classes: vec!["a".into(), "b".into()],
                temperature: None,
                embedding: None,
            },
            recipe: Recipe::default(),
            gate: GatePolicy { min_holdout: 6, ..GatePolicy::default() },
            goal: None,
            lineage: born.map(|(device, number, parent)| Lineage {
                parent,
                device: Some(device.clone()),
                number: Some(number),
                training_set: None,
            }),
            features: vec![Feature { name: "s".into(), unit: String::new(), min: 0.0, max: 99.0 }],
            groups: Vec::new(),
        };
        let baseline = Baseline {
            rows: 1_000,
            features: vec![profile(|value| value)],
            predictions: Some(PredictionBaseline {
                counts: (0..20).map(|bin| if bin % 10 == 9 { 500 } else { 0 }).collect(),
                labelled: 1_000,
                correct: 900,
                ..PredictionBaseline::default()
            }),
            ..Baseline::default()
        };
        let files: BTreeMap<String, Vec<u8>> = [
            (MODEL, b"graph".to_vec()),
            (MANIFEST, manifest.to_text().into_bytes()),
            (BASELINE, baseline.to_bytes()),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
        let package = Package::new(files).expect("a package made of consistent parts");
        let (version, record) = package.record().expect("a package made of consistent parts");
        let baseline = Arc::new(baseline);
        // One that was trained on a device was trained on the world after it changed.
        let reference = match born {
            None => Arc::clone(&baseline),
            Some(_) => Arc::new(Baseline { features: vec![profile(changed)], ..(*baseline).clone() }),
        };
        let info = VersionInfo {
            version,
            record,
            manifest: Arc::new(manifest),
            reference,
            baseline,
            size_bytes: 1_000,
        };
        let artifact = Artifact {
            archive: version,
            size_bytes: 1,
            sources: vec![format!("/artifacts/{version}")],
            chunks: None,
        };
        Self { info, quality, kind, shown_better: born.is_none(), artifact }
    }

    /// Share of right answers: what was made before the world changed suffers from the change.
    pub(super) fn quality_when(&self, has_changed: bool) -> f64 {
        let suffers = has_changed && self.info.manifest.lineage.is_none();
        if suffers { (self.quality - 0.2).max(0.0) } else { self.quality }
    }

    pub(super) fn registered(&self) -> Registered {
        Registered {
            version: self.info.version,
            record: self.info.record.clone(),
            artifact: self.artifact.clone(),
            features: vec!["s".into()],
            classes: vec!["a".into(), "b".into()],
            baseline: self.info.baseline.as_ref().clone(),
            signer: String::new(),
            pushed: WallMs(0),
            condemned: None,
        }
    }
}

/// What becomes of a value when the world changes.
pub(super) fn changed(value: f64) -> f64 {
    value / 2.0 + 50.0
}

/// The reference of values from 0 to 100.
fn profile(change: impl Fn(f64) -> f64) -> FeatureBaseline {
    FeatureBaseline::of((0..1_000_u32).map(|row| change(f64::from(row) / 10.0 + 0.05))).without_order()
}
