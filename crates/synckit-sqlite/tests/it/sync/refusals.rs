//! What the server refuses for good holds nothing up.

use synckit_client::{Error as ClientError, Quota};
use synckit_doctest::run;
use synckit_sqlite::{Error, SyncStatus, SyncedDatabase};

use super::{device::Device, gateway::Gateway};

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
        assert_eq!(laptop.sync().await.pushed, 1);
        Ok(())
    });
}
