//! Archives by digest, streamed from the file, whole or by one range (RFC 9110 §14).

use super::State;
use super::error::ApiError;
use crate::registry::RegistryError;
use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use shoal_proto::id::Digest;
use std::io::{ErrorKind, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Everything: no range, or one that a server may ignore (several ranges, another unit, nonsense).
    Whole,
    /// From, and how many bytes.
    Part(u64, u64),
    /// Outside the file.
    Outside,
}

fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) =
        header.and_then(|it| it.strip_prefix("bytes=")).and_then(|it| it.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            None => Wanted::Whole,
            Some(0) => Wanted::Outside,
            Some(_) if size == 0 => Wanted::Outside,
            Some(length) => Wanted::Part(size.saturating_sub(length), length.min(size)),
        },
        (first, last) => {
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), end) {
                (Some(first), Some(last)) if first <= last => {
                    if first >= size {
                        return Wanted::Outside;
                    }
                    Wanted::Part(first, last.min(size - 1) - first + 1)
                }
                _ => Wanted::Whole,
            }
        }
    }
}

pub(super) async fn artifact(
    Shared(state): Shared<State>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::NoArtifact { digest: text.chars().take(80).collect() };
    let digest: Digest = text.parse().map_err(|_cause| missing())?;
    let mut file = File::open(state.registry.path(digest)).await.map_err(|_cause| missing())?;
    let size_bytes = file.metadata().await.map_err(|_cause| missing())?.len();
    let etag = format!("\"{digest}\"");
    // A range of another file than this one is no range (If-Range); the name is the digest, so any
    // other tag is another file.
    let same = headers.get(header::IF_RANGE).is_none_or(|it| it.as_bytes() == etag.as_bytes());
    let range = headers.get(header::RANGE).and_then(|it| it.to_str().ok()).filter(|_| same);
    let (status, from, length) = match wanted(range, size_bytes) {
        Wanted::Whole => (StatusCode::OK, 0, size_bytes),
        Wanted::Part(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        Wanted::Outside => return Err(ApiError::Range { size_bytes }),
    };
    file.seek(SeekFrom::Start(from)).await.map_err(|_cause| ApiError::Internal { what: "reading a file" })?;
    state.traffic.http_bytes.fetch_add(length, Ordering::Relaxed);
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK_BYTES));
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, etag),
        ],
        body,
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = format!("bytes {from}-{}/{size_bytes}", from + length - 1).parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// The chunk list of an archive.
pub(super) async fn chunks(
    Shared(state): Shared<State>,
    Path(text): Path<String>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::NoArtifact { digest: text.chars().take(80).collect() };
    let digest: Digest = text.parse().map_err(|_cause| missing())?;
    let registry = Arc::clone(&state.registry);
    let made = state.blocking.spawn_blocking(move || registry.chunk_list(digest)).await;
    let list = match made.map_err(|_panicked| ApiError::Internal { what: "making a chunk list" })? {
        Ok((list, _)) => list,
        Err(RegistryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Err(missing());
        }
        Err(cause) => return Err(cause.into()),
    };
    state.traffic.http_bytes.fetch_add(list.len() as u64, Ordering::Relaxed);
    let etag = format!("\"{}\"", Digest::of(&list));
    let kind = "application/cbor".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::ETAG, etag)], list).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, size, expected) in [
            (None, 10, Wanted::Whole),
            (Some("bytes=0-4"), 10, Wanted::Part(0, 5)),
            (Some("bytes=5-"), 10, Wanted::Part(5, 5)),
            (Some("bytes=5-99"), 10, Wanted::Part(5, 5)),
            (Some("bytes=9-9"), 10, Wanted::Part(9, 1)),
            (Some("bytes=-3"), 10, Wanted::Part(7, 3)),
            (Some("bytes=-30"), 10, Wanted::Part(0, 10)),
            (Some("bytes=10-"), 10, Wanted::Outside),
            (Some("bytes=-0"), 10, Wanted::Outside),
            (Some("bytes=0-"), 0, Wanted::Outside),
            (Some("bytes=-5"), 0, Wanted::Outside),
            (Some("bytes=4-2"), 10, Wanted::Whole),
            (Some("bytes=0-1,3-4"), 10, Wanted::Whole),
            (Some("lines=0-1"), 10, Wanted::Whole),
            (Some("bytes=a-b"), 10, Wanted::Whole),
            (Some("bytes=0-18446744073709551615"), 10, Wanted::Part(0, 10)),
        ] {
            assert_eq!(wanted(header, size), expected, "{header:?} of {size}");
        }
    }
}
