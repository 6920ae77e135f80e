//! Snapshots: cutting a document into parts, and knowing when all of one have arrived.
//!
//! A part names the span of keys that it holds in full. Parts of different sendings with the same seq
//! fit together, though the document changed between them: what changed came from the reader itself.

use super::{BATCH_BYTES, MAX_SNAPSHOT_PARTS};
use crate::document::{Document, Entry, Slot};
use crate::id::{Incarnation, Side};
use crate::message::{Cursor, Payload};
use crate::op::{Chain, Class};

/// The parts of a snapshot. `seq` is the writer's last: a reader must not hold what its cursor does
/// not show, or a writer that is restored later goes unnoticed.
pub(super) fn cut(document: &Document, (seq, chain): (u64, Chain), reader: Incarnation) -> Vec<Payload> {
    let mut parts: Vec<Vec<Entry>> = vec![Vec::new()];
    let mut bytes = 0;
    for entry in document.entries() {
        let size = entry.key.len() + entry.value.len() + entry.totals.len() * 56 + 128;
        if bytes + size > BATCH_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(entry);
        }
    }
    let (last, mut after) = (parts.len() - 1, None);
    parts
        .into_iter()
        .enumerate()
        .map(|(number, entries)| {
            let end = entries.last().map(|entry| (entry.kind, entry.key.clone()));
            let until = if number == last { None } else { end.clone() };
            let after = std::mem::replace(&mut after, end);
            Payload::Snapshot { seq, chain, reader, after, until, entries }
        })
        .collect()
}

/// What a side's own registers say now, as many as fit a batch.
pub(super) fn registers(document: &Document, side: Side) -> Option<Payload> {
    let mut bytes = 0;
    let entries: Vec<Entry> = document
        .entries()
        .filter(|entry| {
            matches!(entry.kind.class(), Some(Class::Register))
                && entry.marker.is_some_and(|marker| marker.replica.side == side)
        })
        .take_while(|entry| {
            bytes += entry.key.len() + entry.value.len() + 128;
            bytes <= BATCH_BYTES
        })
        .collect();
    (!entries.is_empty()).then_some(Payload::Ahead { entries })
}

/// The spans of keys of one snapshot that have arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    cursor: Cursor,
    spans: Vec<(Option<Slot>, Option<Slot>)>,
}

impl Arrived {
    /// Nothing yet of the snapshot that this cursor names.
    pub(super) const fn new(cursor: Cursor) -> Self {
        Self { cursor, spans: Vec::new() }
    }

    /// Which snapshot.
    pub(super) const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes notice of a part; says whether the snapshot is complete.
    pub(super) fn take(&mut self, after: Option<Slot>, until: Option<Slot>) -> bool {
        let mut hull = (after, until);
        self.spans.retain(|span| {
            let apart = !reaches(&span.1, &hull.0) || !reaches(&hull.1, &span.0);
            if !apart {
                hull.0 = hull.0.take().min(span.0.clone());
                hull.1 = match (hull.1.take(), &span.1) {
                    (Some(mine), Some(other)) => Some(mine.max(other.clone())),
                    _ => None,
                };
            }
            apart
        });
        let complete = hull == (None, None);
        self.spans.push(hull);
        if self.spans.len() > MAX_SNAPSHOT_PARTS {
            self.spans.clear(); // never by a sender of ours; it sends all parts again
        }
        complete
    }
}

/// Whether a span that ends here leaves no gap before one that starts there.
fn reaches(end: &Option<Slot>, start: &Option<Slot>) -> bool {
    end.is_none() || end >= start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Replica, Side};
    use crate::op::{Kind, Op};
    use crate::time::Hlc;

    fn slot(number: u16) -> Option<Slot> {
        Some((Kind(0x0301), format!("{number:04}")))
    }

    fn none() -> Arrived {
        Arrived::new(Cursor { incarnation: Incarnation(1), seq: 1, chain: Chain::default() })
    }

    #[test]
    fn a_snapshot_is_complete_when_no_gap_is_left() {
        let mut arrived = none();
        assert!(!arrived.take(None, slot(3)));
        assert!(!arrived.take(slot(5), None));
        assert!(!arrived.take(slot(5), None), "the same part again");
        assert!(!arrived.take(slot(3), slot(4)));
        assert!(arrived.take(slot(2), slot(6)), "parts of another cut close the gap");
        assert!(none().take(None, None));
    }

    #[test]
    fn a_gap_of_one_key_is_a_gap() {
        let mut arrived = none();
        assert!(!arrived.take(None, slot(3)));
        assert!(!arrived.take(slot(4), None));
    }

    #[test]
    fn the_parts_of_a_cut_cover_every_key_and_fit_a_frame() {
        let mut document = Document::default();
        let replica = Replica { side: Side::Device, incarnation: Incarnation(1) };
        for number in 1..40u64 {
            let value = (0..8_000u64).map(|i| ((i * number * 31) >> 3).to_le_bytes()[0]).collect();
            let key = format!("{number:04}");
            document.apply(replica, &Op { seq: number, hlc: Hlc(number), kind: Kind(0x0301), key, value });
        }
        let parts = cut(&document, (39, Chain::default()), Incarnation(2));
        assert!(parts.len() > 3);
        let (mut arrived, mut keys, mut ends) = (none(), 0, Vec::new());
        for part in parts.into_iter().rev() {
            assert!(crate::wire::encode(&part).is_ok());
            let Payload::Snapshot { after, until, entries, .. } = part else { panic!("not a snapshot") };
            keys += entries.len();
            ends.push(arrived.take(after, until));
        }
        assert_eq!(keys, document.len());
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        assert_eq!(ends.last(), Some(&true));
    }
}
