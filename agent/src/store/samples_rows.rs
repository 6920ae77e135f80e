//! The tables of `samples.db`.

use super::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use shoal_watch::answer::GroupCodes;
use std::sync::Arc;
use std::time::Duration;

/// Labels that may wait for their row.
pub(super) const MAX_PARKED: u64 = 10_000;
/// How long a label waits for its row: the row is at most a queue away, or was dropped.
pub(super) const PARKED_AGE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of rows in one transaction, for models with thousands of features.
const TRANSACTION_BYTES: usize = 256 * 1024;

/// Sources beside the last one whose word on a row is kept, the newest.
const MAX_OTHERS: u32 = 7;

/// Longest prediction id.
pub const MAX_ID_BYTES: usize = 256;

/// Every step from an empty file; append only.
///
/// `id` is never used twice, so that "since this row" holds after deletions.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE version (
        id     INTEGER PRIMARY KEY,
        model  TEXT NOT NULL CHECK (length(model) BETWEEN 1 AND 40),
        digest TEXT NOT NULL CHECK (length(digest) = 64),
        UNIQUE (model, digest)
    ) STRICT;
    CREATE TABLE sample (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        prediction_id TEXT NOT NULL UNIQUE CHECK (length(prediction_id) BETWEEN 1 AND 256),
        version       INTEGER NOT NULL REFERENCES version (id),
        at_ms         INTEGER NOT NULL,
        features      BLOB NOT NULL CHECK (length(features) % 4 = 0),
        class         INTEGER CHECK (class >= 0),
        confidence    REAL,
        outputs       BLOB NOT NULL CHECK (length(outputs) % 4 = 0),
        labelled      INTEGER NOT NULL DEFAULT 0 CHECK (labelled IN (0, 1)),
        label_class   INTEGER CHECK (label_class >= 0),
        label_value   REAL,
        label_source  TEXT,
        CHECK (labelled = (label_class IS NOT NULL OR label_value IS NOT NULL))
    ) STRICT;
    CREATE INDEX sample_labelled ON sample (id) WHERE labelled = 1;
    CREATE INDEX sample_unlabelled ON sample (id) WHERE labelled = 0;
    CREATE TABLE parked (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        prediction_id TEXT NOT NULL UNIQUE CHECK (length(prediction_id) BETWEEN 1 AND 256),
        label_class   INTEGER CHECK (label_class >= 0),
        label_value   REAL,
        source        TEXT NOT NULL,
        at_ms         INTEGER NOT NULL,
        CHECK ((label_class IS NULL) <> (label_value IS NULL))
    ) STRICT;
",
    // The parts of the groups that requests named, a byte a group.
    "ALTER TABLE sample ADD COLUMN parts BLOB CHECK (length(parts) BETWEEN 1 AND 16);",
    // What other sources than the last one say of a row; the last word of each stands, in the order of coming.
    "
    CREATE TABLE other_label (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        sample      INTEGER NOT NULL REFERENCES sample (id) ON DELETE CASCADE,
        source      TEXT NOT NULL,
        label_class INTEGER CHECK (label_class >= 0),
        label_value REAL,
        UNIQUE (sample, source),
        CHECK ((label_class IS NULL) <> (label_value IS NULL))
    ) STRICT;
    CREATE TABLE parked_by_source (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        prediction_id TEXT NOT NULL CHECK (length(prediction_id) BETWEEN 1 AND 256),
        label_class   INTEGER CHECK (label_class >= 0),
        label_value   REAL,
        source        TEXT NOT NULL,
        at_ms         INTEGER NOT NULL,
        UNIQUE (prediction_id, source),
        CHECK ((label_class IS NULL) <> (label_value IS NULL))
    ) STRICT;
    INSERT INTO parked_by_source SELECT id, prediction_id, label_class, label_value, source, at_ms FROM parked;
    DROP TABLE parked;
    ALTER TABLE parked_by_source RENAME TO parked;
    CREATE INDEX sample_class ON sample (label_class, version) WHERE labelled = 1;
",
];

/// One predicted row.
#[derive(Debug, Clone)]
pub struct SampleRow {
    /// What a label refers to: `id` or `id#row`.
    pub prediction_id: String,
    /// Which model.
    pub model: ModelName,
    /// Which version answered.
    pub version: Digest,
    /// When.
    pub at: WallMs,
    /// The features; NaN is a missing value.
    pub features: Arc<[f32]>,
    /// The predicted class, for a classifier.
    pub class: Option<u32>,
    /// Its probability; 0 for regression.
    pub confidence: f32,
    /// The output row.
    pub values: Arc<[f32]>,
    /// The groups that the request named.
    pub groups: GroupCodes,
}

/// The truth about a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// The index of the true class.
    Class(u32),
    /// The true number.
    Value(f64),
}

