//! What `samples.db` may take of the disk, and which rows go when it is full: by age, and by class.

use rusqlite::{Connection, TransactionBehavior};
use std::collections::BTreeMap;

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
/// Smallest quota: the tables and one group of wide rows.
const MIN_PAGES: u64 = 64;
/// Share of the labelled rows that classes share evenly, however old: what training keeps for older times.
const KEPT_SHARE: u64 = 4;

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

/// Deletes the oldest unlabelled rows, or the oldest labelled ones once they crowd the others out. A class of
/// which few labelled rows are left keeps them: of a quarter of all, each class of each model has its equal part.
fn evict(connection: &mut Connection, limit: u32) -> rusqlite::Result<u64> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let unlabelled = tx
        .prepare_cached("SELECT count(*) FROM sample WHERE labelled = 0")?
        .query_row([], |row| row.get::<_, i64>(0))?
        .cast_unsigned();
    let mut classes = Classes::count(&tx)?;
    let rows = if unlabelled * UNLABELLED_SHARE < unlabelled + classes.labelled {
        let gone = classes.oldest_beyond_their_part(&tx, limit)?;
        let mut delete = tx.prepare_cached("DELETE FROM sample WHERE id = ?1")?;
        for id in &gone {
            delete.execute([id])?;
        }
        gone.len()
    } else {
        let sql =
            "DELETE FROM sample WHERE id IN (SELECT id FROM sample WHERE labelled = 0 ORDER BY id LIMIT ?1)";
        tx.prepare_cached(sql)?.execute([limit])?
    };
    tx.commit()?;
    Ok(rows as u64)
}

/// Labelled rows by model and class; those of a regression are one class.
struct Classes {
    /// The number of the model that a version is of.
    model: BTreeMap<i64, usize>,
    rows: BTreeMap<(usize, Option<u32>), u64>,
    labelled: u64,
}

impl Classes {
    /// From an index that holds no row's features.
    fn count(tx: &Connection) -> rusqlite::Result<Self> {
        let (mut names, mut model) = (Vec::<String>::new(), BTreeMap::new());
        let mut versions = tx.prepare_cached("SELECT id, model FROM version")?;
        let mut found = versions.query([])?;
        while let Some(row) = found.next()? {
            let name: String = row.get(1)?;
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            model.insert(row.get(0)?, place);
        }
        let mut counted = Self { model, rows: BTreeMap::new(), labelled: 0 };
        let mut classes = tx.prepare_cached(
            "SELECT version, label_class, count(*) FROM sample WHERE labelled = 1 GROUP BY label_class, version",
        )?;
        let mut found = classes.query([])?;
        while let Some(row) = found.next()? {
            let rows = row.get::<_, i64>(2)?.cast_unsigned();
            *counted.rows.entry(counted.class(row.get(0)?, row.get(1)?)).or_default() += rows;
            counted.labelled += rows;
        }
        Ok(counted)
    }

    fn class(&self, version: i64, label: Option<u32>) -> (usize, Option<u32>) {
        (self.model.get(&version).copied().unwrap_or(usize::MAX), label)
    }

    fn oldest_beyond_their_part(&mut self, tx: &Connection, limit: u32) -> rusqlite::Result<Vec<i64>> {
        let part = self.labelled / KEPT_SHARE / (self.rows.len() as u64).max(1);
        let mut gone = Vec::new();
        let mut oldest =
            tx.prepare_cached("SELECT id, version, label_class FROM sample WHERE labelled = 1 ORDER BY id")?;
        let mut found = oldest.query([])?;
        while gone.len() < usize::try_from(limit).unwrap_or(usize::MAX)
            && let Some(row) = found.next()?
        {
            let class = self.class(row.get(1)?, row.get(2)?);
            if let Some(rows) = self.rows.get_mut(&class).filter(|rows| **rows > part) {
                *rows -= 1;
                gone.push(row.get(0)?);
            }
        }
        Ok(gone)
    }
}
