//! `synckit schema check`: the report for people and programs.

use rusqlite::Connection;

use crate::program::run_with;

fn database(directory: &tempfile::TempDir, sql: &str) -> String {
    let path = directory.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    path.to_str().unwrap().to_owned()
}

const QUESTION: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE tasks (id INTEGER PRIMARY KEY, list_id INTEGER, title TEXT);
    CREATE TABLE android_metadata (locale TEXT);
    INSERT INTO lists VALUES (1, 'Shopping'); INSERT INTO tasks VALUES (1, 1, 'Milk');";

#[test]
fn report_ends_with_the_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = database(&directory, QUESTION);
    let ended = run_with(["schema", "check", &file]).expect_code(1);
    insta::assert_snapshot!(ended.stdout, @r#"
    table  rows  state     identity
    -----  ----  --------  ----------------
    lists     1  ready     Identity::Mapped
    tasks     1  question  Identity::Mapped
    tasks: the values of `list_id` are keys of `lists`: declare it with `references`, or with `plain` if it is no reference
    android_metadata is left out: a framework describes this file with it

    db.track([
        Track::new("lists"),
        Track::new("tasks").references("list_id", "lists"),
    ]).await?;
    "#);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn programs_get_the_same_report() {
    let directory = tempfile::tempdir().unwrap();
    let file = database(&directory, QUESTION);
    let ended = run_with(["schema", "check", "--json", &file]).expect_code(1);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        report["tables"][1]["track"],
        r#"Track::new("tasks").references("list_id", "lists")"#
    );
    assert_eq!(report["tables"][0]["state"], "ready");
    assert_eq!(report["left_out"][0]["name"], "android_metadata");
}

#[test]
fn ready_schema_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let file = database(&directory, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)");
    run_with(["schema", "check", &file]).expect_code(0);
}

#[test]
fn file_that_is_no_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    std::fs::write(
        &file,
        "no database, but long enough to have the header of one ".repeat(20),
    )
    .unwrap();
    let ended = run_with(["schema", "check", file.to_str().unwrap()]).expect_code(1);
    assert!(ended.stderr.contains("cannot read the database"), "{}", ended.stderr);
}
