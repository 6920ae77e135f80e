//! Chunks and chunk lists by HTTP (RFC 9110 §14), handed on one by one as they come.

use super::SILENCE;
use shoal_proto::chunks::{ChunkList, MAX_LIST_BYTES};
use shoal_proto::id::Digest;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// A fetch that did not bring the package. The next attempt may.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{url}` cannot be reached")]
    Send {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("`{url}` answered {status}")]
    Status { url: String, status: u16 },
    #[error("`{url}` gave range `{found}`, asked for was one from {from}")]
    Range { url: String, found: String, from: u64 },
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

/// A question over HTTP.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    /// Which source it is asked of, and its number.
    pub(super) of: (usize, u64),
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) of: (usize, u64),
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    List(Vec<u8>),
    Chunk { index: u32, bytes: Vec<u8> },
    Ended(Result<(), String>),
}

impl Question {
    /// Asks for the chunk list.
    pub(super) async fn list(self, out: mpsc::Sender<Came>) {
        let outcome = self.read_list().await;
        let of = self.of;
        if let Ok(list) = &outcome {
            tell(&out, Came { of, what: What::List(list.clone()) }).await;
        }
        let ended = outcome.map(drop).map_err(|cause| crate::report::chain(&cause));
        tell(&out, Came { of, what: What::Ended(ended) }).await;
    }

    /// Asks for `count` chunks from `first` on.
    pub(super) async fn chunks(self, list: ChunkList, first: u32, count: u32, out: mpsc::Sender<Came>) {
        let outcome = self.read_chunks(&list, first, count, &out).await;
        let ended = outcome.map_err(|cause| crate::report::chain(&cause));
        tell(&out, Came { of: self.of, what: What::Ended(ended) }).await;
    }

    async fn send(&self, range: Option<String>) -> Result<reqwest::Response, FetchError> {
        let mut request = self.client.get(&self.url);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        tokio::time::timeout(SILENCE, request.send())
            .await
            .map_err(|_late| FetchError::Silent { url: self.url.clone() })?
            .map_err(|source| FetchError::Send { url: self.url.clone(), source })
    }

    async fn more(&self, response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, FetchError> {
        let piece = tokio::time::timeout(SILENCE, response.chunk())
            .await
            .map_err(|_late| FetchError::Silent { url: self.url.clone() })?
            .map_err(|source| FetchError::Body { url: self.url.clone(), source })?;
        Ok(piece.map(|bytes| bytes.to_vec()))
    }

    async fn read_list(&self) -> Result<Vec<u8>, FetchError> {
        let mut response = self.send(None).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(FetchError::Status { url: self.url.clone(), status });
        }
        let mut list = Vec::new();
        while let Some(piece) = self.more(&mut response).await? {
            list.extend(piece);
            if list.len() > MAX_LIST_BYTES {
                return Err(FetchError::TooLong { url: self.url.clone(), expected: MAX_LIST_BYTES as u64 });
            }
        }
        Ok(list)
    }

    async fn read_chunks(
        &self,
        list: &ChunkList,
        first: u32,
        count: u32,
        out: &mpsc::Sender<Came>,
    ) -> Result<(), FetchError> {
        let start = |index: u32| list.range(index).map_or(list.size_bytes, |(from, _)| from);
        let (from, end) = (start(first), start(first.saturating_add(count)));
        let mut response = self.send(Some(format!("bytes={from}-{}", end.saturating_sub(1)))).await?;
        // A source without ranges sends all of it: then all of it is taken.
        let (mut index, until) = match response.status().as_u16() {
            206 => (first, end),
            200 => (0, list.size_bytes),
            status => return Err(FetchError::Status { url: self.url.clone(), status }),
        };
        if response.status().as_u16() == 206 {
            let found = response.headers().get("content-range").and_then(|it| it.to_str().ok()).unwrap_or("");
            let begins = found.strip_prefix("bytes ").and_then(|it| it.split('-').next()?.parse().ok());
            if begins != Some(from) {
                let found = found.chars().take(80).collect();
                return Err(FetchError::Range { url: self.url.clone(), found, from });
            }
        }
        let mut left = until - start(index);
        let mut buffer = Vec::new();
        while let Some(piece) = self.more(&mut response).await? {
            let too_long = || FetchError::TooLong { url: self.url.clone(), expected: until - from };
            left = left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
            buffer.extend(piece);
            while let Some((_, length)) = list.range(index)
                && let Ok(length) = usize::try_from(length)
                && buffer.len() >= length
            {
                let rest = buffer.split_off(length);
                let bytes = std::mem::replace(&mut buffer, rest);
                tell(out, Came { of: self.of, what: What::Chunk { index, bytes } }).await;
                index += 1;
            }
        }
        Ok(())
    }
}

/// Closed only when the fetch was left off.
async fn tell(out: &mpsc::Sender<Came>, came: Came) {
    drop(out.send(came).await);
}
