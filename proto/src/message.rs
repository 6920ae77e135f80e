//! The messages between a device and the hub, as [`crate::wire`] frames them.

use crate::document::{Entry, Slot};
use crate::id::{DeviceId, Incarnation};
use crate::op::{Chain, Op};
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a reader stands in a writer's log: everything up to `seq` is on the reader's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The writer's incarnation.
    pub incarnation: Incarnation,
    /// The last operation taken.
    pub seq: u64,
    /// The writer's chain at that operation.
    pub chain: Chain,
}

impl Cursor {
    /// The same place, but the reader may lack what the writer's log no longer tells, and asks for the
    /// whole document. It stands in the reader's database like any other cursor, so that a crash does
    /// not forget to ask; seq and chain still find a writer that was restored.
    #[must_use]
    pub const fn lost(self) -> Self {
        Self { chain: self.chain.flagged(), ..self }
    }

    /// Whether this is [`Cursor::lost`].
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.chain.is_flagged()
    }
}

/// A device opens a conversation, after every connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who.
    pub device: DeviceId,
    /// Which life of its database.
    pub incarnation: Incarnation,
    /// Counts starts of the process; a status of an older boot is stale.
    pub boot: u64,
    /// The last operation written.
    pub last_seq: u64,
    /// Where the device stands in the hub's log.
    pub cursor: Option<Cursor>,
    /// The agent's version.
    pub agent_version: String,
    /// The highest wire version that the device reads.
    pub wire_max: u8,
    /// The device's wall clock.
    pub wall: WallMs,
}

/// Either side: operations, or a part of a snapshot, and the acknowledgement of the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The sender's wall clock.
    pub wall: WallMs,
    /// Where the sender stands in the receiver's log; `None`: it has nothing.
    pub ack: Option<Cursor>,
    /// The highest wire version that the sender reads; 0: a build that does not say so reads the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wire_max: u8,
    /// What it brings.
    pub payload: Payload,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// What an [`Exchange`] brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Only the acknowledgement.
    Nothing,
    /// The receiver's log cannot be continued (a restored or cloned database): it must go on as a new
    /// incarnation.
    Forked {
        /// Which of its lives is meant: said late to a later one, it means nothing.
        incarnation: Incarnation,
    },
    /// Operations after `after`, in order, without a gap.
    Batch {
        /// The seq before the first operation.
        after: u64,
        /// The chain at `after`.
        chain: Chain,
        /// The operations.
        ops: Vec<Op>,
    },
    /// A part of the whole document, sent where the log no longer reaches back to the cursor.
    Snapshot {
        /// The last operation that the snapshot holds.
        seq: u64,
        /// The chain at `seq`.
        chain: Chain,
        /// Whom it is for. Another life of the reader takes the entries, but not the snapshot: it may
        /// lack what its earlier life said in the meantime.
        reader: Incarnation,
        /// This part holds every key after this one; `None`: from the first on.
        after: Option<Slot>,
        /// And up to this one; `None`: to the last. A snapshot has arrived when its parts leave no gap,
        /// whichever sending they came from.
        until: Option<Slot>,
        /// The part.
        entries: Vec<Entry>,
    },
    /// Registers as they stand, said before the long log that leads to them: what became of a version need not
    /// wait for weeks of telemetry. They are news and not yet part of the document; only readers of wire 2 get it.
    Ahead {
        /// The registers.
        entries: Vec<Entry>,
    },
}

/// A sign of life between two reports: never acknowledged and never sent again, since all that it says is in the
/// document within the hour. Names are short: a device says it every few minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The lower half of the incarnation.
    #[serde(rename = "l")]
    pub life: u32,
    /// Counts starts of the process.
    #[serde(rename = "b")]
    pub boot: u64,
    /// Seconds since the agent started; of two beats of one start, the larger is the later.
    #[serde(rename = "u")]
    pub uptime_s: u64,
    /// Number of a counter ([`crate::fact::COUNTS`]) and the device's total, over all its lives.
    #[serde(rename = "c")]
    pub counts: BTreeMap<u8, u64>,
}

/// How a [`Beat`] names a life.
#[must_use]
pub const fn lower_half(incarnation: Incarnation) -> u32 {
    let [.., a, b, c, d] = incarnation.0.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Birth and last will of a device: retained, a cache and never the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the device is there.
    pub online: bool,
    /// The boot that says so; an older one is ignored.
    pub boot: u64,
    /// The incarnation that says so.
    pub incarnation: Incarnation,
}
