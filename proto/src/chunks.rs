//! The chunks of an archive: what each of them must be, so that they may come from anywhere in any order.
//!
//! A list is itself known by the digest of its bytes, which the hub's assignment carries: whoever brings it need not
//! be believed. Chunks are of one size, so that a chunk is a range of the file; a fixed grid is enough, since two
//! archives are never compared by it (deltas between versions are another way to the same archive: [`Way`]).

use crate::fact::Artifact;
use crate::id::Digest;
use crate::package::MAX_PACKAGE_BYTES;
use crate::wire::{from_cbor, to_cbor};
use serde::{Deserialize, Serialize};

/// Size of the chunks of this build's lists: a frame with one stays well under 60 KiB, and one that is lost on a
/// slow link costs little.
pub const CHUNK_BYTES: u32 = 32 * 1024;
/// The sizes that are read: below, a list is longer than what it lists is worth; above, a frame is too large.
pub const CHUNK_SIZES: std::ops::RangeInclusive<u32> = 4 * 1024..=48 * 1024;
/// Largest list: the largest archive in chunks of 32 KiB takes 192 KiB of digests.
pub const MAX_LIST_BYTES: usize = 256 * 1024;
/// Most other ways that are read.
pub const MAX_WAYS: usize = 16;
/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// The digests of an archive's chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkList {
    /// Of which archive.
    pub archive: Digest,
    /// The archive's size.
    pub size_bytes: u64,
    /// The size of all chunks but the last.
    pub chunk_bytes: u32,
    /// SHA-256 of each chunk, one after the other.
    #[serde(with = "serde_bytes")]
    pub digests: Vec<u8>,
    /// Other ways to the same archive, for devices that can go them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

/// Another, shorter way to an archive: a smaller file that is turned into it, for whoever holds what it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// How the file is turned into the archive. A word, so that a later one does not make a list unreadable.
    pub encoding: String,
    /// The archive that must be there to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// The file's own chunk list.
    pub list: Digest,
    /// The file's size.
    pub size_bytes: u64,
}

/// Why a way is not gone. The archive's own chunks are always there instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Passed {
    /// A later build offers it.
    #[error("encoding `{encoding}` is not known to this build")]
    Encoding { encoding: String },
}

/// A list that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// More than is ever needed.
    #[error("chunk list has {bytes} bytes, at most {MAX_LIST_BYTES}")]
    TooLong { bytes: usize },
    /// It is not the one that was promised.
    #[error("chunk list is {found}, promised was {expected}")]
    Digest { found: Digest, expected: Digest },
    /// No list at all.
    #[error("chunk list cannot be read: {reason}")]
    Unreadable { reason: String },
    /// Of another archive, or of another size.
    #[error(
        "chunk list is of archive {found} with {size_bytes} bytes, expected {expected} with {expected_bytes}"
    )]
    Other { found: Digest, size_bytes: u64, expected: Digest, expected_bytes: u64 },
    /// No archive has this size.
    #[error("chunk list is of {bytes} bytes, expected 1 to {MAX_PACKAGE_BYTES}")]
    Size { bytes: u64 },
    /// Chunks that are too small or too large.
    #[error("chunks are of {bytes} bytes, expected {} to {}", CHUNK_SIZES.start(), CHUNK_SIZES.end())]
    ChunkSize { bytes: u32 },
    /// Not one digest for each chunk.
    #[error("chunk list has {found} bytes of digests, expected {expected}")]
    Digests { found: usize, expected: usize },
    /// More ways than anybody offers.
    #[error("chunk list offers {found} other ways, at most {MAX_WAYS}")]
    Ways { found: usize },
}

impl ChunkList {
    /// The list of an archive. `None` for an empty one, which is no package.
    #[must_use]
    pub fn of(archive: &[u8]) -> Option<Self> {
        let list = Self {
            archive: Digest::of(archive),
            size_bytes: archive.len() as u64,
            chunk_bytes: CHUNK_BYTES,
            digests: archive.chunks(chunk_len(CHUNK_BYTES)).flat_map(|chunk| Digest::of(chunk).0).collect(),
            ways: Vec::new(),
        };
        list.check().is_ok().then_some(list)
    }

