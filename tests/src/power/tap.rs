//! What the store asks of the operating system, in order: seen at the C library's own calls, so that SQLite, the
//! standard library and everything between are seen alike.
//!
//! The binary that wants to see puts its own `write`, `fsync`, `rename` … in front of the C library's and hands
//! each to this module. Only files in one folder are recorded, and only while a recording runs. `fsync` is not
//! passed on: what it would do is decided later, when the power is cut.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One thing that was asked of the disk, or a word of the script between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes at a place of a file.
    Write { name: String, at: usize, bytes: Vec<u8> },
    /// A file is this long.
    Truncate { name: String, len: usize },
    /// A file was written by calls that are not seen (a copy in the kernel); this is what it holds now.
    Whole { name: String, bytes: Vec<u8> },
    /// A file was synced.
    Sync { name: String },
    /// The folder was synced.
    SyncFolder,
    /// A name is gone.
    Unlink { name: String },
    /// A file has another name.
    Rename { from: String, to: String },
    /// The script says something.
    Mark(usize),
}

static ON: AtomicBool = AtomicBool::new(false);
static TAP: Mutex<Option<Recording>> = Mutex::new(None);

struct Recording {
    folder: PathBuf,
    known: BTreeSet<String>,
    events: Vec<Event>,
}

fn tap() -> MutexGuard<'static, Option<Recording>> {
    TAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to record a folder.
pub fn start(folder: &Path) -> std::io::Result<()> {
    let folder = folder.canonicalize()?;
    let mut known = BTreeSet::new();
    for entry in std::fs::read_dir(&folder)? {
        known.extend(followed(&entry?.file_name()));
    }
    *tap() = Some(Recording { folder, known, events: Vec::new() });
    ON.store(true, Ordering::SeqCst);
    Ok(())
}

/// Ends the recording.
pub fn stop() -> Vec<Event> {
    ON.store(false, Ordering::SeqCst);
    tap().take().map(|recording| recording.events).unwrap_or_default()
}

/// Puts a word of the script between the events.
pub fn mark(number: usize) {
    if let Some(recording) = tap().as_mut() {
        recording.events.push(Event::Mark(number));
    }
}

/// The files that matter: the databases, their logs, snapshots and what is set aside. The index of a log (`-shm`)
/// does not outlive a boot, and ballast holds nothing.
pub(super) fn followed(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    let ours = name.starts_with("state.db") || name.starts_with("samples.db");
    (ours && !name.ends_with("-shm")).then(|| name.to_owned())
}

/// Files that are copied by calls that are not seen.
fn is_copied(name: &str) -> bool {
    name.contains(".restored") || name.contains(".snapshot")
}

enum Target {
    File(String),
    Folder,
}

impl Recording {
    fn of_path(&self, path: &Path) -> Option<Target> {
        let inside = path.strip_prefix(&self.folder).ok()?;
        if inside.as_os_str().is_empty() {
            return Some(Target::Folder);
        }
        followed(inside.as_os_str()).map(Target::File)
    }

    fn of_fd(&self, fd: i32) -> Option<Target> {
        self.of_path(&std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?)
    }

    /// Takes a file in that came to be unseen.
    fn meet(&mut self, name: &str) {
        if self.known.insert(name.to_owned()) {
            self.take_whole(name);
        }
    }

    fn take_whole(&mut self, name: &str) {
        if let Ok(bytes) = std::fs::read(self.folder.join(name)) {
            self.events.push(Event::Whole { name: name.to_owned(), bytes });
        }
    }
}

/// Passes a call on a file on, and takes it down where the file is followed.
fn through(fd: i32, call: impl FnOnce() -> isize, event: impl FnOnce(String, usize) -> Event) -> isize {
    if !ON.load(Ordering::SeqCst) {
        return call();
    }
    let mut tap = tap();
    let Some(recording) = tap.as_mut() else { return call() };
    let Some(Target::File(name)) = recording.of_fd(fd) else { return call() };
    recording.meet(&name);
    let done = call();
    if let Ok(done) = usize::try_from(done) {
        recording.events.push(event(name, done));
    }
    done
}

/// A write; `at` tells where it goes.
pub fn on_write(fd: i32, at: impl FnOnce() -> i64, bytes: &[u8], call: impl FnOnce() -> isize) -> isize {
    if !ON.load(Ordering::SeqCst) {
        return call();
    }
    let at = usize::try_from(at()).unwrap_or_default();
    through(fd, call, |name, done| Event::Write { name, at, bytes: bytes[..done].to_vec() })
}

/// A file is cut or made longer.
pub fn on_truncate(fd: i32, len: i64, call: impl FnOnce() -> isize) -> isize {
    let len = usize::try_from(len).unwrap_or_default();
    through(fd, call, |name, _done| Event::Truncate { name, len })
}

/// A sync; whether it was taken down, and must not be passed on.
pub fn on_sync(fd: i32) -> bool {
    if !ON.load(Ordering::SeqCst) {
        return false;
    }
    let mut tap = tap();
    let Some(recording) = tap.as_mut() else { return false };
    match recording.of_fd(fd) {
        None => return false,
        Some(Target::Folder) => recording.events.push(Event::SyncFolder),
        Some(Target::File(name)) => {
            recording.meet(&name);
            if is_copied(&name) {
                recording.take_whole(&name);
            }
            recording.events.push(Event::Sync { name });
        }
    }
    true
}

/// A name is taken away.
pub fn on_unlink(path: &[u8], call: impl FnOnce() -> i32) -> i32 {
    if !ON.load(Ordering::SeqCst) {
        return call();
    }
    let mut tap = tap();
    let done = call();
    if let Some(recording) = tap.as_mut().filter(|_| done == 0)
        && let Some(Target::File(name)) = recording.of_path(Path::new(OsStr::from_bytes(path)))
    {
        recording.known.remove(&name);
        recording.events.push(Event::Unlink { name });
    }
    done
}

/// A name is changed.
pub fn on_rename(from: &[u8], to: &[u8], call: impl FnOnce() -> i32) -> i32 {
    if !ON.load(Ordering::SeqCst) {
        return call();
    }
    let mut tap = tap();
    let mut names = None;
    if let Some(recording) = tap.as_mut()
        && let (Some(Target::File(from)), Some(Target::File(to))) = (
            recording.of_path(Path::new(OsStr::from_bytes(from))),
            recording.of_path(Path::new(OsStr::from_bytes(to))),
        )
    {
        recording.meet(&from);
        if is_copied(&from) {
            recording.take_whole(&from);
        }
        names = Some((from, to));
    }
    let done = call();
    if let (0, Some((from, to)), Some(recording)) = (done, names, tap.as_mut()) {
        recording.known.remove(&from);
        recording.known.insert(to.clone());
        recording.events.push(Event::Rename { from, to });
    }
    done
}
