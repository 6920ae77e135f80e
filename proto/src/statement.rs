//! What is signed: an in-toto statement over a package's files, in a DSSE envelope (ed25519).
//!
//! The statement has the form of OpenSSF Model Signing v1.0; the digest of its canonical bytes is the
//! version's identity. Signatures stand outside the digest.

use crate::id::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// in-toto statement type.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// OpenSSF Model Signing predicate.
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// DSSE payload type of a statement.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The canonical bytes of the statement that lists the files' digests: JSON with sorted keys and no
/// white space, files sorted by name.
///
/// # Panics
/// Never: strings have a JSON form.
#[must_use]
pub fn statement_bytes(model: &str, files: &BTreeMap<String, Digest>) -> Vec<u8> {
    let mut all = Vec::new();
    for digest in files.values() {
        all.extend(digest.0);
    }
    let resources: Vec<_> = files
        .iter()
        .map(|(name, digest)| {
            serde_json::json!({"name": name, "algorithm": "sha256", "digest": digest.to_string()})
        })
        .collect();
    let statement = serde_json::json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": model, "digest": {"sha256": Digest::of(&all).to_string()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": []},
            "resources": resources,
        },
    });
    serde_json::to_vec(&statement).expect("strings have a JSON form")
}

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64 of the statement.
    pub payload: String,
    /// What the payload is.
    pub payload_type: String,
    /// Who signed it.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Hex SHA-256 of the public key, a hint and no proof.
    pub keyid: String,
    /// Base64 of the ed25519 signature over the DSSE pre-authentication encoding.
    pub sig: String,
}

/// A signature that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The envelope signs something else.
    #[error("the signature is over another statement than these files give")]
    OtherStatement,
    /// No signature by a key that is trusted.
    #[error("no signature by a trusted key (signed by {})", .signers.join(", "))]
    Untrusted {
        /// The key ids that signed.
        signers: Vec<String>,
    },
    /// A key that is none.
    #[error("`{key}` is not an ed25519 public key in hex")]
    Key {
        /// As written.
        key: String,
    },
}

/// DSSE pre-authentication encoding.
fn pae(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

/// The id of a public key.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    Digest::of(key.as_bytes()).to_string()
}

/// Reads a public key from hex.
pub fn parse_key(text: &str) -> Result<VerifyingKey, SignatureError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .ok()
        .and_then(|()| VerifyingKey::from_bytes(&bytes).ok())
        .ok_or_else(|| SignatureError::Key { key: text.chars().take(80).collect() })
}

/// Signs a statement.
#[must_use]
pub fn sign(statement: &[u8], key: &SigningKey) -> Envelope {
    Envelope {
        payload: BASE64.encode(statement),
        payload_type: PAYLOAD_TYPE.into(),
        signatures: vec![EnvelopeSignature {
            keyid: key_id(&key.verifying_key()),
            sig: BASE64.encode(key.sign(&pae(statement)).to_bytes()),
        }],
    }
}

/// Checks that an envelope signs exactly this statement with one of the trusted keys, and says which.
pub fn verify<'k>(
    envelope: &Envelope,
    statement: &[u8],
    trusted: &'k [VerifyingKey],
) -> Result<&'k VerifyingKey, SignatureError> {
    if envelope.payload_type != PAYLOAD_TYPE
        || BASE64.decode(&envelope.payload).ok().as_deref() != Some(statement)
    {
        return Err(SignatureError::OtherStatement);
    }
    let message = pae(statement);
    let signatures: Vec<Signature> = envelope
        .signatures
        .iter()
        .filter_map(|one| Signature::from_slice(&BASE64.decode(&one.sig).ok()?).ok())
        .collect();
    trusted
        .iter()
        .find(|key| signatures.iter().any(|signature| key.verify_strict(&message, signature).is_ok()))
        .ok_or_else(|| SignatureError::Untrusted {
            signers: envelope.signatures.iter().map(|s| s.keyid.chars().take(12).collect()).collect(),
        })
}
