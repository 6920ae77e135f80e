//! The cursor protocol, pure and the same on both sides.
//!
//! A broker's PUBACK is not delivery: an operation leaves a log only when the other side's cursor
//! has passed it. Exactly one layer re-sends, this one: from the cursor, after silence, with back-off
//! and full jitter. The reader takes operations contiguously and refuses gaps, so duplicates,
//! reordering and loss change nothing. The chain finds logs that were restored or cloned.

use crate::document::{Change, Document, Entry};
use crate::id::{Incarnation, Replica, Side};
use crate::message::{Cursor, Exchange, Hello, Payload};
use crate::op::{Chain, Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, Op};
use crate::time::{Hlc, Mono, WallMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Bytes of operations in one batch, before compression: always fits [`crate::wire::MAX_FRAME_BYTES`].
pub const BATCH_BYTES: usize = 40 * 1024;
/// Silence after which the unacknowledged batch is sent again: several round trips of a slow link.
pub const RESEND_FIRST: Duration = Duration::from_secs(2);
/// Longest wait between two sendings of the same batch.
pub const RESEND_LAST: Duration = Duration::from_secs(300);
/// Parts of one snapshot that a reader keeps count of: 40 KiB each, 40 MiB in all.
pub const MAX_SNAPSHOT_PARTS: u32 = 1024;

/// A writer's log: the operations that the other side has not yet acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Who writes.
    pub replica: Replica,
    clock: Hlc,
    base: (u64, Chain),
    ops: VecDeque<(Op, Chain)>,
}

impl Log {
    /// An empty log of a new incarnation.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self { replica, clock: Hlc::default(), base: (0, Chain::default()), ops: VecDeque::new() }
    }

    /// A log as a database held it: the last acknowledged position and the operations after it.
    ///
    /// Operations that do not follow without a gap are left out, and the log ends before them.
    #[must_use]
    pub fn restore(
        replica: Replica,
        clock: Hlc,
        base: (u64, Chain),
        ops: impl IntoIterator<Item = Op>,
    ) -> Self {
        let mut log = Self { replica, clock, base, ops: VecDeque::new() };
        for op in ops {
            if op.seq != log.last().0 + 1 {
                break;
            }
            log.clock = log.clock.max(op.hlc);
            let chain = log.last().1.then(&op);
            log.ops.push_back((op, chain));
        }
        log
    }

    /// The position after the last operation.
    #[must_use]
    pub fn last(&self) -> (u64, Chain) {
        self.ops.back().map_or(self.base, |(op, chain)| (op.seq, *chain))
    }

    /// The position before the first operation that is still kept.
    #[must_use]
    pub const fn base(&self) -> (u64, Chain) {
        self.base
    }

    /// The hybrid clock.
    #[must_use]
    pub const fn clock(&self) -> Hlc {
        self.clock
    }

    /// How many operations wait for their acknowledgement.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ops.len()
    }

    /// Writes an operation.
    ///
    /// # Panics
    /// When key or value are over their limits: callers build both from bounded parts.
    pub fn append(&mut self, wall: WallMs, kind: Kind, key: String, value: Vec<u8>) -> &Op {
        assert!(key.len() <= MAX_KEY_BYTES, "key of kind {kind:?} has {} bytes", key.len());
        assert!(value.len() <= MAX_VALUE_BYTES, "value of kind {kind:?} has {} bytes", value.len());
        let op = Op { seq: self.last().0 + 1, hlc: self.clock.tick(wall), kind, key, value };
        let chain = self.last().1.then(&op);
        self.ops.push_back((op, chain));
        self.ops.back().map(|(op, _)| op).expect("an operation was just written")
    }

    /// The chain at a position, where the log still knows it.
    fn chain_at(&self, seq: u64) -> Option<Chain> {
        if seq == self.base.0 {
            return Some(self.base.1);
        }
        let index = usize::try_from(seq.checked_sub(self.base.0 + 1)?).ok()?;
        self.ops.get(index).map(|(_, chain)| *chain)
    }

    /// Forgets what the reader holds.
    fn forget_to(&mut self, seq: u64) {
        while self.ops.front().is_some_and(|(op, _)| op.seq <= seq) {
            if let Some((op, chain)) = self.ops.pop_front() {
                self.base = (op.seq, chain);
            }
        }
    }

    fn batch_after(&self, after: u64) -> Payload {
        let mut bytes = 0;
        let ops: Vec<Op> = self
            .ops
            .iter()
            .map(|(op, _)| op)
            .skip_while(|op| op.seq <= after)
            .take_while(|op| {
                bytes += op.key.len() + op.value.len() + 64;
                bytes <= BATCH_BYTES
            })
            .cloned()
            .collect();
        match self.chain_at(after) {
            Some(chain) if !ops.is_empty() => Payload::Batch { after, chain, ops },
            _ => Payload::Nothing,
        }
    }
}

