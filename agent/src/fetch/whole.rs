//! An archive without a chunk list, as an older hub assigns it: from the first byte to the last, by HTTP.

use super::http::FetchError;
use super::{Inner, SILENCE, part};
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

/// Attempts before the assignment is refused; with the pauses between them about an hour.
const TRIES: u32 = 60;
/// First pause after a failed attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

impl Inner {
    pub(super) async fn whole(&self, artifact: &Artifact) -> Result<Vec<u8>, String> {
        let urls = self.urls(artifact)?;
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        for _ in 0..TRIES {
            for url in &urls {
                match self.attempt(url, artifact).await {
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
        let path = part::path(&self.folder, artifact.archive);
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
