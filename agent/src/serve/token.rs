//! The token that callers from beyond this device need.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use shoal_proto::id::Digest;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Characters below which a token can be guessed.
const MIN_CHARS: usize = 16;

/// A bearer token, held as its digest: comparing digests tells nothing of the token by its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(Digest);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A token that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read.
    #[error("failed to read the token `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It can be guessed.
    #[error("the token in `{path}` has {chars} characters, expected at least {MIN_CHARS}")]
    Short { path: PathBuf, chars: usize },
}

impl Token {
    /// Reads a file that holds nothing else; white space around it is not part of it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        let (token, chars) = (text.trim(), text.trim().chars().count());
        if chars < MIN_CHARS {
            return Err(TokenError::Short { path: path.to_owned(), chars });
        }
        Ok(Self(Digest::of(token.as_bytes())))
    }

    /// Whether a request has it, as `Authorization: Bearer …`.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let token = given.and_then(|given| given.split_at_checked(7));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && Digest::of(token.trim_ascii()) == self.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        crate::file::write_atomic(&path, b"correct horse battery\n").unwrap();
        let token = Token::read(&path).unwrap();
        for (given, opens) in [
            (Some("Bearer correct horse battery"), true),
            (Some("bearer correct horse battery "), true),
            (Some("Bearer correct horse"), false),
            (Some("Basic correct horse battery"), false),
            (Some("Bearer"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(AUTHORIZATION, given.parse().unwrap());
            }
            assert_eq!(token.is_in(&headers), opens, "{given:?}");
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(Token::read(&path), Err(TokenError::Read { .. })));
        crate::file::write_atomic(&path, b"secret").unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Short { chars: 6, .. })));
    }
}
