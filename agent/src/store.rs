//! The databases; rusqlite is named in this module only.
//!
//! `state.db` holds what the device must never forget, `samples.db` what it may lose. They are two
//! files so that samples can never starve state. One writer thread each, with group commit. `train.db`
//! is the training children's own.

mod ballast;
mod reader;
mod recover;
mod samples;
mod samples_quota;
mod samples_rows;
mod schema;
mod state;
mod state_rows;
mod train;

#[cfg(test)]
pub(crate) use reader::evict_oldest;
pub use reader::{LabelledRow, OtherWord, RecentRow, SamplesReader, Told, ToldRow};
pub use samples::{Captured, LateJoins, PendingLabel, SampleStats, SamplesDb};
pub use samples_rows::{Joined, Label, LabelOutcome, LabelRow, MAX_ID_BYTES, SampleRow};
pub use state::StateDb;
pub use state_rows::Loaded;
pub use train::TrainDb;

use crate::file::FileError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What a database could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, or another process holds it.
    #[error("failed to open database `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The file was written by a newer build.
    #[error("database `{path}` has schema {found}, this build knows up to {known}")]
    Newer { path: PathBuf, found: u32, known: u32 },
    /// A statement failed; nothing of its transaction is on disk.
    #[error("failed to {attempt}")]
    Sqlite {
        attempt: &'static str,
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A row holds bytes that are not of this build's types.
    #[error("table `{table}` has a row that cannot be read: {reason}")]
    Row { table: &'static str, reason: String },
    /// The pages of the file do not fit together.
    #[error("the database is damaged: {reason}")]
    Damaged { reason: String },
    /// A snapshot could not be put in its place.
    #[error("failed to keep a snapshot")]
    Snapshot(#[source] Arc<FileError>),
    /// A damaged file could not be set aside.
    #[error("failed to set `{path}` aside")]
    SetAside {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    /// The writer thread could not be started.
    #[error("failed to start the writer thread")]
    Thread(#[source] Arc<io::Error>),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    fn sqlite(attempt: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { attempt, source: Arc::new(source) }
    }

    /// Whether the file itself is broken, so that another must take its place.
    fn is_damage(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(code) => {
                    matches!(code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                }
                // What is there is not of the type that was written.
                None => matches!(
                    **source,
                    rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::InvalidColumnType(..)
                        | rusqlite::Error::Utf8Error(..)
                        | rusqlite::Error::QueryReturnedNoRows
                ),
            },
            Self::Row { .. } | Self::Damaged { .. } => true,
            Self::Newer { .. }
            | Self::Snapshot(_)
            | Self::SetAside { .. }
            | Self::Thread(_)
            | Self::Closed => false,
        }
    }

    /// Whether the disk, or the quota, has no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

#[cfg(test)]
mod samples_tests;
#[cfg(test)]
mod samples_words_tests;
#[cfg(test)]
mod state_tests;
