//! The tables of `state.db`.

use super::StoreError;
use crate::core::Record;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use shoal_proto::document::Entry;
use shoal_proto::id::{Digest, Incarnation};
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::Record as Link;
use shoal_proto::time::Hlc;
use shoal_proto::wire::{from_cbor, to_cbor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every step from an empty file; append only.
///
/// Incarnations are text since they fill 64 bits; hybrid stamps are bit patterns and are never
/// compared in SQL.
pub(super) const MIGRATIONS: &[&str] = &[
    "
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
",
    // The sum over all rows but this; empty until the next load.
    "ALTER TABLE self ADD COLUMN sum INTEGER;",
];

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

/// Counts the boot and reads everything.
pub(super) fn load(connection: &mut Connection) -> Result<Loaded, StoreError> {
    let fail = || StoreError::sqlite("read state.db");
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
    tx.execute("UPDATE self SET boot = boot + 1", []).map_err(fail())?;
    let (loaded, sum) = read(&tx)?;
    check_sum(&tx, sum)?;
    tx.commit().map_err(fail())?;
    Ok(loaded)
}

/// Makes a snapshot's copy one of a past life.
pub(super) fn end_life(path: &Path) -> Result<(), StoreError> {
    let fail = || StoreError::sqlite("restore a snapshot");
    let connection = Connection::open(path).map_err(fail())?;
    match connection.execute("UPDATE self SET incarnation = NULL", []) {
        Ok(1) => {}
        // A disk that lies about fsync leaves an empty file under the name of a snapshot.
        Ok(_) => return Err(StoreError::Damaged { reason: "it holds no device".into() }),
        Err(cause) if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
            return Err(StoreError::Damaged { reason: cause.to_string() });
        }
        Err(cause) => return Err(fail()(cause)),
    }
    connection.close().map_err(|(_, cause)| fail()(cause))
}

/// A disk that forgets a write may leave old pages among new ones: each is whole and nothing else tells that the
/// state never was.
fn check_sum(connection: &Connection, sum: Sum) -> Result<(), StoreError> {
    let fail = || StoreError::sqlite("read state.db");
    let kept: Option<i64> =
        connection.query_row("SELECT sum FROM self", [], |row| row.get(0)).map_err(fail())?;
    match kept {
        Some(kept) if kept != sum.0.cast_signed() => {
            Err(StoreError::Damaged { reason: "its rows are not those that were written together".into() })
        }
        Some(_) => Ok(()),
        None => {
            connection.execute("UPDATE self SET sum = ?1", [sum.0.cast_signed()]).map(drop).map_err(fail())
        }
    }
}

/// The sum over rows: of a set, whatever the order in which it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum(u64);

