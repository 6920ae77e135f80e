//! What is done about a damaged file, and the snapshots that make it bearable.
//!
//! Cards lie about fsync, so that even a careful database can be found broken after a power cut. The
//! broken file is kept for a person to look at; the newest good snapshot takes its place.

use super::StoreError;
use crate::file::{rename_durably, sync_folder};
use rusqlite::Connection;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Snapshots kept; the first is the newest.
const SNAPSHOTS: u32 = 2;
/// Damaged files kept; an older one is overwritten by number.
const DAMAGED: u32 = 4;
const SIDE_FILES: [&str; 2] = ["-wal", "-shm"];

fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

fn snapshot_path(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!(".snapshot-{number}"))
}

/// Writes a snapshot beside the database; the older of two goes.
pub(super) fn snapshot(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let temp = beside(path, ".snapshot-new");
    remove(&temp)?;
    let target = temp.to_string_lossy();
    connection.execute("VACUUM INTO ?1", [&target]).map_err(StoreError::sqlite("write a snapshot"))?;
    let keep = |from: &Path, to: &Path| {
        rename_durably(from, to).map_err(|cause| StoreError::Snapshot(Arc::new(cause)))
    };
    for number in (1..SNAPSHOTS).rev() {
        let from = snapshot_path(path, number);
        if from.exists() {
            keep(&from, &snapshot_path(path, number + 1))?;
        }
    }
    keep(&temp, &snapshot_path(path, 1))
}

/// Moves a damaged database out of the way; tells its new name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let free = (1..=DAMAGED).map(|number| beside(path, &format!(".damaged-{number}")));
    let target =
        free.clone().find(|name| !name.exists()).or_else(|| free.clone().min_by_key(|path| modified(path)));
    let target = target.unwrap_or_else(|| beside(path, ".damaged-1"));
    // The database goes first, and durably: without its log it could pass for a good one of the past, and the log
    // beside another database would be written into that.
    for tail in [""].iter().chain(&SIDE_FILES) {
        let (from, to) = (beside(path, tail), beside(&target, tail));
        remove(&to)?;
        match fs::rename(&from, &to).and_then(|()| sync_folder(&to)) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(StoreError::SetAside { path: from, source: Arc::new(cause) }),
        }
    }
    Ok(target)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Puts a copy of a snapshot in the database's place, after `prepare` made it one of a past life: from the moment
/// that it is there, it is told apart from the file that was lost.
pub(super) fn restore(
    path: &Path,
    number: u32,
    prepare: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (from, temp) = (snapshot_path(path, number), beside(path, ".restored"));
    for tail in ["", "-journal"].iter().chain(&SIDE_FILES) {
        remove(&beside(&temp, tail))?; // of a recovery that did not come to its end
    }
    fs::copy(&from, &temp).map_err(|source| StoreError::SetAside { path: from, source: Arc::new(source) })?;
    prepare(&temp)?;
    rename_durably(&temp, path).map_err(|cause| StoreError::Snapshot(Arc::new(cause)))
}

/// Whether the database is gone although snapshots of it are there: lost, or a recovery came to no end.
fn is_gone(path: &Path) -> bool {
    let is_empty = fs::metadata(path)
        .map_or_else(|cause| cause.kind() == io::ErrorKind::NotFound, |meta| meta.len() == 0);
    is_empty && (1..=SNAPSHOTS).any(|number| snapshot_path(path, number).exists())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::SetAside { path: path.to_owned(), source: Arc::new(cause) })
        }
        _ => Ok(()),
    }
}

/// Opens with `open`; a damaged file is set aside, then the snapshots are tried from the newest, each made one of
/// a past life by `prepare`, then an empty database. Tells what happened, if anything.
///
/// The power may go at any step: the next call goes on from there.
pub(super) fn open_or_recover<T>(
    path: &Path,
    prepare: impl Fn(&Path) -> Result<(), StoreError>,
    open: impl Fn() -> Result<T, StoreError>,
) -> Result<(T, Option<String>), StoreError> {
    let damage = match is_gone(path) {
        true => None,
        false => match open() {
            Ok(opened) => return Ok((opened, None)),
            Err(error) if error.is_damage() => Some(error),
            Err(error) => return Err(error),
        },
    };
    let aside = set_aside(path)?;
    let what = match damage {
        None => format!("{} was gone", path.display()),
        Some(damage) => {
            format!("{} was damaged ({}) and is kept as {}", path.display(), chain(&damage), aside.display())
        }
    };
    for number in 1..=SNAPSHOTS {
        if !snapshot_path(path, number).exists() {
            continue;
        }
        match restore(path, number, &prepare).and_then(|()| open()) {
            Ok(opened) => return Ok((opened, Some(format!("{what}; snapshot {number} took its place")))),
            Err(error) if error.is_damage() => {
                set_aside(path)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((open()?, Some(format!("{what}; there was no snapshot, it begins empty"))))
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
