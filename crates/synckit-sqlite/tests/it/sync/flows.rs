//! Rows that one device sends to the other.

use synckit_doctest::run;
use synckit_sqlite::{
    Error, SyncedDatabase,
    inspect::Finding,
    track::{Identity, Track},
};

use super::device::{Device, settle};

const SCHEMA: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE tasks (id INTEGER PRIMARY KEY, list_id INTEGER REFERENCES lists ON DELETE CASCADE, title TEXT, done INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE tags (name TEXT PRIMARY KEY);
    CREATE TABLE task_tags (task INTEGER REFERENCES tasks ON DELETE CASCADE, tag TEXT REFERENCES tags ON DELETE CASCADE, PRIMARY KEY (task, tag)) WITHOUT ROWID;";
const TABLES: [&str; 4] = ["lists", "tasks", "tags", "task_tags"];
const ALL: &str =
    "SELECT l.name, t.title, t.done, group_concat(g.tag) FROM tasks t LEFT JOIN lists l ON l.id = t.list_id
                   LEFT JOIN task_tags g ON g.task = t.id GROUP BY t.id ORDER BY 1, 2";

#[test]
fn rows_reach_the_other_device() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        // The same numbers mean other rows on the other device.
        laptop.run("INSERT INTO lists VALUES (1, 'Home'); INSERT INTO tasks VALUES (1, 1, 'Milk', 0); INSERT INTO tags VALUES ('shop'); INSERT INTO task_tags VALUES (1, 'shop')");
        phone.run(
            "INSERT INTO lists VALUES (1, 'Work'); INSERT INTO tasks VALUES (1, 1, 'Mail', 0), (2, NULL, 'Think', 1)",
        );
        settle(&laptop, &phone).await;
        let all = ["-|Think|1|-", "Home|Milk|0|shop", "Work|Mail|0|-"];
        assert_eq!(laptop.ask(ALL), all);
        assert_eq!(phone.ask(ALL), all);
        // Deletions, with what follows them.
        phone.run("DELETE FROM lists WHERE name = 'Home'; UPDATE tasks SET done = 1");
        settle(&phone, &laptop).await;
        let all = ["-|Think|1|-", "Work|Mail|1|-"];
        assert_eq!(laptop.ask(ALL), all);
        assert_eq!(phone.ask(ALL), all);
        assert_eq!(laptop.sync().await.pulled, 0);
        Ok(())
    });
}

#[test]
fn seeded_rows_do_not_double() {
    run(async |world| {
        let seeded = format!(
            "{SCHEMA} INSERT INTO lists VALUES (1, 'Inbox'), (2, 'Later'); INSERT INTO tasks VALUES (1, 1, 'Welcome', 0)"
        );
        let laptop = Device::start(&world, "laptop", &seeded, TABLES).await;
        let phone = Device::start(&world, "phone", &seeded, TABLES).await;
        // One edited what it began with, the other one deleted it, before they met.
        laptop.run("UPDATE lists SET name = 'In' WHERE id = 1; DELETE FROM lists WHERE id = 2");
        settle(&laptop, &phone).await;
        assert_eq!(laptop.ask(ALL), ["In|Welcome|0|-"]);
        assert_eq!(phone.ask(ALL), ["In|Welcome|0|-"]);
        assert_eq!(phone.ask("SELECT * FROM lists"), ["1|In"]);
        Ok(())
    });
}

#[test]
fn same_new_row_becomes_one() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        for (device, title) in [(&laptop, "Milk"), (&phone, "Bread")] {
            device.run(&format!(
                "INSERT INTO lists VALUES (7, 'Shopping'); INSERT INTO tasks VALUES (7, 7, '{title}', 0)"
            ));
        }
        settle(&laptop, &phone).await;
        let all = ["Shopping|Bread|0|-", "Shopping|Milk|0|-"];
        assert_eq!(laptop.ask(ALL), all);
        assert_eq!(phone.ask(ALL), all);
        // The app may hold the number: the row keeps it.
        assert_eq!(phone.ask("SELECT id FROM lists"), ["7"]);
        Ok(())
    });
}

