use super::state_rows::MIGRATIONS;
use super::*;
use crate::core::Record;
use rusqlite::Connection;
use shoal_proto::document::Document;
use shoal_proto::id::{Incarnation, Replica, Side};
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::{Log, Peer, Record as Link};
use shoal_proto::time::{Hlc, WallMs};
use std::fs;
use std::path::Path;

const LIFE: Incarnation = Incarnation(0xfedc_ba98_7654_3210);

/// A device's side of the link, writing as the core does.
struct Side1 {
    peer: Peer,
    document: Document,
    ops: Vec<Op>,
}

impl Side1 {
    fn new() -> (Self, Vec<Record>) {
        let replica = Replica { side: Side::Device, incarnation: LIFE };
        let side = Self {
            peer: Peer::new(Log::new(replica), None, std::collections::BTreeSet::new()),
            document: Document::default(),
            ops: Vec::new(),
        };
        (side, vec![Record::Link(Link::Reborn(LIFE))])
    }

    fn write(&mut self, kind: u16, key: &str, value: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        let wall = WallMs(1_700_000_000_000);
        self.peer.write(&mut self.document, wall, Kind(kind), key.into(), value.into(), &mut records);
        for record in &records {
            if let Link::Append(op) = record {
                self.ops.push(op.clone());
            }
        }
        records.into_iter().map(Record::Link).collect()
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn memory(key: &str, value: &[u8]) -> Record {
    Record::Memory { key: key.into(), value: value.into() }
}

#[tokio::test]
async fn everything_committed_is_found_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (state, loaded) = StateDb::open(dir.path()).unwrap();
    assert_eq!((loaded.boot, loaded.incarnation, loaded.recovered), (1, None, None));
    let (mut side, born) = Side1::new();
    state.commit(born).await.unwrap();
    for n in 0..20u8 {
        state.commit(side.write(0x0101 + u16::from(n % 3), &format!("k{n}"), &[n; 40])).await.unwrap();
    }
    let counted = side.write(0x0501, "predictions", &7u64.to_be_bytes());
    state.commit(counted).await.unwrap();
    let half = side.ops[..10].to_vec();
    let (seq, chain) = Log::restore(side.peer.log.replica, Hlc(0), (0, Chain::default()), half).last();
    let cursor = Cursor { incarnation: Incarnation(5), seq: 9, chain: Chain([3; 8]) };
    state
        .commit(vec![
            Record::Link(Link::Forget(seq, chain)),
            Record::Link(Link::Cursor(cursor)),
            Record::Link(Link::Seal(Incarnation(4))),
            memory("agent", b"one"),
            memory("agent", b"two"),
        ])
        .await
        .unwrap();

    // No close and no checkpoint: the files as a kill leaves them.
    let after = copy(dir.path());
    let (_state, loaded) = StateDb::open(after.path()).unwrap();
    assert_eq!((loaded.boot, loaded.incarnation, loaded.recovered.as_deref()), (2, Some(LIFE), None));
    assert_eq!(loaded.base, (seq, chain));
    assert_eq!(loaded.clock, side.peer.log.clock());
    assert_eq!(loaded.cursor, Some(cursor));
    assert_eq!(loaded.sealed, [Incarnation(4)].into());
    assert_eq!(loaded.memory["agent"], b"two");
    let mut document = Document::default();
    for entry in loaded.entries {
        document.join(entry);
    }
    assert_eq!(document.to_bytes(), side.document.to_bytes());
    assert_eq!(loaded.ops, side.ops[10..]);
    assert_eq!(loaded.ops.len(), 11);
}

#[tokio::test]
async fn a_refused_commit_leaves_nothing_and_takes_no_other_down() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = StateDb::open(dir.path()).unwrap();
    let (mut side, born) = Side1::new();
    state.commit(born).await.unwrap();
    let good = side.write(0x0301, "a", b"1");
    state.commit(good.clone()).await.unwrap();
    // The same sequence number twice is our own bug; the memory beside it must not be written.
    let mut bad = vec![memory("half", b"x")];
    bad.extend(good);
    let other = side.write(0x0301, "b", b"2");
    let (first, second) = tokio::join!(state.commit(bad), state.commit(other));
    assert!(matches!(first, Err(StoreError::Sqlite { .. })), "{first:?}");
    second.unwrap();
    drop(state);
    let (_state, loaded) = StateDb::open(dir.path()).unwrap();
    assert!(loaded.memory.is_empty());
    assert_eq!(loaded.ops.iter().map(|op| op.seq).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn commits_keep_their_order_and_close_drains() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = StateDb::open(dir.path()).unwrap();
    for n in 0..300u32 {
        state.commit(vec![memory("n", &n.to_be_bytes())]).await.unwrap();
    }
    // Handed over and not awaited: dropping the database still writes it.
    let mut last = Box::pin(state.commit(vec![memory("last", b"here")]));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(last.as_mut().poll(cx).is_pending())).await);
    drop(last);
    drop(state);
    let (_state, loaded) = StateDb::open(dir.path()).unwrap();
    assert_eq!(loaded.memory["n"], 299u32.to_be_bytes());
    assert_eq!(loaded.memory["last"], b"here");
}

