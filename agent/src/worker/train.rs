//! A training run: in the child.

use super::answer::{AnswerError, Judge};
use super::job::{Born, TrainingJob};
use super::samples::{digest_into, push, read};
use crate::keys::{KeyError, device_key};
use crate::profile;
use crate::rows::{Rows, RowsError};
use crate::store::{LabelledRow, StoreError};
use crate::vault::{Vault, VaultError};
use shoal_learn::{DatasetError, LearnError, Optimizer, Recipe, Scope, fine_tune};
use shoal_proto::decision::Evidence;
use shoal_proto::id::Digest;
use shoal_proto::manifest::{Lineage, Manifest, Task};
use shoal_proto::package::{BASELINE, GUARD, MANIFEST, MODEL, Package, PackageError, REFERENCE, REPLAY};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Rows to train on below which a run is not worth its power.
pub(super) const MIN_TRAINING_ROWS: usize = 20;
/// Weight of all replayed rows together, as a multiple of that of the device's rows. On the gas-sensor stream
/// a half keeps 96.8 % of the guard set, where none keeps 78.4 %, and costs one point on the next batch.
const REPLAY_WEIGHT: f64 = 0.5;
/// A regression's answer is right when it is no farther off than this share of the champion's answers to
/// the guard set are.
const TOLERANCE_SHARE: f64 = 0.75;
/// Steps of a run at most, whatever the recipe says.
const MAX_STEPS: u64 = 20_000;

