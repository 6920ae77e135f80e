//! Adaptation of the version that serves: what shoal-adapt needs of a package and of its model.

use crate::core::{Truth, VersionInfo};
use crate::file::{FileError, write_atomic};
use crate::rows::{self, Rows};
use serde::{Deserialize, Serialize};
use shoal_adapt::{Adapt, AdaptState, Frame, Model, Settings, Targets};
use shoal_infer::{InferError, Predictor};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::manifest::{Manifest, OutputKind};
use shoal_proto::package::{Package, REPLAY};
use shoal_proto::wire::{from_cbor, to_cbor};
use shoal_watch::answer::probabilities;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The model of a version, as adaptation asks it.
#[derive(Debug, Clone, Copy)]
pub struct Answering<'a> {
    /// What runs it.
    pub predictor: &'a Predictor,
    /// What its scores are.
    pub manifest: &'a Manifest,
}

impl Model for Answering<'_> {
    type Error = InferError;

    fn answers(&self, rows: usize, features: &[f32]) -> Result<Vec<f32>, InferError> {
        let made = self.predictor.rows(rows, features)?;
        let output = &self.manifest.output;
        if output.kind == OutputKind::Values {
            return Ok(made.values);
        }
        let (mut all, mut shares) = (Vec::with_capacity(made.values.len()), Vec::new());
        for row in made.iter() {
            if !probabilities(output.kind, output.temperature.unwrap_or(1.0), row, &mut shares) {
                shares = vec![f32::NAN; output.classes.len()];
            }
            all.extend_from_slice(&shares);
        }
        Ok(all)
    }
}

/// Begins for a version; `None` where its package does not say what inputs looked like, or all is switched off.
#[must_use]
pub fn begin(package: &Package, info: &VersionInfo, settings: Settings) -> Option<Adapt> {
    if !settings.inputs && !settings.head {
        return None;
    }
    // A version that was born here inherits the moments of its package: it was trained on inputs that had moved
    // since, so that these are not brought back for it, and the head goes on.
    let own = Frame::new(&info.reference);
    let settings = Settings { inputs: settings.inputs && own.is_some(), ..settings };
    let frame = Arc::new(own.or_else(|| Frame::new(&info.baseline))?);
    let output = &info.manifest.output;
    let width = info.manifest.features.len();
    let replay = package.file(REPLAY).and_then(|bytes| Rows::from_npz(REPLAY, bytes, width).ok());
    let prior: Vec<f64> = match replay.as_ref().map(Rows::truth) {
        None => Vec::new(),
        Some(rows::Truth::Classes(classes)) => classes.iter().map(|class| f64::from(*class)).collect(),
        Some(rows::Truth::Values(values)) => values.iter().map(|value| f64::from(*value)).collect(),
    };
    let targets = if output.kind == OutputKind::Values {
        value(&prior)
    } else {
        Targets::Classes(output.classes.len())
    };
    let features = replay.as_ref().map(Rows::features).unwrap_or_default();
    let mut seed = [0; 8];
    seed.copy_from_slice(&info.record.baseline.0[..8]); // the same for all that inherit it, as the head is
    Some(Adapt::new(frame, output.kind, targets, settings, u64::from_be_bytes(seed), (features, &prior)))
}

fn value(values: &[f64]) -> Targets {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    Targets::Value { mean, std: if std > 0.0 { std } else { 1.0 } }
}

/// Where what versions adapted to is kept.
#[derive(Debug, Clone)]
pub struct Desk {
    dir: PathBuf,
    settings: Settings,
}

/// What is kept of a version.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: Digest,
    state: AdaptState,
}

impl Desk {
    /// Below a state folder.
    #[must_use]
    pub fn new(state_dir: &Path, settings: Settings) -> Self {
        Self { dir: state_dir.join("adapt"), settings }
    }

    fn file(&self, model: &ModelName) -> PathBuf {
        self.dir.join(format!("{model}.cbor"))
    }

    /// Begins for a version, and goes on from what was kept of it. What cannot be read is learned again.
    #[must_use]
    pub fn begin(&self, package: &Package, info: &VersionInfo) -> Option<Adapt> {
        let mut adapt = begin(package, info, self.settings)?;
        let bytes = std::fs::read(self.file(&info.record.model)).ok();
        let kept = bytes.and_then(|bytes| from_cbor::<Kept>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.version == info.version)
            && !adapt.restore(kept.state)
        {
            tracing::info!(version = %info.version, "what was kept of its adaptation does not fit, and is dropped");
        }
        Some(adapt)
    }

    /// Keeps what a version has adapted to.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep(&self, model: &ModelName, version: Digest, state: &AdaptState) -> Result<(), FileError> {
        let path = self.file(model);
        let fail = |source| FileError { path: path.clone(), source };
        std::fs::create_dir_all(&self.dir).map_err(fail)?;
        write_atomic(&path, &to_cbor(&Kept { version, state: state.clone() }))
    }
}

/// A truth as the head learns it.
#[must_use]
pub fn target(truth: Truth) -> f64 {
    match truth {
        Truth::Class(class) => f64::from(class),
        Truth::Value(value) => value,
    }
}

/// What adaptation has come to, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapted {
    /// How much of the inputs' movement is taken back, 0 to 1.
    pub inputs: f64,
    /// Whether labels said that it does harm, so that it is not done.
    pub muted: bool,
    /// Whether the head answers.
    pub head: bool,
    /// Labels that the head has learned.
    pub labels: u64,
}

impl fmt::Display for Adapted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_cent = self.inputs * 100.0;
        let inputs = match (self.muted, self.inputs > 0.0) {
            (true, _) => {
                "inputs are left as they come, since labels say that moving them does harm".to_owned()
            }
            (false, true) => format!("{per_cent:.0} % of the inputs' movement is taken back"),
            (false, false) => "inputs have not moved".to_owned(),
        };
        let who = if self.head { "the head answers" } else { "the model answers" };
        write!(f, "{inputs}; {who}, {} labels taught the head", self.labels)
    }
}

impl Adapted {
    /// What it has come to.
    #[must_use]
    pub fn of(adapt: &Adapt) -> Self {
        Self {
            inputs: adapt.adapter().map().strength(),
            muted: adapt.is_muted(),
            head: adapt.is_headed(),
            labels: adapt.labels(),
        }
    }
}