#[tokio::test]
async fn a_new_life_empties_the_log_and_keeps_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = StateDb::open(dir.path()).unwrap();
    let (mut side, born) = Side1::new();
    state.commit(born).await.unwrap();
    state.commit(side.write(0x0301, "a", b"1")).await.unwrap();
    state.commit(vec![Record::Link(Link::Reborn(Incarnation(77)))]).await.unwrap();
    drop(state);
    let (_state, loaded) = StateDb::open(dir.path()).unwrap();
    assert_eq!(loaded.incarnation, Some(Incarnation(77)));
    assert_eq!((loaded.base, loaded.ops.len()), ((0, Chain::default()), 0));
    assert_eq!(loaded.entries.len(), 1);
}

fn scribble(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[100..middle] {
        *byte ^= 0x5a;
    }
    crate::file::write_atomic(path, &bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_newest_snapshot_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = StateDb::open(dir.path()).unwrap();
    let (_, born) = Side1::new();
    state.commit(born).await.unwrap();
    for n in 1..=3u8 {
        state.commit(vec![memory("n", &[n])]).await.unwrap();
        state.snapshot().await.unwrap();
    }
    state.commit(vec![memory("n", &[4])]).await.unwrap();
    drop(state);
    assert!(!dir.path().join("state.db.snapshot-3").exists());

    scribble(&dir.path().join("state.db"));
    let (state, loaded) = StateDb::open(dir.path()).unwrap();
    let what = loaded.recovered.unwrap();
    assert!(what.contains("snapshot 1"), "{what}");
    assert_eq!(loaded.memory["n"], [3]);
    assert_eq!(loaded.incarnation, None, "a restored log is of a past life");
    assert!(dir.path().join("state.db.damaged-1").exists());
    drop(state);

    for name in ["state.db", "state.db.snapshot-1"] {
        scribble(&dir.path().join(name));
    }
    let (state, loaded) = StateDb::open(dir.path()).unwrap();
    assert!(loaded.recovered.unwrap().contains("snapshot 2"));
    assert_eq!(loaded.memory["n"], [2]);
    drop(state);

    // An empty file under a snapshot's name is none.
    scribble(&dir.path().join("state.db"));
    fs::File::create(dir.path().join("state.db.snapshot-1")).unwrap();
    let (state, loaded) = StateDb::open(dir.path()).unwrap();
    assert!(loaded.recovered.unwrap().contains("snapshot 2"));
    assert_eq!(loaded.memory["n"], [2]);
    drop(state);

    for name in ["state.db", "state.db.snapshot-1", "state.db.snapshot-2"] {
        crate::file::write_atomic(&dir.path().join(name), b"not a database at all, but long enough").unwrap();
    }
    let (_state, loaded) = StateDb::open(dir.path()).unwrap();
    assert!(loaded.recovered.unwrap().contains("begins empty"));
    assert_eq!((loaded.boot, loaded.memory.len()), (1, 0));
}

#[tokio::test]
async fn a_recovery_that_was_cut_short_goes_on_at_the_next_boot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (state, _) = StateDb::open(dir.path()).unwrap();
    let (_, born) = Side1::new();
    state.commit(born).await.unwrap();
    state.commit(vec![memory("n", &[1])]).await.unwrap();
    state.snapshot().await.unwrap();
    drop(state);
    // The damaged file was set aside, its log was not, and of the restored one there is a part.
    fs::rename(&path, dir.path().join("state.db.damaged-1")).unwrap();
    fs::copy(dir.path().join("state.db.damaged-1"), dir.path().join("state.db-wal")).unwrap();
    crate::file::write_atomic(&dir.path().join("state.db.restored"), b"half").unwrap();
    let (state, loaded) = StateDb::open(dir.path()).unwrap();
    assert!(loaded.recovered.as_deref().unwrap().contains("snapshot 1"), "{:?}", loaded.recovered);
    assert_eq!((loaded.incarnation, &loaded.memory["n"][..]), (None, &[1][..]));
    drop(state);

    // The restored file is there, and nobody had the time to open it.
    fs::remove_file(&path).unwrap();
    recover::restore(&path, 1, state_rows::end_life).unwrap();
    let (_state, loaded) = StateDb::open(dir.path()).unwrap();
    assert_eq!((loaded.incarnation, loaded.recovered), (None, None), "a life that is over must not go on");
}