#[test]
fn edits_of_one_row_merge_by_column() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        laptop.run("INSERT INTO tasks VALUES (1, NULL, 'Milk', 0)");
        settle(&laptop, &phone).await;
        laptop.run("UPDATE tasks SET title = 'Oat milk'");
        phone.run("UPDATE tasks SET done = 1");
        settle(&laptop, &phone).await;
        assert_eq!(laptop.ask(ALL), ["-|Oat milk|1|-"]);
        assert_eq!(phone.ask(ALL), ["-|Oat milk|1|-"]);
        Ok(())
    });
}

#[test]
fn long_values_travel_as_files() {
    run(async |world| {
        let schema = "CREATE TABLE photos (id INTEGER PRIMARY KEY, name TEXT UNIQUE, bytes BLOB)";
        let laptop = Device::start(&world, "laptop", schema, ["photos"]).await;
        let phone = Device::start(&world, "phone", schema, ["photos"]).await;
        laptop.run("INSERT INTO photos VALUES (1, 'a', zeroblob(100000)), (2, 'b', zeroblob(3))");
        settle(&laptop, &phone).await;
        let all = "SELECT name, length(bytes), typeof(bytes) FROM photos ORDER BY name";
        assert_eq!(phone.ask(all), ["a|100000|blob", "b|3|blob"]);
        // Rows that have to make room for each other keep their files.
        laptop.run("UPDATE photos SET name = 'c' WHERE id = 1; UPDATE photos SET name = 'a' WHERE id = 2; UPDATE photos SET name = 'b' WHERE id = 1");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(all), ["a|3|blob", "b|100000|blob"]);
        Ok(())
    });
}

#[test]
fn values_keep_their_bytes() {
    run(async |world| {
        let schema = "CREATE TABLE anything (id INTEGER PRIMARY KEY, value)";
        let laptop = Device::start(&world, "laptop", schema, ["anything"]).await;
        let phone = Device::start(&world, "phone", schema, ["anything"]).await;
        laptop.run("INSERT INTO anything (value) VALUES (9e999), (-9e999), (1.0), (1), ('1'), (x'00ff'), (CAST(x'fffe' AS TEXT)), ('a' || char(0) || 'b'), (9223372036854775807), (0.1), (NULL), (1e-310)");
        settle(&laptop, &phone).await;
        let all = "SELECT id, typeof(value), hex(CAST(value AS BLOB)), value IS (SELECT 0.1) FROM anything ORDER BY id";
        assert_eq!(phone.ask(all).len(), 12);
        let mut of_phone = phone.ask("SELECT typeof(value), quote(value), hex(CAST(value AS BLOB)) FROM anything");
        let mut of_laptop = laptop.ask("SELECT typeof(value), quote(value), hex(CAST(value AS BLOB)) FROM anything");
        of_phone.sort();
        of_laptop.sort();
        assert_eq!(of_phone, of_laptop);
        assert_eq!(laptop.sync().await.pulled, 0);
        Ok(())
    });
}

