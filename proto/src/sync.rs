//! The cursor protocol, pure and the same on both sides.
//!
//! A broker's PUBACK is not delivery: an operation leaves a log only when the other side's cursor
//! has passed it. Exactly one layer re-sends, this one: from the cursor, after silence, with back-off
//! and full jitter. The reader takes operations contiguously and refuses gaps, so duplicates,
//! reordering and loss change nothing. The chain finds logs that were restored or cloned.
//!
//! A reader that names no place in our log, or one before its base, gets the whole document: it is
//! new, lost its database, or goes on as a new incarnation and may lack what only we still hold. What
//! is owed to a reader follows from what the reader says, so that a crash of the writer forgets
//! nothing.

mod log;
mod record;
mod snapshot;
mod taking;

pub use log::{LOG_BYTES, Log};
pub use record::{Record, SyncAlarm};

use crate::document::Document;
use crate::id::{Incarnation, Replica, Side};
use crate::message::{Cursor, Exchange, Hello, Payload};
use crate::op::{Chain, Class, Kind};
use crate::time::{Hlc, Mono, WallMs};
use crate::wire::{self, FIRST_VERSION};
use record::record_change;
use snapshot::Arrived;
use std::collections::BTreeSet;
use std::time::Duration;

/// Bytes of operations in one batch, before compression: always fits [`crate::wire::MAX_FRAME_BYTES`].
pub const BATCH_BYTES: usize = 40 * 1024;
/// Silence after which what is unacknowledged is sent again: several round trips of a slow link, for
/// each message of it.
pub const RESEND_FIRST: Duration = Duration::from_secs(2);
/// Longest wait between two sendings of the same.
pub const RESEND_LAST: Duration = Duration::from_secs(300);
/// Sendings without an answer after which the other side is written to in the first wire version.
const PATIENT_TRIES: u32 = 3;
/// The first wire version whose readers know [`Payload::Ahead`].
const AHEAD_VERSION: u8 = 2;
/// Parts of one snapshot that a reader keeps count of: 40 KiB each, 40 MiB in all.
pub const MAX_SNAPSHOT_PARTS: usize = 1024;

/// One side of one document's conversation.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Our own log.
    pub log: Log,
    log_bytes: usize,
    cursor: Option<Cursor>,
    sealed: BTreeSet<Incarnation>,
    arrived: Option<Arrived>,
    connected: bool,
    /// Who spoke last: whom a snapshot is for.
    reader: Option<Incarnation>,
    /// A snapshot is being sent; one that stands for our log up to here, or further, ends it.
    snapshot: Option<u64>,
    next_send: Option<Mono>,
    tries: u32,
    /// Registers were written that are worth saying before a long log.
    ahead: bool,
    owe_ack: bool,
    owe_fork: Option<Incarnation>,
    /// The highest wire version that the other side said it reads.
    reads: u8,
}

impl Peer {
    /// A side as its database held it. `cursor`: where it stands in the other's log.
    #[must_use]
    pub fn new(log: Log, cursor: Option<Cursor>, sealed: BTreeSet<Incarnation>) -> Self {
        Self {
            log,
            log_bytes: LOG_BYTES,
            cursor: cursor.filter(|cursor| !sealed.contains(&cursor.incarnation)),
            sealed,
            arrived: None,
            connected: false,
            reader: None,
            snapshot: None,
            next_send: None,
            tries: 0,
            ahead: false,
            owe_ack: false,
            owe_fork: None,
            reads: FIRST_VERSION,
        }
    }