#[tokio::test]
async fn rows_that_were_never_together_are_damage() {
    let stale = [
        "UPDATE memory SET value = x'00' WHERE key = 'n'",
        "DELETE FROM entry",
        "UPDATE op SET value = x'00' WHERE seq = 1",
        "DELETE FROM sealed",
        "UPDATE cursor SET seq = 8",
        "UPDATE self SET sum = sum + 1",
    ];
    for change in stale {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = StateDb::open(dir.path()).unwrap();
        let (mut side, born) = Side1::new();
        state.commit(born).await.unwrap();
        let cursor = Cursor { incarnation: Incarnation(5), seq: 9, chain: Chain([3; 8]) };
        let link = [Link::Cursor(cursor), Link::Seal(Incarnation(4))].map(Record::Link);
        state.commit(link.into_iter().chain([memory("n", &[1])]).collect()).await.unwrap();
        state.commit(side.write(0x0301, "a", b"1")).await.unwrap();
        state.snapshot().await.unwrap();
        drop(state);
        let other = Connection::open(dir.path().join("state.db")).unwrap();
        assert!(other.execute(change, []).unwrap() > 0, "{change}");
        drop(other);
        let (_state, loaded) = StateDb::open(dir.path()).unwrap();
        let what = loaded.recovered.unwrap_or_default();
        assert!(what.contains("written together"), "{change}: {what}");
        assert_eq!(loaded.memory["n"], [1]);
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = StateDb::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 2, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap().len(), before.len());
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, _) = StateDb::open(dir.path()).unwrap();
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = other.query_row("SELECT boot FROM self", [], |_row| Ok(())).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
}

fn schema_of(connection: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn every_version_migrates_to_what_a_fresh_file_has() {
    for migrations in [MIGRATIONS, samples_rows::MIGRATIONS] {
        let dir = tempfile::tempdir().unwrap();
        let fresh = schema::open(&dir.path().join("fresh"), false, migrations).unwrap();
        for version in 0..=migrations.len() {
            let path = dir.path().join(format!("from-{version}"));
            drop(schema::open(&path, false, &migrations[..version]).unwrap());
            let migrated = schema::open(&path, false, migrations).unwrap();
            assert_eq!(schema_of(&migrated), schema_of(&fresh), "from {version}");
        }
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_schema() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let steps =
        ["CREATE TABLE a (x INTEGER) STRICT", "CREATE TABLE b (x INTEGER) STRICT; CREATE TABLE a (y)"];
    drop(schema::open(&path, false, &steps[..1]).unwrap());
    schema::open(&path, false, &steps).unwrap_err();
    let connection = schema::open(&path, false, &steps[..1]).unwrap();
    assert_eq!(schema_of(&connection).len(), 1);
}
