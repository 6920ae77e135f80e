//! The models that are served.

use super::adapted::Adapting;
use super::metrics::{Metrics, ModelMetrics};
use super::refused::{Refused, shortened};
use crate::clock::Clock;
use crate::core::VersionInfo;
use shoal_infer::{Batching, InferError, Predictor, Tensor, TensorData};
use shoal_onnx::{Datatype, TensorSpec};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::manifest::Task;
use shoal_watch::answer::Groups;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// Digits of a version or a schema below which a prefix could mean two.
pub(super) const MIN_PREFIX: usize = 8;
/// Runs of one row whose quickest is taken as the model's speed.
const TIMED_RUNS: u32 = 3;
/// Rows of the call that tells whether batches pay.
const TRIED_ROWS: usize = 8;
/// Rows joined into one call at most.
const MAX_BATCH_ROWS: usize = 64;
/// Batches pay when a row in one takes less than this share of a row alone.
const PAYS_BELOW: f64 = 0.8;

/// A version that cannot be served, though it was admitted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotServable {
    /// The manifest names an input that the graph does not have.
    #[error("the graph has no input `{tensor}`")]
    NoInput { tensor: String },
    /// The manifest names an output that the graph does not have, or that holds no numbers.
    #[error("the graph has no output `{tensor}` of floating point numbers")]
    NoOutput { tensor: String },
    /// A row of the input is not as wide as the manifest has features.
    #[error("input `{tensor}` has rows of {got}, the manifest has {expected} features")]
    Features { tensor: String, expected: usize, got: String },
    /// A row of the output is not as wide as the manifest has classes.
    #[error("output `{tensor}` has rows of {got}, the manifest has {expected} classes")]
    Classes { tensor: String, expected: usize, got: usize },
    /// The input's kind of number cannot be made of features.
    #[error("input `{tensor}` is {datatype}")]
    Kind { tensor: String, datatype: Datatype },
    /// The first row failed.
    #[error("the model fails on a row of its own range")]
    Fails(#[source] InferError),
}

/// A version that is served.
#[derive(Debug)]
pub struct ServedModel {
    info: VersionInfo,
    predictor: Predictor,
    input: usize,
    output: usize,
    one_row: Duration,
    batch_rows: usize,
    is_stalled: AtomicBool,
    version: String,
    pub(super) groups: Groups,
    metrics: ModelMetrics,
    pub(super) adapting: Adapting,
}