/// What a shell must write to disk, in one transaction, before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A new operation of our own log.
    Append(Op),
    /// Our own log up to here is on the other side's disk.
    Forget(u64, Chain),
    /// A key of the document has a new state.
    Put(Entry),
    /// A window fell below its floor.
    Drop(Kind, String),
    /// Where we stand in the other side's log.
    Cursor(Cursor),
    /// The other side's earlier incarnation is closed.
    Seal(Incarnation),
    /// We go on as a new incarnation with an empty log.
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
}

/// One side of one document's conversation.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Our own log.
    pub log: Log,
    cursor: Option<Cursor>,
    sealed: BTreeSet<Incarnation>,
    parts: Option<(Cursor, BTreeMap<u32, ()>, u32)>,
    connected: bool,
    acked: Option<u64>,
    snapshot: bool,
    next_send: Option<Mono>,
    tries: u32,
    owe_ack: bool,
    owe_fork: bool,
}

impl Peer {
    /// A side as its database held it. `cursor`: where it stands in the other's log.
    #[must_use]
    pub fn new(log: Log, cursor: Option<Cursor>, sealed: BTreeSet<Incarnation>) -> Self {
        Self {
            log,
            cursor,
            sealed,
            parts: None,
            connected: false,
            acked: None,
            snapshot: false,
            next_send: None,
            tries: 0,
            owe_ack: false,
            owe_fork: false,
        }
    }

