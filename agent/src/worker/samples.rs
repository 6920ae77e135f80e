//! The device's labelled rows, as a training run takes them: chosen once, then read a few at a time.

use super::choice::{self, Chosen, Wanted};
use super::inputs::Inputs;
use super::train::TrainError;
use crate::rows::{Rows, Truth};
use crate::store::{Label, LabelledRow, SamplesReader, StoreError};
use serde::{Deserialize, Serialize};
use shoal_learn::{Source, SourceError, TargetKind};
use shoal_proto::decision::RowsRecord;
use shoal_proto::id::{Digest, Digester, ModelName};
use std::ops::Range;

/// A row that was there when the run began.
#[derive(Debug, thiserror::Error)]
pub enum RowGone {
    /// The store made room.
    #[error("sample {id} was evicted while the run was under way")]
    Evicted { id: u64 },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What rows must be to be of use to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Features of a row.
    pub(super) width: usize,
    /// Classes that the model tells apart; none for a regression.
    pub(super) classes: usize,
}

impl Shape {
    /// What a label says; `None` when it is what the model does not answer.
    pub(super) fn truth_of(self, label: Label) -> Option<One> {
        match label {
            Label::Class(class) if usize::try_from(class).is_ok_and(|class| class < self.classes) => {
                Some(One::Class(class))
            }
            #[expect(clippy::cast_possible_truncation, reason = "models answer in f32")]
            Label::Value(value) if self.classes == 0 && (value as f32).is_finite() => {
                Some(One::Value(value as f32))
            }
            _ => None,
        }
    }

    /// What the features of a row are told apart by; `None` where the row is gone, incomplete or of another width.
    fn print(self, reader: &SamplesReader, rowid: u64, row: &mut [f32]) -> Result<Option<u64>, StoreError> {
        let is_read = reader.features_into(rowid, row)?;
        if !is_read || !row.iter().all(|value| value.is_finite()) {
            return Ok(None);
        }
        let mut digester = Digester::default();
        row.iter().for_each(|value| digester.update(&value.to_le_bytes()));
        let [a, b, c, d, e, f, g, h, ..] = digester.finish().0;
        Ok(Some(u64::from_le_bytes([a, b, c, d, e, f, g, h])))
    }

    /// Rows of this shape, none yet.
    pub(super) fn none(self) -> Rows {
        Rows::none(self.width, self.classes > 0)
    }
}

/// What is true of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum One {
    Class(u32),
    Value(f32),
}

