//! Copies of a database: those that a backup makes, those that `cp` makes of a busy one, and those that rotted.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;
use synckit_store::{DatabaseInspection, LogDamage, OpenedBy, SqliteOptions, SqliteStore, Store, StoreError};

use crate::fixture::{append, append_all, batch, read_all, ready_stream, start};

fn of_a_server() -> SqliteOptions {
    SqliteOptions {
        opened_by: OpenedBy::Server,
        ..SqliteOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_while_writes_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = Arc::new(SqliteStore::open(&path, of_a_server()).unwrap());
    let stream = ready_stream(store.as_ref(), 1).await;
    let first = append_all(store.as_ref(), stream, start(stream), 1, 1, &[5, 7]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (store, stop, mut parent) = (Arc::clone(&store), Arc::clone(&stop), crate::fixture::end_of(&first[1]));
        tokio::spawn(async move {
            for n in 100.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                parent = append(store.as_ref(), &batch(stream, parent, 1, n, 3, 20_000)).await;
            }
        })
    };
    for n in 0..5 {
        let target = directory.path().join(format!("copy {n}"));
        let source = path.clone();
        let copy = {
            let target = target.clone();
            tokio::task::spawn_blocking(move || DatabaseInspection::of_copy(&source, &target))
        };
        let copy = copy.await.unwrap().unwrap();
        let logs = copy.survey_logs().unwrap();
        assert!(logs.batches >= 2 && logs.damaged == 0, "{logs:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // One file, which a server takes for one that was closed in order.
        drop(copy);
        let copied = SqliteStore::open(&target, of_a_server()).unwrap();
        assert!(read_all(&copied, stream, 1).await.len() >= 2);
        copied.close().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
}

#[test]
fn a_copy_of_nothing_or_of_damage_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("store.db");
    let target = directory.path().join("copy.db");
    let copy = || DatabaseInspection::of_copy(&source, &target).map(|_| ());
    assert!(matches!(copy(), Err(StoreError::Database(_))));
    // As a killed backup of SQLite's shell leaves it: whole, and without a table.
    Connection::open(&source)
        .unwrap()
        .execute_batch("PRAGMA user_version = 0; VACUUM")
        .unwrap();
    let refused = copy();
    assert!(
        matches!(refused, Err(StoreError::OtherSchema { found: None, .. })),
        "{refused:?}"
    );
    fs::remove_file(&source).unwrap();
    drop(SqliteStore::open(&source, SqliteOptions::default()).unwrap());
    copy().unwrap();
    fs::remove_file(&target).unwrap();
    let mut bytes = fs::read(&source).unwrap();
    let from = bytes.len() - 3 * 4096;
    bytes[from..].fill(0x5a);
    fs::write(&source, bytes).unwrap();
    let refused = copy();
    assert!(
        matches!(refused, Err(StoreError::Database(_) | StoreError::Damaged(_))),
        "{refused:?}"
    );
    assert!(!target.exists(), "a copy that is none was left behind");
}

/// The salts of a write-ahead log change when it starts over (<https://sqlite.org/fileformat2.html#walformat>).
fn salts(wal: &Path) -> Vec<u8> {
    fs::read(wal).unwrap()[16..24].to_vec()
}

#[tokio::test]
async fn a_torn_copy_of_an_open_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path, of_a_server()).unwrap();
    let stream = ready_stream(&store, 1).await;
    let mut parent = append(&store, &batch(stream, start(stream), 1, 1, 1, 1000)).await;
    let copy = |name: &str| {
        let to = directory.path().join(name);
        fs::create_dir(&to).unwrap();
        to.join("store.db")
    };
    let wal = directory.path().join("store.db-wal");
    let whole = copy("whole");
    fs::copy(&path, &whole).unwrap();
    fs::copy(&wal, whole.with_file_name("store.db-wal")).unwrap();
    let torn = copy("torn");
    fs::copy(&path, &torn).unwrap();
    let before = salts(&wal);
    let mut n = 1;
    while salts(&wal) == before {
        n += 1;
        assert!(n < 500, "the write-ahead log never starts over");
        parent = append(&store, &batch(stream, parent, 1, n, 500, 1_000_000)).await;
    }
    append(&store, &batch(stream, parent, 1, n + 1, 1, 1000)).await;
    fs::copy(&wal, torn.with_file_name("store.db-wal")).unwrap();
    drop(store);

    let store = SqliteStore::open(&whole, of_a_server()).unwrap();
    assert_eq!(read_all(&store, stream, 1).await.len(), 1);
    drop(store);
    // A command would go on with it: this is how it went for a server, too.
    drop(SqliteStore::open(&torn, SqliteOptions::default()).unwrap());
    for _ in 0..2 {
        let refused = SqliteStore::open(&torn, of_a_server());
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
    }
    // The one that was closed in order is as good when it is copied.
    let closed = copy("closed");
    fs::copy(&path, &closed).unwrap();
    drop(SqliteStore::open(&closed, of_a_server()).unwrap());
}

