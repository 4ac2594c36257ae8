//! Exports and deletions in SQLite: nothing is forgotten, nothing is left, and no crash is in the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use rusqlite::Connection;
use synckit_store::{SqliteOptions, SqliteStore, Store};

use crate::{
    fixture::{create_app, user_id},
    whole_account::{LATER, create_whole_account, retain, retention},
};

/// Tables that have nothing of any account, or nothing that names one.
const OF_NOBODY: &[&str] = &[
    "server",
    "apps",
    "api_keys",
    "redirects",
    "teams",
    // Sums of whole apps.
    "plans",
    "usage_hours",
    "usage_months",
    "usage_flushes",
    // Object keys are random, and what they named is gone from every other table.
    "condemned_objects",
    // Hashes and random ids, for twenty minutes.
    "finished_logins",
    // Hashes of codes and what the server sealed, for twenty minutes.
    "device_grants",
    // Keyed hashes, until the allowance is whole again.
    "allowances",
    // Registrations that nobody has confirmed: of no account.
    "pending_accounts",
    "refinery_schema_history",
];

/// The columns of a table, and the field of each.
type Columns = &'static [(&'static str, &'static str)];

/// The other tables: the kind of their lines in an export, and the field for each column. A column without a field is not
/// exported, for the reason that stands there.
const EXPORTED: &[(&str, &str, Columns)] = &[
    (
        "accounts",
        "account",
        &[
            ("account_key", KEY),
            ("user_id", "user_id"),
            ("email", "email"),
            ("credential_id", SECRET),
            ("record", SECRET),
            ("seed_id", SECRET),
            ("vault", "vault"),
            ("vault_version", "vault_version"),
            ("created_at", "created_at"),
            ("email_verified_at", "email_verified_at"),
            ("delete_at", "delete_at"),
            ("is_deleted", "- 0 for every account that there is"),
        ],
    ),
    (
        "earlier_vaults",
        "earlier_vault",
        &[("account_key", KEY), ("replaced_by", "replaced_by"), ("vault", "vault")],
    ),
    (
        "familiar_places",
        "familiar_place",
        &[("account_key", KEY), ("address", SECRET), ("used_at", "used_at")],
    ),
    (
        "team_members",
        "team_member",
        &[
            ("team_key", KEY),
            ("account_key", KEY),
            ("role", "role"),
            ("joined_at", "joined_at"),
        ],
    ),
    (
        "invites",
        "invite",
        &[("code", SECRET), ("created_at", "created_at"), ("used_by", KEY)],
    ),
    (
        "mail_codes",
        "mail_code",
        &[
            ("account_key", KEY),
            ("code", SECRET),
            ("expires_at", "expires_at"),
            ("starts", "- how often a reset was started"),
        ],
    ),
    (
        "streams",
        "stream",
        &[
            ("stream_key", KEY),
            ("user_id", "- stands in the account"),
            ("app_id", "app_id"),
            ("seq", "latest"),
            ("head", "latest"),
            ("key_id", "key_id"),
            ("envelope_version", "envelope_version"),
            ("batch_bytes", "batch_bytes"),
            ("blob_bytes", "blob_bytes"),
            ("blob_count", "- the number of its blobs, which are in the export"),
            ("deleted_bytes", "- of its deleted blobs, which are in the export"),
            ("replaced_bytes", "- of files that are deleted within hours"),
            ("replaced_count", "- of files that are deleted within hours"),
            ("snapshot_bytes", "snapshot_bytes"),
            ("snapshot_seq", "- the position of the newest snapshot"),
            ("base_seq", "base"),
            ("base_head", "base"),
            ("swept_seq", "- how far retention has come"),
        ],
    ),
    (
        "devices",
        "device",
        &[
            ("device_key", KEY),
            ("stream_key", KEY),
            ("device_id", "device_id"),
            ("name", "device_name"),
            ("platform", "platform"),
            ("created_at", "created_at"),
            ("last_seen_at", "last_seen_at"),
            ("revoked_at", "revoked_at"),
            ("pulled_seq", "pulled_seq"),
            ("installation_id", "- the server recognizes the installation by it"),
        ],
    ),
    (
        "sessions",
        "session",
        &[
            ("session_key", KEY),
            ("session_id", "session_id"),
            ("stream_key", KEY),
            ("device_key", "device_id"),
            ("refresh_counter", "refresh_counter"),
            ("created_at", "created_at"),
            ("refreshed_at", "refreshed_at"),
        ],
    ),
    (
        "envelopes",
        "envelope",
        &[
            ("stream_key", KEY),
            ("version", "version"),
            ("envelope", "envelope"),
            ("key_id", "key_id"),
            ("updated_at", "updated_at"),
            ("owner", "owner"),
        ],
    ),
    (
        "batches",
        "batch",
        &[
            ("stream_key", KEY),
            ("last_seq", "first_seq"),
            ("entry_count", "count"),
            ("batch_id", "batch_id"),
            ("device_key", "device_id"),
            ("key_id", "key_id"),
            ("sealed_hash", "- the hash of `sealed`"),
            ("head", "head"),
            ("sealed_bytes", "- the length of `sealed`"),
            ("sealed_key", KEY),
            ("sealed", "sealed"),
        ],
    ),
    (
        "batch_answers",
        "batch_answer",
        &[
            ("stream_key", KEY),
            ("device_key", "device_id"),
            ("last_seq", "first_seq"),
            ("entry_count", "count"),
            ("batch_id", "batch_id"),
            ("head", "head"),
        ],
    ),
    (
        "snapshots",
        "snapshot",
        &[
            ("snapshot_key", KEY),
            ("stream_key", KEY),
            ("snapshot_id", "snapshot_id"),
            ("state", "state"),
            ("touched_at", "touched_at"),
            ("size_bytes", "size"),
            ("key_id", "key_id"),
            ("seq", "position"),
            ("head", "position"),
            ("part_count", "parts"),
            ("manifest", "manifest"),
            ("owner", "owner"),
        ],
    ),
    (
        "snapshot_parts",
        "snapshot_part",
        &[
            ("part_key", KEY),
            ("stream_key", KEY),
            ("snapshot_key", "snapshot_id"),
            ("part", "part"),
            ("sealed", "sealed"),
        ],
    ),
    (
        "uploads",
        "upload",
        &[
            ("upload_key", KEY),
            ("stream_key", KEY),
            ("upload_id", "upload_id"),
            ("object_key", "object_key"),
            ("blob_id", "hash"),
            ("size_bytes", "size"),
            ("sealed_hash", "sealed_hash"),
            ("key_id", "key_id"),
            ("expires_at", "expires_at"),
            (
                "multipart_id",
                "- by which the bucket names the object, which has no bytes that count yet",
            ),
        ],
    ),
    (
        "blobs",
        "blob",
        &[
            ("stream_key", KEY),
            ("blob_id", "hash"),
            ("object_key", "object_key"),
            ("sealed_hash", "- of the file that comes with the export"),
            ("size_bytes", "size"),
            ("key_id", "key_id"),
            ("created_at", "created_at"),
            ("deleted_at", "deleted_at"),
        ],
    ),
];