    /// Its bytes, whose digest is its name.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the list that was promised for an archive.
    ///
    /// # Errors
    /// When the bytes are others, or are no list of that archive: whoever wrote the promise is wrong then.
    pub fn parse(bytes: &[u8], promised: Digest, artifact: &Artifact) -> Result<Self, ListError> {
        if bytes.len() > MAX_LIST_BYTES {
            return Err(ListError::TooLong { bytes: bytes.len() });
        }
        let found = Digest::of(bytes);
        if found != promised {
            return Err(ListError::Digest { found, expected: promised });
        }
        let list = Self::from_bytes(bytes)?;
        if (list.archive, list.size_bytes) != (artifact.archive, artifact.size_bytes) {
            return Err(ListError::Other {
                found: list.archive,
                size_bytes: list.size_bytes,
                expected: artifact.archive,
                expected_bytes: artifact.size_bytes,
            });
        }
        Ok(list)
    }

    /// Reads a list that stands where only we write.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ListError> {
        let list: Self =
            from_cbor(bytes).map_err(|cause| ListError::Unreadable { reason: cause.to_string() })?;
        list.check()?;
        Ok(list)
    }

    fn check(&self) -> Result<(), ListError> {
        if !(1..=MAX_PACKAGE_BYTES).contains(&self.size_bytes) {
            return Err(ListError::Size { bytes: self.size_bytes });
        }
        if !CHUNK_SIZES.contains(&self.chunk_bytes) {
            return Err(ListError::ChunkSize { bytes: self.chunk_bytes });
        }
        let expected = usize::try_from(self.size_bytes.div_ceil(u64::from(self.chunk_bytes)))
            .unwrap_or(usize::MAX)
            .saturating_mul(DIGEST_BYTES);
        if self.digests.len() != expected {
            return Err(ListError::Digests { found: self.digests.len(), expected });
        }
        if self.ways.len() > MAX_WAYS {
            return Err(ListError::Ways { found: self.ways.len() });
        }
        Ok(())
    }

    /// How many chunks there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.digests.len() / DIGEST_BYTES).unwrap_or(u32::MAX)
    }

    /// Where a chunk begins, and how long it is; `None` behind the last.
    #[must_use]
    pub fn range(&self, index: u32) -> Option<(u64, u32)> {
        let from = u64::from(index) * u64::from(self.chunk_bytes);
        let left = self.size_bytes.checked_sub(from).filter(|left| *left > 0)?;
        Some((from, u32::try_from(left).unwrap_or(u32::MAX).min(self.chunk_bytes)))
    }

    /// What a chunk must be.
    #[must_use]
    pub fn digest(&self, index: u32) -> Option<Digest> {
        let at = usize::try_from(index).ok()?.checked_mul(DIGEST_BYTES)?;
        self.digests.get(at..)?.first_chunk().copied().map(Digest)
    }

    /// Whether these bytes are that chunk.
    #[must_use]
    pub fn is_chunk(&self, index: u32, bytes: &[u8]) -> bool {
        let length = self.range(index).and_then(|(_, length)| usize::try_from(length).ok());
        length == Some(bytes.len()) && self.digest(index) == Some(Digest::of(bytes))
    }

    /// The other ways that this build does not go, each with its reason: at present all of them.
    pub fn passed_over(&self) -> impl Iterator<Item = Passed> {
        self.ways.iter().map(|way| Passed::Encoding { encoding: way.encoding.chars().take(40).collect() })
    }
}

