//! Opening a database and bringing its schema up to date.

use super::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for another connection's lock.
const BUSY: Duration = Duration::from_secs(5);
/// WAL pages after which SQLite folds them into the database.
const CHECKPOINT_PAGES: u32 = 1_000;
/// Size to which the WAL shrinks after a checkpoint.
const WAL_BYTES: u32 = 4 * 1024 * 1024;

/// Opens a database for writing and migrates it. `migrations[n]` leads from version n to n + 1;
/// the list only ever grows.
pub(super) fn open(path: &Path, exclusive: bool, migrations: &[&str]) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) };
    let mut connection = Connection::open(path).map_err(fail)?;
    configure(&connection, exclusive).map_err(fail)?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

fn configure(connection: &Connection, exclusive: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    if exclusive {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)
}

/// All steps in one exclusive transaction: a crash leaves the old schema or the new.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let fail = || StoreError::sqlite("migrate the schema");
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(fail())?;
    let found: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail())?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for step in migrations.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        tx.execute_batch(step).map_err(fail())?;
    }
    if found < known {
        tx.pragma_update(None, "user_version", known).map_err(fail())?;
    }
    tx.commit().map_err(fail())
}

/// Walks all pages: structure only, a fraction of a full integrity check.
pub(super) fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(StoreError::sqlite("check the database"))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { reason: verdict }),
    }
}
