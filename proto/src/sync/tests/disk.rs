//! A database in memory that holds what records say, in whole transactions.

use crate::document::{Document, Entry, Slot};
use crate::id::{Incarnation, Replica, Side};
use crate::message::Cursor;
use crate::op::{Chain, Op};
use crate::sync::{Log, Peer, Record};
use crate::time::Hlc;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) replica: Replica,
    clock: Hlc,
    base: (u64, Chain),
    ops: BTreeMap<u64, Op>,
    rows: BTreeMap<Slot, Entry>,
    cursor: Option<Cursor>,
    sealed: BTreeSet<Incarnation>,
}

impl Disk {
    pub(super) fn new(side: Side, incarnation: u64) -> Self {
        Self {
            replica: Replica { side, incarnation: Incarnation(incarnation) },
            clock: Hlc::default(),
            base: (0, Chain::default()),
            ops: BTreeMap::new(),
            rows: BTreeMap::new(),
            cursor: None,
            sealed: BTreeSet::new(),
        }
    }

    /// One transaction; gives back what was written under which replica.
    pub(super) fn commit(&mut self, records: Vec<Record>) -> Vec<(Replica, Op)> {
        let mut written = Vec::new();
        for record in records {
            match record {
                Record::Append(op) => {
                    written.push((self.replica, op.clone()));
                    self.clock = self.clock.max(op.hlc);
                    assert!(self.ops.insert(op.seq, op).is_none(), "a seq was written twice");
                }
                Record::Forget(seq, chain) => {
                    self.ops.retain(|at, _| *at > seq);
                    self.base = (seq, chain);
                }
                Record::Put(entry) => {
                    self.rows.insert((entry.kind, entry.key.clone()), entry);
                }
                Record::Drop(kind, key) => {
                    self.rows.remove(&(kind, key));
                }
                Record::Cursor(cursor) => self.cursor = Some(cursor),
                Record::Seal(incarnation) => {
                    self.sealed.insert(incarnation);
                }
                Record::Reborn(fresh) => {
                    self.replica.incarnation = fresh;
                    self.ops.clear();
                    self.base = (0, Chain::default());
                }
            }
        }
        written
    }

    pub(super) fn document(&self) -> Document {
        let mut document = Document::default();
        for entry in self.rows.values() {
            document.join(entry.clone());
        }
        document
    }

    pub(super) fn log(&self) -> Log {
        Log::restore(self.replica, self.clock, self.base, self.ops.values().cloned())
    }

    pub(super) fn peer(&self) -> Peer {
        Peer::new(self.log(), self.cursor, self.sealed.clone())
    }
}
