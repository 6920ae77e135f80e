//! Reading `samples.db` from another process: the training child.

use super::StoreError;
use super::samples_rows::{Label, MIGRATIONS, floats_from_bytes, parsed, read_label};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a read waits for a checkpoint.
const BUSY: Duration = Duration::from_secs(5);

/// A labelled row.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledRow {
    /// Rises with time, never used twice.
    pub rowid: u64,
    /// What the label referred to.
    pub prediction_id: String,
    /// The features, in the manifest's order; NaN is a missing value.
    pub features: Vec<f32>,
    /// The true class, for a classifier.
    pub class: Option<u32>,
    /// The true number, for regression.
    pub value: Option<f64>,
    /// When it was predicted.
    pub at: WallMs,
}

/// The newest labelled rows of a model as they are chosen from: who says what, and what was answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// In order of prediction.
    pub rows: Vec<ToldRow>,
    /// What other sources than a row's last said of it, in order of the rows and of coming.
    pub others: Vec<OtherWord>,
    /// The sources' names.
    pub sources: Vec<String>,
}

/// A labelled row without its features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToldRow {
    /// Rises with time, never used twice.
    pub rowid: u64,
    /// The last word.
    pub label: Label,
    /// Whose it is, by place in [`Told::sources`].
    pub source: u32,
    /// The class that was answered, for a classifier.
    pub class: Option<u32>,
    /// Its probability.
    pub confidence: f32,
    /// The first number of the output: what was answered, for a regression.
    pub value: f32,
}

/// An earlier word of another source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OtherWord {
    /// On which row.
    pub rowid: u64,
    /// Whose it is, by place in [`Told::sources`].
    pub source: u32,
    /// What it says.
    pub label: Label,
}

/// A row, labelled or not.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentRow {
    /// Rises with time, never used twice.
    pub rowid: u64,
    /// What a label refers to.
    pub prediction_id: String,
    /// Which version answered.
    pub version: Digest,
    /// The features, in the manifest's order; NaN is a missing value.
    pub features: Vec<f32>,
    /// The predicted class, for a classifier.
    pub class: Option<u32>,
    /// Its probability.
    pub confidence: f32,
    /// When it was predicted.
    pub at: WallMs,
    /// The truth, where it is known.
    pub label: Option<Label>,
}

/// A read-only view of the samples; sees what was written up to each call.
#[derive(Debug)]
pub struct SamplesReader {
    connection: Connection,
}

impl SamplesReader {
    /// Opens `samples.db` in a folder. It must exist; another process may be writing to it.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("samples.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = |source| StoreError::Open { path: path.clone(), source: Arc::new(source) };
        let connection = Connection::open_with_flags(&path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        let found: u32 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        if found != known {
            return Err(StoreError::Newer { path, found, known });
        }
        Ok(Self { connection })
    }

    /// The newest labelled rows of a model, over all its versions, in order of prediction.
    pub fn labelled(&self, model: &ModelName, limit: u32) -> Result<Vec<LabelledRow>, StoreError> {
        let sql = "SELECT id, prediction_id, features, label_class, label_value, at_ms FROM sample
             WHERE labelled = 1 AND version IN (SELECT id FROM version WHERE model = ?1)
             ORDER BY id DESC LIMIT ?2";
        self.newest(sql, model, limit, read_labelled)
    }

    /// The newest labelled rows of a model, over all its versions, without their features: about 60 bytes a row.
    pub fn told(&self, model: &ModelName, limit: u32) -> Result<Told, StoreError> {
        let sql = "SELECT id, label_class, label_value, label_source, class, confidence, outputs FROM sample
             WHERE labelled = 1 AND version IN (SELECT id FROM version WHERE model = ?1)
             ORDER BY id DESC LIMIT ?2";
        let mut sources = Names::default();
        let rows = self.newest(sql, model, limit, |row| {
            let source = sources.number(row.get_ref(3)?.as_str_or_null()?.unwrap_or_default());
            let value =
                row.get_ref(6)?.as_blob()?.first_chunk().copied().map_or(f32::NAN, f32::from_le_bytes);
            Ok(read_label(row, 1)?.map(|label| ToldRow {
                rowid: row.get::<_, i64>(0).unwrap_or_default().cast_unsigned(),
                label,
                source,
                class: row.get(4).unwrap_or_default(),
                confidence: row.get::<_, Option<f32>>(5).unwrap_or_default().unwrap_or_default(),
                value,
            }))
        })?;
        let rows: Vec<ToldRow> = rows.into_iter().flatten().collect();
        let first = rows.first().map_or(0, |row| row.rowid);
        let mut others = self.others_since(first, &mut sources)?;
        others.retain(|word| rows.binary_search_by_key(&word.rowid, |row| row.rowid).is_ok());
        Ok(Told { rows, others, sources: sources.all })
    }

    fn others_since(&self, first: u64, sources: &mut Names) -> Result<Vec<OtherWord>, StoreError> {
        let mut read = || -> rusqlite::Result<Vec<OtherWord>> {
            let sql = "SELECT sample, label_class, label_value, source FROM other_label WHERE sample >= ?1
                 ORDER BY sample, id";
            let mut query = self.connection.prepare_cached(sql)?;
            let mut rows = query.query([first.cast_signed()])?;
            let mut words = Vec::new();
            while let Some(row) = rows.next()? {
                let source = sources.number(row.get_ref(3)?.as_str()?);
                let rowid = row.get::<_, i64>(0)?.cast_unsigned();
                words.extend(read_label(row, 1)?.map(|label| OtherWord { rowid, source, label }));
            }
            Ok(words)
        };
        read().map_err(StoreError::sqlite("read what other sources say"))
    }

