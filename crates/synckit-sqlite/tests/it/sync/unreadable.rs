//! A batch that nobody can read, and one that is not where it was sealed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use synckit_client::{Error as ClientError, KeyId, MemoryStore, SyncKitClient};
use synckit_doctest::{Outcome, World, run};
use synckit_protocol::wire::log::Page;
use synckit_sqlite::{Error, Question, SyncStatus};

use super::{
    device::{Device, settle},
    gateway::{Fate, Gateway},
    restored::{ALL, SCHEMA, TABLES, agree, two},
};

/// Somebody who has a token and no key appends garbage.
async fn vandalise(world: &World) -> Outcome {
    let thief = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .transport(Gateway::new(|_| Fate::Garbled))
        .build();
    thief.authenticate(world.email, world.password).await?;
    thief.setup_encryption_existing(world.password).await?;
    let device = thief.register_device("thief", "linux").await?;
    let note = synckit_doctest::note("1", "garbage");
    thief.push(device.id, vec![note]).await.unwrap_err();
    Ok(())
}

#[test]
fn unreadable_batch_is_skipped_by_decision() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        vandalise(&world).await?;
        laptop.run("INSERT INTO notes VALUES (8, 1, 'unsent', 0)");
        for device in [&laptop, &phone] {
            let question = agree(device).await;
            assert!(matches!(question, Question::UnreadableBatch(_)), "{question:?}");
            device.sync().await;
        }
        assert_eq!(phone.ask(ALL), laptop.ask(ALL));
        assert_eq!(phone.ask(ALL).len(), 4);
        // A later one is another question.
        vandalise(&world).await?;
        let error = laptop.db.sync().await.unwrap_err();
        assert!(matches!(error, Error::Client(ClientError::Tampering(_))), "{error:?}");
        Ok(())
    });
}

/// A process that is killed between skipping a batch and reading the log anew leaves the second to the next one.
#[test]
fn rejoin_that_is_due_is_done() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        laptop.run("INSERT INTO synckit_state SELECT 'rejoin_due', value FROM synckit_state WHERE name = 'cursor'");
        assert_eq!(laptop.sync().await.pulled, 5);
        assert_eq!(
            laptop.ask("SELECT count(*) FROM synckit_state WHERE name = 'rejoin_due'"),
            ["0"]
        );
        assert_eq!(laptop.ask(ALL), phone.ask(ALL));
        assert_eq!(laptop.db.conflicts().await?, []);
        Ok(())
    });
}

/// A skip that is cut off is begun again: nothing is read anew, and an unsent edit beats a deletion that did not know of it.
#[test]
fn failed_skip_loses_no_edit() {
    run(async |world| {
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        let gateway = Gateway::on("/api/sync/chain", move |_| match cut.load(Ordering::SeqCst) {
            true => Fate::Dropped,
            false => Fate::Delivered,
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        phone.run("INSERT INTO notes VALUES (1, NULL, 'kept', 0), (2, NULL, 'other', 0)");
        settle(&phone, &laptop).await;
        vandalise(&world).await?;
        laptop.run("UPDATE notes SET done = 1 WHERE text = 'kept'");
        laptop.db.parked().await?;
        agree(&phone).await;
        phone.run("DELETE FROM notes WHERE text = 'kept'");
        phone.sync().await;
        agree(&laptop).await;
        is_cut.store(true, Ordering::SeqCst);
        laptop.db.sync().await.unwrap_err();
        is_cut.store(false, Ordering::SeqCst);
        laptop.sync().await;
        phone.sync().await;
        for device in [&laptop, &phone] {
            assert_eq!(device.ask(ALL), ["-|kept|1", "-|other|0"]);
            assert_eq!(device.db.conflicts().await?, []);
        }
        Ok(())
    });
}

/// A batch under a key that nobody has may be an honest device's: there is nothing to ask, and nothing is read anew.
#[test]
fn moved_batch_is_a_history_problem() {
    run(async |world| {
        let moved = |body: Vec<u8>| match minicbor_serde::from_slice::<Page>(&body) {
            Ok(mut page) => {
                for batch in &mut page.batches {
                    batch.key_id = KeyId::from_bytes([7; 16]);
                }
                minicbor_serde::to_vec(&page).unwrap()
            }
            Err(_) => body,
        };
        let is_lying = Arc::new(AtomicBool::new(false));
        let lies = Arc::clone(&is_lying);
        let gateway = Gateway::on("/api/sync/pull", move |_| match lies.load(Ordering::SeqCst) {
            true => Fate::Changed(moved),
            false => Fate::Delivered,
        });
        let laptop = Device::over(&world, "laptop", SCHEMA, TABLES, gateway).await;
        let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
        phone.run("INSERT INTO notes VALUES (1, NULL, 'kept', 0)");
        settle(&phone, &laptop).await;
        phone.run("INSERT INTO notes VALUES (2, NULL, 'next', 0)");
        phone.sync().await;
        is_lying.store(true, Ordering::SeqCst);
        let cursor = "SELECT value FROM synckit_state WHERE name = 'cursor'";
        let before = laptop.ask(cursor);
        for _ in 0..2 {
            laptop.db.sync().await.unwrap_err();
            let status = laptop.db.status().now();
            assert!(matches!(status, SyncStatus::HistoryProblem(_)), "{status:?}");
            assert_eq!(laptop.ask(cursor), before);
        }
        is_lying.store(false, Ordering::SeqCst);
        assert_eq!(laptop.sync().await.pulled, 1);
        Ok(())
    });
}