#[test]
fn every_kind_of_key_is_synced() {
    run(async |world| {
        let schema = "
            CREATE TABLE films (code INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE details (person INTEGER PRIMARY KEY REFERENCES people, text TEXT);
            CREATE TABLE settings (name TEXT NOT NULL, scope INTEGER NOT NULL, value, UNIQUE (name, scope));
            CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT, count INTEGER);
            CREATE TABLE log (line TEXT, number INTEGER);";
        let tables = || {
            [
                Track::new("films").identity(Identity::Verbatim),
                Track::new("people"),
                Track::new("details"),
                Track::new("settings"),
                Track::new("words").identity(Identity::Columns(vec!["word".into()])),
                Track::new("log").identity(Identity::WholeRow),
            ]
        };
        let laptop = Device::start(&world, "laptop", schema, tables()).await;
        let phone = Device::start(&world, "phone", schema, tables()).await;
        phone.run("INSERT INTO people VALUES (1, 'Ada'), (2, 'Eve'); INSERT INTO words VALUES (1, 'to', 5)");
        phone.run("INSERT INTO films VALUES (8, 'Eight'); INSERT INTO log VALUES ('b', 2)");
        laptop.run("INSERT INTO films VALUES (8, 'Huit'), (-3, 'Minus'); INSERT INTO people VALUES (1, 'Bob'); INSERT INTO details VALUES (1, 'tall')");
        laptop.run("INSERT INTO settings VALUES ('size', 1, 10), ('size', 2, 20); INSERT INTO words VALUES (9, 'be', 1), (10, 'to', 5)");
        laptop.run("INSERT INTO log VALUES ('a', 1), ('a', 1), ('a', NULL), ('b', 2)");
        settle(&laptop, &phone).await;
        laptop.run("UPDATE settings SET value = 30 WHERE scope = 2; UPDATE settings SET scope = 3 WHERE scope = 1; DELETE FROM log WHERE number = 2; UPDATE log SET line = 'c' WHERE number IS NULL");
        settle(&laptop, &phone).await;
        for sql in [
            "SELECT * FROM films ORDER BY 1",
            "SELECT p.name, d.text FROM people p LEFT JOIN details d ON d.person = p.id ORDER BY 1",
            "SELECT * FROM settings ORDER BY 1, 2",
            "SELECT word, count FROM words ORDER BY 1",
            "SELECT DISTINCT * FROM log ORDER BY 1, 2",
        ] {
            assert_eq!(laptop.ask(sql), phone.ask(sql), "{sql}");
        }
        assert_eq!(
            phone.ask("SELECT name, text FROM people, details WHERE person = id"),
            ["Bob|tall"]
        );
        assert_eq!(
            phone.ask("SELECT * FROM settings ORDER BY 1, 2"),
            ["size|2|30", "size|3|10"]
        );
        assert_eq!(phone.ask("SELECT * FROM log ORDER BY 1"), ["a|1", "c|-"]);
        assert_eq!(phone.ask("SELECT word, count FROM words ORDER BY 1"), ["be|1", "to|5"]);
        Ok(())
    });
}

/// T9: what goes out of a table for a moment takes no children with it.
#[test]
fn rows_that_change_places_keep_children() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        laptop.run("INSERT INTO lists VALUES (1, 'a'), (2, 'b'); INSERT INTO tasks VALUES (1, 1, 'in a', 0), (2, 2, 'in b', 0)");
        settle(&laptop, &phone).await;
        laptop.run("UPDATE lists SET name = 'x' WHERE id = 1; UPDATE lists SET name = 'a' WHERE id = 2; UPDATE lists SET name = 'b' WHERE id = 1");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask(ALL), ["a|in b|0|-", "b|in a|0|-"]);
        Ok(())
    });
}

/// What an app's trigger does on one device is not done again on the other, and does not come back.
#[test]
fn effects_of_triggers_do_not_echo() {
    run(async |world| {
        let schema = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, edits INTEGER NOT NULL DEFAULT 0);
            CREATE TABLE audit (id INTEGER PRIMARY KEY, line TEXT);
            CREATE VIRTUAL TABLE search USING fts5 (text);
            CREATE TRIGGER count AFTER UPDATE OF text ON notes BEGIN UPDATE notes SET edits = edits + 1 WHERE id = NEW.id; INSERT INTO audit (line) VALUES (NEW.text); END;
            CREATE TRIGGER found AFTER INSERT ON notes BEGIN INSERT INTO search (rowid, text) VALUES (NEW.id, NEW.text); END;
            CREATE TRIGGER found_again AFTER UPDATE OF text ON notes BEGIN UPDATE search SET text = NEW.text WHERE rowid = NEW.id; END;";
        let laptop = Device::start(&world, "laptop", schema, ["notes", "audit"]).await;
        let phone = Device::start(&world, "phone", schema, ["notes", "audit"]).await;
        laptop.run("INSERT INTO notes (text) VALUES ('one')");
        settle(&laptop, &phone).await;
        laptop.run("UPDATE notes SET text = 'two'");
        settle(&laptop, &phone).await;
        assert_eq!(phone.sync().await.pushed, 0);
        for device in [&laptop, &phone] {
            assert_eq!(device.ask("SELECT text, edits FROM notes"), ["two|1"]);
            assert_eq!(device.ask("SELECT line FROM audit"), ["two"]);
            assert_eq!(
                device.ask("SELECT count(*) FROM search WHERE search MATCH 'two'"),
                ["1"]
            );
        }
        Ok(())
    });
}

