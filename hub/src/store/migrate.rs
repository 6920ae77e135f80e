//! The schema, as numbered steps that are only ever added to.

use super::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Step `n` brings `user_version` from `n` to `n + 1`.
pub(super) const STEPS: [&str; 1] = ["
CREATE TABLE memory (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE device (
    id TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 40),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 16),
    clock INTEGER NOT NULL DEFAULT 0,
    base_seq INTEGER NOT NULL DEFAULT 0 CHECK (base_seq >= 0),
    base_chain BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(base_chain) = 8),
    cursor BLOB,
    memory BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE op (
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL CHECK (seq > 0),
    body BLOB NOT NULL,
    PRIMARY KEY (device, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 65535),
    key TEXT NOT NULL CHECK (length(CAST(key AS BLOB)) <= 256),
    body BLOB NOT NULL,
    PRIMARY KEY (device, kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE sealed (
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 16),
    PRIMARY KEY (device, incarnation)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollout (
    id TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE model (
    version TEXT PRIMARY KEY CHECK (length(version) = 64),
    model TEXT NOT NULL,
    archive TEXT NOT NULL CHECK (length(archive) = 64),
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"];

/// Brings a database to the latest schema, in one exclusive transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let fail = |to, source| StoreError::Migrate { to, source };
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .map_err(|source| fail(known, source))?;
    let found: i64 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| StoreError::Read { what: "the schema's version", source })?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (at, step) in (0..).zip(STEPS).skip(usize::try_from(found).unwrap_or_default()) {
        transaction.execute_batch(step).map_err(|source| fail(at + 1, source))?;
        transaction.pragma_update(None, "user_version", at + 1).map_err(|source| fail(at + 1, source))?;
    }
    transaction.commit().map_err(|source| fail(known, source))
}
