//! What a download asks for, and what it says of itself.

use shoal_proto::chunks::ListError;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The chunk list, or what follows of it.
    List {
        /// Of whom, by its place among the sources.
        source: usize,
        /// The question's number.
        number: u64,
        /// From this byte on.
        from: u32,
    },
    /// Chunks; of an HTTP source without gaps between them.
    Chunks {
        /// Of whom.
        source: usize,
        /// The question's number.
        number: u64,
        /// The chunk that the lowest bit stands for.
        first: u32,
        /// The chunks.
        bits: u64,
    },
}

/// What became of a chunk that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is right and new: write it here.
    Write {
        /// Offset in the archive.
        at: u64,
    },
    /// It was here already.
    Known,
    /// It is not what the list says.
    Wrong,
    /// There is no list yet, so nobody can tell.
    Unasked,
}

/// Why an archive is not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// The hub's assignment names a list that is none of this archive's.
    #[error("the hub's promise does not hold: {0}")]
    List(ListError),
    /// Nobody to ask.
    #[error("there is no source that may be asked")]
    NoSource,
    /// All that could be asked gave wrong bytes.
    #[error("every source gives wrong bytes: {}", told.join("; "))]
    Wrong {
        /// What was found at each.
        told: Vec<String>,
    },
    /// There is no room for it.
    #[error("it cannot be kept: {reason}")]
    Disk {
        /// What the disk says.
        reason: String,
    },
    /// They brought nothing for too long.
    #[error("nothing came in {rounds} rounds: {}", told.join("; "))]
    Silent {
        /// How often all were asked.
        rounds: u32,
        /// Why each brought nothing.
        told: Vec<String>,
    },
}

/// What a download has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Chunks that were here when it began.
    pub held: u32,
    /// Chunks asked for.
    pub asked: u32,
    /// Those among them that were asked for before in this life.
    pub again: u32,
    /// Chunks that came over HTTP and were right and new.
    pub http: u32,
    /// The same over MQTT.
    pub mqtt: u32,
    /// Chunks that were here already when they came.
    pub known: u32,
    /// Wrong ones.
    pub wrong: u32,
}