/// T14: what a trigger or an index needs of the app is named, and can be given.
#[test]
fn missing_function_is_named_and_given() {
    run(async |world| {
        let (client, device) = world.device("laptop").await?;
        let path = world.path("app.db");
        let register = |connection: &rusqlite::Connection| {
            let flags = rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC
                | rusqlite::functions::FunctionFlags::SQLITE_UTF8;
            connection.create_scalar_function("shout", 1, flags, |context| {
                Ok(context.get::<String>(0)?.to_uppercase())
            })
        };
        let app = rusqlite::Connection::open(&path)?;
        register(&app)?;
        app.execute_batch(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); CREATE UNIQUE INDEX loud ON notes (shout(text))",
        )?;
        let db = SyncedDatabase::open(&path, client.clone(), device.id).await?;
        let error = db.track(["notes"]).await.unwrap_err();
        assert!(
            matches!(&error, Error::NotReady { finding: Finding::NotWritable { message }, .. } if message.contains("shout")),
            "{error}"
        );
        let db = SyncedDatabase::open_with(&path, client, device.id, register).await?;
        db.track(["notes"]).await?;
        app.execute("INSERT INTO notes (text) VALUES ('one')", [])?;
        assert_eq!(db.sync().await?.pushed, 1);
        Ok(())
    });
}

#[test]
fn refused_row_waits_and_holds_nothing_up() {
    run(async |world| {
        let laptop = Device::start(
            &world,
            "laptop",
            "CREATE TABLE n (id INTEGER PRIMARY KEY, v INTEGER)",
            ["n"],
        )
        .await;
        let strict = "CREATE TABLE n (id INTEGER PRIMARY KEY, v INTEGER CHECK (v < 1000))";
        let phone = Device::start(&world, "phone", strict, ["n"]).await;
        laptop.run("INSERT INTO n (v) VALUES (5000); INSERT INTO n (v) WITH RECURSIVE s (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM s WHERE x < 700) SELECT x FROM s");
        laptop.sync().await;
        assert_eq!(phone.sync().await.parked, 1);
        assert_eq!(phone.ask("SELECT count(*), max(v) FROM n"), ["700|700"]);
        laptop.run("UPDATE n SET v = 999 WHERE v = 5000");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask("SELECT count(*), max(v) FROM n"), ["701|999"]);
        assert_eq!(phone.sync().await.parked, 0);
        Ok(())
    });
}

#[test]
fn row_too_large_for_a_batch_stays_here() {
    run(async |world| {
        let columns: Vec<String> = (0..60).map(|number| format!("c{number} TEXT")).collect();
        let schema = format!("CREATE TABLE wide (id INTEGER PRIMARY KEY, {})", columns.join(", "));
        let laptop = Device::start(&world, "laptop", &schema, ["wide"]).await;
        let phone = Device::start(&world, "phone", &schema, ["wide"]).await;
        let sets: Vec<String> = (0..60)
            .map(|number| format!("c{number} = hex(zeroblob(32000))"))
            .collect();
        laptop.run("INSERT INTO wide (c0) VALUES ('a'), ('b'), ('c')");
        laptop.run(&format!("UPDATE wide SET {} WHERE id = 1", sets.join(", ")));
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unsendable), (2, 1));
        phone.sync().await;
        assert_eq!(phone.ask("SELECT c0 FROM wide ORDER BY 1"), ["b", "c"]);
        Ok(())
    });
}

#[test]
fn file_belongs_to_its_first_user() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        laptop.sync().await;
        let client = world.client();
        client.create_account("other@example.com", "another password").await?;
        client.authenticate("other@example.com", "another password").await?;
        client.setup_encryption_new("another password").await?;
        let device = client.register_device("theirs", "linux").await?;
        let db = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        assert!(matches!(db.sync().await, Err(Error::OtherUser)));
        Ok(())
    });
}

/// An edit and a push of another device are there a moment later, without a call.
#[test]
fn running_sync_hears_of_both_sides() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        let mut changes = phone.db.changes();
        let _running = (laptop.db.spawn(), phone.db.spawn());
        laptop.run("INSERT INTO lists VALUES (1, 'Home')");
        assert_eq!(changes.next().await, Some(["lists".to_owned()].into()));
        assert_eq!(phone.ask("SELECT name FROM lists"), ["Home"]);
        let mut changes = laptop.db.changes();
        phone.run("INSERT INTO tasks VALUES (1, 1, 'Sweep', 0)");
        assert_eq!(changes.next().await, Some(["tasks".to_owned()].into()));
        Ok(())
    });
}

