//! Identifiers as newtypes, so that a device is never taken for a model.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest device, model, group or application name in bytes: client ids on AWS IoT and topic
/// levels on NATS stay well inside their limits with it.
pub const MAX_NAME_BYTES: usize = 40;

/// A name that may stand as one MQTT topic level: 1 to 40 bytes of `[a-z0-9_-]`.
fn check_name(kind: &'static str, value: &str) -> Result<(), IdError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if value.is_empty() || value.len() > MAX_NAME_BYTES || !value.bytes().all(legal) {
        return Err(IdError::Name { kind, value: value.chars().take(80).collect() });
    }
    Ok(())
}

/// An identifier that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 40 bytes of `[a-z0-9_-]`.
    #[error("{kind} `{value}` must be 1 to {MAX_NAME_BYTES} characters of a-z, 0-9, `_` and `-`")]
    Name { kind: &'static str, value: String },
    /// Not 64 hexadecimal digits.
    #[error("digest `{value}` must be 64 hexadecimal digits")]
    Digest { value: String },
    /// Not 16 hexadecimal digits.
    #[error("incarnation `{value}` must be 16 hexadecimal digits")]
    Incarnation { value: String },
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and takes a name; see [`MAX_NAME_BYTES`] for the alphabet.
            pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
                let value = value.into();
                check_name($kind, &value)?;
                Ok(Self(value))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }
    };
}

name!(
    /// A device: also its MQTT client id.
    DeviceId,
    "device id"
);
name!(
    /// A model's name, the same over all its versions.
    ModelName,
    "model name"
);
name!(
    /// An application beside the agent, as its topics name it.
    AppName,
    "application name"
);
name!(
    /// A rollout.
    RolloutId,
    "rollout id"
);
name!(
    /// A named group of devices.
    GroupName,
    "group name"
);

impl DeviceId {
    /// The topic level by which hub replicas share the fleet: two hex digits of the id's SHA-256.
    #[must_use]
    pub fn shard(&self) -> String {
        hex::encode(&Digest::of(self.0.as_bytes()).0[..1])
    }
}

/// A SHA-256 digest: of a file, a package or (as version identity) of the in-toto statement that
/// lists the digests of all files of a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first twelve hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Takes the digest of what does not lie in one piece.
#[derive(Debug, Clone, Default)]
pub struct Digester(sha2::Sha256);

impl Digester {
    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        use sha2::Digest as _;
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(value: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(value, &mut bytes)
            .map_err(|_cause| IdError::Digest { value: value.chars().take(80).collect() })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl From<Digest> for String {
    fn from(value: Digest) -> String {
        value.to_string()
    }
}

/// One life of a database: minted at random when it is new, restored or cloned. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

impl FromStr for Incarnation {
    type Err = IdError;
    fn from_str(value: &str) -> Result<Self, IdError> {
        if value.len() != 16 {
            return Err(IdError::Incarnation { value: value.chars().take(80).collect() });
        }
        u64::from_str_radix(value, 16)
            .map(Self)
            .map_err(|_cause| IdError::Incarnation { value: value.to_owned() })
    }
}

impl TryFrom<String> for Incarnation {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl From<Incarnation> for String {
    fn from(value: Incarnation) -> String {
        value.to_string()
    }
}

/// Who wrote an operation: one side of a document, in one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Which side.
    pub side: Side,
    /// Which life of its database.
    pub incarnation: Incarnation,
}

/// The two sides of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The device that the document is about.
    Device,
    /// The hub.
    Hub,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_a_topic_level_are_refused() {
        for bad in ["", "A", "a/b", "a b", "a+", "#", "ü", &"x".repeat(41)] {
            assert!(DeviceId::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "press-07", "x_1", &"x".repeat(40)] {
            assert!(DeviceId::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn text_forms_round_trip() {
        let digest = Digest::of(b"shoal");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let incarnation = Incarnation(0x00ab_cdef_0123_4567);
        assert_eq!(incarnation.to_string().parse(), Ok(incarnation));
        assert!("12".parse::<Digest>().is_err());
        assert!("12".parse::<Incarnation>().is_err());
    }
}