impl One {
    /// Whether it contradicts another; values that differ by at most the tolerance do not.
    pub(super) fn differs(self, other: Self, tolerance: f32) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => (a - b).abs() > tolerance,
            _ => self != other,
        }
    }

    /// Of a regression.
    pub(super) fn value(self) -> Option<f32> {
        match self {
            Self::Class(_) => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// The rows of a run with their truth, chosen when it first began and kept while it lasts: 12 bytes a row, and 4
/// more where they weigh differently, oldest first. What came or was relabelled since changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pinned {
    ids: Vec<u64>,
    truth: Truth,
    /// Of each row; none where all are one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weights: Vec<f32>,
    /// So many are trained on; the newer ones are held out.
    training: usize,
    /// Over ids, features, truth and weights of the training rows, replayed ones among them, and the seed.
    digest: Digest,
    /// Mean and spread of recent inputs, for a run that fits nothing else.
    #[serde(default)]
    inputs: Option<Inputs>,
    /// Whose they are, and which were left out.
    #[serde(default)]
    record: RowsRecord,
}

impl Pinned {
    /// Chooses among the labelled rows of a model, and holds the newest out.
    pub(super) fn choose(
        reader: &SamplesReader,
        model: &ModelName,
        wanted: Wanted<'_>,
        of_run: &OfRun<'_>,
    ) -> Result<Self, TrainError> {
        let most = u32::try_from(wanted.max_rows).unwrap_or(u32::MAX).max(choice::LOOK_BACK);
        let told = reader.told(model, most).map_err(TrainError::Samples)?;
        let mut row = vec![0.0; wanted.shape.width];
        let print = |rowid| wanted.shape.print(reader, rowid, &mut row).map_err(TrainError::Samples);
        let Chosen { rows, training, record } = choice::choose(&told, wanted, print)?;
        let mut truth = Truth::none(wanted.shape.classes > 0);
        for row in &rows {
            match (row.truth, &mut truth) {
                (One::Class(class), Truth::Classes(classes)) => classes.push(class),
                (One::Value(value), Truth::Values(values)) => values.push(value),
                _ => {}
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a weight is an f32")]
        let weights: Vec<f32> = rows.iter().map(|row| row.weight as f32).collect();
        let weights = if weights.iter().all(|weight| *weight == 1.0) { Vec::new() } else { weights };
        let ids = rows.iter().map(|row| row.rowid).collect();
        let digest = Digest([0; 32]);
        let mut pinned = Self { ids, truth, weights, training, digest, inputs: None, record };
        pinned.digest = pinned.digest_of(reader, of_run)?.ok_or(TrainError::Moved)?;
        Ok(pinned)
    }

    /// Whose rows they are, and which were left out.
    pub(super) fn record(&self) -> &RowsRecord {
        &self.record
    }

    /// What a row counts for.
    pub(super) fn weight(&self, at: usize) -> f32 {
        self.weights.get(at).copied().unwrap_or(1.0)
    }

    /// Looks at recent inputs too, labelled or not, up to the first row that is held out.
    pub(super) fn with_inputs(
        mut self,
        reader: &SamplesReader,
        which: (&ModelName, u32),
        shape: Shape,
        of_run: &OfRun<'_>,
    ) -> Result<Self, TrainError> {
        let first_held_out = self.ids.get(self.training).copied().unwrap_or(u64::MAX >> 1);
        self.inputs = Some(Inputs::before(reader, which, first_held_out, shape.width)?);
        self.digest = self.digest_of(reader, of_run)?.ok_or(TrainError::Moved)?;
        Ok(self)
    }

    /// Recent inputs, where they were looked at.
    pub(super) fn inputs(&self) -> Option<&Inputs> {
        self.inputs.as_ref()
    }

    /// Whether all rows are still there, as they were.
    pub(super) fn is_there(
        &self,
        reader: &SamplesReader,
        shape: Shape,
        of_run: &OfRun<'_>,
    ) -> Result<bool, TrainError> {
        let weighs = self.weights.is_empty() || self.weights.len() == self.ids.len();
        let fits = weighs && self.ids.len() == self.truth_len() && self.training <= self.ids.len();
        if !fits || self.digest_of(reader, of_run)? != Some(self.digest) {
            return Ok(false);
        }
        let mut features = vec![0.0; shape.width];
        for id in &self.ids[self.training..] {
            if !reader.features_into(*id, &mut features).map_err(TrainError::Samples)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows that are no longer there.
    pub(super) fn gone(&self, reader: &SamplesReader, width: usize) -> Result<Vec<u64>, StoreError> {
        let (mut gone, mut features) = (Vec::new(), vec![0.0; width]);
        for id in &self.ids {
            if !reader.features_into(*id, &mut features)? {
                gone.push(*id);
            }
        }
        Ok(gone)
    }

    /// `None` when a row is gone. One pass, a row in memory at a time.
    fn digest_of(&self, reader: &SamplesReader, of_run: &OfRun<'_>) -> Result<Option<Digest>, TrainError> {
        let mut digester = Digester::default();
        digester.update(&of_run.seed.to_le_bytes());
        for (at, id) in self.ids[..self.training].iter().enumerate() {
            let Some(row) = reader.labelled_row(*id).map_err(TrainError::Samples)? else { return Ok(None) };
            digest_into(&row, self.one(at), &mut digester);
            if !self.weights.is_empty() {
                digester.update(&self.weight(at).to_le_bytes());
            }
        }
        digester.update(of_run.replay);
        if let Some(inputs) = &self.inputs {
            inputs.digest_into(&mut digester);
        }
        Ok(Some(digester.finish()))
    }

    fn truth_len(&self) -> usize {
        match &self.truth {
            Truth::Classes(classes) => classes.len(),
            Truth::Values(values) => values.len(),
        }
    }

    fn one(&self, at: usize) -> One {
        match &self.truth {
            Truth::Classes(classes) => One::Class(classes[at]),
            Truth::Values(values) => One::Value(values[at]),
        }
    }

    /// Places of the rows that are trained on.
    pub(super) fn training(&self) -> Range<usize> {
        0..self.training
    }

    /// Places of the rows that are held out.
    pub(super) fn holdout(&self) -> Range<usize> {
        self.training..self.ids.len()
    }

    /// What names the training set.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Reads some of them into memory.
    pub(super) fn read(
        &self,
        reader: &SamplesReader,
        places: Range<usize>,
        shape: Shape,
    ) -> Result<Rows, RowGone> {
        let mut rows = shape.none();
        let mut features = vec![0.0; shape.width];
        for at in places {
            let id = self.ids[at];
            let is_read = reader.features_into(id, &mut features)?;
            let is_taken = is_read
                && match self.one(at) {
                    One::Class(class) => rows.push_class(&features, class),
                    One::Value(value) => rows.push_value(&features, value),
                };
            if !is_taken {
                return Err(RowGone::Evicted { id });
            }
        }
        Ok(rows)
    }
}

/// What a training set's digest is taken over beside its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfRun<'a> {
    pub(super) seed: u64,
    /// The parent's replay file.
    pub(super) replay: &'a [u8],
}

/// What the digest of a training set is taken over: the label's reference, features and truth.
fn digest_into(row: &LabelledRow, truth: One, digester: &mut Digester) {
    digester.update(&(row.prediction_id.len() as u64).to_le_bytes());
    digester.update(row.prediction_id.as_bytes());
    for value in &row.features {
        digester.update(&value.to_le_bytes());
    }
    let (class, value) = match truth {
        One::Class(class) => (u64::from(class), f64::NAN),
        One::Value(value) => (u64::MAX, f64::from(value)),
    };
    digester.update(&class.to_le_bytes());
    digester.update(&value.to_le_bytes());
}

/// Rows of the device in the database, and after them those that are replayed, in memory.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) reader: &'a SamplesReader,
    pub(super) pinned: &'a Pinned,
    /// Which of the pinned rows.
    pub(super) places: Range<usize>,
    pub(super) shape: Shape,
    pub(super) replay: Option<&'a Rows>,
    /// Of each replayed row.
    pub(super) replay_weight: f32,
}

impl Source for Stored<'_> {
    fn rows(&self) -> usize {
        self.places.len() + self.replay.map_or(0, Rows::len)
    }

    fn width(&self) -> usize {
        self.shape.width
    }

    fn targets(&self) -> TargetKind {
        match &self.pinned.truth {
            Truth::Classes(_) => TargetKind::Classes,
            Truth::Values(_) => TargetKind::Values(1),
        }
    }

    fn replay_from(&self) -> usize {
        self.places.len()
    }

    fn weight(&self, row: usize) -> f32 {
        if row < self.places.len() { self.pinned.weight(self.places.start + row) } else { self.replay_weight }
    }

    fn read(&mut self, rows: &[usize], features: &mut [f32], targets: &mut [f32]) -> Result<(), SourceError> {
        let to = features.chunks_exact_mut(self.shape.width).zip(targets);
        for (row, (features, target)) in rows.iter().zip(to) {
            let fail = |cause: RowGone| SourceError { row: *row, source: Box::new(cause) };
            if *row < self.places.len() {
                let at = self.places.start + row;
                let id = self.pinned.ids[at];
                if !self.reader.features_into(id, features).map_err(|cause| fail(cause.into()))? {
                    return Err(fail(RowGone::Evicted { id }));
                }
                *target = number(self.pinned.one(at));
            } else if let Some(replay) = self.replay {
                let (at, width) = (row - self.places.len(), self.shape.width);
                features.copy_from_slice(&replay.features()[at * width..(at + 1) * width]);
                *target = match replay.truth() {
                    Truth::Classes(classes) => number(One::Class(classes[at])),
                    Truth::Values(values) => values[at],
                };
            }
        }
        Ok(())
    }
}

fn number(one: One) -> f32 {
    match one {
        #[expect(clippy::cast_precision_loss, reason = "classes are few")]
        One::Class(class) => class as f32,
        One::Value(value) => value,
    }
}
