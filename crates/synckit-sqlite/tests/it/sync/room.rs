//! An account that has no room for what is sent.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::Quota;
use synckit_doctest::run;
use synckit_sqlite::{Answer, Question, SyncStatus, SyncedDatabase};

use super::{
    device::{Device, question, soon},
    gateway::{Fate, Gateway},
    refusals::{SCHEMA, THOUSAND},
};

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

/// There is no room for the first file, which is large, and some for the others.
#[test]
fn small_files_find_the_last_room() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.sync().await;
        let room = laptop.client.status().await?.stored_bytes + 1_000_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        laptop.run("INSERT INTO notes (name, a) VALUES ('a', hex(randomblob(1000000)))");
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 5) INSERT INTO notes (name, a) SELECT 'b' || x, hex(randomblob(50000)) FROM c");
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Bytes));
        assert_eq!(laptop.db.parked().await?.len(), 1);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*), min(length(a)) FROM notes"), ["5|100000"]);
        Ok(())
    });
}

/// The user is asked about deletions, whatever else there is no room for.
#[test]
fn limit_hides_no_question() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run(THOUSAND);
        laptop.sync().await;
        world.reconfigure(|config| config.quotas.blobs = 0).await?;
        laptop.run("DELETE FROM notes");
        laptop.run("INSERT INTO notes (name, a) VALUES ('a', hex(zeroblob(50000)))");
        laptop.db.sync().await.unwrap_err();
        let asked = question(&laptop.db);
        assert!(matches!(asked, Question::Deletions { count: 1000, .. }), "{asked:?}");
        laptop.db.decide(&asked, Answer::Yes).await?;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Blobs));
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM notes"), ["0"]);
        Ok(())
    });
}

/// Who made room calls `sync`, and need not wait.
#[test]
fn called_sync_asks_for_room_at_once() {
    run(async |mut world| {
        world.reconfigure(|config| config.quotas.blobs = 0).await?;
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name, a) VALUES ('a', hex(zeroblob(50000)))");
        laptop.db.sync().await.unwrap_err();
        world.reconfigure(|_| {}).await?;
        assert_eq!(laptop.sync().await.pushed, 1);
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        Ok(())
    });
}

/// The history of rows fills the account: it is folded, and the same sync goes on.
#[test]
fn full_account_folds_and_goes_on() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name) VALUES ('a'), ('b')");
        for _ in 0..20 {
            laptop.run("UPDATE notes SET a = hex(randomblob(20000)) WHERE name = 'a'");
            laptop.sync().await;
        }
        let room = laptop.client.status().await?.stored_bytes + 10_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        // Far more than there was room for.
        for round in 0..10 {
            laptop.run(&format!(
                "UPDATE notes SET a = hex(randomblob(20000)), b = {round} WHERE name = 'a'"
            ));
            assert_eq!(laptop.sync().await.pushed, 1);
            assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        }
        laptop.run("DELETE FROM notes WHERE name = 'b'");
        assert_eq!(laptop.sync().await.pushed, 1);
        phone.sync().await;
        assert_eq!(phone.ask("SELECT name, b, length(a) FROM notes"), ["a|9|40000"]);
        Ok(())
    });
}

/// What fills the account are few large edits, far fewer than there are rows.
#[test]
fn few_large_edits_are_folded() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        // The rows are in a snapshot, and far more of them than edits that follow.
        laptop.db.fold_after(100);
        laptop.run(THOUSAND);
        laptop.sync().await;
        for _ in 0..9 {
            laptop.run("UPDATE notes SET a = hex(randomblob(20000)) WHERE rowid = 7");
            laptop.sync().await;
        }
        let room = laptop.client.status().await?.stored_bytes + 10_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        phone.run("INSERT INTO notes (name) VALUES ('of the phone')");
        phone.sync().await;
        // What came before the fold is told, too.
        let mut pulled = 0;
        for _ in 0..6 {
            laptop.run("UPDATE notes SET a = hex(randomblob(20000)) WHERE rowid = 7");
            let report = laptop.sync().await;
            assert_eq!(report.pushed, 1);
            pulled += report.pulled;
        }
        assert_eq!(pulled, 1);
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        Ok(())
    });
}

/// A fold that comes to nothing is not tried again at each sync: it reads the whole log.
#[test]
fn lost_fold_of_a_full_account_waits() {
    run(async |mut world| {
        let folds = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&folds);
        let gateway =
            Gateway::by_path(
                move |path, body| match path.starts_with("/api/sync/snapshots/") && !body.is_empty() {
                    true => {
                        count.fetch_add(1, Ordering::SeqCst);
                        Fate::Dropped
                    }
                    false => Fate::Delivered,
                },
            );
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway).await;
        laptop.run("INSERT INTO notes (name) VALUES ('a')");
        laptop.sync().await;
        world.reconfigure(|config| config.quotas.bytes = 1).await?;
        laptop.run("INSERT INTO notes (name) VALUES ('b')");
        for _ in 0..5 {
            laptop.db.sync().await.unwrap_err();
        }
        assert_eq!(folds.load(Ordering::SeqCst), 1);
        // There is room, and later none again: then it is tried at once.
        world.reconfigure(|_| {}).await?;
        laptop.sync().await;
        world.reconfigure(|config| config.quotas.bytes = 1).await?;
        laptop.run("INSERT INTO notes (name) VALUES ('c')");
        laptop.db.sync().await.unwrap_err();
        assert_eq!(folds.load(Ordering::SeqCst), 2);
        Ok(())
    });
}

