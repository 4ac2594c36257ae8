//! The log is folded now and then, by one device, and nobody notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use synckit_client::SyncKitClient;
use synckit_doctest::{World, run};
use synckit_protocol::{
    KeyId, Position, SnapshotId,
    wire::{log::Status, snapshots::SnapshotInfo},
};
use synckit_sqlite::SyncStatus;

use super::{
    device::{Device, settle, soon},
    gateway::{Fate, Gateway},
    restored::{ALL, SCHEMA, TABLES, agree},
};

/// What the merge knows of the log, deletions and times included.
pub(crate) const BOOK: &str = "SELECT tbl, id, hex(row), time, changed FROM synckit_fold ORDER BY tbl, id";
const MANIFEST: usize = "/api/sync/snapshots/".len() + 36;

/// So many edits of one row, each in a batch of its own.
async fn edit_often(device: &Device, times: usize) {
    for number in 0..times {
        device.run(&format!("UPDATE notes SET text = 'edit {number}' WHERE done = 7"));
        assert_eq!(device.sync().await.pushed, 1);
    }
}

/// The position of the newest snapshot.
pub(crate) async fn snapshot(client: &SyncKitClient) -> Option<u64> {
    let snapshot = client.status().await.unwrap().snapshot;
    snapshot.map(|snapshot| snapshot.position.seq)
}

/// A server that forgets what a snapshot replaces at once.
async fn forgetful(world: &mut World) {
    world
        .reconfigure(|config| {
            config.retention.snapshot_settle = Duration::ZERO;
            config.retention.device_active = Duration::ZERO;
            config.sweep_interval = Duration::from_millis(5);
        })
        .await
        .unwrap();
}

/// Waits until the server has deleted what the newest snapshot replaces.
async fn cut(client: &SyncKitClient, whole: u64) {
    while client.status().await.unwrap().stored_bytes >= whole {
        tokio::task::yield_now().await;
    }
}

#[test]
fn fresh_device_begins_with_a_snapshot() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        // An app of an older version, which does not know a column.
        let older = SCHEMA.replace(", done INTEGER", "");
        let phone = Device::start(&world, "phone", &older, TABLES).await;
        laptop.db.fold_after(30);
        laptop.run("INSERT INTO lists VALUES (1, 'Home'), (2, 'Old'); INSERT INTO notes VALUES (1, 1, 'a', 7), (2, 2, 'old', 0), (3, 1, 'b', 5)");
        settle(&laptop, &phone).await;
        phone.run("UPDATE notes SET text = 'of the phone' WHERE text = 'b'; DELETE FROM lists WHERE name = 'Old'");
        settle(&phone, &laptop).await;
        edit_often(&laptop, 20).await;
        assert_eq!(snapshot(&laptop.client).await, None);
        edit_often(&laptop, 10).await;
        // Five rows, three changes, thirty edits; the point was passed by the 31st.
        assert_eq!(snapshot(&laptop.client).await, Some(31));
        let whole = laptop.client.status().await?.stored_bytes;
        forgetful(&mut world).await;
        cut(&laptop.client, whole).await;
        let fresh = Device::start(&world, "fresh", SCHEMA, TABLES).await;
        // Rows, and the seven edits since.
        assert_eq!(fresh.sync().await.pulled, 5 + 7);
        assert_eq!(fresh.ask(ALL), ["Home|edit 9|7", "Home|of the ph|5"]);
        settle(&laptop, &fresh).await;
        assert_eq!(fresh.ask(BOOK), laptop.ask(BOOK));
        Ok(())
    });
}

/// Counts the manifests that are sent, and loses the first three.
fn losing_three(manifests: &Arc<AtomicUsize>) -> Arc<Gateway> {
    let count = Arc::clone(manifests);
    Gateway::by_path(move |path, body| {
        let is_manifest = path.starts_with("/api/sync/snapshots/") && path.len() == MANIFEST && !body.is_empty();
        match is_manifest && count.fetch_add(1, Ordering::SeqCst) < 3 {
            true => Fate::Dropped,
            false => Fate::Delivered,
        }
    })
}