    /// With another bound on the log.
    #[must_use]
    pub const fn with_log_bytes(mut self, bytes: usize) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Where we stand in the other's log.
    #[must_use]
    pub const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Whether the other side is known to have everything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.connected
            && self.log.waiting() == 0
            && self.snapshot.is_none()
            && !self.owe_ack
            && self.owe_fork.is_none()
    }

    /// Whether a conversation is open: the other side told its cursor since the link came up. Until
    /// then the device repeats its hello.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// The wire version to write in: what the other side said it reads, in this conversation. One that does not
    /// answer may have been replaced by an older build, and is written to in the first version again.
    #[must_use]
    pub const fn wire(&self) -> u8 {
        if self.tries > PATIENT_TRIES { FIRST_VERSION } else { self.reads }
    }

    /// The link went: nothing is sent until it is back and the other side has told its cursor.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
        self.reads = FIRST_VERSION;
        self.snapshot = None;
        self.next_send = None;
        self.tries = 0;
        self.arrived = None;
    }

    /// Writes an operation into log and document, and the records of it. A register's new value
    /// stands over whatever the document holds, also what an earlier life wrote by a clock in 2099.
    pub fn write(
        &mut self,
        document: &mut Document,
        wall: WallMs,
        kind: Kind,
        key: String,
        value: Vec<u8>,
        records: &mut Vec<Record>,
    ) {
        self.ahead |= is_plain_register(kind);
        if is_plain_register(kind)
            && let Some(marker) = document.marker(kind, &key)
        {
            self.log.clock = self.log.clock.max(Hlc(marker.stamp));
        }
        let op = self.log.append(wall, kind, key, value).clone();
        record_change(document.apply(self.log.replica, &op), records);
        records.push(Record::Append(op));
        self.bound_log(records);
    }

    /// A log over its bound is dropped: a reader that stands before its base is sent the document.
    fn bound_log(&mut self, records: &mut Vec<Record>) {
        if self.log.bytes() <= self.log_bytes {
            return;
        }
        self.log.forget_to(self.log.last().0);
        records.push(Record::Forget(self.log.base().0, self.log.base().1));
        if self.connected {
            self.snapshot = Some(self.log.last().0);
            self.next_send = self.next_send.or(Some(Mono::default()));
        }
    }

    /// The other side told where it stands in our log (in a hello or an exchange). `fresh` is the
    /// incarnation to take if ours turns out to be forked. The records are to be kept on errors too.
    pub fn on_ack(
        &mut self,
        now: Mono,
        ack: Option<Cursor>,
        fresh: Incarnation,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        let newly = !std::mem::replace(&mut self.connected, true);
        self.ahead |= newly;
        let (base, last) = (self.log.base().0, self.log.last().0);
        let ours = self.log.replica.incarnation;
        let Some(held) = ack.filter(|cursor| cursor.incarnation == ours) else {
            self.owe_snapshot(now, newly);
            return Ok(());
        };
        let known = held.seq < base || self.log.chain_at(held.seq) == Some(held.chain.unflagged());
        if held.seq > last || !known {
            self.reborn(now, fresh, records);
            return Err(SyncAlarm::Forked { theirs: held.seq, ours: last });
        }
        if held.is_lost() {
            self.owe_snapshot(now, newly);
            return Ok(());
        }
        if held.seq < base {
            // Its database is older than what it once acknowledged, and too old to compare chains: it
            // gets everything, and is asked for everything, lest it saw a life of ours that we lost.
            if self.owe_snapshot(now, newly) {
                self.ask(records);
            }
            return Ok(());
        }
        let arrived = self.snapshot.is_some_and(|seq| held.seq >= seq);
        if arrived {
            self.snapshot = None;
        }
        if held.seq > base {
            self.log.forget_to(held.seq);
            records.push(Record::Forget(self.log.base().0, self.log.base().1));
        }
        self.send_at(now, newly || arrived || held.seq > base);
        Ok(())
    }

    /// A sign of life of a device that goes on as if we had never been away: from what it acknowledged last, and it
    /// is told where we stand.
    pub fn resume(
        &mut self,
        now: Mono,
        fresh: Incarnation,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        if self.connected {
            return Ok(());
        }
        self.owe_ack = true;
        let ((seq, chain), incarnation) = (self.log.base(), self.log.replica.incarnation);
        self.on_ack(now, Some(Cursor { incarnation, seq, chain }), fresh, records)
    }

    /// Begins a snapshot, unless one is being sent; says whether it begins.
    fn owe_snapshot(&mut self, now: Mono, newly: bool) -> bool {
        let begins = self.snapshot.is_none();
        self.snapshot = Some(self.snapshot.unwrap_or(self.log.last().0));
        self.send_at(now, newly || begins);
        begins
    }

    /// Asks the other side for its whole document.
    fn ask(&mut self, records: &mut Vec<Record>) {
        if let Some(cursor) = &mut self.cursor {
            *cursor = cursor.lost();
            records.push(Record::Cursor(*cursor));
        }
        self.arrived = None;
    }

    fn send_at(&mut self, now: Mono, at_once: bool) {
        if at_once {
            self.tries = 0;
            self.next_send = Some(now);
        }
    }

    /// Goes on as a new incarnation. Both sides' whole documents are sent: what the old log still
    /// held goes up with ours, and what a restored database lacks comes back with theirs.
    pub fn reborn(&mut self, now: Mono, fresh: Incarnation, records: &mut Vec<Record>) {
        let clock = self.log.clock;
        self.log = Log::new(Replica { side: self.log.replica.side, incarnation: fresh });
        self.log.clock = clock;
        records.push(Record::Reborn(fresh));
        self.ask(records);
        self.snapshot = Some(self.log.last().0);
        self.send_at(now, true);
    }

    /// A device takes the hub's time as it is (its own clock may stand in 1970); the hub clamps what
    /// a device says.
    fn observe(&mut self, seen: Hlc, wall: WallMs) {
        let limit = match self.log.replica.side {
            Side::Device => seen.wall(),
            Side::Hub => wall,
        };
        self.log.clock.observe(seen, limit);
    }

    /// The device opened a conversation: it is answered at once, whatever was said before is over.
    pub fn on_hello(
        &mut self,
        now: Mono,
        hello: &Hello,
        fresh: Incarnation,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        self.on_disconnected();
        self.close_forgotten(hello.incarnation, hello.cursor, records);
        self.turn_to(hello.incarnation, records)?;
        self.reads = hello.wire_max.max(FIRST_VERSION);
        self.owe_ack = true;
        self.on_ack(now, hello.cursor, fresh, records)
    }

    /// Takes a message of the other side into the document. The records are to be kept on errors too.
    pub fn on_exchange(
        &mut self,
        now: Mono,
        wall: WallMs,
        message: Exchange,
        fresh: Incarnation,
        document: &mut Document,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        if let Payload::Forked { incarnation } = message.payload {
            if incarnation != self.log.replica.incarnation {
                return Ok(()); // said to a life that is over
            }
            let ours = self.log.last().0;
            self.reborn(now, fresh, records);
            return Err(SyncAlarm::Forked { theirs: 0, ours });
        }
        self.close_forgotten(message.incarnation, message.ack, records);
        self.turn_to(message.incarnation, records)?;
        self.observe(Hlc::from_wall(message.wall), wall);
        self.reads = message.wire_max.max(FIRST_VERSION);
        self.on_ack(now, message.ack, fresh, records)?;
        let theirs = Replica { side: other(self.log.replica.side), incarnation: message.incarnation };
        match message.payload {
            Payload::Nothing | Payload::Forked { .. } | Payload::Ahead { .. } => Ok(()),
            Payload::Batch { after, chain, ops } => {
                self.owe_ack = true;
                if let Some(op) = ops.last() {
                    self.observe(op.hlc, wall);
                }
                self.take_batch(theirs, after, chain, &ops, document, records)
            }
            Payload::Snapshot { seq, chain, reader, after, until, entries } => {
                self.owe_ack = true;
                let cursor = Cursor { incarnation: theirs.incarnation, seq, chain };
                self.take_entries(wall, entries, document, records)?;
                let ours = reader == self.log.replica.incarnation;
                self.take_part(cursor, ours.then_some((after, until)), records);
                Ok(())
            }
        }
    }

    /// A device's life that we never heard of, and that stands in our log, spoke to a life of ours that is lost with
    /// our database. What its clones told us since is in no log of ours: it is closed, and asks for everything.
    fn close_forgotten(&mut self, incarnation: Incarnation, ack: Option<Cursor>, records: &mut Vec<Record>) {
        let ours = self.log.replica;
        let Some(held) = self.cursor.filter(|held| held.incarnation != incarnation) else { return };
        let stands = ack.is_some_and(|ack| ack.incarnation == ours.incarnation && !ack.is_lost());
        if ours.side == Side::Hub && stands && self.sealed.insert(incarnation) {
            // In a database, closing takes the cursor away.
            records.extend([Record::Seal(incarnation), Record::Cursor(held)]);
        }
    }

    /// A new incarnation of the other side closes its earlier one; a closed one may not speak, not
    /// even to acknowledge: it would answer for its successor.
    fn turn_to(&mut self, incarnation: Incarnation, records: &mut Vec<Record>) -> Result<(), SyncAlarm> {
        if self.sealed.contains(&incarnation) {
            self.owe_fork = Some(incarnation);
            return Err(SyncAlarm::Sealed { incarnation });
        }
        self.reader = Some(incarnation);
        if self.cursor.is_some_and(|cursor| cursor.incarnation == incarnation) {
            return Ok(());
        }
        if let Some(old) = self.cursor {
            self.sealed.insert(old.incarnation);
            records.push(Record::Seal(old.incarnation));
        }
        // Heard is enough to be closed later: of two clones that take turns, each lacks what we heard
        // from the other, and only a life that is closed goes on as one that asks for everything.
        let heard = Cursor { incarnation, seq: 0, chain: Chain::default() }.lost();
        self.cursor = Some(heard);
        records.push(Record::Cursor(heard));
        Ok(())
    }

    /// When [`Peer::poll`] has something to say next; `None` while all is quiet or the link is down.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.owe_fork.is_some() || (self.connected && self.owe_ack) {
            return Some(Mono::default());
        }
        let waits = self.connected && (self.log.waiting() > 0 || self.snapshot.is_some());
        waits.then(|| self.next_send.unwrap_or_default())
    }

    /// What is to be sent now, if anything. `jitter` is drawn evenly from 0..=u32::MAX.
    pub fn poll(&mut self, now: Mono, wall: WallMs, jitter: u32, document: &Document) -> Vec<Exchange> {
        let mut payloads = Vec::new();
        if let Some(incarnation) = self.owe_fork.take() {
            payloads.push(Payload::Forked { incarnation });
        }
        if self.connected {
            let due = self.next_send.is_none_or(|at| at <= now);
            let brought = match (self.snapshot, self.reader) {
                (Some(_), Some(reader)) if due => snapshot::cut(document, self.log.last(), reader),
                (None, _) if due => self.log.batch().into_iter().collect(),
                _ => Vec::new(),
            };
            let is_long = self.snapshot.is_none() && self.log.bytes() > BATCH_BYTES;
            if is_long
                && !brought.is_empty()
                && self.reads >= AHEAD_VERSION
                && std::mem::take(&mut self.ahead)
            {
                payloads.extend(snapshot::registers(document, self.log.replica.side));
            }
            if !brought.is_empty() {
                self.wait(now, jitter, brought.len());
            }
            if std::mem::take(&mut self.owe_ack) && brought.is_empty() {
                payloads.push(Payload::Nothing);
            }
            payloads.extend(brought);
        }
        let (incarnation, ack) = (self.log.replica.incarnation, self.cursor);
        let wire_max = wire::VERSION;
        payloads.into_iter().map(|payload| Exchange { incarnation, wall, ack, wire_max, payload }).collect()
    }

    /// Sets when so many messages are sent again if no answer comes.
    fn wait(&mut self, now: Mono, jitter: u32, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let span = RESEND_FIRST.saturating_mul(1 << self.tries.min(16)).saturating_mul(messages);
        let span = span.min(RESEND_LAST);
        // Half fixed, half drawn: never at once, never all devices together.
        self.next_send =
            Some(now.after(span / 2 + span.mul_f64(f64::from(jitter) / f64::from(u32::MAX)) / 2));
        self.tries = self.tries.saturating_add(1);
    }
}

const fn other(side: Side) -> Side {
    match side {
        Side::Device => Side::Hub,
        Side::Hub => Side::Device,
    }
}

/// Whether the hybrid clock decides about this kind.
fn is_plain_register(kind: Kind) -> bool {
    matches!(kind.class(), Some(Class::Register) | None)
}

#[cfg(test)]
mod tests;
