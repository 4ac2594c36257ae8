//! What apps and tools do to a file, and how it is noticed: the traps of triggers.

use synckit_doctest::run;
use synckit_sqlite::{Answer, Error};

use super::device::{Device, ask, question, settle};

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT)";
const ALL: &str = "SELECT name, text FROM notes ORDER BY 1";

/// Two devices with the same three notes.
async fn pair(world: &synckit_doctest::World) -> (Device, Device) {
    let laptop = Device::start(world, "laptop", NOTES, ["notes"]).await;
    let phone = Device::start(world, "phone", NOTES, ["notes"]).await;
    laptop.run("INSERT INTO notes VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', 'three')");
    settle(&laptop, &phone).await;
    (laptop, phone)
}

#[test]
fn untracked_file_is_as_before() {
    run(async |world| {
        let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
                      CREATE TABLE b (x TEXT, y TEXT, PRIMARY KEY (x, y)) WITHOUT ROWID; CREATE INDEX i ON a (name);
                      CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET name = name; END;
                      CREATE TABLE synckit_mine (x); CREATE TABLE synckit_notes (x);
                      CREATE TRIGGER synckit_mine_t AFTER INSERT ON synckit_mine BEGIN SELECT 1; END;
                      INSERT INTO a (name) VALUES ('one')";
        let device = Device::untracked(&world, "laptop", schema).await;
        let before = device.ask("SELECT rowid, * FROM sqlite_schema");
        device.db.track(["a", "b"]).await?;
        device.run("INSERT INTO a (name) VALUES ('two'); INSERT INTO b VALUES ('x', 'y')");
        device.sync().await;
        assert_ne!(device.ask("SELECT rowid, * FROM sqlite_schema"), before);
        device.db.untrack_all().await?;
        assert_eq!(device.ask("SELECT rowid, * FROM sqlite_schema"), before);
        assert_eq!(device.ask("SELECT name FROM a"), ["one", "two"]);
        assert_eq!(device.ask("PRAGMA integrity_check"), ["ok"]);
        Ok(())
    });
}

/// T1: no trigger fires for the row that REPLACE displaces through UNIQUE.
#[test]
fn displaced_row_is_deleted_elsewhere() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.run("INSERT OR REPLACE INTO notes VALUES (9, 'a', 'new')");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(ALL), ["a|new", "b|two", "c|three"]);
        assert_eq!(laptop.ask(ALL), phone.ask(ALL));
        Ok(())
    });
}

/// T2, T3, T5: triggers name no column that the app may drop or add.
#[test]
fn columns_come_and_go_freely() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.run("ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 0; ALTER TABLE notes DROP COLUMN text");
        laptop.run("UPDATE notes SET stars = 5 WHERE name = 'a'; INSERT INTO notes VALUES (4, 'd', 1)");
        settle(&laptop, &phone).await;
        phone.run("UPDATE notes SET text = 'edited' WHERE name = 'a'");
        settle(&phone, &laptop).await;
        assert_eq!(
            laptop.ask("SELECT name, stars FROM notes ORDER BY 1"),
            ["a|5", "b|0", "c|0", "d|1"]
        );
        // The older app's column, and what the newer one had put where the older one is migrated at last.
        phone.run("ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 0");
        settle(&phone, &laptop).await;
        let all = ["a|edited|5", "b|two|0", "c|three|0", "d|-|1"];
        assert_eq!(phone.ask("SELECT name, text, stars FROM notes ORDER BY 1"), all);
        Ok(())
    });
}

/// T4: the twelve steps of an ORM take the triggers away.
#[test]
fn rebuilt_table_is_still_captured() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.run(
            "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT, stars INTEGER);
                    INSERT INTO new SELECT *, NULL FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes;
                    UPDATE notes SET text = 'unseen' WHERE id = 1",
        );
        settle(&laptop, &phone).await;
        laptop.run("UPDATE notes SET text = 'seen' WHERE id = 2");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(ALL), ["a|unseen", "b|seen", "c|three"]);
        Ok(())
    });
}

/// T4: deletions that nobody saw wait for the app's decision.
#[test]
fn unseen_deletions_wait_for_a_decision() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let unseen = "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT);
                      INSERT INTO new SELECT * FROM notes WHERE id <> 3; DROP TABLE notes; ALTER TABLE new RENAME TO notes";
        laptop.run(unseen);
        assert_eq!(laptop.sync().await.held_deletions, 1);
        phone.sync().await;
        assert_eq!(phone.ask(ALL).len(), 3);
        laptop.db.decide(&question(&laptop.db), Answer::No).await?;
        assert_eq!(laptop.ask(ALL), phone.ask(ALL));
        laptop.run(unseen);
        laptop.sync().await;
        laptop.db.decide(&question(&laptop.db), Answer::Yes).await?;
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(ALL), ["a|one", "b|two"]);
        Ok(())
    });
}