    /// Where we stand in the other's log.
    #[must_use]
    pub const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Whether the other side has everything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.log.waiting() == 0 && !self.snapshot && !self.owe_ack && !self.owe_fork
    }

    /// Whether a conversation is open.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// The link went: nothing is sent until it is back and the other side has told its cursor.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
        self.acked = None;
        self.next_send = None;
        self.tries = 0;
        self.parts = None;
    }

    /// Writes an operation into log and document, and the records of it.
    pub fn write(
        &mut self,
        document: &mut Document,
        wall: WallMs,
        kind: Kind,
        key: String,
        value: Vec<u8>,
        records: &mut Vec<Record>,
    ) {
        let op = self.log.append(wall, kind, key, value).clone();
        record_change(document.apply(self.log.replica, &op), records);
        records.push(Record::Append(op));
    }

    /// The other side told where it stands in our log (in a hello or an exchange). `fresh` is the
    /// incarnation to take if ours turns out to be forked.
    pub fn on_ack(
        &mut self,
        now: Mono,
        ack: Option<Cursor>,
        fresh: Incarnation,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        let newly = !std::mem::replace(&mut self.connected, true);
        let ours = self.log.replica.incarnation;
        let held = ack.filter(|cursor| cursor.incarnation == ours);
        let seq = held.map_or(0, |cursor| cursor.seq);
        if held.is_some_and(|cursor| {
            seq > self.log.last().0
                || (seq >= self.log.base.0 && self.log.chain_at(seq) != Some(cursor.chain))
        }) {
            let alarm = SyncAlarm::Forked { theirs: seq, ours: self.log.last().0 };
            self.reborn(now, fresh, records);
            return Err(alarm);
        }
        let progressed = self.acked.is_none_or(|acked| seq > acked);
        if seq < self.log.base.0 {
            // The reader lost what it once acknowledged, or never had it: our log no longer reaches back.
            if newly || held.is_none() {
                self.snapshot = true;
                self.acked = Some(seq);
                self.send_at(now, newly);
            }
            return Ok(());
        }
        self.snapshot = self.snapshot && held.is_none();
        if seq > self.log.base.0 {
            self.log.forget_to(seq);
            records.push(Record::Forget(self.log.base.0, self.log.base.1));
        }
        self.acked = Some(self.acked.unwrap_or(0).max(seq));
        self.send_at(now, newly || progressed);
        Ok(())
    }

    fn send_at(&mut self, now: Mono, at_once: bool) {
        if at_once {
            self.tries = 0;
            self.next_send = Some(now);
        }
    }

    /// Goes on as a new incarnation; the whole document is sent again under it.
    pub fn reborn(&mut self, now: Mono, fresh: Incarnation, records: &mut Vec<Record>) {
        let replica = Replica { side: self.log.replica.side, incarnation: fresh };
        self.log = Log { replica, clock: self.log.clock, base: (0, Chain::default()), ops: VecDeque::new() };
        self.snapshot = true;
        self.acked = Some(0);
        self.send_at(now, true);
        records.push(Record::Reborn(fresh));
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
        self.owe_ack = true;
        self.on_ack(now, hello.cursor, fresh, records)
    }

    /// Takes a message of the other side into the document.
    pub fn on_exchange(
        &mut self,
        now: Mono,
        wall: WallMs,
        message: Exchange,
        fresh: Incarnation,
        document: &mut Document,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        self.observe(Hlc(message.wall.0 << 16), wall);
        self.on_ack(now, message.ack, fresh, records)?;
        let theirs = Replica { side: other(self.log.replica.side), incarnation: message.incarnation };
        if !matches!(message.payload, Payload::Nothing | Payload::Forked) {
            self.turn_to(theirs.incarnation, records)?;
        }
        match message.payload {
            Payload::Nothing => {}
            Payload::Forked => {
                self.reborn(now, fresh, records);
                return Err(SyncAlarm::Forked { theirs: 0, ours: self.log.last().0 });
            }
            Payload::Batch { after, chain, ops } => {
                self.owe_ack = true;
                if let Some(op) = ops.last() {
                    self.observe(op.hlc, wall);
                }
                self.take_batch(theirs, after, chain, &ops, document, records)?;
            }
            Payload::Snapshot { seq, chain, part, parts, entries } => {
                self.owe_ack = true;
                let cursor = Cursor { incarnation: theirs.incarnation, seq, chain };
                self.take_part(cursor, part, parts, entries, document, records);
            }
        }
        Ok(())
    }

    /// A new incarnation of the other side closes its earlier one; a closed one may not speak.
    fn turn_to(&mut self, incarnation: Incarnation, records: &mut Vec<Record>) -> Result<(), SyncAlarm> {
        if self.sealed.contains(&incarnation) {
            self.owe_fork = true;
            return Err(SyncAlarm::Sealed { incarnation });
        }
        if let Some(old) = self.cursor.filter(|cursor| cursor.incarnation != incarnation) {
            self.sealed.insert(old.incarnation);
            self.cursor = None;
            records.push(Record::Seal(old.incarnation));
        }
        Ok(())
    }

    fn take_batch(
        &mut self,
        theirs: Replica,
        after: u64,
        chain: Chain,
        ops: &[Op],
        document: &mut Document,
        records: &mut Vec<Record>,
    ) -> Result<(), SyncAlarm> {
        let held = self.cursor.map_or((0, Chain::default()), |cursor| (cursor.seq, cursor.chain));
        let (mut at, mut link) = (after, chain);
        if after > held.0 {
            return Ok(()); // a gap: the acknowledgement that is owed tells where to go on
        }
        for op in ops {
            if op.seq != at + 1 {
                return Ok(());
            }
            if at == held.0 && link != held.1 {
                self.owe_fork = true;
                return Err(SyncAlarm::Equivocation { incarnation: theirs.incarnation, seq: at });
            }
            link = link.then(op);
            at = op.seq;
            if at > held.0 {
                record_change(document.apply(theirs, op), records);
            }
        }
        if at > held.0 {
            let cursor = Cursor { incarnation: theirs.incarnation, seq: at, chain: link };
            self.cursor = Some(cursor);
            records.push(Record::Cursor(cursor));
        }
        Ok(())
    }

    fn take_part(
        &mut self,
        cursor: Cursor,
        part: u32,
        parts: u32,
        entries: Vec<Entry>,
        document: &mut Document,
        records: &mut Vec<Record>,
    ) {
        if parts > MAX_SNAPSHOT_PARTS || part >= parts {
            return;
        }
        for entry in entries {
            record_change(document.join(entry), records);
        }
        if self.parts.as_ref().is_none_or(|(known, _, count)| *known != cursor || *count != parts) {
            self.parts = Some((cursor, BTreeMap::new(), parts));
        }
        let complete = self.parts.as_mut().is_some_and(|(_, seen, count)| {
            seen.insert(part, ());
            seen.len() == usize::try_from(*count).unwrap_or(usize::MAX)
        });
        if complete {
            self.parts = None;
            if self.cursor.is_none_or(|held| held.seq <= cursor.seq) {
                self.cursor = Some(cursor);
                records.push(Record::Cursor(cursor));
            }
        }
    }

    /// When [`Peer::poll`] has something to say next; `None` while all is quiet or the link is down.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if !self.connected {
            return None;
        }
        if self.owe_ack || self.owe_fork {
            return Some(Mono::default());
        }
        if self.log.waiting() == 0 && !self.snapshot {
            None
        } else {
            Some(self.next_send.unwrap_or_default())
        }
    }

    /// What is to be sent now, if anything. `jitter` is drawn evenly from 0..=u32::MAX.
    pub fn poll(&mut self, now: Mono, wall: WallMs, jitter: u32, document: &Document) -> Vec<Exchange> {
        if !self.connected {
            return Vec::new();
        }
        let due = self.next_send.is_none_or(|at| at <= now);
        let mut payloads = Vec::new();
        if std::mem::take(&mut self.owe_fork) {
            payloads.push(Payload::Forked);
        }
        if due && self.snapshot {
            payloads.extend(self.snapshot_parts(document));
        } else if due && self.log.waiting() > 0 {
            payloads.push(self.log.batch_after(self.acked.unwrap_or(0).max(self.log.base.0)));
        }
        if !payloads.is_empty() && due {
            let span = RESEND_FIRST.saturating_mul(1 << self.tries.min(16)).min(RESEND_LAST);
            // Half fixed, half drawn: never at once, never all devices together.
            let wait = span / 2 + span.mul_f64(f64::from(jitter) / f64::from(u32::MAX)) / 2;
            self.next_send = Some(now.after(wait));
            self.tries = self.tries.saturating_add(1);
        }
        if std::mem::take(&mut self.owe_ack) && payloads.is_empty() {
            payloads.push(Payload::Nothing);
        }
        let (incarnation, ack) = (self.log.replica.incarnation, self.cursor);
        payloads.into_iter().map(|payload| Exchange { incarnation, wall, ack, payload }).collect()
    }

    fn snapshot_parts(&self, document: &Document) -> Vec<Payload> {
        let mut parts: Vec<Vec<Entry>> = vec![Vec::new()];
        let mut bytes = 0;
        for entry in document.entries() {
            let size = entry.key.len() + entry.value.len() + entry.totals.len() * 40 + 128;
            if bytes + size > BATCH_BYTES && bytes > 0 {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            if let Some(part) = parts.last_mut() {
                part.push(entry);
            }
        }
        let (seq, chain) = self.log.last();
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        (0..count)
            .zip(parts)
            .map(|(part, entries)| Payload::Snapshot { seq, chain, part, parts: count, entries })
            .collect()
    }
}

const fn other(side: Side) -> Side {
    match side {
        Side::Device => Side::Hub,
        Side::Hub => Side::Device,
    }
}

fn record_change(change: Change, records: &mut Vec<Record>) {
    match change {
        Change::Nothing => {}
        Change::Put(entry) => records.push(Record::Put(entry)),
        Change::Floored(entry, gone) => {
            records.push(Record::Put(entry));
            records.extend(gone.into_iter().map(|(kind, key)| Record::Drop(kind, key)));
        }
    }
}
