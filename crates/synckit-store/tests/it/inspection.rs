//! What an operator's check finds in a PostgreSQL. In a file, `copies` looks for the same damage.

use std::fs;

use rusqlite::Connection;
use synckit_protocol::{ObjectKey, SealedHash};
use synckit_store::{
    DatabaseInspection, LogDamage, ObjectExtent, OpenedBy, PostgresInspection, SqliteOptions, SqliteStore, Store as _,
    StoreError,
};

use crate::{
    database::Fresh,
    fixture::{append, batch, ready_stream, start},
};

/// What both engines lack after the same change by hand.
const LOST: [(&str, &[&str]); 5] = [
    (
        "DROP INDEX batch_ids",
        &["unique key of batches (stream_key, batch_id)"],
    ),
    (
        "DROP INDEX snapshots_by_state",
        &["index of snapshots (state, touched_at)"],
    ),
    (
        "ALTER TABLE devices DROP COLUMN last_seen_at",
        &["column devices.last_seen_at INTEGER NOT NULL"],
    ),
    (
        "DROP TABLE batch_answers",
        &[
            "checks of batch_answers: 2",
            "column batch_answers.batch_id BLOB NOT NULL",
            "column batch_answers.device_key INTEGER NOT NULL",
            "column batch_answers.entry_count INTEGER NOT NULL",
            "column batch_answers.head BLOB NOT NULL",
            "column batch_answers.last_seq INTEGER NOT NULL",
            "column batch_answers.stream_key INTEGER NOT NULL",
            "foreign key of batch_answers (stream_key) to streams",
            "primary key of batch_answers (stream_key, device_key, last_seq)",
            "unique key of batch_answers (stream_key, batch_id)",
        ],
    ),
    // A part that nobody needs is no fault.
    ("CREATE INDEX of_the_operator ON blobs (created_at)", &[]),
];

#[tokio::test]
async fn lost_parts_of_a_schema_are_named() {
    let fresh = Fresh::open().await;
    let client = fresh.database.client().await;
    let postgres = PostgresInspection::open(&fresh.database.url()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("synckit.db");
    let options = SqliteOptions {
        opened_by: OpenedBy::Server,
        ..SqliteOptions::default()
    };
    SqliteStore::open(&path, options).unwrap().close().await.unwrap();
    let file = Connection::open(&path).unwrap();
    let sqlite = || DatabaseInspection::open(&path).unwrap().missing_parts().unwrap();
    assert_eq!(postgres.missing_parts().await.unwrap(), sqlite());
    let mut lost = Vec::new();
    for (sql, parts) in LOST {
        client.batch_execute(sql).await.unwrap();
        file.execute_batch(sql).unwrap();
        lost.extend(parts.iter().map(|part| (*part).to_owned()));
        lost.sort();
        assert_eq!(postgres.missing_parts().await.unwrap(), lost, "{sql}");
        assert_eq!(sqlite(), lost, "{sql}");
    }
    let primary_key = "ALTER TABLE batches DROP CONSTRAINT batches_pkey";
    client.batch_execute(primary_key).await.unwrap();
    let missing = postgres.missing_parts().await.unwrap();
    assert!(
        missing.iter().any(|part| part.starts_with("primary key of batches (")),
        "{missing:?}"
    );
    let check = "ALTER TABLE apps DROP CONSTRAINT apps_is_deleted_check";
    client.batch_execute(check).await.unwrap();
    let missing = postgres.missing_parts().await.unwrap();
    assert!(
        missing.iter().any(|part| part.starts_with("checks of apps: ")),
        "{missing:?}"
    );
}

#[tokio::test]
async fn every_kind_of_rot_in_a_postgresql_is_found() {
    let fresh = Fresh::open().await;
    let store = fresh.store();
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    for n in 0..30 {
        let size = if n % 3 == 0 { 100 } else { 400_000 };
        parent = append(store, &batch(stream, parent, 1, n, 2, size)).await;
    }
    let client = fresh.database.client().await;
    let keep = "CREATE TABLE kept_batches AS SELECT * FROM batches; CREATE TABLE kept_streams AS SELECT * FROM streams";
    client.batch_execute(keep).await.unwrap();
    let inspection = PostgresInspection::open(&fresh.database.url()).await.unwrap();
    let survey = async |sql: &str| {
        client.batch_execute(sql).await.unwrap();
        let logs = inspection.survey_logs().await.unwrap();
        let undo = "DELETE FROM batches; INSERT INTO batches SELECT * FROM kept_batches;
             UPDATE streams SET seq = kept_streams.seq, head = kept_streams.head, base_seq = 0, base_head = NULL
             FROM kept_streams;
             DELETE FROM snapshots";
        client.batch_execute(undo).await.unwrap();
        let first = logs.examples.first().map(|found| (found.seq, found.damage));
        (logs.batches, logs.damaged, first)
    };
    assert_eq!(survey("").await, (30, 0, None));
    for (sql, expected) in [
        (
            "UPDATE batches SET sealed = '\\xff'::bytea || substr(sealed, 2) WHERE last_seq = 8",
            (30, 1, Some((8, LogDamage::OtherBytes))),
        ),
        (
            "UPDATE batches SET sealed = substr(sealed, 2) WHERE last_seq = 60",
            (30, 1, Some((60, LogDamage::OtherBytes))),
        ),
        (
            "UPDATE batches SET sealed = NULL WHERE last_seq = 12",
            (30, 1, Some((12, LogDamage::BytesMissing))),
        ),
        (
            "DELETE FROM batches WHERE last_seq = 20",
            (29, 1, Some((22, LogDamage::BrokenChain))),
        ),
        (
            "UPDATE batches SET head = decode(repeat('00', 32), 'hex') WHERE last_seq = 30",
            (30, 2, Some((30, LogDamage::BrokenChain))),
        ),
        (
            "UPDATE streams SET seq = 58, head = (SELECT head FROM batches WHERE last_seq = 58)",
            (29, 1, Some((58, LogDamage::OtherEnd))),
        ),
        (
            "UPDATE streams SET base_seq = 10, base_head = (SELECT head FROM batches WHERE last_seq = 10)",
            (25, 1, Some((10, LogDamage::Snapshot))),
        ),
        (
            "UPDATE streams SET seq = 62",
            (30, 1, Some((60, LogDamage::OtherEnd))),
        ),
        (
            "INSERT INTO snapshots (snapshot_key, stream_key, snapshot_id, state, touched_at, size_bytes, key_id, seq, head,
                 part_count, manifest, owner)
             SELECT 1, stream_key, decode(repeat('00', 16), 'hex'), 'kept', 0, 3, key_id, 10, head, 1,
                 '\\x010203'::bytea, decode(repeat('00', 32), 'hex') FROM batches WHERE last_seq = 10",
            (30, 1, Some((10, LogDamage::Snapshot))),
        ),
    ] {
        assert_eq!(survey(sql).await, expected, "{sql}");
    }
    assert_eq!(survey("").await, (30, 0, None));
    inspection.close().await;
}

