//! What the app's own triggers, collations and tables do while rows of other devices are written.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use synckit_doctest::{World, run};
use synckit_sqlite::{
    SyncedDatabase,
    track::{Identity, Track},
};
use tokio::time::timeout;

use super::device::{Device, settle};

#[test]
fn deletion_is_done_although_a_trigger_refuses() {
    run(async |world| {
        let schema = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
        let laptop = Device::start(&world, "laptop", schema, ["notes"]).await;
        let phone = Device::start(&world, "phone", schema, ["notes"]).await;
        laptop.run("INSERT INTO notes VALUES (1, 'keep'), (2, 'go')");
        settle(&laptop, &phone).await;
        // A newer version of the app.
        phone.run("CREATE TRIGGER keep BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 'never'); END");
        laptop.run("DELETE FROM notes WHERE id = 2");
        laptop.sync().await;
        let report = timeout(Duration::from_secs(20), phone.sync()).await?;
        assert_eq!((report.pulled, report.pushed, report.parked), (1, 0, 0));
        assert_eq!(phone.ask("SELECT text FROM notes"), ["keep"]);
        laptop.sync().await;
        assert_eq!(laptop.ask("SELECT text FROM notes"), ["keep"]);
        Ok(())
    });
}

/// A trigger plays the foreign key, so that the schema says nothing of it.
#[test]
fn rows_come_after_those_that_a_trigger_wants() {
    run(async |world| {
        let schema = "
            CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT);
            CREATE TABLE a_links (id INTEGER PRIMARY KEY, book INTEGER, author INTEGER);
            CREATE TRIGGER ins BEFORE INSERT ON a_links BEGIN
              SELECT RAISE(ABORT, 'no such book') WHERE NEW.book NOT IN (SELECT id FROM books);
              SELECT RAISE(ABORT, 'no such author') WHERE NEW.author NOT IN (SELECT id FROM authors); END;
            CREATE TRIGGER del BEFORE DELETE ON authors BEGIN
              SELECT RAISE(ABORT, 'author is in use') WHERE OLD.id IN (SELECT author FROM a_links); END;";
        let links = Track::new("a_links")
            .references("book", "books")
            .references("author", "authors");
        let tracks = || [links.clone(), "authors".into(), "books".into()];
        let laptop = Device::start(&world, "laptop", schema, tracks()).await;
        let phone = Device::start(&world, "phone", schema, tracks()).await;
        laptop.run("INSERT INTO authors VALUES (1, 'Ann'), (2, 'Bob'); INSERT INTO books VALUES (5, 'A book'); INSERT INTO a_links VALUES (1, 5, 1), (2, 5, 2)");
        laptop.sync().await;
        assert_eq!(phone.sync().await.parked, 0);
        laptop.run("DELETE FROM a_links WHERE author = 1; DELETE FROM authors WHERE id = 1");
        laptop.sync().await;
        phone.run("CREATE TABLE told (name TEXT); CREATE TRIGGER tell AFTER DELETE ON authors BEGIN INSERT INTO told VALUES (OLD.name); END");
        assert_eq!(phone.sync().await.parked, 0);
        let all = "SELECT title, name FROM a_links l JOIN books b ON b.id = book JOIN authors a ON a.id = author";
        assert_eq!(phone.ask(all), ["A book|Bob"]);
        // It was deleted in an order that every trigger accepts.
        assert_eq!(phone.ask("SELECT name FROM told"), ["Ann"]);
        Ok(())
    });
}

