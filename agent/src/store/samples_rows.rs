//! The tables of `samples.db`.

use super::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use shoal_watch::answer::GroupCodes;
use std::sync::Arc;
use std::time::Duration;

/// Labels that may wait for their row.
pub(super) const MAX_PARKED: u64 = 10_000;
/// How long a label waits for its row: the row is at most a queue away, or was dropped.
pub(super) const PARKED_AGE: Duration = Duration::from_secs(24 * 3600);
/// Rows deleted in one small step on a full disk.
const SMALL_STEP: u32 = 32;
/// Small steps in a row.
const SMALL_STEPS: u32 = 8;
/// Rows deleted in one step for the quota.
const STEP: u32 = 256;
/// Unlabelled rows keep at least one row in this many, so that a row lives to see its label.
const UNLABELLED_SHARE: u64 = 5;
/// Share of the quota that is ballast.
const BALLAST_SHARE: u64 = 8;
/// Ballast of a large quota.
const MAX_BALLAST: u64 = 2 * 1024 * 1024;
/// Share of the ballast at which the log is folded back. Thrown ballast must have room for all that
/// the log holds: this, and one transaction more.
const LOG_SHARE: u64 = 4;
/// Bytes of rows in one transaction, for models with thousands of features.
const TRANSACTION_BYTES: usize = 256 * 1024;
/// Smallest quota: the tables and one group of wide rows.
const MIN_PAGES: u64 = 64;

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
    let parked = tx
        .prepare_cached(
            "DELETE FROM parked WHERE prediction_id = ?1 RETURNING label_class, label_value, source",
        )?
        .query_row([&row.prediction_id], |found| Ok((read_label(found, 0)?, found.get::<_, String>(2)?)))
        .optional()?;
    let Some((Some(label), source)) = parked else { return Ok(Some(None)) };
    set_label(tx, &row.prediction_id, label, &source)?;
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

/// Writes a label beside its row, or parks it.
pub(super) fn label(tx: &Connection, row: &LabelRow) -> rusqlite::Result<LabelOutcome> {
    let found = tx
        .prepare_cached(
            "SELECT label_class, label_value, model, digest, class, confidence, features, outputs, parts
             FROM sample JOIN version ON version.id = sample.version WHERE prediction_id = ?1",
        )?
        .query_row([&row.prediction_id], |found| {
            let earlier = read_label(found, 0)?;
            Ok(Joined {
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
            })
        })
        .optional()?;
    if let Some(joined) = found {
        set_label(tx, &row.prediction_id, row.label, &row.source)?;
        return Ok(LabelOutcome::Joined(joined));
    }
    let (class, value) = columns(row.label);
    tx.prepare_cached(
        "INSERT INTO parked (prediction_id, label_class, label_value, source, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET label_class = excluded.label_class,
         label_value = excluded.label_value, source = excluded.source, at_ms = excluded.at_ms",
    )?
    .execute(params![row.prediction_id, class, value, row.source, row.at.0.cast_signed()])?;
    Ok(LabelOutcome::Parked)
}

fn set_label(tx: &Connection, prediction_id: &str, label: Label, source: &str) -> rusqlite::Result<()> {
    let (class, value) = columns(label);
    tx.prepare_cached(
        "UPDATE sample SET labelled = 1, label_class = ?2, label_value = ?3, label_source = ?4
         WHERE prediction_id = ?1",
    )?
    .execute(params![prediction_id, class, value, source])
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

/// The ballast that goes with a quota.
pub(super) fn ballast_bytes(quota_bytes: u64) -> u64 {
    (quota_bytes / BALLAST_SHARE).min(MAX_BALLAST)
}

/// Folds the log back into the database, and gives its room back.
pub(super) fn fold_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))
}

/// The limit on the database's own pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pages: u64,
}

impl Quota {
    /// Sets the hard limit, below which deletions always have room to work in, and folds the log back
    /// early enough that it stays a fraction of the quota.
    pub(super) fn set(connection: &Connection, bytes: u64) -> rusqlite::Result<Self> {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = (bytes / page.cast_unsigned().max(512)).max(MIN_PAGES);
        connection.pragma_update_and_check(None, "max_page_count", pages.cast_signed(), |_row| Ok(()))?;
        let log_pages = (ballast_bytes(bytes) / LOG_SHARE / page.cast_unsigned().max(512)).max(16);
        connection
            .pragma_update_and_check(None, "wal_autocheckpoint", log_pages.cast_signed(), |_row| Ok(()))?;
        Ok(Self { pages })
    }

    /// The disk has no more: the database shall not grow beyond what it is, since pages that find no
    /// room in it can never leave the log.
    pub(super) fn settle(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        self.pages = self.pages.min(pages.max(0).cast_unsigned().max(MIN_PAGES));
        connection.pragma_update_and_check(None, "max_page_count", self.pages.cast_signed(), |_row| Ok(()))
    }

    fn used(connection: &Connection) -> rusqlite::Result<u64> {
        let read = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((read("page_count")? - read("freelist_count")?).max(0).cast_unsigned())
    }

    /// Above nineteen twentieths of the quota, deletes old rows down to nine tenths; tells how many.
    pub(super) fn evict(self, connection: &mut Connection) -> rusqlite::Result<u64> {
        if Self::used(connection)? * 20 < self.pages * 19 {
            return Ok(0);
        }
        let mut evicted = 0;
        while Self::used(connection)? * 10 >= self.pages * 9 {
            match evict(connection, STEP)? {
                0 => break,
                rows => evicted += rows,
            }
        }
        Ok(evicted)
    }

    /// Deletes some old rows whatever the quota says, in small steps, each of which gives the log's
    /// room back; tells how many.
    pub(super) fn evict_small(self, connection: &mut Connection) -> rusqlite::Result<u64> {
        let mut evicted = 0;
        for _ in 0..SMALL_STEPS {
            let rows = evict(connection, SMALL_STEP)?;
            fold_log(connection)?;
            evicted += rows;
            if rows == 0 {
                break;
            }
        }
        Ok(evicted)
    }
}

/// Deletes the oldest unlabelled rows, or the oldest labelled ones once they crowd the others out.
fn evict(connection: &mut Connection, limit: u32) -> rusqlite::Result<u64> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let count = |labelled: u32| -> rusqlite::Result<u64> {
        tx.prepare_cached(match labelled {
            0 => "SELECT count(*) FROM sample WHERE labelled = 0",
            _ => "SELECT count(*) FROM sample WHERE labelled = 1",
        })?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
    };
    let (unlabelled, labelled) = (count(0)?, count(1)?);
    let sql = if unlabelled * UNLABELLED_SHARE < unlabelled + labelled {
        "DELETE FROM sample WHERE id IN (SELECT id FROM sample WHERE labelled = 1 ORDER BY id LIMIT ?1)"
    } else {
        "DELETE FROM sample WHERE id IN (SELECT id FROM sample WHERE labelled = 0 ORDER BY id LIMIT ?1)"
    };
    let rows = tx.prepare_cached(sql)?.execute([limit])?;
    tx.commit()?;
    Ok(rows as u64)
}
