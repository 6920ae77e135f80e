//! A training run: in the child.

use super::answer::{AnswerError, Judge};
use super::build;
use super::choice::Wanted;
use super::compare::{self, Compared};
use super::confine::resident_bytes;
use super::job::{Born, Memory, Said, TrainingJob};
use super::leaves;
use super::recipe::{self, LeafRefit, Way};
use super::resume::{Outside, Shelf, Span, drive};
use super::samples::{OfRun, Pinned, RowGone, Shape, Stored};
use super::search;
use crate::keys::{KeyError, device_key};
use crate::profile;
use crate::rows::{Rows, RowsError};
use crate::store::{SamplesReader, StoreError};
use crate::vault::{Vault, VaultError};
use shoal_learn::{LearnError, RecipeError, Session, Source as _};
use shoal_onnx::{FoldError, Limits, TreeRefitError};
use shoal_proto::baseline::Baseline;
use shoal_proto::decision::{Evidence, RowsRecord, Searched};
use shoal_proto::id::Digest;
use shoal_proto::manifest::{self, Lineage, Manifest};
use shoal_proto::package::{BASELINE, GUARD, MANIFEST, MODEL, Package, PackageError, REFERENCE, REPLAY};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows to train on below which a run is not worth its power.
pub(super) const MIN_TRAINING_ROWS: usize = 20;
/// Weight of all replayed rows together, as a multiple of that of the device's rows. On the gas-sensor stream
/// a half keeps 96.8 % of the guard set, where none keeps 78.4 %, and costs one point on the next batch.
const REPLAY_WEIGHT: f64 = 0.5;
/// Share of the training rows, the newest, on which patience looks: enough to see a trend, few enough to miss.
pub(super) const VALIDATION_SHARE: usize = 5;
/// A regression's answer is right when it is no farther off than this share of the champion's answers to
/// the guard set are.
const TOLERANCE_SHARE: f64 = 0.75;
/// Held-out rows in memory at once while they are measured.
pub(super) const MEASURED_AT_ONCE: usize = 256;
/// Numbers of the held-out rows that a candidate's reference is taken over, at most: 16 MiB. A profile needs
/// all of a column at once.
const REFERENCE_VALUES: usize = 4 << 20;