impl ServedModel {
    /// Checks that graph and manifest fit, and measures one row and a batch.
    pub fn new(
        info: VersionInfo,
        predictor: Predictor,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, NotServable> {
        let manifest = &info.manifest;
        let place = |specs: &[TensorSpec], name: &str| specs.iter().position(|spec| spec.name == name);
        let tensor = manifest.input.tensor.clone();
        let input = place(predictor.inputs(), &tensor).ok_or(NotServable::NoInput { tensor })?;
        let tensor = manifest.output.tensor.clone();
        let output = place(predictor.outputs(), &tensor).ok_or(NotServable::NoOutput { tensor })?;
        let (version, metrics) = (info.version.to_string(), metrics.of(&info.record.model, info.version));
        let mut model = Self {
            predictor,
            input,
            output,
            one_row: Duration::MAX,
            batch_rows: 1,
            is_stalled: AtomicBool::new(false),
            groups: Groups::new(&info.manifest, &[]),
            info,
            version,
            metrics,
            adapting: Adapting::default(),
        };
        if model.has_features() {
            model.check_features()?;
        }
        model.measure(clock)?;
        Ok(model)
    }

    /// Whether the manifest names features: else the model takes tensors, and its inputs are not watched.
    #[must_use]
    pub fn has_features(&self) -> bool {
        !self.info.manifest.features.is_empty()
    }

    fn check_features(&self) -> Result<(), NotServable> {
        let spec = self.input_spec();
        let expected = self.info.manifest.features.len();
        let got = spec.row_elements();
        if got == Some(expected) {
            return Ok(());
        }
        let got = got.map_or_else(|| "open size".into(), |width| width.to_string());
        Err(NotServable::Features { tensor: spec.name.clone(), expected, got })
    }

    fn measure(&mut self, clock: &Clock) -> Result<(), NotServable> {
        let one = self.sample(1)?;
        for _ in 0..TIMED_RUNS {
            let start = clock.mono();
            let made = self.predictor.infer(&one).map_err(NotServable::Fails)?;
            self.one_row = self.one_row.min(clock.mono().since(start));
            self.check_output(&made)?;
        }
        // Where rows change each other's answers, a caller's would depend on who else asks.
        if self.predictor.batching() == Batching::Fixed || self.predictor.couples_rows() {
            return Ok(());
        }
        let several = self.sample(TRIED_ROWS)?;
        let mut quickest = Duration::MAX;
        for _ in 0..TIMED_RUNS {
            let start = clock.mono();
            let Ok(made) = self.predictor.infer(&several) else { return Ok(()) };
            quickest = quickest.min(clock.mono().since(start));
            if made.iter().any(|output| output.shape.first() != Some(&TRIED_ROWS)) {
                return Ok(());
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let alone = self.one_row.as_secs_f64() * TRIED_ROWS as f64;
        if quickest.as_secs_f64() < PAYS_BELOW * alone {
            self.batch_rows = MAX_BATCH_ROWS;
        }
        Ok(())
    }

    /// Rows to time the model with: the middle of each feature's range, or made-up tensors.
    fn sample(&self, rows: usize) -> Result<Vec<Tensor>, NotServable> {
        if !self.has_features() || self.predictor.inputs().len() > 1 {
            return Ok(self.predictor.made_up(rows));
        }
        let features = &self.info.manifest.features;
        #[expect(clippy::cast_possible_truncation, reason = "features are served as f32")]
        let row: Vec<f32> = features.iter().map(|f| f64::midpoint(f.min, f.max) as f32).collect();
        let tensor = self.rows_tensor(rows, &row.repeat(rows)).ok_or_else(|| {
            let spec = self.input_spec();
            NotServable::Kind { tensor: spec.name.clone(), datatype: spec.datatype }
        })?;
        Ok(vec![tensor])
    }

    fn check_output(&self, made: &[Tensor]) -> Result<(), NotServable> {
        let tensor = self.info.manifest.output.tensor.clone();
        let Some(values) = made.get(self.output).and_then(floats) else {
            return Err(NotServable::NoOutput { tensor });
        };
        let (expected, got) = (self.info.manifest.output.classes.len(), values.len());
        if self.info.manifest.model.task == Task::Classification && expected != got {
            return Err(NotServable::Classes { tensor, expected, got });
        }
        Ok(())
    }

    /// What the core knows of it.
    #[must_use]
    pub fn info(&self) -> &VersionInfo {
        &self.info
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.info.record.model
    }

    /// What runs it.
    #[must_use]
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// The digest in full, as the protocol's version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Its counters.
    pub(super) const fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// Whether what was measured holds for all data of the same shape: only then may it run in the
    /// thread that asked.
    pub(super) fn is_steady(&self) -> bool {
        self.predictor.unsteady_op().is_none()
    }

    /// Rows that may be joined into one call; 1 where batches do not pay.
    #[must_use]
    pub const fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// A call of it did not end: it gets no more.
    pub(super) fn mark_stalled(&self) {
        self.is_stalled.store(true, Ordering::Release);
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Acquire)
    }

    /// How long one row takes, at best.
    #[must_use]
    pub fn one_row(&self) -> Duration {
        self.one_row
    }

    /// The index of the class of this name.
    #[must_use]
    pub fn class_index(&self, class: &str) -> Option<u32> {
        let index = self.info.manifest.output.classes.iter().position(|known| known == class)?;
        u32::try_from(index).ok()
    }

    /// The name of a class.
    #[must_use]
    pub fn class_name(&self, index: u32) -> Option<&str> {
        self.info.manifest.output.classes.get(usize::try_from(index).ok()?).map(String::as_str)
    }

    /// Where the features go in.
    pub(super) fn input_spec(&self) -> &TensorSpec {
        &self.predictor.inputs()[self.input]
    }

    /// The place of the scores among the outputs.
    pub(super) const fn output_place(&self) -> usize {
        self.output
    }

    /// Plain rows as the model's input; `None` when it takes no numbers.
    pub(super) fn rows_tensor(&self, rows: usize, features: &[f32]) -> Option<Tensor> {
        let spec = self.input_spec();
        let inner = spec.dims.iter().skip(1).map(|dim| dim.and_then(|size| usize::try_from(size).ok()));
        let shape: Vec<usize> = std::iter::once(Some(rows)).chain(inner).collect::<Option<_>>()?;
        let shape = if spec.dims.is_empty() { Vec::new() } else { shape };
        let data = super::tensors::from_features(spec.datatype, features)?;
        Some(Tensor { name: spec.name.clone(), shape, data })
    }
}

/// The elements of a floating point tensor.
pub(super) fn floats(tensor: &Tensor) -> Option<Cow<'_, [f32]>> {
    match &tensor.data {
        TensorData::F16(values) => Some(values.iter().map(|value| value.to_f32()).collect()),
        TensorData::F32(values) => Some(Cow::Borrowed(values)),
        #[expect(clippy::cast_possible_truncation, reason = "scores are kept as f32")]
        TensorData::F64(values) => Some(values.iter().map(|value| *value as f32).collect()),
        _ => None,
    }
}

/// The models that are served. A request holds its version until it is answered, so that a swap
/// drops none; the version before goes when its last request ends.
#[derive(Debug, Default)]
pub struct Models {
    served: RwLock<BTreeMap<String, Slot>>,
    metrics: Metrics,
}

/// One name's place.
#[derive(Debug, Clone)]
enum Slot {
    Served(Arc<ServedModel>),
    /// An operator unloaded it; the version that would serve.
    Unloaded(ModelName, Digest),
}

/// A model and its state, as the repository lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which model.
    pub model: ModelName,
    /// Which version serves, or would.
    pub version: Digest,
    /// Why it does not serve; `None` when it does.
    pub reason: Option<&'static str>,
}