/// T7: a row whose number changes is the same row.
#[test]
fn renumbered_row_stays_the_same_row() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let before = phone.ask("SELECT * FROM notes");
        laptop.run("UPDATE notes SET id = id + 100");
        assert_eq!(laptop.sync().await.pushed, 0);
        phone.run("UPDATE notes SET text = 'edited' WHERE name = 'b'");
        settle(&phone, &laptop).await;
        assert_eq!(
            laptop.ask("SELECT * FROM notes"),
            ["101|a|one", "102|b|edited", "103|c|three"]
        );
        assert_eq!(before.len(), 3);
        Ok(())
    });
}

/// T8: deleted and made again under the same number of the app's choice, it is the same row.
#[test]
fn deleted_and_made_again_is_an_edit() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let number = phone.ask("SELECT id FROM notes WHERE name = 'b'");
        laptop.run("DELETE FROM notes WHERE id = 2; INSERT INTO notes VALUES (2, 'b', 'again')");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(ALL), ["a|one", "b|again", "c|three"]);
        assert_eq!(phone.ask("SELECT id FROM notes WHERE name = 'b'"), number);
        Ok(())
    });
}

/// T10: generated columns are not written.
#[test]
fn generated_columns_are_left_out() {
    run(async |world| {
        let schema = "CREATE TABLE n (id INTEGER PRIMARY KEY, a INTEGER, b AS (a + 1), c INTEGER AS (a * 2) STORED)";
        let laptop = Device::start(&world, "laptop", schema, ["n"]).await;
        let phone = Device::start(&world, "phone", schema, ["n"]).await;
        laptop.run("INSERT INTO n (a) VALUES (1), (5)");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask("SELECT a, b, c FROM n ORDER BY a"), ["1|2|2", "5|6|10"]);
        Ok(())
    });
}

/// T11: what a collation takes for equal, keys without a type, and rows whose key is NULL.
#[test]
fn odd_keys_are_synced_or_left_alone() {
    run(async |world| {
        let schema =
            "CREATE TABLE tags (name TEXT COLLATE NOCASE PRIMARY KEY, n INTEGER); CREATE TABLE bag (k PRIMARY KEY, v)";
        let laptop = Device::start(&world, "laptop", schema, ["tags", "bag"]).await;
        let phone = Device::start(&world, "phone", schema, ["tags", "bag"]).await;
        laptop.run(
            "INSERT INTO tags VALUES ('Shop', 1); INSERT INTO bag VALUES (1, 'number'), ('1', 'text'), (NULL, 'none')",
        );
        phone.run("INSERT INTO tags VALUES ('shop', 0)");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask("SELECT count(*) FROM tags"), ["1"]);
        assert_eq!(laptop.ask("SELECT * FROM tags"), phone.ask("SELECT * FROM tags"));
        assert_eq!(
            phone.ask("SELECT typeof(k), v FROM bag ORDER BY v"),
            ["integer|number", "text|text"]
        );
        assert_eq!(laptop.ask("SELECT count(*) FROM bag"), ["3"]);
        Ok(())
    });
}

/// T12: SQLite gives the number of the newest row again when that is deleted.
#[test]
fn reused_number_is_another_row() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        phone.run("UPDATE notes SET text = 'edited' WHERE name = 'c'");
        phone.sync().await;
        laptop.run("DELETE FROM notes WHERE id = 3; INSERT INTO notes (name, text) VALUES ('z', 'other')");
        assert_eq!(laptop.ask("SELECT id FROM notes WHERE name = 'z'"), ["3"]);
        settle(&laptop, &phone).await;
        // The edit beats the deletion that did not know of it. The other row is another row.
        assert_eq!(laptop.ask(ALL), ["a|one", "b|two", "c|edited", "z|other"]);
        assert_eq!(phone.ask(ALL), laptop.ask(ALL));
        Ok(())
    });
}

/// T13: a row that comes does not get the number of a row that was deleted here.
#[test]
fn deleted_number_is_not_given_again() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.run("INSERT INTO notes VALUES (4, 'd', 'four')");
        laptop.sync().await;
        phone.run("DELETE FROM notes WHERE name = 'c'");
        phone.sync().await;
        assert_eq!(phone.ask(ALL), ["a|one", "b|two", "d|four"]);
        settle(&laptop, &phone).await;
        assert_eq!(laptop.ask(ALL), phone.ask(ALL));
        Ok(())
    });
}