    /// A labelled row by its number; `None` when it was evicted.
    pub fn labelled_row(&self, rowid: u64) -> Result<Option<LabelledRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT id, prediction_id, features, label_class, label_value, at_ms FROM sample
                     WHERE id = ?1 AND labelled = 1",
                )?
                .query_row([rowid.cast_signed()], read_labelled)
                .optional()
        };
        read().map_err(StoreError::sqlite("read a sample"))
    }

    /// Reads the features of a row; `false`, and nothing read, when it was evicted or has another width.
    pub fn features_into(&self, rowid: u64, features: &mut [f32]) -> Result<bool, StoreError> {
        let mut read = || -> rusqlite::Result<bool> {
            let mut query = self.connection.prepare_cached("SELECT features FROM sample WHERE id = ?1")?;
            let mut rows = query.query([rowid.cast_signed()])?;
            let Some(row) = rows.next()? else { return Ok(false) };
            let bytes = row.get_ref(0)?.as_blob()?;
            let fits = bytes.len() == size_of_val(features);
            if fits {
                for (to, four) in features.iter_mut().zip(bytes.chunks_exact(4)) {
                    *to = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                }
            }
            Ok(fits)
        };
        read().map_err(StoreError::sqlite("read a sample's features"))
    }

    /// The newest rows of a model, labelled or not, in order of prediction.
    pub fn recent(&self, model: &ModelName, limit: u32) -> Result<Vec<RecentRow>, StoreError> {
        let sql = "SELECT sample.id, prediction_id, digest, features, class, confidence, at_ms,
             label_class, label_value FROM sample JOIN version ON version.id = sample.version
             WHERE model = ?1 ORDER BY sample.id DESC LIMIT ?2";
        self.newest(sql, model, limit, |row| {
            Ok(RecentRow {
                rowid: row.get::<_, i64>(0)?.cast_unsigned(),
                prediction_id: row.get(1)?,
                version: parsed(row, 2)?,
                features: floats_from_bytes(row.get_ref(3)?.as_blob()?),
                class: row.get(4)?,
                confidence: row.get::<_, Option<f32>>(5)?.unwrap_or_default(),
                at: WallMs(row.get::<_, i64>(6)?.cast_unsigned()),
                label: read_label(row, 7)?,
            })
        })
    }

    /// Hands over the features of the newest rows of a model that were predicted before a row, labelled or
    /// not, the newest first; one is in memory at a time.
    pub fn each_before(
        &self,
        model: &ModelName,
        rowid: u64,
        limit: u32,
        mut take: impl FnMut(&[f32]),
    ) -> Result<(), StoreError> {
        let mut read = || -> rusqlite::Result<()> {
            let sql = "SELECT features FROM sample
                 WHERE id < ?2 AND version IN (SELECT id FROM version WHERE model = ?1)
                 ORDER BY id DESC LIMIT ?3";
            let mut query = self.connection.prepare_cached(sql)?;
            let mut rows = query.query((model.as_str(), rowid.cast_signed(), limit))?;
            while let Some(row) = rows.next()? {
                take(&floats_from_bytes(row.get_ref(0)?.as_blob()?));
            }
            Ok(())
        };
        read().map_err(StoreError::sqlite("read samples' features"))
    }

    /// Labelled rows of a model that were predicted after this row; 0 counts them all.
    pub fn count_labelled_since(&self, model: &ModelName, rowid: u64) -> Result<u64, StoreError> {
        self.connection
            .query_row(
                "SELECT count(*) FROM sample WHERE labelled = 1 AND id > ?2
                 AND version IN (SELECT id FROM version WHERE model = ?1)",
                (model.as_str(), rowid.cast_signed()),
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .map_err(StoreError::sqlite("count labelled samples"))
    }

    fn newest<T>(
        &self,
        sql: &str,
        model: &ModelName,
        limit: u32,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare(sql)?.query_map((model.as_str(), limit), read)?.collect()
        };
        let mut rows = rows().map_err(StoreError::sqlite("read samples"))?;
        rows.reverse();
        Ok(rows)
    }
}

/// Names by number, in the order of being met.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, u32>,
    all: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.known.get(name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(name.to_owned());
        self.known.insert(name.to_owned(), number);
        number
    }
}

fn read_labelled(row: &Row<'_>) -> rusqlite::Result<LabelledRow> {
    Ok(LabelledRow {
        rowid: row.get::<_, i64>(0)?.cast_unsigned(),
        prediction_id: row.get(1)?,
        features: floats_from_bytes(row.get_ref(2)?.as_blob()?),
        class: row.get(3)?,
        value: row.get(4)?,
        at: WallMs(row.get::<_, i64>(5)?.cast_unsigned()),
    })
}

/// For tests: what the quota does when room is needed.
#[cfg(test)]
pub(crate) fn evict_oldest(dir: &Path) {
    let database = Connection::open(dir.join("samples.db")).expect("it is there");
    let sql = "DELETE FROM sample WHERE id = (SELECT min(id) FROM sample)";
    assert_eq!(database.execute(sql, []).expect("it can be written"), 1);
}
