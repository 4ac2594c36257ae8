//! Moving a database between the engines.

use std::path::Path;

use synckit_protocol::wire::export::ExportLine;
use synckit_store::{
    AcceptNewSeed, Append, DatabaseInspection, LogDamage, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore,
    Store, StoreError, TransferEnd, TransferError, transfer_database,
};
use tempfile::TempDir;

use crate::{
    database::{Database, Fresh},
    fixture::{append, batch, create_app, new_pending, ready_stream, start, stream_of, user_id},
    whole_account::create_whole_account,
};

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

async fn exported(store: &dyn Store, n: u64) -> Vec<ExportLine> {
    store.export(user_id(n), None, usize::MAX).await.unwrap().unwrap().lines
}

/// A file with two accounts, a deleted one, and one that is pending.
async fn filled(path: &Path) -> Vec<ExportLine> {
    let store = open(path);
    create_app(&store, 1).await;
    for n in 1..=3 {
        create_whole_account(&store, 1, n).await;
    }
    store.delete_account(user_id(3)).await.unwrap().unwrap();
    store.put_pending_account(new_pending(9)).await.unwrap();
    let lines = exported(&store, 1).await;
    store.close().await.unwrap();
    lines
}

#[tokio::test]
async fn a_transfer_there_and_back_keeps_all_rows() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("first.db"), directory.path().join("second.db"));
    let lines = filled(&first).await;
    let database = Database::create().await;
    let url = database.url();
    let mut tables = Vec::new();
    let there = transfer_database(TransferEnd::File(&first), TransferEnd::Postgres(&url), |table, _| {
        tables.push(table.to_owned());
    })
    .await
    .unwrap();
    assert_eq!((there.rows, there.batches > 0), (there.copied, true));
    assert!(tables.contains(&"snapshot_parts".to_owned()), "{tables:?}");

    // The store goes on with the copy.
    let store = database.store().await;
    assert_eq!(exported(&store, 1).await, lines);
    let stream = stream_of(1, 1);
    let latest = store.status(stream).await.unwrap().latest;
    let pushed = store.append_batch(batch(stream, latest, 1001, 77, 1, 5000)).await;
    assert!(matches!(pushed, Ok(Append::Stored { .. })), "{pushed:?}");
    create_whole_account(&store, 1, 4).await;
    let lines = exported(&store, 1).await;
    let in_use = transfer_database(TransferEnd::Postgres(&url), TransferEnd::File(&second), |_, _| {}).await;
    assert!(matches!(in_use, Err(TransferError::InUse(_))), "{in_use:?}");
    store.close().await.unwrap();

    let back = transfer_database(TransferEnd::Postgres(&url), TransferEnd::File(&second), |_, _| {})
        .await
        .unwrap();
    assert!(back.rows > there.rows);
    let survey = DatabaseInspection::open(&second).unwrap().survey_logs().unwrap();
    assert_eq!((survey.damaged, survey.batches), (0, back.batches));
    let store = open(&second);
    assert_eq!(exported(&store, 1).await, lines);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_source_that_changes_is_noticed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.db");
    filled(&path).await;
    let database = Database::create().await;
    let url = database.url();
    let writer = rusqlite::Connection::open(&path).unwrap();
    let changed = transfer_database(TransferEnd::File(&path), TransferEnd::Postgres(&url), |table, _| {
        if table == "accounts" {
            writer.execute("UPDATE apps SET name = 'another'", []).unwrap();
        }
    })
    .await;
    let is_noticed = matches!(&changed, Err(TransferError::Different { table }) if table == "apps");
    assert!(is_noticed, "{changed:?}");
    // Nobody takes the copy for a database.
    let opened = PostgresStore::open(&url, PostgresOptions::default()).await;
    assert!(matches!(opened, Err(StoreError::Unfinished)), "{opened:?}");
}

