//! The models that are served.

use super::refused::{Refused, shortened};
use crate::clock::Clock;
use crate::core::VersionInfo;
use shoal_infer::{InferError, Predictor, Tensor, TensorData};
use shoal_onnx::{Datatype, TensorSpec};
use shoal_proto::id::ModelName;
use shoal_proto::manifest::Task;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Digits of a version below which a prefix could mean two.
const MIN_PREFIX: usize = 8;
/// Runs of one row whose quickest is taken as the model's speed.
const TIMED_RUNS: u32 = 3;

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
}

impl ServedModel {
    /// Checks that graph and manifest fit, and measures one row.
    pub fn new(info: VersionInfo, predictor: Predictor, clock: &Clock) -> Result<Self, NotServable> {
        let manifest = &info.manifest;
        let place = |specs: &[TensorSpec], name: &str| specs.iter().position(|spec| spec.name == name);
        let tensor = manifest.input.tensor.clone();
        let input = place(predictor.inputs(), &tensor).ok_or(NotServable::NoInput { tensor })?;
        let tensor = manifest.output.tensor.clone();
        let output = place(predictor.outputs(), &tensor).ok_or(NotServable::NoOutput { tensor })?;
        let mut model = Self { info, predictor, input, output, one_row: Duration::ZERO };
        model.check_features()?;
        model.measure(clock)?;
        Ok(model)
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
        let features = &self.info.manifest.features;
        #[expect(clippy::cast_possible_truncation, reason = "features are served as f32")]
        let row: Vec<f32> = features.iter().map(|f| f64::midpoint(f.min, f.max) as f32).collect();
        let tensor = self.rows_tensor(1, &row).ok_or_else(|| {
            let spec = self.input_spec();
            NotServable::Kind { tensor: spec.name.clone(), datatype: spec.datatype }
        })?;
        self.one_row = Duration::MAX;
        if self.predictor.inputs().len() > 1 {
            return Ok(()); // what else it wants is not known: never run in the caller's thread
        }
        for _ in 0..TIMED_RUNS {
            let start = clock.mono();
            let made = self.predictor.infer(std::slice::from_ref(&tensor)).map_err(NotServable::Fails)?;
            self.one_row = self.one_row.min(clock.mono().since(start));
            self.check_output(&made)?;
        }
        Ok(())
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
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    match &tensor.data {
        TensorData::F16(values) => Some(values.iter().map(|value| value.to_f32()).collect()),
        TensorData::F32(values) => Some(values.clone()),
        #[expect(clippy::cast_possible_truncation, reason = "scores are kept as f32")]
        TensorData::F64(values) => Some(values.iter().map(|value| *value as f32).collect()),
        _ => None,
    }
}

/// The models that are served. A request holds its version until it is answered, so that a swap
/// drops none; the version before goes when its last request ends.
#[derive(Debug, Default)]
pub struct Models {
    served: RwLock<BTreeMap<ModelName, Arc<ServedModel>>>,
}

impl Models {
    /// Serves a version in the place of the model's present one, which is given back.
    pub fn swap(&self, model: ServedModel) -> Option<Arc<ServedModel>> {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        served.insert(model.name().clone(), Arc::new(model))
    }

    /// Serves a model no longer.
    pub fn remove(&self, model: &ModelName) -> Option<Arc<ServedModel>> {
        self.served.write().unwrap_or_else(PoisonError::into_inner).remove(model)
    }

    /// The version that serves; `version`, where given, must be its digest or eight digits of it.
    pub fn get(&self, model: &str, version: Option<&str>) -> Result<Arc<ServedModel>, Refused> {
        let unknown = || Refused::UnknownModel { model: shortened(model) };
        let name = ModelName::new(model).map_err(|_no_name| unknown())?;
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let served = served.ok_or_else(unknown)?;
        let digest = served.info.version.to_string();
        match version.filter(|version| !version.is_empty()) {
            Some(version) if version.len() < MIN_PREFIX || !digest.starts_with(version) => {
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
        self.served.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
