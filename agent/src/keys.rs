//! Signing keys in files: the device's own, made on first use, and those that people give.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use rand::TryRngCore as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The device's key below its state folder: 64 hex digits, readable by its owner only.
const FILE: &str = "device.key";

/// A key that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("failed to {action} key `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not an ed25519 private key.
    #[error("`{path}` holds no ed25519 private key: expected PEM (PKCS#8) or 64 hex digits")]
    Form { path: PathBuf },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a key")]
    Random(#[source] rand::rand_core::OsError),
}

/// Reads a private key: PEM (PKCS#8) or hex.
pub fn read_key(path: &Path) -> Result<SigningKey, KeyError> {
    let text = fs::read_to_string(path).map_err(|source| KeyError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    if text.trim_start().starts_with("-----BEGIN") {
        return SigningKey::from_pkcs8_pem(&text).map_err(|_cause| KeyError::Form { path: path.to_owned() }); // the cause may quote the key
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .map_err(|_cause| KeyError::Form { path: path.to_owned() })?;
    Ok(SigningKey::from_bytes(&bytes))
}

/// The key that a device signs its own versions with, made on first use. Two processes that make it at
/// the same time end with the same one.
pub fn device_key(state: &Path) -> Result<SigningKey, KeyError> {
    let path = state.join(FILE);
    match read_key(&path) {
        Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        had => return had,
    }
    let mut secret = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(KeyError::Random)?;
    let fail = |source| KeyError::Io { action: "write", path: path.clone(), source };
    // Temporary files are readable by their owner only.
    let mut file = tempfile::Builder::new().prefix(".key-").tempfile_in(state).map_err(fail)?;
    file.write_all(hex::encode(secret).as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    match file.persist_noclobber(&path) {
        Err(cause) if cause.error.kind() != ErrorKind::AlreadyExists => return Err(fail(cause.error)),
        _ => File::open(state).and_then(|folder| folder.sync_all()).map_err(fail)?,
    }
    read_key(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_device_key_is_made_once_for_its_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let key = device_key(state.path()).unwrap();
        assert_eq!(device_key(state.path()).unwrap(), key);
        let mode = fs::metadata(state.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn pem_and_hex_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SigningKey::from_bytes(&[7; 32]);
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        for (text, is_key) in
            [(pem, true), (hex::encode([7; 32]) + "\n", true), ("07".into(), false), (String::new(), false)]
        {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            let had = read_key(&path);
            assert_eq!(had.is_ok(), is_key);
            assert!(had.is_ok_and(|had| had == key) == is_key);
        }
    }
}
