//! Rows back into the hub's state.

use super::StoreError;
use super::save::GENERATION;
use crate::core::Saved;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::de::DeserializeOwned;
use shoal_proto::document::{Document, Entry};
use shoal_proto::id::{DeviceId, Incarnation, Replica, Side};
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Op};
use shoal_proto::sync::{Log, Peer};
use shoal_proto::time::Hlc;
use shoal_proto::wire::from_cbor;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Reads everything.
pub(super) fn load(connection: &Connection) -> Result<Saved, StoreError> {
    let what = "the generation";
    let generation: Option<i64> = connection
        .query_row("SELECT value FROM memory WHERE key = ?1", [GENERATION], |row| row.get(0))
        .optional()
        .map_err(|source| StoreError::Read { what, source })?;
    Ok(Saved {
        generation: uint(generation.unwrap_or_default()),
        devices: load_devices(connection)?,
        models: bodies(connection, "the registry", "SELECT version, body FROM model ORDER BY version")?
            .into_iter()
            .collect(),
        rollouts: bodies(connection, "rollouts", "SELECT id, body FROM rollout ORDER BY id")?
            .into_iter()
            .collect(),
    })
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn all<T>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let run = || -> rusqlite::Result<Vec<T>> { connection.prepare(sql)?.query_map([], read)?.collect() };
    run().map_err(|source| StoreError::Read { what, source })
}

fn parse<T: FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| StoreError::Row {
        what,
        key: text.to_owned(),
        reason: error.to_string(),
    })
}

fn decode<T: DeserializeOwned>(what: &'static str, key: &str, body: &[u8]) -> Result<T, StoreError> {
    from_cbor(body).map_err(|error| StoreError::Row { what, key: key.to_owned(), reason: error.to_string() })
}

/// Rows of a key and a CBOR body.
fn bodies<K: FromStr, T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
) -> Result<Vec<(K, T)>, StoreError>
where
    K::Err: std::fmt::Display,
{
    let rows: Vec<(String, Vec<u8>)> = all(connection, what, sql, |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.iter().map(|(key, body)| Ok((parse(what, key)?, decode(what, key, body)?))).collect()
}

struct DeviceColumns {
    id: String,
    incarnation: String,
    clock: i64,
    base_seq: i64,
    base_chain: [u8; 8],
    cursor: Option<Vec<u8>>,
    memory: Option<Vec<u8>>,
}

fn load_devices(
    connection: &Connection,
) -> Result<BTreeMap<DeviceId, (Peer, Document, crate::core::device::Memory)>, StoreError> {
    let sql = "SELECT id, incarnation, clock, base_seq, base_chain, cursor, memory FROM device ORDER BY id";
    let rows = all(connection, "devices", sql, |row| {
        Ok(DeviceColumns {
            id: row.get(0)?,
            incarnation: row.get(1)?,
            clock: row.get(2)?,
            base_seq: row.get(3)?,
            base_chain: row.get(4)?,
            cursor: row.get(5)?,
            memory: row.get(6)?,
        })
    })?;
    let mut ops: BTreeMap<DeviceId, Vec<Op>> = BTreeMap::new();
    for (id, op) in bodies(connection, "operations", "SELECT device, body FROM op ORDER BY device, seq")? {
        ops.entry(id).or_default().push(op);
    }
    let mut documents: BTreeMap<DeviceId, Document> = BTreeMap::new();
    // Floors have the highest kinds: joined last, they drop nothing that is still here.
    let sql = "SELECT device, body FROM entry ORDER BY device, kind, key";
    for (id, entry) in bodies::<DeviceId, Entry>(connection, "documents", sql)? {
        documents.entry(id).or_default().join(entry);
    }
    let mut sealed: BTreeMap<String, BTreeSet<Incarnation>> = BTreeMap::new();
    let pairs: Vec<(String, String)> =
        all(connection, "closed incarnations", "SELECT device, incarnation FROM sealed", |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    for (id, incarnation) in pairs {
        sealed.entry(id).or_default().insert(parse("closed incarnations", &incarnation)?);
    }
    let mut devices = BTreeMap::new();
    for row in rows {
        let id: DeviceId = parse("devices", &row.id)?;
        let incarnation = parse("devices", &row.incarnation)?;
        let replica = Replica { side: Side::Hub, incarnation };
        let base = (uint(row.base_seq), Chain(row.base_chain));
        let log = Log::restore(replica, Hlc(uint(row.clock)), base, ops.remove(&id).unwrap_or_default());
        let cursor: Option<Cursor> = row.cursor.map(|body| decode("cursors", &row.id, &body)).transpose()?;
        let memory =
            row.memory.map(|body| decode("devices", &row.id, &body)).transpose()?.unwrap_or_default();
        let peer = Peer::new(log, cursor, sealed.remove(&row.id).unwrap_or_default());
        let document = documents.remove(&id).unwrap_or_default();
        devices.insert(id, (peer, document, memory));
    }
    Ok(devices)
}
