//! A file that is tracked again, and one that is gone.

use synckit_doctest::{World, run};
use synckit_sqlite::Error;

use super::device::{Device, settle};

const SCHEMA: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT, up INTEGER REFERENCES lists);
    CREATE TABLE tasks (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists ON DELETE CASCADE, title TEXT, done INTEGER);
    CREATE TABLE details (task INTEGER PRIMARY KEY REFERENCES tasks ON DELETE CASCADE, text TEXT);
    CREATE TABLE tags (name TEXT PRIMARY KEY, color TEXT);
    CREATE TABLE tagged (task INTEGER REFERENCES tasks ON DELETE CASCADE, tag TEXT REFERENCES tags, PRIMARY KEY (task, tag)) WITHOUT ROWID;";
const TABLES: [&str; 5] = ["lists", "tasks", "details", "tags", "tagged"];
const ALL: &str = "SELECT u.name, l.name, t.title, t.done, d.text, g.tag FROM tasks t LEFT JOIN lists l ON l.id = t.list
                   LEFT JOIN lists u ON u.id = l.up LEFT JOIN details d ON d.task = t.id LEFT JOIN tagged g ON g.task = t.id
                   ORDER BY 1, 2, 3, 4, 5, 6";
const NUMBERS: &str = "SELECT id, title FROM tasks";

/// Two devices with the same rows, two of which are equal.
async fn pair(world: &World) -> (Device, Device) {
    let laptop = Device::start(world, "laptop", SCHEMA, TABLES).await;
    let phone = Device::start(world, "phone", SCHEMA, TABLES).await;
    laptop.run("INSERT INTO lists VALUES (1, 'Home', NULL), (2, 'Kitchen', 1)");
    laptop.run(
        "INSERT INTO tasks VALUES (1, 2, 'Milk', 0), (2, 2, 'Milk', 0), (3, 1, 'Sweep', 0), (4, NULL, 'Think', 1)",
    );
    laptop.run("INSERT INTO details VALUES (3, 'the floor'); INSERT INTO tags VALUES ('soon', 'red'); INSERT INTO tagged VALUES (3, 'soon')");
    settle(&laptop, &phone).await;
    (laptop, phone)
}

#[test]
fn rows_tracked_again_do_not_double() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        let (all, numbers) = (laptop.ask(ALL), laptop.ask(NUMBERS));
        laptop.db.untrack_all().await?;
        laptop.db.track(TABLES).await?;
        assert_eq!(laptop.sync().await.pushed, 0);
        settle(&laptop, &phone).await;
        assert_eq!(laptop.ask(ALL), all);
        assert_eq!(phone.ask(ALL), all);
        // The app may hold numbers.
        assert_eq!(laptop.ask(NUMBERS), numbers);
        assert_eq!(laptop.ask("PRAGMA foreign_key_check").len(), 0);
        Ok(())
    });
}

/// What was edited since the second tracking is an edit of the row that the log has.
#[test]
fn edits_after_tracking_again_are_edits() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        laptop.db.untrack_all().await?;
        phone.run("INSERT INTO tasks VALUES (9, 1, 'Cook', 0)");
        phone.sync().await;
        laptop.db.track(TABLES).await?;
        laptop.run("UPDATE tasks SET title = 'Sweep again' WHERE id = 3; UPDATE lists SET name = 'House' WHERE id = 1; DELETE FROM tasks WHERE id = 4");
        laptop.run("INSERT INTO tasks VALUES (5, 2, 'Bread', 0)");
        settle(&laptop, &phone).await;
        let all = [
            "-|House|Cook|0|-|-",
            "-|House|Sweep again|0|the floor|soon",
            "House|Kitchen|Bread|0|-|-",
            "House|Kitchen|Milk|0|-|-",
            "House|Kitchen|Milk|0|-|-",
        ];
        assert_eq!(laptop.ask(ALL), all);
        assert_eq!(phone.ask(ALL), all);
        Ok(())
    });
}

/// The log comes in several pages. Nothing of it enters the tables before all of it is known.
#[test]
fn rows_of_a_long_log_keep_their_numbers() {
    run(async |world| {
        let schema = "CREATE TABLE notes (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)";
        let laptop = Device::start(&world, "laptop", schema, ["notes"]).await;
        laptop.run("INSERT INTO notes WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 1300) SELECT x, x, hex(zeroblob(3000)) FROM c");
        assert_eq!(laptop.sync().await.pushed, 1300);
        let all = laptop.ask("SELECT id, n FROM notes");
        laptop.db.untrack_all().await?;
        laptop.db.track(["notes"]).await?;
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.pulled), (0, 1300));
        assert_eq!(laptop.ask("SELECT id, n FROM notes"), all);
        Ok(())
    });
}

#[test]
fn file_replaced_under_us_is_an_error() {
    run(async |world| {
        let (laptop, phone) = pair(&world).await;
        std::fs::remove_file(&laptop.path)?;
        let app = rusqlite::Connection::open(&laptop.path)?;
        app.execute_batch(SCHEMA)?;
        assert!(matches!(laptop.db.sync().await, Err(Error::FileReplaced)));
        assert!(matches!(laptop.db.track(TABLES).await, Err(Error::FileReplaced)));
        assert!(matches!(laptop.db.untrack_all().await, Err(Error::FileReplaced)));
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM tasks"), ["4"]);
        Ok(())
    });
}
