//! `synckit export`: everything of a user, exactly, whole or not at all, and gone on with after an interruption.

use std::{collections::BTreeMap, fs, path::Path};

use rusqlite::{Connection, types::Value as Cell};
use serde_json::{Value, json};
use synckit_client::{BlobHash, ChangeEntry, ChangeOp, Timestamp};

use crate::{
    person::{PASSWORD, Person, block_on, note},
    program::{Server, run},
};

fn lines(path: &Path) -> Vec<ChangeEntry> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn json_lines_hold_every_change_in_order() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let out_text = out.to_str().unwrap();
    block_on(async {
        let person = Person::on(&server).await;
        let mut changes: Vec<ChangeEntry> = (0..1200).map(|i| note(ChangeOp::Insert, &i.to_string(), i)).collect();
        changes.push(note(ChangeOp::Update, "7", 2000));
        changes.push(note(ChangeOp::Delete, "8", 2001));
        changes.push(ChangeEntry {
            table: "odd \"names\"\n".into(),
            op: ChangeOp::Insert,
            row_id: String::new(),
            timestamp: Timestamp::from_micros(-1),
            data: Some(Value::Null),
        });
        person.push(changes.clone()).await;
        let mut files = BTreeMap::new();
        for size in [0, 1, 300_000] {
            let data: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
            files.insert(
                person.client.blob_put(data.clone(), |_| {}).await.unwrap().to_string(),
                data,
            );
        }

        let ended = person.run(&["export", "--blobs", "--out", out_text]).expect_code(0);
        assert_eq!(ended.stderr, "", "no bars without a terminal");
        assert!(ended.stdout.starts_with("1,203 changes in "), "{}", ended.stdout);
        assert_eq!(lines(&out.join("changes.jsonl")), changes);
        assert_eq!(names(&out), ["blobs", "changes.jsonl"]);
        assert_eq!(names(&out.join("blobs")), files.keys().cloned().collect::<Vec<_>>());
        for (name, data) in &files {
            assert_eq!(&fs::read(out.join("blobs").join(name)).unwrap(), data);
            assert_eq!(&BlobHash::of(data).to_string(), name);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&out), mode(&out.join("changes.jsonl"))), (0o700, 0o600));
        }
        let devices = person.client.devices().await.unwrap();
        assert_eq!(devices.len(), 1, "the export's own device is revoked: {devices:?}");

        let again = person.run(&["export", "--out", out_text]).expect_code(1);
        assert!(
            again.stderr.contains("hint: use --force to replace it"),
            "{}",
            again.stderr
        );
        assert_eq!(
            names(&out),
            ["blobs", "changes.jsonl"],
            "a refusal leaves nothing behind"
        );
        person.push(vec![note(ChangeOp::Insert, "more", 3000)]).await;
        let forced = person
            .run(&["export", "--out", out_text, "--force", "--json"])
            .expect_code(0);
        let report: Value = serde_json::from_str(&forced.stdout).unwrap();
        assert_eq!((&report["changes"], &report["format"]), (&1204.into(), &"jsonl".into()));
        assert_eq!(lines(&out.join("changes.jsonl")).len(), 1204);
    });
}