/// Of three devices that push, exactly one folds at each point of the log, also while no fold comes about.
#[test]
fn one_of_three_devices_folds() {
    run(async |world| {
        let manifests = Arc::new(AtomicUsize::new(0));
        let mut devices = Vec::new();
        for name in ["laptop", "phone", "tablet"] {
            let gateway = losing_three(&manifests);
            let device = Device::over(&world, name, SCHEMA, TABLES, gateway).await;
            device.db.fold_after(20);
            devices.push(device);
        }
        devices[0].run("INSERT INTO notes VALUES (1, NULL, 'a', 7)");
        devices[0].sync().await;
        let mut attempts = Vec::new();
        for entry in 2..=60_usize {
            let device = &devices[entry % 3];
            let before = manifests.load(Ordering::SeqCst);
            device.sync().await;
            device.run(&format!("UPDATE notes SET text = {entry}"));
            assert_eq!(device.sync().await.pushed, 1);
            if manifests.load(Ordering::SeqCst) > before {
                attempts.push(entry);
            }
        }
        // Three are lost, and one is stored.
        assert_eq!(attempts, [21, 26, 31, 36, 57]);
        Ok(())
    });
}

/// A log of new rows only: its points do not move with it, and a fold that comes to nothing is not tried again with each batch.
#[test]
fn growing_log_has_the_same_points_for_all() {
    run(async |world| {
        let manifests = Arc::new(AtomicUsize::new(0));
        let mut devices = Vec::new();
        for name in ["laptop", "phone"] {
            let gateway = losing_three(&manifests);
            let device = Device::over(&world, name, SCHEMA, TABLES, gateway).await;
            device.db.fold_after(20);
            devices.push(device);
        }
        let mut attempts = Vec::new();
        for batch in 1..=40_usize {
            let device = &devices[batch % 2];
            let before = manifests.load(Ordering::SeqCst);
            device.sync().await;
            let id = 2 * batch;
            device.run(&format!(
                "INSERT INTO notes VALUES ({id}, NULL, 'a', 1), ({id} + 1, NULL, 'b', 2)"
            ));
            assert_eq!(device.sync().await.pushed, 2);
            if manifests.load(Ordering::SeqCst) > before {
                attempts.push(id);
            }
        }
        // Three are lost, and one is stored, of 36 rows: at least half as many entries follow before the next.
        assert_eq!(attempts, [22, 26, 32, 36, 70]);
        Ok(())
    });
}

