//! Gets a package from the hub over HTTP: resumed where it broke, verified before anything is parsed.

use crate::core::VersionInfo;
use crate::vault::Vault;
use ed25519_dalek::VerifyingKey;
use shoal_proto::decision::Rejection;
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use shoal_proto::package::{MAX_PACKAGE_BYTES, Package};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts before the assignment is refused; with the pauses between them about an hour.
const TRIES: u32 = 60;
/// First pause after a failed attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A source that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// What a fetch needs of the device.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: reqwest::Client,
    base: Option<String>,
    folder: PathBuf,
    trusted: Vec<VerifyingKey>,
    vault: Vault,
}

/// A fetch that did not bring the package. The next attempt may.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("`{url}` cannot be reached")]
    Send {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("`{url}` answered {status}")]
    Status { url: String, status: u16 },
    #[error("`{url}` broke off")]
    Body {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("`{url}` was silent for {} s", SILENCE.as_secs())]
    Silent { url: String },
    #[error("`{url}` sends more than the {expected} bytes that were promised")]
    TooLong { url: String, expected: u64 },
    #[error("`{url}` gave {found}, promised was {expected}")]
    Digest { url: String, found: Digest, expected: Digest },
    #[error("failed to write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Fetcher {
    /// `base` is the hub's artifact address, which sources that are paths are joined to; `folder` keeps
    /// what is not yet whole.
    pub fn new(
        base: Option<String>,
        state: &Path,
        trusted: Vec<VerifyingKey>,
        vault: Vault,
    ) -> Result<Self, std::io::Error> {
        let folder = state.join("incoming");
        std::fs::create_dir_all(&folder)?;
        let client = reqwest::Client::builder()
            .connect_timeout(SILENCE)
            .no_proxy()
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self { client, base, folder, trusted, vault })
    }

    /// Fetches, verifies and stores an assigned package.
    pub async fn fetch(&self, version: Digest, artifact: &Artifact) -> Result<VersionInfo, Rejection> {
        let refuse = |reason: String| Rejection::PackageRefused { reason };
        if self.trusted.is_empty() {
            let hint = "no release key is configured; put the line of `shoal-hub key show` under [trust] release_keys";
            return Err(refuse(hint.into()));
        }
        if artifact.size_bytes > MAX_PACKAGE_BYTES {
            return Err(refuse(format!("{} bytes are more than {MAX_PACKAGE_BYTES}", artifact.size_bytes)));
        }
        let bytes = self.download(artifact).await.map_err(refuse)?;
        let (trusted, vault) = (self.trusted.clone(), self.vault.clone());
        let stored = tokio::task::spawn_blocking(move || store(&bytes, version, &trusted, &vault)).await;
        stored.map_err(|cause| refuse(cause.to_string()))?
    }

    async fn download(&self, artifact: &Artifact) -> Result<Vec<u8>, String> {
        let mut pause = FIRST_PAUSE;
        let mut last = "the hub names no source".to_owned();
        for _ in 0..TRIES {
            for source in &artifact.sources {
                let url = match &self.base {
                    _ if source.contains("://") => source.clone(),
                    Some(base) => format!("{base}{source}"),
                    None => {
                        return Err(format!(
                            "source `{source}` is a path; write `artifacts = \"http://…\"` under [hub]"
                        ));
                    }
                };
                match self.attempt(&url, artifact).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(cause) => {
                        tracing::warn!(error = %crate::report::chain(&cause), "fetch failed, trying again");
                        last = crate::report::chain(&cause);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        Err(last)
    }

    async fn attempt(&self, url: &str, artifact: &Artifact) -> Result<Vec<u8>, FetchError> {
        let path = self.folder.join(format!("{}.part", artifact.archive));
        let write = |source| FetchError::Write { path: path.clone(), source };
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(write)?;
        let mut held = file.metadata().map_err(write)?.len();
        if held > artifact.size_bytes {
            held = 0;
        }
        if held < artifact.size_bytes {
            self.resume(url, artifact.size_bytes, held, &mut file, &path).await?;
        }
        let bytes = std::fs::read(&path).map_err(write)?;
        let found = Digest::of(&bytes);
        std::fs::remove_file(&path).map_err(write)?;
        if found != artifact.archive {
            let (url, expected) = (url.to_owned(), artifact.archive);
            return Err(FetchError::Digest { url, found, expected });
        }
        Ok(bytes)
    }

    async fn resume(
        &self,
        url: &str,
        size: u64,
        held: u64,
        file: &mut std::fs::File,
        path: &Path,
    ) -> Result<(), FetchError> {
        let write = |source| FetchError::Write { path: path.to_owned(), source };
        let url = || url.to_owned();
        let mut request = self.client.get(url());
        if held > 0 {
            request = request.header("range", format!("bytes={held}-"));
        }
        let mut response = tokio::time::timeout(SILENCE, request.send())
            .await
            .map_err(|_late| FetchError::Silent { url: url() })?
            .map_err(|source| FetchError::Send { url: url(), source })?;
        let mut at = match response.status().as_u16() {
            206 => held,
            200 => 0, // a source without ranges begins anew
            status => return Err(FetchError::Status { url: url(), status }),
        };
        file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at)).map(drop)).map_err(write)?;
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk())
                .await
                .map_err(|_late| FetchError::Silent { url: url() })?
                .map_err(|source| FetchError::Body { url: url(), source })?;
            let Some(chunk) = chunk else { break };
            at += chunk.len() as u64;
            if at > size {
                return Err(FetchError::TooLong { url: url(), expected: size });
            }
            file.write_all(&chunk).map_err(write)?;
        }
        file.sync_all().map_err(write)
    }
}

/// Signature first, parse later: only a package that a release key signed is looked into.
fn store(
    bytes: &[u8],
    version: Digest,
    trusted: &[VerifyingKey],
    vault: &Vault,
) -> Result<VersionInfo, Rejection> {
    let refuse = |reason: String| Rejection::PackageRefused { reason };
    let package = Package::from_archive(bytes).map_err(|cause| refuse(crate::report::chain(&cause)))?;
    package.verify(trusted).map_err(|cause| refuse(crate::report::chain(&cause)))?;
    let found = package.version().map_err(|cause| refuse(crate::report::chain(&cause)))?;
    if found != version {
        return Err(refuse(format!("it is version {}, promised was {}", found.short(), version.short())));
    }
    vault.put(&package).map_err(|cause| refuse(crate::report::chain(&cause)))
}
