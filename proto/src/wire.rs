//! The frame around every device-hub message: version, checksum, compression, CBOR.
//!
//! ```text
//! 0      1        2      3        7
//! ┌──────┬────────┬──────┬────────┬──────────────────────┐
//! │ 0xE5 │version │flags │ crc32c │ body: CBOR, maybe zstd │
//! └──────┴────────┴──────┴────────┴──────────────────────┘
//! ```
//! The checksum (little endian, Castagnoli) covers the version, the flags and the body as sent. CBOR is written with
//! named fields, so that either side may be newer than the other.
//!
//! Version 2 packs with a dictionary that both sides have built in: half of a small message is the names of its
//! fields. Each side tells what it reads (`wire_max`), and until it did, it is written to in version 1.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::LazyLock;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::CParameter;

/// First byte of a frame: no UTF-8 text and no JSON starts with it.
pub const MAGIC: u8 = 0xE5;
/// The highest wire version this build reads.
pub const VERSION: u8 = 2;
/// The wire version that every build reads.
pub const FIRST_VERSION: u8 = 1;
/// The first version with a dictionary.
const DICTIONARY_VERSION: u8 = 2;
/// Flag: the body is compressed by zstd.
const FLAG_ZSTD: u8 = 0x01;
/// Flag: with the dictionary.
const FLAG_DICTIONARY: u8 = 0x02;
const PACKED_BY_DICTIONARY: u8 = FLAG_ZSTD | FLAG_DICTIONARY;
/// What frames have in common, made by `traffic --dictionary` and never changed: another one is another version.
const DICTIONARY: &[u8] = include_bytes!("wire/v2.dictionary");
const HEADER_BYTES: usize = 7;
/// Largest frame: fits the 64 KB brokers with room for the topic.
pub const MAX_FRAME_BYTES: usize = 60 * 1024;
/// Largest body after decompression: a full frame of the most compressible real batches is a tenth of this.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Bodies below this are not worth compressing.
const MIN_ZSTD_BYTES: usize = 128;
/// Bodies below this are not worth it with a dictionary.
const MIN_DICTIONARY_BYTES: usize = 48;
/// zstd's own default: 3.
const ZSTD_LEVEL: i32 = 3;
/// Four per cent fewer bytes of a day than 3; a message of 3 KB takes some tens of microseconds longer.
const DICTIONARY_LEVEL: i32 = 9;

static PACKING: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, DICTIONARY_LEVEL));
static UNPACKING: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

/// A message that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The frame is larger than a broker is sure to carry.
    #[error("message of {bytes} bytes is larger than {MAX_FRAME_BYTES}")]
    TooLarge { bytes: usize },
    /// The body would unpack to more than is ever sent.
    #[error("message unpacks to more than {MAX_BODY_BYTES} bytes or is broken")]
    Unpack(#[source] std::io::Error),
    /// Not a frame of ours.
    #[error("not a shoal message: it starts with {first:02x?}")]
    Magic { first: Vec<u8> },
    /// A newer peer speaks.
    #[error("message has wire version {version}, this build reads up to {VERSION}")]
    Version { version: u8 },
    /// A flag that this build does not know.
    #[error("message has unknown flags {flags:#04x}")]
    Flags { flags: u8 },
    /// The bytes were damaged on the way.
    #[error("checksum is {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    /// The body is not the message that was expected.
    #[error("message body is not valid: {reason}")]
    Body { reason: String },
}

/// Writes a value as bare CBOR, as op values are stored.
///
/// # Panics
/// Never for this protocol's own types: all of them have a CBOR form.
#[must_use]
pub fn to_cbor<T: Serialize>(value: &T) -> Vec<u8> {
    minicbor_serde::to_vec(value).expect("every type of this protocol has a CBOR form")
}

/// Reads bare CBOR.
pub fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    minicbor_serde::from_slice(bytes).map_err(|cause| WireError::Body { reason: cause.to_string() })
}

/// Writes a message as a frame of at most [`MAX_FRAME_BYTES`] that every build reads.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    encode_for(FIRST_VERSION, message)
}