/// Why a run brought no candidate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The device's rows cannot be read.
    #[error("the labelled rows cannot be read")]
    Samples(#[source] StoreError),
    /// Too few of them.
    #[error(
        "too few labelled rows: {training} to train on and {holdout} to test on, {MIN_TRAINING_ROWS} and 1 are needed"
    )]
    TooFewRows { training: usize, holdout: usize },
    /// The parent cannot be had, or the candidate not be written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A package that contradicts itself.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The guard or replay set.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The rows cannot be learned from.
    #[error("the rows cannot be learned from")]
    Dataset(#[from] DatasetError),
    /// The run failed.
    #[error("training failed")]
    Learn(#[from] LearnError),
    /// A version does not answer.
    #[error("{who}")]
    Answer {
        who: &'static str,
        #[source]
        source: AnswerError,
    },
    /// The device's key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Reads parent and rows, trains, and puts the signed candidate into the vault.
pub(super) fn run(job: &TrainingJob) -> Result<Born, TrainError> {
    let vault = Vault::join(&job.state);
    let parent = vault.get(job.parent)?;
    let samples = read(&job.state, &job.model, job.recipe.max_rows)?;
    let (mut candidate, evidence) = train(job, &parent, &samples)?;
    candidate.sign(&device_key(&job.state)?)?;
    Ok(Born { version: vault.put(&candidate)?.version, evidence })
}

/// Trains a candidate from its parent and the device's rows (oldest first), and measures both on rows that
/// were not trained on. The newest rows are held out; the parent's replay set is trained on again.
///
/// Deterministic: the same job, parent and rows give the same package on the same build and kind of CPU.
pub fn train(
    job: &TrainingJob,
    parent: &Package,
    samples: &[LabelledRow],
) -> Result<(Package, Evidence), TrainError> {
    let manifest = parent.manifest()?;
    let data = Data::split(job, &manifest, parent, samples)?;
    let onnx = parent.file(MODEL).ok_or(PackageError::Lacks { name: MODEL })?;
    let mut rows = data.training.clone();
    let mut weights = vec![1.0; rows.len()];
    if rows.append(&data.replay) && !data.replay.is_empty() {
        #[expect(clippy::cast_possible_truncation, reason = "a weight is an f32")]
        let weight = (REPLAY_WEIGHT * data.training.len() as f64 / data.replay.len() as f64) as f32;
        weights.resize(rows.len(), weight.min(1.0));
    }
    let recipe = recipe(job);
    let trained = fine_tune(onnx, &mut rows.dataset(weights)?, &recipe, &mut |_| ControlFlow::Continue(()))?;
    let judge = |who, onnx| Judge::new(onnx, &manifest).map_err(|source| TrainError::Answer { who, source });
    let (champion, candidate) = (judge("the champion", onnx)?, judge("the candidate", &trained.onnx)?);
    let evidence = data
        .measure(&manifest, &champion, &candidate, rows.len() as u64)
        .map_err(|source| TrainError::Answer { who: "the holdout or guard set", source })?;
    let answers = candidate
        .answers(&data.holdout)
        .map_err(|source| TrainError::Answer { who: "the candidate", source })?;
    let package = package(job, parent, manifest, &trained.onnx, &data, answers)?;
    Ok((package, evidence))
}

/// The rows of a run.
struct Data {
    training: Rows,
    holdout: Rows,
    replay: Rows,
    guard: Rows,
    /// Over ids and bytes of the training rows, replayed ones among them, and the seed.
    digest: Digest,
}

impl Data {
    fn split(
        job: &TrainingJob,
        manifest: &Manifest,
        parent: &Package,
        samples: &[LabelledRow],
    ) -> Result<Self, TrainError> {
        let (width, classes) = (manifest.features.len(), manifest.output.classes.len());
        let is_classes = manifest.model.task == Task::Classification;
        let none = || Rows::none(width, is_classes);
        let usable: Vec<&LabelledRow> =
            samples.iter().filter(|sample| push(sample, &mut none(), classes)).collect();
        let older = usable
            .iter()
            .enumerate()
            .filter(|(at, _)| (*at as f64) < usable.len() as f64 * (1.0 - job.holdout_share.clamp(0.0, 1.0)));
        let (first, last) = usable.split_at(older.count());
        if first.len() < MIN_TRAINING_ROWS || last.is_empty() {
            return Err(TrainError::TooFewRows { training: first.len(), holdout: last.len() });
        }
        let set = |file| match parent.file(file) {
            Some(bytes) => Rows::from_npz(file, bytes, width),
            None => Ok(none()),
        };
        let mut data = Self {
            training: none(),
            holdout: none(),
            replay: set(REPLAY)?,
            guard: set(GUARD)?,
            digest: Digest([0; 32]),
        };
        let mut bytes = job.seed.to_le_bytes().to_vec();
        for sample in first {
            push(sample, &mut data.training, classes);
            digest_into(sample, &mut bytes);
        }
        for sample in last {
            push(sample, &mut data.holdout, classes);
        }
        bytes.extend(parent.file(REPLAY).unwrap_or_default());
        data.digest = Digest::of(&bytes);
        Ok(data)
    }

    fn measure(
        &self,
        manifest: &Manifest,
        champion: &Judge,
        candidate: &Judge,
        trained_rows: u64,
    ) -> Result<Evidence, AnswerError> {
        let tolerance = tolerance(champion.errors(&self.guard)?);
        let both = |rows| -> Result<_, AnswerError> {
            Ok((champion.right(rows, tolerance)?, candidate.right(rows, tolerance)?))
        };
        let (old, new) = both(&self.holdout)?;
        let (guard_old, guard_new) = both(&self.guard)?;
        let only = |mine: &[bool], other: &[bool]| count(mine.iter().zip(other).map(|(m, o)| *m && !*o));
        let mut classes = vec![(0, 0, 0); manifest.output.classes.len()];
        for ((class, old), new) in self.holdout.classes().iter().zip(&old).zip(&new) {
            if let Some(cell) = usize::try_from(*class).ok().and_then(|class| classes.get_mut(class)) {
                *cell = (cell.0 + 1, cell.1 + u64::from(*old), cell.2 + u64::from(*new));
            }
        }
        Ok(Evidence {
            trained_rows,
            holdout_rows: self.holdout.len() as u64,
            champion_correct: count(old.iter().copied()),
            candidate_correct: count(new.iter().copied()),
            only_champion: only(&old, &new),
            only_candidate: only(&new, &old),
            guard_rows: self.guard.len() as u64,
            guard_champion_correct: count(guard_old.into_iter()),
            guard_candidate_correct: count(guard_new.into_iter()),
            classes,
            training_set: self.digest,
        })
    }
}

fn count(which: impl Iterator<Item = bool>) -> u64 {
    which.map(u64::from).sum()
}

/// The champion's error on the guard set that [`TOLERANCE_SHARE`] of its answers stay below.
fn tolerance(mut errors: Vec<f32>) -> f32 {
    errors.sort_by(f32::total_cmp);
    let below =
        errors.iter().enumerate().take_while(|(at, _)| (*at as f64) < TOLERANCE_SHARE * errors.len() as f64);
    below.last().map_or(0.0, |(_, error)| *error)
}

fn recipe(job: &TrainingJob) -> Recipe {
    let scope = match job.recipe.scope.as_str() {
        "all" => Scope::All,
        "last" => Scope::LastLayer,
        "bias" => Scope::BiasAndNorm,
        names => Scope::Names(names.split(',').map(|name| name.trim().to_owned()).collect()),
    };
    Recipe {
        scope,
        optimizer: Optimizer::Adam,
        learning_rate: job.recipe.learning_rate,
        batch: usize::try_from(job.recipe.batch).unwrap_or(usize::MAX),
        epochs: job.recipe.epochs,
        max_steps: MAX_STEPS,
        seed: job.seed,
        l2_to_start: job.recipe.l2_to_start,
        ..Recipe::default()
    }
}

/// The candidate: new weights and lineage; baseline, guard set and replay set inherited; a reference of its
/// own over the holdout: the newest rows, on which the gate judges it. The training rows reach back before
/// the drift, and live data held against such a mixture would look drifted for ever.
fn package(
    job: &TrainingJob,
    parent: &Package,
    mut manifest: Manifest,
    onnx: &[u8],
    data: &Data,
    answers: Vec<(u32, f32)>,
) -> Result<Package, TrainError> {
    let classes = manifest.output.classes.len();
    let predictions = (classes > 0).then(|| profile::predictions(classes, answers, data.holdout.classes()));
    let reference = profile::baseline(data.holdout.width(), data.holdout.features(), predictions);
    manifest.lineage = Some(Lineage {
        parent: job.parent,
        device: Some(job.device.clone()),
        number: Some(job.number),
        training_set: Some(data.digest),
    });
    let mut files: BTreeMap<String, Vec<u8>> = [BASELINE, GUARD, REPLAY]
        .into_iter()
        .filter_map(|name| parent.file(name).map(|bytes| (name.to_owned(), bytes.to_vec())))
        .collect();
    files.insert(MODEL.into(), onnx.to_vec());
    files.insert(MANIFEST.into(), manifest.to_text().into_bytes());
    files.insert(REFERENCE.into(), reference.to_bytes());
    Ok(Package::new(files)?)
}
