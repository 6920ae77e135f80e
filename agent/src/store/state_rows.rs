//! The tables of `state.db`.

use super::StoreError;
use crate::core::Record;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use shoal_proto::document::Entry;
use shoal_proto::id::Incarnation;
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::Record as Link;
use shoal_proto::time::Hlc;
use shoal_proto::wire::{from_cbor, to_cbor};
use std::collections::{BTreeMap, BTreeSet};

/// Every step from an empty file; append only.
///
/// Incarnations are text since they fill 64 bits; hybrid stamps are bit patterns and are never
/// compared in SQL.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE self (
        id          INTEGER PRIMARY KEY CHECK (id = 1),
        boot        INTEGER NOT NULL CHECK (boot >= 0),
        incarnation TEXT CHECK (length(incarnation) = 16),
        clock       INTEGER NOT NULL,
        base_seq    INTEGER NOT NULL CHECK (base_seq >= 0),
        base_chain  BLOB NOT NULL CHECK (length(base_chain) = 8)
    ) STRICT;
    INSERT INTO self VALUES (1, 0, NULL, 0, 0, zeroblob(8));
    CREATE TABLE op (
        seq   INTEGER PRIMARY KEY CHECK (seq > 0),
        hlc   INTEGER NOT NULL,
        kind  INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 65535),
        key   TEXT NOT NULL CHECK (length(key) <= 256),
        value BLOB NOT NULL CHECK (length(value) <= 32768)
    ) STRICT;
    CREATE TABLE entry (
        kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 65535),
        key  TEXT NOT NULL CHECK (length(key) <= 256),
        body BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cursor (
        id          INTEGER PRIMARY KEY CHECK (id = 1),
        incarnation TEXT NOT NULL CHECK (length(incarnation) = 16),
        seq         INTEGER NOT NULL CHECK (seq >= 0),
        chain       BLOB NOT NULL CHECK (length(chain) = 8)
    ) STRICT;
    CREATE TABLE sealed (incarnation TEXT PRIMARY KEY CHECK (length(incarnation) = 16)) STRICT;
    CREATE TABLE memory (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"];

/// Everything that a device knew when it was switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The life of this database; `None` when it is new or was restored: one is to be minted and
    /// written as [`shoal_proto::sync::Record::Reborn`].
    pub incarnation: Option<Incarnation>,
    /// The hybrid clock, as of the last own operation.
    pub clock: Hlc,
    /// The position before the first operation that is kept.
    pub base: (u64, Chain),
    /// Our own operations that the hub has not acknowledged, in order.
    pub ops: Vec<Op>,
    /// The document.
    pub entries: Vec<Entry>,
    /// Where we stand in the hub's log.
    pub cursor: Option<Cursor>,
    /// The hub's closed incarnations.
    pub sealed: BTreeSet<Incarnation>,
    /// The core's own memory.
    pub memory: BTreeMap<String, Vec<u8>>,
    /// Counts the opens of this database, from one.
    pub boot: u64,
    /// What was wrong with the file that was found, and what took its place.
    pub recovered: Option<String>,
}

/// Counts the boot and reads everything. `restored`: the file is a snapshot of a past life.
pub(super) fn load(connection: &mut Connection, restored: bool) -> Result<Loaded, StoreError> {
    let fail = || StoreError::sqlite("read state.db");
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
    tx.execute("UPDATE self SET boot = boot + 1", []).map_err(fail())?;
    if restored {
        tx.execute("UPDATE self SET incarnation = NULL", []).map_err(fail())?;
    }
    let loaded = read(&tx)?;
    tx.commit().map_err(fail())?;
    Ok(loaded)
}

