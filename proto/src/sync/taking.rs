//! What the other side brings: batches of its log, and parts of its document.

use super::record::record_change;
use super::snapshot::Arrived;
use super::{Peer, Record, SyncAlarm, is_plain_register};
use crate::document::{Document, Entry, Slot};
use crate::id::Replica;
use crate::message::Cursor;
use crate::op::{Chain, MAX_KEY_BYTES, MAX_VALUE_BYTES, Op};
use crate::time::WallMs;

impl Peer {
    pub(super) fn take_batch(
        &mut self,
        theirs: Replica,
        after: u64,
        chain: Chain,
        ops: &[Op],
        document: &mut Document,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        // Without a cursor the log is not enough, and over a gap nothing is taken: the
        // acknowledgement that is owed tells where to go on.
        let Some(held) = self.cursor.filter(|held| !held.is_lost() && after <= held.seq) else {
            return Ok(());
        };
        if let Some(op) = ops.iter().find(|op| !fits(&op.key, &op.value)) {
            return Err(SyncAlarm::Oversized { kind: op.kind });
        }
        let (mut at, mut link) = (after, chain);
        for op in ops {
            if op.seq != at + 1 {
                break;
            }
            if at == held.seq && link != held.chain {
                self.owe_fork = Some(theirs.incarnation);
                return Err(SyncAlarm::Equivocation { incarnation: theirs.incarnation, seq: at });
            }
            link = link.then(op);
            at = op.seq;
            if at > held.seq {
                record_change(document.apply(theirs, op), records);
            }
        }
        if at > held.seq {
            let cursor = Cursor { incarnation: theirs.incarnation, seq: at, chain: link };
            self.cursor = Some(cursor);
            records.push(Record::Cursor(cursor));
        }
        Ok(())
    }

    /// Joins entries. Where they bring another value of a register than the one that we, its writer,
    /// hold, they know what an earlier life of ours wrote and lost: our word is said again and stands.
    pub(super) fn take_entries(
        &mut self,
        wall: WallMs,
        entries: Vec<Entry>,
        document: &mut Document,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        if let Some(entry) = entries.iter().find(|entry| !fits(&entry.key, &entry.value)) {
            return Err(SyncAlarm::Oversized { kind: entry.kind });
        }
        for entry in entries {
            let (kind, key) = (entry.kind, entry.key.clone());
            let own = document.marker(kind, &key).is_some_and(|m| m.replica.side == self.log.replica.side);
            let said =
                document.get(kind, &key).filter(|_| own && is_plain_register(kind)).map(<[u8]>::to_vec);
            let ours = entry.marker.is_some_and(|m| m.replica.side == self.log.replica.side);
            record_change(document.join(entry), records);
            if let Some(said) = said.filter(|said| ours && document.get(kind, &key) != Some(said.as_slice()))
            {
                self.write(document, wall, kind, key, said, records);
            }
        }
        Ok(())
    }

    /// Takes notice of a part and the span of keys that it holds; `None`: it was for another life.
    pub(super) fn take_part(
        &mut self,
        cursor: Cursor,
        span: Option<(Option<Slot>, Option<Slot>)>,
        records: &mut Vec<Record>,
    ) {
        if self.arrived.as_ref().is_none_or(|arrived| arrived.cursor() != cursor) {
            self.arrived = Some(Arrived::new(cursor));
        }
        let complete = self
            .arrived
            .as_mut()
            .zip(span)
            .is_some_and(|(arrived, (after, until))| arrived.take(after, until));
        // A part alone already holds what the writer wrote up to seq: should the writer lose that, the
        // lost cursor tells.
        let reached = if complete { cursor } else { cursor.lost() };
        let past =
            |held: Cursor| held.seq < cursor.seq || (complete && held.seq == cursor.seq && held.is_lost());
        if self.cursor.is_none_or(past) {
            self.cursor = Some(reached);
            records.push(Record::Cursor(reached));
        }
        if complete {
            self.arrived = None;
        }
    }
}

const fn fits(key: &str, value: &[u8]) -> bool {
    key.len() <= MAX_KEY_BYTES && value.len() <= MAX_VALUE_BYTES
}