#[tokio::test]
async fn objects_of_a_postgresql_are_compared() {
    let fresh = Fresh::open().await;
    ready_stream(fresh.store(), 1).await;
    let client = fresh.database.client().await;
    let directory = tempfile::tempdir().unwrap();
    let key = |byte: u8| ObjectKey::from_bytes([byte; 32]);
    let put = |byte: u8, contents: &str| {
        let name = key(byte).to_string();
        let shard = directory.path().join(&name[..2]);
        fs::create_dir_all(&shard).unwrap();
        fs::write(shard.join(name), contents).unwrap();
    };
    for (byte, stored) in [
        (0x0a_u8, "abc"),
        (0x0b, "missing"),
        (0x0c, "rotten"),
        (0xff, "a long one"),
    ] {
        let (id, size) = ([byte; 32].to_vec(), i64::try_from(stored.len()).unwrap());
        let hash = SealedHash::of(stored.as_bytes());
        let insert = "INSERT INTO blobs (stream_key, blob_id, object_key, size_bytes, sealed_hash, key_id, created_at)
             SELECT stream_key, $1, $1, $2, $3, decode(repeat('00', 16), 'hex'), 1 FROM streams";
        let hash = hash.as_bytes().to_vec();
        client.execute(insert, &[&id, &size, &hash]).await.unwrap();
    }
    put(0x0a, "abc");
    put(0x0c, "ROTTEN");
    put(0xff, "short");
    put(0xcc, "nobody knows this");
    // In the directory of another one, where no server finds it.
    fs::write(directory.path().join("0a").join(key(0x0b).to_string()), "missing").unwrap();
    let inspection = PostgresInspection::open(&fresh.database.url()).await.unwrap();
    let survey = async |extent| inspection.survey_objects(directory.path(), extent).await.unwrap();
    let sample = survey(ObjectExtent::Sample).await;
    assert_eq!(
        (sample.compared, sample.missing, sample.wrong_size, sample.rotten),
        (4, 1, 1, 0)
    );
    let all = survey(ObjectExtent::All).await;
    assert_eq!((all.known, all.missing, all.wrong_size, all.rotten), (4, 1, 1, 1));
    assert_eq!((all.orphaned, all.orphaned_bytes), (1, 17));
    assert!(all.examples.contains(&key(0x0b)), "{all:?}");
    inspection.close().await;
}

#[tokio::test]
async fn unfinished_or_headless_postgresql_is_named() {
    let fresh = Fresh::open().await;
    let client = fresh.database.client().await;
    let inspection = PostgresInspection::open(&fresh.database.url()).await.unwrap();
    assert_eq!(inspection.facts().await.unwrap().accounts, 0);
    client.batch_execute("DELETE FROM server").await.unwrap();
    let facts = inspection.facts().await;
    assert!(matches!(facts, Err(StoreError::Database(_))), "{facts:?}");
    client
        .batch_execute("CREATE TABLE unfinished_transfer (begun_at BIGINT)")
        .await
        .unwrap();
    let schema = inspection.schema().await;
    assert!(matches!(schema, Err(StoreError::Unfinished)), "{schema:?}");
    inspection.close().await;
}