#[tokio::test]
async fn a_damaged_log_is_not_moved() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.db");
    filled(&path).await;
    let damage = "UPDATE batches SET sealed = zeroblob(length(sealed)) WHERE sealed IS NOT NULL";
    assert!(rusqlite::Connection::open(&path).unwrap().execute(damage, []).unwrap() > 0);
    let database = Database::create().await;
    let url = database.url();
    let moved = transfer_database(TransferEnd::File(&path), TransferEnd::Postgres(&url), |_, _| {}).await;
    assert!(
        matches!(
            moved,
            Err(TransferError::Damaged {
                damage: LogDamage::OtherBytes,
                ..
            })
        ),
        "{moved:?}"
    );
}

#[tokio::test]
async fn a_target_with_data_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.db");
    let source = open(&path);
    let stream = ready_stream(&source, 1).await;
    append(&source, &batch(stream, start(stream), 1, 1, 1, 100)).await;
    source.close().await.unwrap();
    let fresh = Fresh::open().await;
    let url = fresh.database.url();
    fresh.store().close().await.unwrap();
    for (from, to) in [
        (TransferEnd::File(&path), TransferEnd::Postgres(&url)),
        (TransferEnd::Postgres(&url), TransferEnd::File(&path)),
    ] {
        let refused = transfer_database(from, to, |_, _| {}).await;
        assert!(matches!(refused, Err(TransferError::NotEmpty)), "{refused:?}");
    }
    let none = directory.path().join("none.db");
    let refused = transfer_database(TransferEnd::File(&none), TransferEnd::Postgres(&url), |_, _| {}).await;
    assert!(matches!(refused, Err(TransferError::NoSource)), "{refused:?}");
}

/// A file with one account, and a transfer of it into a database that breaks off after the first rows.
async fn interrupted(path: &Path, seed: u8) -> (Database, synckit_store::PostgresUrl) {
    let store = open(path);
    store.claim_seed([seed; 16], AcceptNewSeed::No).await.unwrap();
    create_app(&store, 1).await;
    create_whole_account(&store, 1, 1).await;
    store.close().await.unwrap();
    let damage = "UPDATE batches SET sealed = zeroblob(length(sealed)) WHERE sealed IS NOT NULL";
    let rotten = path.with_extension("rotten");
    std::fs::copy(path, &rotten).unwrap();
    rusqlite::Connection::open(&rotten)
        .unwrap()
        .execute(damage, [])
        .unwrap();
    let database = Database::create().await;
    let url = database.url();
    let broken_off = transfer_database(TransferEnd::File(&rotten), TransferEnd::Postgres(&url), |_, _| {}).await;
    assert!(
        matches!(broken_off, Err(TransferError::Damaged { .. })),
        "{broken_off:?}"
    );
    (database, url)
}

#[tokio::test]
async fn interrupted_transfer_takes_no_other_source() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("first.db"), directory.path().join("second.db"));
    let (database, url) = interrupted(&first, 1).await;
    let (_other, _) = interrupted(&second, 2).await;
    let rows = async || {
        let client = database.client().await;
        let counted = client.query_one("SELECT count(*) FROM accounts", &[]).await.unwrap();
        counted.get::<_, i64>(0)
    };
    let before = rows().await;
    let mixed = transfer_database(TransferEnd::File(&second), TransferEnd::Postgres(&url), |_, _| {}).await;
    assert!(matches!(mixed, Err(TransferError::OtherSource)), "{mixed:?}");
    assert_eq!(rows().await, before);
}

#[tokio::test]
async fn two_transfers_into_one_database_are_refused() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("first.db"), directory.path().join("second.db"));
    filled(&first).await;
    std::fs::copy(&first, &second).unwrap();
    let database = Database::create().await;
    let url = database.url();
    let into = async |path| transfer_database(TransferEnd::File(path), TransferEnd::Postgres(&url), |_, _| {}).await;
    let both = tokio::join!(into(&first), into(&second));
    let ended = [both.0, both.1];
    let in_use = |ended: &Result<_, _>| matches!(ended, Err(TransferError::InUse(_)));
    assert!(ended.iter().any(Result::is_ok) && ended.iter().any(in_use), "{ended:?}");
}