/// Bytes of batches, which are in the lines of the batches.
const OF_BATCHES: &str = "sealed_batches";

const KEY: &str = "- by which rows name each other";
const SECRET: &str = "- by which the server recognises a secret, or makes it recognisable";

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn names(database: &Connection, sql: &str) -> BTreeSet<String> {
    let mut statement = database.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

fn tables(database: &Connection) -> BTreeSet<String> {
    names(
        database,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
}

fn rows(database: &Connection, table: &str) -> u32 {
    database
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap()
}

/// Tables that still hold something of an account.
fn tables_with_rows(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    tables(&database)
        .into_iter()
        .filter(|table| !OF_NOBODY.contains(&table.as_str()) && rows(&database, table) > 0)
        .collect()
}

/// A new table or column must be exported, or say here why it is not.
#[tokio::test]
async fn an_export_has_every_row_and_column_of_every_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    create_app(&store, 1).await;
    create_whole_account(&store, 1, 1).await;
    let page = store.export(user_id(1), None, usize::MAX).await.unwrap().unwrap();
    let mut lines: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for line in &page.lines {
        let line = serde_json::to_value(line).unwrap();
        lines
            .entry(line["kind"].as_str().unwrap().to_owned())
            .or_default()
            .push(line);
    }

    let database = Connection::open(&path).unwrap();
    let known: BTreeSet<String> = EXPORTED
        .iter()
        .map(|(table, ..)| *table)
        .chain(OF_NOBODY.iter().copied())
        .chain([OF_BATCHES])
        .map(str::to_owned)
        .collect();
    assert_eq!(tables(&database), known, "is a table missing in the export?");
    for (table, kind, columns) in EXPORTED {
        let found = lines.remove(*kind).unwrap_or_default();
        assert!(!found.is_empty(), "the account has no {kind} to compare");
        assert_eq!(found.len(), rows(&database, table) as usize, "lines of {table}");
        let listed: BTreeSet<String> = columns.iter().map(|(column, _)| (*column).to_owned()).collect();
        let there = names(&database, &format!("SELECT name FROM pragma_table_info('{table}')"));
        assert_eq!(there, listed, "is a column of {table} missing in the export?");
        for (column, field) in columns.iter().filter(|(_, field)| !field.starts_with('-')) {
            let set = format!("SELECT count({column}) FROM {table}");
            let set: u32 = database.query_row(&set, [], |row| row.get(0)).unwrap();
            let shown = found.iter().filter(|line| line.get(field).is_some()).count();
            // The bytes of larger batches are elsewhere, and an absent position has a sequence all the same.
            assert!(
                shown == set as usize || matches!((*table, *field), ("batches", "sealed") | ("streams", "base")),
                "{table}.{column}: {shown} of {set}"
            );
        }
    }
    assert!(lines.is_empty(), "lines of no table: {lines:#?}");
    assert_eq!(rows(&database, OF_BATCHES), 1);
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    create_app(&store, 1).await;
    create_whole_account(&store, 1, 1).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    drop(store);
    for step in 0.. {
        let store = open(&path);
        let more = store.retain(retention(LATER)).await.unwrap();
        drop(store);
        if !more {
            assert!(step > 5, "{step}");
            break;
        }
    }
    assert_eq!(tables_with_rows(&path), [""; 0]);
}

#[tokio::test]
async fn a_deleted_account_leaves_no_text_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    create_app(&store, 1).await;
    create_whole_account(&store, 1, 1).await;
    create_whole_account(&store, 1, 2).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    retain(&store, LATER).await;
    store.close().await.unwrap();
    let file = std::fs::read(&path).unwrap();
    let contains = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("2@example.org") && contains("device 2001") && contains("second vault 2"));
    for text in [
        "1@example.org",
        "device 1001",
        "second vault 1",
        "second record 1",
        "vault 1",
    ] {
        assert!(!contains(text), "{text}");
    }
}

