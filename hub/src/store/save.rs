//! Records into rows.

use super::StoreError;
use crate::core::Record;
use rusqlite::{Params, Transaction, params};
use shoal_proto::id::DeviceId;
use shoal_proto::op::Chain;
use shoal_proto::sync;
use shoal_proto::wire::to_cbor;

/// The key of the last generation in `memory`.
pub(super) const GENERATION: &str = "generation";

/// A number of ours as SQLite keeps it: sequence numbers, generations and clocks stay far below 2^63.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn run(
    transaction: &Transaction<'_>,
    what: &'static str,
    sql: &str,
    params: impl Params,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map(|_rows| ())
        .map_err(|source| StoreError::Write { what, source })
}

pub(super) fn save(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    match record {
        Record::Born(device, incarnation) => run(
            transaction,
            "a new device",
            "INSERT INTO device (id, incarnation) VALUES (?1, ?2)",
            params![device.as_str(), incarnation.to_string()],
        ),
        Record::Link(device, record) => save_link(transaction, device, record),
        Record::Memory(device, memory) => run(
            transaction,
            "a device's memory",
            "UPDATE device SET memory = ?2 WHERE id = ?1",
            params![device.as_str(), to_cbor(memory)],
        ),
        Record::Gone(device) => {
            run(transaction, "a device's end", "DELETE FROM device WHERE id = ?1", params![device.as_str()])
        }
        Record::Generation(generation) => run(
            transaction,
            "the generation",
            "INSERT INTO memory (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
            params![GENERATION, int(*generation)],
        ),
        Record::Rollout(rollout) => run(
            transaction,
            "a rollout",
            "INSERT INTO rollout (id, body) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET body = ?2",
            params![rollout.id.as_str(), to_cbor(rollout)],
        ),
        Record::Model(model) => run(
            transaction,
            "a registry row",
            "INSERT INTO model (version, model, archive, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (version) DO UPDATE SET body = ?4",
            params![
                model.version.to_string(),
                model.record.model.as_str(),
                model.artifact.archive.to_string(),
                to_cbor(model)
            ],
        ),
    }
}

fn save_link(
    transaction: &Transaction<'_>,
    device: &DeviceId,
    record: &sync::Record,
) -> Result<(), StoreError> {
    let id = device.as_str();
    match record {
        sync::Record::Append(op) => {
            run(
                transaction,
                "an operation",
                "INSERT INTO op (device, seq, body) VALUES (?1, ?2, ?3)",
                params![id, int(op.seq), to_cbor(op)],
            )?;
            run(
                transaction,
                "a clock",
                "UPDATE device SET clock = max(clock, ?2) WHERE id = ?1",
                params![id, int(op.hlc.0)],
            )
        }
        sync::Record::Forget(seq, chain) => {
            run(
                transaction,
                "an acknowledgement",
                "DELETE FROM op WHERE device = ?1 AND seq <= ?2",
                params![id, int(*seq)],
            )?;
            set_base(transaction, id, *seq, *chain)
        }
        sync::Record::Put(entry) => run(
            transaction,
            "a document's entry",
            "INSERT INTO entry (device, kind, key, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device, kind, key) DO UPDATE SET body = ?4",
            params![id, entry.kind.0, entry.key, to_cbor(entry)],
        ),
        sync::Record::Drop(kind, key) => run(
            transaction,
            "a dropped window",
            "DELETE FROM entry WHERE device = ?1 AND kind = ?2 AND key = ?3",
            params![id, kind.0, key],
        ),
        sync::Record::Cursor(cursor) => run(
            transaction,
            "a cursor",
            "UPDATE device SET cursor = ?2 WHERE id = ?1",
            params![id, to_cbor(cursor)],
        ),
        sync::Record::Seal(incarnation) => {
            run(transaction, "a cursor", "UPDATE device SET cursor = NULL WHERE id = ?1", params![id])?;
            run(
                transaction,
                "a closed incarnation",
                "INSERT INTO sealed (device, incarnation) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![id, incarnation.to_string()],
            )
        }
        sync::Record::Reborn(incarnation) => {
            run(transaction, "a log's end", "DELETE FROM op WHERE device = ?1", params![id])?;
            run(
                transaction,
                "a new incarnation",
                "UPDATE device SET incarnation = ?2 WHERE id = ?1",
                params![id, incarnation.to_string()],
            )?;
            set_base(transaction, id, 0, Chain::default())
        }
    }
}

fn set_base(transaction: &Transaction<'_>, id: &str, seq: u64, chain: Chain) -> Result<(), StoreError> {
    run(
        transaction,
        "an acknowledgement",
        "UPDATE device SET base_seq = ?2, base_chain = ?3 WHERE id = ?1",
        params![id, int(seq), chain.0],
    )
}
