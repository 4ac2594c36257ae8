//! The conformance suite on SQLite, and what only SQLite has: a file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;
use synckit_protocol::Cursor;
use synckit_store::{Append, Retention, SqliteOptions, SqliteStore, Store, StoreError};
use tempfile::TempDir;

use crate::fixture::{
    NO_BYTE_LIMIT, append, append_all, batch, create_stream, end_of, page, read_all, ready_stream, start, stored,
};

/// A store in a directory of its own.
pub(crate) struct SqliteHarness {
    directory: TempDir,
    store: SqliteStore,
}

impl SqliteHarness {
    pub(crate) async fn open() -> Self {
        Self::with(SqliteOptions::default())
    }

    pub(crate) fn with(options: SqliteOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("store.db"), options).unwrap();
        Self { directory, store }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }

    pub(crate) fn sqlite(&self) -> &SqliteStore {
        &self.store
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }
}

synckit_store::conformance_suite!(crate::sqlite::SqliteHarness);

fn files_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let first = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let stream = ready_stream(&first, 1).await;
    let mut batches = append_all(&first, stream, start(stream), 1, 1, &[1, 500, 20]).await;
    let devices = first.devices(stream).await.unwrap();
    let status = first.status(stream).await.unwrap();
    drop(first);

    let second = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    assert_eq!(second.status(stream).await.unwrap(), status);
    assert_eq!(second.devices(stream).await.unwrap(), devices);
    assert!(matches!(
        second.append_batch(batches[0].clone()).await.unwrap(),
        Append::Stored { repeated: true, .. }
    ));
    batches.extend(append_all(&second, stream, end_of(&batches[2]), 1, 50, &[3]).await);
    let expected: Vec<_> = batches.iter().map(stored).collect();
    assert_eq!(read_all(&second, stream, 1).await, expected);
}

#[tokio::test]
async fn an_orderly_stop_leaves_one_file() {
    let harness = SqliteHarness::open().await;
    let stream = ready_stream(harness.store(), 1).await;
    append_all(harness.store(), stream, start(stream), 1, 1, &[1, 2, 3]).await;
    let directory = harness.directory.path();
    assert_eq!(files_in(directory), ["store.db", "store.db-shm", "store.db-wal"]);
    harness.store().close().await.unwrap();
    assert_eq!(files_in(directory), ["store.db"]);
}

#[cfg(unix)]
#[tokio::test]
async fn every_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let harness = SqliteHarness::open().await;
    create_stream(harness.store(), 1).await;
    for name in files_in(harness.directory.path()) {
        let mode = harness
            .directory
            .path()
            .join(&name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(SqliteStore::open(&path, SqliteOptions::default()).unwrap());
    let newer = "INSERT INTO refinery_schema_history VALUES (9000, 'later', '2030-01-01T00:00:00Z', '1')";
    Connection::open(&path).unwrap().execute(newer, []).unwrap();
    let before = std::fs::read(&path).unwrap();
    match SqliteStore::open(&path, SqliteOptions::default()) {
        Err(StoreError::NewerSchema { found: 9000, known }) => assert!(known < 9000),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_opened_at_once_gets_the_newest_schema() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        std::thread::scope(|scope| {
            let open = || SqliteStore::open(&path, SqliteOptions::default());
            let opened: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            for store in opened {
                store.join().unwrap().unwrap();
            }
        });
        let versions = SqliteStore::schema(&path).unwrap();
        assert_eq!(versions.found, Some(versions.known));
    }
}

#[test]
fn another_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    std::fs::write(&path, b"this is a letter and not a database. ".repeat(100)).unwrap();
    for path in [path.as_path(), directory.path(), Path::new("/nowhere/at/all/store.db")] {
        let result = SqliteStore::open(path, SqliteOptions::default());
        assert!(
            matches!(result, Err(StoreError::Database(_))),
            "{}: {result:?}",
            path.display()
        );
    }
}

#[tokio::test]
async fn two_processes_use_one_file() {
    let first = SqliteHarness::open().await;
    let second = SqliteStore::open(&first.path(), SqliteOptions::default()).unwrap();
    let stream = ready_stream(first.store(), 1).await;
    let mut parent = start(stream);
    for n in 0..20 {
        let store = if n % 2 == 0 { first.store() } else { &second };
        parent = append(store, &batch(stream, parent, 1, n, 5, 1000)).await;
    }
    assert_eq!(
        read_all(&second, stream, 1).await,
        read_all(first.store(), stream, 1).await
    );
}

#[tokio::test]
async fn a_full_store_refuses_what_does_not_fit_and_goes_on() {
    let options = SqliteOptions {
        max_bytes: Some(2 * 1024 * 1024),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let first = batch(stream, start(stream), 1, 1, 1, 1_000_000);
    let middle = append(store, &first).await;
    let too_large = batch(stream, middle, 1, 2, 1, 2_000_000);
    for _ in 0..2 {
        assert!(matches!(
            store.append_batch(too_large.clone()).await,
            Err(StoreError::Full(_))
        ));
    }
    assert_eq!(store.status(stream).await.unwrap().latest, middle);
    let fits = batch(stream, middle, 1, 2, 1, 1000);
    append(store, &fits).await;
    assert_eq!(read_all(store, stream, 1).await, [stored(&first), stored(&fits)]);
}

#[tokio::test]
async fn a_stream_ends_before_its_sequence_overflows() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let near_the_end = i64::MAX - 10;
    Connection::open(harness.path())
        .unwrap()
        .execute("UPDATE streams SET seq = ?1", [near_the_end])
        .unwrap();
    let parent = store.status(stream).await.unwrap().latest;
    assert_eq!(parent.seq, u64::try_from(near_the_end).unwrap());
    let too_long = batch(stream, parent, 1, 1, 11, 9);
    assert!(matches!(
        store.append_batch(too_long).await,
        Err(StoreError::InvalidBatch)
    ));
    append(store, &batch(stream, parent, 1, 2, 10, 9)).await;
}

