//! Another server than before: restored from a backup, or with a revoked device.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use synckit_doctest::{World, run};
use synckit_sqlite::{Answer, Question, SyncStatus, SyncedDatabase, rows::Value};

use super::{
    device::{Device, lose_files, question, settle},
    gateway::{Fate, Gateway},
};

pub(crate) const SCHEMA: &str = "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists ON DELETE CASCADE, text TEXT, done INTEGER)";
pub(crate) const TABLES: [&str; 2] = ["lists", "notes"];
pub(crate) const ALL: &str =
    "SELECT l.name, substr(n.text, 1, 9), n.done FROM notes n LEFT JOIN lists l ON l.id = n.list ORDER BY 1, 2";

/// Says yes to the question that a sync ended with.
pub(crate) async fn agree(device: &Device) -> Question {
    device.db.sync().await.unwrap_err();
    let question = question(&device.db);
    // Nothing goes on by itself, nor after a no.
    device.db.decide(&question, Answer::No).await.unwrap();
    device.db.sync().await.unwrap_err();
    device.db.decide(&question, Answer::Yes).await.unwrap();
    question
}

pub(crate) async fn two(world: &World) -> (Device, Device) {
    let laptop = Device::start(world, "laptop", SCHEMA, TABLES).await;
    let phone = Device::start(world, "phone", SCHEMA, TABLES).await;
    laptop.run("INSERT INTO lists VALUES (1, 'Home'), (2, 'Old'); INSERT INTO notes VALUES (1, 1, 'kept', 0), (2, 2, 'old', 0), (3, 1, 'gone', 0)");
    settle(&laptop, &phone).await;
    (laptop, phone)
}

/// Every device has what each of them had, and nothing else.
#[test]
fn restored_server_loses_nothing() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        let backup = world.backup().await?;
        // What the backup lacks: edits, deletions, a long text; sent by one, received by both, or unsent.
        laptop.run("INSERT INTO lists VALUES (5, 'New'); INSERT INTO notes VALUES (5, 5, 'laptop', 0); DELETE FROM notes WHERE text = 'gone'; DELETE FROM lists WHERE name = 'Old'");
        laptop.run("INSERT INTO notes VALUES (6, 1, 'long' || hex(zeroblob(50000)), 0)");
        settle(&laptop, &phone).await;
        phone.run("INSERT INTO notes SELECT 9, id, 'phone', 0 FROM lists WHERE name = 'Home'");
        phone.sync().await;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
        world.restore(&backup).await?;
        for device in [&laptop, &phone] {
            let question = agree(device).await;
            assert!(matches!(question, Question::ServerRestored(Some(_))), "{question:?}");
            device.sync().await;
            assert!(matches!(device.db.status().now(), SyncStatus::Idle { .. }));
        }
        settle(&laptop, &phone).await;
        let all = ["Home|kept|1", "Home|long00000|0", "Home|phone|0", "New|laptop|0"];
        let fresh = Device::start(&world, "fresh", SCHEMA, TABLES).await;
        fresh.sync().await;
        for device in [&laptop, &phone, &fresh] {
            assert_eq!(device.ask(ALL), all);
            assert_eq!(device.ask("SELECT max(length(text)) FROM notes"), ["100004"]);
            assert_eq!(device.ask("SELECT name FROM lists ORDER BY 1"), ["Home", "New"]);
            assert_eq!(device.sync().await.pushed, 0);
        }
        Ok(())
    });
}

/// The file keeps the decision, so the next sync of any process goes on with it.
#[test]
fn decision_survives_a_restart() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'lost', 0)");
        laptop.sync().await;
        world.restore(&backup).await?;
        agree(&laptop).await;
        let (client, device) = world.device("laptop").await?;
        let again = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        assert_eq!(again.sync().await?.pushed, 1);
        // It is done, and is no decision about the next time.
        let agreed = "SELECT count(*) FROM synckit_state WHERE name IN ('restored', 'skipped', 'rejoin_due')";
        assert_eq!(laptop.ask(agreed), ["0"]);
        phone.sync().await;
        assert_eq!(phone.ask(ALL).len(), 4);
        Ok(())
    });
}

/// A backup from before a rotation: one question, one password.
#[test]
fn restored_key_takes_one_question() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        let backup = world.backup().await?;
        laptop.client.rotate_keys(world.password).await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'new key', 0)");
        laptop.sync().await;
        world.restore(&backup).await?;
        agree(&laptop).await;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsPassword);
        laptop.db.unlock(world.password).await?;
        laptop.sync().await;
        // This one never heard of the rotation.
        phone.db.sync().await.unwrap_err();
        assert_eq!(phone.db.status().now(), SyncStatus::NeedsPassword);
        phone.db.unlock(world.password).await?;
        phone.sync().await;
        assert_eq!(phone.ask(ALL), laptop.ask(ALL));
        assert_eq!(phone.ask(ALL)[2], "Home|new key|0");
        Ok(())
    });
}