/// A label that was given.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRow {
    /// Which prediction.
    pub prediction_id: String,
    /// The truth.
    pub label: Label,
    /// Who says so.
    pub source: String,
    /// When it came.
    pub at: WallMs,
}

impl LabelRow {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let bytes = self.prediction_id.len();
        let reason = if !(1..=MAX_ID_BYTES).contains(&bytes) {
            format!("prediction id of {bytes} bytes, expected 1 to {MAX_ID_BYTES}")
        } else if matches!(self.label, Label::Value(value) if !value.is_finite()) {
            "the value is not finite".into()
        } else {
            return Ok(());
        };
        Err(StoreError::Row { table: "parked", reason })
    }
}

/// What became of a label.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelOutcome {
    /// It stands beside its prediction.
    Joined(Joined),
    /// Its row is not there yet; it waits.
    Parked,
}

/// A label beside its prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Which prediction.
    pub prediction_id: String,
    /// Which model.
    pub model: ModelName,
    /// Which version had answered.
    pub version: Digest,
    /// The predicted class, for a classifier.
    pub class: Option<u32>,
    /// How sure the answer was.
    pub confidence: f32,
    /// The features of the row.
    pub features: Arc<[f32]>,
    /// The output row.
    pub values: Arc<[f32]>,
    /// The groups that the request named.
    pub groups: GroupCodes,
    /// The truth.
    pub label: Label,
    /// It took the place of a different one.
    pub relabelled: bool,
    /// The same label stood there already.
    pub repeated: bool,
}

pub(super) fn floats_to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn floats_from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

/// The number of a version, written when it is new: to be asked once for all rows of it in a transaction.
pub(super) fn version(tx: &Connection, row: &SampleRow) -> rusqlite::Result<i64> {
    let of = params![row.model.as_str(), row.version.to_string()];
    tx.prepare_cached("INSERT OR IGNORE INTO version (model, digest) VALUES (?1, ?2)")?.execute(of)?;
    tx.prepare_cached("SELECT id FROM version WHERE model = ?1 AND digest = ?2")?
        .query_row(of, |found| found.get(0))
}

/// Whether any label waits for its row.
pub(super) fn any_parked(tx: &Connection) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM parked)")?.query_row([], |found| found.get(0))
}

/// Writes a row of a version; `None` when its id is taken. A label that waited for it is joined, where
/// `may_be_parked`.
pub(super) fn insert(
    tx: &Connection,
    row: &SampleRow,
    version: i64,
    may_be_parked: bool,
) -> rusqlite::Result<Option<Option<Joined>>> {
    let rows = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO sample
             (prediction_id, version, at_ms, features, class, confidence, outputs, parts) VALUES
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, nullif(?8, x''))",
        )?
        .execute(params![
            row.prediction_id,
            version,
            row.at.0.cast_signed(),
            floats_to_bytes(&row.features),
            row.class,
            row.confidence,
            floats_to_bytes(&row.values),
            Vec::from(row.groups),
        ])?;
    if rows == 0 {
        return Ok(None);
    }
    if !may_be_parked {
        return Ok(Some(None));
    }
    let sample = tx.last_insert_rowid();
    let mut earlier = None;
    for (label, source) in take_parked(tx, &row.prediction_id)? {
        say(tx, sample, earlier, (label, &source))?;
        earlier = Some((label, source));
    }
    let Some((label, _)) = earlier else { return Ok(Some(None)) };
    Ok(Some(Some(Joined {
        prediction_id: row.prediction_id.clone(),
        model: row.model.clone(),
        version: row.version,
        class: row.class,
        confidence: row.confidence,
        features: Arc::clone(&row.features),
        values: Arc::clone(&row.values),
        groups: row.groups,
        label,
        relabelled: false,
        repeated: false,
    })))
}

/// The labels that wait for a row, in the order of coming; they wait no more.
fn take_parked(tx: &Connection, prediction_id: &str) -> rusqlite::Result<Vec<(Label, String)>> {
    let mut parked = tx.prepare_cached(
        "SELECT label_class, label_value, source FROM parked WHERE prediction_id = ?1 ORDER BY id",
    )?;
    let mut found = parked.query([prediction_id])?;
    let mut labels = Vec::new();
    while let Some(row) = found.next()? {
        labels.extend(read_label(row, 0)?.map(|label| row.get(2).map(|source| (label, source))).transpose()?);
    }
    if !labels.is_empty() {
        tx.prepare_cached("DELETE FROM parked WHERE prediction_id = ?1")?.execute([prediction_id])?;
    }
    Ok(labels)
}