/// Names the database to the child.
const DATABASE: &str = "SYNCKIT_TEST_DELETION";

/// The child of the test below, and nothing without it.
#[tokio::test]
async fn child_deletes() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = open(Path::new(&path));
    for n in 1..=3 {
        let deleted = store.delete_account(user_id(n)).await.unwrap().is_some();
        if deleted {
            tell(&format!("deleted {n}"));
        }
        while store.retain(retention(LATER)).await.unwrap() {
            tell("step");
        }
    }
}

fn tell(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

/// Runs the child until it has written so many lines, then kills it. Returns the lines.
fn run_and_kill(path: &Path, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "account_life::child_deletes",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut written = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("deleted ") || line.contains("step") {
            written.push(line);
            if written.len() == count {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    written
}

#[tokio::test]
async fn a_deletion_survives_a_kill_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    create_app(&store, 1).await;
    for n in 1..=4 {
        create_whole_account(&store, 1, n).await;
    }
    store.close().await.unwrap();
    for count in [1, 1, 2, 4, 7, 1000] {
        for line in run_and_kill(&path, count) {
            let Some((_, number)) = line.split_once("deleted ") else {
                continue;
            };
            let n: u64 = number.trim().parse().unwrap();
            let store = open(&path);
            assert_eq!(store.account(user_id(n)).await.unwrap(), None, "account {n} came back");
            store.close().await.unwrap();
        }
    }
    let store = open(&path);
    let export = store.export(user_id(4), None, usize::MAX).await.unwrap().unwrap();
    assert_eq!(export.lines.len(), 24, "an account that was not deleted has everything");
    store.delete_account(user_id(4)).await.unwrap().unwrap();
    retain(&store, LATER).await;
    store.close().await.unwrap();
    assert_eq!(tables_with_rows(&path), [""; 0], "nothing of the others is left");
}