/// The user signs in again: the device is another one, and goes on with its unsent edits and its batch.
#[test]
fn revoked_device_goes_on_after_sign_in() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        let revoked = world.device("laptop").await?.1;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'unsent', 0)");
        phone.client.revoke_device(revoked.id).await?;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsSignIn);
        laptop.client.authenticate(world.email, world.password).await?;
        assert_eq!(laptop.sync().await.pushed, 1);
        phone.sync().await;
        assert_eq!(phone.ask(ALL), laptop.ask(ALL));
        assert_eq!(phone.client.devices().await?.len(), 2);
        Ok(())
    });
}

/// Each column has a time of its own: a newer edit of one is not taken back by a newer edit of another.
#[test]
fn restored_columns_keep_their_own_times() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        let backup = world.backup().await?;
        // An edit has the time at which it was first looked at.
        phone.run("UPDATE notes SET text = 'phone' WHERE text = 'kept'");
        phone.db.parked().await?;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
        laptop.sync().await;
        world.restore(&backup).await?;
        phone.sync().await;
        agree(&laptop).await;
        laptop.sync().await;
        settle(&phone, &laptop).await;
        for device in [&laptop, &phone] {
            assert_eq!(
                device.ask("SELECT text, done FROM notes WHERE text NOT IN ('old', 'gone')"),
                ["phone|1"]
            );
            // What the backup has was replaced by somebody who knew it.
            assert_eq!(device.db.conflicts().await?, []);
        }
        Ok(())
    });
}

/// One user has one file and answers once, whichever process asks.
#[test]
fn second_process_follows_the_decision() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        let (client, device) = world.device("laptop").await?;
        let other = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'lost', 0)");
        other.sync().await?;
        laptop.sync().await;
        world.restore(&backup).await?;
        agree(&laptop).await;
        laptop.sync().await;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
        phone.run("UPDATE notes SET text = 'edited' WHERE text = 'kept'");
        phone.sync().await;
        let report = other.sync().await?;
        // The file was not read anew.
        assert_eq!((report.pushed, report.pulled, report.conflicts), (1, 1, 0));
        phone.sync().await;
        assert_eq!(
            phone.ask(ALL),
            ["Home|edited|1", "Home|gone|0", "Home|lost|0", "Old|old|0"]
        );
        // The next restored server is another question.
        world.restore(&backup).await?;
        other.sync().await.unwrap_err();
        assert!(matches!(question(&other), Question::ServerRestored(_)));
        Ok(())
    });
}