#[tokio::test]
async fn the_write_ahead_log_stays_bounded() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    let wal = harness.directory.path().join("store.db-wal");
    let mut longest = 0;
    for n in 0..40 {
        parent = append(store, &batch(stream, parent, 1, n, 500, 4_000_000)).await;
        longest = longest.max(wal.metadata().unwrap().len());
        let (found, ..) = page(store, stream, 1, Cursor::START, NO_BYTE_LIMIT).await;
        assert_eq!(found.len(), 1);
    }
    // Past 96 MiB a large write waits until the log has started over.
    assert!(
        longest < 104 * 1024 * 1024,
        "the log grew to {longest} bytes while 160 MB were written"
    );
    assert!(harness.sqlite().write_statistics().checkpoints > 0);
}

/// A device that pushes as fast as it can on a parent that is no longer the head must not cost others a sync of the
/// database for every few of its attempts.
#[tokio::test]
async fn refused_pushes_cause_no_checkpoint() {
    let options = SqliteOptions {
        empty_log_after: Duration::from_secs(3_600),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let first = batch(stream, start(stream), 1, 0, 1, 100);
    append(store, &first).await;
    for n in 1..=40 {
        let late = batch(stream, start(stream), 1, n, 1, 1_000_000);
        assert!(matches!(store.append_batch(late).await.unwrap(), Append::Behind(_)));
        let repeated = store.append_batch(first.clone()).await.unwrap();
        assert!(matches!(repeated, Append::Stored { repeated: true, .. }));
    }
    assert_eq!(harness.sqlite().write_statistics().checkpoints, 0);
    let mut parent = end_of(&first);
    for n in 41..=50 {
        parent = append(store, &batch(stream, parent, 1, n, 1, 1_000_000)).await;
    }
    while harness.sqlite().write_statistics().checkpoints == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_log_at_rest_is_emptied() {
    let options = SqliteOptions {
        empty_log_after: Duration::from_millis(1),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    let wal = harness.directory.path().join("store.db-wal");
    for n in 0..3 {
        parent = append(store, &batch(stream, parent, 1, n, 5, 100_000)).await;
        while wal.metadata().unwrap().len() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(read_all(store, stream, 1).await.len(), 3);
}

#[tokio::test]
async fn a_log_that_a_long_reader_grew_shrinks() {
    const BOUND: u64 = 96 * 1024 * 1024;
    // Never at rest: the log must shrink while writes go on.
    let options = SqliteOptions {
        empty_log_after: Duration::from_secs(3600),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let wal = harness.directory.path().join("store.db-wal");
    let length = || wal.metadata().unwrap().len();
    let mut parent = append(store, &batch(stream, start(stream), 1, 1, 1, 1000)).await;

    let reader = Connection::open(harness.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM streams").unwrap();
    for n in 0..28 {
        parent = append(store, &batch(stream, parent, 1, 100 + n, 500, 4_000_000)).await;
    }
    assert!(length() > BOUND, "the reader held only {} bytes", length());
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);

    let mut writes = 0;
    while length() > BOUND {
        writes += 1;
        assert!(
            writes < 500,
            "after {writes} writes of 1 MB the log has {} bytes",
            length()
        );
        parent = append(store, &batch(stream, parent, 1, 1000 + writes, 5, 1_000_000)).await;
    }
    assert_eq!(read_all(store, stream, 1).await.len() as u64, 29 + writes);
}

#[tokio::test]
async fn a_deletion_frees_little_at_a_time() {
    const STEP_BYTES_MAX: u64 = 512 * 1024;
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    for n in 0..30 {
        // One is larger than a step: it goes alone.
        let size = if n == 10 { 900_000 } else { 200_000 };
        parent = append(store, &batch(stream, parent, 1, n, 1, size)).await;
    }
    store.delete_account(stream.user_id).await.unwrap().unwrap();
    let only_condemned = Retention {
        settled_before: 0,
        active_since: 0,
        unfinished_before: 0,
        ended_until: 0,
        now: 0,
    };
    let held = async || store.figures().await.unwrap().batch_bytes;
    let mut before = held().await;
    assert_eq!(before, 29 * 200_000 + 900_000);
    let mut largest = Vec::new();
    while store.retain(only_condemned).await.unwrap() {
        let after = held().await;
        largest.push(before - after);
        before = after;
    }
    largest.sort_unstable();
    assert_eq!((before, largest.pop()), (0, Some(900_000)));
    assert!(largest.pop() <= Some(STEP_BYTES_MAX), "{largest:?}");
}