/// The app's own cascades do not run while we write.
#[test]
fn local_rows_follow_what_other_devices_delete() {
    run(async |world| {
        let schema = "
            CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
            CREATE TABLE drafts (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE);
            CREATE TABLE undo (step INTEGER, draft INTEGER REFERENCES drafts ON DELETE CASCADE);
            CREATE TABLE tabs (name TEXT, note INTEGER REFERENCES notes ON DELETE SET NULL);
            CREATE TABLE history (note INTEGER REFERENCES notes);";
        let laptop = Device::start(&world, "laptop", schema, ["notes"]).await;
        let phone = Device::start(&world, "phone", schema, ["notes"]).await;
        laptop.run("INSERT INTO notes VALUES (1, 'stays'), (2, 'goes')");
        settle(&laptop, &phone).await;
        phone.run("INSERT INTO drafts SELECT 10 + id, id FROM notes; INSERT INTO undo SELECT 1, id FROM drafts; INSERT INTO tabs SELECT 'tab', id FROM notes ORDER BY id");
        // This one the app does not enforce.
        phone.run("PRAGMA foreign_keys = OFF; INSERT INTO history SELECT id FROM notes; INSERT INTO history VALUES (77); PRAGMA foreign_keys = ON");
        let stays = phone.ask("SELECT id FROM notes WHERE text = 'stays'");
        laptop.run("DELETE FROM notes WHERE id = 2");
        laptop.sync().await;
        phone.sync().await;
        assert_eq!(phone.ask("SELECT note FROM drafts"), stays);
        assert_eq!(phone.ask("SELECT draft - 10 FROM undo"), stays);
        assert_eq!(
            phone.ask("SELECT note FROM tabs ORDER BY 1 DESC"),
            [stays.concat(), "-".into()]
        );
        assert_eq!(phone.ask("SELECT count(*) FROM history"), ["3"]);
        Ok(())
    });
}

#[test]
fn rows_that_a_trigger_makes_do_not_double() {
    run(async |world| {
        let schema = "
            CREATE TABLE messages (id TEXT PRIMARY KEY, text TEXT); CREATE TABLE mentions (message TEXT, name TEXT);
            CREATE TRIGGER mention AFTER INSERT ON messages BEGIN INSERT INTO mentions VALUES (NEW.id, NEW.text); END;";
        let mentions = Track::new("mentions").identity(Identity::WholeRow);
        let tracks = || [mentions.clone(), "messages".into()];
        let laptop = Device::start(&world, "laptop", schema, tracks()).await;
        let phone = Device::start(&world, "phone", schema, tracks()).await;
        laptop.run("INSERT INTO messages VALUES ('a', 'Ann'), ('b', 'Bob')");
        settle(&laptop, &phone).await;
        // A mention that comes before its message.
        laptop.run("INSERT INTO mentions VALUES ('c', 'Cid')");
        settle(&laptop, &phone).await;
        laptop.run("DROP TRIGGER mention; INSERT INTO messages VALUES ('c', 'Cid')");
        settle(&laptop, &phone).await;
        assert_eq!(
            phone.ask("SELECT * FROM mentions ORDER BY 1"),
            ["a|Ann", "b|Bob", "c|Cid"]
        );
        assert_eq!(
            laptop.ask("SELECT * FROM mentions ORDER BY 1"),
            ["a|Ann", "b|Bob", "c|Cid"]
        );
        Ok(())
    });
}

fn register(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_collation("unicase", |a, b| a.to_lowercase().cmp(&b.to_lowercase()))
}

async fn with_collation(world: &World, name: &str) -> (Connection, SyncedDatabase) {
    let path = world.path(name);
    let (client, device) = world.device(name).await.unwrap();
    let app = Connection::open::<&Path>(&path).unwrap();
    register(&app).unwrap();
    app.execute_batch("CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT COLLATE unicase UNIQUE, color TEXT)")
        .unwrap();
    let db = SyncedDatabase::open_with(&path, client, device.id, register)
        .await
        .unwrap();
    db.track(["tags"]).await.unwrap();
    (app, db)
}

#[test]
fn unique_under_a_collation_of_the_app_is_merged() {
    run(async |world| {
        let (laptop, left) = with_collation(&world, "laptop").await;
        let (phone, right) = with_collation(&world, "phone").await;
        laptop.execute_batch("INSERT INTO tags (name, color) VALUES ('\u{c4}pfel', 'red'), ('Birnen', NULL)")?;
        phone.execute_batch("INSERT INTO tags (name, color) VALUES ('\u{e4}PFEL', NULL), ('Nüsse', 'brown')")?;
        for db in [&left, &right, &left] {
            let report = db.sync().await?;
            assert_eq!(report.parked, 0);
        }
        for app in [&laptop, &phone] {
            let tags = super::device::ask(app, "SELECT name, color FROM tags ORDER BY name");
            assert_eq!(tags, ["Birnen|-", "Nüsse|brown", "\u{c4}pfel|red"]);
        }
        Ok(())
    });
}
