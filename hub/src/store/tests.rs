use super::*;
use crate::core::device::Memory;
use shoal_proto::id::{DeviceId, Incarnation};

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn schema(connection: &Connection) -> Vec<String> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_schema_is_brought_to_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh.db");
    drop(Store::open(&fresh).unwrap());
    let expected = schema(&connect(&fresh).unwrap());
    for from in 0..=migrate::STEPS.len() {
        let path = folder.path().join(format!("{from}.db"));
        let connection = connect(&path).unwrap();
        for (at, step) in migrate::STEPS.iter().take(from).enumerate() {
            connection.execute_batch(step).unwrap();
            connection.pragma_update(None, "user_version", i64::try_from(at + 1).unwrap()).unwrap();
        }
        drop(connection);
        drop(Store::open(&path).unwrap());
        drop(Store::open(&path).unwrap());
        assert_eq!(schema(&connect(&path).unwrap()), expected, "from {from}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    drop(Store::open(&path).unwrap());
    connect(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 99, .. })));
    let version: i64 =
        connect(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    crate::file::write_atomic(&path, &[7; 5000], crate::file::PUBLIC).unwrap();
    assert!(Store::open(&path).is_err());
}

#[tokio::test]
async fn a_transaction_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    let (store, saved) = Store::open(&path).unwrap();
    assert!(saved.devices.is_empty());
    let born = |name| Record::Born(device(name), Incarnation(1));
    store
        .persist(vec![born("a"), Record::Memory(device("a"), Memory { boot: 7, ..Memory::default() })])
        .await
        .unwrap();
    let twice = store.persist(vec![born("b"), Record::Generation(9), born("a")]).await;
    assert!(matches!(twice, Err(StoreError::Write { .. })));
    store.persist(vec![born("c")]).await.unwrap();
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.devices.keys().map(DeviceId::as_str).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(saved.devices[&device("a")].2.boot, 7);
    assert_eq!(saved.generation, 0, "nothing of the failed transaction is there");
}
