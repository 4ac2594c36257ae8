//! What the server refuses for good holds nothing up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{Error as ClientError, Quota};
use synckit_doctest::run;
use synckit_sqlite::{Error, SyncStatus, SyncedDatabase};

use super::{
    device::{Device, settle},
    gateway::{Fate, Gateway},
};

pub(crate) const SCHEMA: &str =
    "CREATE TABLE notes (name TEXT PRIMARY KEY, a TEXT, b TEXT, c TEXT, d TEXT, e TEXT, f TEXT)";
/// First in the queue by its name.
const LARGE: &str = "INSERT INTO notes VALUES ('a', hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)))";
pub(crate) const THOUSAND: &str = "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 1000) INSERT INTO notes (name, a) SELECT 'b' || x, 'small' FROM c";
const COUNT: &str = "SELECT count(*) FROM notes WHERE name LIKE 'b%'";

/// A proxy before the server takes no more than 100 KiB: one row is larger, and first.
#[test]
fn refused_row_lets_a_thousand_pass() {
    run(async |world| {
        let gateway = Gateway::with_limit(100 << 10);
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway.clone()).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        phone.run("INSERT INTO notes (name) VALUES ('remote')");
        phone.sync().await;
        laptop.run(LARGE);
        laptop.run(THOUSAND);
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.pulled, report.unsendable), (1000, 1, 1));
        let parked = laptop.db.parked().await?;
        assert_eq!(parked.len(), 1);
        assert_eq!((parked[0].table.as_str(), parked[0].id.as_str()), ("notes", "a"));
        assert!(parked[0].why.contains("413"), "{parked:?}");
        phone.sync().await;
        assert_eq!(phone.ask(COUNT), ["1000"]);
        // It is not sent again and again, but after an edit it is.
        let pushes = gateway.pushes();
        laptop.run("INSERT INTO notes (name) VALUES ('next')");
        assert_eq!(laptop.sync().await.pushed, 1);
        assert_eq!(gateway.pushes(), pushes + 1);
        laptop.run("UPDATE notes SET b = '', c = '', d = '', e = '', f = '' WHERE name = 'a'");
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unsendable), (1, 0));
        Ok(())
    });
}

/// An edit of a row that the log has is not forgotten either, when other devices' edits are merged.
#[test]
fn refused_edit_waits_through_merges() {
    run(async |world| {
        let gateway = Gateway::with_limit(100 << 10);
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway.clone()).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name) VALUES ('a'), ('b')");
        laptop.sync().await;
        phone.sync().await;
        laptop.run("UPDATE notes SET b = hex(randomblob(30000)), c = hex(randomblob(30000)), d = hex(randomblob(30000)) WHERE name = 'a'");
        assert_eq!(laptop.sync().await.unsendable, 1);
        let pushes = gateway.pushes();
        phone.run("UPDATE notes SET a = 'theirs' WHERE name = 'b'");
        phone.sync().await;
        let report = laptop.sync().await;
        assert_eq!((report.pulled, report.unsendable), (1, 1));
        assert_eq!(gateway.pushes(), pushes);
        assert_eq!(
            laptop.ask("SELECT name, a, length(b) FROM notes"),
            ["a|-|60000", "b|theirs|-"]
        );
        Ok(())
    });
}

/// A file over the limit of the account holds up neither other rows nor what comes.
#[test]
fn refused_file_lets_a_thousand_pass() {
    run(async |mut world| {
        world.reconfigure(|config| config.quotas.blobs = 0).await?;
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        phone.run("INSERT INTO notes (name) VALUES ('remote')");
        phone.sync().await;
        laptop.run("INSERT INTO notes (name, a) VALUES ('a', hex(zeroblob(50000)))");
        laptop.run(THOUSAND);
        for _ in 0..2 {
            let error = laptop.db.sync().await.unwrap_err();
            assert!(
                matches!(error, Error::Client(ClientError::QuotaExceeded { quota: Quota::Blobs })),
                "{error:?}"
            );
            assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Blobs));
        }
        assert_eq!(laptop.ask("SELECT count(*) FROM notes"), ["1002"]);
        phone.sync().await;
        assert_eq!(phone.ask(COUNT), ["1000"]);
        world.reconfigure(|_| {}).await?;
        let (client, device) = world.device("laptop").await?;
        let again = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        assert_eq!(again.sync().await?.pushed, 1);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT length(a) FROM notes WHERE name = 'a'"), ["100000"]);
        Ok(())
    });
}