impl Listed {
    /// Triton's word for the state.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        if self.reason.is_none() { "READY" } else { "UNAVAILABLE" }
    }
}

impl Models {
    /// Serves a version in the place of the model's present one, which is given back. A model that was
    /// unloaded stays so; it will be loaded in this version.
    pub fn swap(&self, model: ServedModel) -> Option<Arc<ServedModel>> {
        let version = model.version.clone();
        let mut served = self.write();
        match served.entry(model.name().to_string()) {
            Entry::Vacant(place) => {
                place.insert(Slot::Served(Arc::new(model)));
                None
            }
            Entry::Occupied(mut place) => match place.get_mut() {
                Slot::Unloaded(_, version) => {
                    *version = model.info.version;
                    None
                }
                Slot::Served(before) => {
                    let before = std::mem::replace(before, Arc::new(model));
                    if before.version != version {
                        self.metrics.forget(before.name(), before.info.version);
                    }
                    Some(before)
                }
            },
        }
    }

    /// Serves a model no longer, until it is loaded again; its memory goes when its last request ends.
    pub fn unload(&self, model: &str) -> Result<(), Refused> {
        let mut served = self.write();
        let slot = served.get_mut(model).ok_or_else(|| unknown(model))?;
        if let Slot::Served(present) = slot {
            *slot = Slot::Unloaded(present.name().clone(), present.info.version);
        }
        Ok(())
    }

    /// Serves a version, also where the model was unloaded.
    pub fn load(&self, model: ServedModel) {
        self.write().insert(model.name().to_string(), Slot::Served(Arc::new(model)));
    }

    /// The version to load for a model that was unloaded; `None` when it serves already.
    pub fn unloaded(&self, model: &str) -> Result<Option<Digest>, Refused> {
        match self.read().get(model) {
            None => Err(unknown(model)),
            Some(Slot::Served(_)) => Ok(None),
            Some(Slot::Unloaded(_, version)) => Ok(Some(*version)),
        }
    }

    /// The version that serves; `version`, where given, must be its digest or eight digits of it.
    pub fn get(&self, model: &str, version: Option<&str>) -> Result<Arc<ServedModel>, Refused> {
        let slot = self.read().get(model).cloned();
        let served = match slot {
            Some(Slot::Served(served)) => served,
            Some(Slot::Unloaded(..)) => return Err(Refused::Unloaded { model: shortened(model) }),
            None => return Err(unknown(model)),
        };
        match version.filter(|version| !version.is_empty()) {
            Some(version) if version.len() < MIN_PREFIX || !served.version.starts_with(version) => {
                let (model, version) = (model.to_owned(), shortened(version));
                Err(Refused::UnknownVersion { model, version, served: served.info.version.short() })
            }
            _ => Ok(served),
        }
    }

    /// The one model that is served.
    pub fn only(&self) -> Result<Arc<ServedModel>, Refused> {
        let served = self.all();
        match served.as_slice() {
            [one] => Ok(Arc::clone(one)),
            _ => Err(Refused::WhichModel { count: served.len() }),
        }
    }

    /// All that is served, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ServedModel>> {
        let served = self.read();
        let present = served.values().filter_map(|slot| match slot {
            Slot::Served(model) => Some(Arc::clone(model)),
            Slot::Unloaded(..) => None,
        });
        present.collect()
    }

    /// All models, also those that are unloaded.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let listed = |slot: &Slot| match slot {
            Slot::Served(model) => Listed {
                model: model.name().clone(),
                version: model.info.version,
                reason: model.is_stalled().then_some("a call of it did not end"),
            },
            Slot::Unloaded(model, version) => {
                Listed { model: model.clone(), version: *version, reason: Some("unloaded") }
            }
        };
        self.read().values().map(listed).collect()
    }

    /// The counters of all that is served.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Slot>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Slot>> {
        self.served.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(model: &str) -> Refused {
    Refused::UnknownModel { model: shortened(model) }
}
