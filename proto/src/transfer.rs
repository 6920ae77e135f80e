//! Archives over MQTT: a device says which chunks it needs, the hub sends them one a message.
//!
//! Nothing here is acknowledged and nothing is sent again by itself: what does not come is asked for again. What comes
//! is proven by [`crate::chunks::ChunkList`], whoever sent it and whichever question it answers.

use crate::id::Digest;
use serde::{Deserialize, Serialize};

/// Chunks that one message can ask for: the bits of its bitmap.
pub const MAX_WINDOW: u32 = u64::BITS;
/// Bytes of a chunk list in one answer.
pub const LIST_PART_BYTES: usize = 32 * 1024;

/// A device needs a part of an archive. Each adds to what the ones before asked for; one for another archive takes
/// their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Of which archive.
    pub archive: Digest,
    /// The device's number of this question, which the answer repeats.
    pub number: u64,
    /// What.
    pub what: Needed,
}

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Needed {
    /// The chunk list.
    List {
        /// From this byte on.
        from: u32,
    },
    /// Chunks.
    Chunks {
        /// The list that they are counted by.
        list: Digest,
        /// The chunk that the lowest bit stands for.
        first: u32,
        /// The chunks: bit `n` for chunk `first + n`.
        bits: u64,
    },
}

/// What the hub sends of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Of which archive.
    pub archive: Digest,
    /// The question that it answers.
    pub number: u64,
    /// What.
    pub what: Given,
}

/// What is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// A part of the chunk list.
    List {
        /// Where it begins.
        from: u32,
        /// Length of the whole list.
        total: u32,
        /// The part.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A chunk.
    Chunk {
        /// Which.
        index: u32,
        /// Its content.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Nothing.
    Refused(Refusal),
}

/// Why the hub gives nothing. Written as a word, so that an older device reads a newer hub's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(from = "String", into = "String")]
pub enum Refusal {
    /// No assignment of this device names the archive.
    #[error("the archive is not assigned to this device")]
    NotAssigned,
    /// The hub does not have the file.
    #[error("the hub does not have the archive")]
    Missing,
    /// The hub counts the chunks by another list, or there is no such chunk.
    #[error("the hub has another chunk list of the archive")]
    OtherList,
    /// The hub's file is no longer what it was.
    #[error("the hub's file is damaged")]
    Damaged,
    /// A later hub's reason.
    #[error("the hub says `{0}`")]
    Other(String),
}

const WORDS: [(Refusal, &str); 4] = [
    (Refusal::NotAssigned, "not_assigned"),
    (Refusal::Missing, "missing"),
    (Refusal::OtherList, "other_list"),
    (Refusal::Damaged, "damaged"),
];

impl From<String> for Refusal {
    fn from(word: String) -> Self {
        let known = WORDS.iter().find(|(_, known)| *known == word).map(|(refusal, _)| refusal.clone());
        known.unwrap_or(Self::Other(word))
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        let known = WORDS.iter().find(|(known, _)| *known == refusal).map(|(_, word)| (*word).to_owned());
        match refusal {
            Refusal::Other(word) => word,
            _ => known.unwrap_or_default(),
        }
    }
}

impl Needed {
    /// The chunks that are asked for, in order.
    pub fn chunks(&self) -> impl Iterator<Item = u32> {
        let (first, bits) = match *self {
            Self::List { .. } => (0, 0),
            Self::Chunks { first, bits, .. } => (first, bits),
        };
        (0..MAX_WINDOW).filter(move |bit| bits >> bit & 1 == 1).filter_map(move |bit| first.checked_add(bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::CHUNK_SIZES;
    use crate::wire::{MAX_FRAME_BYTES, decode, encode};

    #[test]
    fn a_bitmap_names_chunks() {
        let list = Digest::of(b"list");
        let named = |first, bits| Needed::Chunks { list, first, bits }.chunks().collect::<Vec<_>>();
        assert_eq!(named(10, 0b1011), [10, 11, 13]);
        assert_eq!(named(0, 1 << 63), [63]);
        assert_eq!(named(u32::MAX, 0b11), [u32::MAX], "there is no chunk behind the last");
        assert!(named(5, 0).is_empty());
    }

    #[test]
    fn the_largest_chunk_fits_a_frame() {
        let noise: Vec<u8> = (0..*CHUNK_SIZES.end())
            .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ at.to_le_bytes()[0])
            .collect();
        let what = Given::Chunk { index: u32::MAX, bytes: noise };
        let part = Part { archive: Digest::of(b"a"), number: u64::MAX, what };
        let frame = encode(&part).unwrap();
        assert!(frame.len() < MAX_FRAME_BYTES, "{}", frame.len());
        assert_eq!(decode::<Part>(&frame).unwrap(), part);
    }

    #[test]
    fn a_later_hubs_refusal_is_read() {
        for refusal in WORDS.map(|(refusal, _)| refusal).into_iter().chain([Refusal::Other("tired".into())]) {
            let part = Part { archive: Digest::of(b"a"), number: 1, what: Given::Refused(refusal) };
            assert_eq!(decode::<Part>(&encode(&part).unwrap()).unwrap(), part);
        }
        assert_eq!(Refusal::from("missing".to_owned()), Refusal::Missing);
        assert_eq!(Refusal::Other("tired".into()).to_string(), "the hub says `tired`");
    }
}