/// Another device made room: what waited here is sent at once.
#[test]
fn room_that_another_device_made_is_used() {
    run(async |mut world| {
        let gateway =
            Gateway::by_path(
                |path, body| match path.starts_with("/api/sync/snapshots/") && !body.is_empty() {
                    true => Fate::Dropped,
                    false => Fate::Delivered,
                },
            );
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::over(&world, "phone", SCHEMA, ["notes"], gateway).await;
        laptop.run("INSERT INTO notes (name) VALUES ('a'), ('b')");
        for _ in 0..10 {
            laptop.run("UPDATE notes SET a = hex(randomblob(20000)) WHERE name = 'a'");
            laptop.sync().await;
        }
        phone.sync().await;
        let room = laptop.client.status().await?.stored_bytes + 10_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        let (mut status, mut news) = (phone.db.status(), laptop.db.changes());
        let _running = phone.db.spawn();
        phone.run("UPDATE notes SET a = hex(randomblob(20000)), b = 'of the phone' WHERE name = 'b'");
        soon(async { while status.next().await != Some(SyncStatus::OverLimit(Quota::Bytes)) {} }).await;
        laptop.run("UPDATE notes SET a = hex(randomblob(20000)), b = 'of the laptop' WHERE name = 'a'");
        laptop.sync().await;
        let _running = laptop.db.spawn();
        soon(async {
            while laptop.ask("SELECT b FROM notes WHERE name = 'b'") != ["of the phone"] {
                news.next().await;
            }
        })
        .await;
        Ok(())
    });
}

/// A running sync folds in a full account, too, and wakes up for what waited.
#[test]
fn running_sync_makes_room() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes (name) VALUES ('a'), ('b')");
        for _ in 0..10 {
            laptop.run("UPDATE notes SET a = hex(randomblob(20000)) WHERE name = 'a'");
            laptop.sync().await;
        }
        phone.sync().await;
        let room = laptop.client.status().await?.stored_bytes + 10_000;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        let mut news = phone.db.changes();
        let _running = (laptop.db.spawn(), phone.db.spawn());
        laptop.run("UPDATE notes SET a = hex(randomblob(20000)), b = 'sent' WHERE name = 'a'");
        soon(news.next()).await;
        assert_eq!(phone.ask("SELECT b FROM notes WHERE name = 'a'"), ["sent"]);
        Ok(())
    });
}

/// An account that is full of files, to the last byte that they may have, takes deletions and edits of rows.
#[test]
fn account_full_of_files_takes_deletions() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 3) INSERT INTO notes (name, a) SELECT 'a' || x, hex(randomblob(50000)) FROM c");
        laptop.sync().await;
        let server = rusqlite::Connection::open(world.path("data/synckit.db"))?;
        let file: i64 = server.query_row("SELECT max(size_bytes) FROM blobs", [], |row| row.get(0))?;
        drop(server);
        // One more file fits, and nothing beside it.
        let room = laptop.client.status().await?.stored_bytes + u64::try_from(file)? + 10;
        world.reconfigure(move |config| config.quotas.bytes = room).await?;
        laptop.run("INSERT INTO notes (name, a) VALUES ('a4', hex(randomblob(50000)))");
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::Bytes));
        laptop.run("DELETE FROM notes WHERE name = 'a1'; UPDATE notes SET b = 'edited' WHERE name = 'a2'");
        laptop.db.sync().await.unwrap_err();
        phone.sync().await;
        assert_eq!(phone.ask("SELECT name, b FROM notes ORDER BY 1"), ["a2|edited", "a3|-"]);
        // The user deletes what there was no room for, and all is well.
        laptop.run("DELETE FROM notes WHERE name = 'a4'");
        laptop.sync().await;
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        Ok(())
    });
}

/// Over the transfer budget files wait for a long time: rows do not wait behind them.
#[test]
fn rows_pass_files_that_are_slowed() {
    run(async |world| {
        let uploads = AtomicUsize::new(0);
        let gateway = Gateway::on("/api/sync/blobs/upload", move |_| {
            match uploads.fetch_add(1, Ordering::SeqCst) {
                0 => Fate::Slowed,
                _ => Fate::Delivered,
            }
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, ["notes"], gateway.clone()).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 3) INSERT INTO notes (name, a) SELECT 'file ' || x, hex(randomblob(50000)) FROM c");
        laptop.run("INSERT INTO notes (name) VALUES ('short')");
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::OverLimit(Quota::AppTransfer));
        assert_eq!(gateway.uploads(), 1, "the way is closed for the others, too");
        phone.sync().await;
        assert_eq!(phone.ask("SELECT name FROM notes"), ["short"]);
        laptop.sync().await;
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM notes"), ["4"]);
        Ok(())
    });
}