/// A server that claims a snapshot far ahead delays the next fold, and prevents none later.
#[test]
fn false_snapshot_delays_one_fold() {
    run(async |world| {
        let lies = AtomicUsize::new(0);
        let gateway = Gateway::by_path(move |path, _| {
            match path == "/api/sync/status" && lies.fetch_add(1, Ordering::SeqCst) == 0 {
                true => Fate::Changed(far_ahead),
                false => Fate::Delivered,
            }
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        laptop.db.fold_after(20);
        laptop.run("INSERT INTO notes VALUES (1, NULL, 'a', 7)");
        laptop.sync().await;
        edit_often(&laptop, 20).await;
        let status = laptop.client.status().await?;
        assert_eq!(status.snapshot, None);
        edit_often(&laptop, 25).await;
        assert!(snapshot(&laptop.client).await.is_some());
        Ok(())
    });
}

/// The answer to a request for the status, with a snapshot at the end of all logs.
fn far_ahead(answer: Vec<u8>) -> Vec<u8> {
    let mut status: Status = minicbor_serde::from_slice(&answer).unwrap();
    status.snapshot = Some(SnapshotInfo {
        position: Position {
            seq: u64::MAX,
            ..status.latest
        },
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        key_id: KeyId::from_bytes([1; 16]),
        parts: 1,
        size: 1,
        created_at: 1,
    });
    minicbor_serde::to_vec(&status).unwrap()
}

/// Two devices that fold at once, a fold that does not arrive, and one that is cut off: the sync is well, and a later fold follows.
#[test]
fn lost_fold_is_made_up_for() {
    run(async |world| {
        let lost = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lost);
        let gateway = Gateway::by_path(move |path, body| {
            let is_put = path.starts_with("/api/sync/snapshots/") && !body.is_empty();
            // First a part, and then a manifest.
            match is_put
                && (count.load(Ordering::SeqCst) == 0 || count.load(Ordering::SeqCst) == 1 && path.len() == MANIFEST)
            {
                true => {
                    count.fetch_add(1, Ordering::SeqCst);
                    Fate::Dropped
                }
                false => Fate::Delivered,
            }
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        laptop.db.fold_after(20);
        laptop.run("INSERT INTO notes VALUES (1, NULL, 'a', 7)");
        laptop.sync().await;
        edit_often(&laptop, 24).await;
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        assert_eq!(snapshot(&laptop.client).await, None);
        edit_often(&laptop, 10).await;
        assert_eq!(lost.load(Ordering::SeqCst), 2);
        // After 21 and 26 entries a fold was lost.
        assert_eq!(snapshot(&laptop.client).await, Some(31));
        let fresh = Device::start(&world, "fresh", SCHEMA, TABLES).await;
        settle(&laptop, &fresh).await;
        assert_eq!(fresh.ask(BOOK), laptop.ask(BOOK));
        Ok(())
    });
}

/// A device that slept for longer than the log is kept begins anew, with its unsent edits.
#[test]
fn sleeper_keeps_its_unsent_edits() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        laptop.db.fold_after(20);
        laptop.run("INSERT INTO lists VALUES (1, 'Home'), (2, 'Old'); INSERT INTO notes VALUES (1, 1, 'a', 7), (2, 2, 'old', 0), (3, 1, 'both', 0)");
        settle(&laptop, &phone).await;
        phone.run("INSERT INTO notes SELECT 9, id, 'offline', 1 FROM lists WHERE name = 'Home'; UPDATE notes SET done = 2 WHERE text = 'both'; DELETE FROM notes WHERE text = 'a'");
        laptop.run("DELETE FROM lists WHERE name = 'Old'; UPDATE notes SET text = 'theirs' WHERE text = 'both'");
        laptop.sync().await;
        edit_often(&laptop, 20).await;
        assert!(snapshot(&laptop.client).await.is_some());
        let whole = laptop.client.status().await?.stored_bytes;
        forgetful(&mut world).await;
        cut(&laptop.client, whole).await;
        let conflicts = phone.sync().await.conflicts;
        settle(&laptop, &phone).await;
        let fresh = Device::start(&world, "fresh", SCHEMA, TABLES).await;
        settle(&fresh, &phone).await;
        for device in [&laptop, &phone, &fresh] {
            // An edit beats the deletion that did not know of it.
            assert_eq!(device.ask(ALL), ["Home|edit 19|7", "Home|offline|1", "Home|theirs|2"]);
            assert_eq!(device.ask(BOOK), laptop.ask(BOOK));
        }
        assert_eq!(conflicts, 0);
        Ok(())
    });
}

/// The server is restored from before a snapshot that the device made: it is not taken for the newest one.
#[test]
fn restored_server_is_folded_again() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        laptop.db.fold_after(20);
        laptop.run("INSERT INTO notes VALUES (1, NULL, 'a', 7)");
        laptop.sync().await;
        let backup = world.backup().await?;
        edit_often(&laptop, 45).await;
        assert_eq!(snapshot(&laptop.client).await, Some(42));
        world.restore(&backup).await?;
        agree(&laptop).await;
        laptop.sync().await;
        edit_often(&laptop, 25).await;
        assert_eq!(snapshot(&laptop.client).await, Some(21));
        Ok(())
    });
}

/// A running sync folds beside its work.
#[test]
fn running_sync_folds() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, TABLES).await;
        laptop.db.fold_after(20);
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 19) INSERT INTO notes SELECT x, NULL, 'n', 7 FROM c");
        laptop.sync().await;
        let _running = laptop.db.spawn();
        laptop.run("UPDATE notes SET text = 'edited'");
        soon(async {
            while snapshot(&laptop.client).await.is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Ok(())
    });
}