/// Writes a label beside its row, or parks it. The last word stands beside the row; what other sources say of
/// it is kept, and a source that speaks again corrects itself.
pub(super) fn label(tx: &Connection, row: &LabelRow) -> rusqlite::Result<LabelOutcome> {
    let found = tx
        .prepare_cached(
            "SELECT label_class, label_value, model, digest, class, confidence, features, outputs, parts,
             sample.id, label_source FROM sample JOIN version ON version.id = sample.version
             WHERE prediction_id = ?1",
        )?
        .query_row([&row.prediction_id], |found| {
            let earlier = read_label(found, 0)?;
            let joined = Joined {
                prediction_id: row.prediction_id.clone(),
                model: parsed(found, 2)?,
                version: parsed(found, 3)?,
                class: found.get(4)?,
                confidence: found.get::<_, Option<f32>>(5)?.unwrap_or_default(),
                features: floats_from_bytes(found.get_ref(6)?.as_blob()?).into(),
                values: floats_from_bytes(found.get_ref(7)?.as_blob()?).into(),
                groups: found.get::<_, Option<Vec<u8>>>(8)?.unwrap_or_default().into(),
                label: row.label,
                relabelled: earlier.is_some_and(|earlier| earlier != row.label),
                repeated: earlier == Some(row.label),
            };
            let source = found.get::<_, Option<String>>(10)?.unwrap_or_default();
            Ok((joined, found.get::<_, i64>(9)?, earlier.map(|label| (label, source))))
        })
        .optional()?;
    if let Some((joined, sample, earlier)) = found {
        say(tx, sample, earlier, (row.label, &row.source))?;
        return Ok(LabelOutcome::Joined(joined));
    }
    let (class, value) = columns(row.label);
    // A new row, so that the order is that of coming.
    tx.prepare_cached("DELETE FROM parked WHERE prediction_id = ?1 AND source = ?2")?
        .execute([&row.prediction_id, &row.source])?;
    tx.prepare_cached(
        "INSERT INTO parked (prediction_id, label_class, label_value, source, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![row.prediction_id, class, value, row.source, row.at.0.cast_signed()])?;
    Ok(LabelOutcome::Parked)
}

/// Puts a source's word beside a row, and what another said before it aside.
fn say(
    tx: &Connection,
    sample: i64,
    earlier: Option<(Label, String)>,
    (label, source): (Label, &str),
) -> rusqlite::Result<()> {
    if let Some((label, other)) = earlier.filter(|(_, other)| other != source) {
        let (class, value) = columns(label);
        let delete = "DELETE FROM other_label WHERE sample = ?1 AND source IN (?2, ?3)";
        tx.prepare_cached(delete)?.execute(params![sample, source, other])?;
        tx.prepare_cached(
            "INSERT INTO other_label (sample, source, label_class, label_value) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![sample, other, class, value])?;
        tx.prepare_cached(
            "DELETE FROM other_label WHERE sample = ?1 AND id NOT IN
             (SELECT id FROM other_label WHERE sample = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute(params![sample, MAX_OTHERS])?;
    }
    let (class, value) = columns(label);
    tx.prepare_cached(
        "UPDATE sample SET labelled = 1, label_class = ?2, label_value = ?3, label_source = ?4 WHERE id = ?1",
    )?
    .execute(params![sample, class, value, source])
    .map(drop)
}

const fn columns(label: Label) -> (Option<u32>, Option<f64>) {
    match label {
        Label::Class(class) => (Some(class), None),
        Label::Value(value) => (None, Some(value)),
    }
}

/// Gives up parked labels that are too many or too old; tells how many.
pub(super) fn expire(tx: &Connection, now: WallMs) -> rusqlite::Result<u64> {
    let age = u64::try_from(PARKED_AGE.as_millis()).unwrap_or(u64::MAX);
    let old = tx
        .prepare_cached("DELETE FROM parked WHERE at_ms < ?1")?
        .execute([now.0.saturating_sub(age).cast_signed()])?;
    let many = tx
        .prepare_cached(
            "DELETE FROM parked WHERE id <= (SELECT id FROM parked ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([MAX_PARKED.cast_signed()])?;
    Ok((old + many) as u64)
}

pub(super) fn read_label(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Label>> {
    Ok(match (row.get(first)?, row.get(first + 1)?) {
        (Some(class), _) => Some(Label::Class(class)),
        (None, Some(value)) => Some(Label::Value(value)),
        (None, None) => None,
    })
}

pub(super) fn parsed<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get::<_, String>(index)?.parse().map_err(|cause| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(cause))
    })
}

/// How many of these rows go into one transaction; at least one, where there is one.
pub(super) fn fitting(rows: &[SampleRow]) -> usize {
    let mut bytes = 0;
    let fit = rows.iter().take_while(|row| {
        bytes += 4 * (row.features.len() + row.values.len());
        bytes <= TRANSACTION_BYTES
    });
    fit.count().max(1).min(rows.len())
}
