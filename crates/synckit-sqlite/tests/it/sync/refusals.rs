//! What the server refuses for good holds nothing up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{Error as ClientError, Quota};
use synckit_doctest::run;
use synckit_sqlite::{Error, SyncStatus, SyncedDatabase};

use super::{
    device::{Device, settle, soon},
    gateway::{Fate, Gateway},
};

const SCHEMA: &str = "CREATE TABLE notes (name TEXT PRIMARY KEY, a TEXT, b TEXT, c TEXT, d TEXT, e TEXT, f TEXT)";
/// First in the queue by its name.
const LARGE: &str = "INSERT INTO notes VALUES ('a', hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)), hex(randomblob(30000)))";
const THOUSAND: &str = "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 1000) INSERT INTO notes (name, a) SELECT 'b' || x, 'small' FROM c";
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

/// Nothing can be stored: what comes still comes, and the unsent batch waits.
#[test]
fn full_account_still_receives() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        phone.run("INSERT INTO notes (name) VALUES ('remote')");
        phone.sync().await;
        world.reconfigure(|config| config.quotas.bytes = 1).await?;
        laptop.run("INSERT INTO notes (name) VALUES ('mine')");
        for _ in 0..2 {
            laptop.db.sync().await.unwrap_err();
            assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Bytes));
            assert_eq!(laptop.ask("SELECT name FROM notes ORDER BY 1"), ["mine", "remote"]);
        }
        world.reconfigure(|_| {}).await?;
        let (client, device) = world.device("laptop").await?;
        let again = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        assert_eq!(again.sync().await?.pushed, 1);
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

/// The first file that the account has no room for is the last one that is tried: each would be read, and none stored.
#[test]
fn full_account_is_asked_for_one_file_only() {
    run(async |mut world| {
        world.reconfigure(|config| config.quotas.blobs = 2).await?;
        let gateway = Gateway::new(|_| Fate::Delivered);
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway.clone()).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 10) INSERT INTO notes (name, a) SELECT 'a' || x, hex(randomblob(40000)) FROM c");
        laptop.run(THOUSAND);
        laptop.db.sync().await.unwrap_err();
        assert_eq!(gateway.uploads(), 3);
        assert_eq!(laptop.db.parked().await?.len(), 8);
        assert_eq!(laptop.ask("SELECT count(*) FROM synckit_files"), ["0"]);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM notes"), ["1002"]);
        // A row with a file that the log has is sent.
        laptop.run("UPDATE notes SET b = 'edited' WHERE name LIKE 'a%'");
        laptop.db.sync().await.unwrap_err();
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM notes WHERE b = 'edited'"), ["2"]);
        Ok(())
    });
}

/// The account has room for a few small rows only: they do not wait behind the large ones.
#[test]
fn small_rows_find_the_last_room() {
    run(async |mut world| {
        let gateway = Gateway::new(|_| Fate::Delivered);
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway.clone()).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name) VALUES ('first')");
        laptop.sync().await;
        let room = laptop.client.status().await?.stored_bytes + 20_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 300) INSERT INTO notes (name, a) SELECT 'a' || x, hex(randomblob(30000)) FROM c");
        laptop.run("UPDATE notes SET a = 'renamed' WHERE name = 'first'; INSERT INTO notes (name) VALUES ('small')");
        let pushes = gateway.pushes();
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Bytes));
        assert!(gateway.pushes() - pushes < 30, "{}", gateway.pushes() - pushes);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT name, a FROM notes"), ["first|renamed", "small|-"]);
        Ok(())
    });
}

/// A running sync goes on at a limit: what fits is sent, and what comes is taken over, within a moment.
#[test]
fn running_sync_goes_on_at_a_limit() {
    run(async |mut world| {
        world.reconfigure(|config| config.quotas.blobs = 0).await?;
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name, a) VALUES ('a', hex(zeroblob(50000)))");
        let mut status = laptop.db.status();
        let (mut here, mut there) = (laptop.db.changes(), phone.db.changes());
        let _running = (laptop.db.spawn(), phone.db.spawn());
        soon(async { while status.next().await != Some(SyncStatus::OverLimit(Quota::Blobs)) {} }).await;
        laptop.run("INSERT INTO notes (name) VALUES ('mine')");
        soon(there.next()).await;
        phone.run("INSERT INTO notes (name) VALUES ('theirs')");
        soon(here.next()).await;
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
