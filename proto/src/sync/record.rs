//! What a turn of the conversation leaves: records for the disk, and alarms.

use crate::document::{Change, Entry};
use crate::id::Incarnation;
use crate::message::Cursor;
use crate::op::{Chain, Kind, Op};

/// What a shell must write to disk, in one transaction, before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A new operation of our own log.
    Append(Op),
    /// Our own log up to here is on the other side's disk, or over its bound; it is not kept.
    Forget(u64, Chain),
    /// A key of the document has a new state.
    Put(Entry),
    /// A window fell below its floor.
    Drop(Kind, String),
    /// Where we stand in the other side's log.
    Cursor(Cursor),
    /// The other side's earlier incarnation is closed.
    Seal(Incarnation),
    /// We go on as a new incarnation, with an empty log that starts at zero; document, cursor and the
    /// closed incarnations stay.
    Reborn(Incarnation),
}

/// Something from outside that should not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncAlarm {
    /// The other side knows operations of ours that we do not: our database was restored or cloned.
    #[error("the other side holds our log to {theirs}, ours ends at {ours} or differs: restored or cloned")]
    Forked {
        /// The other side's cursor.
        theirs: u64,
        /// Our last operation.
        ours: u64,
    },
    /// Two writers share one incarnation.
    #[error("incarnation {incarnation} wrote two different operations at {seq}")]
    Equivocation {
        /// Whose.
        incarnation: Incarnation,
        /// Where the chains part.
        seq: u64,
    },
    /// A closed incarnation speaks.
    #[error("incarnation {incarnation} was closed and speaks again")]
    Sealed {
        /// Which.
        incarnation: Incarnation,
    },
    /// No writer of ours makes one so large; taken in, it could never be sent on.
    #[error("operation or entry of kind {:#06x} is larger than any that is written", .kind.0)]
    Oversized {
        /// Its kind.
        kind: Kind,
    },
}

/// The records of a change of the document.
pub(super) fn record_change(change: Change, records: &mut Vec<Record>) {
    match change {
        Change::Nothing => {}
        Change::Put(entry) => records.push(Record::Put(entry)),
        Change::Floored(entry, gone) => {
            records.push(Record::Put(entry));
            records.extend(gone.into_iter().map(|(kind, key)| Record::Drop(kind, key)));
        }
    }
}