/// An answer is about one restored server, also if no sync ever ends well after it.
#[test]
fn decision_is_used_up_by_a_failing_sync() {
    run(async |mut world| {
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        let gateway = Gateway::new(move |_| match cut.load(Ordering::SeqCst) {
            true => Fate::Dropped,
            false => Fate::Delivered,
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        phone.run("INSERT INTO lists VALUES (1, 'Home')");
        settle(&phone, &laptop).await;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO lists VALUES (2, 'Laptop')");
        laptop.sync().await;
        world.restore(&backup).await?;
        agree(&laptop).await;
        is_cut.store(true, Ordering::SeqCst);
        phone.run("INSERT INTO lists VALUES (3, 'Phone')");
        phone.sync().await;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(
            laptop.ask("SELECT name FROM lists ORDER BY 1"),
            ["Home", "Laptop", "Phone"]
        );
        world.restore(&backup).await?;
        is_cut.store(false, Ordering::SeqCst);
        laptop.db.sync().await.unwrap_err();
        assert!(matches!(question(&laptop.db), Question::ServerRestored(_)));
        Ok(())
    });
}

/// A no takes back a yes that nothing came of yet.
#[test]
fn decision_can_be_taken_back() {
    run(async |mut world| {
        let (laptop, _phone) = two(&world).await;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'lost', 0)");
        laptop.sync().await;
        world.restore(&backup).await?;
        let asked = agree(&laptop).await;
        laptop.db.decide(&asked, Answer::No).await?;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(question(&laptop.db), asked);
        Ok(())
    });
}

/// A column that the backup lacks, at its default in a row that was edited since, is no edit of that column. Nor is a column that
/// this version of the app does not have.
#[test]
fn default_of_a_new_column_is_no_edit() {
    for is_laptop_new in [true, false] {
        run(async |mut world| {
            let (laptop, phone) = two(&world).await;
            let backup = world.backup().await?;
            let migrate = "ALTER TABLE notes ADD COLUMN color TEXT DEFAULT 'none'";
            phone.run(migrate);
            if is_laptop_new {
                laptop.run(migrate);
            }
            phone.run("UPDATE notes SET color = 'red' WHERE text = 'kept'");
            phone.db.parked().await?;
            laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
            laptop.sync().await;
            world.restore(&backup).await?;
            phone.sync().await;
            agree(&laptop).await;
            laptop.sync().await;
            if !is_laptop_new {
                laptop.run(migrate);
            }
            settle(&phone, &laptop).await;
            for device in [&laptop, &phone] {
                assert_eq!(
                    device.ask("SELECT done, color FROM notes WHERE text = 'kept'"),
                    ["1|red"],
                    "{is_laptop_new}"
                );
            }
            Ok(())
        });
    }
}

/// What the device that merges knew, read from a snapshot or not, was replaced knowingly: it is no conflict.
#[test]
fn values_of_a_snapshot_and_after_are_known() {
    run(async |mut world| {
        let (laptop, phone) = two(&world).await;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'old'");
        laptop.sync().await;
        let device = laptop.client.registered_device().await?.unwrap();
        laptop.client.fold(device).await?;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
        settle(&laptop, &phone).await;
        let backup = world.backup().await?;
        laptop.run("UPDATE notes SET done = 2 WHERE text = 'kept'");
        laptop.sync().await;
        world.restore(&backup).await?;
        phone.run("INSERT INTO notes (text) VALUES ('next')");
        phone.sync().await;
        agree(&laptop).await;
        assert_eq!(laptop.sync().await.pulled, 7);
        assert_eq!(laptop.ask("SELECT done FROM notes WHERE text = 'kept'"), ["2"]);
        assert_eq!(laptop.db.conflicts().await?, []);
        Ok(())
    });
}

/// So many pulls arrive.
fn counting_pulls() -> (Arc<Gateway>, Arc<AtomicUsize>) {
    let pulls_left = Arc::new(AtomicUsize::new(usize::MAX));
    let left = Arc::clone(&pulls_left);
    let gateway = Gateway::on("/api/sync/pull", move |_| {
        let is_left = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        is_left.map_or(Fate::Dropped, |_| Fate::Delivered)
    });
    (gateway, pulls_left)
}

/// The server is restored twice, the second time while the first history is being read: what is in the second one alone is a
/// conflict when it loses.
#[test]
fn second_restore_hides_no_conflict() {
    run(async |mut world| {
        let (gateway, pulls_left) = counting_pulls();
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        phone.run("INSERT INTO notes VALUES (1, NULL, 'kept', 0)");
        settle(&phone, &laptop).await;
        let first = world.backup().await?;
        phone.run("UPDATE notes SET text = 'phone'");
        phone.db.parked().await?;
        laptop.run("UPDATE notes SET text = 'laptop'");
        laptop.sync().await;
        let second = world.backup().await?;
        laptop.run("UPDATE notes SET done = 1");
        laptop.sync().await;
        world.restore(&second).await?;
        agree(&laptop).await;
        // The question is asked by one pull. The next one does not arrive.
        pulls_left.store(1, Ordering::SeqCst);
        laptop.db.sync().await.unwrap_err();
        assert_eq!(
            laptop.ask("SELECT value FROM synckit_state WHERE name = 'cursor'"),
            ["0"]
        );
        pulls_left.store(usize::MAX, Ordering::SeqCst);
        world.restore(&first).await?;
        phone.sync().await;
        agree(&laptop).await;
        laptop.sync().await;
        assert_eq!(laptop.ask("SELECT text, done FROM notes"), ["laptop|1"]);
        let conflicts = laptop.db.conflicts().await?;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert_eq!(conflicts[0].lost.get("text"), Some(&Value::text("phone")));
        Ok(())
    });
}

/// The user agreed to one history. Another process asks before it goes over to an older one, also if nothing was read yet.
#[test]
fn agreement_is_about_one_history() {
    run(async |mut world| {
        let (gateway, pulls_left) = counting_pulls();
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        let (client, device) = world.device("laptop").await?;
        let other = SyncedDatabase::open(&laptop.path, client, device.id).await?;
        let mut backups = Vec::new();
        for name in ["one", "two", "three"] {
            laptop.run(&format!("INSERT INTO lists (name) VALUES ('{name}')"));
            laptop.sync().await;
            other.sync().await?;
            backups.push(world.backup().await?);
        }
        world.restore(&backups[1]).await?;
        agree(&laptop).await;
        pulls_left.store(1, Ordering::SeqCst);
        laptop.db.sync().await.unwrap_err();
        world.restore(&backups[0]).await?;
        other.sync().await.unwrap_err();
        assert!(matches!(question(&other), Question::ServerRestored(_)));
        Ok(())
    });
}

/// The server lost a file of a row that it has: a device that has the file uploads it again.
#[test]
fn lost_file_comes_back_after_a_restore() {
    run(async |mut world| {
        let (laptop, _) = two(&world).await;
        laptop.run("UPDATE notes SET text = 'long' || hex(zeroblob(50000)) WHERE text = 'kept'");
        laptop.sync().await;
        lose_files(&mut world).await;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'lost', 0)");
        laptop.sync().await;
        world.restore(&backup).await?;
        agree(&laptop).await;
        laptop.sync().await;
        let fresh = Device::start(&world, "fresh", SCHEMA, TABLES).await;
        assert_eq!(fresh.sync().await.parked, 0);
        assert_eq!(fresh.ask(ALL), laptop.ask(ALL));
        Ok(())
    });
}