/// The clause of the app's statement takes the place of a trigger's own.
#[test]
fn conflict_clauses_of_the_app_do_no_harm() {
    run(async |world| {
        let schema =
            "CREATE TABLE k (a TEXT, b TEXT, v, PRIMARY KEY (a, b)); CREATE TABLE n (id INTEGER PRIMARY KEY, v)";
        let laptop = Device::start(&world, "laptop", schema, ["k", "n"]).await;
        let phone = Device::start(&world, "phone", schema, ["k", "n"]).await;
        for clause in ["ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK"] {
            laptop.run(&format!("INSERT OR {clause} INTO k VALUES ('a', '{clause}', 1); UPDATE OR {clause} k SET v = 2; UPDATE OR {clause} k SET v = 3;
                                 INSERT OR {clause} INTO n (v) VALUES ('{clause}'); UPDATE OR {clause} n SET v = v || '!'"));
        }
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask("SELECT count(*), min(v), max(v) FROM k"), ["5|3|3"]);
        assert_eq!(
            phone.ask("SELECT v FROM n ORDER BY v"),
            laptop.ask("SELECT v FROM n ORDER BY v")
        );
        Ok(())
    });
}

/// Any program may write the file while we run, with its own connection and settings.
#[test]
fn edits_of_other_connections_are_seen() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let other = rusqlite::Connection::open(&laptop.path)?;
        other.execute_batch("PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO notes VALUES (1, 'b', 'both')")?;
        settle(&laptop, &phone).await;
        assert_eq!(ask(&phone.app, ALL), ["b|both", "c|three"]);
        Ok(())
    });
}

/// A renamed column is a new one, which begins with the values of the old one. They are older than what the other device has
/// written under the new name since, unless they were edited later.
#[test]
fn renamed_column_reverts_no_edit() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.run("ALTER TABLE notes RENAME COLUMN text TO body; UPDATE notes SET body = 'after' WHERE name = 'b'");
        laptop.sync().await;
        phone.run("UPDATE notes SET text = 'of phone' WHERE name = 'c'");
        settle(&phone, &laptop).await;
        phone.run("ALTER TABLE notes RENAME COLUMN text TO body");
        settle(&phone, &laptop).await;
        let all = "SELECT name, body FROM notes ORDER BY 1";
        assert_eq!(laptop.ask(all), ["a|one", "b|after", "c|of phone"]);
        assert_eq!(phone.ask(all), laptop.ask(all));
        Ok(())
    });
}

/// A table with another key would have other rows.
#[test]
fn changed_key_is_refused_by_name() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let rebuilds = [
            "CREATE TABLE new (id TEXT PRIMARY KEY, name TEXT UNIQUE, text TEXT)",
            "CREATE TABLE new (id TEXT, name TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID",
        ];
        let before = laptop.ask("SELECT * FROM notes");
        for rebuild in rebuilds {
            laptop.run(&format!("BEGIN; {rebuild}; INSERT INTO new SELECT * FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes; COMMIT"));
            let error = laptop.db.sync().await.unwrap_err();
            assert!(
                matches!(&error, Error::KeyChanged { table } if table == "notes"),
                "{error:?}"
            );
            assert!(matches!(
                laptop.db.track(["notes"]).await,
                Err(Error::KeyChanged { .. })
            ));
        }
        // With the old key it goes on, and nothing happened.
        laptop.run("CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT); INSERT INTO new SELECT * FROM notes; DROP TABLE notes; ALTER TABLE new RENAME TO notes");
        assert_eq!(laptop.sync().await.pushed, 0);
        settle(&laptop, &phone).await;
        assert_eq!(laptop.ask("SELECT * FROM notes"), before);
        assert_eq!(phone.ask(ALL), laptop.ask(ALL));
        Ok(())
    });
}

/// A key that the app chose is no local number, whatever number stands beside it.
#[test]
fn number_beside_a_key_is_refused() {
    run(async |world| {
        let schema = "CREATE TABLE tags (name TEXT PRIMARY KEY, n INTEGER)";
        let laptop = Device::start(&world, "laptop", schema, ["tags"]).await;
        laptop.run("INSERT INTO tags VALUES ('a', 1)");
        laptop.sync().await;
        laptop.run("BEGIN; CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER); INSERT INTO new (name, n) SELECT * FROM tags; DROP TABLE tags; ALTER TABLE new RENAME TO tags; COMMIT");
        assert!(matches!(laptop.db.sync().await, Err(Error::KeyChanged { .. })));
        Ok(())
    });
}
