//! A writer's log: the operations that the other side has not yet acknowledged.

use super::BATCH_BYTES;
use crate::id::Replica;
use crate::message::Payload;
use crate::op::{Chain, Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, Op};
use crate::time::{Hlc, WallMs};
use std::collections::VecDeque;

/// Operations that a log keeps, in bytes before compression: some weeks of a device. Beyond it the log is dropped
/// and the document, which holds all that still matters, is sent in its place: decisions before telemetry, since that
/// is the order of its kinds.
pub const LOG_BYTES: usize = 1024 * 1024;

/// A writer's log: the operations that the other side has not yet acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Who writes.
    pub replica: Replica,
    pub(super) clock: Hlc,
    base: (u64, Chain),
    ops: VecDeque<(Op, Chain)>,
    /// What they weigh.
    bytes: usize,
}

/// What an operation weighs in a batch and in an outbox.
fn weight(op: &Op) -> usize {
    op.key.len() + op.value.len() + 64
}

impl Log {
    /// An empty log of a new incarnation.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self { replica, clock: Hlc::default(), base: (0, Chain::default()), ops: VecDeque::new(), bytes: 0 }
    }

    /// A log as a database held it: the last acknowledged position and the operations after it.
    ///
    /// Operations before the base are passed over. Those that do not follow without a gap are left
    /// out, and the log ends before them.
    #[must_use]
    pub fn restore(
        replica: Replica,
        clock: Hlc,
        base: (u64, Chain),
        ops: impl IntoIterator<Item = Op>,
    ) -> Self {
        let mut log = Self { replica, clock, base, ops: VecDeque::new(), bytes: 0 };
        for op in ops.into_iter().skip_while(|op| op.seq <= base.0) {
            if op.seq != log.last().0 + 1 {
                break;
            }
            log.clock = log.clock.max(op.hlc);
            let chain = log.last().1.then(&op);
            log.bytes += weight(&op);
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

    /// What they weigh, in bytes before compression.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
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
        self.bytes += weight(&op);
        self.ops.push_back((op, chain));
        self.ops.back().map(|(op, _)| op).expect("an operation was just written")
    }

    /// The chain at a position, where the log still knows it.
    pub(super) fn chain_at(&self, seq: u64) -> Option<Chain> {
        if seq == self.base.0 {
            return Some(self.base.1);
        }
        let index = usize::try_from(seq.checked_sub(self.base.0 + 1)?).ok()?;
        self.ops.get(index).map(|(_, chain)| *chain)
    }

    /// Forgets what the reader holds.
    pub(super) fn forget_to(&mut self, seq: u64) {
        while self.ops.front().is_some_and(|(op, _)| op.seq <= seq) {
            if let Some((op, chain)) = self.ops.pop_front() {
                self.bytes = self.bytes.saturating_sub(weight(&op));
                self.base = (op.seq, chain);
            }
        }
    }

    /// The operations after the base, as many as fit; `None` when nothing waits.
    pub(super) fn batch(&self) -> Option<Payload> {
        let mut bytes = 0;
        let ops: Vec<Op> = self
            .ops
            .iter()
            .map(|(op, _)| op)
            .take_while(|op| {
                bytes += weight(op);
                bytes <= BATCH_BYTES
            })
            .cloned()
            .collect();
        let (after, chain) = self.base;
        (!ops.is_empty()).then_some(Payload::Batch { after, chain, ops })
    }
}