/// Why a run brought no candidate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The device's rows cannot be read.
    #[error("the labelled rows cannot be read")]
    Samples(#[source] StoreError),
    /// A version that is to be made again, and whose rows are not known.
    #[error("which rows version {version} came of is not known here")]
    NotPinned { version: Digest },
    /// Some of its rows are gone.
    #[error("{count} of the rows that it came of are gone: {}", list(.first))]
    RowsGone { count: usize, first: Vec<u64> },
    /// They were evicted while they were read.
    #[error("labelled rows were evicted while they were chosen")]
    Moved,
    /// One was evicted after the run.
    #[error("the held-out rows cannot be read")]
    Gone(#[from] RowGone),
    /// Too few of them.
    #[error(
        "too few labelled rows: {training} to train on and {holdout} to test on, {MIN_TRAINING_ROWS} and 1 are needed{}",
        why(.left_out)
    )]
    TooFewRows { training: usize, holdout: usize, left_out: Box<RowsRecord> },
    /// The package's recipe.
    #[error("the package's recipe is refused")]
    Recipe(#[from] RecipeError),
    /// All rows of a refit are in memory at once.
    #[error(
        "a refit of {rows} rows of {width} features needs {needed} bytes, {budget} are allowed: lower `max_rows` \
         in the recipe, or allow more memory"
    )]
    TooManyRows { rows: usize, width: usize, needed: u64, budget: u64 },
    /// A search ended with nothing that is worth a run.
    #[error(
        "none of {} recipes learned anything: on the {} newest training rows the best has a loss of {best:.4}, the parent {:.4}",
        .search.tried.len(), .search.rows, .search.parent
    )]
    NothingBetter { best: f64, rows: Box<RowsRecord>, search: Box<Searched> },
    /// The leaves of the trees.
    #[error("the leaves are not refitted")]
    Leaves(#[from] TreeRefitError),
    /// Nothing to bring back.
    #[error(
        "the inputs are not mapped: of {rows} recent rows no feature was seen often enough that varies in the \
         reference"
    )]
    SameInputs { rows: u64 },
    /// The first layer.
    #[error("the model does not take a map of its inputs")]
    Fold(#[from] FoldError),
    /// Somebody asked the run to stop.
    #[error("paused at step {step} of {steps}")]
    Paused { step: u64, steps: u64 },
    /// The parent cannot be had, or the candidate not be written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A package that contradicts itself.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The guard or replay set.
    #[error(transparent)]
    Rows(#[from] RowsError),
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

/// What was left out, for people.
fn why(left_out: &RowsRecord) -> String {
    let reasons: Vec<String> =
        left_out.left_out().iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
    if reasons.is_empty() { String::new() } else { format!("; left out: {}", reasons.join(", ")) }
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(|id| format!("sample {id}")).collect::<Vec<_>>().join(", ")
}

/// Reads the parent, trains on the device's rows, and puts the signed candidate into the vault. Killed at any
/// instant, the same job goes on where it was, and ends in the same bytes.
pub(super) fn run(job: &TrainingJob, outside: &mut dyn Outside) -> Result<Born, TrainError> {
    let vault = Vault::join(&job.state);
    let parent = vault.get(job.parent)?;
    let reader = SamplesReader::open_read_only(&job.state).map_err(TrainError::Samples)?;
    let mut shelf = Shelf::open(job);
    let Made { package: mut candidate, evidence, memory, rows, search } =
        train(job, &parent, &reader, &mut shelf, outside)?;
    candidate.sign(&device_key(&job.state)?)?;
    let version = vault.put(&candidate)?.version;
    shelf.close(version, &vault);
    let spent = outside.spent();
    let by = Some(build::made_by(job.limits.memory_bytes, spent.cpu_ms));
    Ok(Born { version, evidence, memory, spent, by, rows, search })
}

/// Trains a candidate from its parent and the device's rows, and measures both on rows that were not trained
/// on. The newest rows are held out; the parent's replay set is trained on again.
///
/// Deterministic: the same job, parent and rows give the same package on the same build and kind of CPU.
pub(super) fn train(
    job: &TrainingJob,
    parent: &Package,
    reader: &SamplesReader,
    shelf: &mut Shelf,
    outside: &mut dyn Outside,
) -> Result<Made, TrainError> {
    let manifest = parent.manifest()?;
    let package_bytes = parent.to_files().values().map(Vec::len).sum();
    let onnx = parent.file(MODEL).ok_or(PackageError::Lacks { name: MODEL })?;
    let has_trees = shoal_onnx::leaves(onnx, &Limits::default()).map_err(TreeRefitError::from)?.is_some();
    let way = recipe::parse(&job.recipe, has_trees, job.seed, job.limits.session_bytes(package_bytes))?;
    let data = Data::choose(job, &manifest, parent, reader, shelf, &way)?;
    let mut search = None;
    let Learned { onnx: trained, rows, memory } = match &way {
        Way::Gradients(parsed) if job.recipe.search == recipe::HALVING => {
            let found = search::search(onnx, &manifest, &data, (&job.recipe, parsed), shelf, outside)?;
            let span = Span { before: found.as_ref().map_or(0, |found| found.steps), after: 0 };
            let chosen = match &found {
                Some(found) => search::gradients(&found.recipe, parsed)?,
                None => parsed.clone(),
            };
            search = found.map(|found| (found.searched, found.recipe));
            learn(onnx, &data, &chosen, (shelf, outside), span)?
        }
        Way::Gradients(recipe) => learn(onnx, &data, recipe, (shelf, outside), Span::default())?,
        Way::Leaves(how) => refit(onnx, &data, how, outside)?,
        Way::InputAffine { cap } => renormalise(onnx, &data, &parent.reference()?, *cap, outside)?,
    };
    let judge = |who, onnx| Judge::new(onnx, &manifest).map_err(|source| TrainError::Answer { who, source });
    let (champion, candidate) = (judge("the champion", onnx)?, judge("the candidate", &trained)?);
    let mut evidence = data.measure(&manifest, &champion, &candidate, rows)?;
    if let Some(measured) = evidence.measured.as_deref_mut() {
        let first = data.pinned.holdout().start;
        let row = data.pinned.read(reader, first..first + 1, data.shape)?;
        measured.row_us = compare::row_us(&champion, &candidate, &row, || outside.elapsed());
        measured.model_bytes = (onnx.len() as u64, trained.len() as u64);
        // A map of the inputs has a cap of its own, and may undo a unit that jumped by a thousand.
        let is_trained = !matches!(way, Way::InputAffine { .. });
        measured.distance = if is_trained { compare::distance(onnx, &trained) } else { None };
    }
    let reference = data.reference(&manifest, &candidate)?;
    let package = package(job, parent, manifest, &trained, &data, &reference)?;
    Ok(Made { package, evidence, memory, rows: data.pinned.record().clone(), search })
}

/// What a run made.
#[derive(Debug)]
pub(super) struct Made {
    /// Not signed yet.
    pub(super) package: Package,
    pub(super) evidence: Evidence,
    pub(super) memory: Memory,
    pub(super) rows: RowsRecord,
    /// Which recipes were tried, and the one that was chosen.
    pub(super) search: Option<(Searched, manifest::Recipe)>,
}

/// What a way of training brought.
struct Learned {
    onnx: Vec<u8>,
    /// Rows that it came of.
    rows: u64,
    memory: Memory,
}

/// Trains by gradients; the memory that it takes is given back before anything is measured.
fn learn(
    onnx: &[u8],
    data: &Data<'_>,
    recipe: &shoal_learn::Recipe,
    (shelf, outside): (&mut Shelf, &mut dyn Outside),
    span: Span,
) -> Result<Learned, TrainError> {
    let all = data.pinned.training();
    let looked_at = if recipe.patience > 0 { all.len() / VALIDATION_SHARE } else { 0 };
    let cut = all.end - looked_at;
    let (mut rows, mut validation) = (data.trained_on(all.start..cut), data.looked_at(cut..all.end));
    let count = rows.rows() as u64;
    let validation: Option<&mut dyn shoal_learn::Source> =
        if looked_at > 0 { Some(&mut validation) } else { None };
    let base_bytes = resident_bytes("VmRSS:");
    let mut session = Session::new(onnx, &mut rows, validation, recipe)?;
    let planned_bytes = session.bytes() as u64;
    drive(&mut session, shelf, outside, span)?;
    let memory = Memory { base_bytes, planned_bytes, peak_bytes: resident_bytes("VmHWM:") };
    Ok(Learned { onnx: session.finish()?.onnx, rows: count, memory })
}

/// Refits the leaves of trees on the rows that gradients would be taken of, with the same weights.
fn refit(
    onnx: &[u8],
    data: &Data<'_>,
    how: &LeafRefit,
    outside: &mut dyn Outside,
) -> Result<Learned, TrainError> {
    let mut rows = data.trained_on(data.pinned.training());
    let count = rows.rows() as u64;
    let base_bytes = resident_bytes("VmRSS:");
    let made = leaves::refit(onnx, &mut rows, data.shape.classes.max(1), how, outside)?;
    let planned_bytes = made.planned_bytes;
    let memory = Memory { base_bytes, planned_bytes, peak_bytes: resident_bytes("VmHWM:") };
    Ok(Learned { onnx: made.onnx, rows: count, memory })
}

/// Folds a map of the inputs into the first layer: no label is looked at.
fn renormalise(
    onnx: &[u8],
    data: &Data<'_>,
    reference: &Baseline,
    cap: f64,
    outside: &mut dyn Outside,
) -> Result<Learned, TrainError> {
    let base_bytes = resident_bytes("VmRSS:");
    outside.on_step(Said::at(0, 1, None));
    if outside.is_stopped() {
        return Err(TrainError::Paused { step: 0, steps: 1 });
    }
    let inputs = data.pinned.inputs().ok_or(TrainError::SameInputs { rows: 0 })?;
    let onnx = inputs.fold_into(onnx, reference, cap)?;
    outside.on_step(Said::at(1, 1, None));
    let memory = Memory { base_bytes, planned_bytes: 0, peak_bytes: resident_bytes("VmHWM:") };
    Ok(Learned { onnx, rows: inputs.rows, memory })
}

/// The rows of a run.
pub(super) struct Data<'a> {
    pub(super) reader: &'a SamplesReader,
    pub(super) pinned: Pinned,
    pub(super) shape: Shape,
    replay: Rows,
    guard: Rows,
}

impl<'a> Data<'a> {
    fn choose(
        job: &TrainingJob,
        manifest: &Manifest,
        parent: &Package,
        reader: &'a SamplesReader,
        shelf: &mut Shelf,
        way: &Way,
    ) -> Result<Self, TrainError> {
        let shape = Shape { width: manifest.features.len(), classes: manifest.output.classes.len() };
        let of_run = OfRun { seed: job.seed, replay: parent.file(REPLAY).unwrap_or_default() };
        let which = (&job.model, job.recipe.max_rows);
        let pinned = shelf.rows(
            |pinned| {
                let is_whole = pinned.inputs().is_some() || !matches!(way, Way::InputAffine { .. });
                Ok(is_whole && pinned.is_there(reader, shape, &of_run)?)
            },
            || {
                let wanted = Wanted {
                    shape,
                    rules: &job.sources,
                    max_rows: usize::try_from(job.recipe.max_rows).unwrap_or(usize::MAX),
                    holdout_share: job.holdout_share,
                    seed: job.seed,
                };
                let pinned = Pinned::choose(reader, &job.model, wanted, &of_run)?;
                let (training, holdout) = (pinned.training().len(), pinned.holdout().len());
                if training < MIN_TRAINING_ROWS || holdout == 0 {
                    let left_out = Box::new(pinned.record().clone());
                    return Err(TrainError::TooFewRows { training, holdout, left_out });
                }
                match way {
                    Way::InputAffine { .. } => pinned.with_inputs(reader, which, shape, &of_run),
                    Way::Gradients(_) | Way::Leaves(_) => Ok(pinned),
                }
            },
        )?;
        let set = |file| match parent.file(file) {
            Some(bytes) => Rows::from_npz(file, bytes, shape.width),
            None => Ok(shape.none()),
        };
        let (mut replay, guard) = (set(REPLAY)?, set(GUARD)?);
        if std::mem::discriminant(replay.truth()) != std::mem::discriminant(shape.none().truth()) {
            replay = shape.none();
        }
        Ok(Self { reader, pinned, shape, replay, guard })
    }

    /// Rows of the device, and those that are replayed, which together weigh a part of what those do.
    pub(super) fn trained_on(&self, places: Range<usize>) -> Stored<'_> {
        let replay = Some(&self.replay).filter(|replay| !replay.is_empty());
        let weight = replay.map_or(0.0, |replay| REPLAY_WEIGHT * places.len() as f64 / replay.len() as f64);
        #[expect(clippy::cast_possible_truncation, reason = "a weight is an f32")]
        let replay_weight = weight.min(1.0) as f32;
        Stored { replay, replay_weight, ..self.looked_at(places) }
    }

    /// Rows of the device alone.
    fn looked_at(&self, places: Range<usize>) -> Stored<'_> {
        let (reader, pinned, shape) = (self.reader, &self.pinned, self.shape);
        Stored { reader, pinned, places, shape, replay: None, replay_weight: 0.0 }
    }

    /// Reads the held-out rows, some at a time.
    fn each_held_out(
        &self,
        mut take: impl FnMut(&Rows) -> Result<(), AnswerError>,
    ) -> Result<(), TrainError> {
        let holdout = self.pinned.holdout();
        for start in holdout.clone().step_by(MEASURED_AT_ONCE) {
            let places = start..(start + MEASURED_AT_ONCE).min(holdout.end);
            let rows = self.pinned.read(self.reader, places, self.shape)?;
            take(&rows).map_err(|source| TrainError::Answer { who: "the holdout", source })?;
        }
        Ok(())
    }

    fn measure(
        &self,
        manifest: &Manifest,
        champion: &Judge,
        candidate: &Judge,
        trained_rows: u64,
    ) -> Result<Evidence, TrainError> {
        let on_guard = |source| TrainError::Answer { who: "the guard set", source };
        let tolerance = tolerance(champion.errors(&self.guard).map_err(on_guard)?);
        let mut compared = Compared::new(manifest, champion, candidate, tolerance);
        self.each_held_out(|rows| compared.take(rows))?;
        let right = |judge: &Judge| -> Result<u64, TrainError> {
            Ok(count(judge.right(&self.guard, tolerance).map_err(on_guard)?.into_iter()))
        };
        let (holdout_rows, champion_correct, candidate_correct, only_champion, only_candidate) =
            compared.counts();
        Ok(Evidence {
            trained_rows,
            holdout_rows,
            champion_correct,
            candidate_correct,
            only_champion,
            only_candidate,
            guard_rows: self.guard.len() as u64,
            guard_champion_correct: right(champion)?,
            guard_candidate_correct: right(candidate)?,
            classes: compared.classes(),
            training_set: self.pinned.digest(),
            measured: Some(Box::new(compared.measured())),
        })
    }

    /// A candidate's reference: the newest rows, on which the gate judges it. The training rows reach back
    /// before the drift, and live data held against such a mixture would look drifted for ever.
    fn reference(&self, manifest: &Manifest, candidate: &Judge) -> Result<Baseline, TrainError> {
        let Range { start, end } = self.pinned.holdout();
        let most = (REFERENCE_VALUES / self.shape.width.max(1)).max(1);
        let rows = self.pinned.read(self.reader, start.max(end.saturating_sub(most))..end, self.shape)?;
        let fail = |source| TrainError::Answer { who: "the candidate", source };
        let scores = candidate.outputs(&rows).map_err(fail)?;
        let predictions = profile::predictions(manifest, &rows, &scores);
        let embedding = candidate.embedding(&rows).map_err(fail)?;
        let profile = profile::baseline(rows.width(), rows.features(), profile::Order::Time, predictions);
        Ok(Baseline { embedding, ..profile })
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

/// The candidate: new weights, lineage and reference; baseline, guard set and replay set inherited.
fn package(
    job: &TrainingJob,
    parent: &Package,
    mut manifest: Manifest,
    onnx: &[u8],
    data: &Data<'_>,
    reference: &Baseline,
) -> Result<Package, TrainError> {
    manifest.lineage = Some(Lineage {
        parent: job.parent,
        device: Some(job.device.clone()),
        number: Some(job.number),
        training_set: Some(data.pinned.digest()),
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