fn chunk_len(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
    }

    fn artifact(bytes: &[u8]) -> Artifact {
        Artifact { archive: Digest::of(bytes), size_bytes: bytes.len() as u64, sources: vec![], chunks: None }
    }

    fn read(list: &ChunkList, of: &Artifact) -> Result<ChunkList, ListError> {
        let bytes = list.to_bytes();
        ChunkList::parse(&bytes, Digest::of(&bytes), of)
    }

    #[test]
    fn a_list_reads_back_and_knows_its_chunks() {
        for size in [1, 32_767, 32_768, 32_769, 100_000] {
            let bytes = archive(size);
            let list = ChunkList::of(&bytes).unwrap();
            assert_eq!(read(&list, &artifact(&bytes)).as_ref(), Ok(&list), "{size}");
            assert_eq!(list.count() as usize, size.div_ceil(32_768), "{size}");
            let mut end = 0;
            for index in 0..list.count() {
                let (from, length) = list.range(index).unwrap();
                assert_eq!(from, end);
                end = from + u64::from(length);
                let chunk = &bytes[usize::try_from(from).unwrap()..usize::try_from(end).unwrap()];
                assert!(list.is_chunk(index, chunk));
                assert!(!list.is_chunk(index, &chunk[1..]) && !list.is_chunk(index + 1, chunk));
            }
            assert_eq!((end, list.range(list.count()), list.digest(list.count())), (size as u64, None, None));
        }
        assert_eq!(ChunkList::of(b""), None);
    }

    #[test]
    fn a_list_that_lies_is_refused_with_the_reason() {
        let bytes = archive(70_000);
        let (of, good) = (artifact(&bytes), ChunkList::of(&bytes).unwrap());
        type Change = fn(&mut ChunkList);
        let cases: [(&str, Change); 9] = [
            ("1 to", |list| list.size_bytes = 0),
            ("1 to", |list| list.size_bytes = MAX_PACKAGE_BYTES + 1),
            ("96 bytes of digests, expected 64", |list| list.size_bytes = 60_000),
            ("chunks are of 0 bytes", |list| list.chunk_bytes = 0),
            ("chunks are of 65536 bytes", |list| list.chunk_bytes = 65_536),
            ("digests, expected 96", |list| list.digests.truncate(64)),
            ("digests, expected 96", |list| list.digests.push(0)),
            ("of archive", |list| list.archive = Digest::of(b"another")),
            ("17 other ways", |list| {
                let way = Way { encoding: "x".into(), base: None, list: list.archive, size_bytes: 1 };
                list.ways = vec![way; 17];
            }),
        ];
        for (word, change) in cases {
            let mut list = good.clone();
            change(&mut list);
            let told = read(&list, &of).unwrap_err().to_string();
            assert!(told.contains(word), "`{word}` is not in `{told}`");
        }
        let bytes = good.to_bytes();
        let other = ChunkList::parse(&bytes, Digest::of(b"another"), &of);
        assert!(matches!(other, Err(ListError::Digest { .. })));
        for nonsense in [&b""[..], &bytes[..bytes.len() - 1], b"\xff\xff"] {
            let read = ChunkList::parse(nonsense, Digest::of(nonsense), &of);
            assert!(matches!(read, Err(ListError::Unreadable { .. })), "{nonsense:?}");
        }
        let long = vec![0; MAX_LIST_BYTES + 1];
        assert!(matches!(
            ChunkList::parse(&long, Digest::of(&long), &of),
            Err(ListError::TooLong { bytes: 262_145 })
        ));
    }

    #[test]
    fn ways_of_a_later_build_are_passed_over_with_the_reason_and_the_chunks_stay() {
        let bytes = archive(70_000);
        let mut list = ChunkList::of(&bytes).unwrap();
        list.ways = vec![Way {
            encoding: "zstd-patch".into(),
            base: Some(Digest::of(b"parent")),
            list: Digest::of(b"its list"),
            size_bytes: 900,
        }];
        let read = read(&list, &artifact(&bytes)).unwrap();
        assert_eq!(
            read.passed_over().collect::<Vec<_>>(),
            [Passed::Encoding { encoding: "zstd-patch".into() }]
        );
        assert!(read.is_chunk(2, &bytes[65_536..]));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let of = artifact(b"x");
            prop_assert!(ChunkList::parse(&bytes, Digest::of(&bytes), &of).is_err());
        }
    }
}