#[tokio::test]
async fn every_kind_of_rot_in_a_log_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let stream = ready_stream(&store, 1).await;
    // Small ones stand in their rows, large ones apart.
    let mut parent = start(stream);
    for n in 0..30 {
        let size = if n % 3 == 0 { 100 } else { 400_000 };
        parent = append(&store, &batch(stream, parent, 1, n, 2, size)).await;
    }
    drop(store);
    let survey = |sql: &str| {
        let rotten = directory.path().join("rotten.db");
        fs::copy(&path, &rotten).unwrap();
        let connection = Connection::open(&rotten).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        let logs = DatabaseInspection::open(&rotten).unwrap().survey_logs().unwrap();
        let first = logs.examples.first().map(|found| (found.seq, found.damage));
        (logs.batches, logs.damaged, first)
    };
    assert_eq!(survey(""), (30, 0, None));
    let small = "UPDATE batches SET sealed = CAST(x'ff' || substr(sealed, 2) AS BLOB) WHERE last_seq = 8";
    assert_eq!(survey(small), (30, 1, Some((8, LogDamage::OtherBytes))));
    let large =
        "UPDATE sealed_batches SET sealed = CAST(substr(sealed, 1, 300000) || x'00' || substr(sealed, 300002) AS BLOB)
                 WHERE sealed_key = (SELECT sealed_key FROM batches WHERE last_seq = 10)";
    assert_eq!(survey(large), (30, 1, Some((10, LogDamage::OtherBytes))));
    let shorter = "UPDATE sealed_batches SET sealed = x'00' WHERE sealed_key = (SELECT max(sealed_key) FROM batches)";
    assert_eq!(survey(shorter), (30, 1, Some((60, LogDamage::OtherBytes))));
    let gone = "DELETE FROM sealed_batches WHERE sealed_key = (SELECT sealed_key FROM batches WHERE last_seq = 12)";
    assert_eq!(survey(gone), (30, 1, Some((12, LogDamage::BytesMissing))));
    let gap = "DELETE FROM batches WHERE last_seq = 20";
    assert_eq!(survey(gap), (29, 1, Some((22, LogDamage::BrokenChain))));
    let head = "UPDATE batches SET head = zeroblob(32) WHERE last_seq = 30";
    assert_eq!(survey(head), (30, 2, Some((30, LogDamage::BrokenChain))));
    let older_row = "UPDATE streams SET seq = 58, head = (SELECT head FROM batches WHERE last_seq = 58)";
    assert_eq!(survey(older_row), (29, 1, Some((58, LogDamage::OtherEnd))));
    let cut = "UPDATE streams SET base_seq = 10, base_head = (SELECT head FROM batches WHERE last_seq = 10)";
    assert_eq!(survey(cut), (25, 1, Some((10, LogDamage::Snapshot))));
    let other_end = "UPDATE streams SET seq = 62";
    assert_eq!(survey(other_end), (30, 1, Some((60, LogDamage::OtherEnd))));
    let snapshot = "INSERT INTO snapshots (stream_key, snapshot_id, state, touched_at, size_bytes, key_id, seq, head, part_count, manifest, owner)
                    SELECT 1, zeroblob(16), 'kept', 0, 3, zeroblob(16), 10, head, 0, x'010203', zeroblob(32) FROM batches WHERE last_seq = 10;";
    assert_eq!(survey(snapshot), (30, 0, None));
    let part = format!("{snapshot} UPDATE snapshots SET part_count = 1");
    assert_eq!(survey(&part), (30, 1, Some((10, LogDamage::Snapshot))));
}