/// A row whose key is made of rows follows one of them that became another row.
#[test]
fn pair_follows_its_merged_row() {
    run(async |world| {
        let schema = "
            CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
            CREATE TABLE colors (tag INTEGER PRIMARY KEY REFERENCES tags ON DELETE CASCADE, color TEXT);
            CREATE TABLE marks (tag INTEGER REFERENCES tags ON DELETE CASCADE, at INTEGER);
            CREATE TABLE tagged (note INTEGER REFERENCES notes ON DELETE CASCADE, tag INTEGER REFERENCES tags ON DELETE CASCADE, weight INTEGER, PRIMARY KEY (note, tag)) WITHOUT ROWID;";
        let marks = Track::new("marks").identity(Identity::WholeRow);
        let tables = || {
            ["notes", "tags", "colors", "tagged"]
                .map(Track::new)
                .into_iter()
                .chain([marks.clone()])
        };
        let laptop = Device::start(&world, "laptop", schema, tables()).await;
        let phone = Device::start(&world, "phone", schema, tables()).await;
        laptop.run("INSERT INTO tags VALUES (1, 'red')");
        phone.run("INSERT INTO notes VALUES (1, 'one'); INSERT INTO tags VALUES (2, 'red'); INSERT INTO colors VALUES (2, '#f00'); INSERT INTO marks VALUES (2, 5); INSERT INTO tagged VALUES (1, 2, 7)");
        settle(&laptop, &phone).await;
        assert_eq!(phone.sync().await.parked, 0);
        assert_eq!(phone.ask("SELECT * FROM tagged"), ["1|2|7"]);
        assert_eq!(phone.ask("SELECT * FROM colors"), ["2|#f00"]);
        assert_eq!(laptop.ask("SELECT weight FROM tagged"), ["7"]);
        phone.run("INSERT INTO marks VALUES (2, 6)");
        assert_eq!(phone.sync().await.pushed, 1);
        laptop.run("DELETE FROM notes; UPDATE colors SET color = 'ff0000'");
        settle(&laptop, &phone).await;
        assert_eq!(phone.ask("SELECT count(*) FROM tagged"), ["0"]);
        assert_eq!(phone.ask("SELECT * FROM colors"), ["2|ff0000"]);
        assert_eq!(phone.ask("PRAGMA foreign_key_check").len(), 0);
        Ok(())
    });
}

/// After the greatest number SQLite gives numbers that are free, and so do we.
#[test]
fn last_number_costs_no_reference() {
    run(async |world| {
        let schema = "CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT, up INTEGER REFERENCES parents);
                      CREATE TABLE children (name TEXT PRIMARY KEY, parent INTEGER REFERENCES parents, note TEXT);";
        let laptop = Device::start(&world, "laptop", schema, ["parents", "children"]).await;
        let phone = Device::start(&world, "phone", schema, ["parents", "children"]).await;
        phone.run("INSERT INTO parents VALUES (9223372036854775807, 'last', NULL)");
        laptop.run("INSERT INTO parents VALUES (1, 'one', NULL), (2, 'two', 1); INSERT INTO children VALUES ('a', 1, ''), ('b', 2, '')");
        settle(&laptop, &phone).await;
        phone.run("UPDATE children SET note = 'edited'; UPDATE parents SET name = name || '!'");
        settle(&phone, &laptop).await;
        for device in [&laptop, &phone] {
            let all = "SELECT c.name, p.name, u.name FROM children c LEFT JOIN parents p ON p.id = c.parent LEFT JOIN parents u ON u.id = p.up ORDER BY 1";
            assert_eq!(device.ask(all), ["a|one!|-", "b|two!|one!"]);
        }
        Ok(())
    });
}

#[test]
fn row_without_a_key_is_counted() {
    run(async |world| {
        let schema = "CREATE TABLE bag (k TEXT PRIMARY KEY, v)";
        let laptop = Device::start(&world, "laptop", schema, ["bag"]).await;
        laptop.run("INSERT INTO bag VALUES ('a', 1), (NULL, 2), (NULL, 3)");
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unnamed), (1, 2));
        laptop.run("UPDATE bag SET k = v");
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unnamed), (4, 0));
        Ok(())
    });
}