/// Writes a message for a reader of wire versions up to `reads`.
pub fn encode_for<T: Serialize>(reads: u8, message: &T) -> Result<Vec<u8>, WireError> {
    let plain = to_cbor(message);
    let (version, flags, packed) = if reads >= DICTIONARY_VERSION {
        (DICTIONARY_VERSION, PACKED_BY_DICTIONARY, pack_with_dictionary(&plain))
    } else if plain.len() >= MIN_ZSTD_BYTES {
        (FIRST_VERSION, FLAG_ZSTD, zstd::bulk::compress(&plain, ZSTD_LEVEL).ok())
    } else {
        (FIRST_VERSION, 0, None)
    };
    let (version, flags, body) = match packed.filter(|packed| packed.len() < plain.len()) {
        Some(packed) => (version, flags, packed),
        None => (FIRST_VERSION, 0, plain),
    };
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend([MAGIC, version, flags]);
    frame.extend(checksum(version, flags, &body).to_le_bytes());
    frame.extend(body);
    if frame.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLarge { bytes: frame.len() });
    }
    Ok(frame)
}

/// `None` where it fails or is not worth it: then the message goes as it is.
fn pack_with_dictionary(plain: &[u8]) -> Option<Vec<u8>> {
    let mut packer = Compressor::with_prepared_dictionary(&PACKING).ok()?;
    packer.set_parameter(CParameter::DictIdFlag(false)).ok()?; // the version names it
    (plain.len() >= MIN_DICTIONARY_BYTES).then(|| packer.compress(plain).ok())?
}

fn unpack_with_dictionary(body: &[u8]) -> std::io::Result<Vec<u8>> {
    Decompressor::with_prepared_dictionary(&UNPACKING)?.decompress(body, MAX_BODY_BYTES)
}

/// Reads a frame.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, WireError> {
    from_cbor(&open(frame)?)
}

/// Checks a frame and gives its CBOR body.
pub fn open(frame: &[u8]) -> Result<Vec<u8>, WireError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLarge { bytes: frame.len() });
    }
    let Some((&[MAGIC, version, flags, c0, c1, c2, c3], body)) = frame.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(WireError::Magic { first: frame.iter().copied().take(4).collect() });
    };
    if version == 0 || version > VERSION {
        return Err(WireError::Version { version });
    }
    let (found, expected) = (u32::from_le_bytes([c0, c1, c2, c3]), checksum(version, flags, body));
    if found != expected {
        return Err(WireError::Checksum { found, expected });
    }
    match (flags, version) {
        (0, _) => Ok(body.to_vec()),
        (FLAG_ZSTD, _) => zstd::bulk::decompress(body, MAX_BODY_BYTES).map_err(WireError::Unpack),
        (PACKED_BY_DICTIONARY, DICTIONARY_VERSION..) => {
            unpack_with_dictionary(body).map_err(WireError::Unpack)
        }
        _ => Err(WireError::Flags { flags }),
    }
}

fn checksum(version: u8, flags: u8, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[version, flags]), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_read_back(text in proptest::collection::vec("[a-z]{0,40}", 0..200), reads in 0u8..4) {
            let frame = encode_for(reads, &text).unwrap();
            prop_assert!(frame[1] <= reads.max(FIRST_VERSION));
            prop_assert_eq!(decode::<Vec<String>>(&frame).unwrap(), text);
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode::<Vec<String>>(&bytes).is_err());
        }

        #[test]
        fn any_flipped_bit_is_seen(at in 0usize..200, bit in 0u8..8) {
            let mut frame = encode(&vec!["feature".to_owned(); 40]).unwrap();
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            prop_assert!(decode::<Vec<String>>(&frame).is_err());
        }
    }

    #[test]
    fn too_large_is_refused_both_ways() {
        let noise: Vec<u64> = (0..20_000u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        assert!(matches!(encode(&noise), Err(WireError::TooLarge { .. })));
        assert!(matches!(open(&vec![MAGIC; MAX_FRAME_BYTES + 1]), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn a_small_frame_cannot_unpack_without_bound() {
        let bomb = zstd::bulk::compress(&vec![0u8; MAX_BODY_BYTES + 1], 19).unwrap();
        let mut frame = vec![MAGIC, VERSION, FLAG_ZSTD];
        frame.extend(checksum(VERSION, FLAG_ZSTD, &bomb).to_le_bytes());
        frame.extend(bomb);
        assert!(matches!(open(&frame), Err(WireError::Unpack(_))));
    }
}