#[test]
fn sqlite_export_has_newest_rows_and_every_change() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    block_on(async {
        let person = Person::on(&server).await;
        let entry = |table: &str, op, row_id: &str, data: Option<Value>| ChangeEntry {
            table: table.into(),
            op,
            row_id: row_id.into(),
            timestamp: Timestamp::from_micros(5),
            data,
        };
        person
            .push(vec![
                entry(
                    "notes",
                    ChangeOp::Insert,
                    "a",
                    Some(json!({ "text": "old", "gone later": 1 })),
                ),
                entry("notes", ChangeOp::Insert, "b", Some(json!({ "text": "deleted" }))),
                entry(
                    "notes",
                    ChangeOp::Update,
                    "a",
                    Some(
                        json!({ "text": "new", "TEXT": "other case", "yes": true, "real": 1.5, "big": u64::MAX,
                                 "list": [1, null], "synckit_data": "taken", "": 0, "none": null }),
                    ),
                ),
                entry("notes", ChangeOp::Delete, "b", None),
                entry("NOTES", ChangeOp::Insert, "c", Some(json!("no object"))),
                entry(
                    "sqlite_master",
                    ChangeOp::Insert,
                    "d",
                    Some(json!({ "rowid; DROP TABLE notes": 1 })),
                ),
                // As a synced file's snapshot has it, and something like it.
                entry(
                    "rows",
                    ChangeOp::Insert,
                    "e",
                    Some(json!([{ "text": "whole", "n": 1 }, { "text": 4, "n": { "added": 2 } }])),
                ),
                entry(
                    "rows",
                    ChangeOp::Insert,
                    "f",
                    Some(json!([{ "text": "other" }, { "size": 4 }])),
                ),
            ])
            .await;
        let ended = person
            .run(&["export", "--format", "sqlite", "--out", out.to_str().unwrap(), "--json"])
            .expect_code(0);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(names(&out), ["export.sqlite"]);
        let db = Connection::open(out.join("export.sqlite")).unwrap();
        let table = |name: &str| -> (String, i64) {
            let tables = report["tables"].as_array().unwrap();
            let found = tables.iter().find(|table| table["table"] == name).unwrap();
            (
                found["sqlite_name"].as_str().unwrap().to_owned(),
                found["rows"].as_i64().unwrap(),
            )
        };
        assert_eq!(table("notes"), ("notes".to_owned(), 1));
        assert!(
            table("NOTES").0.starts_with("synckit_table_") && table("sqlite_master").0.starts_with("synckit_table_")
        );

        let cell = |field: &str| -> Cell {
            let column: String = db
                .query_row(
                    "SELECT sqlite_name FROM synckit_columns WHERE table_name = 'notes' AND field = ?1",
                    [field],
                    |row| row.get(0),
                )
                .unwrap();
            let read = format!("SELECT \"{column}\" FROM notes WHERE synckit_row_id = 'a'");
            db.query_row(&read, [], |row| row.get(0)).unwrap()
        };
        let text = |text: &str| Cell::Text(text.to_owned());
        for (field, expected) in [
            ("text", text("new")),
            ("TEXT", text("other case")),
            ("yes", Cell::Integer(1)),
            ("real", Cell::Real(1.5)),
            ("big", text("18446744073709551615")),
            ("list", text("[1,null]")),
            ("synckit_data", text("taken")),
            ("", Cell::Integer(0)),
            ("none", Cell::Null),
            ("gone later", Cell::Null),
        ] {
            assert_eq!(cell(field), expected, "{field:?}");
        }
        let of_no_object: String = db
            .query_row(&format!("SELECT synckit_data FROM {}", table("NOTES").0), [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(of_no_object, "\"no object\"");
        let ops: Vec<String> = db
            .prepare("SELECT op || ' ' || row_id FROM synckit_changes ORDER BY change_number")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            ops,
            [
                "insert a", "insert b", "update a", "delete b", "insert c", "insert d", "insert e", "insert f"
            ]
        );
        let rows: Vec<String> = db
            .prepare(
                "SELECT coalesce(text, '-') || ' ' || coalesce(synckit_data, '-') FROM rows ORDER BY synckit_row_id",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let columns = "SELECT sqlite_name FROM synckit_columns WHERE table_name = 'rows' AND field = 'text'";
        let name: String = db.query_row(columns, [], |row| row.get(0)).unwrap();
        assert_eq!(name, "text");
        assert_eq!(rows, ["whole -", "- [{\"text\":\"other\"},{\"size\":4}]"]);
    });
}

/// Flips a bit of the newest batch, or flips it back.
fn flip_newest_batch(server: &Server) {
    let db = Connection::open(server.data_dir().join("synckit.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let (key, mut sealed): (i64, Vec<u8>) = db
        .query_row(
            "SELECT sealed_key, sealed FROM sealed_batches ORDER BY sealed_key DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    sealed[100] ^= 1;
    db.execute(
        "UPDATE sealed_batches SET sealed = ?2 WHERE sealed_key = ?1",
        rusqlite::params![key, sealed],
    )
    .unwrap();
}

#[test]
fn interrupted_export_resumes() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let person = Person::on(&server).await;
        let changes: Vec<ChangeEntry> = (0..1500).map(|i| note(ChangeOp::Insert, &i.to_string(), i)).collect();
        person.push(changes.clone()).await;
        for format in ["jsonl", "sqlite"] {
            let out = directory.path().join(format);
            let arguments = ["export", "--format", format, "--out", out.to_str().unwrap(), "--json"];
            flip_newest_batch(&server);
            let interrupted = person.run(&arguments).expect_code(1);
            let error: Value = serde_json::from_str(interrupted.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(error["error"]["code"], "tampering", "{}", interrupted.stderr);
            let left = names(&out);
            assert!(
                !left
                    .iter()
                    .any(|name| name == "changes.jsonl" || name == "export.sqlite"),
                "{left:?}"
            );
            assert_eq!(person.client.devices().await.unwrap().len(), 1);
            let state: Value = serde_json::from_slice(&fs::read(out.join(".synckit-export.json")).unwrap()).unwrap();
            assert_eq!(state["saved"]["changes"], 1000, "two of three batches are kept");

            let other_format = if format == "jsonl" { "sqlite" } else { "jsonl" };
            let other = person
                .run(&["export", "--format", other_format, "--out", out.to_str().unwrap()])
                .expect_code(1);
            assert!(
                other.stderr.contains(&format!("hint: continue with --format {format}")),
                "{}",
                other.stderr
            );

            // What a process that was killed wrote after it last said how far it was.
            if format == "jsonl" {
                let part = out.join("changes.jsonl.part");
                let text = fs::read_to_string(&part).unwrap();
                fs::write(&part, format!("{text}{{\"table\":\"half a li")).unwrap();
            }
            flip_newest_batch(&server);
            let report: Value = serde_json::from_str(&person.run(&arguments).expect_code(0).stdout).unwrap();
            assert_eq!(report["changes"], 1500);
            if format == "jsonl" {
                assert_eq!(names(&out), ["changes.jsonl"]);
                assert_eq!(lines(&out.join("changes.jsonl")), changes);
            } else {
                assert_eq!(names(&out), ["export.sqlite"]);
                let db = Connection::open(out.join("export.sqlite")).unwrap();
                let counts: (i64, i64) = db
                    .query_row(
                        "SELECT (SELECT count(DISTINCT row_id) FROM synckit_changes), (SELECT count(*) FROM synckit_changes)",
                        [],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .unwrap();
                assert_eq!(counts, (1500, 1500));
            }
        }
    });
}

#[test]
fn lost_file_is_named_others_are_exported() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    block_on(async {
        let person = Person::on(&server).await;
        person.push(vec![note(ChangeOp::Insert, "1", 1)]).await;
        let lost = person.client.blob_put(vec![1; 70_000], |_| {}).await.unwrap();
        let kept = person.client.blob_put(vec![2; 10], |_| {}).await.unwrap();
        let objects = server.data_dir().join("blobs");
        for shard in fs::read_dir(&objects).unwrap() {
            for object in fs::read_dir(shard.unwrap().path()).unwrap() {
                let object = object.unwrap();
                if object.metadata().unwrap().len() > 70_000 {
                    fs::remove_file(object.path()).unwrap();
                }
            }
        }
        let ended = person
            .run(&["export", "--blobs", "--out", out.to_str().unwrap(), "--json"])
            .expect_code(1);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let lost_id = person.client.blob_id(&lost).unwrap().to_string();
        assert_eq!(report["blobs"]["failed"][0]["blob_id"], lost_id.as_str(), "{report:#}");
        assert_eq!(names(&out.join("blobs")), [kept.to_string()]);
    });
}

#[test]
fn recovery_code_opens_export_after_reset() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    block_on(async {
        let person = Person::on(&server).await;
        person.push(vec![note(ChangeOp::Insert, "1", 1)]).await;
        let code = person.client.recovery_code(PASSWORD).await.unwrap();
        let arguments = ["export", "--recovery-code", "--out", out.to_str().unwrap()];
        let wrong = run(person
            .command()
            .args(arguments)
            .env("SYNCKIT_RECOVERY_CODE", "abandon ability"))
        .expect_code(1);
        assert!(wrong.stderr.contains("hint: check the 24 words"), "{}", wrong.stderr);
        let words = code.words();
        run(person.command().args(arguments).env("SYNCKIT_RECOVERY_CODE", &**words)).expect_code(0);
        assert_eq!(lines(&out.join("changes.jsonl")).len(), 1);
    });
}

#[test]
fn unreadable_batch_is_left_out_and_reported() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let out_text = out.to_str().unwrap();
    block_on(async {
        let person = Person::on(&server).await;
        let changes =
            |rows: std::ops::Range<i64>| rows.map(|row| note(ChangeOp::Insert, &row.to_string(), row)).collect();
        let (before, after): (Vec<_>, Vec<_>) = (changes(0..2), changes(2..5));
        person.push(before.clone()).await;
        person.push_garbage(changes(100..107)).await;
        person.push(after.clone()).await;
        person.push_garbage(changes(200..201)).await;

        let ended = person.run(&["export", "--out", out_text]).expect_code(1);
        assert!(ended.stdout.starts_with("5 changes in "), "{}", ended.stdout);
        let expected = "error: 8 changes in 2 batches from sequence 3 on (the first is batch ";
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert_eq!(lines(&out.join("changes.jsonl")), [before, after].concat());
        assert_eq!(names(&out), ["changes.jsonl"]);

        let json = person.run(&["--json", "export", "--force", "--format", "sqlite", "--out", out_text]);
        let report: Value = serde_json::from_str(&json.expect_code(1).stdout).unwrap();
        let left_out = report["left_out"].as_array().unwrap();
        let numbers: Vec<_> = left_out
            .iter()
            .map(|batch| (&batch["first_seq"], &batch["batches"], &batch["changes"]))
            .collect();
        assert_eq!(numbers, [(&json!(3), &json!(2), &json!(8))]);
        assert_eq!(report["changes"], 5);

        // The devices of the person still meet it: only a person decides to skip it.
        let (phone, device) = person.device("phone").await;
        let error = phone.pull(device.id, synckit_client::Cursor::START).await.unwrap_err();
        assert!(error.is_tampering(), "{error:?}");
    });
}