impl Sum {
    fn of(table: &str, row: &[&[u8]]) -> u64 {
        let mut bytes = Vec::from(table);
        for part in row {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let digest = Digest::of(&bytes);
        digest.0.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    fn add(&mut self, table: &str, row: &[&[u8]]) {
        self.0 = self.0.wrapping_add(Self::of(table, row));
    }

    fn take(&mut self, table: &str, row: &[&[u8]]) {
        self.0 = self.0.wrapping_sub(Self::of(table, row));
    }

    fn add_op(&mut self, op: &Op) {
        let Op { seq, hlc, kind, key, value } = op;
        let (seq, hlc, kind) = (seq.to_le_bytes(), hlc.0.to_le_bytes(), kind.0.to_le_bytes());
        self.add("op", &[&seq, &hlc, &kind, key.as_bytes(), value]);
    }

    fn take_op(&mut self, op: &Op) {
        let mut one = Self::default();
        one.add_op(op);
        self.0 = self.0.wrapping_sub(one.0);
    }

    fn add_cursor(&mut self, cursor: &Cursor) {
        let Cursor { incarnation, seq, chain } = cursor;
        self.add("cursor", &[&incarnation.0.to_le_bytes(), &seq.to_le_bytes(), &chain.0]);
    }

    fn take_cursor(&mut self, cursor: &Cursor) {
        let mut one = Self::default();
        one.add_cursor(cursor);
        self.0 = self.0.wrapping_sub(one.0);
    }
}

fn read(connection: &Connection) -> Result<(Loaded, Sum), StoreError> {
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
    let mut sum = Sum::default();
    loaded.ops =
        all(connection, "SELECT seq, hlc, kind, key, value FROM op ORDER BY seq", read_op).map_err(fail())?;
    loaded.ops.iter().for_each(|op| sum.add_op(op));
    let bodies: Vec<Vec<u8>> =
        all(connection, "SELECT body FROM entry ORDER BY kind, key", |row| row.get(0)).map_err(fail())?;
    for body in bodies {
        sum.add("entry", &[&body]);
        let entry = from_cbor(&body)
            .map_err(|cause| StoreError::Row { table: "entry", reason: cause.to_string() })?;
        loaded.entries.push(entry);
    }
    loaded.cursor = read_cursor(connection).map_err(fail())?;
    loaded.cursor.iter().for_each(|cursor| sum.add_cursor(cursor));
    let sealed =
        all(connection, "SELECT incarnation FROM sealed", |row| parsed(0, &row.get::<_, String>(0)?));
    loaded.sealed = sealed.map_err(fail())?.into_iter().collect();
    loaded.sealed.iter().for_each(|sealed| sum.add("sealed", &[&sealed.0.to_le_bytes()]));
    let memory = all(connection, "SELECT key, value FROM memory", |row| Ok((row.get(0)?, row.get(1)?)));
    loaded.memory = memory.map_err(fail())?.into_iter().collect();
    loaded.memory.iter().for_each(|(key, value)| sum.add("memory", &[key.as_bytes(), value]));
    Ok((loaded, sum))
}

fn read_op(row: &Row<'_>) -> rusqlite::Result<Op> {
    Ok(Op {
        seq: number(row, 0)?,
        hlc: Hlc(row.get::<_, i64>(1)?.cast_unsigned()),
        kind: Kind(row.get(2)?),
        key: row.get(3)?,
        value: row.get(4)?,
    })
}

fn read_cursor(connection: &Connection) -> rusqlite::Result<Option<Cursor>> {
    connection
        .prepare_cached("SELECT incarnation, seq, chain FROM cursor")?
        .query_row([], |row| {
            Ok(Cursor {
                incarnation: parsed(0, &row.get::<_, String>(0)?)?,
                seq: number(row, 1)?,
                chain: Chain(row.get(2)?),
            })
        })
        .optional()
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

/// Writes records, and what they change of the sum.
pub(super) fn apply(connection: &Connection, records: &[Record]) -> rusqlite::Result<()> {
    let kept: Option<i64> =
        connection.prepare_cached("SELECT sum FROM self")?.query_row([], |row| row.get(0))?;
    let mut sum = Sum(kept.unwrap_or_default().cast_unsigned());
    for record in records {
        match record {
            Record::Link(link) => apply_link(connection, link, &mut sum)?,
            Record::Memory { key, value } => {
                let old: Option<Vec<u8>> = connection
                    .prepare_cached("SELECT value FROM memory WHERE key = ?1")?
                    .query_row([key], |row| row.get(0))
                    .optional()?;
                old.iter().for_each(|old| sum.take("memory", &[key.as_bytes(), old]));
                sum.add("memory", &[key.as_bytes(), value]);
                connection
                    .prepare_cached(
                        "INSERT INTO memory VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                    )?
                    .execute(params![key, value])?;
            }
        }
    }
    connection.prepare_cached("UPDATE self SET sum = ?1")?.execute([sum.0.cast_signed()]).map(drop)
}

fn apply_link(connection: &Connection, link: &Link, sum: &mut Sum) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values);
    match link {
        Link::Append(op) => {
            let (seq, hlc) = (op.seq.cast_signed(), op.hlc.0.cast_signed());
            run(
                "INSERT INTO op VALUES (?1, ?2, ?3, ?4, ?5)",
                params![seq, hlc, op.kind.0, op.key, op.value],
            )?;
            sum.add_op(op);
            // The log's own stamps only rise.
            run("UPDATE self SET clock = ?1", params![hlc])?;
        }
        Link::Forget(seq, chain) => {
            forget(connection, *seq, sum)?;
            run("UPDATE self SET base_seq = ?1, base_chain = ?2", params![seq.cast_signed(), chain.0])?;
        }
        Link::Put(entry) => {
            take_entry(connection, entry.kind, &entry.key, sum)?;
            let body = to_cbor(entry);
            sum.add("entry", &[&body]);
            run(
                "INSERT INTO entry VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET body = excluded.body",
                params![entry.kind.0, entry.key, body],
            )?;
        }
        Link::Drop(kind, key) => {
            take_entry(connection, *kind, key, sum)?;
            run("DELETE FROM entry WHERE kind = ?1 AND key = ?2", params![kind.0, key])?;
        }
        Link::Cursor(cursor) => {
            read_cursor(connection)?.iter().for_each(|old| sum.take_cursor(old));
            sum.add_cursor(cursor);
            run(
                "INSERT INTO cursor VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET
                 incarnation = excluded.incarnation, seq = excluded.seq, chain = excluded.chain",
                params![cursor.incarnation.to_string(), cursor.seq.cast_signed(), cursor.chain.0],
            )?;
        }
        Link::Seal(incarnation) => {
            if run("INSERT OR IGNORE INTO sealed VALUES (?1)", params![incarnation.to_string()])? > 0 {
                sum.add("sealed", &[&incarnation.0.to_le_bytes()]);
            }
            let old = read_cursor(connection)?.filter(|old| old.incarnation == *incarnation);
            old.iter().for_each(|old| sum.take_cursor(old));
            run("DELETE FROM cursor WHERE incarnation = ?1", params![incarnation.to_string()])?;
        }
        Link::Reborn(incarnation) => {
            forget(connection, u64::MAX, sum)?;
            run(
                "UPDATE self SET incarnation = ?1, base_seq = 0, base_chain = zeroblob(8)",
                params![incarnation.to_string()],
            )?;
        }
    }
    Ok(())
}

/// Deletes the operations up to one.
fn forget(connection: &Connection, up_to: u64, sum: &mut Sum) -> rusqlite::Result<()> {
    let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
    let mut old = connection.prepare_cached("SELECT seq, hlc, kind, key, value FROM op WHERE seq <= ?1")?;
    for op in old.query_map([up_to], read_op)? {
        sum.take_op(&op?);
    }
    connection.prepare_cached("DELETE FROM op WHERE seq <= ?1")?.execute([up_to]).map(drop)
}

fn take_entry(connection: &Connection, kind: Kind, key: &str, sum: &mut Sum) -> rusqlite::Result<()> {
    let old: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM entry WHERE kind = ?1 AND key = ?2")?
        .query_row(params![kind.0, key], |row| row.get(0))
        .optional()?;
    old.iter().for_each(|old| sum.take("entry", &[old]));
    Ok(())
}