/// Of a batch without an answer, a proxy refuses the repetition: the log says whether it arrived. If it did, it is this device's own.
#[test]
fn refused_repetition_is_not_taken_for_anothers() {
    run(async |world| {
        for (case, is_followed) in [(0, false), (1, true)] {
            let (name, schema) = (
                format!("laptop {case}"),
                "CREATE TABLE notes (name TEXT PRIMARY KEY, a TEXT)",
            );
            let gateway = Gateway::first([Fate::Unanswered, Fate::TooLarge]);
            let laptop = Device::over(&world, &name, schema, ["notes"], gateway).await;
            let phone = Device::start(&world, &format!("phone {case}"), schema, ["notes"]).await;
            phone.run("INSERT INTO notes (name) VALUES ('n')");
            settle(&phone, &laptop).await;
            laptop.run("UPDATE notes SET a = 'edited'");
            laptop.db.sync().await.unwrap_err();
            laptop.run("DELETE FROM notes");
            if is_followed {
                phone.run("INSERT INTO notes (name) VALUES ('next')");
                phone.sync().await;
            }
            let report = laptop.sync().await;
            assert_eq!((report.pushed, report.conflicts), (2, 0));
            phone.sync().await;
            let left: &[&str] = if is_followed { &["next"] } else { &[] };
            for device in [&laptop, &phone] {
                assert_eq!(device.ask("SELECT name FROM notes"), left);
            }
            phone.run("DELETE FROM notes");
            settle(&phone, &laptop).await;
        }
        Ok(())
    });
}

/// Nor does it hold anything up if it did not arrive.
#[test]
fn refused_repetition_of_a_lost_batch_is_merged_anew() {
    run(async |world| {
        let schema = "CREATE TABLE notes (name TEXT PRIMARY KEY, a TEXT)";
        let gateway = Gateway::first([Fate::Dropped, Fate::TooLarge]);
        let laptop = Device::over(&world, "laptop", schema, ["notes"], gateway).await;
        let phone = Device::start(&world, "phone", schema, ["notes"]).await;
        laptop.run("INSERT INTO notes (name) VALUES ('mine')");
        laptop.db.sync().await.unwrap_err();
        phone.run("INSERT INTO notes (name) VALUES ('theirs')");
        phone.sync().await;
        assert_eq!(laptop.sync().await.pushed, 1);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT name FROM notes ORDER BY 1"), ["mine", "theirs"]);
        Ok(())
    });
}

/// An app that commits during every push does not make the next one as large as the one that was refused.
#[test]
fn refused_size_is_remembered_while_the_app_edits() {
    run(async |world| {
        let (path, refused) = (world.path("laptop.db"), Arc::new(AtomicUsize::new(0)));
        let (edits, count) = (AtomicUsize::new(0), Arc::clone(&refused));
        let gateway = Gateway::new(move |body| {
            if edits.fetch_add(1, Ordering::SeqCst) < 30 {
                let app = rusqlite::Connection::open(&path).unwrap();
                app.execute("UPDATE notes SET b = random() WHERE name = 'clock'", [])
                    .unwrap();
            }
            if body.len() <= 100 << 10 {
                return Fate::Delivered;
            }
            count.fetch_add(1, Ordering::SeqCst);
            Fate::TooLarge
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 300) INSERT INTO notes (name, a) SELECT x, hex(randomblob(500)) FROM c");
        laptop.run("INSERT INTO notes (name) VALUES ('clock')");
        assert!(laptop.sync().await.pushed > 300);
        let refused = refused.load(Ordering::SeqCst);
        assert!(refused < 12, "{refused}");
        Ok(())
    });
}

/// A row that refers to one that the server refuses waits for it: elsewhere it would lead nowhere.
#[test]
fn child_of_a_refused_row_waits_for_it() {
    run(async |world| {
        let schema = "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT, b TEXT);
            CREATE TABLE notes (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists, text TEXT)";
        let laptop = Device::over(
            &world,
            "laptop",
            schema,
            ["lists", "notes"],
            Gateway::with_limit(50 << 10),
        )
        .await;
        let phone = Device::start(&world, "phone", schema, ["lists", "notes"]).await;
        laptop.run("INSERT INTO lists VALUES (1, 'large', hex(randomblob(30000)))");
        laptop.run("INSERT INTO notes VALUES (1, 1, 'child'), (2, NULL, 'free')");
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unsendable), (1, 2));
        assert_eq!(laptop.db.parked().await?.len(), 2);
        assert_eq!(phone.sync().await.parked, 0);
        assert_eq!(phone.ask("SELECT text FROM notes"), ["free"]);
        laptop.run("UPDATE lists SET b = NULL");
        let report = laptop.sync().await;
        assert_eq!((report.pushed, report.unsendable), (2, 0));
        phone.sync().await;
        assert_eq!(
            phone.ask("SELECT l.name, n.text FROM notes n JOIN lists l ON l.id = n.list"),
            ["large|child"]
        );
        Ok(())
    });
}

/// An app that never stops is not told that all is sent.
#[test]
fn edits_without_end_are_not_idle() {
    run(async |world| {
        let path = world.path("laptop.db");
        let gateway = Gateway::new(move |_| {
            let app = rusqlite::Connection::open(&path).unwrap();
            app.execute("UPDATE notes SET b = random()", []).unwrap();
            Fate::Delivered
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway).await;
        laptop.run("INSERT INTO notes (name) VALUES ('clock')");
        let error = laptop.db.sync().await.unwrap_err();
        assert!(matches!(error, Error::Unfinished), "{error:?}");
        assert!(matches!(laptop.db.status().now(), SyncStatus::Failed(_)));
        Ok(())
    });
}