fn read(connection: &Connection) -> Result<Loaded, StoreError> {
    let fail = || StoreError::sqlite("read state.db");
    let mut loaded = connection
        .query_row("SELECT boot, incarnation, clock, base_seq, base_chain FROM self", [], |row| {
            Ok(Loaded {
                boot: number(row, 0)?,
                incarnation: row.get::<_, Option<String>>(1)?.map(|text| parsed(1, &text)).transpose()?,
                clock: Hlc(row.get::<_, i64>(2)?.cast_unsigned()),
                base: (number(row, 3)?, Chain(row.get(4)?)),
                ops: Vec::new(),
                entries: Vec::new(),
                cursor: None,
                sealed: BTreeSet::new(),
                memory: BTreeMap::new(),
                recovered: None,
            })
        })
        .map_err(fail())?;
    loaded.ops = all(connection, "SELECT seq, hlc, kind, key, value FROM op ORDER BY seq", |row| {
        Ok(Op {
            seq: number(row, 0)?,
            hlc: Hlc(row.get::<_, i64>(1)?.cast_unsigned()),
            kind: Kind(row.get(2)?),
            key: row.get(3)?,
            value: row.get(4)?,
        })
    })
    .map_err(fail())?;
    let bodies: Vec<Vec<u8>> =
        all(connection, "SELECT body FROM entry ORDER BY kind, key", |row| row.get(0)).map_err(fail())?;
    for body in bodies {
        let entry = from_cbor(&body)
            .map_err(|cause| StoreError::Row { table: "entry", reason: cause.to_string() })?;
        loaded.entries.push(entry);
    }
    loaded.cursor = connection
        .query_row("SELECT incarnation, seq, chain FROM cursor", [], |row| {
            Ok(Cursor {
                incarnation: parsed(0, &row.get::<_, String>(0)?)?,
                seq: number(row, 1)?,
                chain: Chain(row.get(2)?),
            })
        })
        .optional()
        .map_err(fail())?;
    let sealed =
        all(connection, "SELECT incarnation FROM sealed", |row| parsed(0, &row.get::<_, String>(0)?));
    loaded.sealed = sealed.map_err(fail())?.into_iter().collect();
    let memory = all(connection, "SELECT key, value FROM memory", |row| Ok((row.get(0)?, row.get(1)?)));
    loaded.memory = memory.map_err(fail())?.into_iter().collect();
    Ok(loaded)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

fn parsed(index: usize, text: &str) -> rusqlite::Result<Incarnation> {
    text.parse().map_err(|cause| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(cause))
    })
}

/// Writes one record.
pub(super) fn apply(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Link(link) => apply_link(connection, link),
        Record::Memory { key, value } => connection
            .prepare_cached(
                "INSERT INTO memory VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute(params![key, value])
            .map(drop),
    }
}

fn apply_link(connection: &Connection, link: &Link) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql)?.execute(values).map(drop)
    };
    match link {
        Link::Append(op) => {
            let (seq, hlc) = (op.seq.cast_signed(), op.hlc.0.cast_signed());
            run(
                "INSERT INTO op VALUES (?1, ?2, ?3, ?4, ?5)",
                params![seq, hlc, op.kind.0, op.key, op.value],
            )?;
            // The log's own stamps only rise.
            run("UPDATE self SET clock = ?1", params![hlc])
        }
        Link::Forget(seq, chain) => {
            run("DELETE FROM op WHERE seq <= ?1", params![seq.cast_signed()])?;
            run("UPDATE self SET base_seq = ?1, base_chain = ?2", params![seq.cast_signed(), chain.0])
        }
        Link::Put(entry) => run(
            "INSERT INTO entry VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET body = excluded.body",
            params![entry.kind.0, entry.key, to_cbor(entry)],
        ),
        Link::Drop(kind, key) => run("DELETE FROM entry WHERE kind = ?1 AND key = ?2", params![kind.0, key]),
        Link::Cursor(cursor) => run(
            "INSERT INTO cursor VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET
             incarnation = excluded.incarnation, seq = excluded.seq, chain = excluded.chain",
            params![cursor.incarnation.to_string(), cursor.seq.cast_signed(), cursor.chain.0],
        ),
        Link::Seal(incarnation) => {
            run("INSERT OR IGNORE INTO sealed VALUES (?1)", params![incarnation.to_string()])?;
            run("DELETE FROM cursor WHERE incarnation = ?1", params![incarnation.to_string()])
        }
        Link::Reborn(incarnation) => {
            run("DELETE FROM op", &[])?;
            run(
                "UPDATE self SET incarnation = ?1, base_seq = 0, base_chain = zeroblob(8)",
                params![incarnation.to_string()],
            )
        }
    }
}
