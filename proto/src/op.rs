//! Operations: what a replica writes into its log, and the chain that binds the log together.

use crate::id::Digest;
use crate::time::Hlc;
use serde::{Deserialize, Serialize};

/// Longest key of an operation in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Largest value of an operation in bytes: one operation always fits a frame.
pub const MAX_VALUE_BYTES: usize = 32 * 1024;

/// A numeric kind. The high byte names the lattice ([`Class`]), so that a hub folds kinds that it
/// has never heard of just as their author does; the low byte numbers the kind inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(pub u16);

/// The lattice that a kind folds into. Numbers are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 1: last writer wins by (hybrid stamp, replica, seq).
    Register,
    /// 2: last writer wins by the number in the value's first eight bytes (big endian): a generation
    /// of the hub's, or a snapshot number of an open window.
    Stamped,
    /// 3: grow-only map; two values under one key (a fork) join to the larger bytes.
    Grow,
    /// 4: as `Grow`, keyed `{incarnation}/{number}/…`, dropped below the incarnation's floor.
    Window,
    /// 5: grow-only counter per replica; the value is the replica's own total (eight bytes, big endian).
    Counter,
    /// 6: largest number wins (eight bytes, big endian), keyed by incarnation: windows below it are gone.
    Floor,
}

impl Class {
    /// The lowest kind of [`Class::Window`].
    pub(crate) const FIRST_WINDOW: Kind = Kind(0x0400);
}

impl Kind {
    /// The lattice; `None` for a class that this build does not know.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        Some(match self.0 >> 8 {
            1 => Class::Register,
            2 => Class::Stamped,
            3 => Class::Grow,
            4 => Class::Window,
            5 => Class::Counter,
            6 => Class::Floor,
            _ => return None,
        })
    }
}

/// One operation of one replica's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// 1, 2, 3 … without a gap inside one incarnation.
    pub seq: u64,
    /// When, by the author's hybrid clock.
    pub hlc: Hlc,
    /// What, and how it folds.
    pub kind: Kind,
    /// Which one.
    pub key: String,
    /// Opaque to whoever does not know the kind.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// The first eight bytes of a SHA-256 chain over a log, less the first bit, which is free for a flag;
/// zero before the first operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Chain(pub [u8; 8]);

impl Chain {
    /// The chain after one more operation.
    #[must_use]
    pub fn then(self, op: &Op) -> Self {
        let mut bytes = self.0.to_vec();
        bytes.extend(crate::wire::to_cbor(op));
        let digest = Digest::of(&bytes).0;
        let mut next = [0; 8];
        next.copy_from_slice(&digest[..8]);
        next[0] &= !Self::FLAG;
        Self(next)
    }

    /// The bit that no chain of a log has.
    const FLAG: u8 = 0x80;

    /// The same chain with the flag set.
    pub(crate) const fn flagged(mut self) -> Self {
        self.0[0] |= Self::FLAG;
        self
    }

    /// The same chain without the flag.
    pub(crate) const fn unflagged(mut self) -> Self {
        self.0[0] &= !Self::FLAG;
        self
    }

    /// Whether the flag is set.
    pub(crate) const fn is_flagged(self) -> bool {
        self.0[0] & Self::FLAG != 0
    }
}

/// Puts a number before a value, as [`Class::Stamped`] wants it.
#[must_use]
pub fn stamped(stamp: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = stamp.to_be_bytes().to_vec();
    bytes.extend(value);
    bytes
}

/// Takes the number off a stamped value; a value too short has stamp zero and is empty.
#[must_use]
pub fn split_stamped(value: &[u8]) -> (u64, &[u8]) {
    value.split_first_chunk::<8>().map_or((0, &[]), |(stamp, rest)| (u64::from_be_bytes(*stamp), rest))
}
